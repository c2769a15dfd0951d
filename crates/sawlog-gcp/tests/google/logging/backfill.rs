//! Loading a range of time: pages, faults, restarts.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sawlog_core::ledger::Counts;
use sawlog_gcp::logging::{BackfillError, BackfillOptions, BackfillReport, LoggingState, backfill};
use sawlog_seams::disk::sim::Fault;
use sawlog_seams::{Disk, SeededRng, SimDisk};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{LoggingDouble, entry, now, state};
use crate::world::{World, folder, ledger, store_one_of_now, texts};

const COUNT: usize = 5_000;
const DAY: i64 = 86_400_000_000;
const QUICK: u32 = 60_000;

/// Entries of a month ago, far beyond the window of dedup; always seven share a time.
fn history(start: i64) -> Vec<Value> {
    (0..COUNT).map(|number| entry(number, start + (number / 7) as i64 * 1_000)).collect()
}

fn options(double: &LoggingDouble, start: i64) -> BackfillOptions {
    let query = double.query();
    BackfillOptions { query, from: start, until: start + DAY, progress_file: folder().join("backfill.json") }
}

fn never() -> watch::Receiver<bool> {
    static NEVER: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));
    NEVER.subscribe()
}

fn check_all_once(pipeline: &sawlog_stream::Pipeline) {
    let found = texts(pipeline, "message");
    assert_eq!(found.len(), COUNT);
    assert!(found.values().all(|count| *count == 1), "{:?}", found.iter().find(|(_, count)| **count != 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_over_many_pages_come_once_each_whatever_fails() {
    let double = LoggingDouble::start();
    let start = now() - 30 * DAY;
    double.write("orders", &history(start));
    for fault in [
        json!({"call": "ListLogEntries", "status": "RESOURCE_EXHAUSTED", "count": 2}),
        json!({"call": "ListLogEntries", "status": "UNAVAILABLE", "skip": 1}),
        json!({"call": "ListLogEntries", "status": "INTERNAL", "after": true, "skip": 2}),
        json!({"call": "ListLogEntries", "reset": true, "after": true, "skip": 3}),
        json!({"call": "ListLogEntries", "hang": true, "skip": 4}),
        // What a token that has expired looks like.
        json!({"call": "ListLogEntries", "status": "INVALID_ARGUMENT", "skip": 5}),
    ] {
        double.fail(fault);
    }
    let (world, mut options) = (World::new(), options(&double, start));
    options.query.page_entries = 400;
    let pipeline = world.open().await;
    let report =
        backfill(options.clone(), state(&world, &pipeline, QUICK), never()).await.expect("the range is loaded");
    let stored = COUNT as u64;
    let counts = Counts { received: stored, stored, ..Counts::default() };
    assert_eq!(report, BackfillReport { counts, is_done: true });
    check_all_once(&pipeline);
    assert_eq!(ledger(&pipeline), counts);
    let calls = double.calls("ListLogEntries");
    assert!(calls >= 13 + 7, "each fault was met: {calls} calls");
    // The range is done: another run asks for nothing.
    let again = backfill(options, state(&world, &pipeline, QUICK), never()).await.expect("done");
    assert_eq!((again, double.calls("ListLogEntries")), (report, calls));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_fill_that_is_killed_again_and_again_stores_each_entry_once() {
    let double = LoggingDouble::start();
    let start = now() - 30 * DAY;
    double.write("orders", &history(start));
    let (mut world, mut rng) = (World::new(), SeededRng::new(7));
    let mut options = options(&double, start);
    options.query.page_entries = 100;
    let mut kills = 0;
    loop {
        let pipeline = world.open().await;
        store_one_of_now(&pipeline).await;
        let run = tokio::spawn(backfill(options.clone(), state(&world, &pipeline, QUICK), never()));
        // By calls, not by time: a quick machine is done before a time is over.
        let last_call = double.calls("ListLogEntries") + 2 + rng.below(3);
        while !run.is_finished() && double.calls("ListLogEntries") < last_call {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if run.is_finished() {
            let report = run.await.expect("no panic").expect("the range is loaded");
            assert!(report.is_done);
            check_all_once(&pipeline);
            break;
        }
        kills += 1;
        run.abort();
        let _ = run.await;
        assert!(kills < 500, "it gets nowhere");
        world = world.after_kill();
    }
    assert!(kills > 2, "it was killed {kills} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_at_any_call_of_the_disk_is_gone_on_with_exactly() {
    let double = LoggingDouble::start();
    let start = now() - 30 * DAY;
    let entries = 60;
    double.write("orders", &history(start)[..entries]);
    let mut options = options(&double, start);
    options.query.page_entries = 25;
    let mut failed_calls = 0;
    for n in 1.. {
        let world = World::new();
        let pipeline = world.open().await;
        store_one_of_now(&pipeline).await;
        let disk = SimDisk::new(n);
        disk.create_dir_all(&folder()).expect("a folder");
        disk.fail_nth_call(n, Fault::Io);
        let first = LoggingState { disk: Arc::new(disk.clone()), ..state(&world, &pipeline, QUICK) };
        let first = backfill(options.clone(), first, never()).await;
        // The next process finds what was synced, and the entries that were stored but not noted.
        let (world, disk) = (world.after_kill(), disk.crash(n));
        let pipeline = world.open().await;
        let second = LoggingState { disk: Arc::new(disk), ..state(&world, &pipeline, QUICK) };
        let second = backfill(options.clone(), second, never()).await.expect("the disk is well again");
        let found = texts(&pipeline, "message");
        assert!(found.len() == entries && found.values().all(|count| *count == 1), "call {n}: {found:?}");
        assert_eq!((second.is_done, second.counts.closes()), (true, true));
        match first {
            Ok(_) => break,
            Err(error) => assert!(matches!(error, BackfillError::Progress(_)), "call {n}: {error}"),
        }
        failed_calls = n;
    }
    assert!(failed_calls > 20, "{failed_calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_it_early_and_the_next_run_goes_on() {
    let double = LoggingDouble::start();
    let start = now() - 30 * DAY;
    double.write("orders", &history(start));
    double.fail(json!({"call": "ListLogEntries", "hang": true, "skip": 2}));
    let (world, mut options) = (World::new(), options(&double, start));
    options.query.answer_max = Duration::from_secs(60);
    let pipeline = world.open().await;
    let (stop, stopped) = watch::channel(false);
    let run = tokio::spawn(backfill(options.clone(), state(&world, &pipeline, QUICK), stopped));
    super::wait_for("two pages are stored", || texts(&pipeline, "message").len() == 2_000).await;
    stop.send(true).expect("it runs");
    let report = run.await.expect("no panic").expect("no error");
    assert_eq!((report.is_done, report.counts.stored), (false, 2_000));
    let report = backfill(options, state(&world, &pipeline, QUICK), never()).await.expect("loaded");
    assert_eq!((report.is_done, report.counts.stored, report.counts.duplicate), (true, COUNT as u64, 0));
    check_all_once(&pipeline);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_is_kept_and_its_end_waited_for() {
    let double = LoggingDouble::start();
    let start = now() - DAY / 2;
    double.write("orders", &(0..40).map(|number| entry(number, start)).collect::<Vec<_>>());
    let (world, mut options) = (World::new(), options(&double, start));
    options.query.page_entries = 1;
    let pipeline = world.open().await;
    // 40 pages at 1,200 a minute are a second after the first 120 at once; the double refuses more than 30 at first.
    double.control(json!({"reads_per_minute": 30}));
    let lift = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        double.control(json!({"reads_per_minute": 0}));
    };
    let (report, ()) = tokio::join!(backfill(options, state(&world, &pipeline, 1_200), never()), lift);
    assert_eq!(report.expect("loaded").counts.stored, 40);
    let calls = double.calls("ListLogEntries");
    assert!(calls > 40, "some were refused: {calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_go_well_ends_with_what_to_do() {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    let start = now() - DAY;
    let mut wrong = options(&double, start);
    wrong.query.filter = "severity>=".to_owned();
    let error = backfill(wrong, state(&world, &pipeline, QUICK), never()).await.expect_err("a wrong filter");
    assert!(matches!(error, BackfillError::Refused(_)) && error.to_string().contains("check `resources`"), "{error}");
    let mut empty = options(&double, start);
    empty.until = empty.from;
    let error = backfill(empty, state(&world, &pipeline, QUICK), never()).await.expect_err("an empty range");
    assert!(error.to_string().contains("`until` must be after `from`"), "{error}");
    double.fail(json!({"call": "ListLogEntries", "status": "PERMISSION_DENIED"}));
    let refused = BackfillOptions { progress_file: folder().join("other.json"), ..options(&double, start) };
    let error = backfill(refused, state(&world, &pipeline, QUICK), never()).await.expect_err("no permission");
    assert!(error.to_string().contains("roles/logging.viewer"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_payload_becomes_a_row_and_own_entries_none() {
    let double = LoggingDouble::start();
    let start = now() - DAY / 2;
    let at = |fields: Value| {
        let mut entry = json!({"timestamp": sawlog_core::time::to_rfc3339(start), "resource": {"type": "global"}});
        entry.as_object_mut().expect("fields").extend(fields.as_object().expect("fields").clone());
        entry
    };
    let audit = json!({
        "@type": "type.googleapis.com/google.cloud.audit.AuditLog", "serviceName": "storage.googleapis.com",
        "methodName": "storage.buckets.delete", "authenticationInfo": {"principalEmail": "ann@example.com"},
        "status": {"code": 7, "message": "permission denied"},
    });
    double.write(
        "mixed",
        &[
            at(json!({"textPayload": "plain", "severity": "WARNING"})),
            at(json!({"jsonPayload": {"message": "structured", "service": "shop"}})),
            at(json!({"protoPayload": audit, "severity": "ERROR"})),
            at(json!({"textPayload": "own by label", "labels": {"sawlog_instance": "i"}})),
        ],
    );
    double.write("sawlog", &[at(json!({"textPayload": "own by log"}))]);
    let world = World::new();
    let pipeline = world.open().await;
    let report = backfill(options(&double, start), state(&world, &pipeline, QUICK), never()).await.expect("loaded");
    assert_eq!((report.counts.received, report.counts.stored, report.counts.filtered), (5, 3, 2));
    let messages: Vec<_> = texts(&pipeline, "message").into_keys().collect();
    assert_eq!(messages, ["permission denied", "plain", "structured"]);
    assert_eq!(texts(&pipeline, "user_id").into_keys().collect::<Vec<_>>(), ["ann@example.com"]);
    assert_eq!(texts(&pipeline, "severity_text").into_keys().collect::<Vec<_>>(), ["ERROR", "WARNING"]);
}
