//! The pipeline over in-memory stores: what is counted, what is stored once, and what survives a crash at any step of a
//! flush.

mod alerts;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sawlog_core::batch::AgeLimits;
use sawlog_core::ledger::Outcome;
use sawlog_core::rollup::{Correction, PaneCell, PaneTiming, Rollup, Width};
use sawlog_seams::lake::Lake;
use sawlog_seams::serving::{Family, MemoryServing, Mutation, ServingError, ServingSnapshot, ServingStore, VisitCell};
use sawlog_seams::view::ViewSource;
use sawlog_seams::{AppendError, Clock, ManualClock, Position};
use sawlog_stream::{AckLevel, Pipeline, PipelineOptions, Stores, Submission, SubmitError};

use world::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_record_has_one_outcome_and_the_ledger_closes() {
    let pipeline = World::new().open().await;
    let body = [event("1", "one"), event("2", "two"), "{broken\n".to_owned(), event("1", "one")].concat();
    let receipt = submit(&pipeline, &body, None).await;
    assert_eq!((receipt.counts.stored, receipt.counts.duplicate, receipt.counts.dead_lettered), (2, 1, 1));
    assert_eq!(receipt.problems[0].index, 2);
    pipeline.note_rejected("test", 1);
    pipeline.close().await.expect("closes");
    let total = ledger(&pipeline);
    assert!(total.closes(), "{total:?}");
    assert_eq!((total.received, total.rejected, total.in_flight), (5, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_are_found_in_memory_after_a_flush_and_after_a_restart() {
    let world = World::new();
    let pipeline = world.open().await;
    assert_eq!(submit(&pipeline, &event("1", "one"), Some("k1")).await.counts.stored, 1);
    assert_eq!(submit(&pipeline, &event("1", "one"), None).await.counts.duplicate, 1);
    assert_eq!(submit(&pipeline, &event("9", "other"), Some("k1")).await.counts.duplicate, 1);
    pipeline.flush().await.expect("flushed");
    assert_eq!(submit(&pipeline, &event("1", "one"), None).await.counts.duplicate, 1);
    assert_eq!(submit(&pipeline, &event("9", "other"), Some("k1")).await.counts.duplicate, 1);
    let pipeline = world.after_kill().open().await;
    assert_eq!(submit(&pipeline, &event("1", "one"), None).await.counts.duplicate, 1);
    assert_eq!(submit(&pipeline, &event("9", "other"), Some("k1")).await.counts.duplicate, 1);
    assert_eq!(submit(&pipeline, &event("9", "other"), Some("k2")).await.counts.stored, 1);
    assert_eq!(messages(&pipeline), BTreeMap::from([("one".to_owned(), 1), ("other".to_owned(), 1)]));
    let total = ledger(&pipeline);
    assert!(total.closes() && total.received == 8, "{total:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_of_a_flush_loses_and_repeats_nothing() {
    for fails_at in 0..=WRITES + 1 {
        let mut world = World::new();
        let pipeline = world.open().await;
        submit(&pipeline, &[event("1", "one"), "{broken\n".to_owned()].concat(), Some("k1")).await;
        submit(&pipeline, &event("2", "two"), None).await;
        world.fault.fails_at.store(fails_at, Ordering::SeqCst);
        let flushed = pipeline.flush().await;
        assert_eq!(flushed.is_err(), (1..=WRITES).contains(&fails_at), "write {fails_at}: {flushed:?}");
        // What arrives after the failed flush is in the next one.
        submit(&pipeline, &event("3", "three"), None).await;
        world = world.after_kill();
        let pipeline = world.open().await;
        let expected = ["one", "three", "two"].map(|message| (message.to_owned(), 1));
        assert_eq!(messages(&pipeline), BTreeMap::from(expected), "write {fails_at}");
        let total = ledger(&pipeline);
        assert!(total.closes(), "write {fails_at}: {total:?}");
        assert_eq!((total.received, total.stored, total.dead_lettered), (4, 3, 1), "write {fails_at}");
        assert_eq!(rollup_count(&pipeline), 3, "write {fails_at}");
        assert_eq!(submit(&pipeline, &event("1", "one"), Some("k1")).await.counts.duplicate, 1, "write {fails_at}");
        let total = ledger(&world.after_kill().open().await);
        assert!(total.closes() && total.received == 5, "write {fails_at}: {total:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_flush_decides_on_repeats_as_it_did_before_the_crash() {
    let at =
        |id: &str, time: &str| format!("{{\"insert_id\":\"{id}\",\"timestamp\":\"{time}\",\"message\":\"{id}\"}}\n");
    for fails_at in 1..=WRITES {
        let world = World::new();
        let pipeline = world.open().await;
        let old = at("old", "2026-11-23T20:00:00Z");
        assert_eq!(submit(&pipeline, &old, None).await.counts.stored, 1);
        assert_eq!(submit(&pipeline, &old, None).await.counts.duplicate, 1);
        // From here on the window no longer reaches back to them.
        submit(&pipeline, &at("new", "2026-11-24T03:00:00Z"), None).await;
        world.fault.fails_at.store(fails_at, Ordering::SeqCst);
        pipeline.flush().await.expect_err("the crash");
        let pipeline = world.after_kill().open().await;
        let expected = ["new", "old"].map(|message| (message.to_owned(), 1));
        assert_eq!(messages(&pipeline), BTreeMap::from(expected), "write {fails_at}");
        let total = ledger(&pipeline);
        assert_eq!((total.received, total.stored, total.duplicate), (3, 2, 1), "write {fails_at}");
    }
}

/// A key that is used again after a day, before the first use was flushed. Repeating the flush would find the second use
/// in the serving store, take the first batch for its repeat, and make another object of the lake than is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_lacks_only_its_checkpoint_is_not_decided_again() {
    // One object more, and panes; then nothing is left to fail.
    for fails_at in 1..20 {
        let world = World::new();
        let clock = Arc::new(ManualClock::at_micros(NOW));
        let stores = Stores { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..world.stores() };
        let pipeline = world.open_with(stores, options()).await;
        submit(&pipeline, &event("0", "zero"), None).await;
        submit(&pipeline, &event("1", "one"), Some("k")).await;
        clock.advance(Duration::from_secs(25 * 3600));
        assert_eq!(submit(&pipeline, &event("2", "two"), Some("k")).await.counts.stored, 1);
        world.fault.fails_at.store(fails_at, Ordering::SeqCst);
        let is_flushed = pipeline.flush().await.is_ok();
        let pipeline = world.after_kill().open().await;
        let expected = ["one", "two", "zero"].map(|message| (message.to_owned(), 1));
        assert_eq!(messages(&pipeline), BTreeMap::from(expected), "write {fails_at}");
        assert!(!is_flushed || fails_at > WRITES + 1, "write {fails_at}");
        assert_eq!((rollup_count(&pipeline), ledger(&pipeline).stored), (3, 3), "write {fails_at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lake_keeps_every_record_of_the_log_once() {
    let world = World::new();
    let pipeline = world.open().await;
    submit(&pipeline, &[event("1", "one"), "{broken\n".to_owned()].concat(), None).await;
    pipeline.flush().await.expect("flushed");
    submit(&pipeline, &event("2", "two"), None).await;
    pipeline.close().await.expect("closed");
    let keys = world.lake.list("raw").await.expect("keys");
    assert_eq!(keys.len(), 2, "{keys:?}");
    let mut payloads = Vec::new();
    for key in keys {
        assert!(key.starts_with("raw/receive_date=2026-11-24/receive_hour=03/"), "{key}");
        let bytes = world.lake.get(&key).await.expect("an object");
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("Parquet");
        for batch in reader.build().expect("readable") {
            let batch = batch.expect("rows");
            let column = batch.column_by_name("payload").expect("a column").as_binary::<i32>().clone();
            payloads.extend((0..column.len()).map(|row| String::from_utf8_lossy(column.value(row)).into_owned()));
        }
    }
    assert_eq!(payloads.len(), 3);
    assert_eq!(payloads[1], "{broken");
}

#[tokio::test]
async fn a_receipt_tells_the_outcome_of_each_record() {
    use Outcome::{DeadLettered, Duplicate, Rejected, Stored};
    let world = World::new();
    let pipeline = world.open().await;
    let big = event("big", &"x".repeat(2 << 20));
    let body = [event("a", "one"), "{broken\n".to_owned(), big, event("b", "two")].concat();
    assert_eq!(submit(&pipeline, &body, Some("k")).await.outcomes, [Stored, DeadLettered, Rejected, Stored]);
    let more = [event("b", "two"), event("c", "three")].concat();
    assert_eq!(submit(&pipeline, &more, None).await.outcomes, [Duplicate, Stored]);
    assert_eq!(submit(&pipeline, &body, Some("k")).await.outcomes, [Duplicate, Duplicate, Rejected, Duplicate]);
    pipeline.close().await.expect("closed");
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_refuses_events_before_they_are_kept() {
    let world = World::new();
    let pipeline = world.open().await;
    submit(&pipeline, &event("1", "one"), None).await;
    assert_eq!(pipeline.refusal(), None);
    world.disk.set_capacity(0);
    let pipeline = world.after_kill().open().await;
    let refused = pipeline.submit(submission(&event("2", "two"), None, AckLevel::Memory)).await;
    assert!(matches!(refused, Err(SubmitError::DiskShort { free: 0, min: 1024 })), "{refused:?}");
    assert!(pipeline.refusal().is_some_and(|reason| reason.contains("data.free-min")), "{:?}", pipeline.refusal());
    let total = ledger(&pipeline);
    assert!(total.closes() && total.received == 1, "{total:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_takes_nothing_is_heard_at_level_memory_too() {
    for failure in [AppendError::Poisoned, AppendError::Overloaded { queued_bytes: 1 }] {
        let world = World::new();
        let pipeline = world.open().await;
        submit(&pipeline, &event("1", "one"), None).await;
        world.log.fail_with(failure.clone());
        let refused = pipeline.submit(submission(&event("2", "two"), None, AckLevel::Memory)).await;
        assert!(matches!(&refused, Err(SubmitError::Log(_))), "{failure:?}: {refused:?}");
        world.log.heal();
        pipeline.close().await.expect("closed");
        let total = ledger(&pipeline);
        assert!(total.closes() && total.received == 1, "{failure:?}: {total:?}");
    }
    let pipeline = World::new().open().await;
    pipeline.log().close();
    let refused = pipeline.submit(submission(&event("1", "one"), None, AckLevel::Memory)).await;
    assert!(matches!(&refused, Err(SubmitError::Log(AppendError::Closed))), "{refused:?}");
}

/// A serving store whose snapshots answer no question for a batch key until the gate opens.
struct Gated {
    inner: Arc<MemoryServing>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().expect("no panic") = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_open = self.is_open.lock().expect("no panic");
        drop(self.opened.wait_while(is_open, |is_open| !*is_open).expect("no panic"));
    }
}

struct GatedSnapshot(Arc<dyn ServingSnapshot>, Arc<Gate>);

impl ServingSnapshot for GatedSnapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ServingError> {
        if family == Family::BatchKey {
            self.1.pass();
        }
        self.0.get(family, key)
    }
    fn scan_each(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut VisitCell<'_>,
    ) -> Result<(), ServingError> {
        self.0.scan_each(family, start, end, visit)
    }
}

impl ServingStore for Gated {
    fn apply(&self, mutations: Vec<Mutation>, position: Position) -> Result<(), ServingError> {
        self.inner.apply(mutations, position)
    }
    fn applied(&self) -> Position {
        self.inner.applied()
    }
    fn snapshot(&self) -> Arc<dyn ServingSnapshot> {
        Arc::new(GatedSnapshot(self.inner.snapshot(), Arc::clone(&self.gate)))
    }
    fn delete_unchanged(&self, family: Family, cells: Vec<sawlog_seams::serving::Cell>) -> Result<(), ServingError> {
        self.inner.delete_unchanged(family, cells)
    }
    fn note(&self, family: Family, cell: sawlog_seams::serving::Cell) -> Result<(), ServingError> {
        self.inner.note(family, cell)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_wait_are_refused_when_the_applier_falls_behind() {
    const MEMORY_MAX: usize = 4 << 20;
    let world = World::new();
    let gate = Arc::new(Gate::default());
    let serving = Gated { inner: Arc::clone(&world.serving), gate: Arc::clone(&gate) };
    let stores = Stores { serving: Arc::new(serving), ..world.stores() };
    let pipeline = world.open_with(stores, PipelineOptions { memory_bytes_max: MEMORY_MAX, ..options() }).await;
    let mut taken = 0;
    let refused = loop {
        // The key makes the applier read the store, where it waits.
        let (body, key) = (event(&format!("{taken}"), &"x".repeat(10_000)), format!("k{taken}"));
        match pipeline.submit(submission(&body, Some(&key), AckLevel::Memory)).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10_000, "{} bytes wait", pipeline.memory_bytes());
    };
    assert!(matches!(refused, SubmitError::Overloaded), "{refused:?}");
    assert!(taken > 10 && pipeline.memory_bytes() < 2 * MEMORY_MAX, "{taken} batches, {}", pipeline.memory_bytes());
    gate.open();
    pipeline.close().await.expect("closed");
    assert_eq!(pipeline.memory_bytes(), 0);
    let total = ledger(&pipeline);
    assert!(total.closes() && total.stored == taken, "{total:?}");
}

/// An event with a time of its own, minutes before now.
fn event_before(id: &str, minutes: i64) -> String {
    let time = sawlog_core::time::to_rfc3339(NOW - minutes * 60_000_000);
    format!("{{\"insert_id\":\"{id}\",\"timestamp\":\"{time}\",\"message\":\"{id}\"}}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn with_too_many_ids_the_oldest_are_forgotten_and_counted() {
    let world = World::new();
    let few = || PipelineOptions { dedup_keys_max: 2, ..options() };
    let pipeline = world.open_with(world.stores(), few()).await;
    for (id, minutes) in [("a", 50), ("b", 30), ("c", 10)] {
        submit(&pipeline, &event_before(id, minutes), None).await;
    }
    pipeline.flush().await.expect("flushed");
    submit(&pipeline, &event_before("d", 0), None).await;
    pipeline.flush().await.expect("flushed");
    assert_eq!((pipeline.dedup_stats().ids, pipeline.dedup_stats().evicted_ids), (2, 2));
    let again = world.after_kill();
    let restarted = again.open_with(again.stores(), few()).await;
    for pipeline in [pipeline, restarted] {
        assert_eq!(submit(&pipeline, &event_before("a", 50), None).await.counts.stored, 1);
        assert_eq!(submit(&pipeline, &event_before("c", 10), None).await.counts.duplicate, 1);
        assert_eq!(submit(&pipeline, &event_before("d", 0), None).await.counts.duplicate, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_batches_leave_the_store_a_day_after_they_came() {
    let world = World::new();
    let clock = Arc::new(ManualClock::at_micros(NOW));
    let stores = Stores { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..world.stores() };
    let pipeline = world.open_with(stores, options()).await;
    let keys = || world.serving.snapshot().scan(Family::BatchKey, b"", None).expect("cells").len();
    for (index, hours) in [0, 1, 22, 4, 4].into_iter().enumerate() {
        clock.advance(Duration::from_secs(hours * 3600));
        submit(&pipeline, &event(&format!("{index}"), "one"), Some(&format!("k{index}"))).await;
        pipeline.flush().await.expect("flushed");
        // A part at each flush: the first pass may begin behind a key.
        submit(&pipeline, &event(&format!("more {index}"), "two"), None).await;
        pipeline.flush().await.expect("flushed");
    }
    assert_eq!(keys(), 3, "those of the last day");
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_an_id_is_within_the_window_does_not_depend_on_the_moment_of_a_flush() {
    for is_flushed in [false, true] {
        let world = World::new();
        let pipeline = world.open().await;
        // The window has left the first event behind when its id comes again with another time.
        submit(&pipeline, &event_before("a", 180), None).await;
        submit(&pipeline, &event_before("b", 0), None).await;
        if is_flushed {
            pipeline.flush().await.expect("flushed");
        }
        assert_eq!(submit(&pipeline, &event_before("a", 1), None).await.counts.stored, 1, "flushed: {is_flushed}");
        assert_eq!(submit(&pipeline, &event_before("a", 2), None).await.counts.duplicate, 1, "flushed: {is_flushed}");
        let total = ledger(&world.after_kill().open().await);
        assert_eq!((total.stored, total.duplicate), (3, 1), "flushed: {is_flushed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_payloads_with_one_id_the_hash_decides_within_a_batch_and_the_log_between_batches() {
    let (one, two) = (event("1", "one"), event("1", "two"));
    // Within a batch: the same winner in either order.
    let mut winners = Vec::new();
    for body in [[one.clone(), two.clone()].concat(), [two.clone(), one.clone()].concat()] {
        let pipeline = World::new().open().await;
        let counts = submit(&pipeline, &body, None).await.counts;
        assert_eq!((counts.stored, counts.duplicate), (1, 1));
        winners.extend(messages(&pipeline).into_keys());
    }
    assert_eq!(winners[0], winners[1]);
    // Between batches: the first one stays, in memory, over a flush and after a restart.
    for (first, second, winner) in [(&one, &two, "one"), (&two, &one, "two")] {
        for is_flushed in [false, true] {
            let world = World::new();
            let pipeline = world.open().await;
            assert_eq!(submit(&pipeline, first, None).await.counts.stored, 1);
            if is_flushed {
                pipeline.flush().await.expect("flushed");
            }
            assert_eq!(submit(&pipeline, second, None).await.counts.duplicate, 1);
            let expected = BTreeMap::from([(winner.to_owned(), 1)]);
            assert_eq!(messages(&pipeline), expected, "flushed: {is_flushed}");
            let restarted = world.after_kill().open().await;
            assert_eq!(messages(&restarted), expected, "flushed: {is_flushed}");
            assert!(ledger(&restarted).closes());
        }
    }
}

/// What a build with another Parquet writer would have made of an object.
fn by_another_build(object: Bytes) -> Bytes {
    let reader = ParquetRecordBatchReaderBuilder::try_new(object).expect("Parquet");
    let schema = Arc::clone(reader.schema());
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), schema, None).expect("a writer");
    for rows in reader.build().expect("a reader") {
        writer.write(&rows.expect("rows")).expect("written");
    }
    Bytes::from(writer.into_inner().expect("an object"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_another_build_began_is_finished() {
    let world = World::new();
    let pipeline = world.open().await;
    submit(&pipeline, &[event("1", "one"), event("2", "two")].concat(), None).await;
    world.fault.fails_at.store(1, Ordering::SeqCst);
    pipeline.flush().await.expect_err("the crash");
    let key = world.lake.list("raw").await.expect("keys").remove(0);
    let ours = world.lake.get(&key).await.expect("an object");
    let theirs = by_another_build(ours.clone());
    assert_ne!(ours, theirs);
    world.lake.delete(&key).await.expect("deleted");
    world.lake.put(&key, theirs.clone()).await.expect("stored");
    let restarted = world.after_kill().open().await;
    assert_eq!(messages(&restarted).len(), 2);
    assert_eq!(world.lake.get(&key).await.expect("an object"), theirs, "objects never change");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_other_records_stops_the_flush_and_is_named() {
    for foreign in [Bytes::from_static(b"no Parquet"), by_another_build(Bytes::from(empty_object()))] {
        let world = World::new();
        let pipeline = world.open().await;
        submit(&pipeline, &event("1", "one"), None).await;
        world.fault.fails_at.store(1, Ordering::SeqCst);
        pipeline.flush().await.expect_err("the crash");
        let key = world.lake.list("raw").await.expect("keys").remove(0);
        world.lake.delete(&key).await.expect("deleted");
        world.lake.put(&key, foreign).await.expect("stored");
        let error = pipeline.flush().await.expect_err("refused").to_string();
        assert!(error.contains(&key) && error.contains("move it out"), "{error}");
        world.lake.delete(&key).await.expect("moved away");
        pipeline.flush().await.expect("flushed");
    }
}

fn empty_object() -> Vec<u8> {
    let schema = sawlog_core::schema::lake_schema();
    parquet::arrow::ArrowWriter::try_new(Vec::new(), schema, None).expect("a writer").into_inner().expect("an object")
}

/// Panes of the rollup of requests in the store: width, timing, index and count, by row key.
fn request_panes(pipeline: &Pipeline) -> BTreeMap<(Width, Vec<u8>), PaneCell> {
    let (start, end) = sawlog_core::rowkey::range_of(Rollup::Requests.byte());
    let of_width = |width: Width| {
        let cells = pipeline.view().serving.scan(Family::of_width(width), &start, Some(&end)).expect("cells");
        cells
            .into_iter()
            .map(move |(key, value)| ((width, key), PaneCell::from_bytes(Rollup::Requests, &value).expect("a pane")))
    };
    Width::ALL.into_iter().flat_map(of_width).collect()
}

/// The windows that are complete, counted twice as large.
fn doubled(pipeline: &Pipeline) -> Vec<Correction> {
    let complete = request_panes(pipeline).into_iter().filter(|(_, pane)| pane.timing == PaneTiming::OnTime);
    let twice = |((width, key), pane): ((Width, Vec<u8>), PaneCell)| {
        let mut cell = pane.cell.clone();
        cell.merge(&pane.cell);
        Correction { width, key, pane: PaneCell { index: pane.index + 1, timing: PaneTiming::Late, cell } }
    };
    complete.map(twice).collect()
}

/// Index and count of each pane of the old windows in the pane table, sorted.
fn written_panes(pipeline: &Pipeline) -> Vec<(String, i32, i64)> {
    let mut found = Vec::new();
    for batch in rows(pipeline, Rollup::Requests.pane_table()) {
        let column = |name: &str| batch.column_by_name(name).expect("a column").clone();
        let (widths, index, count) = (column("width"), column("pane_index"), column("count"));
        let (index, count) = (index.as_primitive::<Int32Type>(), count.as_primitive::<Int64Type>());
        let widths = widths.as_string::<i32>();
        found.extend(
            (0..batch.num_rows()).map(|row| (widths.value(row).to_owned(), index.value(row), count.value(row))),
        );
    }
    found.sort();
    found
}

/// A pipeline with one event in windows that are complete.
async fn with_complete_windows(world: &World) -> Pipeline {
    let pipeline = world.open().await;
    submit(&pipeline, &event_before("old", 180), None).await;
    submit(&pipeline, &event("new", "new"), None).await;
    pipeline.flush().await.expect("flushed");
    pipeline
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_of_a_correction_leaves_it_done_once() {
    const STEPS: usize = 20;
    for fails_at in 0..=STEPS {
        let world = World::new();
        let pipeline = with_complete_windows(&world).await;
        let corrections = doubled(&pipeline);
        assert_eq!(corrections.len(), 3, "one window of each width");
        world.fault.writes.store(0, Ordering::SeqCst);
        world.fault.fails_at.store(fails_at, Ordering::SeqCst);
        pipeline.correct(corrections.clone()).await.expect("in the log");
        let flushed = pipeline.flush().await;
        assert!(flushed.is_err() || !(1..=WRITES).contains(&fails_at), "write {fails_at} must fail");
        assert!(flushed.is_ok() || fails_at < STEPS, "the steps end before {STEPS}");
        let world = world.after_kill();
        let pipeline = world.open().await;
        pipeline.flush().await.expect("flushed");
        for _ in 0..2 {
            for Correction { width, key, pane } in &corrections {
                assert_eq!(request_panes(&pipeline).get(&(*width, key.clone())), Some(pane), "write {fails_at}");
            }
            let panes = ["10s", "1h", "1m"].map(|width| [(width.to_owned(), 0, 1), (width.to_owned(), 1, 2)]);
            assert_eq!(written_panes(&pipeline), panes.concat(), "write {fails_at}");
            // A repeated correction is of another time.
            pipeline.correct(corrections.clone()).await.expect("in the log");
            pipeline.flush().await.expect("flushed");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_arrives_after_a_correction_is_added_to_it() {
    let world = World::new();
    let pipeline = with_complete_windows(&world).await;
    let corrections = doubled(&pipeline);
    pipeline.correct(corrections.clone()).await.expect("in the log");
    let history =
        Submission { age: AgeLimits::any_past(), ..submission(&event_before("history", 180), None, AckLevel::Disk) };
    pipeline.submit(history).await.expect("taken");
    // The process dies before the flush: the log has both, in this order.
    let pipeline = world.after_kill().open().await;
    pipeline.flush().await.expect("flushed");
    for Correction { width, key, .. } in corrections {
        let pane = request_panes(&pipeline).remove(&(width, key)).expect("a pane");
        assert_eq!((pane.index, pane.timing, pane.cell.event_count()), (2, PaneTiming::Late, Some(3)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_lower_bound_of_age_is_history_only_when_it_says_so() {
    for is_history in [true, false] {
        let world = World::new();
        let pipeline = world.open().await;
        let age = AgeLimits { is_history, ..AgeLimits::any_past() };
        let lines = [event_before("old", 1_000_000), event_before("new", 1)].concat();
        pipeline.submit(Submission { age, ..submission(&lines, None, AckLevel::Disk) }).await.expect("taken");
        // A second start reads it from the log.
        let pipeline = world.after_kill().open().await;
        assert_eq!(messages(&pipeline).len(), 2);
        assert_eq!(pipeline.view().watermark == i64::MIN, is_history, "only what is live moves the watermark");
    }
}
