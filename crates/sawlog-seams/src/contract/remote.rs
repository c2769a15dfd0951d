//! Contract of [`RemoteTable`]: one function per sentence of the trait's documentation.
//!
//! For: every implementation, through [`remote_contract!`](crate::remote_contract). Not for: a service that is away, or what
//! a scan costs.

use std::sync::Arc;

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use arrow_array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, FieldRef};
use arrow_select::concat::concat_batches;
use async_trait::async_trait;

use crate::contract::warehouse::rows;
use crate::remote::{Comparison, Condition, OrderBy, RemoteScan, RemoteTable, Value};
use crate::warehouse::TableSpec;

/// A place for the rows of one table.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The table with these rows and no others.
    async fn holding(&self, spec: &TableSpec, rows: RecordBatch) -> Arc<dyn RemoteTable>;
}

/// Makes one test per function of the contract; the expression gives a [`Fixture`]. The caller's crate needs Tokio with
/// macros.
#[macro_export]
macro_rules! remote_contract {
    ($fixture:expr) => {
        $crate::remote_contract! { @tests $fixture;
            all_columns_come_back_as_they_were
            lists_come_back_as_they_were
            only_what_passes_the_conditions_comes
            rows_come_in_order_up_to_the_limit
            without_columns_rows_are_counted
        }
    };
    (@tests $fixture:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $crate::contract::remote::$name(&$fixture).await;
            }
        )*
    };
}

/// A day, as days since the epoch.
const DAY: i32 = 20_781;
const DAY_MICROS: i64 = 86_400_000_000;

fn spec(table: &str) -> TableSpec {
    TableSpec::all().into_iter().find(|spec| spec.name == table).expect("a table of every deployment")
}

/// Logs with values of all kinds: awkward texts, missing values, attributes, extreme numbers and times of a day.
#[must_use]
pub fn logs() -> RecordBatch {
    let names = ["plain", "it's \"quoted\" \\ back", "Zürich ☃\n\tline", "", "z"];
    let values: Vec<(String, i32)> = names.iter().map(|name| ((*name).to_owned(), DAY)).collect();
    let spec = spec("logs");
    let batch = rows("logs", &values);
    let mut columns = batch.columns().to_vec();
    let mut replace = |name: &str, column: ArrayRef| {
        columns[spec.schema.index_of(name).expect("a column")] = column;
    };
    let times = [0, 1, 999_999, 43_200_000_001, DAY_MICROS - 1].map(|time| i64::from(DAY) * DAY_MICROS + time);
    replace("event_time", Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")));
    replace("http_status", Arc::new(Int32Array::from(vec![Some(200), None, Some(i32::MAX), Some(-1), Some(500)])));
    replace("user_id", Arc::new(StringArray::from(vec![Some("u1"), None, Some(""), Some("null"), Some("u1")])));
    replace("attributes", attributes(spec.schema.field_with_name("attributes").expect("a column")));
    RecordBatch::try_new(spec.schema, columns).expect("columns made for the schema")
}

fn attributes(field: &Field) -> ArrayRef {
    let DataType::Map(entries, _) = field.data_type() else { panic!("attributes are a map") };
    let names = arrow_array::builder::MapFieldNames {
        entry: entries.name().clone(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let DataType::Struct(fields) = entries.data_type() else { panic!("entries are structures") };
    let mut map = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(Arc::clone(&fields[0]))
        .with_values_field(Arc::clone(&fields[1]));
    let rows: [&[(&str, &str)]; 5] =
        [&[("a.b", "1"), ("team", "it's \"x\"")], &[], &[("", "empty")], &[("k", "")], &[("ü", "\u{1}\n☃")]];
    for row in rows {
        for (key, value) in row {
            map.keys().append_value(key);
            map.values().append_value(value);
        }
        map.append(true).expect("as many keys as values");
    }
    Arc::new(map.finish())
}

/// All rows of a scan in one batch.
pub async fn all(table: &dyn RemoteTable, spec: &TableSpec, scan: RemoteScan) -> RecordBatch {
    let schema = Arc::new(spec.schema.project(&scan.columns).expect("columns of the table"));
    let mut found = Vec::new();
    let mut rows = table.scan(scan).await.expect("a scan");
    while let Some(batch) = rows.next().await {
        found.push(batch.expect("rows"));
    }
    concat_batches(&schema, &found).expect("rows of the wanted columns")
}

fn by(spec: &TableSpec, names: &[(&str, bool)]) -> Vec<OrderBy> {
    let one = |(name, is_descending): &(&str, bool)| OrderBy {
        column: spec.schema.index_of(name).expect("a column"),
        is_descending: *is_descending,
        has_nulls_first: false,
    };
    names.iter().map(one).collect()
}

fn everything(spec: &TableSpec) -> RemoteScan {
    RemoteScan {
        columns: (0..spec.schema.fields().len()).collect(),
        order: by(spec, &[(spec.time, false)]),
        ..RemoteScan::default()
    }
}

/// Texts, numbers, times, maps and missing values are those of the rows.
pub async fn all_columns_come_back_as_they_were(fixture: &dyn Fixture) {
    let (spec, rows) = (spec("logs"), logs());
    let table = fixture.holding(&spec, rows.clone()).await;
    let found = all(table.as_ref(), &spec, everything(&spec)).await;
    for (index, field) in spec.schema.fields().iter().enumerate() {
        assert_eq!(found.column(index), rows.column(index), "column {}", field.name());
    }
}

/// Lists of each kind, one of them missing.
fn list(element: &FieldRef) -> ArrayRef {
    let lengths = [2, 0, 1, 3];
    let items: ArrayRef = match element.data_type() {
        DataType::Int64 => Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX, 1, 2, 3])),
        DataType::Float64 => Arc::new(Float64Array::from(vec![-1.5, 0.1, 1e-300, 1.0, 2.5, 1e22])),
        other => panic!("a list of {other}"),
    };
    let nulls = NullBuffer::from(vec![true, false, true, true]);
    Arc::new(ListArray::new(Arc::clone(element), OffsetBuffer::from_lengths(lengths), items, Some(nulls)))
}

/// Lists are those of the rows, numbers of all sizes too.
pub async fn lists_come_back_as_they_were(fixture: &dyn Fixture) {
    let spec = spec("metrics");
    let values: Vec<(String, i32)> = (0..4).map(|row| (format!("m{row}"), DAY)).collect();
    let batch = rows("metrics", &values);
    let mut columns = batch.columns().to_vec();
    let times = TimestampMicrosecondArray::from_iter_values((0..4).map(|row| i64::from(DAY) * DAY_MICROS + row));
    for (index, field) in spec.schema.fields().iter().enumerate() {
        match field.data_type() {
            DataType::Timestamp(..) if field.name() == spec.time => {
                columns[index] = Arc::new(times.clone().with_timezone("UTC"));
            }
            DataType::Float64 => columns[index] = Arc::new(Float64Array::from(vec![0.1, -0.0, 1e300, 5e-324])),
            DataType::List(element) => columns[index] = list(element),
            _ => {}
        }
    }
    let rows = RecordBatch::try_new(Arc::clone(&spec.schema), columns).expect("columns made for the schema");
    let table = fixture.holding(&spec, rows.clone()).await;
    let found = all(table.as_ref(), &spec, everything(&spec)).await;
    for (index, field) in spec.schema.fields().iter().enumerate() {
        assert_eq!(found.column(index), rows.column(index), "column {}", field.name());
    }
}

/// Each kind of condition, with missing values.
pub async fn only_what_passes_the_conditions_comes(fixture: &dyn Fixture) {
    let spec = spec("logs");
    let table = fixture.holding(&spec, logs()).await;
    let column = |name: &str| spec.schema.index_of(name).expect("a column");
    let (status, user, source, time, date) =
        (column("http_status"), column("user_id"), column("source"), column("event_time"), column("event_date"));
    let compare = |column, comparison, value| Condition::Compare { column, comparison, value };
    let text = |text: &str| Value::Text(text.to_owned());
    let is_u1 = compare(user, Comparison::Equal, text("u1"));
    let like =
        |pattern: &str, is_any_case| Condition::Like { column: source, pattern: pattern.to_owned(), is_any_case };
    let noon = i64::from(DAY) * DAY_MICROS + DAY_MICROS / 2;
    let cases: Vec<(Condition, &[i64])> = vec![
        (is_u1.clone(), &[0, 4]),
        (Condition::Not(Box::new(is_u1.clone())), &[2, 3]),
        (compare(source, Comparison::Equal, text("it's \"quoted\" \\ back")), &[1]),
        (compare(source, Comparison::Equal, text("Zürich ☃\n\tline")), &[2]),
        (compare(source, Comparison::Greater, text("plain")), &[4]),
        (Condition::IsMissing { column: status }, &[1]),
        (like("%QUOTED%", true), &[1]),
        (like("%QUOTED%", false), &[]),
        (like("%\\\\ back", false), &[1]),
        (like("z_rich%line", true), &[2]),
        (like("ZÜRICH ☃%", true), &[2]),
        (like("", false), &[3]),
        (like("p%n", false), &[0]),
        (like("p\\%n", false), &[]),
        (like("%.%", true), &[]),
        (Condition::Not(Box::new(Condition::IsTrue(Box::new(is_u1.clone())))), &[1, 2, 3]),
        (Condition::OneOf { column: status, values: vec![Value::Integer(200), Value::Integer(-1)] }, &[0, 3]),
        (compare(status, Comparison::NotEqual, Value::Integer(200)), &[2, 3, 4]),
        (compare(status, Comparison::LessOrEqual, Value::Integer(200)), &[0, 3]),
        (compare(time, Comparison::GreaterOrEqual, Value::Time(noon)), &[3, 4]),
        (compare(time, Comparison::Less, Value::Time(noon)), &[0, 1, 2]),
        (compare(date, Comparison::Equal, Value::Date(DAY)), &[0, 1, 2, 3, 4]),
        (compare(date, Comparison::Greater, Value::Date(DAY)), &[]),
        (Condition::Any(vec![Condition::IsMissing { column: status }, is_u1.clone()]), &[0, 1, 4]),
        (Condition::All(vec![compare(status, Comparison::Equal, Value::Integer(500)), is_u1]), &[4]),
    ];
    let all_times = logs();
    let times = all_times.column(time).as_primitive::<TimestampMicrosecondType>().clone();
    for (condition, expected) in cases {
        let scan = RemoteScan {
            columns: vec![time],
            conditions: vec![condition.clone()],
            order: by(&spec, &[("event_time", false)]),
            limit: None,
        };
        let found = all(table.as_ref(), &spec, scan).await;
        let found = found.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec();
        let expected: Vec<i64> = expected.iter().map(|row| times.value(*row as usize)).collect();
        assert_eq!(found, expected, "{condition:?}");
    }
}

/// Orders by several columns, missing values where they are wanted.
pub async fn rows_come_in_order_up_to_the_limit(fixture: &dyn Fixture) {
    let spec = spec("logs");
    let table = fixture.holding(&spec, logs()).await;
    let status = spec.schema.index_of("http_status").expect("a column");
    let ordered =
        |order: Vec<OrderBy>, limit| RemoteScan { columns: vec![status], order, limit, ..RemoteScan::default() };
    let found = async |scan| {
        let found = all(table.as_ref(), &spec, scan).await;
        found.column(0).as_primitive::<Int32Type>().iter().collect::<Vec<_>>()
    };
    let by_user = by(&spec, &[("user_id", true), ("http_status", true)]);
    assert_eq!(found(ordered(by_user.clone(), Some(2))).await, [Some(500), Some(200)]);
    assert_eq!(found(ordered(by_user, None)).await, [Some(500), Some(200), Some(-1), Some(i32::MAX), None]);
    let first = vec![OrderBy { column: status, is_descending: false, has_nulls_first: true }];
    assert_eq!(found(ordered(first, Some(3))).await, [None, Some(-1), Some(200)]);
    assert_eq!(found(ordered(by(&spec, &[("http_status", false)]), Some(0))).await, []);
}

/// Rows without columns are as many as pass.
pub async fn without_columns_rows_are_counted(fixture: &dyn Fixture) {
    let spec = spec("logs");
    let table = fixture.holding(&spec, logs()).await;
    let user = spec.schema.index_of("user_id").expect("a column");
    let is_missing = Condition::IsMissing { column: user };
    let counts = [(vec![], None, 5), (vec![is_missing], None, 1), (vec![], Some(3), 3)];
    for (conditions, limit, expected) in counts {
        let scan = RemoteScan { conditions, limit, ..RemoteScan::default() };
        let mut rows = table.scan(scan).await.expect("a scan");
        let mut count = 0;
        while let Some(batch) = rows.next().await {
            let batch = batch.expect("rows");
            assert_eq!(batch.num_columns(), 0);
            count += batch.num_rows();
        }
        assert_eq!(count, expected);
    }
}
