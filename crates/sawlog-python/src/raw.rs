//! Raw records: rows of the lake, made of messages of Pub/Sub.
//!
//! For: messages as Arrow batches with one in each row. Not for: what becomes of the records ([`crate::transformer`]).

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, MapArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use pyo3::PyResult;
use sawlog_core::batch::{AgeLimits, Format, RawBatch};
use sawlog_core::lake;
use sawlog_core::pubsub::{Message, body_of_messages};
use sawlog_core::rules::Rules;
use sawlog_core::transform::TransformError;

use crate::error::refused;
use crate::schemas;

/// Messages, checked.
pub(crate) struct Messages(RecordBatch);

impl Messages {
    pub(crate) fn of(batch: RecordBatch) -> PyResult<Self> {
        check(&batch, &schemas::messages())?;
        Ok(Self(batch))
    }

    /// Their records as rows of the lake. Each message is a batch, received when it was published.
    pub(crate) fn rows(&self, source: &str, rules: &Rules) -> Result<RecordBatch, TransformError> {
        let (data, ids) = (self.0.column(0).as_binary::<i32>(), self.0.column(2).as_string::<i32>());
        let times = self.0.column(3).as_primitive::<TimestampMicrosecondType>();
        let (attributes, keys) = (self.0.column(1).as_map(), self.0.column(4).as_string::<i32>());
        let body = |row: usize| {
            let body = body_of_messages([Message {
                data: data.value(row),
                attributes: attributes_of(attributes, row),
                message_id: ids.value(row),
                publish_time: times.value(row),
                ordering_key: keys.value(row),
            }]);
            rules.redact_at_receive(Format::Pubsub, &body).unwrap_or(body)
        };
        let bodies: Vec<(String, Vec<u8>)> =
            (0..data.len()).map(|row| (format!("pubsub/{}", ids.value(row)), body(row))).collect();
        let raw = bodies.iter().zip(times.values()).map(|((batch_id, body), receive_time)| RawBatch {
            batch_id,
            source,
            file: None,
            format: Format::Pubsub,
            is_declared: true,
            receive_time: *receive_time,
            age: AgeLimits::any_past(),
            body,
        });
        lake::rows(&raw.collect::<Vec<_>>())
    }
}

fn attributes_of(attributes: &MapArray, row: usize) -> Vec<(&str, &str)> {
    let (keys, values) = (attributes.keys().as_string::<i32>(), attributes.values().as_string::<i32>());
    let offsets = attributes.value_offsets();
    let entries = offsets[row] as usize..offsets[row + 1] as usize;
    entries.filter(|entry| values.is_valid(*entry)).map(|entry| (keys.value(entry), values.value(entry))).collect()
}

/// Whether a batch has the columns of a schema, in their order and types, and no missing value where there must be one.
pub(crate) fn check(batch: &RecordBatch, wanted: &Schema) -> PyResult<()> {
    let found = batch.schema_ref();
    let is_same = |(one, other): (&Arc<Field>, &Arc<Field>)| {
        one.name() == other.name() && is_same_type(one.data_type(), other.data_type())
    };
    if found.fields().len() != wanted.fields().len() || !found.fields().iter().zip(wanted.fields()).all(is_same) {
        let problem = format!("the batch has the columns ({}), not ({})", columns_of(found), columns_of(wanted));
        return Err(refused(problem));
    }
    for (field, column) in wanted.fields().iter().zip(batch.columns()) {
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(refused(format!("column {} has {} missing values", field.name(), column.null_count())));
        }
    }
    Ok(())
}

fn columns_of(schema: &Schema) -> String {
    let columns = schema.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type()));
    columns.collect::<Vec<_>>().join(", ")
}

/// Types but for what the inner fields of maps and lists are called, which differs between writers of Arrow.
fn is_same_type(one: &DataType, other: &DataType) -> bool {
    match (one, other) {
        (DataType::Map(one, _), DataType::Map(other, _)) | (DataType::List(one), DataType::List(other)) => {
            is_same_type(one.data_type(), other.data_type())
        }
        (DataType::Struct(one), DataType::Struct(other)) => {
            let is_same = |(one, other): (&Arc<Field>, &Arc<Field>)| is_same_type(one.data_type(), other.data_type());
            one.len() == other.len() && one.iter().zip(other).all(is_same)
        }
        _ => one == other,
    }
}
