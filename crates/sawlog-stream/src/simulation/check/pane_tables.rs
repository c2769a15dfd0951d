//! What must hold of the tables that keep the panes.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::Int32Type;
use sawlog_core::rollup::{self, PaneCell, PaneTiming, Rollup, RollupRow, Width};
use sawlog_seams::warehouse::Warehouse;

use super::times;
use crate::simulation::Violation;
use crate::simulation::model::WindowKey;
use crate::simulation::world::World;

/// One row: number and timing of its pane, its rank (of lists of most frequent values) and its place.
type Found = (i32, String, i32, (usize, usize));

/// Each pane that is not early is there once, in order, and the newest shows what the serving store holds.
pub(super) fn check(world: &World, panes: &BTreeMap<WindowKey, PaneCell>) -> Result<(), Violation> {
    for rollup in Rollup::ALL {
        let stored = world.stores.warehouse.stored(rollup.pane_table()).expect("a table");
        let found = by_window(rollup, &stored.rows);
        let mut newest = Vec::new();
        for (key, window) in world.model.windows.iter().filter(|(key, _)| key.rollup == rollup) {
            let all = window.panes.iter().enumerate().filter(|(_, timing)| **timing != PaneTiming::Early);
            let expected: Vec<(i32, String)> =
                all.map(|(index, timing)| (index as i32, timing.name().to_owned())).collect();
            let mut rows = found.get(key).cloned().unwrap_or_default();
            rows.sort();
            // The first row of each pane: a list of most frequent values has one for each value.
            let firsts = rows.iter().filter(|row| row.2 <= 1);
            let numbers: Vec<(i32, String)> = firsts.map(|row| (row.0, row.1.clone())).collect();
            if numbers != expected {
                return Err(Violation::new(
                    "pane tables",
                    format!("{key:?}: found {numbers:?}, recounted {expected:?}"),
                ));
            }
            let last = rows.last().map_or(-1, |row| row.0);
            newest.extend(rows.into_iter().filter(|row| row.0 == last).map(|row| row.3));
        }
        if let Some(key) = found.keys().find(|key| !world.model.windows.contains_key(key)) {
            return Err(Violation::new("pane tables", format!("{key:?} should have no pane")));
        }
        newest_rows(rollup, panes, &stored.rows, &newest)?;
    }
    Ok(())
}

fn by_window(rollup: Rollup, batches: &[RecordBatch]) -> BTreeMap<WindowKey, Vec<Found>> {
    let mut found: BTreeMap<WindowKey, Vec<Found>> = BTreeMap::new();
    for (at, batch) in batches.iter().enumerate() {
        let text = |name: &str| batch.column_by_name(name).expect(name).as_string::<i32>();
        let (widths, timings) = (text("width"), text("pane_timing"));
        let parts: Vec<_> = rollup.parts().iter().map(|part| text(part)).collect();
        let indices = batch.column_by_name("pane_index").expect("numbers").as_primitive::<Int32Type>();
        let ranks = batch.column_by_name("rank").map(|column| column.as_primitive::<Int32Type>());
        for (row, start) in times(batch, "window_start").iter().enumerate() {
            let width = Width::ALL.into_iter().find(|width| width.name() == widths.value(row)).expect("a width");
            let part = |column: &&arrow::array::StringArray| column.is_valid(row).then(|| column.value(row).to_owned());
            let key = WindowKey { rollup, width, parts: parts.iter().map(part).collect(), start: *start };
            let rank = ranks.map_or(0, |ranks| ranks.value(row));
            let pane = (indices.value(row), timings.value(row).to_owned(), rank, (at, row));
            found.entry(key).or_default().push(pane);
        }
    }
    found
}

/// The newest panes' rows are those of the cells, column by column.
fn newest_rows(
    rollup: Rollup,
    panes: &BTreeMap<WindowKey, PaneCell>,
    batches: &[RecordBatch],
    newest: &[(usize, usize)],
) -> Result<(), Violation> {
    let of_rollup = panes.iter().filter(|(key, pane)| key.rollup == rollup && pane.timing != PaneTiming::Early);
    let rows: Vec<RollupRow> = of_rollup
        .map(|(key, pane)| RollupRow {
            parts: key.parts.clone(),
            width: key.width,
            window_start: key.start,
            index: pane.index,
            timing: pane.timing,
            cell: pane.cell.clone(),
        })
        .collect();
    let expected = rollup::rollup_rows(rollup, &rows, true).expect("rows");
    if newest.is_empty() && expected.num_rows() == 0 {
        return Ok(());
    }
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    let found = interleave_record_batch(&batches, newest).expect("rows");
    if found == expected {
        return Ok(());
    }
    let (found_count, expected_count) = (found.num_rows(), expected.num_rows());
    let row = (0..found_count.min(expected_count)).find(|row| found.slice(*row, 1) != expected.slice(*row, 1));
    let shown = row.map(|row| format!("{:?} and {:?}", found.slice(row, 1), expected.slice(row, 1)));
    Err(Violation::new("pane tables", format!("{rollup:?}: {found_count} of {expected_count} rows, {shown:?}")))
}
