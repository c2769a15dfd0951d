//! Reading OTLP log records and data points into records.
//!
//! For: OpenTelemetry's logs and metrics data models, protobuf or JSON (which [`crate::otlp_json`] brings to protobuf
//! first). Not for: finding records in a request ([`crate::otlp_split`]) or what attribute names mean
//! ([`crate::fields`]). Nothing that a record says is dropped: what has no column becomes an attribute `otel.*`, a
//! number that is not finite stays readable as text, nanoseconds below a microsecond are kept beside the time.
//! Field numbers are those of opentelemetry-proto 1.x.

use std::ops::Range;
use std::sync::Arc;

use crate::batch::{Context, Format, MetricKind, RecordSpan};
use crate::defect::{Defect, Reason};
use crate::fields::{self, Place};
use crate::otlp_json::{self, Shape};
use crate::otlp_metric;
use crate::otlp_value::{AttributeReader, Source, hex, read_value, write_json_text};
use crate::otlp_wire::{Field, Reader};
use crate::record::{AttributeType, Int, Record, Text, Time, Value};

/// Reads OTLP records; remembers what the context of the last one said, since neighbours share it.
#[derive(Debug, Default)]
pub(crate) struct OtlpReader {
    context: Option<Arc<Context>>,
    around: Record,
    /// What is wrong with the context, if anything: then all its records are.
    defect: Option<Defect>,
}

impl OtlpReader {
    /// Reads the record at `span` of the body.
    pub(crate) fn read(
        &mut self,
        format: Format,
        body: &[u8],
        span: &RecordSpan,
        record: &mut Record,
    ) -> Result<(), Defect> {
        self.read_context(format, body, span.context.as_ref());
        if let Some(defect) = &self.defect {
            return Err(defect.clone());
        }
        record.copy_from(&self.around);
        let kind = span.context.as_ref().and_then(|context| context.metric_kind);
        let payload = &body[span.record.clone()];
        let shape = kind.map_or(&otlp_json::LOG_RECORD, otlp_metric::shape);
        let transcoded;
        let source = if format.is_otlp_json() {
            transcoded = otlp_json::to_protobuf(payload, shape)?;
            Source { buffer: &transcoded, payload, is_payload: false }
        } else {
            Source { buffer: payload, payload, is_payload: true }
        };
        match kind {
            None => log_record(source, record),
            Some(kind) => otlp_metric::point(kind, source, record),
        }
    }

    fn read_context(&mut self, format: Format, body: &[u8], context: Option<&Arc<Context>>) {
        let is_same = match (&self.context, context) {
            (Some(last), Some(context)) => Arc::ptr_eq(last, context),
            _ => false,
        };
        if is_same {
            return;
        }
        self.context = context.cloned();
        self.around.reset();
        self.defect = context.and_then(|context| read_context(format, body, context, &mut self.around).err());
    }
}

fn read_context(format: Format, body: &[u8], context: &Context, record: &mut Record) -> Result<(), Defect> {
    type Read = fn(Source<'_>, &mut Record) -> Result<(), Defect>;
    let parts: [(&str, &[Range<usize>], &'static Shape, Read); 4] = [
        ("resource", &context.resource, &otlp_json::RESOURCE_PART, resource_part),
        ("scope", &context.scope, &otlp_json::SCOPE_PART, scope_part),
        ("metric", &context.metric, &otlp_json::METRIC_PART, otlp_metric::metric_part),
        ("data", &context.data, &otlp_json::DATA_PART, otlp_metric::data_part),
    ];
    if let Some(kind) = context.metric_kind {
        record.claimed_kind = Some(fields::KIND_SLOT_METRIC);
        record.set_text_copy(Text::MetricType, kind.name().as_bytes());
        if kind == MetricKind::Sum {
            record.set_int(Int::IsMonotonic, 0);
        }
    }
    for (name, ranges, shape, read) in parts {
        let mut message = Context::message(format, body, ranges);
        let told = |mut defect: Defect| {
            // The place would be one in the context, not in the record.
            defect.byte_offset = None;
            defect.in_field(name.as_bytes())
        };
        if format.is_otlp_json() {
            message = otlp_json::to_protobuf(&message, shape).map_err(told)?;
        }
        read(Source { buffer: &message, payload: &[], is_payload: false }, record).map_err(told)?;
    }
    Ok(())
}

/// `ResourceLogs` or `ResourceMetrics` without its scopes.
fn resource_part(source: Source<'_>, record: &mut Record) -> Result<(), Defect> {
    let mut attributes = AttributeReader::new(source, Place::Resource, "");
    let mut reader = Reader::new(source.buffer, 0..source.buffer.len());
    while let Some(field) = reader.next()? {
        match field.number {
            1 => {
                let mut resource = Reader::new(source.buffer, field.bytes()?);
                while let Some(field) = resource.next()? {
                    match field.number {
                        1 => attributes.read(record, field.bytes()?)?,
                        2 => {
                            let count = field.varint()?;
                            if count != 0 {
                                let (name, text) = ("otel.dropped_attributes_count", count.to_string());
                                resource_note(record, name, text.as_bytes(), AttributeType::Integer);
                            }
                        }
                        3 => {
                            let mut json = Vec::new();
                            write_entity_ref(source.buffer, field.bytes()?, &mut json)?;
                            resource_note(record, "otel.entity_ref", &json, AttributeType::Json);
                        }
                        _ => {}
                    }
                }
            }
            3 => schema_url(source, record, "otel.resource.schema_url", &field)?,
            _ => {}
        }
    }
    Ok(())
}

/// `ScopeLogs` or `ScopeMetrics` without its records.
fn scope_part(source: Source<'_>, record: &mut Record) -> Result<(), Defect> {
    let mut attributes = AttributeReader::new(source, Place::Other, "otel.scope.");
    let mut reader = Reader::new(source.buffer, 0..source.buffer.len());
    while let Some(field) = reader.next()? {
        match field.number {
            1 => {
                let mut scope = Reader::new(source.buffer, field.bytes()?);
                while let Some(field) = scope.next()? {
                    match field.number {
                        1 => set_text(source, record, Text::Logger, &field)?,
                        2 => {
                            let text = source.text(record, field.bytes()?)?;
                            if !text.is_empty() {
                                let key = record.keep(b"otel.scope.version");
                                record.add_attribute(source.payload, key, Value { text, kind: AttributeType::Text });
                            }
                        }
                        3 => attributes.read(record, field.bytes()?)?,
                        4 => note_count(source, record, "otel.scope.dropped_attributes_count", field.varint()?),
                        _ => {}
                    }
                }
            }
            3 => schema_url(source, record, "otel.scope.schema_url", &field)?,
            _ => {}
        }
    }
    Ok(())
}

fn schema_url(source: Source<'_>, record: &mut Record, name: &str, field: &Field) -> Result<(), Defect> {
    let text = source.text(record, field.bytes()?)?;
    if !text.is_empty() {
        let key = record.keep(name.as_bytes());
        record.add_resource(source.payload, key, Value { text, kind: AttributeType::Text });
    }
    Ok(())
}

fn resource_note(record: &mut Record, name: &str, text: &[u8], kind: AttributeType) {
    let key = record.keep(name.as_bytes());
    let text = record.keep(text);
    record.add_resource(&[], key, Value { text, kind });
}

/// An `EntityRef` as JSON.
fn write_entity_ref(buffer: &[u8], range: Range<usize>, out: &mut Vec<u8>) -> Result<(), Defect> {
    const NAMES: [&str; 4] = ["schema_url", "type", "id_keys", "description_keys"];
    let mut texts: [Vec<Range<usize>>; 4] = Default::default();
    let mut reader = Reader::new(buffer, range);
    while let Some(field) = reader.next()? {
        if let Some(list) = (field.number as usize).checked_sub(1).and_then(|index| texts.get_mut(index)) {
            list.push(field.bytes()?);
        }
    }
    out.push(b'{');
    for (name, list) in NAMES.iter().zip(&texts).filter(|(_, list)| !list.is_empty()) {
        if out.len() > 1 {
            out.push(b',');
        }
        write_json_text(out, name.as_bytes());
        out.extend_from_slice(b":[");
        for (index, range) in list.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let text = &buffer[range.clone()];
            if std::str::from_utf8(text).is_err() {
                return Err(Defect::new(Reason::InvalidUtf8).at(range.start));
            }
            write_json_text(out, text);
        }
        out.push(b']');
    }
    out.push(b'}');
    Ok(())
}

/// `LogRecord`.
fn log_record(source: Source<'_>, record: &mut Record) -> Result<(), Defect> {
    let (mut time, mut observed, mut severity, mut flags, mut dropped) = (0, 0, 0, 0, 0);
    let mut reader = Reader::new(source.buffer, 0..source.buffer.len());
    while let Some(field) = reader.next()? {
        match field.number {
            1 => time = field.fixed64()?,
            2 => severity = field.varint()? as i32,
            3 => set_text(source, record, Text::SeverityText, &field)?,
            5 => {
                let body = read_value(source, record, field.bytes()?)?;
                set_message(record, body);
            }
            7 => dropped = field.varint()?,
            8 => flags = field.fixed32()?,
            9 => set_id(source, record, (Text::TraceId, 16, "otel.trace_id"), &field)?,
            10 => set_id(source, record, (Text::SpanId, 8, "otel.span_id"), &field)?,
            11 => observed = field.fixed64()?,
            12 => set_text(source, record, Text::EventName, &field)?,
            _ => {}
        }
    }
    set_severity(source, record, severity);
    // Attributes come second: the record's own fields win over attributes of the same meaning.
    let mut attributes = AttributeReader::new(source, Place::LogRecord, "");
    let mut reader = Reader::new(source.buffer, 0..source.buffer.len());
    while let Some(field) = reader.next()? {
        if field.number == 6 {
            attributes.read(record, field.bytes()?)?;
        }
    }
    set_nanos(record, Time::Observed, Int::ObservedTimeNanos, observed);
    set_nanos(record, Time::Event, Int::EventTimeNanos, time);
    if let (None, Some(observed)) = (record.time(Time::Event), record.time(Time::Observed)) {
        record.set_time(Time::Event, observed);
    }
    note_count(source, record, "otel.dropped_attributes_count", dropped);
    // The low byte holds W3C's trace flags, the others are reserved.
    if flags != 0 || record.text(Text::TraceId).is_some() {
        record.set_int(Int::TraceFlags, i64::from(flags & 0xff));
    }
    if flags > 0xff {
        note_count(source, record, "otel.flags", u64::from(flags));
    }
    Ok(())
}

fn set_message(record: &mut Record, body: Value) {
    if body.kind == AttributeType::Null {
        return;
    }
    record.set_text(Text::Message, body.text);
    record.clear_text(Text::MessageType);
    if body.kind != AttributeType::Text {
        record.set_text_copy(Text::MessageType, &[body.kind.letter()]);
    }
}

fn set_severity(source: Source<'_>, record: &mut Record, severity: i32) {
    if (1..=24).contains(&severity) {
        record.set_int(Int::SeverityNumber, i64::from(severity));
    } else if severity != 0 {
        source.note(record, "otel.severity_number", &severity.to_string(), AttributeType::Integer);
    }
    if record.int(Int::SeverityNumber).is_some() {
        // Activity events have no severity.
        record.claimed_kind = Some(fields::KIND_SLOT_LOG);
    }
    fields::derive_severity_number(record, source.payload);
}

/// Sets a text slot; an empty text is an absent one in protobuf.
pub(crate) fn set_text(source: Source<'_>, record: &mut Record, slot: Text, field: &Field) -> Result<(), Defect> {
    let text = source.text(record, field.bytes()?)?;
    if text.is_empty() {
        record.clear_text(slot);
    } else {
        record.set_text(slot, text);
    }
    Ok(())
}

/// Sets an id of a given number of bytes. All zeros mean that there is none; another length is kept as an attribute.
fn set_id(
    source: Source<'_>,
    record: &mut Record,
    (slot, len, name): (Text, usize, &str),
    field: &Field,
) -> Result<(), Defect> {
    let bytes = &source.buffer[field.bytes()?];
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    if bytes.len() == len {
        record.set_text_copy(slot, hex(bytes).as_bytes());
    } else {
        source.note(record, name, &hex(bytes), AttributeType::Text);
    }
    Ok(())
}

/// Sets a time from nanoseconds, of which 0 means none. What is below a microsecond is kept in an attribute.
pub(crate) fn set_nanos(record: &mut Record, slot: Time, rest: Int, nanos: u64) {
    if nanos == 0 {
        return;
    }
    record.set_time(slot, (nanos / 1000) as i64);
    if !nanos.is_multiple_of(1000) {
        record.set_int(rest, (nanos % 1000) as i64);
    }
}

/// Keeps a number other than 0 as an attribute.
pub(crate) fn note_count(source: Source<'_>, record: &mut Record, name: &str, count: u64) {
    if count != 0 {
        source.note(record, name, &count.to_string(), AttributeType::Integer);
    }
}
