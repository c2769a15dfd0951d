//! Query answers as JSON, NDJSON, CSV and Arrow IPC.
//!
//! For: one way to write a value, shared by HTTP and command line. Times are RFC 3339, maps are objects, bytes are
//! base64. CSV cells that a spreadsheet would take for a formula get an apostrophe in front.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use sawlog_core::time;
use serde_json::{Map, Number, Value, json};

use crate::engine::{Cut, QueryResult};

/// Format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// One object with columns and rows.
    Json,
    /// One object a row.
    Ndjson,
    /// A header line and one line a row.
    Csv,
    /// An Arrow IPC stream.
    ArrowStream,
}

impl OutputFormat {
    /// Media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::ArrowStream => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Writes an answer.
///
/// # Errors
/// When a value has no representation in the format.
pub fn encode(result: &QueryResult, format: OutputFormat) -> Result<Vec<u8>, ArrowError> {
    match format {
        OutputFormat::Json => json_document(result, None),
        OutputFormat::Ndjson => ndjson(result),
        OutputFormat::Csv => csv(result),
        OutputFormat::ArrowStream => {
            let mut writer = StreamWriter::try_new(Vec::new(), &result.schema)?;
            for batch in &result.batches {
                writer.write(batch)?;
            }
            writer.finish()?;
            writer.into_inner()
        }
    }
}

/// Writes a page of a search as JSON: an answer with the cursor of the page after it.
///
/// # Errors
/// When a value has no representation in JSON.
pub fn json_page(result: &QueryResult, next: Option<&str>) -> Result<Vec<u8>, ArrowError> {
    json_document(result, Some(next))
}

fn json_document(result: &QueryResult, next: Option<Option<&str>>) -> Result<Vec<u8>, ArrowError> {
    let columns: Vec<Value> = result
        .schema
        .fields()
        .iter()
        .map(|field| json!({"name": field.name(), "type": field.data_type().to_string()}))
        .collect();
    let mut rows = Vec::with_capacity(result.row_count());
    for batch in &result.batches {
        for row in 0..batch.num_rows() {
            rows.push(Value::Array(cells(batch, row)?));
        }
    }
    let mut document = json!({
        "columns": columns,
        "row_count": rows.len(),
        "rows": rows,
        "truncated": result.cut.is_some(),
        "cut_by": result.cut.map(Cut::name),
        "elapsed_ms": (result.elapsed.as_secs_f64() * 1e6).round() / 1e3,
    });
    if let Some(next) = next {
        document["next"] = next.into();
    }
    Ok(serde_json::to_vec(&document).map_err(std::io::Error::from)?)
}

/// Writes an answer as a JSON document that has its rows as objects under a name, and whether there are more.
///
/// # Errors
/// When a value has no representation in JSON.
pub fn json_rows(result: &QueryResult, name: &str) -> Result<Vec<u8>, ArrowError> {
    let rows: Vec<Map<String, Value>> = objects(result).collect::<Result<_, _>>()?;
    let document = json!({name: rows, "truncated": result.cut.is_some()});
    Ok(serde_json::to_vec(&document).map_err(std::io::Error::from)?)
}

fn ndjson(result: &QueryResult) -> Result<Vec<u8>, ArrowError> {
    let mut out = Vec::new();
    for object in objects(result) {
        serde_json::to_writer(&mut out, &object?).map_err(std::io::Error::from)?;
        out.push(b'\n');
    }
    Ok(out)
}

/// The rows with the names of their columns.
fn objects(result: &QueryResult) -> impl Iterator<Item = Result<Map<String, Value>, ArrowError>> {
    let rows = result.batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| cells(batch, row)));
    rows.map(|cells| {
        let names = result.schema.fields().iter().map(|field| field.name().clone());
        Ok(names.zip(cells?).collect())
    })
}

fn csv(result: &QueryResult) -> Result<Vec<u8>, ArrowError> {
    let mut out = String::new();
    let names: Vec<String> = result.schema.fields().iter().map(|field| csv_cell(field.name())).collect();
    out.push_str(&names.join(","));
    out.push_str("\r\n");
    for batch in &result.batches {
        for row in 0..batch.num_rows() {
            let line: Vec<String> = cells(batch, row)?
                .into_iter()
                .map(|value| match value {
                    Value::Null => String::new(),
                    Value::String(text) => csv_cell(&text),
                    Value::Array(_) | Value::Object(_) => csv_cell(&value.to_string()),
                    other => other.to_string(),
                })
                .collect();
            out.push_str(&line.join(","));
            out.push_str("\r\n");
        }
    }
    Ok(out.into_bytes())
}

/// Quotes by RFC 4180; text that a spreadsheet would run as a formula is made plain text.
fn csv_cell(text: &str) -> String {
    let guarded = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if guarded.contains([',', '"', '\n', '\r']) { format!("\"{}\"", guarded.replace('"', "\"\"")) } else { guarded }
}

fn cells(batch: &RecordBatch, row: usize) -> Result<Vec<Value>, ArrowError> {
    batch.columns().iter().map(|column| cell(column, row)).collect()
}

/// The values of a column as JSON text.
///
/// # Errors
/// When a value has no representation.
pub fn json_texts(column: &Arc<dyn Array>) -> Result<StringArray, ArrowError> {
    (0..column.len()).map(|row| Ok((!column.is_null(row)).then_some(cell(column, row)?.to_string()))).collect()
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// One value as JSON.
fn cell(column: &Arc<dyn Array>, row: usize) -> Result<Value, ArrowError> {
    // A column that holds nothing but nulls keeps no record of them.
    if column.is_null(row) || column.data_type() == &DataType::Null {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float32 => float(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::Binary => base64(column.as_binary::<i32>().value(row)).into(),
        DataType::LargeBinary => base64(column.as_binary::<i64>().value(row)).into(),
        DataType::BinaryView => base64(column.as_binary_view().value(row)).into(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            time::to_rfc3339(column.as_primitive::<TimestampMicrosecondType>().value(row)).into()
        }
        DataType::Date32 => {
            let days = i64::from(column.as_primitive::<Date32Type>().value(row));
            let (year, month, day) = time::civil_from_days(days);
            format!("{year:04}-{month:02}-{day:02}").into()
        }
        DataType::Timestamp(..) => {
            let micros = arrow::compute::cast(column, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
            return cell(&micros, row);
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let mut object = Map::new();
            for entry in 0..entries.len() {
                let key = match cell(keys, entry)? {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                object.insert(key, cell(values, entry)?);
            }
            Value::Object(object)
        }
        DataType::List(_) => list(&column.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(row))?,
        DataType::Struct(fields) => {
            let names = fields.iter().map(|field| field.name().clone());
            let values = column.as_struct().columns().iter().map(|column| cell(column, row));
            let object: Result<Map<String, Value>, ArrowError> =
                names.zip(values).map(|(name, value)| Ok((name, value?))).collect();
            Value::Object(object?)
        }
        DataType::Dictionary(_, value_type) => return cell(&arrow::compute::cast(column, value_type)?, row),
        _ => ArrayFormatter::try_new(column.as_ref(), &FormatOptions::default())?.value(row).to_string().into(),
    })
}

fn list(items: &Arc<dyn Array>) -> Result<Value, ArrowError> {
    (0..items.len()).map(|index| cell(items, index)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let is_padding = index > chunk.len();
            let letter = ALPHABET[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if is_padding { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_to_whole_groups() {
        let coded = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
        assert_eq!(coded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }

    #[test]
    fn formulas_become_plain_text_in_csv() {
        assert_eq!(csv_cell("=1+1"), "'=1+1");
        assert_eq!(csv_cell("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
