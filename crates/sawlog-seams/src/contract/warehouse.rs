//! Contract of [`Warehouse`]: one function per sentence of the trait's documentation.
//!
//! For: every implementation, through [`warehouse_contract!`](crate::warehouse_contract). Not for: power loss, disk
//! faults and file layouts.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, RecordBatch, StringArray, new_empty_array};
use arrow_array::{
    Float64Array, Int32Array, Int64Array, ListArray, MapArray, TimestampMicrosecondArray, new_null_array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::DataType;
use async_trait::async_trait;
use sawlog_core::schema::{PARTITION_COLUMN, Table};

use crate::event_log::Position;
use crate::warehouse::{LEDGER_TABLE, StoredTable, TableSpec, Warehouse, WarehouseError};

/// One storage, on which a warehouse can be opened again and again.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Opens a warehouse on the storage. The warehouse opened before has been dropped.
    async fn open(&self) -> Arc<dyn Warehouse>;
    /// All rows of a table as of `stored`, with the columns of its schema, in any order.
    async fn rows(&self, stored: &StoredTable) -> Vec<RecordBatch>;
}

/// Makes one test per function of the contract; the expression gives a [`Fixture`] with fresh storage. The caller's
/// crate needs Tokio with macros.
#[macro_export]
macro_rules! warehouse_contract {
    ($fixture:expr) => {
        $crate::warehouse_contract! { @tests $fixture;
            every_table_is_there_and_empty_at_first
            a_table_that_is_not_there_is_named
            rows_are_read_back_as_they_were_appended
            an_append_at_or_below_the_committed_position_changes_nothing
            an_append_without_rows_changes_nothing
            tables_have_positions_of_their_own
            rows_and_position_survive_reopening
            a_stored_table_is_not_changed_by_later_appends
            files_carry_the_day_of_their_rows
            large_values_and_many_rows_are_kept
            readers_see_all_rows_of_an_append_or_none
        }
    };
    (@tests $fixture:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $crate::contract::warehouse::$name(&$fixture).await;
            }
        )*
    };
}

const LOGS: &str = "logs";
/// A day, as days since the epoch.
const DAY: i32 = 20_781;

/// Rows of a table, one for each name and day: the name is in every text column, lists and maps are empty.
#[must_use]
pub fn rows(table: &str, values: &[(String, i32)]) -> RecordBatch {
    let spec = TableSpec::all().into_iter().find(|spec| spec.name == table).expect("a table of every deployment");
    let columns = spec.schema.fields().iter().map(|field| column(field.data_type(), values)).collect();
    RecordBatch::try_new(spec.schema, columns).expect("columns made for the schema")
}

fn column(data_type: &DataType, values: &[(String, i32)]) -> ArrayRef {
    const DAY_MICROS: i64 = 86_400_000_000;
    match data_type {
        DataType::Utf8 => Arc::new(StringArray::from_iter_values(values.iter().map(|(name, _)| name))),
        DataType::Binary => Arc::new(BinaryArray::from_iter_values(values.iter().map(|(name, _)| name))),
        DataType::Date32 => Arc::new(Date32Array::from_iter_values(values.iter().map(|(_, day)| *day))),
        DataType::Boolean => Arc::new(BooleanArray::from(vec![false; values.len()])),
        DataType::Int32 => Arc::new(Int32Array::from(vec![7; values.len()])),
        DataType::Int64 => Arc::new(Int64Array::from(vec![7; values.len()])),
        DataType::Timestamp(..) => {
            let times = values.iter().map(|(_, day)| i64::from(*day) * DAY_MICROS + 1);
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
        }
        DataType::Float64 => Arc::new(Float64Array::from(vec![7.5; values.len()])),
        DataType::List(element) => {
            let (offsets, empty) = (OffsetBuffer::new_zeroed(values.len()), new_empty_array(element.data_type()));
            Arc::new(ListArray::new(Arc::clone(element), offsets, empty, None))
        }
        DataType::Map(entries, is_sorted) => {
            let (offsets, empty) = (OffsetBuffer::new_zeroed(values.len()), new_empty_array(entries.data_type()));
            Arc::new(MapArray::new(Arc::clone(entries), offsets, empty.as_struct().clone(), None, *is_sorted))
        }
        other => new_null_array(other, values.len()),
    }
}

fn named(table: &str, names: &[&str]) -> Vec<RecordBatch> {
    let values: Vec<_> = names.iter().map(|name| ((*name).to_owned(), DAY)).collect();
    vec![rows(table, &values)]
}

/// Values of a text column as of now, sorted.
async fn names(fixture: &dyn Fixture, stored: &StoredTable, column: &str) -> Vec<String> {
    let mut found = Vec::new();
    for batch in fixture.rows(stored).await {
        let index = batch.schema().index_of(column).expect("a column of the table");
        let values = batch.column(index).as_any().downcast_ref::<StringArray>().expect("a text column");
        found.extend(values.iter().flatten().map(str::to_owned));
    }
    found.sort_unstable();
    found
}

async fn names_now(fixture: &dyn Fixture, warehouse: &dyn Warehouse, table: &str) -> Vec<String> {
    names(fixture, &warehouse.stored(table).expect("the table is there"), "source").await
}

/// "Tables of events": those of [`TableSpec::all`], with "zero if there was none" for the position.
pub async fn every_table_is_there_and_empty_at_first(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    for spec in TableSpec::all() {
        let stored = warehouse.stored(spec.name).expect("the table is there");
        assert_eq!(stored.spec.name, spec.name);
        assert_eq!(stored.spec.schema, spec.schema);
        assert_eq!(warehouse.committed(spec.name), Position(0));
        assert_eq!(fixture.rows(&stored).await.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    }
}

/// "No table of that name."
pub async fn a_table_that_is_not_there_is_named(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    let refused = warehouse.append("none", named(LOGS, &["a"]), Position(1)).await;
    assert!(matches!(&refused, Err(WarehouseError::UnknownTable { table }) if table == "none"), "{refused:?}");
    assert!(matches!(warehouse.stored("none"), Err(WarehouseError::UnknownTable { .. })));
    assert_eq!(warehouse.committed("none"), Position(0));
}

/// "Appends rows": every column of every row.
pub async fn rows_are_read_back_as_they_were_appended(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    for spec in TableSpec::all() {
        let appended = named(spec.name, &["only"]);
        warehouse.append(spec.name, appended.clone(), Position(5)).await.expect("appended");
        let stored = warehouse.stored(spec.name).expect("the table is there");
        let found: Vec<_> = fixture.rows(&stored).await.into_iter().filter(|batch| batch.num_rows() > 0).collect();
        assert_eq!(found.len(), 1, "{}", spec.name);
        for (index, field) in spec.schema.fields().iter().enumerate() {
            assert_eq!(found[0].column(index), appended[0].column(index), "{}.{}", spec.name, field.name());
        }
    }
}

/// "Appending to a table with a position at or below `committed` changes nothing and succeeds."
pub async fn an_append_at_or_below_the_committed_position_changes_nothing(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    warehouse.append(LOGS, named(LOGS, &["a"]), Position(10)).await.expect("appended");
    for position in [10, 9, 0] {
        warehouse.append(LOGS, named(LOGS, &["b"]), Position(position)).await.expect("recognised");
        assert_eq!(warehouse.committed(LOGS), Position(10));
    }
    assert_eq!(names_now(fixture, warehouse.as_ref(), LOGS).await, ["a"]);
    drop(warehouse);
    let reopened = fixture.open().await;
    reopened.append(LOGS, named(LOGS, &["b"]), Position(10)).await.expect("recognised");
    reopened.append(LOGS, named(LOGS, &["c"]), Position(11)).await.expect("appended");
    assert_eq!(names_now(fixture, reopened.as_ref(), LOGS).await, ["a", "c"]);
}

/// "An append without rows changes nothing, not even the position."
pub async fn an_append_without_rows_changes_nothing(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    warehouse.append(LOGS, Vec::new(), Position(5)).await.expect("nothing to do");
    warehouse.append(LOGS, vec![rows(LOGS, &[])], Position(6)).await.expect("nothing to do");
    assert_eq!(warehouse.committed(LOGS), Position(0));
    warehouse.append(LOGS, named(LOGS, &["a"]), Position(4)).await.expect("appended");
    assert_eq!(names_now(fixture, warehouse.as_ref(), LOGS).await, ["a"]);
}

/// "To a table": what is committed to one says nothing about another.
pub async fn tables_have_positions_of_their_own(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    warehouse.append(LOGS, named(LOGS, &["a"]), Position(10)).await.expect("appended");
    warehouse.append(LEDGER_TABLE, named(LEDGER_TABLE, &["b"]), Position(7)).await.expect("appended");
    assert_eq!((warehouse.committed(LOGS), warehouse.committed(LEDGER_TABLE)), (Position(10), Position(7)));
    assert_eq!(names_now(fixture, warehouse.as_ref(), LEDGER_TABLE).await, ["b"]);
}

/// "They survive a crash once `append` returns": reopening is the part of it that all can test.
pub async fn rows_and_position_survive_reopening(fixture: &dyn Fixture) {
    let mut expected = Vec::new();
    for round in 1..=4 {
        let warehouse = fixture.open().await;
        assert_eq!(names_now(fixture, warehouse.as_ref(), LOGS).await, expected);
        assert_eq!(warehouse.committed(LOGS), Position(round - 1));
        let name = format!("round {round}");
        warehouse.append(LOGS, named(LOGS, &[&name]), Position(round)).await.expect("appended");
        expected.push(name);
    }
}

/// "The table as of now": later appends do not change it.
pub async fn a_stored_table_is_not_changed_by_later_appends(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    warehouse.append(LOGS, named(LOGS, &["a"]), Position(1)).await.expect("appended");
    let before = warehouse.stored(LOGS).expect("the table is there");
    warehouse.append(LOGS, named(LOGS, &["b"]), Position(2)).await.expect("appended");
    assert_eq!(names(fixture, &before, "source").await, ["a"]);
    assert_eq!(names_now(fixture, warehouse.as_ref(), LOGS).await, ["a", "b"]);
}

/// "Value of the partition column": a file holds rows of one day only, also of days before the epoch and far ahead.
pub async fn files_carry_the_day_of_their_rows(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    let days = [DAY, -1, 0, DAY, 2_932_896, -719_162];
    let values: Vec<_> = days.iter().map(|day| (format!("day {day}"), *day)).collect();
    warehouse.append(LOGS, vec![rows(LOGS, &values)], Position(1)).await.expect("appended");
    let stored = warehouse.stored(LOGS).expect("the table is there");
    if stored.root.is_some() {
        let mut found: Vec<_> = stored.files.iter().map(|file| file.partition_days.expect("a day")).collect();
        found.sort_unstable();
        assert_eq!(found, [-719_162, -1, 0, DAY, 2_932_896]);
        assert!(stored.files.iter().all(|file| file.bytes > 0 && file.rows > 0), "{:?}", stored.files);
    }
    for batch in fixture.rows(&stored).await {
        let index = batch.schema().index_of(PARTITION_COLUMN).expect("a column of the table");
        let days = batch.column(index).as_any().downcast_ref::<Date32Array>().expect("a date column").clone();
        let index = batch.schema().index_of("source").expect("a column of the table");
        let names = batch.column(index).as_any().downcast_ref::<StringArray>().expect("a text column").clone();
        for row in 0..batch.num_rows() {
            assert_eq!(names.value(row), format!("day {}", days.value(row)));
        }
    }
    assert_eq!(names_now(fixture, warehouse.as_ref(), LOGS).await.len(), days.len());
}

/// Nothing limits a value or an append but memory: a payload of 4 MiB, and more rows than one row group.
pub async fn large_values_and_many_rows_are_kept(fixture: &dyn Fixture) {
    const ROWS: usize = 150_000;
    let warehouse = fixture.open().await;
    let dead_letters = Table::DeadLetters.name();
    let large = "x".repeat(4 << 20);
    warehouse.append(dead_letters, named(dead_letters, &[&large]), Position(1)).await.expect("appended");
    assert_eq!(names_now(fixture, warehouse.as_ref(), dead_letters).await, [large]);
    let many: Vec<_> = (0..ROWS).map(|row| (format!("{row:06}"), DAY)).collect();
    let batches = many.chunks(40_000).map(|part| rows(LOGS, part)).collect();
    warehouse.append(LOGS, batches, Position(1)).await.expect("appended");
    let found = names_now(fixture, warehouse.as_ref(), LOGS).await;
    assert_eq!((found.len(), &*found[0], &*found[ROWS - 1]), (ROWS, "000000", "149999"));
}

/// "The rows of one append appear together": a reader on another thread keeps every table that it meets.
pub async fn readers_see_all_rows_of_an_append_or_none(fixture: &dyn Fixture) {
    const APPENDS: u64 = 20;
    let warehouse = fixture.open().await;
    let reading = Arc::clone(&warehouse);
    let reader = std::thread::spawn(move || {
        let mut met: Vec<Arc<StoredTable>> = Vec::new();
        while reading.committed(LOGS) < Position(APPENDS) {
            let stored = reading.stored(LOGS).expect("the table is there");
            if met.last().is_none_or(|last| !Arc::ptr_eq(last, &stored)) {
                met.push(stored);
            }
            std::thread::yield_now();
        }
        met
    });
    for position in 1..=APPENDS {
        let values: Vec<_> = (0..6).map(|row| (format!("{position}"), DAY + row % 3)).collect();
        warehouse.append(LOGS, vec![rows(LOGS, &values)], Position(position)).await.expect("appended");
    }
    let mut last = 0;
    for stored in reader.join().expect("the reader ends well") {
        let found = names(fixture, &stored, "source").await.len();
        assert!(found.is_multiple_of(6) && found >= last, "{found} rows after {last}");
        last = found;
    }
    assert_eq!(names_now(fixture, warehouse.as_ref(), LOGS).await.len(), 6 * APPENDS as usize);
}
