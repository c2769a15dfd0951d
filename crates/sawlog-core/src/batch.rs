//! Raw batches and how they are split into records.
//!
//! For: finding where each record of a body starts and ends, for every input format, before anything is decoded.
//! Not for: checking records (the parsers). Splitting is part of the contract: the same body always gives the same
//! records with the same indices, so that a row can name its raw record.

use std::ops::Range;
use std::sync::Arc;

use crate::limits::{MESSAGE_BYTES_MAX, RECORD_BYTES_MAX};
use crate::{otlp_split, pubsub};

/// Input format of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JSON objects, one a line, or one array of them.
    Json,
    /// Apache and nginx access lines, combined or common.
    Access,
    /// Syslog messages, one a line (RFC 5424 and RFC 3164).
    Syslog,
    /// Any other lines of text.
    Text,
    /// Lines of `key=value` pairs.
    Logfmt,
    /// OTLP logs, protobuf.
    OtlpLogs,
    /// OTLP metrics, protobuf.
    OtlpMetrics,
    /// OTLP logs, JSON.
    OtlpLogsJson,
    /// OTLP metrics, JSON.
    OtlpMetricsJson,
    /// Messages of Google Cloud Pub/Sub ([`crate::pubsub`]).
    Pubsub,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 10] = [
        Self::Json,
        Self::Access,
        Self::Syslog,
        Self::Text,
        Self::Logfmt,
        Self::OtlpLogs,
        Self::OtlpMetrics,
        Self::OtlpLogsJson,
        Self::OtlpMetricsJson,
        Self::Pubsub,
    ];

    /// The format in the `format` column and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Access => "access",
            Self::Syslog => "syslog",
            Self::Text => "text",
            Self::Logfmt => "logfmt",
            Self::OtlpLogs => "otlp-logs",
            Self::OtlpMetrics => "otlp-metrics",
            Self::OtlpLogsJson => "otlp-logs-json",
            Self::OtlpMetricsJson => "otlp-metrics-json",
            Self::Pubsub => "pubsub",
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether records are lines.
    #[must_use]
    pub const fn is_lines(self) -> bool {
        matches!(self, Self::Json | Self::Access | Self::Syslog | Self::Text | Self::Logfmt)
    }

    /// Whether it is OTLP in JSON.
    pub(crate) const fn is_otlp_json(self) -> bool {
        matches!(self, Self::OtlpLogsJson | Self::OtlpMetricsJson)
    }
}

/// Accepted event times, relative to the receive time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgeLimits {
    /// How old a record may be; `None` for no limit.
    pub past: Option<i64>,
    /// How far its clock may run ahead.
    pub future: i64,
    /// Whether it is history: loaded later than it happened, so that none of it is late and it moves no watermark.
    pub is_history: bool,
}

const DAY: i64 = 86_400_000_000;

impl Default for AgeLimits {
    /// 400 days back, one day ahead.
    fn default() -> Self {
        Self { past: Some(400 * DAY), future: DAY, is_history: false }
    }
}

impl AgeLimits {
    /// No lower bound, and history: for files that a person gives.
    #[must_use]
    pub const fn any_past() -> Self {
        Self { past: None, future: DAY, is_history: true }
    }

    /// Whether an event time is acceptable. Years before 1 and after 9999 never are.
    #[must_use]
    pub const fn accept(self, event_time: i64, receive_time: i64) -> bool {
        const YEAR_1: i64 = -62_135_596_800_000_000;
        const YEAR_10000: i64 = 253_402_300_800_000_000;
        if event_time < YEAR_1 || event_time >= YEAR_10000 {
            return false;
        }
        let is_old = match self.past {
            Some(past) => event_time < receive_time.saturating_sub(past),
            None => false,
        };
        !is_old && event_time <= receive_time.saturating_add(self.future)
    }
}

/// A body as received, with what is known about it.
#[derive(Clone, Copy, Debug)]
pub struct RawBatch<'a> {
    /// Id of the batch, unique in the deployment.
    pub batch_id: &'a str,
    /// Name of the source that delivered it.
    pub source: &'a str,
    /// File that it was read from, if it was.
    pub file: Option<&'a str>,
    /// Format of the body.
    pub format: Format,
    /// Whether the sender declared the format. If it was guessed, a line that does not fit is read as text.
    pub is_declared: bool,
    /// When it was received, UTC microseconds.
    pub receive_time: i64,
    /// Accepted event times.
    pub age: AgeLimits,
    /// The records.
    pub body: &'a [u8],
}

/// Place of one record in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSpan {
    /// The record itself.
    pub record: Range<usize>,
    /// For OTLP: what is around it. Neighbours share it.
    pub context: Option<Arc<Context>>,
}

/// What surrounds an OTLP record: the enclosing messages, each without its children (the scopes of a resource, the
/// records of a scope, the data of a metric). Each is a list of ranges of the body. In protobuf a range holds whole
/// fields, and the ranges joined are a message; in JSON a range is one member of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// `ResourceLogs` or `ResourceMetrics`: the resource and its schema URL.
    pub resource: Vec<Range<usize>>,
    /// `ScopeLogs` or `ScopeMetrics`: the scope and its schema URL.
    pub scope: Vec<Range<usize>>,
    /// `Metric`: name, description, unit and metadata; empty for logs.
    pub metric: Vec<Range<usize>>,
    /// `Gauge`, `Sum` and the like: temporality and monotonicity; empty for logs.
    pub data: Vec<Range<usize>>,
    /// Which of them it is; `None` for logs.
    pub metric_kind: Option<MetricKind>,
    /// Of a message of which several records were stored: the place of the one that is read back, from 0. `None` where the
    /// neighbours tell.
    pub place: Option<u32>,
}

/// Kind of an OTLP metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A value at a time.
    Gauge,
    /// A sum over time.
    Sum,
    /// A histogram with explicit bounds.
    Histogram,
    /// A histogram with exponential buckets.
    ExponentialHistogram,
    /// Quantiles that the sender computed.
    Summary,
}

impl MetricKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Gauge, Self::Sum, Self::Histogram, Self::ExponentialHistogram, Self::Summary];

    /// The kind in the `metric_type` column.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Sum => "sum",
            Self::Histogram => "histogram",
            Self::ExponentialHistogram => "exponential_histogram",
            Self::Summary => "summary",
        }
    }

    /// The field of OTLP's `Metric` that holds data of this kind.
    #[must_use]
    pub const fn field_number(self) -> u32 {
        match self {
            Self::Gauge => 5,
            Self::Sum => 7,
            Self::Histogram => 9,
            Self::ExponentialHistogram => 10,
            Self::Summary => 11,
        }
    }

    /// The member of the JSON object, in camel and in snake case.
    pub(crate) const fn json_names(self) -> [&'static [u8]; 2] {
        match self {
            Self::ExponentialHistogram => [b"exponentialHistogram", b"exponential_histogram"],
            _ => [self.name().as_bytes(), self.name().as_bytes()],
        }
    }
}

/// Why a body cannot be split.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SplitError {
    /// The framing itself is broken.
    #[error("the body is not valid {format}: {problem} (at byte {byte_offset})")]
    Syntax {
        /// Format that was expected.
        format: &'static str,
        /// What is wrong.
        problem: String,
        /// Where.
        byte_offset: usize,
    },
}

/// The records of a body. Empty lines are no records.
///
/// # Errors
/// When the framing of a body of OTLP or of messages is broken; line formats and JSON arrays can always be split.
pub fn split(format: Format, body: &[u8]) -> Result<Vec<RecordSpan>, SplitError> {
    let ranges = match format {
        Format::Json => match body.iter().position(|byte| !byte.is_ascii_whitespace()) {
            Some(start) if body[start] == b'[' => array_elements(body, start + 1),
            _ => lines(body),
        },
        Format::OtlpLogs | Format::OtlpMetrics | Format::OtlpLogsJson | Format::OtlpMetricsJson => {
            return otlp_split::split(format, body);
        }
        Format::Pubsub => return pubsub::split(body),
        Format::Access | Format::Syslog | Format::Text | Format::Logfmt => lines(body),
    };
    Ok(ranges.into_iter().map(|record| RecordSpan { record, context: None }).collect())
}

/// Whether a record is over its limit and must be refused.
#[must_use]
pub fn is_oversize(format: Format, span: &RecordSpan) -> bool {
    let bytes_max = if format == Format::Pubsub { MESSAGE_BYTES_MAX } else { RECORD_BYTES_MAX };
    span.record.len() > bytes_max
}

/// A body that holds the given records of a body and nothing else, each in its context.
#[must_use]
pub fn body_of(format: Format, body: &[u8], spans: &[RecordSpan]) -> Vec<u8> {
    let records = spans.iter().map(|span| &body[span.record.clone()]);
    match format {
        Format::OtlpLogs | Format::OtlpMetrics | Format::OtlpLogsJson | Format::OtlpMetricsJson => {
            otlp_split::request_of(format, body, spans)
        }
        Format::Pubsub => pubsub::body_of(body, spans),
        // Elements of an array may stretch over lines. The end stays open, since the last element may be broken.
        Format::Json if body.trim_ascii_start().first() == Some(&b'[') => {
            [&b"["[..], &records.collect::<Vec<_>>().join(&b',')].concat()
        }
        Format::Json | Format::Access | Format::Syslog | Format::Text | Format::Logfmt => {
            records.collect::<Vec<_>>().join(&b'\n')
        }
    }
}

/// The context of a record as the lake keeps it ([`crate::schema::lake_schema`]). `place`: [`Context::place`].
pub(crate) fn context_bytes(format: Format, body: &[u8], context: &Context, place: Option<u32>) -> Vec<u8> {
    let mut out = vec![context.metric_kind.map_or(0, |kind| kind.field_number() as u8)];
    let mut write = |part: &[u8]| {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        out.extend_from_slice(part);
    };
    write(&Context::message(format, body, &context.resource));
    match (format, place) {
        (Format::Pubsub, Some(place)) => write(&place.to_le_bytes()),
        (Format::Pubsub, None) => write(b""),
        _ => write(&Context::message(format, body, &context.scope)),
    }
    if context.metric_kind.is_some() {
        write(&Context::message(format, body, &context.metric));
        write(&Context::message(format, body, &context.data));
    }
    out
}

/// Reads what [`context_bytes`] wrote; what its ranges are of is appended to `body`. `None` when the bytes are none.
pub(crate) fn read_context(format: Format, bytes: &[u8], body: &mut Vec<u8>) -> Option<Context> {
    let (&kind, mut rest) = bytes.split_first()?;
    let metric_kind = match kind {
        0 => None,
        kind => Some(MetricKind::ALL.into_iter().find(|known| known.field_number() == u32::from(kind))?),
    };
    let mut part = || {
        let (len, tail) = rest.split_first_chunk::<4>()?;
        let (part, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        rest = tail;
        Some(part)
    };
    let mut fields = |part: &[u8]| {
        let start = body.len();
        body.extend_from_slice(part);
        Context::fields(format, body, start..body.len())
    };
    let mut context = Context { metric_kind, resource: fields(part()?)?, ..Context::default() };
    let second = part()?;
    match format {
        Format::Pubsub if second.is_empty() => {}
        Format::Pubsub => context.place = Some(u32::from_le_bytes(second.try_into().ok()?)),
        _ => context.scope = fields(second)?,
    }
    if metric_kind.is_some() {
        (context.metric, context.data) = (fields(part()?)?, fields(part()?)?);
    }
    rest.is_empty().then_some(context)
}

/// The records of a text of a line format that has a frame of its own around it: JSON objects may stretch over lines.
pub(crate) fn records(format: Format, text: &[u8]) -> Vec<Range<usize>> {
    match text.iter().position(|byte| !byte.is_ascii_whitespace()) {
        Some(start) if format == Format::Json && text[start] == b'[' => array_elements(text, start + 1),
        Some(_) if format == Format::Json => objects(text),
        _ => lines(text),
    }
}

/// JSON objects one after the other. What is none, or has no end, goes to the end of its line.
fn objects(text: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(ahead) = text[at..].iter().position(|byte| !byte.is_ascii_whitespace()) {
        at += ahead;
        let line_end = || memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |line| at + line);
        let object_end = (text[at] == b'{').then(|| object_end(text, at)).flatten();
        let end = object_end.unwrap_or_else(line_end);
        ranges.push(at..end);
        at = end;
    }
    ranges
}

/// Where the brackets of an object that starts there are closed.
fn object_end(text: &[u8], start: usize) -> Option<usize> {
    let (mut depth, mut at) = (0usize, start);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while let Some(ahead) = memchr::memchr2(b'"', b'\\', text.get(at..)?) {
                    at += ahead;
                    if text[at] == b'"' {
                        break;
                    }
                    at += 2;
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn lines(body: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::with_capacity(body.len() / 256 + 1);
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', body).chain(std::iter::once(body.len()));
    for end in ends {
        let line_end = if end > start && body[end - 1] == b'\r' { end - 1 } else { end };
        let is_blank = body[start..line_end].iter().all(u8::is_ascii_whitespace);
        if !is_blank {
            ranges.push(start..line_end);
        }
        start = end + 1;
    }
    ranges
}

/// Elements of an array, found by their brackets alone, so that one broken element leaves its neighbours whole. What
/// cannot be separated any more is one last element.
fn array_elements(body: &[u8], start: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::with_capacity(body.len() / 256 + 1);
    let mut at = start;
    loop {
        while body.get(at).is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b',') {
            at += 1;
        }
        match body.get(at) {
            // The array has no end: a record without content stands for what was cut off.
            None => {
                ranges.push(body.len()..body.len());
                return ranges;
            }
            Some(b']') => {
                let rest = body[at + 1..].trim_ascii();
                if !rest.is_empty() {
                    ranges.push(at + 1..body.len());
                }
                return ranges;
            }
            Some(_) => {
                let end = element_end(body, at);
                ranges.push(at..end);
                at = end;
            }
        }
    }
}

/// End of the element that starts at `start`: its matching bracket, or the next comma or `]`.
pub(crate) fn element_end(body: &[u8], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while let Some(&byte) = body.get(at) {
        match byte {
            b'"' => {
                at += 1;
                loop {
                    match memchr::memchr2(b'"', b'\\', &body[at.min(body.len())..]) {
                        None => return body.len(),
                        Some(ahead) if body[at + ahead] == b'"' => {
                            at += ahead;
                            break;
                        }
                        Some(ahead) => at += ahead + 2,
                    }
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b']' if depth == 0 => return at.max(start + 1),
            _ => {}
        }
        at += 1;
    }
    body.len()
}

/// Guesses the format of a file from its first lines.
#[must_use]
pub fn detect(sample: &[u8]) -> Format {
    const SAMPLE_LINES_MAX: usize = 50;
    const LOGFMT_PAIRS_MIN: usize = 2;
    let first = sample.iter().position(|byte| !byte.is_ascii_whitespace()).map(|at| sample[at]);
    if first == Some(b'[')
        && sample.iter().skip_while(|byte| **byte != b'[').skip(1).find(|byte| !byte.is_ascii_whitespace())
            == Some(&b'{')
    {
        return Format::Json;
    }
    let found = lines(sample);
    // The last line of a sample may be cut off.
    let whole = if found.len() > 1 { &found[..found.len() - 1] } else { &found[..] };
    let taken = whole.len().min(SAMPLE_LINES_MAX);
    let mut record = crate::record::Record::default();
    let mut fits = |parse: &dyn Fn(&[u8], &mut crate::record::Record) -> bool| {
        let count = whole[..taken]
            .iter()
            .filter(|range| {
                record.reset();
                parse(&sample[(*range).clone()], &mut record)
            })
            .count();
        taken > 0 && count * 10 >= taken * 7
    };
    if fits(&|line, _| line.trim_ascii_start().first() == Some(&b'{')) {
        Format::Json
    } else if fits(&|line, record| crate::parse_access::parse_access(line, 0, record).is_ok()) {
        Format::Access
    } else if fits(&|line, record| {
        looks_like_syslog(line) && crate::parse_syslog::parse_syslog(line, 0, record).is_ok()
    }) {
        Format::Syslog
    } else if fits(&|line, _| crate::parse_logfmt::looks_like_logfmt(line, LOGFMT_PAIRS_MIN)) {
        Format::Logfmt
    } else {
        Format::Text
    }
}

/// A priority in front, a month's name, or a time of RFC 3339 before host and tag: what tells syslog from other lines
/// that start with a time.
fn looks_like_syslog(line: &[u8]) -> bool {
    match line.first() {
        Some(b'<') => true,
        Some(b'0'..=b'9') => crate::parse_syslog::looks_like_rfc3339_syslog(line),
        Some(first) => first.is_ascii_alphabetic() && line.get(3) == Some(&b' '),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(format: Format, body: &str) -> Vec<String> {
        let spans = split(format, body.as_bytes()).expect("lines can be split");
        spans.into_iter().map(|span| body[span.record].to_owned()).collect()
    }

    #[test]
    fn blank_lines_are_no_records_and_carriage_returns_no_part_of_them() {
        assert_eq!(texts(Format::Text, "a\r\n\n  \nb"), ["a", "b"]);
    }

    #[test]
    fn a_broken_element_leaves_its_neighbours_whole() {
        assert_eq!(texts(Format::Json, r#" [{"a":"}]"}, {"b":[1,2}], 7, {"c":1}]"#)[0], r#"{"a":"}]"}"#);
        assert_eq!(texts(Format::Json, r#"[{"a":1},oops,{"c":1}]"#), [r#"{"a":1}"#, "oops", r#"{"c":1}"#]);
        assert_eq!(texts(Format::Json, r#"[{"a":1},{"b":"#), [r#"{"a":1}"#, r#"{"b":"#, ""]);
        assert_eq!(texts(Format::Json, r#"[{"a":1}"#), [r#"{"a":1}"#, ""], "what is cut off shows");
    }

    #[test]
    fn formats_are_told_apart() {
        let access = "1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 12 \"-\" \"curl\"\n";
        assert_eq!(detect(access.repeat(3).as_bytes()), Format::Access);
        assert_eq!(detect(b"{\"a\":1}\n{\"b\""), Format::Json);
        assert_eq!(detect(b"Jun 14 15:16:01 combo sshd[1]: hello\nJun 14 15:16:01 combo x: y\n"), Format::Syslog);
        let debian = "2026-11-24T03:00:00.123456+00:00 vm-1 systemd[1]: Started a unit.\n\
                      2026-11-24T03:00:00.123456+00:00 vm-1 kernel: [    0.0] Linux\n";
        assert_eq!(detect(debian.as_bytes()), Format::Syslog);
        assert_eq!(detect(b"2015-10-18 18:01:47,978 INFO [main] a.b: c\nmore\n"), Format::Text);
        for program in [
            "2026-11-24T03:00:00.123Z INFO server: listening\n",
            "2026-11-24T03:00:00.123Z [main] server: listening\n",
            "2026-11-24T03:00:00.123Z server: listening on 80\n",
            "2026-11-24T03:00:00.123 worker server: listening\n",
        ] {
            assert_eq!(detect(program.repeat(2).as_bytes()), Format::Text, "{program}");
        }
        assert_eq!(detect(b"level=info msg=\"a b\"\nlevel=warn msg=c code=7\nlevel="), Format::Logfmt);
        assert_eq!(detect(b"x=1\nuser root logged in, uid=0 tty=pts\n"), Format::Text);
    }

    #[test]
    fn age_limits_count_from_the_receive_time() {
        let age = AgeLimits::default();
        assert!(age.accept(-400 * DAY, 0) && !age.accept(-400 * DAY - 1, 0));
        assert!(age.accept(DAY, 0) && !age.accept(DAY + 1, 0));
        assert!(AgeLimits::any_past().accept(-50 * 365 * DAY, 0));
    }

    proptest! {
        #[test]
        fn splitting_never_panics_and_never_overlaps(body in proptest::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b','), Just(b'"'), Just(b'\\'), Just(b'\n'), any::<u8>()], 0..200)) {
            for format in [Format::Json, Format::Text] {
                let spans = split(format, &body).expect("lines can be split");
                for pair in spans.windows(2) {
                    prop_assert!(pair[0].record.end <= pair[1].record.start);
                }
                let stands_for_the_end = body.len()..body.len();
                let is_sound = |record: &Range<usize>| !record.is_empty() || *record == stands_for_the_end;
                prop_assert!(spans.iter().all(|span| span.record.end <= body.len() && is_sound(&span.record)));
            }
        }
    }
}
