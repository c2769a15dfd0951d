//! What must hold of anomalies and alerts: flushes, crashes and restarts change nothing of what they tell.
//!
//! For: comparing with a process that applies the same log at one go. Not for: whether a verdict is right, which the tests
//! of `sawlog_core::anomaly` and `sawlog_core::alert` say.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::util::display::array_value_to_string;
use sawlog_seams::view::ViewSource;

use super::all_rows;
use crate::generation::VERDICT_TABLES;
use crate::simulation::Violation;
use crate::simulation::world::World;

pub(super) fn check(world: &World) -> Result<(), Violation> {
    // With too many ids the ends of generations decide what is a repeat.
    // The same when the clock is behind. After it was set back, windows are complete anew, of what came since the last flush.
    let gives_up_ids = world.options.dedup_keys_max < i64::MAX as u64 || world.model.gives_up_ids;
    if gives_up_ids || world.model.set_back_count > 0 {
        return Ok(());
    }
    let undisturbed = world.undisturbed()?;
    for table in VERDICT_TABLES {
        let (found, expected) = (rows(world, table), rows(&undisturbed, table));
        let odd = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        if found.len() != expected.len() || odd.is_some() {
            let detail = format!("{table}: {} rows, {} undisturbed, {odd:?}", found.len(), expected.len());
            return Err(Violation::new("verdicts", detail));
        }
    }
    Ok(())
}

fn text(column: &ArrayRef, row: usize) -> String {
    match column.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) => format!("{:?}", times.is_valid(row).then(|| times.value(row))),
        None => array_value_to_string(column, row).expect("a text"),
    }
}

/// The rows as texts, sorted.
fn rows(world: &World, table: &str) -> Vec<String> {
    let view = world.process.recovered.hot.view();
    let mut rows = Vec::new();
    for batch in all_rows(&view, table) {
        for row in 0..batch.num_rows() {
            rows.push(batch.columns().iter().map(|column| text(column, row)).collect::<Vec<_>>().join(" | "));
        }
    }
    rows.sort_unstable();
    rows
}
