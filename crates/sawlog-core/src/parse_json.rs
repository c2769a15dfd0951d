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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Format;
    use crate::shown;

    #[track_caller]
    fn check(json: &str, row: &str) {
        assert_eq!(shown::rows(Format::Json, json), row, "{json}");
    }

    #[track_caller]
    fn check_defect(json: &str, reason: Reason, at: usize) {
        let mut record = Record::default();
        let defect = parse_json(json.as_bytes(), shown::RECEIVED, &mut record).expect_err(json);
        assert_eq!((defect.reason, defect.byte_offset), (reason, Some(at)), "{json}");
    }

    #[test]
    fn values_keep_their_text_and_their_type() {
        for (value, shown) in [
            ("1", "i:1"),
            ("-0", "i:-0"),
            ("1.50", "d:1.50"),
            ("1e400", "d:1e400"),
            ("123456789012345678901234567890", "i:123456789012345678901234567890"),
            ("true", "b:true"),
            ("false", "b:false"),
            ("null", "n:"),
            ("[]", "j:[]"),
            ("{}", "j:{}"),
            ("[1, {\"a\": null}]", "j:[1, {\"a\": null}]"),
            (r#""text""#, "s:text"),
            (r#""007""#, "s:007"),
            (r#""12""#, "s:12"),
            (r#""true""#, "s:true"),
            (r#""a\"b\\c\/d\n\t\u00e9\ud83d\ude00""#, "s:a\"b\\c/d\n\té😀"),
            (r#""\ud83d""#, "s:\u{fffd}"),
            ("\"a\u{1}b\"", "s:a\u{1}b"),
        ] {
            check(&format!(r#"{{"k":{value}}}"#), &format!("logs @k={shown}"));
        }
    }

    #[test]
    fn null_words_are_nulls() {
        for word in ["", "-", "null", "NULL", "None", "nil", "N/A", "undefined"] {
            check(&format!(r#"{{"k":"{word}"}}"#), "logs @k=n:");
            check(&format!(r#"{{"service":"{word}","message":"{word}","status":"{word}"}}"#), "logs");
        }
        for word in ["nothing", "--", " ", "0", "nulls"] {
            check(&format!(r#"{{"k":"{word}"}}"#), &format!("logs @k=s:{word}"));
        }
    }

    #[test]
    fn numbers_in_strings_and_units_fill_slots() {
        for (json, row) in [
            (r#""status":"404""#, "logs severity_number=13 severity_text=WARN http_status=404"),
            (r#""status":404.0"#, "logs severity_number=13 severity_text=WARN http_status=404"),
            (r#""duration":"107ms""#, "logs duration_us=107000"),
            (r#""duration":"1m30s""#, "logs duration_us=90000000"),
            (r#""duration_s":1.5"#, "logs duration_us=1500000"),
            (r#""bytes_sent":"1.5KiB""#, "logs response_bytes=1536"),
            (r#""timestamp":"1795485600""#, "logs event_time=2026-11-24T02:00:00Z"),
            (r#""timestamp":"2026-11-24 04:00:00.5 +02:00""#, "logs event_time=2026-11-24T02:00:00.500000Z"),
        ] {
            check(&format!("{{{json}}}"), row);
        }
    }

    #[test]
    fn a_value_of_another_type_than_its_column_is_an_attribute() {
        for (json, row) in [
            (r#""status":"ok""#, "logs @status=s:ok"),
            (r#""status":1e12"#, "logs @status=d:1e12"),
            (r#""status":true"#, "logs @status=b:true"),
            (r#""duration":"fast""#, "logs @duration=s:fast"),
            (r#""service":{"name":"a"}"#, "logs service=a"),
            (r#""service":["a"]"#, "logs @service=j:[\"a\"]"),
            (r#""service":5"#, "logs service=5"),
            (r#""trace_id":"short""#, "logs @trace_id=s:short"),
            (r#""message":5"#, "logs message=5 message_type=i"),
            (r#""message":[1]"#, "logs message=[1] message_type=j"),
            (r#""message":true"#, "logs message=true message_type=b"),
            (r#""level":["a"]"#, "logs @level=j:[\"a\"]"),
            (r#""ts":[1]"#, "logs @ts=j:[1]"),
        ] {
            check(&format!("{{{json}}}"), row);
        }
    }

    #[test]
    fn a_key_that_comes_twice_is_kept_twice() {
        check(r#"{"a":1,"a":"x","a":null}"#, "logs @a=i:1 @a#2=s:x @a#3=n:");
        check(r#"{"a":{"b":1},"a.b":2}"#, "logs @a.b=i:1 @a.b#2=i:2");
        check(r#"{"message":"first","message":"second"}"#, "logs message=first @message=s:second");
        check(r#"{"a#2":0,"a":1,"a":2}"#, "logs @a#2=i:0 @a=i:1 @a#3=i:2");
        check(r#"{"":1,"":2}"#, "logs @=i:1 @#2=i:2");
    }

    #[test]
    fn nesting_and_fields_have_limits() {
        let nested = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        let deep = format!("logs @{}a=i:1", "a.".repeat(NESTING_MAX - 1));
        check(&nested(NESTING_MAX), &deep);
        check_defect(&nested(NESTING_MAX + 1), Reason::NestingTooDeep, 5 * NESTING_MAX);
        check_defect(&"[".repeat(100_000), Reason::JsonSyntax, 0);
        check_defect(&format!(r#"{{"a":{}"#, "[".repeat(100_000)), Reason::NestingTooDeep, 5 + NESTING_MAX - 1);
        let wide =
            |count: usize| format!("{{{}}}", (0..count).map(|n| format!("\"k{n}\":1")).collect::<Vec<_>>().join(","));
        assert!(parse_json(wide(FIELDS_MAX).as_bytes(), 0, &mut Record::default()).is_ok());
        let defect = parse_json(wide(FIELDS_MAX + 1).as_bytes(), 0, &mut Record::default()).expect_err("too wide");
        assert_eq!(defect.reason, Reason::TooManyFields);
    }

    #[test]
    fn broken_text_is_refused_with_the_place() {
        for (json, at) in [
            (r#"{"a":"open"#, 5),
            (r#"{"a":"open\"#, 5),
            (r#"{"open"#, 1),
            (r#"{"a":1"#, 6),
            (r#"{"a""#, 4),
            (r#"{"a":"#, 5),
            (r#"{"a":1,}"#, 7),
            (r#"{"a":1 "b":2}"#, 7),
            (r#"{a:1}"#, 1),
            (r#"{"a":01}"#, 5),
            (r#"{"a":1.}"#, 7),
            (r#"{"a":+1}"#, 5),
            (r#"{"a":tru}"#, 5),
            (r#"{"a":NaN}"#, 5),
            (r#"{"a":"\x"}"#, 6),
            (r#"{"a":"\u12"}"#, 6),
            (r#"{"a":[1}"#, 7),
            (r#"{"a":1}}"#, 7),
            ("{", 1),
        ] {
            check_defect(json, Reason::JsonSyntax, at);
        }
        for json in ["[1]", "5", "\"text\"", "null"] {
            let defect = parse_json(json.as_bytes(), 0, &mut Record::default()).expect_err(json);
            assert_eq!(defect.reason, Reason::NotAnObject, "{json}");
        }
    }
}
