//! Rows that came too late for their window.
//!
//! For: telling them from the others, and marking them: they are stored like all rows, and are in no rollup and no session.
//! Not for: where the watermark comes from ([`crate::watermark`]). The finest window decides, since coarser ones are made
//! of it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_schema::ArrowError;
use arrow_select::filter::filter_record_batch;

use crate::rollup::Width;
use crate::schema::LATE_COLUMN;
use crate::window::{Window, Windowing};

/// A batch of which some rows are late.
#[derive(Clone, Debug)]
pub struct Split {
    /// All rows, the late ones marked.
    pub marked: RecordBatch,
    /// The rows that are in time.
    pub in_time: RecordBatch,
    /// Number of late rows.
    pub late_count: u64,
}

/// Whether an event's window takes no more events.
#[must_use]
pub fn is_late(event_time: i64, allowed_lateness: i64, watermark: i64) -> bool {
    let windowing = Windowing::Tumbling { size: Width::TenSeconds.micros() };
    windowing.assign(event_time).all(|window: Window| window.is_expired(allowed_lateness, watermark))
}

/// Splits a batch of `logs`, `metrics` or `activity`; `None` when no row is late.
///
/// # Errors
/// When Arrow refuses to filter; a defect of this crate.
pub fn split(batch: &RecordBatch, allowed_lateness: i64, watermark: i64) -> Result<Option<Split>, ArrowError> {
    let times =
        batch.column_by_name("event_time").and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let Some(times) = times.map(|times| times.values()) else { return Ok(None) };
    let late = |time: i64| is_late(time, allowed_lateness, watermark);
    if !times.iter().copied().min().is_some_and(late) {
        return Ok(None);
    }
    let mask: BooleanBuffer = times.iter().map(|time| late(*time)).collect();
    let in_time = filter_record_batch(batch, &BooleanArray::new(!&mask, None))?;
    let late_count = mask.count_set_bits() as u64;
    let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| {
        if field.name() == LATE_COLUMN { Arc::new(BooleanArray::new(mask.clone(), None)) } else { Arc::clone(column) }
    });
    let marked = RecordBatch::try_new(batch.schema(), columns.collect())?;
    Ok(Some(Split { marked, in_time, late_count }))
}

#[cfg(test)]
mod tests {
    use arrow_array::TimestampMicrosecondArray;
    use arrow_schema::{DataType, Field, Schema};

    use super::*;
    use crate::schema::time_type;

    const SECOND: i64 = 1_000_000;

    fn batch(seconds: &[i64]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("event_time", time_type(), false),
            Field::new(LATE_COLUMN, DataType::Boolean, false),
        ]);
        let times = seconds.iter().map(|second| second * SECOND).collect::<Vec<_>>();
        let times = TimestampMicrosecondArray::from(times).with_timezone("UTC");
        let late = BooleanArray::from(vec![false; seconds.len()]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(times), Arc::new(late)]).expect("a batch")
    }

    #[test]
    fn a_row_is_late_when_its_ten_seconds_ended_before_the_lateness() {
        let split = split(&batch(&[100, 9, 10, 0]), 60 * SECOND, 70 * SECOND).expect("split").expect("late rows");
        let marks: Vec<_> = split.marked.column(1).as_boolean().iter().collect();
        assert_eq!(marks, [Some(false), Some(true), Some(false), Some(true)]);
        assert_eq!((split.in_time.num_rows(), split.late_count), (2, 2));
    }

    #[test]
    fn batches_without_late_rows_stay_as_they_are() {
        for rows in [&[][..], &[10, 100]] {
            assert!(super::split(&batch(rows), 60 * SECOND, 70 * SECOND).expect("split").is_none());
        }
    }
}
