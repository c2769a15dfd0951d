//! The order of rows in a file.
//!
//! For: clustering rows by a table's key. Each value becomes a number that sorts as the value does, found once for each
//! distinct text, so that the sort itself compares numbers alone. Not for: the partitions, which come before.

use std::collections::HashMap;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;

/// The order of all rows of a batch, found once for all its partitions.
pub(super) struct Clustering {
    ranks: Vec<Vec<u64>>,
}

impl Clustering {
    /// Order by columns, nulls first; columns that are not there are left out.
    pub(super) fn by(rows: &RecordBatch, columns: &[&str]) -> Result<Self, ArrowError> {
        let found = columns.iter().filter_map(|name| rows.column_by_name(name));
        Ok(Self { ranks: found.map(ranks).collect::<Result<_, _>>()? })
    }

    /// The given rows of the batch in order; equal rows keep theirs.
    pub(super) fn sorted(&self, rows: &RecordBatch, mut chosen: Vec<u32>) -> Result<RecordBatch, ArrowError> {
        let key = |row: u32| self.ranks.iter().map(move |ranks| ranks[row as usize]);
        chosen.sort_unstable_by(|&a, &b| key(a).cmp(key(b)).then(a.cmp(&b)));
        take_record_batch(rows, &UInt32Array::from(chosen))
    }
}

/// For each value of a column a number that sorts as the value does.
fn ranks(column: &ArrayRef) -> Result<Vec<u64>, ArrowError> {
    if let Some(texts) = column.as_string_opt::<i32>() {
        let mut rank_of: HashMap<&str, u64> = texts.iter().flatten().map(|text| (text, 0)).collect();
        let mut distinct: Vec<&str> = rank_of.keys().copied().collect();
        distinct.sort_unstable();
        rank_of.extend(distinct.into_iter().zip(1..));
        return Ok(texts.iter().map(|text| text.map_or(0, |text| rank_of[text])).collect());
    }
    const SIGN: u64 = 1 << 63;
    let numbers = cast(column, &DataType::Int64)?;
    Ok(numbers
        .as_primitive::<Int64Type>()
        .iter()
        .map(|number| number.map_or(0, |number| number as u64 ^ SIGN))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{StringArray, TimestampMicrosecondArray};
    use arrow::compute::{SortColumn, lexsort_to_indices};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_comparing_the_values(
            rows in proptest::collection::vec((proptest::option::of("[ab]{0,2}"), proptest::option::of(-3i64..3)), 1..40)
        ) {
            let texts: StringArray = rows.iter().map(|row| row.0.as_deref()).collect();
            let times: TimestampMicrosecondArray = rows.iter().map(|row| row.1).collect();
            let index = UInt32Array::from_iter_values(0..rows.len() as u32);
            let columns = [("text", Arc::new(texts) as ArrayRef), ("time", Arc::new(times) as _), ("row", Arc::new(index) as _)];
            let batch = RecordBatch::try_from_iter(columns).expect("a batch");
            let clustering = Clustering::by(&batch, &["text", "time"]).expect("an order");
            let sorted = clustering.sorted(&batch, (0..rows.len() as u32).collect()).expect("sorted");
            let by_value = ["text", "time", "row"].map(|name| SortColumn {
                values: Arc::clone(batch.column_by_name(name).expect("a column")),
                options: None,
            });
            let order = lexsort_to_indices(&by_value, None).expect("sorted");
            prop_assert_eq!(sorted, take_record_batch(&batch, &order).expect("taken"));
        }
    }
}
