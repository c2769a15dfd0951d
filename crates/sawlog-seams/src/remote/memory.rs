//! A remote table in memory.
//!
//! For: tests of what reads remote tables, which can see what was asked for and let it fail. Not for: speed.

use std::cmp::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_ord::sort::{SortColumn, SortOptions, lexsort_to_indices};
use arrow_schema::{ArrowError, DataType};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use async_trait::async_trait;

use super::{Comparison, Condition, RemoteError, RemoteFailure, RemoteRows, RemoteScan, RemoteTable, Value};
use crate::warehouse::TableSpec;

/// Rows of one batch.
const PAGE_ROWS: usize = 1_000;

/// A remote table in memory.
#[derive(Debug)]
pub struct MemoryRemote {
    table: &'static str,
    rows: RecordBatch,
    asked: Mutex<Vec<RemoteScan>>,
    failure: Mutex<Option<RemoteFailure>>,
}

impl MemoryRemote {
    /// A table with these rows.
    ///
    /// # Errors
    /// When rows are not of the table's schema.
    pub fn new(spec: &TableSpec, rows: &[RecordBatch]) -> Result<Self, ArrowError> {
        let rows = concat_batches(&spec.schema, rows)?;
        Ok(Self { table: spec.name, rows, asked: Mutex::default(), failure: Mutex::default() })
    }

    /// The scans so far.
    #[must_use]
    pub fn asked(&self) -> Vec<RemoteScan> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets scans fail from now on, or not any more.
    pub fn fail(&self, failure: Option<RemoteFailure>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn found(&self, scan: &RemoteScan) -> Result<RecordBatch, ArrowError> {
        let passes = |row: &u32| scan.conditions.iter().all(|one| holds(one, &self.rows, *row as usize) == Some(true));
        let row_count = u32::try_from(self.rows.num_rows()).map_err(|_| ArrowError::ComputeError("rows".to_owned()))?;
        let passing = UInt32Array::from_iter_values((0..row_count).filter(passes));
        let mut found = take_record_batch(&self.rows, &passing)?;
        if !scan.order.is_empty() {
            let column = |order: &super::OrderBy| SortColumn {
                values: Arc::clone(found.column(order.column)),
                options: Some(SortOptions { descending: order.is_descending, nulls_first: order.has_nulls_first }),
            };
            let columns: Vec<SortColumn> = scan.order.iter().map(column).collect();
            found = take_record_batch(&found, &lexsort_to_indices(&columns, None)?)?;
        }
        let row_count = found.num_rows().min(scan.limit.unwrap_or(usize::MAX));
        let columns: Vec<ArrayRef> =
            scan.columns.iter().map(|index| found.column(*index).slice(0, row_count)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        let schema = Arc::new(found.schema().project(&scan.columns)?);
        RecordBatch::try_new_with_options(schema, columns, &options)
    }
}

#[async_trait]
impl RemoteTable for MemoryRemote {
    async fn scan(&self, scan: RemoteScan) -> Result<Box<dyn RemoteRows>, RemoteError> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(scan.clone());
        let failed = |kind, problem: String| RemoteError { table: self.table, kind, problem };
        if let Some(kind) = *self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(failed(kind, "a failure that the test asked for".to_owned()));
        }
        let rows = self.found(&scan).map_err(|error| failed(RemoteFailure::Other, error.to_string()))?;
        Ok(Box::new(Pages { rows, given: 0 }))
    }
}

struct Pages {
    rows: RecordBatch,
    given: usize,
}

#[async_trait]
impl RemoteRows for Pages {
    async fn next(&mut self) -> Option<Result<RecordBatch, RemoteError>> {
        let row_count = PAGE_ROWS.min(self.rows.num_rows() - self.given);
        let page = self.rows.slice(self.given, row_count);
        self.given += row_count;
        (row_count > 0).then_some(Ok(page))
    }
}

/// Whether a condition holds; `None` where that is unknown (Kleene's logic, as SQL has it).
fn holds(condition: &Condition, rows: &RecordBatch, row: usize) -> Option<bool> {
    match condition {
        Condition::Compare { column, comparison, value } => {
            let ordering = value_at(rows.column(*column), row)?.partial_cmp(value)?;
            Some(match comparison {
                Comparison::Equal => ordering == Ordering::Equal,
                Comparison::NotEqual => ordering != Ordering::Equal,
                Comparison::Less => ordering == Ordering::Less,
                Comparison::LessOrEqual => ordering != Ordering::Greater,
                Comparison::Greater => ordering == Ordering::Greater,
                Comparison::GreaterOrEqual => ordering != Ordering::Less,
            })
        }
        Condition::OneOf { column, values } => Some(values.contains(&value_at(rows.column(*column), row)?)),
        Condition::IsMissing { column } => Some(rows.column(*column).is_null(row)),
        Condition::Like { column, pattern, is_any_case } => match value_at(rows.column(*column), row)? {
            Value::Text(text) if *is_any_case => Some(is_like(&folded(&text), &folded(pattern))),
            Value::Text(text) => Some(is_like(&text.chars().collect::<Vec<_>>(), &pattern.chars().collect::<Vec<_>>())),
            _ => None,
        },
        Condition::IsTrue(inner) => Some(holds(inner, rows, row) == Some(true)),
        Condition::Not(inner) => holds(inner, rows, row).map(|holds| !holds),
        Condition::All(parts) => decided(parts, rows, row, false),
        Condition::Any(parts) => decided(parts, rows, row, true),
    }
}

fn folded(text: &str) -> Vec<char> {
    text.to_lowercase().chars().collect()
}

fn is_like(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|start| is_like(&text[start..], rest)),
        ['_', rest @ ..] => !text.is_empty() && is_like(&text[1..], rest),
        ['\\', letter, rest @ ..] | [letter, rest @ ..] => text.first() == Some(letter) && is_like(&text[1..], rest),
    }
}

/// What some parts come to, of which one with the value `deciding` decides.
fn decided(parts: &[Condition], rows: &RecordBatch, row: usize, deciding: bool) -> Option<bool> {
    let mut whole = Some(!deciding);
    for part in parts {
        match holds(part, rows, row) {
            Some(holds) if holds == deciding => return Some(deciding),
            Some(_) => {}
            None => whole = None,
        }
    }
    whole
}

fn value_at(column: &ArrayRef, row: usize) -> Option<Value> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(Value::Text(column.as_string::<i32>().value(row).to_owned())),
        DataType::Int32 => Some(Value::Integer(column.as_primitive::<Int32Type>().value(row).into())),
        DataType::Int64 => Some(Value::Integer(column.as_primitive::<Int64Type>().value(row))),
        DataType::Boolean => Some(Value::Boolean(column.as_boolean().value(row))),
        DataType::Date32 => Some(Value::Date(column.as_primitive::<Date32Type>().value(row))),
        DataType::Timestamp(..) => Some(Value::Time(column.as_primitive::<TimestampMicrosecondType>().value(row))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture;

    #[async_trait]
    impl crate::contract::remote::Fixture for Fixture {
        async fn holding(&self, spec: &TableSpec, rows: RecordBatch) -> Arc<dyn RemoteTable> {
            Arc::new(MemoryRemote::new(spec, &[rows]).expect("rows of the table"))
        }
    }

    crate::remote_contract!(Fixture);
}
