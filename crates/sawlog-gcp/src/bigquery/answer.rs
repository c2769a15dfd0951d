//! Rows of answers, which come as texts in JSON, as Arrow columns.
//!
//! For: types of answers, and columns of those types or of the types that a table of Sawlog has. Not for: asking
//! ([`super::jobs`]).
//!
//! Rules: numbers and times are read from their texts, so that they are exact. What Arrow has no type for stays text. Columns
//! of JSON become the maps and lists that the writer made them of ([`super::rows`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, ListArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use google_cloud_bigquery_v2::model::TableFieldSchema;
use serde_json::{Map, Value};

use super::job_error::JobError;

/// The schema of an answer.
pub(super) fn schema(fields: &[TableFieldSchema]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(field).collect::<Fields>()))
}

fn field(of: &TableFieldSchema) -> Field {
    let data_type = match of.r#type.as_str() {
        "INTEGER" | "INT64" => DataType::Int64,
        "FLOAT" | "FLOAT64" => DataType::Float64,
        "BOOLEAN" | "BOOL" => DataType::Boolean,
        "BYTES" => DataType::Binary,
        "DATE" => DataType::Date32,
        "TIMESTAMP" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "RECORD" | "STRUCT" => DataType::Struct(of.fields.iter().map(field).collect()),
        _ => DataType::Utf8,
    };
    match of.mode.as_str() {
        "REPEATED" => Field::new(&of.name, DataType::List(Arc::new(Field::new("element", data_type, true))), true),
        _ => Field::new(&of.name, data_type, true),
    }
}

/// Rows of an answer as a batch of a schema.
///
/// # Errors
/// When a row has other columns, or a value is not of its column's type.
pub(super) fn batch(schema: &SchemaRef, rows: &[Map<String, Value>]) -> Result<RecordBatch, JobError> {
    let rows: Vec<Vec<&Value>> =
        rows.iter().map(|row| cells(row.get("f"), schema.fields())).collect::<Result<_, _>>()?;
    let of_column = |(index, field): (usize, &FieldRef)| {
        let cells: Vec<&Value> = rows.iter().map(|row| row[index]).collect();
        column(field, &cells).map_err(|problem| unreadable(format!("column {}: {problem}", field.name())))
    };
    let columns = schema.fields().iter().enumerate().map(of_column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| unreadable(error.to_string()))
}

fn unreadable(problem: String) -> JobError {
    JobError::Unreadable(problem)
}

/// The values of a row, one for each column.
fn cells<'a>(cells: Option<&'a Value>, fields: &Fields) -> Result<Vec<&'a Value>, JobError> {
    let values: Option<Vec<&Value>> =
        cells.and_then(Value::as_array).and_then(|cells| cells.iter().map(|cell| cell.get("v")).collect());
    let values = values.filter(|values| values.len() == fields.len());
    values.ok_or_else(|| unreadable(format!("a row does not have {} columns", fields.len())))
}

fn column(field: &FieldRef, cells: &[&Value]) -> Result<ArrayRef, ArrowError> {
    match field.data_type() {
        DataType::Map(..) => from_json(field, cells),
        DataType::List(_) | DataType::Struct(_) if cells.iter().any(|cell| cell.is_string()) => from_json(field, cells),
        DataType::List(element) => list(field, element, cells),
        DataType::Struct(fields) => structure(fields, cells),
        DataType::Binary => binary(cells),
        DataType::Timestamp(..) => times(cells),
        DataType::Utf8 => Ok(Arc::new(texts(cells))),
        other => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(&texts(cells), other, &options)
        }
    }
}

fn texts(cells: &[&Value]) -> StringArray {
    let text = |cell: &&Value| match cell {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    cells.iter().map(text).collect()
}

/// Whole microseconds, or seconds with a fraction.
fn times(cells: &[&Value]) -> Result<ArrayRef, ArrowError> {
    let texts = texts(cells);
    let time = |text: &str| match text.contains(['.', 'e', 'E']) {
        true => text.parse::<f64>().ok().map(|seconds| (seconds * 1e6).round() as i64),
        false => text.parse().ok(),
    };
    let read = |text: Option<&str>| text.map(|text| time(text).ok_or_else(|| no("time", text))).transpose();
    let times: TimestampMicrosecondArray = texts.iter().map(read).collect::<Result<_, _>>()?;
    Ok(Arc::new(times.with_timezone("UTC")))
}

fn no(what: &str, text: &str) -> ArrowError {
    ArrowError::CastError(format!("{text:.50?} is no {what}"))
}

fn binary(cells: &[&Value]) -> Result<ArrayRef, ArrowError> {
    let texts = texts(cells);
    let read = |text: Option<&str>| {
        text.map(|text| BASE64_STANDARD.decode(text).map_err(|_| no("Base64 text", text))).transpose()
    };
    let values: Vec<Option<Vec<u8>>> = texts.iter().map(read).collect::<Result<_, _>>()?;
    Ok(Arc::new(values.iter().map(Option::as_deref).collect::<BinaryArray>()))
}

/// An array of BigQuery is never absent; where a table of Sawlog may lack the list, an empty one stands for none.
fn list(field: &FieldRef, element: &FieldRef, cells: &[&Value]) -> Result<ArrayRef, ArrowError> {
    let (mut items, mut lengths, mut is_there) = (Vec::new(), Vec::new(), Vec::new());
    for cell in cells {
        let found = cell.as_array().map(Vec::as_slice).unwrap_or_default();
        items.extend(found.iter().map(|item| item.get("v").unwrap_or(&Value::Null)));
        lengths.push(found.len());
        is_there.push(!found.is_empty());
    }
    let nulls = field.is_nullable().then(|| NullBuffer::from(is_there));
    let values = column(element, &items)?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(element), OffsetBuffer::from_lengths(lengths), values, nulls)?))
}

fn structure(fields: &Fields, cells: &[&Value]) -> Result<ArrayRef, ArrowError> {
    let missing = Value::Null;
    let of_field = |(index, field): (usize, &FieldRef)| {
        let place = format!("/f/{index}/v");
        let values: Vec<&Value> = cells.iter().map(|cell| cell.pointer(&place).unwrap_or(&missing)).collect();
        column(field, &values)
    };
    let columns = fields.iter().enumerate().map(of_field).collect::<Result<Vec<_>, _>>()?;
    let nulls = NullBuffer::from_iter(cells.iter().map(|cell| !cell.is_null()));
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(nulls), cells.len())?))
}

/// A JSON object with its keys sorted: BigQuery keeps no order, and that of the types of attributes is by keys.
fn with_sorted_keys(text: &str) -> Result<String, ArrowError> {
    let object: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| no("JSON object", text))?;
    serde_json::to_string(&object).map_err(|error| ArrowError::JsonError(error.to_string()))
}

/// Values from their JSON texts.
fn from_json(field: &FieldRef, cells: &[&Value]) -> Result<ArrayRef, ArrowError> {
    if cells.is_empty() {
        return Ok(new_null_array(field.data_type(), 0));
    }
    let absent = match field.data_type() {
        _ if field.is_nullable() => "null",
        DataType::List(_) => "[]",
        _ => "{}",
    };
    let schema = Arc::new(Schema::new(vec![Field::clone(field).with_name("value")]));
    let mut decoder = ReaderBuilder::new(schema).with_batch_size(cells.len()).build_decoder()?;
    for cell in cells {
        let text = cell.as_str().filter(|text| *text != "null").unwrap_or(absent);
        let sorted = match field.data_type() {
            DataType::Map(..) if text != "null" => Some(with_sorted_keys(text)?),
            _ => None,
        };
        let text = sorted.as_deref().unwrap_or(text);
        for part in ["{\"value\":", text, "}\n"] {
            let taken = decoder.decode(part.as_bytes())?;
            if taken != part.len() {
                return Err(no("JSON of its type", text));
            }
        }
    }
    let batch = decoder.flush()?.filter(|batch| batch.num_rows() == cells.len());
    let batch = batch.ok_or_else(|| ArrowError::JsonError("a value is not one JSON document".to_owned()))?;
    Ok(Arc::clone(batch.column(0)))
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::util::pretty::pretty_format_batches;
    use sawlog_seams::contract::remote::logs;
    use sawlog_seams::warehouse::{ANOMALY_TABLE, TableSpec};
    use serde_json::json;

    use super::*;

    fn fields(of: Value) -> Vec<TableFieldSchema> {
        let one = |field: &Value| {
            let text = |name: &str| field[name].as_str().unwrap_or_default().to_owned();
            let inner = if field["fields"].is_array() { fields(field["fields"].clone()) } else { Vec::new() };
            TableFieldSchema::new()
                .set_name(text("name"))
                .set_type(text("type"))
                .set_mode(text("mode"))
                .set_fields(inner)
        };
        of.as_array().expect("a list").iter().map(one).collect()
    }

    fn rows(of: Value) -> Vec<Map<String, Value>> {
        of.as_array().expect("a list").iter().map(|row| row.as_object().expect("a row").clone()).collect()
    }

    #[test]
    fn answers_of_all_types_become_columns() {
        let fields = fields(json!([
            {"name": "i", "type": "INTEGER"}, {"name": "f", "type": "FLOAT64"}, {"name": "b", "type": "BOOL"},
            {"name": "t", "type": "TIMESTAMP"}, {"name": "d", "type": "DATE"}, {"name": "x", "type": "BYTES"},
            {"name": "n", "type": "NUMERIC"}, {"name": "a", "type": "INT64", "mode": "REPEATED"},
            {"name": "r", "type": "RECORD", "fields": [{"name": "s", "type": "STRING"}]},
        ]));
        let row = json!({"f": [
            {"v": "9007199254740993"}, {"v": "NaN"}, {"v": "true"}, {"v": "1795600000123456"}, {"v": "2026-11-25"}, {"v": "AP8="},
            {"v": "0.1"}, {"v": [{"v": "1"}, {"v": "2"}]}, {"v": {"f": [{"v": "é"}]}},
        ]});
        let absent = json!({"f": vec![json!({"v": null}); 9]});
        let found = batch(&schema(&fields), &rows(json!([row, absent]))).expect("columns");
        let text = pretty_format_batches(&[found]).expect("a table").to_string();
        let line = "| 9007199254740993 | NaN | true | 2026-11-25T09:46:40.123456Z | 2026-11-25 | 00ff | 0.1 | [1, 2] | {s: é} |";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn seconds_with_a_fraction_are_times_as_well() {
        let found = times(&[&json!("1.795600000123456E9"), &json!("1795600000.5"), &json!("-1")]).expect("times");
        let expected = TimestampMicrosecondArray::from(vec![1_795_600_000_123_456, 1_795_600_000_500_000, -1]);
        assert_eq!(found.as_ref(), &expected.with_timezone("UTC") as &dyn Array);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let fields = fields(json!([{"name": "i", "type": "INTEGER"}]));
        let problem = |rows_of| batch(&schema(&fields), &rows(rows_of)).expect_err("wrong").to_string();
        assert!(problem(json!([{"f": [{"v": "many"}]}])).contains("column i: "), "the column is named");
        assert!(problem(json!([{"f": []}])).contains("a row does not have 1 columns"));
    }

    #[test]
    fn structures_and_maps_come_back_from_json() {
        let spec = TableSpec::all().into_iter().find(|spec| spec.name == ANOMALY_TABLE).expect("a table");
        let lists = spec.schema.fields().iter().find(|field| matches!(field.data_type(), DataType::List(_)));
        let field = lists.expect("a list of structures");
        let cells = [json!("[]"), Value::Null];
        let found = column(field, &cells.iter().collect::<Vec<_>>()).expect("lists");
        assert_eq!((found.data_type(), found.len(), found.null_count()), (field.data_type(), 2, 0));
        let logs = logs();
        let index = logs.schema().index_of("attributes").expect("a column");
        let field = &logs.schema().fields()[index].clone();
        let cells = [json!("{\"team\":\"it's \\\"x\\\"\",\"a.b\":\"1\"}"), json!("{}")];
        let found = column(field, &cells.iter().collect::<Vec<_>>()).expect("maps");
        assert_eq!(&found, &logs.column(index).slice(0, 2));
        let broken = [json!("{\"a\":"), json!("{}")];
        assert!(column(field, &broken.iter().collect::<Vec<_>>()).is_err());
    }
}
