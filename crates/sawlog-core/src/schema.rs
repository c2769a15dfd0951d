//! The columns of every table: names, types, order, and where each value comes from.
//!
//! For: the one definition from which row builders, Delta tables, query tables and other engines' DDL are made.
//! Not for: deciding which input field fills a slot ([`crate::fields`]) or building rows ([`crate::rows`]).
//! Invariants: column order is part of the schema; a column is only ever added at the end of its group.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::record::{F64List, Float, I64List, Int, Text, Time};

/// A table that events become rows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Application and system log records.
    Logs,
    /// Metric data points.
    Metrics,
    /// User-activity events.
    Activity,
    /// Records that could not become a row, kept with the reason.
    DeadLetters,
}

impl Table {
    /// All tables, in the order in which they are written.
    pub const ALL: [Self; 4] = [Self::Logs, Self::Metrics, Self::Activity, Self::DeadLetters];

    /// The table's name in SQL and on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Activity => "activity",
            Self::DeadLetters => "dead_letters",
        }
    }

    /// The columns of the table, the partition column [`PARTITION_COLUMN`] last.
    #[must_use]
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Logs => LOGS,
            Self::Metrics => METRICS,
            Self::Activity => ACTIVITY,
            Self::DeadLetters => DEAD_LETTERS,
        }
    }

    /// The Arrow schema of the table.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; 4]> = LazyLock::new(|| Table::ALL.map(|table| to_arrow(table.columns())));
        Arc::clone(&SCHEMAS[self as usize])
    }

    /// Sort order of rows inside a file, most selective filter first.
    #[must_use]
    pub const fn clustering(self) -> &'static [&'static str] {
        match self {
            Self::Logs => &["service", "severity_class", "event_time"],
            Self::Metrics => &["metric_name", "service", "event_time"],
            Self::Activity => &["user_id", "event_name", "event_time"],
            Self::DeadLetters => &["receive_time"],
        }
    }

    /// Columns that carry ids and therefore get a bloom filter in each file.
    #[must_use]
    pub const fn bloom_columns(self) -> &'static [&'static str] {
        match self {
            Self::Logs => &["trace_id", "user_id", "session_id", "insert_id"],
            Self::Metrics | Self::DeadLetters => &[],
            Self::Activity => &["user_id", "session_id", "insert_id"],
        }
    }
}

/// Date (UTC) by which every table is partitioned: of the event time, or of the receive time for dead letters.
pub const PARTITION_COLUMN: &str = "event_date";

/// Column that marks rows which came too late for their window.
pub const LATE_COLUMN: &str = "late";

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Name in SQL and on disk.
    pub name: &'static str,
    /// Where the value of a row comes from; it also fixes the type.
    pub source: Source,
    /// Whether a row may lack it.
    pub nullable: bool,
}

/// Where a column's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A text slot of the record.
    Text(Text),
    /// An integer slot, stored with 32 bits.
    Int32(Int),
    /// An integer slot, stored with 64 bits.
    Int64(Int),
    /// A floating-point slot.
    Float(Float),
    /// An integer slot read as a truth value (0 is false).
    Bool(Int),
    /// A time slot, microseconds since the epoch.
    Time(Time),
    /// A list of integers.
    I64List(I64List),
    /// A list of floating-point numbers.
    F64List(F64List),
    /// The record's attributes, each value as text.
    Attributes,
    /// One type letter for each attribute ([`crate::record::AttributeType`]).
    AttributeTypes,
    /// The attributes of the resource (host, process, deployment) that sent the record.
    Resource,
    /// One type letter for each resource attribute.
    ResourceTypes,
    /// Name of the source that delivered the batch.
    BatchSource,
    /// Input format of the batch.
    BatchFormat,
    /// File that the batch was read from; null where there was none.
    BatchFile,
    /// Receive time of the batch.
    ReceiveTime,
    /// Version of the rules that made the row.
    RulesVersion,
    /// Id of the batch: with `record_index` it names the raw record in the lake.
    BatchId,
    /// Place of the record in its batch, from 0.
    RecordIndex,
    /// Whether the row came too late for its window ([`crate::lateness`]); false as transformed.
    Late,
    /// The record as received.
    Payload,
    /// Date of the event time (of the receive time where the table has no event time).
    EventDate,
}

impl Source {
    fn data_type(self) -> DataType {
        match self {
            Self::Text(_)
            | Self::AttributeTypes
            | Self::ResourceTypes
            | Self::BatchSource
            | Self::BatchFormat
            | Self::BatchFile
            | Self::BatchId => DataType::Utf8,
            Self::Int32(_) | Self::RecordIndex => DataType::Int32,
            Self::Int64(_) | Self::RulesVersion => DataType::Int64,
            Self::Float(_) => DataType::Float64,
            Self::Bool(_) | Self::Late => DataType::Boolean,
            Self::Time(_) | Self::ReceiveTime => time_type(),
            Self::I64List(_) => DataType::List(list_item(DataType::Int64)),
            Self::F64List(_) => DataType::List(list_item(DataType::Float64)),
            Self::Attributes | Self::Resource => text_map_type(),
            Self::Payload => DataType::Binary,
            Self::EventDate => DataType::Date32,
        }
    }
}

/// The type of every time column: UTC microseconds.
#[must_use]
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type of the attribute maps, with Delta Lake's field names.
#[must_use]
pub fn text_map_type() -> DataType {
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(text_map_entries()), false)), false)
}

pub(crate) fn text_map_entries() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)])
}

pub(crate) fn list_item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", data_type, true))
}

fn to_arrow(columns: &[Column]) -> SchemaRef {
    let fields: Vec<Field> =
        columns.iter().map(|column| Field::new(column.name, column.source.data_type(), column.nullable)).collect();
    Arc::new(Schema::new(fields))
}

const fn optional(name: &'static str, source: Source) -> Column {
    Column { name, source, nullable: true }
}

const fn required(name: &'static str, source: Source) -> Column {
    Column { name, source, nullable: false }
}

const SERVICE: Column = optional("service", Source::Text(Text::Service));
const SERVICE_VERSION: Column = optional("service_version", Source::Text(Text::ServiceVersion));
const ENVIRONMENT: Column = optional("environment", Source::Text(Text::Environment));
const REGION: Column = optional("region", Source::Text(Text::Region));
const HOST: Column = optional("host", Source::Text(Text::Host));
const EVENT_TIME: Column = required("event_time", Source::Time(Time::Event));
const RECEIVE_TIME: Column = required("receive_time", Source::ReceiveTime);
const EVENT_NAME: Column = optional("event_name", Source::Text(Text::EventName));
const USER_ID: Column = optional("user_id", Source::Text(Text::UserId));
const SESSION_ID: Column = optional("session_id", Source::Text(Text::SessionId));
const USER_SEGMENT: Column = optional("user_segment", Source::Text(Text::UserSegment));
const COUNTRY: Column = optional("country", Source::Text(Text::Country));
const CLIENT_ADDRESS: Column = optional("client_address", Source::Text(Text::ClientAddress));
const CLIENT_ADDRESS_CLASS: Column = optional("client_address_class", Source::Text(Text::ClientAddressClass));
const USER_AGENT: Column = optional("user_agent", Source::Text(Text::UserAgent));
const USER_AGENT_FAMILY: Column = optional("user_agent_family", Source::Text(Text::UserAgentFamily));
const REFERRER: Column = optional("referrer", Source::Text(Text::Referrer));
const INSERT_ID: Column = optional("insert_id", Source::Text(Text::InsertId));
const ATTRIBUTES: Column = optional("attributes", Source::Attributes);
const ATTRIBUTE_TYPES: Column = optional("attribute_types", Source::AttributeTypes);
const RESOURCE: Column = optional("resource", Source::Resource);
const RESOURCE_TYPES: Column = optional("resource_types", Source::ResourceTypes);
const SCOPE: Column = optional("logger", Source::Text(Text::Logger));
const TRACE_ID: Column = optional("trace_id", Source::Text(Text::TraceId));
const SPAN_ID: Column = optional("span_id", Source::Text(Text::SpanId));
const SOURCE: Column = required("source", Source::BatchSource);
const FORMAT: Column = required("format", Source::BatchFormat);
const LOG_FILE: Column = optional("log_file", Source::BatchFile);
/// Nanoseconds below the microsecond, where the sender gave any.
const EVENT_TIME_NANOS: Column = optional("event_time_nanos", Source::Int32(Int::EventTimeNanos));
const RULES_VERSION: Column = required("rules_version", Source::RulesVersion);
const BATCH_ID: Column = required("batch_id", Source::BatchId);
const RECORD_INDEX: Column = required("record_index", Source::RecordIndex);
/// Whether rollups lack the row: it came after its window took no more events.
const LATE: Column = required(LATE_COLUMN, Source::Late);
const EVENT_DATE: Column = required(PARTITION_COLUMN, Source::EventDate);

const LOGS: &[Column] = &[
    EVENT_TIME,
    EVENT_TIME_NANOS,
    optional("observed_time", Source::Time(Time::Observed)),
    optional("observed_time_nanos", Source::Int32(Int::ObservedTimeNanos)),
    RECEIVE_TIME,
    optional("severity_number", Source::Int32(Int::SeverityNumber)),
    optional("severity_text", Source::Text(Text::SeverityText)),
    required("severity_class", Source::Text(Text::SeverityClass)),
    SERVICE,
    SERVICE_VERSION,
    ENVIRONMENT,
    REGION,
    HOST,
    SCOPE,
    optional("message", Source::Text(Text::Message)),
    optional("message_type", Source::Text(Text::MessageType)),
    optional("signature", Source::Text(Text::Signature)),
    EVENT_NAME,
    TRACE_ID,
    SPAN_ID,
    optional("trace_flags", Source::Int32(Int::TraceFlags)),
    optional("http_method", Source::Text(Text::HttpMethod)),
    optional("http_path", Source::Text(Text::HttpPath)),
    optional("http_route", Source::Text(Text::HttpRoute)),
    optional("http_status", Source::Int32(Int::HttpStatus)),
    optional("duration_us", Source::Int64(Int::DurationUs)),
    optional("request_bytes", Source::Int64(Int::RequestBytes)),
    optional("response_bytes", Source::Int64(Int::ResponseBytes)),
    USER_ID,
    SESSION_ID,
    CLIENT_ADDRESS,
    CLIENT_ADDRESS_CLASS,
    USER_AGENT,
    USER_AGENT_FAMILY,
    REFERRER,
    USER_SEGMENT,
    COUNTRY,
    INSERT_ID,
    ATTRIBUTES,
    ATTRIBUTE_TYPES,
    RESOURCE,
    RESOURCE_TYPES,
    SOURCE,
    FORMAT,
    LOG_FILE,
    RULES_VERSION,
    BATCH_ID,
    RECORD_INDEX,
    LATE,
    EVENT_DATE,
];

const METRICS: &[Column] = &[
    EVENT_TIME,
    EVENT_TIME_NANOS,
    optional("start_time", Source::Time(Time::Start)),
    optional("start_time_nanos", Source::Int32(Int::StartTimeNanos)),
    RECEIVE_TIME,
    required("metric_name", Source::Text(Text::MetricName)),
    required("metric_type", Source::Text(Text::MetricType)),
    optional("unit", Source::Text(Text::Unit)),
    optional("description", Source::Text(Text::Description)),
    optional("temporality", Source::Text(Text::Temporality)),
    optional("is_monotonic", Source::Bool(Int::IsMonotonic)),
    optional("value", Source::Float(Float::Value)),
    optional("value_int", Source::Int64(Int::ValueInt)),
    optional("count", Source::Int64(Int::Count)),
    optional("sum", Source::Float(Float::Sum)),
    optional("min", Source::Float(Float::Min)),
    optional("max", Source::Float(Float::Max)),
    optional("bucket_counts", Source::I64List(I64List::BucketCounts)),
    optional("explicit_bounds", Source::F64List(F64List::ExplicitBounds)),
    optional("scale", Source::Int32(Int::Scale)),
    optional("zero_count", Source::Int64(Int::ZeroCount)),
    optional("zero_threshold", Source::Float(Float::ZeroThreshold)),
    optional("positive_offset", Source::Int32(Int::PositiveOffset)),
    optional("positive_counts", Source::I64List(I64List::PositiveCounts)),
    optional("negative_offset", Source::Int32(Int::NegativeOffset)),
    optional("negative_counts", Source::I64List(I64List::NegativeCounts)),
    optional("quantiles", Source::F64List(F64List::Quantiles)),
    optional("quantile_values", Source::F64List(F64List::QuantileValues)),
    optional("exemplars", Source::Text(Text::Exemplars)),
    optional("flags", Source::Int32(Int::Flags)),
    SERVICE,
    SERVICE_VERSION,
    ENVIRONMENT,
    REGION,
    HOST,
    SCOPE,
    INSERT_ID,
    ATTRIBUTES,
    ATTRIBUTE_TYPES,
    RESOURCE,
    RESOURCE_TYPES,
    SOURCE,
    FORMAT,
    LOG_FILE,
    RULES_VERSION,
    BATCH_ID,
    RECORD_INDEX,
    LATE,
    EVENT_DATE,
];

const ACTIVITY: &[Column] = &[
    EVENT_TIME,
    RECEIVE_TIME,
    required("event_name", Source::Text(Text::EventName)),
    USER_ID,
    SESSION_ID,
    USER_SEGMENT,
    COUNTRY,
    SERVICE,
    SERVICE_VERSION,
    ENVIRONMENT,
    REGION,
    HOST,
    optional("page_path", Source::Text(Text::HttpPath)),
    optional("page_route", Source::Text(Text::HttpRoute)),
    REFERRER,
    optional("device", Source::Text(Text::Device)),
    USER_AGENT,
    USER_AGENT_FAMILY,
    CLIENT_ADDRESS,
    CLIENT_ADDRESS_CLASS,
    optional("duration_us", Source::Int64(Int::DurationUs)),
    TRACE_ID,
    SPAN_ID,
    INSERT_ID,
    ATTRIBUTES,
    ATTRIBUTE_TYPES,
    RESOURCE,
    RESOURCE_TYPES,
    SOURCE,
    FORMAT,
    LOG_FILE,
    RULES_VERSION,
    BATCH_ID,
    RECORD_INDEX,
    LATE,
    EVENT_DATE,
];

const DEAD_LETTERS: &[Column] = &[
    RECEIVE_TIME,
    required("stage", Source::Text(Text::Stage)),
    required("reason", Source::Text(Text::Reason)),
    optional("field", Source::Text(Text::FieldName)),
    required("error", Source::Text(Text::Error)),
    optional("remedy", Source::Text(Text::Remedy)),
    optional("byte_offset", Source::Int64(Int::ByteOffset)),
    required("payload", Source::Payload),
    SOURCE,
    FORMAT,
    LOG_FILE,
    RULES_VERSION,
    BATCH_ID,
    RECORD_INDEX,
    optional("attempt", Source::Int64(Int::Attempt)),
    optional("code_version", Source::Text(Text::CodeVersion)),
    EVENT_DATE,
];

/// Schema of the raw lake: one row for each record as received.
///
/// `context` holds what surrounds an OTLP record or the record of a message, so that the row can be read on its own; it is
/// null for other formats.
/// Layout: one byte, 0 for a log record or the number of the field of OTLP's `Metric` that holds the point (5 gauge,
/// 7 sum, 9 histogram, 10 exponential histogram, 11 summary); then parts, each a length (32 bits, little-endian) and
/// as many bytes. The parts are the enclosing messages, each without its children: `ResourceLogs` and `ScopeLogs`, or
/// `ResourceMetrics`, `ScopeMetrics`, `Metric` and the message of the point's kind (`Gauge`, `Sum`, …). They are encoded
/// as the payload is: protobuf messages, or JSON objects in the JSON formats. Of a message of Pub/Sub the first part is the
/// message without its data; the second is the record's place in it (32 bits, little-endian, from 0), or empty when it has no
/// other record. `file` and `is_declared` are those of [`crate::batch::RawBatch`]; objects of older builds lack them.
#[must_use]
pub fn lake_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("batch_id", DataType::Utf8, false),
            Field::new("record_index", DataType::Int32, false),
            Field::new("receive_time", time_type(), false),
            Field::new("source", DataType::Utf8, false),
            Field::new("format", DataType::Utf8, false),
            Field::new("context", DataType::Binary, true),
            Field::new("payload", DataType::Binary, false),
            Field::new("file", DataType::Utf8, true),
            Field::new("is_declared", DataType::Boolean, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Schema of `sawlog_ledger`: what became of the records of a source in one minute of receive time.
#[must_use]
pub fn ledger_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields =
            vec![Field::new("receive_minute", time_type(), false), Field::new("source", DataType::Utf8, false)];
        fields.extend(crate::ledger::Counts::NAMES.map(|name| Field::new(name, DataType::Int64, false)));
        Arc::new(Schema::new(fields))
    });
    Arc::clone(&SCHEMA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_names_are_unique_and_the_partition_column_is_last() {
        for table in Table::ALL {
            let names: Vec<_> = table.columns().iter().map(|column| column.name).collect();
            let mut unique = names.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), names.len(), "{}", table.name());
            assert_eq!(names.last(), Some(&PARTITION_COLUMN));
        }
    }

    #[test]
    fn clustering_and_bloom_columns_exist() {
        for table in Table::ALL {
            for name in table.clustering().iter().chain(table.bloom_columns()) {
                assert!(table.schema().column_with_name(name).is_some(), "{} {name}", table.name());
            }
        }
    }
}
