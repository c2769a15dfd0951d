//! Filters that the service applies to rows before it sends them.

use bytes::Bytes;
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::row_filter::{Chain, Condition, Filter};
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::value_range::{EndValue, StartValue};
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::{RowFilter, ValueRange};
use sawlog_core::bigtable::{DELETED_COLUMN, POSITION_COLUMN};

/// The newest versions of each column of a family. Names of families have no characters with a meaning in patterns.
pub(super) fn family(name: &str, versions: u32) -> RowFilter {
    all_of(vec![of(Filter::FamilyNameRegexFilter(name.to_owned())), newest(versions)])
}

/// The newest versions of each column.
pub(super) fn newest(versions: u32) -> RowFilter {
    of(Filter::CellsPerColumnLimitFilter(i32::try_from(versions).unwrap_or(i32::MAX)))
}

/// Whole rows in which something was written behind a position.
pub(super) fn written_behind(position: u64, versions: u32) -> RowFilter {
    let behind = StartValue::StartValueOpen(Bytes::copy_from_slice(&position.to_be_bytes()));
    let is_behind = of(Filter::ValueRangeFilter(ValueRange { start_value: Some(behind), end_value: None }));
    rows_with(all_of(vec![column(POSITION_COLUMN), is_behind]), versions)
}

/// Whole rows with a mark of a deletion.
pub(super) fn with_deletion(versions: u32) -> RowFilter {
    rows_with(column(DELETED_COLUMN), versions)
}

fn rows_with(something: RowFilter, versions: u32) -> RowFilter {
    let (predicate_filter, true_filter) = (Some(Box::new(something)), Some(Box::new(newest(versions))));
    of(Filter::Condition(Box::new(Condition { predicate_filter, true_filter, false_filter: None })))
}

/// The newest value of a column, if it is this one.
pub(super) fn is(column_name: &[u8], value: &[u8]) -> RowFilter {
    let value = Bytes::copy_from_slice(value);
    let range = ValueRange {
        start_value: Some(StartValue::StartValueClosed(value.clone())),
        end_value: Some(EndValue::EndValueClosed(value)),
    };
    all_of(vec![column(column_name), newest(1), of(Filter::ValueRangeFilter(range))])
}

fn column(name: &[u8]) -> RowFilter {
    of(Filter::ColumnQualifierRegexFilter(Bytes::copy_from_slice(name)))
}

fn all_of(filters: Vec<RowFilter>) -> RowFilter {
    of(Filter::Chain(Chain { filters }))
}

const fn of(filter: Filter) -> RowFilter {
    RowFilter { filter: Some(filter) }
}
