//! Rows on the wire.
//!
//! For: columns as Postgres types, and batches as rows. Maps, lists and structs go as JSON, which clients know how to
//! take apart; times keep their microseconds and go as `timestamptz` in UTC.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch};
use futures::{Stream, stream};
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::FieldInfo;
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;
use sawlog_query::{QueryStream, json_texts};
use tokio::sync::Mutex;

use super::error::of_query;

/// How a column goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    AsItIs,
    Json,
    Text,
}

fn shape(data_type: &DataType) -> Shape {
    match data_type {
        DataType::Map(..)
        | DataType::Struct(_)
        | DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(..) => Shape::Json,
        DataType::Dictionary(_, value) => shape(value),
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal256(..)
        | DataType::Interval(_)
        | DataType::Duration(_)
        | DataType::Float16
        | DataType::Union(..)
        | DataType::RunEndEncoded(..) => Shape::Text,
        _ => Shape::AsItIs,
    }
}

fn wire_schema(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match shape(field.data_type()) {
        Shape::AsItIs => Arc::clone(field),
        Shape::Json | Shape::Text => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn wire_batch(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| match shape(column.data_type()) {
        Shape::AsItIs => Ok(Arc::clone(column)),
        Shape::Json => Ok(Arc::new(json_texts(column)?) as ArrayRef),
        Shape::Text => cast(column, &DataType::Utf8),
    });
    RecordBatch::try_new(wire_schema(batch.schema_ref()), columns.collect::<Result<_, _>>()?)
}

/// The columns as the client sees them.
pub(super) fn fields(schema: &Schema, format: &Format) -> PgWireResult<Arc<Vec<FieldInfo>>> {
    let mut fields = arrow_schema_to_pg_fields(&wire_schema(schema), format, None)?;
    for (field, column) in fields.iter_mut().zip(schema.fields()) {
        let pg_type = match shape(column.data_type()) {
            Shape::Json => Type::JSON,
            _ if column.data_type() == &DataType::Null => Type::TEXT,
            _ => continue,
        };
        *field = FieldInfo::new(field.name().to_owned(), None, None, pg_type, field.format());
    }
    Ok(Arc::new(fields))
}

/// Whether the formats that a client asks for fit the columns.
pub(super) fn check_format(format: &Format, column_count: usize) -> PgWireResult<()> {
    match format {
        Format::Individual(codes) if codes.len() != column_count => Err(super::error::error(
            "08P01",
            format!("there are {} result formats for {column_count} columns", codes.len()),
            "send none, one, or one for each column",
        )),
        _ => Ok(()),
    }
}

/// A query that is read bit by bit.
#[derive(Debug)]
pub(super) struct Reader {
    stream: QueryStream,
    waiting: Option<RecordBatch>,
    sql: Arc<str>,
}

impl Reader {
    pub(super) fn new(stream: QueryStream, sql: Arc<str>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { stream, waiting: None, sql }))
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        self.stream.schema()
    }

    /// At most `row_count` rows.
    async fn next(&mut self, row_count: usize) -> Option<PgWireResult<RecordBatch>> {
        let batch = match self.waiting.take() {
            Some(batch) => batch,
            None => match self.stream.next().await? {
                Ok(batch) => batch,
                Err(problem) => return Some(Err(of_query(&problem, &self.sql))),
            },
        };
        if batch.num_rows() > row_count {
            self.waiting = Some(batch.slice(row_count, batch.num_rows() - row_count));
            return Some(Ok(batch.slice(0, row_count)));
        }
        Some(Ok(batch))
    }
}

/// Rows of a reader, at most `row_count`; those after them stay in the reader.
pub(super) fn rows(
    reader: Arc<Mutex<Reader>>,
    fields: Arc<Vec<FieldInfo>>,
    row_count: Option<usize>,
) -> impl Stream<Item = PgWireResult<DataRow>> + Send + 'static {
    use futures::StreamExt;
    let batches = stream::unfold(Some(row_count.unwrap_or(usize::MAX)), move |left| {
        let (reader, fields) = (Arc::clone(&reader), Arc::clone(&fields));
        async move {
            let left = left.filter(|left| *left > 0)?;
            let batch = match reader.lock().await.next(left).await? {
                Ok(batch) => batch,
                Err(error) => return Some((vec![Err(error)], None)),
            };
            match wire_batch(&batch) {
                Ok(wire) => {
                    let encoded = encode_recordbatch(fields, wire).collect();
                    Some((encoded, Some(left - batch.num_rows())))
                }
                Err(error) => Some((vec![Err(PgWireError::ApiError(Box::new(error)))], None)),
            }
        }
    });
    batches.map(stream::iter).flatten()
}
