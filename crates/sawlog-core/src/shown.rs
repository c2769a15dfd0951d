//! Rows as text, for tests with one line a case.
//!
//! For: the tests of parsers, fields and rules. Not for: anything that is shipped. What follows from the batch, what is
//! the same in every row and what says nothing new (severity class, a time that is the receive time) is left out.

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;

use crate::batch::{AgeLimits, Format, RawBatch};
use crate::rules::{Rules, RulesConfig};
use crate::schema::Table;
use crate::time::to_rfc3339;
use crate::transform::{Transformed, transform};

/// 2026-11-24T03:00:00Z
pub(crate) const RECEIVED: i64 = 1_795_489_200_000_000;

const LEFT_OUT: [&str; 16] = [
    "receive_time",
    "severity_class",
    "source",
    "format",
    "rules_version",
    "batch_id",
    "record_index",
    "late",
    "event_date",
    "attribute_types",
    "resource_types",
    "payload",
    "remedy",
    "signature",
    "attempt",
    "code_version",
];

pub(crate) fn batch<'a>(format: Format, source: &'a str, body: &'a str) -> RawBatch<'a> {
    RawBatch {
        batch_id: "b",
        source,
        file: None,
        format,
        is_declared: true,
        receive_time: RECEIVED,
        age: AgeLimits::default(),
        body: body.as_bytes(),
    }
}

/// Rules from their JSON form.
#[track_caller]
pub(crate) fn rules(json: &str) -> Rules {
    let config: RulesConfig = serde_json::from_str(json).expect("rules");
    Rules::compile(&config, &|_| Err("there are no files".to_owned())).expect("rules without mistakes")
}

/// All rows of a body, each as `table name=value @attribute=type:value ^resource=type:value`, joined by line breaks.
pub(crate) fn rows(format: Format, body: &str) -> String {
    let rows = transform(&batch(format, "test", body), &Rules::none()).expect("lines can be split");
    show(&rows)
}

pub(crate) fn show(rows: &Transformed) -> String {
    let mut lines = Vec::new();
    for table in Table::ALL {
        let batch = &rows.tables[table as usize];
        lines.extend((0..batch.num_rows()).map(|row| format!("{}{}", table.name(), show_row(batch, row))));
    }
    lines.join("\n")
}

fn show_row(batch: &RecordBatch, row: usize) -> String {
    let mut out = String::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let name = field.name().as_str();
        if column.is_null(row) || LEFT_OUT.contains(&name) {
            continue;
        }
        let text = match column.data_type() {
            DataType::Map(..) => {
                show_map(batch, name, row, &mut out);
                continue;
            }
            DataType::Timestamp(..) => {
                let micros = column.as_primitive::<arrow_array::types::TimestampMicrosecondType>().value(row);
                if micros == RECEIVED && name == "event_time" {
                    continue;
                }
                to_rfc3339(micros).replace(".000000Z", "Z")
            }
            DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
            DataType::Int32 => column.as_primitive::<arrow_array::types::Int32Type>().value(row).to_string(),
            DataType::Int64 => column.as_primitive::<arrow_array::types::Int64Type>().value(row).to_string(),
            DataType::Float64 => column.as_primitive::<arrow_array::types::Float64Type>().value(row).to_string(),
            other => format!("{other:?}"),
        };
        out.push_str(&format!(" {name}={text}"));
    }
    out
}

fn show_map(batch: &RecordBatch, name: &str, row: usize, out: &mut String) {
    let (mark, types) = if name == "attributes" { ('@', "attribute_types") } else { ('^', "resource_types") };
    let column = |name: &str| batch.column_by_name(name).expect("a column");
    let letters = column(types).as_string::<i32>().value(row);
    let entries = column(name).as_map().value(row);
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    assert_eq!(letters.len(), keys.len(), "one letter for each attribute");
    for (index, letter) in letters.chars().enumerate() {
        let value = if values.is_null(index) { "" } else { values.value(index) };
        out.push_str(&format!(" {mark}{}={letter}:{value}", keys.value(index)));
    }
}
