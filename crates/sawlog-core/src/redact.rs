//! Making text unreadable.
//!
//! For: applying redactions to single texts (on rows) and to whole bodies before they are written (at receive), in every
//! input format: a body keeps its framing, so that what is around a redacted text can still be read. Not for: which
//! rules there are ([`crate::rules`]). Invariant: no match of a pattern is left in a text of the body, nor in a part
//! that is broken, unknown or too deep to be understood.

use std::ops::Range;

use regex::bytes::Regex;

use crate::batch::Format;
use crate::limits::NESTING_MAX;
use crate::otlp_wire::{Reader, Wire, WireError, write_bytes_field};
use crate::parse_json::unescape;
use crate::pubsub;

/// A pattern and what stands in place of its matches.
#[derive(Debug)]
pub(crate) struct Redaction {
    pub(crate) pattern: Regex,
    /// Without quotes, backslashes and line breaks where it applies at receive.
    pub(crate) replace: Vec<u8>,
    /// Whether a match must have the check digit of a payment card.
    pub(crate) is_card: bool,
}

impl Redaction {
    fn matches(&self, text: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let is_meant = |found: &regex::bytes::Match<'_>| !self.is_card || passes_luhn(found.as_bytes());
        self.pattern.find_iter(text).filter(is_meant).map(|found| found.range())
    }
}

/// The text without what the redactions match; `None` when they match nothing.
pub(crate) fn text(redactions: &[Redaction], text: &[u8]) -> Option<Vec<u8>> {
    let mut changed: Option<Vec<u8>> = None;
    for redaction in redactions {
        let current = changed.as_deref().unwrap_or(text);
        let mut out = Vec::new();
        let mut copied = 0;
        let mut is_found = false;
        for found in redaction.matches(current) {
            out.extend_from_slice(&current[copied..found.start]);
            out.extend_from_slice(&redaction.replace);
            copied = found.end;
            is_found = true;
        }
        if is_found {
            out.extend_from_slice(&current[copied..]);
            changed = Some(out);
        }
    }
    changed
}

/// A body without what the redactions match; `None` when they match nothing.
pub(crate) fn body(redactions: &[Redaction], format: Format, body: &[u8]) -> Option<Vec<u8>> {
    if redactions.is_empty() {
        return None;
    }
    match format {
        Format::Json | Format::OtlpLogsJson | Format::OtlpMetricsJson => {
            let inside = json(redactions, body);
            // What stretches over several strings, such as a member with its name, is matched as it is written.
            text(redactions, inside.as_deref().unwrap_or(body)).or(inside)
        }
        Format::Pubsub => pubsub::map_texts(body, |format, part| self::body(redactions, format, part)),
        Format::OtlpLogs => protobuf(redactions, Message::ExportLogs, body),
        Format::OtlpMetrics => protobuf(redactions, Message::ExportMetrics, body),
        _ => text(redactions, body),
    }
}

/// Redacts what the strings of JSON text say, whatever escapes they are written with, and numbers. Works on tokens, so
/// that broken text is redacted up to its last byte.
fn json(redactions: &[Redaction], body: &[u8]) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        let (token, redacted) = match byte {
            b'"' => {
                let token = at + 1..string_end(body, at);
                at = token.end + 1;
                (token.clone(), string(redactions, &body[token]))
            }
            b'0'..=b'9' => {
                let token = at..at + body[at..].iter().take_while(|byte| is_of_number(**byte)).count();
                at = token.end;
                // A redacted number is a text.
                (token.clone(), text(redactions, &body[token]).map(|changed| quoted(&changed)))
            }
            _ => {
                at += 1;
                continue;
            }
        };
        if let Some(redacted) = redacted {
            let out = out.get_or_insert_with(|| Vec::with_capacity(body.len()));
            out.extend_from_slice(&body[copied..token.start]);
            out.extend_from_slice(&redacted);
            copied = token.end;
        }
    }
    let mut out = out?;
    out.extend_from_slice(&body[copied..]);
    Some(out)
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || b".eE+-".contains(&byte)
}

/// The place of the quote that ends a string, or of the line break or end that cuts it off.
fn string_end(body: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while let Some(ahead) = memchr::memchr3(b'"', b'\\', b'\n', &body[at..]) {
        at += ahead;
        if body[at] != b'\\' {
            return at;
        }
        at = (at + 2).min(body.len());
    }
    body.len()
}

/// The new content of a string.
fn string(redactions: &[Redaction], raw: &[u8]) -> Option<Vec<u8>> {
    if !raw.contains(&b'\\') {
        return text(redactions, raw);
    }
    let mut plain = Vec::with_capacity(raw.len());
    match unescape(raw, &mut plain) {
        Ok(()) => text(redactions, &plain).map(|changed| escaped(&changed)),
        Err(_) => None,
    }
}

fn quoted(text: &[u8]) -> Vec<u8> {
    [b"\"", escaped(text).as_slice(), b"\""].concat()
}

fn escaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 8);
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out
}

/// Messages of OTLP that hold texts, directly or further down.
#[derive(Clone, Copy, Debug)]
enum Message {
    ExportLogs,
    ExportMetrics,
    ResourceLogs,
    ResourceMetrics,
    Resource,
    EntityRef,
    ScopeLogs,
    ScopeMetrics,
    Scope,
    LogRecord,
    KeyValue,
    AnyValue,
    ArrayValue,
    KeyValueList,
    Metric,
    /// Gauge, sum, histogram, exponential histogram and summary: points in field 1.
    Points(Point),
    Point(Point),
    Exemplar,
}

#[derive(Clone, Copy, Debug)]
enum Point {
    Number,
    Histogram,
    Exponential,
    Summary,
}

/// What a length-delimited field holds.
enum Content {
    Text,
    Message(Message),
    /// Bytes, numbers, or a field that this version does not know.
    Other,
}

impl Message {
    /// Field numbers as in opentelemetry-proto 1.x (`logs.proto`, `metrics.proto`, `common.proto`, `resource.proto`).
    fn content(self, field: u32) -> Content {
        use Content::{Message as Inner, Other, Text};
        match (self, field) {
            (Self::ExportLogs, 1) => Inner(Self::ResourceLogs),
            (Self::ExportMetrics, 1) => Inner(Self::ResourceMetrics),
            (Self::ResourceLogs | Self::ResourceMetrics, 1) => Inner(Self::Resource),
            (Self::ResourceLogs, 2) => Inner(Self::ScopeLogs),
            (Self::ResourceMetrics, 2) => Inner(Self::ScopeMetrics),
            (Self::Resource, 3) => Inner(Self::EntityRef),
            (Self::ScopeLogs | Self::ScopeMetrics, 1) => Inner(Self::Scope),
            (Self::ScopeLogs, 2) => Inner(Self::LogRecord),
            (Self::ScopeMetrics, 2) => Inner(Self::Metric),
            (Self::LogRecord, 5) | (Self::KeyValue, 2) | (Self::ArrayValue, 1) => Inner(Self::AnyValue),
            (Self::AnyValue, 5) => Inner(Self::ArrayValue),
            (Self::AnyValue, 6) => Inner(Self::KeyValueList),
            (Self::Resource | Self::KeyValueList | Self::Point(Point::Exponential), 1)
            | (Self::Scope, 3)
            | (Self::LogRecord, 6)
            | (Self::Metric, 12)
            | (Self::Point(Point::Number | Point::Summary) | Self::Exemplar, 7)
            | (Self::Point(Point::Histogram), 9) => Inner(Self::KeyValue),
            (Self::Metric, 5 | 7) => Inner(Self::Points(Point::Number)),
            (Self::Metric, 9) => Inner(Self::Points(Point::Histogram)),
            (Self::Metric, 10) => Inner(Self::Points(Point::Exponential)),
            (Self::Metric, 11) => Inner(Self::Points(Point::Summary)),
            (Self::Points(point), 1) => Inner(Self::Point(point)),
            (Self::Point(Point::Number), 5)
            | (Self::Point(Point::Histogram), 8)
            | (Self::Point(Point::Exponential), 11) => Inner(Self::Exemplar),
            (Self::ResourceLogs | Self::ResourceMetrics | Self::ScopeLogs | Self::ScopeMetrics, 3)
            | (Self::Scope, 1 | 2)
            | (Self::LogRecord, 3 | 12)
            | (Self::KeyValue | Self::AnyValue, 1)
            | (Self::Metric, 1..=3)
            | (Self::EntityRef, 1..=4) => Text,
            _ => Other,
        }
    }
}

fn protobuf(redactions: &[Redaction], message: Message, body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    Rewriter { redactions, buffer: body }.rewrite_or_mask(message, 0..body.len(), 0, &mut out);
    (out != body).then_some(out)
}

struct Rewriter<'a> {
    redactions: &'a [Redaction],
    buffer: &'a [u8],
}

impl Rewriter<'_> {
    /// Appends a message with its texts redacted. One that cannot be read is copied with its matches overwritten in place.
    fn rewrite_or_mask(&self, message: Message, range: Range<usize>, depth: usize, out: &mut Vec<u8>) {
        let before = out.len();
        // Each level of a value takes up to three messages: the value, its list, the pair in it.
        let is_understood = depth <= 3 * NESTING_MAX && self.rewrite(message, range.clone(), depth, out).is_ok();
        if !is_understood {
            out.truncate(before);
            mask(self.redactions, &self.buffer[range], out);
        }
    }

    fn rewrite(&self, message: Message, range: Range<usize>, depth: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
        let mut reader = Reader::new(self.buffer, range);
        while let Some(field) = reader.next()? {
            let whole = &self.buffer[field.whole.clone()];
            let Wire::Bytes(inner) = &field.wire else {
                out.extend_from_slice(whole);
                continue;
            };
            let content = &self.buffer[inner.clone()];
            let changed = match message.content(field.number) {
                Content::Text => text(self.redactions, content),
                Content::Message(kind) => {
                    let mut new = Vec::with_capacity(content.len());
                    self.rewrite_or_mask(kind, inner.clone(), depth + 1, &mut new);
                    (new != content).then_some(new)
                }
                Content::Other => {
                    let mut new = Vec::with_capacity(content.len());
                    mask(self.redactions, content, &mut new);
                    (new != content).then_some(new)
                }
            };
            match changed {
                Some(changed) => write_bytes_field(out, field.number, &changed),
                None => out.extend_from_slice(whole),
            }
        }
        Ok(())
    }
}

/// Appends bytes of unknown make with each match overwritten by as many asterisks, so that lengths around it stay true.
fn mask(redactions: &[Redaction], bytes: &[u8], out: &mut Vec<u8>) {
    let before = out.len();
    out.extend_from_slice(bytes);
    for redaction in redactions {
        for found in redaction.matches(bytes) {
            out[before + found.start..before + found.end].fill(b'*');
        }
    }
}

/// The check digit of payment cards (ISO/IEC 7812-1).
fn passes_luhn(text: &[u8]) -> bool {
    let digits = text.iter().rev().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0'));
    let sum: u32 = digits
        .enumerate()
        .map(|(index, digit)| match (index % 2, digit * 2) {
            (0, _) => digit,
            (_, doubled) => doubled / 10 + doubled % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as OtlpValue;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::rules::{RedactAt, RedactConfig, Rules, RulesConfig};

    fn rules(patterns: &[&str]) -> Rules {
        let redact = |pattern: &&str| RedactConfig {
            name: "secret".to_owned(),
            pattern: (*pattern).to_owned(),
            replace: None,
            at: RedactAt::Receive,
        };
        let config = RulesConfig { redact: patterns.iter().map(redact).collect(), ..RulesConfig::default() };
        Rules::compile(&config, &|_| Err(String::new())).expect("valid rules")
    }

    fn redacted(patterns: &[&str], format: Format, body: &str) -> String {
        let changed = rules(patterns).redact_at_receive(format, body.as_bytes());
        changed.map_or_else(|| body.to_owned(), |bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn cards_are_told_from_other_long_numbers_by_their_check_digit() {
        let text = redacted(&["card"], Format::Text, "paid with 4111 1111 1111 1111, order 4111111111111112");
        assert_eq!(text, "paid with [secret], order 4111111111111112");
    }

    #[test]
    fn json_stays_json_however_a_secret_is_written() {
        for (from, to) in [
            (r#"{"m":"mail a@b.example now","n":1}"#, r#"{"m":"mail [secret] now","n":1}"#),
            (r#"{"m":"mail a\u0040b.example \"now\"\n"}"#, r#"{"m":"mail [secret] \"now\"\n"}"#),
            (r#"{"card":4111111111111111,"n":-1.5}"#, r#"{"card":"[secret]","n":-1.5}"#),
            (r#"{"a@b.example":[null,"x\\"]}"#, r#"{"[secret]":[null,"x\\"]}"#),
            (r#"{"broken": "a@b.example"#, r#"{"broken": "[secret]"#),
            ("a@b.example {\"m\":\"\\q a@b.example\"}", "[secret] {\"m\":\"\\q [secret]\"}"),
            (r#"{"password":"hunter2","user":"u"}"#, r#"{[secret],"user":"u"}"#),
        ] {
            let patterns = ["email", "card", "\"password\":\"[^\"]*\""];
            assert_eq!(redacted(&patterns, Format::Json, from), to);
        }
    }

    #[test]
    fn texts_of_otlp_are_redacted_at_any_depth_and_the_rest_stays() {
        let text = |text: &str| Some(AnyValue { value: Some(OtlpValue::StringValue(text.to_owned())) });
        let nested = |value: &str| {
            let array = ArrayValue { values: vec![text(value).expect("a value")] };
            Some(AnyValue { value: Some(OtlpValue::ArrayValue(array)) })
        };
        let request = |secret: &str| ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                scope_logs: vec![ScopeLogs {
                    log_records: vec![LogRecord {
                        time_unix_nano: 7,
                        severity_number: 9,
                        body: text(&format!("mail to {secret}")),
                        attributes: vec![KeyValue {
                            key: "to".to_owned(),
                            value: nested(secret),
                            ..KeyValue::default()
                        }],
                        trace_id: vec![1; 16],
                        ..LogRecord::default()
                    }],
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        };
        let sent = request("someone.with.a.long.name@mail.example").encode_to_vec();
        let kept = rules(&["email"]).redact_at_receive(Format::OtlpLogs, &sent).expect("redacted");
        assert_eq!(ExportLogsServiceRequest::decode(kept.as_slice()).expect("a request"), request("[secret]"));
        assert_eq!(rules(&["email"]).redact_at_receive(Format::OtlpLogs, &kept), None);
    }

    proptest! {
        #[test]
        fn no_match_is_left_in_any_bytes_of_any_text_format(parts in proptest::collection::vec(prop_oneof![
            Just(b"s3cret-passphrase".to_vec()), Just(b"\"".to_vec()), Just(b"\\".to_vec()), Just(b"{".to_vec()), Just(b"\n\x02".to_vec()),
            Just(b"\x0a\x08".to_vec()), Just(b"\x12\x06".to_vec()), proptest::collection::vec(any::<u8>(), 0..6)
        ], 0..12)) {
            let body = parts.concat();
            for format in Format::ALL {
                let kept = rules(&["s3cret-passphrase"]).redact_at_receive(format, &body).unwrap_or_else(|| body.clone());
                // In protobuf two fields side by side may happen to spell the word.
                let is_text = !matches!(format, Format::OtlpLogs | Format::OtlpMetrics | Format::Pubsub);
                prop_assert!(!is_text || memchr::memmem::find(&kept, b"s3cret-passphrase").is_none(), "{format:?} {kept:?}");
            }
        }
    }
}
