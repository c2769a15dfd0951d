//! Alert events as rows.
//!
//! For: the one definition of the columns of `alert_events`. A row is named by rule, group and sequence: one that comes again
//! is the same. Not for: sending them.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    Date32Builder, Float64Builder, Int64Builder, MapBuilder, MapFieldNames, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use super::event::AlertEvent;
use crate::schema::{PARTITION_COLUMN, text_map_type, time_type};

const DAY: i64 = 86_400_000_000;

/// Columns of `alert_events`: one row for each event.
#[must_use]
pub fn alert_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = |name: &str, nullable| Field::new(name, time_type(), nullable);
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        Arc::new(Schema::new(vec![
            time("at", false),
            text("rule", false),
            text("severity", false),
            text("group_key", false),
            Field::new("dimensions", text_map_type(), false),
            Field::new("sequence", DataType::Int64, false),
            text("change", false),
            text("state", false),
            time("fired_at", true),
            time("resolved_at", true),
            Field::new("value", DataType::Float64, true),
            Field::new("threshold", DataType::Float64, false),
            text("reason", false),
            Field::new("labels", text_map_type(), false),
            text("description", true),
            Field::new(PARTITION_COLUMN, DataType::Date32, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

struct Columns {
    times: [TimestampMicrosecondBuilder; 3],
    texts: [StringBuilder; 7],
    maps: [MapBuilder<StringBuilder, StringBuilder>; 2],
    sequence: Int64Builder,
    numbers: [Float64Builder; 2],
    date: Date32Builder,
}

/// Rows of [`alert_schema`].
///
/// # Errors
/// When Arrow refuses the columns; a defect of this module.
pub fn alert_rows<'a>(events: impl IntoIterator<Item = &'a AlertEvent>) -> Result<RecordBatch, ArrowError> {
    let names = || MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let map = || MapBuilder::new(Some(names()), StringBuilder::new(), StringBuilder::new());
    let mut columns = Columns {
        times: Default::default(),
        texts: Default::default(),
        maps: [map(), map()],
        sequence: Int64Builder::new(),
        numbers: Default::default(),
        date: Date32Builder::new(),
    };
    for event in events {
        columns.push(event)?;
    }
    columns.finish()
}

impl AlertEvent {
    /// The group as text: `service=checkout,host=a`; a dimension without a value is left out. Empty for a rule without
    /// groups.
    #[must_use]
    pub fn group_key(&self) -> String {
        let named = self.group.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_deref()?)));
        named.collect::<Vec<_>>().join(",")
    }
}

impl Columns {
    fn push(&mut self, event: &AlertEvent) -> Result<(), ArrowError> {
        let times = [Some(event.at), event.fired_at, event.resolved_at];
        self.times.iter_mut().zip(times).for_each(|(column, time)| column.append_option(time));
        let texts = [
            Some(event.rule.as_str()),
            Some(event.severity.name()),
            Some(&event.group_key()),
            Some(event.change.name()),
            Some(event.state.name()),
            Some(event.reason.as_str()),
            event.description.as_deref(),
        ];
        self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.append_option(text));
        let [dimensions, labels] = &mut self.maps;
        for (name, value) in &event.group {
            dimensions.keys().append_value(name);
            dimensions.values().append_option(value.as_deref());
        }
        dimensions.append(true)?;
        for (name, value) in &event.labels {
            labels.keys().append_value(name);
            labels.values().append_value(value);
        }
        labels.append(true)?;
        self.sequence.append_value(i64::try_from(event.sequence).unwrap_or(i64::MAX));
        let numbers = [event.value, Some(event.threshold)];
        self.numbers.iter_mut().zip(numbers).for_each(|(column, number)| column.append_option(number));
        self.date.append_value(event.at.div_euclid(DAY) as i32);
        Ok(())
    }

    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let mut times = self.times.iter_mut().map(|column| Arc::new(column.finish().with_timezone("UTC")) as ArrayRef);
        let mut texts = self.texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut maps = self.maps.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut numbers = self.numbers.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut columns = Vec::new();
        for field in alert_schema().fields() {
            let next = match field.data_type() {
                DataType::Utf8 => texts.next(),
                DataType::Map(..) => maps.next(),
                DataType::Int64 => Some(Arc::new(self.sequence.finish()) as ArrayRef),
                DataType::Float64 => numbers.next(),
                DataType::Date32 => Some(Arc::new(self.date.finish()) as ArrayRef),
                _ => times.next(),
            };
            columns.extend(next);
        }
        RecordBatch::try_new(alert_schema(), columns)
    }
}
