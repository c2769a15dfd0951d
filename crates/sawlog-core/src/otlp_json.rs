//! OTLP/JSON messages as protobuf messages.
//!
//! For: reading both encodings with one parser, so that the same content gives the same rows. Not for: splitting
//! ([`crate::otlp_split`]). Rules: the proto3 JSON mapping with OTLP's exceptions (ids in hex, enums as numbers), taken
//! generously: field names also in snake case, 64-bit integers also as numbers, enums also by name. Unknown members are
//! passed over, as OTLP asks; null stands for an absent field. Invariant: recursion ends at [`NESTING_MAX`] values.

use std::ops::Range;

use crate::defect::{Defect, Reason};
use crate::limits::NESTING_MAX;
use crate::otlp_wire;
use crate::parse_json::{Cursor, unescape};
use crate::value;

/// A kind of message: its fields.
#[derive(Debug)]
pub(crate) struct Shape(&'static [FieldShape]);

#[derive(Debug)]
struct FieldShape {
    json_name: &'static str,
    number: u32,
    content: Content,
    is_repeated: bool,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Text,
    Base64,
    Hex,
    Bool,
    /// Any integer that is a varint, signed or not.
    Varint,
    /// A signed integer, zigzag.
    Zigzag,
    Fixed64,
    Fixed32,
    Double,
    /// The enum of severities.
    Severity,
    /// The enum of temporalities.
    Temporality,
    Message(&'static Shape),
}

const fn one(json_name: &'static str, number: u32, content: Content) -> FieldShape {
    FieldShape { json_name, number, content, is_repeated: false }
}

const fn many(json_name: &'static str, number: u32, content: Content) -> FieldShape {
    FieldShape { json_name, number, content, is_repeated: true }
}

use Content::{Base64, Bool, Double, Fixed32, Fixed64, Hex, Message, Severity, Temporality, Text, Varint, Zigzag};

static ANY_VALUE: Shape = Shape(&[
    one("stringValue", 1, Text),
    one("boolValue", 2, Bool),
    one("intValue", 3, Varint),
    one("doubleValue", 4, Double),
    one("arrayValue", 5, Message(&ARRAY)),
    one("kvlistValue", 6, Message(&KEY_VALUE_LIST)),
    one("bytesValue", 7, Base64),
]);
static ARRAY: Shape = Shape(&[many("values", 1, Message(&ANY_VALUE))]);
static KEY_VALUE_LIST: Shape = Shape(&[many("values", 1, Message(&KEY_VALUE))]);
static KEY_VALUE: Shape = Shape(&[one("key", 1, Text), one("value", 2, Message(&ANY_VALUE))]);
static ENTITY_REF: Shape = Shape(&[
    one("schemaUrl", 1, Text),
    one("type", 2, Text),
    many("idKeys", 3, Text),
    many("descriptionKeys", 4, Text),
]);
static RESOURCE: Shape = Shape(&[
    many("attributes", 1, Message(&KEY_VALUE)),
    one("droppedAttributesCount", 2, Varint),
    many("entityRefs", 3, Message(&ENTITY_REF)),
]);
static SCOPE: Shape = Shape(&[
    one("name", 1, Text),
    one("version", 2, Text),
    many("attributes", 3, Message(&KEY_VALUE)),
    one("droppedAttributesCount", 4, Varint),
]);

/// `ResourceLogs` and `ResourceMetrics` without their scopes.
pub(crate) static RESOURCE_PART: Shape = Shape(&[one("resource", 1, Message(&RESOURCE)), one("schemaUrl", 3, Text)]);
/// `ScopeLogs` and `ScopeMetrics` without their records.
pub(crate) static SCOPE_PART: Shape = Shape(&[one("scope", 1, Message(&SCOPE)), one("schemaUrl", 3, Text)]);
/// `Metric` without its data.
pub(crate) static METRIC_PART: Shape = Shape(&[
    one("name", 1, Text),
    one("description", 2, Text),
    one("unit", 3, Text),
    many("metadata", 12, Message(&KEY_VALUE)),
]);
/// `Sum` (and the like) without its points.
pub(crate) static DATA_PART: Shape =
    Shape(&[one("aggregationTemporality", 2, Temporality), one("isMonotonic", 3, Bool)]);

/// `LogRecord`.
pub(crate) static LOG_RECORD: Shape = Shape(&[
    one("timeUnixNano", 1, Fixed64),
    one("severityNumber", 2, Severity),
    one("severityText", 3, Text),
    one("body", 5, Message(&ANY_VALUE)),
    many("attributes", 6, Message(&KEY_VALUE)),
    one("droppedAttributesCount", 7, Varint),
    one("flags", 8, Fixed32),
    one("traceId", 9, Hex),
    one("spanId", 10, Hex),
    one("observedTimeUnixNano", 11, Fixed64),
    one("eventName", 12, Text),
]);
static EXEMPLAR: Shape = Shape(&[
    one("timeUnixNano", 2, Fixed64),
    one("asDouble", 3, Double),
    one("spanId", 4, Hex),
    one("traceId", 5, Hex),
    one("asInt", 6, Fixed64),
    many("filteredAttributes", 7, Message(&KEY_VALUE)),
]);
/// `NumberDataPoint`.
pub(crate) static NUMBER_POINT: Shape = Shape(&[
    one("startTimeUnixNano", 2, Fixed64),
    one("timeUnixNano", 3, Fixed64),
    one("asDouble", 4, Double),
    many("exemplars", 5, Message(&EXEMPLAR)),
    one("asInt", 6, Fixed64),
    many("attributes", 7, Message(&KEY_VALUE)),
    one("flags", 8, Varint),
]);
/// `HistogramDataPoint`.
pub(crate) static HISTOGRAM_POINT: Shape = Shape(&[
    one("startTimeUnixNano", 2, Fixed64),
    one("timeUnixNano", 3, Fixed64),
    one("count", 4, Fixed64),
    one("sum", 5, Double),
    many("bucketCounts", 6, Fixed64),
    many("explicitBounds", 7, Double),
    many("exemplars", 8, Message(&EXEMPLAR)),
    many("attributes", 9, Message(&KEY_VALUE)),
    one("flags", 10, Varint),
    one("min", 11, Double),
    one("max", 12, Double),
]);
static BUCKETS: Shape = Shape(&[one("offset", 1, Zigzag), many("bucketCounts", 2, Varint)]);
/// `ExponentialHistogramDataPoint`.
pub(crate) static EXPONENTIAL_POINT: Shape = Shape(&[
    many("attributes", 1, Message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Fixed64),
    one("timeUnixNano", 3, Fixed64),
    one("count", 4, Fixed64),
    one("sum", 5, Double),
    one("scale", 6, Zigzag),
    one("zeroCount", 7, Fixed64),
    one("positive", 8, Message(&BUCKETS)),
    one("negative", 9, Message(&BUCKETS)),
    one("flags", 10, Varint),
    many("exemplars", 11, Message(&EXEMPLAR)),
    one("min", 12, Double),
    one("max", 13, Double),
    one("zeroThreshold", 14, Double),
]);
static QUANTILE: Shape = Shape(&[one("quantile", 1, Double), one("value", 2, Double)]);
/// `SummaryDataPoint`.
pub(crate) static SUMMARY_POINT: Shape = Shape(&[
    one("startTimeUnixNano", 2, Fixed64),
    one("timeUnixNano", 3, Fixed64),
    one("count", 4, Fixed64),
    one("sum", 5, Double),
    many("quantileValues", 6, Message(&QUANTILE)),
    many("attributes", 7, Message(&KEY_VALUE)),
    one("flags", 8, Varint),
]);

/// The protobuf message that the JSON object says.
pub(crate) fn to_protobuf(json: &[u8], shape: &'static Shape) -> Result<Vec<u8>, Defect> {
    if let Err(error) = std::str::from_utf8(json) {
        return Err(Defect::new(Reason::InvalidUtf8).at(error.valid_up_to()));
    }
    let mut transcoder = Transcoder { cursor: Cursor { text: json, at: 0 } };
    let mut out = Vec::with_capacity(json.len());
    transcoder.cursor.skip_space();
    transcoder.message(shape, 0, &mut out)?;
    transcoder.cursor.skip_space();
    if transcoder.cursor.at == json.len() { Ok(out) } else { Err(transcoder.cursor.unexpected()) }
}

struct Transcoder<'a> {
    cursor: Cursor<'a>,
}

impl Transcoder<'_> {
    fn message(&mut self, shape: &'static Shape, depth: usize, out: &mut Vec<u8>) -> Result<(), Defect> {
        let depth = depth + usize::from(std::ptr::eq(shape, &ANY_VALUE));
        if depth > NESTING_MAX {
            return Err(Defect::new(Reason::NestingTooDeep).at(self.cursor.at));
        }
        self.open(b'{')?;
        let mut is_first = true;
        let start = out.len();
        let mut fields: Vec<(u32, Range<usize>)> = Vec::new();
        while !self.close(b'}', &mut is_first)? {
            let key = self.text()?;
            self.cursor.skip_space();
            if !self.cursor.eat(b':') {
                return Err(self.cursor.unexpected());
            }
            self.cursor.skip_space();
            let Some(field) = shape.0.iter().find(|field| is_named(field, &key)) else {
                self.cursor.skip_value(1)?;
                continue;
            };
            let field_start = out.len();
            match self.cursor.peek() {
                Some(b'n') => self.cursor.skip_value(1)?,
                _ if field.is_repeated => {
                    self.open(b'[')?;
                    let mut is_first = true;
                    while !self.close(b']', &mut is_first)? {
                        self.field(field, depth, out)?;
                    }
                }
                _ => self.field(field, depth, out)?,
            }
            fields.push((field.number, field_start..out.len()));
        }
        sort_fields(out, start, fields);
        Ok(())
    }

    fn open(&mut self, bracket: u8) -> Result<(), Defect> {
        if self.cursor.eat(bracket) { Ok(()) } else { Err(self.cursor.unexpected()) }
    }

    /// Whether the object or array ends here; else the cursor is at its next member or element.
    fn close(&mut self, bracket: u8, is_first: &mut bool) -> Result<bool, Defect> {
        self.cursor.skip_space();
        if self.cursor.eat(bracket) {
            return Ok(true);
        }
        if !std::mem::take(is_first) && !self.cursor.eat(b',') {
            return Err(self.cursor.unexpected());
        }
        self.cursor.skip_space();
        Ok(false)
    }

    fn field(&mut self, field: &'static FieldShape, depth: usize, out: &mut Vec<u8>) -> Result<(), Defect> {
        let number = field.number;
        let start = self.cursor.at;
        let expected =
            |what: &str| Defect::new(Reason::JsonSyntax).about(what).in_field(field.json_name.as_bytes()).at(start);
        match field.content {
            Message(shape) => {
                let mut message = Vec::new();
                self.message(shape, depth, &mut message)?;
                otlp_wire::write_bytes_field(out, number, &message);
            }
            Text => otlp_wire::write_bytes_field(out, number, &self.text()?),
            Base64 => {
                let bytes = from_base64(&self.text()?).ok_or_else(|| expected("expected base64"))?;
                otlp_wire::write_bytes_field(out, number, &bytes);
            }
            Hex => {
                let bytes = from_hex(&self.text()?).ok_or_else(|| expected("expected hexadecimal digits"))?;
                otlp_wire::write_bytes_field(out, number, &bytes);
            }
            Bool => {
                let is_true = self.cursor.text[start..].starts_with(b"true");
                if !matches!(self.cursor.peek(), Some(b't' | b'f')) {
                    return Err(expected("expected true or false"));
                }
                self.cursor.skip_value(1)?;
                otlp_wire::write_varint_field(out, number, u64::from(is_true));
            }
            Double => {
                let value = double(&self.scalar()?).ok_or_else(|| expected("expected a number"))?;
                otlp_wire::write_fixed64_field(out, number, value.to_bits());
            }
            Varint | Zigzag | Fixed64 | Fixed32 | Severity | Temporality => {
                let text = self.scalar()?;
                let named = match field.content {
                    Severity => severity_of_name(&text),
                    Temporality => temporality_of_name(&text),
                    _ => None,
                };
                let value = named.or_else(|| integer(&text)).ok_or_else(|| expected("expected an integer"))?;
                match field.content {
                    Zigzag => {
                        otlp_wire::write_varint_field(
                            out,
                            number,
                            (value as i64).wrapping_shl(1) as u64 ^ ((value as i64) >> 63) as u64,
                        );
                    }
                    Fixed64 => otlp_wire::write_fixed64_field(out, number, value),
                    Fixed32 => {
                        let value = u32::try_from(value).map_err(|_| expected("expected a 32-bit integer"))?;
                        otlp_wire::write_fixed32_field(out, number, value);
                    }
                    _ => otlp_wire::write_varint_field(out, number, value),
                }
            }
        }
        Ok(())
    }

    /// A string, unescaped.
    fn text(&mut self) -> Result<Vec<u8>, Defect> {
        if self.cursor.peek() != Some(b'"') {
            return Err(self.cursor.unexpected());
        }
        let start = self.cursor.at + 1;
        let (end, _) = self.cursor.skip_string()?;
        let mut text = Vec::with_capacity(end - start);
        unescape(&self.cursor.text[start..end], &mut text)
            .map_err(|at| Defect::new(Reason::JsonSyntax).about("bad escape sequence").at(start + at))?;
        Ok(text)
    }

    /// The text of a string or a number.
    fn scalar(&mut self) -> Result<Vec<u8>, Defect> {
        match self.cursor.peek() {
            Some(b'"') => self.text(),
            Some(b'-' | b'0'..=b'9') => {
                let start = self.cursor.at;
                self.cursor.skip_value(1)?;
                Ok(self.cursor.text[start..self.cursor.at].to_vec())
            }
            _ => Err(self.cursor.unexpected()),
        }
    }
}

/// Brings the fields from `start` on into the order of their numbers, which is the order that protobuf encoders write:
/// members of a JSON object have no order, so it must not show in a row.
fn sort_fields(out: &mut Vec<u8>, start: usize, mut fields: Vec<(u32, Range<usize>)>) {
    if fields.is_sorted_by_key(|(number, _)| *number) {
        return;
    }
    fields.sort_by_key(|(number, _)| *number);
    let sorted: Vec<u8> = fields.into_iter().flat_map(|(_, range)| &out[range]).copied().collect();
    out.truncate(start);
    out.extend_from_slice(&sorted);
}

/// Whether the key is the field's name, in camel or snake case.
fn is_named(field: &FieldShape, key: &[u8]) -> bool {
    let mut key = key.iter();
    for &letter in field.json_name.as_bytes() {
        let matches = match key.next() {
            Some(&given) if given == letter => true,
            Some(b'_') if letter.is_ascii_uppercase() => key.next() == Some(&letter.to_ascii_lowercase()),
            _ => false,
        };
        if !matches {
            return false;
        }
    }
    key.next().is_none()
}

/// A whole number of 64 bits, signed or not, as its bits.
fn integer(text: &[u8]) -> Option<u64> {
    if let Some(value) = value::integer(text) {
        return Some(value as u64);
    }
    let large = std::str::from_utf8(text).ok()?.parse::<u64>().ok();
    large.or_else(|| value::whole_number(text).map(|value| value as u64))
}

fn double(text: &[u8]) -> Option<f64> {
    match text {
        b"NaN" => Some(f64::NAN),
        b"Infinity" => Some(f64::INFINITY),
        b"-Infinity" => Some(f64::NEG_INFINITY),
        _ => value::float(text),
    }
}

/// `SEVERITY_NUMBER_ERROR2` and the like.
fn severity_of_name(text: &[u8]) -> Option<u64> {
    const NAMES: [&[u8]; 6] = [b"TRACE", b"DEBUG", b"INFO", b"WARN", b"ERROR", b"FATAL"];
    let name = text.strip_prefix(b"SEVERITY_NUMBER_")?;
    if name == b"UNSPECIFIED" {
        return Some(0);
    }
    let (base, step) = match name {
        [base @ .., digit @ b'2'..=b'4'] => (base, u64::from(digit - b'1')),
        _ => (name, 0),
    };
    let index = NAMES.iter().position(|known| *known == base)?;
    Some(index as u64 * 4 + 1 + step)
}

fn temporality_of_name(text: &[u8]) -> Option<u64> {
    match text.strip_prefix(b"AGGREGATION_TEMPORALITY_")? {
        b"UNSPECIFIED" => Some(0),
        b"DELTA" => Some(1),
        b"CUMULATIVE" => Some(2),
        _ => None,
    }
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

/// Base64, standard or URL-safe, padded or not.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"=").map_or(text, |text| text.strip_suffix(b"=").unwrap_or(text));
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for &letter in group {
            let six = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(six);
        }
        let bytes = (bits << (6 * (4 - group.len()))).to_be_bytes();
        match group.len() {
            1 => return None,
            len => out.extend_from_slice(&bytes[1..len]),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_in_both_cases() {
        let field = one("droppedAttributesCount", 7, Varint);
        assert!(is_named(&field, b"droppedAttributesCount") && is_named(&field, b"dropped_attributes_count"));
        assert!(!is_named(&field, b"droppedattributescount") && !is_named(&field, b"droppedAttributes"));
    }

    #[test]
    fn integers_of_both_signs_are_taken_as_text_and_as_number() {
        assert_eq!(integer(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(integer(b"-1"), Some(u64::MAX));
        assert_eq!(integer(b"1e3"), Some(1000));
        assert_eq!(integer(b"1.5"), None);
    }

    #[test]
    fn enums_are_taken_by_name() {
        assert_eq!(severity_of_name(b"SEVERITY_NUMBER_ERROR"), Some(17));
        assert_eq!(severity_of_name(b"SEVERITY_NUMBER_FATAL4"), Some(24));
        assert_eq!(severity_of_name(b"SEVERITY_NUMBER_LOUD"), None);
        assert_eq!(temporality_of_name(b"AGGREGATION_TEMPORALITY_DELTA"), Some(1));
    }

    #[test]
    fn base64_is_taken_in_all_its_forms() {
        for text in ["+/8=", "-_8", "-_8="] {
            assert_eq!(from_base64(text.as_bytes()), Some(vec![0xfb, 0xff]), "{text}");
        }
        assert_eq!(from_base64(b""), Some(Vec::new()));
        assert_eq!(from_base64(b"A"), None);
        assert_eq!(from_base64(b"a b="), None);
    }
}
