//! Reading a JSON object into a record in one pass.
//!
//! For: NDJSON lines and array elements of `POST /v1/events` and `sawlog ingest`. Not for: OTLP/JSON, whose shape is
//! its own ([`crate::otlp_json`]). Grammar: RFC 8259, but control characters inside strings are let through,
//! since keeping an event beats refusing it. Nested objects become dotted names; arrays are kept as JSON text.
//! Invariant: recursion and work are bounded by [`NESTING_MAX`] and [`FIELDS_MAX`].

use crate::defect::{Defect, Reason};
use crate::fields::{self, Container, Field};
use crate::limits::{FIELDS_MAX, NESTING_MAX};
use crate::record::{AttributeType, Record, Span, Value};

/// Reads the JSON object that is the whole payload.
pub(crate) fn parse_json(payload: &[u8], receive_time: i64, record: &mut Record) -> Result<(), Defect> {
    let mut parser =
        Parser { cursor: Cursor { text: payload, at: 0 }, record, receive_time, path: Vec::new(), fields: 0 };
    parser.cursor.skip_space();
    if parser.cursor.peek() != Some(b'{') {
        return Err(parser.cursor.not_an_object());
    }
    parser.object(None, 1)?;
    parser.cursor.skip_space();
    if parser.cursor.at != payload.len() {
        return Err(parser.cursor.unexpected());
    }
    fields::finish(record, payload, receive_time)
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    record: &'a mut Record,
    receive_time: i64,
    /// Dotted prefix of the object that is being read, ending in a dot; empty at the top and inside containers.
    path: Vec<u8>,
    fields: usize,
}

impl Parser<'_> {
    /// Reads an object, of which the cursor is at the opening brace.
    fn object(&mut self, scope: Option<Container>, depth: usize) -> Result<(), Defect> {
        if depth > NESTING_MAX {
            return Err(Defect::new(Reason::NestingTooDeep).at(self.cursor.at));
        }
        self.cursor.at += 1;
        self.cursor.skip_space();
        if self.cursor.eat(b'}') {
            return Ok(());
        }
        loop {
            self.cursor.skip_space();
            if self.cursor.peek() != Some(b'"') {
                return Err(self.cursor.unexpected());
            }
            let key = self.string()?;
            self.cursor.skip_space();
            if !self.cursor.eat(b':') {
                return Err(self.cursor.unexpected());
            }
            self.cursor.skip_space();
            self.member(scope, key, depth)?;
            self.cursor.skip_space();
            if self.cursor.eat(b',') {
                continue;
            }
            if self.cursor.eat(b'}') {
                return Ok(());
            }
            return Err(self.cursor.unexpected());
        }
    }

    fn member(&mut self, scope: Option<Container>, key: Span, depth: usize) -> Result<(), Defect> {
        if self.cursor.peek() == Some(b'{') && !self.cursor.is_empty_object() {
            return self.nested(scope, key, depth);
        }
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(Defect::new(Reason::TooManyFields).at(self.cursor.at));
        }
        let at = self.cursor.at;
        let value = self.value(depth)?;
        let payload = self.cursor.text;
        let key = if self.path.is_empty() { key } else { self.record.keep_joined(payload, &self.path, key) };
        fields::assign(self.record, payload, scope, Field { key, value, at }, self.receive_time);
        Ok(())
    }

    fn nested(&mut self, scope: Option<Container>, key: Span, depth: usize) -> Result<(), Defect> {
        let payload = self.cursor.text;
        if depth == 1
            && let Some(container) = fields::container(self.record.bytes(payload, key))
        {
            return self.object(Some(container), depth + 1);
        }
        let prefix = self.path.len();
        self.path.extend_from_slice(self.record.bytes(payload, key));
        self.path.push(b'.');
        self.object(scope, depth + 1)?;
        self.path.truncate(prefix);
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value, Defect> {
        match self.cursor.peek() {
            Some(b'"') => {
                let text = self.string()?;
                Ok(Value { text, kind: AttributeType::Text })
            }
            Some(b'-' | b'0'..=b'9') => self.cursor.number(),
            Some(b't') => self.cursor.literal(b"true", AttributeType::Bool),
            Some(b'f') => self.cursor.literal(b"false", AttributeType::Bool),
            Some(b'n') => self.cursor.literal(b"null", AttributeType::Null),
            Some(b'[' | b'{') => {
                let start = self.cursor.at;
                self.cursor.skip_value(depth + 1)?;
                Ok(Value { text: Span::payload(start, self.cursor.at), kind: AttributeType::Json })
            }
            _ => Err(self.cursor.unexpected()),
        }
    }

    /// Reads a string, of which the cursor is at the opening quote.
    fn string(&mut self) -> Result<Span, Defect> {
        let start = self.cursor.at + 1;
        let (end, has_escapes) = self.cursor.skip_string()?;
        if !has_escapes {
            return Ok(Span::payload(start, end));
        }
        let raw = &self.cursor.text[start..end];
        let mut result = Ok(());
        let span = self.record.keep_with(|out| result = unescape(raw, out));
        result.map_err(|offset| Defect::new(Reason::JsonSyntax).about("bad escape sequence").at(start + offset))?;
        Ok(span)
    }
}

/// A place in JSON text.
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) at: usize,
}

impl Cursor<'_> {
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(crate) fn eat(&mut self, wanted: u8) -> bool {
        let is_there = self.peek() == Some(wanted);
        self.at += usize::from(is_there);
        is_there
    }

    pub(crate) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    pub(crate) fn unexpected(&self) -> Defect {
        let what = match self.text.get(self.at..).and_then(|rest| rest.utf8_chunks().next()) {
            None => "the text ends too early".to_owned(),
            Some(chunk) => match chunk.valid().chars().next() {
                Some(character) => format!("unexpected {character:?}"),
                None => "unexpected byte".to_owned(),
            },
        };
        Defect::new(Reason::JsonSyntax).about(&what).at(self.at)
    }

    fn not_an_object(&self) -> Defect {
        let mut probe = Cursor { text: self.text, at: self.at };
        let is_json = probe.skip_value(1).is_ok() && {
            probe.skip_space();
            probe.at == probe.text.len()
        };
        if is_json { Defect::new(Reason::NotAnObject) } else { self.unexpected() }
    }

    fn is_empty_object(&self) -> bool {
        let mut probe = Cursor { text: self.text, at: self.at + 1 };
        probe.skip_space();
        probe.peek() == Some(b'}')
    }

    /// Skips a string from its opening quote; returns the place of the closing quote and whether it has escapes.
    pub(crate) fn skip_string(&mut self) -> Result<(usize, bool), Defect> {
        let start = self.at;
        self.at += 1;
        let mut has_escapes = false;
        loop {
            match memchr::memchr2(b'"', b'\\', &self.text[self.at..]) {
                None => return Err(Defect::new(Reason::JsonSyntax).about("the string has no end").at(start)),
                Some(ahead) if self.text[self.at + ahead] == b'"' => {
                    let end = self.at + ahead;
                    self.at = end + 1;
                    return Ok((end, has_escapes));
                }
                Some(ahead) => {
                    has_escapes = true;
                    self.at = (self.at + ahead + 2).min(self.text.len());
                }
            }
        }
    }

    /// Reads a number by RFC 8259's grammar.
    fn number(&mut self) -> Result<Value, Defect> {
        let start = self.at;
        self.eat(b'-');
        let int_start = self.at;
        self.skip_digits()?;
        if self.text[int_start] == b'0' && self.at > int_start + 1 {
            return Err(Defect::new(Reason::JsonSyntax).about("a number starts with 0").at(start));
        }
        let mut kind = AttributeType::Integer;
        if self.eat(b'.') {
            kind = AttributeType::Float;
            self.skip_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            kind = AttributeType::Float;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Ok(Value { text: Span::payload(start, self.at), kind })
    }

    fn skip_digits(&mut self) -> Result<(), Defect> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected()) } else { Ok(()) }
    }

    fn literal(&mut self, word: &[u8], kind: AttributeType) -> Result<Value, Defect> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.unexpected());
        }
        let start = self.at;
        self.at += word.len();
        Ok(Value { text: Span::payload(start, self.at), kind })
    }

    /// Skips any value, checking its syntax; no recursion, the nesting is a bit for each open bracket.
    pub(crate) fn skip_value(&mut self, depth: usize) -> Result<(), Defect> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'"') => {
                    self.skip_string()?;
                }
                Some(b'-' | b'0'..=b'9') => {
                    self.number()?;
                }
                Some(b't') => drop(self.literal(b"true", AttributeType::Bool)?),
                Some(b'f') => drop(self.literal(b"false", AttributeType::Bool)?),
                Some(b'n') => drop(self.literal(b"null", AttributeType::Null)?),
                Some(bracket @ (b'[' | b'{')) => {
                    if depth + open.len() > NESTING_MAX {
                        return Err(Defect::new(Reason::NestingTooDeep).at(self.at));
                    }
                    self.at += 1;
                    self.skip_space();
                    if !self.eat(bracket + 2) {
                        open.push(bracket);
                        if bracket == b'{' {
                            self.skip_key()?;
                        }
                        continue;
                    }
                }
                _ => return Err(self.unexpected()),
            }
            if !self.close_values(&mut open)? {
                return Ok(());
            }
        }
    }

    /// After a value: closes brackets up to the next comma. Whether another value follows.
    fn close_values(&mut self, open: &mut Vec<u8>) -> Result<bool, Defect> {
        while let Some(&bracket) = open.last() {
            self.skip_space();
            if self.eat(b',') {
                if bracket == b'{' {
                    self.skip_space();
                    self.skip_key()?;
                }
                return Ok(true);
            }
            // In ASCII both closing brackets are two after the opening ones.
            if !self.eat(bracket + 2) {
                return Err(self.unexpected());
            }
            open.pop();
        }
        Ok(false)
    }

    fn skip_key(&mut self) -> Result<(), Defect> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected());
        }
        self.skip_string()?;
        self.skip_space();
        if self.eat(b':') { Ok(()) } else { Err(self.unexpected()) }
    }
}

/// Appends the text of a JSON string; on a bad escape returns its offset. A lone surrogate becomes U+FFFD.
pub(crate) fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<(), usize> {
    let mut at = 0;
    while let Some(ahead) = memchr::memchr(b'\\', &raw[at..]) {
        out.extend_from_slice(&raw[at..at + ahead]);
        at += ahead;
        let plain = match raw.get(at + 1).ok_or(at)? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            &same @ (b'"' | b'\\' | b'/') => same,
            b'u' => {
                let (character, len) = unicode_escape(&raw[at..]).ok_or(at)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                at += len;
                continue;
            }
            _ => return Err(at),
        };
        out.push(plain);
        at += 2;
    }
    out.extend_from_slice(&raw[at..]);
    Ok(())
}

/// Reads `\uXXXX`, or a surrogate pair of two; returns the character and the bytes taken.
fn unicode_escape(raw: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| -> Option<u32> {
        let digits = raw.get(at + 2..at + 6).filter(|_| raw[at..].starts_with(b"\\u"))?;
        digits.iter().try_fold(0, |value, &digit| Some(value * 16 + char::from(digit).to_digit(16)?))
    };
    let first = unit(0)?;
    if (0xD800..0xDC00).contains(&first)
        && let Some(second @ 0xDC00..0xE000) = unit(6)
    {
        let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        return Some((char::from_u32(code)?, 12));
    }
    Some((char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6))
}
