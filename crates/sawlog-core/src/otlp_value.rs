//! OTLP attribute values: texts, numbers, bytes, lists and maps.
//!
//! For: turning `AnyValue` and `KeyValue` messages into attributes, slots and JSON text without losing type or
//! precision. Not for: the records around them ([`crate::parse_otlp`]). Maps become dotted names, arrays JSON text, bytes
//! base64; a double is written with the fewest digits that read back as the same number. Invariant: recursion ends at
//! [`NESTING_MAX`] values, the number of attributes at [`FIELDS_MAX`].

use std::ops::Range;

use crate::defect::{Defect, Reason};
use crate::fields::{self, Place};
use crate::limits::{FIELDS_MAX, NESTING_MAX};
use crate::otlp_wire::{Reader, WireError};
use crate::record::{AttributeType, Record, Span, Value};

impl From<WireError> for Defect {
    fn from(error: WireError) -> Self {
        Self::new(Reason::ProtobufSyntax).about(error.problem).at(error.at)
    }
}

/// Protobuf bytes that a record is filled from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The messages.
    pub(crate) buffer: &'a [u8],
    /// The record as received, which the record's spans refer to.
    pub(crate) payload: &'a [u8],
    /// Whether the two are the same bytes, so that texts need no copy.
    pub(crate) is_payload: bool,
}

impl Source<'_> {
    /// A text of the buffer.
    pub(crate) fn text(&self, record: &mut Record, range: Range<usize>) -> Result<Span, Defect> {
        let text = utf8(self.buffer, &range)?;
        Ok(if self.is_payload { Span::payload(range.start, range.end) } else { record.keep(text) })
    }

    /// Adds an attribute that has no slot, of a name of ours.
    pub(crate) fn note(&self, record: &mut Record, name: &str, text: &str, kind: AttributeType) {
        let key = record.keep(name.as_bytes());
        let text = record.keep(text.as_bytes());
        record.add_attribute(self.payload, key, Value { text, kind });
    }
}

fn utf8<'a>(buffer: &'a [u8], range: &Range<usize>) -> Result<&'a [u8], Defect> {
    let bytes = &buffer[range.clone()];
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Defect::new(Reason::InvalidUtf8).at(range.start + error.valid_up_to())),
    }
}

/// An `AnyValue`, its parts still on the wire.
enum AnyValue {
    Null,
    Text(Range<usize>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Array(Range<usize>),
    Map(Range<usize>),
    Bytes(Range<usize>),
}

fn any_value(buffer: &[u8], range: Range<usize>, depth: usize) -> Result<AnyValue, Defect> {
    if depth > NESTING_MAX {
        return Err(Defect::new(Reason::NestingTooDeep).at(range.start));
    }
    let mut reader = Reader::new(buffer, range);
    let mut value = AnyValue::Null;
    while let Some(field) = reader.next()? {
        value = match field.number {
            1 => AnyValue::Text(field.bytes()?),
            2 => AnyValue::Bool(field.varint()? != 0),
            3 => AnyValue::Int(field.varint()? as i64),
            4 => AnyValue::Double(field.double()?),
            5 => AnyValue::Array(field.bytes()?),
            6 => AnyValue::Map(field.bytes()?),
            7 => AnyValue::Bytes(field.bytes()?),
            _ => continue,
        };
    }
    Ok(value)
}

/// Key and value of a `KeyValue`.
fn key_value(buffer: &[u8], range: Range<usize>) -> Result<(Range<usize>, Range<usize>), Defect> {
    let mut reader = Reader::new(buffer, range.clone());
    let (mut key, mut value) = (range.start..range.start, range.end..range.end);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => key = field.bytes()?,
            2 => value = field.bytes()?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// The messages in field 1 of a list: the values of an array, the entries of a map.
fn list_items(buffer: &[u8], range: Range<usize>) -> impl Iterator<Item = Result<Range<usize>, Defect>> + use<'_> {
    let mut reader = Reader::new(buffer, range);
    std::iter::from_fn(move || {
        loop {
            match reader.next().transpose()? {
                Err(error) => return Some(Err(error.into())),
                Ok(field) if field.number == 1 => return Some(field.bytes().map_err(Defect::from)),
                Ok(_) => {}
            }
        }
    })
}

/// Reads attributes of one message after the other into a record.
pub(crate) struct AttributeReader<'a> {
    source: Source<'a>,
    /// Where the attributes stand; it decides which slots they may fill.
    place: Place,
    /// Dotted prefix of the next name, ending in a dot.
    path: Vec<u8>,
    count: usize,
}

impl<'a> AttributeReader<'a> {
    pub(crate) fn new(source: Source<'a>, place: Place, prefix: &str) -> Self {
        Self { source, place, path: prefix.as_bytes().to_vec(), count: 0 }
    }

    /// Reads a `KeyValue`.
    pub(crate) fn read(&mut self, record: &mut Record, range: Range<usize>) -> Result<(), Defect> {
        self.entry(record, range, 1)
    }

    fn entry(&mut self, record: &mut Record, range: Range<usize>, depth: usize) -> Result<(), Defect> {
        let source = self.source;
        let (key, value) = key_value(source.buffer, range)?;
        let value = any_value(source.buffer, value, depth)?;
        if let AnyValue::Map(entries) = &value
            && !entries.is_empty()
        {
            let prefix = self.path.len();
            self.path.extend_from_slice(utf8(source.buffer, &key)?);
            self.path.push(b'.');
            for entry in list_items(source.buffer, entries.clone()) {
                self.entry(record, entry?, depth + 1)?;
            }
            self.path.truncate(prefix);
            return Ok(());
        }
        self.count += 1;
        if self.count > FIELDS_MAX {
            return Err(Defect::new(Reason::TooManyFields).at(key.start));
        }
        let key = source.text(record, key)?;
        let key = if self.path.is_empty() { key } else { record.keep_joined(source.payload, &self.path, key) };
        let value = to_value(source, record, &value, depth)?;
        fields::assign_typed(record, source.payload, self.place, key, value);
        Ok(())
    }
}

/// An `AnyValue` as one value, maps and arrays as JSON.
pub(crate) fn read_value(source: Source<'_>, record: &mut Record, range: Range<usize>) -> Result<Value, Defect> {
    let value = any_value(source.buffer, range, 1)?;
    to_value(source, record, &value, 1)
}

fn to_value(source: Source<'_>, record: &mut Record, value: &AnyValue, depth: usize) -> Result<Value, Defect> {
    let (text, kind) = match value {
        AnyValue::Null => (record.keep(b""), AttributeType::Null),
        AnyValue::Text(range) => (source.text(record, range.clone())?, AttributeType::Text),
        AnyValue::Bool(value) => (record.keep(bool_text(*value)), AttributeType::Bool),
        AnyValue::Int(value) => (record.keep(value.to_string().as_bytes()), AttributeType::Integer),
        AnyValue::Double(value) => (record.keep(double_text(*value).as_bytes()), AttributeType::Float),
        AnyValue::Bytes(range) => {
            (record.keep_with(|out| write_base64(out, &source.buffer[range.clone()])), AttributeType::Bytes)
        }
        AnyValue::Array(_) | AnyValue::Map(_) => {
            let mut json = Vec::new();
            write_json(source.buffer, value, depth, &mut json)?;
            (record.keep(&json), AttributeType::Json)
        }
    };
    Ok(Value { text, kind })
}

fn bool_text(value: bool) -> &'static [u8] {
    if value { b"true" } else { b"false" }
}

/// The shortest text that reads back as the same number.
pub(crate) fn double_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{value:?}")
    }
}

fn write_json(buffer: &[u8], value: &AnyValue, depth: usize, out: &mut Vec<u8>) -> Result<(), Defect> {
    match value {
        AnyValue::Null => out.extend_from_slice(b"null"),
        AnyValue::Text(range) => write_json_text(out, utf8(buffer, range)?),
        AnyValue::Bool(value) => out.extend_from_slice(bool_text(*value)),
        AnyValue::Int(value) => out.extend_from_slice(value.to_string().as_bytes()),
        AnyValue::Double(value) => write_json_double(out, *value),
        AnyValue::Bytes(range) => {
            out.push(b'"');
            write_base64(out, &buffer[range.clone()]);
            out.push(b'"');
        }
        AnyValue::Array(range) => {
            out.push(b'[');
            for (index, item) in list_items(buffer, range.clone()).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_json(buffer, &any_value(buffer, item?, depth + 1)?, depth + 1, out)?;
            }
            out.push(b']');
        }
        AnyValue::Map(range) => write_json_map(buffer, list_items(buffer, range.clone()), depth + 1, out)?,
    }
    Ok(())
}

/// Writes `KeyValue` messages as a JSON object; their values are at `depth`.
pub(crate) fn write_json_map(
    buffer: &[u8],
    entries: impl Iterator<Item = Result<Range<usize>, Defect>>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Defect> {
    out.push(b'{');
    for (index, entry) in entries.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let (key, value) = key_value(buffer, entry?)?;
        write_json_text(out, utf8(buffer, &key)?);
        out.push(b':');
        write_json(buffer, &any_value(buffer, value, depth)?, depth, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// Writes a double as a JSON number, or as text what JSON has no number for.
pub(crate) fn write_json_double(out: &mut Vec<u8>, value: f64) {
    let text = double_text(value);
    if value.is_finite() {
        out.extend_from_slice(text.as_bytes());
    } else {
        write_json_text(out, text.as_bytes());
    }
}

/// Writes UTF-8 text as a JSON string.
pub(crate) fn write_json_text(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Writes bytes as padded standard base64.
pub(crate) fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= group.len() { letter } else { b'=' });
        }
    }
}

/// Writes bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
