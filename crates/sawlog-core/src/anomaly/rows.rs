//! What a watch says, as rows.
//!
//! For: the one definition of the columns of `anomaly_scores`. Not for: which rows are kept. What is not known is null, never
//! 0: a silence has no value.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{BooleanBuilder, Date32Builder, Float64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{ArrayRef, ListArray, RecordBatch, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef};

use super::contributors::Contributor;
use super::scored::Scored;
use crate::schema::{PARTITION_COLUMN, list_item, time_type};

const DAY: i64 = 86_400_000_000;

/// Columns of `anomaly_scores`: one row for each series and window.
#[must_use]
pub fn anomaly_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = |name: &str, nullable| Field::new(name, time_type(), nullable);
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        let number = |name: &str, nullable| Field::new(name, DataType::Float64, nullable);
        Arc::new(Schema::new(vec![
            time("window_start", false),
            time("window_end", false),
            text("signal", false),
            text("scope", false),
            text("service", true),
            text("metric_name", true),
            text("host", true),
            text("series", true),
            text("event_name", true),
            number("value", true),
            number("expected_low", true),
            number("expected_high", true),
            number("score", false),
            Field::new("is_anomaly", DataType::Boolean, false),
            time("episode_start", true),
            text("kind", true),
            text("reason", true),
            Field::new("contributors", contributors_type(), false),
            Field::new(PARTITION_COLUMN, DataType::Date32, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

fn contributor_fields() -> Fields {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    Fields::from(vec![
        text("text", true),
        text("service", true),
        text("service_version", true),
        text("http_route", true),
        Field::new("share", DataType::Float64, true),
        Field::new("change", DataType::Float64, true),
    ])
}

/// A list, so that `contributors[1]['text']` is the first in words.
fn contributors_type() -> DataType {
    DataType::List(list_item(DataType::Struct(contributor_fields())))
}

#[derive(Default)]
struct Columns {
    times: [TimestampMicrosecondBuilder; 3],
    texts: [StringBuilder; 9],
    numbers: [Float64Builder; 4],
    is_anomaly: BooleanBuilder,
    contributors: Vec<Vec<Contributor>>,
    date: Date32Builder,
}

/// Rows of [`anomaly_schema`].
///
/// # Errors
/// When Arrow refuses the columns; a defect of this module.
pub fn anomaly_rows<'a>(rows: impl IntoIterator<Item = &'a Scored>) -> Result<RecordBatch, ArrowError> {
    let mut columns = Columns::default();
    for row in rows {
        columns.push(row);
    }
    columns.finish()
}

impl Columns {
    fn push(&mut self, row: &Scored) {
        let times = [Some(row.window.start), Some(row.window.end), row.episode_start];
        self.times.iter_mut().zip(times).for_each(|(column, time)| column.append_option(time));
        let texts = [
            Some(row.series.signal.name()),
            Some(row.series.scope.name()),
            row.series.service.as_deref(),
            row.series.metric_name.as_deref(),
            row.series.host.as_deref(),
            row.series.attributes.as_deref(),
            row.series.event_name.as_deref(),
            row.kind.map(|kind| kind.name()),
            row.reason.as_deref(),
        ];
        self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.append_option(text));
        let bounds = row.expected.unzip();
        let numbers = [row.value, bounds.0, bounds.1, Some(row.score)];
        self.numbers.iter_mut().zip(numbers).for_each(|(column, number)| column.append_option(number));
        self.is_anomaly.append_value(row.is_anomaly);
        self.contributors.push(row.contributors.clone());
        self.date.append_value(row.window.start.div_euclid(DAY) as i32);
    }

    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let contributors: ArrayRef = Arc::new(contributor_lists(&self.contributors)?);
        let mut times = self.times.iter_mut().map(|column| Arc::new(column.finish().with_timezone("UTC")) as ArrayRef);
        let mut texts = self.texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut numbers = self.numbers.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut columns = Vec::new();
        for field in anomaly_schema().fields() {
            let next = match field.data_type() {
                DataType::Utf8 => texts.next(),
                DataType::Float64 => numbers.next(),
                DataType::Boolean => Some(Arc::new(self.is_anomaly.finish()) as ArrayRef),
                DataType::List(_) => Some(Arc::clone(&contributors)),
                DataType::Date32 => Some(Arc::new(self.date.finish()) as ArrayRef),
                _ => times.next(),
            };
            columns.extend(next);
        }
        RecordBatch::try_new(anomaly_schema(), columns)
    }
}

fn contributor_lists(rows: &[Vec<Contributor>]) -> Result<ListArray, ArrowError> {
    let mut texts: [StringBuilder; 4] = Default::default();
    let mut numbers: [Float64Builder; 2] = Default::default();
    for found in rows.iter().flatten() {
        let values = [
            Some(found.text.as_str()),
            found.service.as_deref(),
            found.service_version.as_deref(),
            found.http_route.as_deref(),
        ];
        texts.iter_mut().zip(values).for_each(|(column, text)| column.append_option(text));
        let values = [Some(found.share), found.change];
        numbers.iter_mut().zip(values).for_each(|(column, number)| column.append_option(number));
    }
    let texts = texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
    let numbers = numbers.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
    let structs = StructArray::try_new(contributor_fields(), texts.chain(numbers).collect(), None)?;
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(Vec::len));
    ListArray::try_new(list_item(DataType::Struct(contributor_fields())), offsets, Arc::new(structs), None)
}
