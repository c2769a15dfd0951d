//! What must hold of a deployment, whatever happened.
//!
//! For: comparing what queries see and what the stores hold with the model.

mod pane_tables;
mod sessions;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sawlog_core::ledger::Counts;
use sawlog_core::rollup::{self, Cell, PaneCell, PaneTiming, Rollup, Width};
use sawlog_core::schema::{LATE_COLUMN, Table};
use sawlog_seams::lake::Lake;
use sawlog_seams::serving::{Family, ServingSnapshot, ServingStore};
use sawlog_seams::view::{View, ViewSource};
use sawlog_seams::warehouse::LEDGER_TABLE;

use super::Violation;
use super::input::Item;
use super::model::{Row, WindowKey};
use super::world::World;
use crate::judge::{Judge, JudgeOptions};
use crate::stream_state::StreamState;

/// What queries see: ledger, rows, rollups, watermark and counts of series are those of the model.
pub(super) fn view(world: &World) -> Result<(), Violation> {
    let view = world.process.recovered.hot.view();
    ledger(world, &view)?;
    rows(world, &view)?;
    rollups(world, &view)?;
    sessions::view(world, &view)?;
    same("watermark", &view.watermark, &world.model.watermark())?;
    let stats = world.process.recovered.hot.read().stream.stats();
    for (rollup, series, other_events) in stats.rollups {
        same("series", &(rollup, (series, other_events)), &(rollup, world.model.series_counts(rollup)))?;
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(invariant: &'static str, found: &T, expected: &T) -> Result<(), Violation> {
    if found == expected {
        return Ok(());
    }
    Err(Violation::new(invariant, format!("found {found:?}, recounted {expected:?}")))
}

/// The first difference between two maps.
fn same_maps<K, V>(invariant: &'static str, found: &BTreeMap<K, V>, expected: &BTreeMap<K, V>) -> Result<(), Violation>
where
    K: Ord + std::fmt::Debug,
    V: PartialEq + std::fmt::Debug,
{
    for key in found.keys().chain(expected.keys()) {
        if found.get(key) != expected.get(key) {
            let (found, expected) = (found.get(key), expected.get(key));
            return Err(Violation::new(invariant, format!("{key:?}: found {found:?}, recounted {expected:?}")));
        }
    }
    Ok(())
}

fn all_rows<'a>(view: &'a View, table: &str) -> impl Iterator<Item = &'a RecordBatch> {
    let table = &view.tables[table];
    table.stored.rows.iter().chain(&table.hot)
}

fn times<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
    batch.column_by_name(name).expect(name).as_primitive::<TimestampMicrosecondType>().values()
}

fn ledger(world: &World, view: &View) -> Result<(), Violation> {
    let mut found: BTreeMap<(i64, String), Counts> = BTreeMap::new();
    for batch in all_rows(view, LEDGER_TABLE) {
        let sources = batch.column_by_name("source").expect("sources").as_string::<i32>();
        for (row, minute) in times(batch, "receive_minute").iter().enumerate() {
            let count =
                |name: &str| batch.column_by_name(name).expect(name).as_primitive::<Int64Type>().value(row) as u64;
            let counts = Counts::from_values(Counts::NAMES.map(count));
            *found.entry((*minute, sources.value(row).to_owned())).or_default() += counts;
        }
    }
    let mut expected = world.model.ledger.clone();
    for item in world.queued() {
        if let Item::Batch(batch) = item {
            let records = batch.events.len() as u64 + batch.rejected;
            let minute = crate::generation::minute_of(batch.receive_time);
            let counts = Counts { received: records, in_flight: records, ..Counts::default() };
            *expected.entry((minute, batch.source.clone())).or_default() += counts;
        }
    }
    if let Some((key, counts)) = found.iter().find(|(_, counts)| !counts.closes()) {
        return Err(Violation::new("ledger", format!("{key:?} does not close: {counts:?}")));
    }
    for counts in [&mut found, &mut expected] {
        counts.retain(|_, counts| *counts != Counts::default());
    }
    same_maps("ledger", &found, &expected)
}

fn rows(world: &World, view: &View) -> Result<(), Violation> {
    let mut found: BTreeMap<(u8, String, i32), Row> = BTreeMap::new();
    for table in Table::ALL {
        for batch in all_rows(view, table.name()) {
            let time = if table == Table::DeadLetters { "receive_time" } else { "event_time" };
            let late = batch.column_by_name(LATE_COLUMN).map(|column| column.as_boolean());
            let ids = batch.column_by_name("batch_id").expect("ids").as_string::<i32>();
            let places = batch.column_by_name("record_index").expect("places").as_primitive::<Int32Type>();
            for (row, time) in times(batch, time).iter().enumerate() {
                let key = (table as u8, ids.value(row).to_owned(), places.value(row));
                let is_late = late.is_some_and(|late| late.value(row));
                if let Some(before) = found.insert(key.clone(), (*time, is_late)) {
                    return Err(Violation::new("rows", format!("{key:?} is there twice: {before:?}")));
                }
            }
        }
    }
    same_maps("rows", &found, &world.model.rows)
}

fn window_key(width: Width, key: &[u8]) -> Result<WindowKey, Violation> {
    let Some((rollup, decoded)) = rollup::decode(key) else {
        return Err(Violation::new("rollups", format!("{key:?} is no key")));
    };
    Ok(WindowKey { rollup, width, parts: decoded.parts, start: decoded.time })
}

/// The panes that the serving store holds.
pub(super) fn stored_panes(snapshot: &dyn ServingSnapshot) -> Result<BTreeMap<WindowKey, PaneCell>, Violation> {
    let mut panes = BTreeMap::new();
    for width in Width::ALL {
        for (key, value) in snapshot.scan(Family::of_width(width), b"", None).expect("cells") {
            let key = window_key(width, &key)?;
            let pane = PaneCell::from_bytes(key.rollup, &value)
                .map_err(|error| Violation::new("rollups", format!("{key:?}: {error}")))?;
            panes.insert(key, pane);
        }
    }
    Ok(panes)
}

fn rollups(world: &World, view: &View) -> Result<(), Violation> {
    let stored = stored_panes(view.serving.as_ref())?;
    let mut found: BTreeMap<WindowKey, Cell> = stored.into_iter().map(|(key, pane)| (key, pane.cell)).collect();
    for hot in &view.hot_rollups {
        for (rollup, width) in Rollup::ALL.into_iter().flat_map(|rollup| Width::ALL.map(|width| (rollup, width))) {
            for (key, cell) in hot.cells(rollup, width, i64::MIN..i64::MAX) {
                let key = window_key(width, &key)?;
                match found.get_mut(&key) {
                    Some(sum) => sum.merge(&cell),
                    None => drop(found.insert(key, cell)),
                }
            }
        }
    }
    let windows = &world.model.windows;
    if let Some(key) = found.keys().find(|key| !windows.contains_key(key)) {
        return Err(Violation::new("rollups", format!("{key:?} should have nothing: {:?}", found[key])));
    }
    for (key, window) in windows {
        let Some(cell) = found.get(key) else {
            return Err(Violation::new("rollups", format!("{key:?} is not there")));
        };
        if let Some(difference) = window.recount.difference(key.rollup, cell) {
            return Err(Violation::new("rollups", format!("{key:?}: {difference}")));
        }
    }
    Ok(())
}

/// What the stores hold right after a flush.
pub(super) fn flushed(world: &World) -> Result<(), Violation> {
    let end = world.last_end();
    let checkpoint = world.checkpoint();
    same("positions", &(checkpoint.position, checkpoint.flush_to), &(end.0, None))?;
    same("positions", &world.stores.applied(), &end)?;
    let snapshot = world.stores.serving.snapshot();
    let state = StreamState::load(world.options.stream, snapshot.as_ref())
        .map_err(|error| Violation::new("state", error.to_string()))?;
    same("state", &state.watermark(), &world.model.flushed_watermark)?;
    deadlines(world, snapshot.as_ref())?;
    sessions::flushed(world, snapshot.as_ref())?;
    let panes = stored_panes(snapshot.as_ref())?;
    for (key, window) in world.model.windows.iter().filter(|(_, window)| !window.panes.is_empty()) {
        let Some(pane) = panes.get(key) else {
            return Err(Violation::new("panes", format!("{key:?} has none")));
        };
        let expected = (window.panes.len() as u32 - 1, window.panes.last().copied());
        if (pane.index, Some(pane.timing)) != expected {
            let found = (pane.index, pane.timing);
            return Err(Violation::new("panes", format!("{key:?}: found {found:?}, recounted {expected:?}")));
        }
        if let Some(difference) = window.flushed.difference(key.rollup, &pane.cell) {
            return Err(Violation::new("panes", format!("{key:?}: {difference}")));
        }
    }
    pane_tables::check(world, &panes)
}

/// Windows that wait for their end are those whose pane is early; besides them, some of those wait that are to be judged.
fn deadlines(world: &World, snapshot: &dyn ServingSnapshot) -> Result<(), Violation> {
    let mut found = BTreeSet::new();
    for (key, _) in snapshot.scan(Family::Deadline, b"", None).expect("cells") {
        let (end, rest) = key.split_first_chunk::<8>().expect("an end");
        let width = Width::ALL.into_iter().find(|width| *width as u8 == rest[0]).expect("a width");
        let window = window_key(width, &rest[1..])?;
        same("deadlines", &((u64::from_be_bytes(*end) ^ (1 << 63)) as i64), &window.end())?;
        found.insert(window);
    }
    let expected: BTreeSet<WindowKey> = world.model.open_windows().into_iter().cloned().collect();
    let judge = Judge::load(JudgeOptions::default(), 0, snapshot).expect("a judge");
    let is_open = |window: &WindowKey| window.end() > world.model.flushed_watermark;
    found.retain(|window| {
        let is_waiting = judge.backlog().contains(&(window.width, window.end()));
        // One that waited when the clock was set back goes when it is complete again.
        let is_reopened = world.model.set_back_count > 0 && is_open(window);
        expected.contains(window) || !(is_waiting || is_reopened)
    });
    let odd = found.symmetric_difference(&expected).next();
    odd.map_or(Ok(()), |odd| {
        let what = if found.contains(odd) { "stays" } else { "is missing" };
        Err(Violation::new("deadlines", format!("the deadline of {odd:?} {what}")))
    })
}

/// The end of a history, with everything flushed and the watermark far ahead.
pub(super) fn complete(world: &World) -> Result<(), Violation> {
    let snapshot = world.stores.serving.snapshot();
    same("deadlines", &snapshot.scan(Family::Deadline, b"", None).expect("cells").len(), &0)?;
    for (key, pane) in stored_panes(snapshot.as_ref())? {
        if pane.timing == PaneTiming::Early {
            return Err(Violation::new("panes", format!("{key:?} never became complete")));
        }
    }
    let now = world.now();
    same("ticks", &world.process.recovered.hot.needs_tick(now), &false)?;
    lake(world)?;
    verdicts::check(world)
}

/// The lake has each record of each batch once, in order.
fn lake(world: &World) -> Result<(), Violation> {
    let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    let runtime = super::world::runtime(None);
    let objects = runtime.block_on(async {
        let mut objects = Vec::new();
        for key in world.stores.lake.list("").await.expect("keys") {
            objects.push(world.stores.lake.get(&key).await.expect("an object"));
        }
        objects
    });
    for object in objects {
        let reader = ParquetRecordBatchReaderBuilder::try_new(object).expect("Parquet").build().expect("Parquet");
        for batch in reader {
            let batch = batch.expect("rows");
            let ids = batch.column_by_name("batch_id").expect("ids").as_string::<i32>();
            let places = batch.column_by_name("record_index").expect("places").as_primitive::<Int32Type>();
            for row in 0..batch.num_rows() {
                found.entry(ids.value(row).to_owned()).or_default().push(places.value(row));
            }
        }
    }
    let mut expected: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (id, count) in world.model.raw.iter().filter(|(_, count)| **count > 0) {
        expected.insert(id.clone(), (0..*count as i32).collect());
    }
    same_maps("lake", &found, &expected)
}
