//! Which input field fills which slot, and how its value is standardized on the way.
//!
//! For: the names that log libraries, OpenTelemetry's semantic conventions, Elastic Common Schema and Google's
//! LogEntry use for the same thing. Not for: reading a syntax (the parsers) or deriving values ([`crate::enrich`]).
//! Invariants: a value that does not fit its slot becomes an attribute under its own name; nothing is dropped. Which
//! field fills a slot follows from names and values ([`Rank`]); order decides only between fields of one rank.

use crate::defect::{Defect, Reason};
use crate::log_entry::{self, AuditField};
use crate::record::{AttributeType, Float, Int, Record, Span, Text, Time, Value};
use crate::severity;
use crate::time::{self, ExactTime};
use crate::value::{self, DurationUnit};

/// What a field means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Goes to a text slot.
    Text(Text),
    /// A whole number.
    Int(Int),
    /// A number of bytes, perhaps with a unit.
    Size(Int),
    /// A duration; a bare number is in the given unit.
    Duration(DurationUnit),
    /// A time; one that cannot be read makes the record a dead letter.
    Time(Time),
    /// Perhaps a time; otherwise an attribute.
    MaybeTime(Time),
    /// A severity word or number.
    Severity,
    /// The same; numbers may be of Google's `LogSeverity`.
    GoogleSeverity,
    /// A severity number on OpenTelemetry's scale.
    SeverityNumber,
    /// The value of a metric point.
    MetricValue,
    /// Says outright whether the record is a log, a metric or an activity event.
    Kind,
    /// The type of a metric; of other records an attribute.
    MetricType,
    /// Whether the trace is sampled.
    TraceSampled,
}

impl Target {
    /// Whether the field means the same inside `labels`, `tags` and the like.
    fn holds_in_labels(self) -> bool {
        use Text::{
            ClientAddress, Country, Environment, Host, HttpMethod, HttpPath, HttpRoute, Referrer, Region, Service,
            ServiceVersion, SessionId, UserAgent, UserId, UserSegment,
        };
        match self {
            Self::Text(slot) => matches!(
                slot,
                ClientAddress
                    | Country
                    | Environment
                    | Host
                    | HttpMethod
                    | HttpPath
                    | HttpRoute
                    | Referrer
                    | Region
                    | Service
                    | ServiceVersion
                    | SessionId
                    | UserAgent
                    | UserId
                    | UserSegment
            ),
            Self::Int(slot) => slot == Int::HttpStatus,
            _ => false,
        }
    }
}

/// Nested objects whose name says only "more fields follow".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    /// The record's own fields (`jsonPayload`, `fields`).
    Body,
    /// Labels: only fields that mean the same anywhere fill slots.
    Labels,
    /// Attributes of the sending resource.
    Resource,
}

/// The container that a top-level object field is, if it is one.
pub(crate) fn container(key: &[u8]) -> Option<Container> {
    Some(match key {
        b"jsonPayload" | b"fields" => Container::Body,
        b"labels" | b"tags" | b"attributes" | b"properties" | b"dimensions" => Container::Labels,
        b"resource" | b"resource_attributes" => Container::Resource,
        _ => return None,
    })
}

/// Kind that a record claims, by its `kind` field.
pub(crate) const KIND_SLOT_LOG: i64 = 1;
pub(crate) const KIND_SLOT_METRIC: i64 = 2;
pub(crate) const KIND_SLOT_ACTIVITY: i64 = 3;

/// What a field of that (dotted) name means.
pub(crate) fn target(key: &[u8]) -> Option<Target> {
    Some(match key {
        b"timestamp" | b"@timestamp" | b"time" | b"ts" | b"event_time" | b"datetime" | b"eventTime" | b"_time" => {
            Target::Time(Time::Event)
        }
        b"date" | b"t" | b"asctime" | b"created_at" | b"createdAt" | b"event.created" => Target::MaybeTime(Time::Event),
        b"observed_time" | b"observed_timestamp" | b"receiveTimestamp" => Target::MaybeTime(Time::Observed),
        b"start_time" => Target::MaybeTime(Time::Start),
        b"severity" => Target::GoogleSeverity,
        b"level" | b"lvl" | b"loglevel" | b"log_level" | b"log.level" | b"levelname" | b"level_name"
        | b"severity_text" | b"severityText" => Target::Severity,
        b"severity_number" | b"severityNumber" => Target::SeverityNumber,
        b"message" | b"msg" | b"body" | b"log" | b"textPayload" | b"short_message" | b"text" => {
            Target::Text(Text::Message)
        }
        b"kind" => Target::Kind,
        b"service" | b"service.name" | b"service_name" | b"app" | b"application" | b"app_name" | b"appname" => {
            Target::Text(Text::Service)
        }
        b"version" | b"service.version" | b"service_version" | b"app_version" => Target::Text(Text::ServiceVersion),
        b"environment"
        | b"env"
        | b"deployment.environment"
        | b"deployment.environment.name"
        | b"service.environment" => Target::Text(Text::Environment),
        b"region" | b"cloud.region" | b"cloud_region" => Target::Text(Text::Region),
        b"host" | b"host.name" | b"hostname" | b"host_name" => Target::Text(Text::Host),
        b"logger" | b"logger_name" | b"log.logger" | b"logger.name" => Target::Text(Text::Logger),
        b"event" | b"event_name" | b"event.name" | b"eventName" => Target::Text(Text::EventName),
        b"trace_id" | b"traceId" | b"trace.id" | b"traceID" | b"trace" => Target::Text(Text::TraceId),
        b"span_id" | b"spanId" | b"span.id" | b"spanID" => Target::Text(Text::SpanId),
        b"trace_flags" | b"traceFlags" => Target::Int(Int::TraceFlags),
        b"traceSampled" => Target::TraceSampled,
        // Not event_id, which names a kind of event (4624: a logon on Windows): taking it would remove rows as repeats.
        b"insert_id" | b"insertId" | b"event.id" | b"log.record.uid" => Target::Text(Text::InsertId),
        b"user_id" | b"userId" | b"user.id" | b"uid" | b"enduser.id" | b"distinct_id" => Target::Text(Text::UserId),
        b"session_id" | b"sessionId" | b"session.id" => Target::Text(Text::SessionId),
        b"user_segment" | b"userSegment" | b"user.segment" | b"segment" => Target::Text(Text::UserSegment),
        b"country"
        | b"country_code"
        | b"countryCode"
        | b"geo.country"
        | b"geo.country_iso_code"
        | b"geo.country.iso_code"
        | b"client.geo.country_iso_code"
        | b"source.geo.country_iso_code"
        | b"geoip.country_iso_code" => Target::Text(Text::Country),
        b"device" | b"device.type" | b"device_type" => Target::Text(Text::Device),
        _ => return http_text(key).or_else(|| http_number(key)).or_else(|| metric_target(key)),
    })
}

/// Names of texts in a request or its answer.
fn http_text(key: &[u8]) -> Option<Target> {
    Some(match key {
        b"http.method"
        | b"method"
        | b"http.request.method"
        | b"http_method"
        | b"httpRequest.requestMethod"
        | b"request_method" => Target::Text(Text::HttpMethod),
        b"http.path"
        | b"path"
        | b"url.path"
        | b"http.target"
        | b"http_path"
        | b"page"
        | b"page_path"
        | b"uri"
        | b"request_uri"
        | b"http.url"
        | b"url"
        | b"url.full"
        | b"httpRequest.requestUrl" => Target::Text(Text::HttpPath),
        b"http.route" | b"route" | b"http_route" => Target::Text(Text::HttpRoute),
        b"http.user_agent"
        | b"user_agent"
        | b"user_agent.original"
        | b"userAgent"
        | b"http_user_agent"
        | b"httpRequest.userAgent" => Target::Text(Text::UserAgent),
        b"http.client_ip"
        | b"client_ip"
        | b"client.address"
        | b"client_address"
        | b"remote_addr"
        | b"remote_ip"
        | b"clientip"
        | b"source.ip"
        | b"httpRequest.remoteIp"
        | b"http.remote_addr"
        | b"ip" => Target::Text(Text::ClientAddress),
        b"http.referrer"
        | b"referrer"
        | b"referer"
        | b"http.referer"
        | b"http.request.header.referer"
        | b"httpRequest.referer" => Target::Text(Text::Referrer),
        _ => return None,
    })
}

/// Names of status, sizes and durations of a request.
fn http_number(key: &[u8]) -> Option<Target> {
    Some(match key {
        b"http.status"
        | b"status"
        | b"http.status_code"
        | b"http.response.status_code"
        | b"status_code"
        | b"http_status"
        | b"httpRequest.status"
        | b"statusCode" => Target::Int(Int::HttpStatus),
        b"http.request_bytes"
        | b"request_bytes"
        | b"http.request.body.size"
        | b"http.request.size"
        | b"httpRequest.requestSize"
        | b"bytes_in" => Target::Size(Int::RequestBytes),
        b"http.response_bytes"
        | b"response_bytes"
        | b"http.response.body.size"
        | b"http.response.size"
        | b"httpRequest.responseSize"
        | b"bytes_sent"
        | b"body_bytes_sent"
        | b"bytes_out"
        | b"bytes" => Target::Size(Int::ResponseBytes),
        b"duration_ms" | b"duration" | b"latency_ms" | b"latency" | b"elapsed" | b"elapsed_ms" | b"took"
        | b"took_ms" | b"response_time" | b"response_time_ms" | b"http.duration_ms" | b"http.latency_ms"
        | b"responseTime" | b"durationMs" => Target::Duration(DurationUnit::Millis),
        b"duration_us" | b"latency_us" | b"elapsed_us" => Target::Duration(DurationUnit::Micros),
        b"duration_ns" | b"event.duration" | b"latency_ns" => Target::Duration(DurationUnit::Nanos),
        b"duration_s"
        | b"request_time"
        | b"duration_seconds"
        | b"httpRequest.latency"
        | b"http.server.request.duration" => Target::Duration(DurationUnit::Seconds),
        _ => return None,
    })
}

fn metric_target(key: &[u8]) -> Option<Target> {
    Some(match key {
        b"metric" | b"metric_name" | b"metric.name" => Target::Text(Text::MetricName),
        b"value" => Target::MetricValue,
        b"unit" => Target::Text(Text::Unit),
        b"type" | b"metric_type" => Target::MetricType,
        _ => return None,
    })
}

/// Means the user's segment only in a record that names a user or a session: there are segments of files, networks and
/// routes, too.
const SEGMENT: &[u8] = b"segment";

/// Names that often mean something else: they fill a slot only when no better name does.
fn is_weak(found: Target, key: &[u8]) -> bool {
    match found {
        Target::MaybeTime(slot) => slot == Time::Event,
        Target::Text(Text::Message) => matches!(key, b"body" | b"log" | b"text"),
        Target::Text(Text::Service) => matches!(key, b"app" | b"application"),
        Target::Text(Text::UserId) => key == b"uid",
        Target::Text(Text::ClientAddress) => key == b"ip",
        Target::Size(Int::ResponseBytes) => key == b"bytes",
        _ => false,
    }
}

/// A named value of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// Its dotted name.
    pub(crate) key: Span,
    pub(crate) value: Value,
    /// Where it stands in the payload, for messages.
    pub(crate) at: usize,
}

/// How well a field is placed to fill a slot, best first. Fields of the record itself with a clear name and a value
/// that fits are before all of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// In the object that holds the record's payload: what the envelope says goes before it.
    Body,
    /// The name is clear, but the value is no time or severity as far as one can tell.
    Doubtful,
    /// The name often means something else.
    Weak,
    /// The same in the payload's object.
    WeakBody,
    /// In labels or the resource.
    Label,
    /// The name means this only beside other fields, which must be in place before: a user's segment beside a user, a field
    /// of an audit log beside the type of its payload.
    Dependent,
}

impl Rank {
    const ALL: [Self; 6] = [Self::Body, Self::Doubtful, Self::Weak, Self::WeakBody, Self::Label, Self::Dependent];
}

/// A field that waits for the end of its record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Postponed {
    rank: Rank,
    scope: Option<Container>,
    found: Option<Target>,
    field: Field,
}

/// Whether a slot took a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Taken,
    NotTaken,
    /// Only if nothing better comes.
    Doubtful,
}

impl Fit {
    const fn when(is_taken: bool) -> Self {
        if is_taken { Self::Taken } else { Self::NotTaken }
    }
}

/// Puts a field where it belongs, or keeps it for [`finish`].
pub(crate) fn assign(record: &mut Record, payload: &[u8], scope: Option<Container>, field: Field, receive_time: i64) {
    let value = as_null_if_null_word(record, payload, field.value);
    let field = Field { value, ..field };
    let key = record.bytes(payload, field.key);
    let is_outside = matches!(scope, Some(Container::Labels | Container::Resource));
    let found = target(key).filter(|found| !is_outside || found.holds_in_labels());
    let found = found.or_else(|| match (scope, log_entry::audit_field(key)) {
        (Some(Container::Resource), _) => log_entry::resource_label(key),
        (None, Some(AuditField::Column(column))) => Some(column),
        _ => None,
    });
    let is_weak = found.is_some_and(|found| is_weak(found, key));
    let rank = match (scope, found) {
        (_, Some(_)) if key == SEGMENT => Some(Rank::Dependent),
        (None, _) if log_entry::audit_field(key).is_some() => Some(Rank::Dependent),
        (None, None) => {
            let is_log_name = key == log_entry::LOG_NAME;
            let is_audit_log =
                key == log_entry::PAYLOAD_TYPE && record.bytes(payload, value.text) == log_entry::AUDIT_LOG;
            record.traits.has_log_name |= is_log_name;
            record.traits.is_audit_log |= is_audit_log;
            return keep(record, payload, scope, field);
        }
        // An attribute of the resource is one wherever it stands.
        (Some(Container::Resource), None) => return keep(record, payload, scope, field),
        (None, Some(Target::Text(Text::Message))) if key == b"short_message" => {
            record.traits.has_gelf_message = true;
            None
        }
        (None, Some(Target::Text(Text::ServiceVersion))) if key == b"version" => {
            let is_free = record.text(Text::ServiceVersion).is_none();
            record.traits.has_gelf_version = is_free && matches!(record.bytes(payload, value.text), b"1.1" | b"1.0");
            None
        }
        (None, Some(_)) => is_weak.then_some(Rank::Weak),
        (Some(Container::Body), _) => Some(if is_weak { Rank::WeakBody } else { Rank::Body }),
        (Some(Container::Labels | Container::Resource), _) => Some(Rank::Label),
    };
    let one = Postponed { rank: rank.unwrap_or(Rank::Doubtful), scope, found, field };
    if rank.is_some() || place(record, payload, &one, receive_time) == Fit::Doubtful {
        record.postponed.push(one);
    }
}

/// Places the fields that were kept for the end of the record, best first.
pub(crate) fn finish(record: &mut Record, payload: &[u8], receive_time: i64) -> Result<(), Defect> {
    if !record.postponed.is_empty() {
        let mut postponed = std::mem::take(&mut record.postponed);
        let placed = place_all(record, payload, &mut postponed, receive_time);
        postponed.clear();
        // The list goes back for its allocation.
        record.postponed = postponed;
        placed?;
    }
    if record.traits.is_audit_log && record.claimed_kind.is_none() {
        // Who did what is no activity of a visitor.
        record.claimed_kind = Some(KIND_SLOT_LOG);
    }
    if record.traits.has_gelf_message && record.traits.has_gelf_version {
        finish_gelf(record, payload);
    }
    Ok(())
}

fn place_all(
    record: &mut Record,
    payload: &[u8],
    postponed: &mut Vec<Postponed>,
    receive_time: i64,
) -> Result<(), Defect> {
    for rank in Rank::ALL {
        for index in 0..postponed.len() {
            let one = postponed[index];
            if one.rank != rank {
                continue;
            }
            if rank == Rank::Doubtful {
                place_doubtful(record, payload, &one, receive_time)?;
            } else if place(record, payload, &one, receive_time) == Fit::Doubtful {
                postponed.push(Postponed { rank: Rank::Doubtful, ..one });
            }
        }
    }
    Ok(())
}

/// Fills the field's slot or makes it an attribute, unless its value is doubtful.
fn place(record: &mut Record, payload: &[u8], one: &Postponed, receive_time: i64) -> Fit {
    let field = one.field;
    if one.rank == Rank::Dependent
        && record.traits.is_audit_log
        && let Some(AuditField::Attribute(name)) = log_entry::audit_field(record.bytes(payload, field.key))
    {
        let key = record.keep(name);
        record.add_attribute(payload, key, field.value);
        return Fit::Taken;
    }
    let found = one.found.filter(|_| one.rank != Rank::Dependent || has_what_it_needs(record, payload, field));
    let fit = found.map_or(Fit::NotTaken, |found| fill(record, payload, found, field.value, receive_time));
    match (fit, found) {
        (Fit::NotTaken, _) => keep(record, payload, one.scope, field),
        // The labels of a monitored resource name it together.
        (Fit::Taken, Some(_))
            if one.scope == Some(Container::Resource) && is_resource_label(record, payload, field) =>
        {
            record.add_resource(payload, field.key, field.value);
        }
        (Fit::Taken, Some(found)) => keep_what_is_lost(record, payload, found, field),
        _ => {}
    }
    fit
}

fn is_resource_label(record: &Record, payload: &[u8], field: Field) -> bool {
    log_entry::resource_label(record.bytes(payload, field.key)).is_some()
}

/// Whether the record has what a field of [`Rank::Dependent`] needs beside it.
fn has_what_it_needs(record: &Record, payload: &[u8], field: Field) -> bool {
    if record.bytes(payload, field.key) == SEGMENT {
        record.text(Text::UserId).or(record.text(Text::SessionId)).is_some()
    } else {
        record.traits.is_audit_log
    }
}

/// Fills a slot that is still free with a value that is hard to believe. A time that cannot be read is a defect: the
/// record would otherwise stand at a time that its maker did not mean.
fn place_doubtful(record: &mut Record, payload: &[u8], one: &Postponed, receive_time: i64) -> Result<(), Defect> {
    let Postponed { scope, found, field, .. } = *one;
    match found {
        Some(Target::Time(slot)) if record.time(slot).is_none() => {
            match read_time(record, payload, field.value, receive_time) {
                Some((time, _)) => set_time(record, slot, time),
                None => {
                    let written = String::from_utf8_lossy(record.bytes(payload, field.value.text)).into_owned();
                    let name = record.bytes(payload, field.key);
                    return Err(Defect::new(Reason::TimeUnreadable).about(&written).in_field(name).at(field.at));
                }
            }
        }
        Some(Target::Severity | Target::GoogleSeverity) if record.text(Text::SeverityText).is_none() => {
            record.set_text(Text::SeverityText, field.value.text);
        }
        _ => keep(record, payload, scope, field),
    }
    Ok(())
}

/// Makes a field an attribute. Labels of a LogEntry keep the name of their object, so that they do not meet the fields
/// of its payload.
fn keep(record: &mut Record, payload: &[u8], scope: Option<Container>, field: Field) {
    match scope {
        Some(Container::Resource) => record.add_resource(payload, field.key, field.value),
        Some(Container::Labels) if record.traits.has_log_name => {
            let key = record.keep_joined(payload, b"labels.", field.key);
            record.add_attribute(payload, key, field.value);
        }
        _ => record.add_attribute(payload, field.key, field.value),
    }
}

/// Keeps a value as an attribute too where its slot says less: the resource name around a trace id
/// (`projects/…/traces/ID`) and the nanoseconds of a LogEntry's latency.
fn keep_what_is_lost(record: &mut Record, payload: &[u8], found: Target, field: Field) {
    let is_lost = match found {
        Target::Text(Text::TraceId) => record.text(Text::TraceId).is_some_and(|id| id.len() < field.value.text.len()),
        Target::Duration(DurationUnit::Seconds) => {
            record.bytes(payload, field.key) == b"httpRequest.latency"
                && has_nanos(record.bytes(payload, field.value.text))
        }
        _ => false,
    };
    if is_lost {
        record.add_attribute(payload, field.key, field.value);
    }
}

/// Whether a number has digits other than 0 past the sixth after its point.
fn has_nanos(text: &[u8]) -> bool {
    let point = memchr::memchr(b'.', text).unwrap_or(text.len());
    text.iter().skip(point + 7).any(|digit| matches!(digit, b'1'..=b'9'))
}

/// GELF 1.1: `level` is a severity of syslog, `version` that of the format.
fn finish_gelf(record: &mut Record, payload: &[u8]) {
    if let Some(version) = record.text(Text::ServiceVersion) {
        record.clear_text(Text::ServiceVersion);
        let key = record.keep(b"version");
        record.add_attribute(payload, key, Value { text: version, kind: AttributeType::Text });
    }
    let level = record.text_bytes(payload, Text::SeverityText).and_then(value::integer);
    if let Some(level @ 0..=7) = level {
        record.set_int(Int::SeverityNumber, severity::number_of_syslog(level as u8));
    }
}

/// Where an OTLP attribute stands: what it may mean follows from that. Times, kinds and metric values have fields of
/// their own in OTLP, so that an attribute of such a name is only an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The resource.
    Resource,
    /// A log record.
    LogRecord,
    /// A data point of a metric.
    DataPoint,
    /// Scopes and the like, whose attributes fill no slots.
    Other,
}

impl Place {
    fn takes(self, found: Target) -> bool {
        use Text::{Environment, Host, Message, MetricName, Region, Service, ServiceVersion, Unit};
        match (self, found) {
            (Self::Resource | Self::DataPoint, Target::Text(slot)) => {
                matches!(slot, Environment | Host | Region | Service | ServiceVersion)
            }
            (Self::LogRecord, Target::Text(slot)) => !matches!(slot, Message | MetricName | Unit),
            (
                Self::LogRecord,
                Target::Int(_) | Target::Size(_) | Target::Duration(_) | Target::Severity | Target::GoogleSeverity,
            ) => true,
            _ => false,
        }
    }
}

/// Puts an OTLP attribute where it belongs. Its type was given, so that words such as `none` stay what they are.
pub(crate) fn assign_typed(record: &mut Record, payload: &[u8], place: Place, key_span: Span, value: Value) {
    let key = record.bytes(payload, key_span);
    let found = target(key).filter(|found| place.takes(*found) && key != SEGMENT);
    let says_nothing = value.kind == AttributeType::Null || value::is_null_word(record.bytes(payload, value.text));
    let field = Field { key: key_span, value, at: 0 };
    let fit = match found {
        Some(found) if !says_nothing => fill(record, payload, found, value, 0),
        _ => Fit::NotTaken,
    };
    match (fit, found) {
        (Fit::Taken, Some(found)) => keep_what_is_lost(record, payload, found, field),
        // Only a severity may be doubtful here, and a word of the sender's own is one.
        (Fit::Doubtful, _) => record.set_text(Text::SeverityText, value.text),
        _ if place == Place::Resource => record.add_resource(payload, key_span, value),
        _ => record.add_attribute(payload, key_span, value),
    }
}

/// Derives the severity number of a record that has only a severity text.
pub(crate) fn derive_severity_number(record: &mut Record, payload: &[u8]) {
    if let Some(text) = record.text(Text::SeverityText) {
        let number = severity_number(record.bytes(payload, text));
        set_if_free(record, Int::SeverityNumber, number);
    }
}

fn severity_number(text: &[u8]) -> Option<i64> {
    match value::whole_number(text) {
        Some(level) => severity::number_of_level(level),
        None => severity::number_of_word(text.trim_ascii()),
    }
}

fn as_null_if_null_word(record: &Record, payload: &[u8], value: Value) -> Value {
    if value.kind == AttributeType::Text
        && value.text.len() <= 9
        && value::is_null_word(record.bytes(payload, value.text))
    {
        return Value { text: value.text, kind: AttributeType::Null };
    }
    value
}

/// Whether the slot took the value. A null fills every slot in the sense that there is nothing left to keep.
fn fill(record: &mut Record, payload: &[u8], found: Target, value: Value, receive_time: i64) -> Fit {
    if value.kind == AttributeType::Null {
        return Fit::when(!matches!(found, Target::MetricType | Target::Kind));
    }
    let is_scalar = matches!(value.kind, AttributeType::Text | AttributeType::Integer | AttributeType::Float);
    if !is_scalar {
        return Fit::when(fill_from_other(record, payload, found, value));
    }
    let bytes = record.bytes(payload, value.text);
    Fit::when(match found {
        Target::Text(slot) => fill_text(record, payload, slot, value),
        Target::Int(slot) => {
            let number = value::whole_number(bytes).filter(|&number| i32::try_from(number).is_ok());
            set_if_free(record, slot, number)
        }
        Target::Size(slot) => set_if_free(record, slot, value::size_bytes(bytes)),
        Target::Duration(unit) => set_if_free(record, Int::DurationUs, value::duration_micros(bytes, unit)),
        Target::Time(slot) => return fill_time(record, payload, slot, value, receive_time),
        Target::MaybeTime(slot) => fill_time(record, payload, slot, value, receive_time) == Fit::Taken,
        Target::Severity | Target::GoogleSeverity => return fill_severity(record, payload, found, value),
        Target::SeverityNumber => {
            let number = value::whole_number(bytes).filter(|number| (1..=24).contains(number));
            fill_severity_number(record, number)
        }
        Target::MetricValue => fill_metric_value(record, payload, value),
        Target::MetricType => {
            let is_type = matches!(bytes, b"gauge" | b"sum" | b"counter");
            is_type && fill_text(record, payload, Text::MetricType, value)
        }
        Target::TraceSampled => false,
        Target::Kind => {
            let kind = match bytes {
                b"log" => Some(KIND_SLOT_LOG),
                b"metric" => Some(KIND_SLOT_METRIC),
                b"activity" => Some(KIND_SLOT_ACTIVITY),
                _ => None,
            };
            kind.is_some_and(|kind| {
                record.claimed_kind = Some(kind);
                true
            })
        }
    })
}

/// Booleans and JSON fit only the message, which may be of any type, and a truth value the flags of a trace.
fn fill_from_other(record: &mut Record, payload: &[u8], found: Target, value: Value) -> bool {
    if found == Target::TraceSampled && value.kind == AttributeType::Bool {
        let is_sampled = record.bytes(payload, value.text) == b"true";
        return set_if_free(record, Int::TraceFlags, Some(i64::from(is_sampled)));
    }
    let fits = found == Target::Text(Text::Message) && record.text(Text::Message).is_none();
    if fits {
        record.set_text(Text::Message, value.text);
        record.set_text_copy(Text::MessageType, &[value.kind.letter()]);
    }
    fits
}

fn set_if_free(record: &mut Record, slot: Int, value: Option<i64>) -> bool {
    match value {
        Some(value) if record.int(slot).is_none() => {
            record.set_int(slot, value);
            true
        }
        _ => false,
    }
}

fn fill_text(record: &mut Record, payload: &[u8], slot: Text, value: Value) -> bool {
    if record.text(slot).is_some() {
        return false;
    }
    let span = match slot {
        Text::TraceId | Text::SpanId => match hex_id(record, payload, value.text) {
            Some(span) => span,
            None => return false,
        },
        _ => value.text,
    };
    if slot == Text::Message && value.kind != AttributeType::Text {
        record.set_text_copy(Text::MessageType, &[value.kind.letter()]);
    }
    record.set_text(slot, span);
    true
}

/// A trace or span id in lower case; Google writes it at the end of `projects/…/traces/`.
fn hex_id(record: &mut Record, payload: &[u8], text: Span) -> Option<Span> {
    let bytes = record.bytes(payload, text);
    let front = memchr::memrchr(b'/', bytes).map_or(0, |slash| slash + 1);
    let id = &bytes[front..];
    if !matches!(id.len(), 16 | 32) || !id.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    if id.iter().any(u8::is_ascii_uppercase) {
        let lower = id.to_ascii_lowercase();
        return Some(record.keep(&lower));
    }
    Some(text.trimmed(front, 0))
}

/// The time that a value says, and whether it was a bare number.
fn read_time(record: &Record, payload: &[u8], value: Value, receive_time: i64) -> Option<(ExactTime, bool)> {
    let bytes = record.bytes(payload, value.text);
    if value.kind == AttributeType::Text
        && let Some(time) = time::parse_calendar(bytes, receive_time)
    {
        return Some((time, false));
    }
    time::of_epoch_number(bytes.trim_ascii()).map(|time| (time, true))
}

fn fill_time(record: &mut Record, payload: &[u8], slot: Time, value: Value, receive_time: i64) -> Fit {
    if record.time(slot).is_some() {
        return Fit::NotTaken;
    }
    match read_time(record, payload, value, receive_time) {
        Some((time, is_number)) if !is_number || time.is_plausible_epoch() => {
            set_time(record, slot, time);
            Fit::Taken
        }
        _ => Fit::Doubtful,
    }
}

/// Sets a time; nanoseconds below its microsecond are kept beside it.
pub(crate) fn set_time(record: &mut Record, slot: Time, time: ExactTime) {
    record.set_time(slot, time.micros);
    if time.nanos != 0 {
        let beside = match slot {
            Time::Event => Int::EventTimeNanos,
            Time::Observed => Int::ObservedTimeNanos,
            Time::Start => Int::StartTimeNanos,
        };
        record.set_int(beside, time.nanos);
    }
}

fn fill_severity(record: &mut Record, payload: &[u8], found: Target, value: Value) -> Fit {
    if record.text(Text::SeverityText).is_some() {
        return Fit::NotTaken;
    }
    let bytes = record.bytes(payload, value.text);
    let of_google = || value::integer(bytes).and_then(severity::number_of_google);
    let number = severity_number(bytes).or_else(|| (found == Target::GoogleSeverity).then(of_google).flatten());
    if number.is_none() {
        return Fit::Doubtful;
    }
    record.set_text(Text::SeverityText, value.text);
    record.traits.is_severity_derived |= set_if_free(record, Int::SeverityNumber, number);
    Fit::Taken
}

/// A number that is said outright goes before one that a severity's text implies.
fn fill_severity_number(record: &mut Record, number: Option<i64>) -> bool {
    match number {
        Some(number) if record.traits.is_severity_derived => {
            record.traits.is_severity_derived = false;
            record.set_int(Int::SeverityNumber, number);
            true
        }
        _ => set_if_free(record, Int::SeverityNumber, number),
    }
}

fn fill_metric_value(record: &mut Record, payload: &[u8], value: Value) -> bool {
    if record.float(Float::Value).is_some() {
        return false;
    }
    let bytes = record.bytes(payload, value.text);
    let Some(number) = value::float(bytes) else {
        return false;
    };
    let whole = value::integer(bytes);
    record.metric_value = Some(value);
    record.set_float(Float::Value, number);
    if let Some(whole) = whole {
        record.set_int(Int::ValueInt, whole);
    }
    true
}

#[cfg(test)]
mod tests;
