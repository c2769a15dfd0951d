//! Rows as the Storage Write API takes them: Arrow record batches in requests below its limit.
//!
//! For: types of BigQuery, the columns that say what flush a row came by, an order that a repeated flush has again, and
//! splitting. Not for: sending.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, Int64Array, ListArray, MapArray, RecordBatch, StringArray, StringBuilder, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow_ord::sort::{SortColumn, lexsort_to_indices};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use bytes::Bytes;
use sawlog_core::schema::Table;
use sawlog_seams::Position;
use sawlog_seams::warehouse::TableSpec;

use super::schema::{FLUSH_COLUMNS, is_json};

/// Most bytes of the rows of a request; the service takes 10 MB of all of it, of which the schema has some thousands.
pub(super) const REQUEST_BYTES_MAX: usize = 9_950_000;

/// The rows of a table in the form of BigQuery.
#[derive(Debug)]
pub(super) struct Encoder {
    spec: TableSpec,
    schema: SchemaRef,
    is_ordered: bool,
}

impl Encoder {
    pub(super) fn new(spec: TableSpec) -> Self {
        let mut fields: Vec<Field> = spec
            .schema
            .fields()
            .iter()
            .map(|field| match field.data_type() {
                other if is_json(other) => Field::new(field.name(), DataType::Utf8, true),
                DataType::Int32 => Field::new(field.name(), DataType::Int64, field.is_nullable()),
                other => Field::new(field.name(), other.clone(), field.is_nullable()),
            })
            .collect();
        let [(writer, _), (position, _), (row, _)] = FLUSH_COLUMNS;
        fields.push(Field::new(writer, DataType::Utf8, true));
        fields.push(Field::new(position, DataType::Int64, true));
        fields.push(Field::new(row, DataType::Int64, true));
        // Events come in the order of the event log; panes and verdicts come from maps.
        let is_ordered = Table::ALL.into_iter().any(|table| table.name() == spec.name);
        Self { spec, schema: Arc::new(Schema::new(fields)), is_ordered }
    }

    /// The schema as a writer announces it.
    pub(super) fn schema_message(&self) -> Result<Bytes, ArrowError> {
        let writer = StreamWriter::try_new(Vec::new(), &self.schema)?;
        Ok(Bytes::from(writer.get_ref().clone()))
    }

    /// Rows as one record batch message.
    pub(super) fn message(&self, rows: &RecordBatch) -> Result<Bytes, ArrowError> {
        let mut writer = StreamWriter::try_new(Vec::new(), &self.schema)?;
        let header = writer.get_ref().len();
        writer.write(rows)?;
        let end = writer.get_ref().len();
        Ok(Bytes::from(writer.into_inner()?).slice(header..end))
    }

    /// The rows of a flush in one batch, in an order that a repeated flush has again.
    pub(super) fn rows(
        &self,
        batches: &[RecordBatch],
        writer: &str,
        position: Position,
    ) -> Result<RecordBatch, ArrowError> {
        let mut rows = concat_batches(&self.spec.schema, batches)?;
        if !self.is_ordered {
            rows = sorted(&rows)?;
        }
        let count = rows.num_rows();
        let mut columns: Vec<ArrayRef> = rows.columns().iter().map(as_bigquery).collect::<Result<_, _>>()?;
        columns.push(Arc::new(StringArray::from(vec![writer; count])));
        columns.push(Arc::new(Int64Array::from(vec![i64::try_from(position.0).unwrap_or(i64::MAX); count])));
        columns.push(Arc::new(Int64Array::from_iter_values(0..count as i64)));
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }

    /// How many rows each request has, so that each stays below the limit. A row that is too large alone has a request of
    /// its own, which the service refuses.
    pub(super) fn split(&self, rows: &RecordBatch) -> Result<Vec<usize>, ArrowError> {
        let mut counts = Vec::new();
        self.split_into(rows, &mut counts)?;
        Ok(counts)
    }

    fn split_into(&self, rows: &RecordBatch, counts: &mut Vec<usize>) -> Result<(), ArrowError> {
        let count = rows.num_rows();
        if count <= 1 || self.message(rows)?.len() <= REQUEST_BYTES_MAX {
            counts.extend(Some(count).filter(|count| *count > 0));
            return Ok(());
        }
        self.split_into(&rows.slice(0, count / 2), counts)?;
        self.split_into(&rows.slice(count / 2, count - count / 2), counts)
    }
}

/// Sorted by all columns that have an order: rows that are equal in all of them are alike.
fn sorted(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let has_order = |column: &&ArrayRef| !column.data_type().is_nested();
    let columns: Vec<SortColumn> = rows
        .columns()
        .iter()
        .filter(has_order)
        .map(|column| SortColumn { values: Arc::clone(column), options: None })
        .collect();
    let order: UInt32Array = lexsort_to_indices(&columns, None)?;
    take_record_batch(rows, &order)
}

fn as_bigquery(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Map(..) => Ok(as_objects(column.as_map())),
        nested if is_json(nested) => as_json(column),
        DataType::Int32 => Ok(Arc::new(Int64Array::from_iter(
            column.as_primitive::<arrow::datatypes::Int32Type>().iter().map(|value| value.map(i64::from)),
        ))),
        DataType::List(field) => {
            // There are no arrays that are null; an absent one is empty.
            let list: &ListArray = column.as_list();
            Ok(Arc::new(ListArray::try_new(
                Arc::clone(field),
                list.offsets().clone(),
                Arc::clone(list.values()),
                None,
            )?))
        }
        _ => Ok(Arc::clone(column)),
    }
}

/// Each value as JSON, by Arrow's names of its fields.
fn as_json(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    const NAME: &str = "value";
    let mut lines = Vec::new();
    let mut writer = arrow::json::LineDelimitedWriter::new(&mut lines);
    writer.write(&RecordBatch::try_from_iter([(NAME, Arc::clone(column))])?)?;
    writer.finish()?;
    let mut values = StringBuilder::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let object: serde_json::Value =
            serde_json::from_slice(line).map_err(|error| ArrowError::JsonError(error.to_string()))?;
        values.append_option(object.get(NAME).map(serde_json::Value::to_string));
    }
    Ok(Arc::new(values.finish()))
}

/// Each map as a JSON object, its keys sorted.
fn as_objects(maps: &MapArray) -> ArrayRef {
    let (keys, values) = (maps.keys().as_string::<i32>(), maps.values().as_string::<i32>());
    let mut objects = StringBuilder::new();
    for row in 0..maps.len() {
        if maps.is_null(row) {
            objects.append_null();
            continue;
        }
        let range = maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize;
        let entries: BTreeMap<&str, Option<&str>> =
            range.map(|entry| (keys.value(entry), values.is_valid(entry).then(|| values.value(entry)))).collect();
        // Texts are always JSON.
        objects.append_value(serde_json::to_string(&entries).unwrap_or_default());
    }
    Arc::new(objects.finish())
}

#[cfg(test)]
mod tests {
    use sawlog_seams::contract::warehouse::rows;
    use sawlog_seams::warehouse::{ANOMALY_TABLE, TableSpec};

    use super::*;

    fn encoder(name: &str) -> Encoder {
        Encoder::new(TableSpec::all().into_iter().find(|spec| spec.name == name).expect("a table"))
    }

    fn named(table: &str, names: &[&str]) -> Vec<RecordBatch> {
        vec![rows(table, &names.iter().map(|name| ((*name).to_owned(), 20_000)).collect::<Vec<_>>())]
    }

    #[test]
    fn maps_become_objects_and_counts_have_64_bits() {
        let encoder = encoder("logs");
        let encoded = encoder.rows(&named("logs", &["a"]), "w", Position(7)).expect("rows");
        let column = |name: &str| Arc::clone(encoded.column_by_name(name).expect("a column"));
        assert!(column("attributes").as_string::<i32>().value(0).starts_with("{}"));
        assert_eq!(column("http_status").data_type(), &DataType::Int64);
        assert_eq!(column("flush_position").as_primitive::<arrow::datatypes::Int64Type>().value(0), 7);
        assert!(encoder.message(&encoded).expect("a message").len() > 100);
    }

    #[test]
    fn rows_that_come_from_maps_have_one_order() {
        let encoder = encoder(ANOMALY_TABLE);
        let rows = |names: &[&str]| encoder.rows(&named(ANOMALY_TABLE, names), "w", Position(7)).expect("rows");
        assert_eq!(rows(&["b", "a", "c"]), rows(&["c", "b", "a"]));
    }

    #[test]
    fn requests_stay_below_the_limit() {
        let encoder = encoder("dead_letters");
        let large = "x".repeat(350_000);
        let names = [large.as_str(), &large, &large, "small", "small"];
        let rows = encoder.rows(&named("dead_letters", &names), "w", Position(7)).expect("rows");
        let counts = encoder.split(&rows).expect("requests");
        assert_eq!(counts.iter().sum::<usize>(), 5);
        let mut start = 0;
        for count in counts {
            let message = encoder.message(&rows.slice(start, count)).expect("a message");
            assert!(message.len() <= REQUEST_BYTES_MAX, "{} bytes of {count} rows", message.len());
            start += count;
        }
    }
}
