//! Finding the records of an OTLP request, and what surrounds each of them.
//!
//! For: splitting `ExportLogsServiceRequest` and `ExportMetricsServiceRequest`, as protobuf or JSON, into log records and
//! data points without decoding them, and putting chosen records back into a request. Not for: what a record says
//! ([`crate::parse_otlp`]). Both kinds have one shape: resources → scopes → records, or → metrics → data → points. An
//! enclosing message "without its children" is the list of its other fields (members); joined they are such a message.
//! Work is linear in the body; what is copied for each record is bounded by [`EXPANDED_BYTES_MAX`].

use std::ops::Range;
use std::sync::Arc;

use crate::batch::{Context, Format, MetricKind, RecordSpan, SplitError, element_end};
use crate::defect::Defect;
use crate::otlp_wire::{self, Reader, WireError};
use crate::parse_json::{Cursor, unescape};

/// Most bytes that the contexts of one body may come to when each record repeats its own: rows and lake objects do.
pub(crate) const EXPANDED_BYTES_MAX: usize = 256 << 20;

/// The field that leads from a message to the messages inside it.
struct Level {
    number: u32,
    json_name: &'static [u8],
    json_name_snake: &'static [u8],
}

const fn level(number: u32, json_name: &'static [u8], json_name_snake: &'static [u8]) -> Level {
    Level { number, json_name, json_name_snake }
}

const LOG_LEVELS: [Level; 3] = [
    level(1, b"resourceLogs", b"resource_logs"),
    level(2, b"scopeLogs", b"scope_logs"),
    level(2, b"logRecords", b"log_records"),
];
const METRIC_LEVELS: [Level; 3] = [
    level(1, b"resourceMetrics", b"resource_metrics"),
    level(2, b"scopeMetrics", b"scope_metrics"),
    level(2, b"metrics", b"metrics"),
];
const POINTS: Level = level(1, b"dataPoints", b"data_points");

/// The records of an OTLP body.
pub(crate) fn split(format: Format, body: &[u8]) -> Result<Vec<RecordSpan>, SplitError> {
    let (levels, is_metrics) = match format {
        Format::OtlpMetrics | Format::OtlpMetricsJson => (&METRIC_LEVELS, true),
        _ => (&LOG_LEVELS, false),
    };
    let fail = |error: WireError| SplitError::Syntax {
        format: format.name(),
        problem: error.problem.to_owned(),
        byte_offset: error.at,
    };
    let mut walk = Walk { body, levels, is_metrics, spans: Vec::new(), expanded: 0 };
    match format {
        Format::OtlpLogs | Format::OtlpMetrics => walk.all::<Protobuf>(),
        _ => walk.all::<Json>(),
    }
    .map_err(fail)?;
    Ok(walk.spans)
}

/// A message taken apart: its children of one kind, and the rest.
#[derive(Default)]
struct Parts {
    children: Vec<Range<usize>>,
    rest: Vec<Range<usize>>,
}

/// A metric taken apart: its data by kind, and the rest.
type MetricParts = (Vec<(MetricKind, Range<usize>)>, Vec<Range<usize>>);

trait Encoding {
    /// Takes a message apart by the field that leads on.
    fn parts(body: &[u8], message: Range<usize>, level: &Level) -> Result<Parts, WireError>;
    /// Takes a metric apart: its data by kind, and the rest.
    fn data(body: &[u8], metric: Range<usize>) -> Result<MetricParts, WireError>;
}

struct Walk<'a> {
    body: &'a [u8],
    levels: &'static [Level; 3],
    is_metrics: bool,
    spans: Vec<RecordSpan>,
    expanded: usize,
}

impl Walk<'_> {
    fn all<E: Encoding>(&mut self) -> Result<(), WireError> {
        let [resources, scopes, records] = self.levels;
        for resource in E::parts(self.body, 0..self.body.len(), resources)?.children {
            let resource = E::parts(self.body, resource, scopes)?;
            for scope in resource.children {
                let scope = E::parts(self.body, scope, records)?;
                let context = Context { resource: resource.rest.clone(), scope: scope.rest, ..Context::default() };
                if self.is_metrics {
                    for metric in scope.children {
                        self.points::<E>(metric, &context)?;
                    }
                } else {
                    self.push(scope.children, context)?;
                }
            }
        }
        Ok(())
    }

    fn points<E: Encoding>(&mut self, metric: Range<usize>, around: &Context) -> Result<(), WireError> {
        let (data, rest) = E::data(self.body, metric)?;
        for (kind, message) in data {
            let parts = E::parts(self.body, message, &POINTS)?;
            let context = Context { metric: rest.clone(), data: parts.rest, metric_kind: Some(kind), ..around.clone() };
            self.push(parts.children, context)?;
        }
        Ok(())
    }

    fn push(&mut self, records: Vec<Range<usize>>, context: Context) -> Result<(), WireError> {
        let context_bytes = context.len();
        self.expanded = self.expanded.saturating_add(context_bytes.saturating_mul(records.len()));
        if self.expanded > EXPANDED_BYTES_MAX {
            let at = records.first().map_or(0, |record| record.start);
            let problem = "resources and scopes are too large to repeat for each record; send smaller requests";
            return Err(WireError { problem, at });
        }
        let context = Arc::new(context);
        let spans = records.into_iter().map(|record| RecordSpan { record, context: Some(Arc::clone(&context)) });
        self.spans.extend(spans);
        Ok(())
    }
}

struct Protobuf;

impl Encoding for Protobuf {
    fn parts(body: &[u8], message: Range<usize>, level: &Level) -> Result<Parts, WireError> {
        let mut reader = Reader::new(body, message);
        let mut parts = Parts::default();
        while let Some(field) = reader.next()? {
            if field.number == level.number {
                parts.children.push(field.bytes()?);
            } else {
                add_range(&mut parts.rest, field.whole);
            }
        }
        Ok(parts)
    }

    fn data(body: &[u8], metric: Range<usize>) -> Result<MetricParts, WireError> {
        let mut reader = Reader::new(body, metric);
        let (mut data, mut rest) = (Vec::new(), Vec::new());
        while let Some(field) = reader.next()? {
            match MetricKind::ALL.into_iter().find(|kind| kind.field_number() == field.number) {
                Some(kind) => data.push((kind, field.bytes()?)),
                None => add_range(&mut rest, field.whole),
            }
        }
        Ok((data, rest))
    }
}

/// Adds a field; fields that touch become one range.
fn add_range(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

struct Json;

impl Encoding for Json {
    fn parts(body: &[u8], message: Range<usize>, level: &Level) -> Result<Parts, WireError> {
        let mut parts = Parts::default();
        members(body, message, |key, member, value| {
            if key == level.json_name || key == level.json_name_snake {
                elements(body, value, &mut parts.children)?;
            } else {
                parts.rest.push(member);
            }
            Ok(())
        })?;
        Ok(parts)
    }

    fn data(body: &[u8], metric: Range<usize>) -> Result<MetricParts, WireError> {
        let (mut data, mut rest) = (Vec::new(), Vec::new());
        members(body, metric, |key, member, value| {
            match MetricKind::ALL.into_iter().find(|kind| kind.json_names().contains(&key)) {
                Some(_) if &body[value.clone()] == b"null" => {}
                Some(kind) => data.push((kind, value)),
                None => rest.push(member),
            }
            Ok(())
        })?;
        Ok((data, rest))
    }
}

fn broken(defect: Defect) -> WireError {
    WireError { problem: "the JSON around the records is broken", at: defect.byte_offset.unwrap_or(0) }
}

/// Calls `each` with key, member and value of every member of the object that fills `range`.
fn members(
    body: &[u8],
    range: Range<usize>,
    mut each: impl FnMut(&[u8], Range<usize>, Range<usize>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut cursor = Cursor { text: &body[..range.end], at: range.start };
    cursor.skip_space();
    if !cursor.eat(b'{') {
        return Err(broken(cursor.unexpected()));
    }
    cursor.skip_space();
    let mut is_first = true;
    while !cursor.eat(b'}') {
        if !is_first && !cursor.eat(b',') {
            return Err(broken(cursor.unexpected()));
        }
        is_first = false;
        cursor.skip_space();
        let start = cursor.at;
        if cursor.peek() != Some(b'"') {
            return Err(broken(cursor.unexpected()));
        }
        let (key_end, has_escapes) = cursor.skip_string().map_err(broken)?;
        let mut key = Vec::new();
        let raw = &body[start + 1..key_end];
        if has_escapes {
            unescape(raw, &mut key).map_err(|at| WireError { problem: "bad escape sequence", at: start + at })?;
        } else {
            key.extend_from_slice(raw);
        }
        cursor.skip_space();
        if !cursor.eat(b':') {
            return Err(broken(cursor.unexpected()));
        }
        cursor.skip_space();
        let value_start = cursor.at;
        skip(&mut cursor)?;
        each(&key, start..cursor.at, value_start..cursor.at)?;
        cursor.skip_space();
    }
    cursor.skip_space();
    if cursor.at == range.end { Ok(()) } else { Err(broken(cursor.unexpected())) }
}

/// Skips a value; objects and arrays by their brackets alone, so that a broken record is no broken request.
fn skip(cursor: &mut Cursor<'_>) -> Result<(), WireError> {
    if matches!(cursor.peek(), Some(b'{' | b'[')) {
        cursor.at = element_end(cursor.text, cursor.at);
        return Ok(());
    }
    cursor.skip_value(1).map_err(broken)
}

/// The elements of the array that fills `range`; null stands for an empty one.
fn elements(body: &[u8], range: Range<usize>, out: &mut Vec<Range<usize>>) -> Result<(), WireError> {
    if &body[range.clone()] == b"null" {
        return Ok(());
    }
    let mut cursor = Cursor { text: &body[..range.end], at: range.start };
    if !cursor.eat(b'[') {
        return Err(broken(cursor.unexpected()));
    }
    cursor.skip_space();
    let mut is_first = true;
    while !cursor.eat(b']') {
        if !is_first && !cursor.eat(b',') {
            return Err(broken(cursor.unexpected()));
        }
        is_first = false;
        cursor.skip_space();
        let start = cursor.at;
        skip(&mut cursor)?;
        out.push(start..cursor.at);
        cursor.skip_space();
    }
    if cursor.at == range.end { Ok(()) } else { Err(broken(cursor.unexpected())) }
}

/// A request that holds the given records of a body, in their order and each in its context.
pub(crate) fn request_of(format: Format, body: &[u8], spans: &[RecordSpan]) -> Vec<u8> {
    let is_json = matches!(format, Format::OtlpLogsJson | Format::OtlpMetricsJson);
    let is_metrics = matches!(format, Format::OtlpMetrics | Format::OtlpMetricsJson);
    let levels = if is_metrics { &METRIC_LEVELS } else { &LOG_LEVELS };
    let mut resources = Vec::new();
    for group in spans.chunk_by(|one, other| one.context == other.context) {
        let Some(context) = &group[0].context else { continue };
        let records = group.iter().map(|span| span.record.clone());
        let scope = match context.metric_kind {
            Some(kind) => {
                let data = enclose(is_json, body, &context.data, &POINTS, records.map(|record| body[record].to_vec()));
                let metric = if is_json {
                    let member = [b"\"", kind.json_names()[0], b"\":", &data[..]].concat();
                    json_object(body, &context.metric, Some(&member))
                } else {
                    let mut metric = joined(body, &context.metric);
                    otlp_wire::write_bytes_field(&mut metric, kind.field_number(), &data);
                    metric
                };
                enclose(is_json, body, &context.scope, &levels[2], std::iter::once(metric))
            }
            None => enclose(is_json, body, &context.scope, &levels[2], records.map(|record| body[record].to_vec())),
        };
        resources.push(enclose(is_json, body, &context.resource, &levels[1], std::iter::once(scope)));
    }
    enclose(is_json, body, &[], &levels[0], resources.into_iter())
}

/// A message of the given fields (members) and children.
fn enclose(
    is_json: bool,
    body: &[u8],
    rest: &[Range<usize>],
    level: &Level,
    children: impl Iterator<Item = Vec<u8>>,
) -> Vec<u8> {
    if is_json {
        let list = children.collect::<Vec<_>>().join(&b',');
        let member = [b"\"", level.json_name, b"\":[", &list[..], b"]"].concat();
        return json_object(body, rest, Some(&member));
    }
    let mut message = joined(body, rest);
    children.for_each(|child| otlp_wire::write_bytes_field(&mut message, level.number, &child));
    message
}

/// The fields of a message, joined.
fn joined(body: &[u8], ranges: &[Range<usize>]) -> Vec<u8> {
    ranges.iter().flat_map(|range| &body[range.clone()]).copied().collect()
}

/// The object of the given members.
fn json_object(body: &[u8], members: &[Range<usize>], last: Option<&[u8]>) -> Vec<u8> {
    let members = members.iter().map(|range| &body[range.clone()]).chain(last).collect::<Vec<_>>();
    [b"{", &members.join(&b',')[..], b"}"].concat()
}

impl Context {
    /// Bytes of all its parts.
    fn len(&self) -> usize {
        [&self.resource, &self.scope, &self.metric, &self.data].into_iter().flatten().map(ExactSizeIterator::len).sum()
    }

    /// An enclosing message without its children, as the format writes it.
    pub(crate) fn message(format: Format, body: &[u8], ranges: &[Range<usize>]) -> Vec<u8> {
        match format {
            Format::OtlpLogsJson | Format::OtlpMetricsJson => json_object(body, ranges, None),
            _ => joined(body, ranges),
        }
    }

    /// The fields or members of such a message; `None` when it is broken.
    pub(crate) fn fields(format: Format, body: &[u8], message: Range<usize>) -> Option<Vec<Range<usize>>> {
        let mut found = Vec::new();
        if format.is_otlp_json() {
            let push = |_: &[u8], member, _| {
                found.push(member);
                Ok(())
            };
            members(body, message, push).ok()?;
        } else {
            let mut reader = Reader::new(body, message);
            while let Some(field) = reader.next().ok()? {
                found.push(field.whole);
            }
        }
        Some(found)
    }
}
