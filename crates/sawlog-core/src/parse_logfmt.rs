//! Reading logfmt: `level=error msg="payment failed" dur=107ms user.id=42 cached`.
//!
//! For: one line of `key=value` pairs as Go, Heroku and Grafana programs write them. Not for: text that merely contains
//! a pair somewhere ([`crate::parse_text`]; [`looks_like_logfmt`] tells them apart). There is no standard; this follows
//! the go-logfmt package where it is strict, and keeps what it would refuse where nothing is ambiguous: a bare value may
//! hold `=` and quotes, and an escape that JSON does not know is kept as written.
//! Invariant: work is one pass over the line and at most [`FIELDS_MAX`] fields.

use crate::defect::{Defect, Reason};
use crate::fields::{self, Field};
use crate::limits::FIELDS_MAX;
use crate::parse_json::unescape;
use crate::record::{AttributeType, Record, Span, Value};
use crate::value;

/// Reads a line of pairs. A key alone means true. A line without any pair is no logfmt.
pub(crate) fn parse_logfmt(payload: &[u8], receive_time: i64, record: &mut Record) -> Result<(), Defect> {
    let mut tokens = Tokens { text: payload, at: 0 };
    let mut field_count = 0;
    let mut pair_count = 0;
    while let Some(token) = tokens.next_token()? {
        field_count += 1;
        if field_count > FIELDS_MAX {
            return Err(Defect::new(Reason::TooManyFields).at(tokens.at));
        }
        pair_count += usize::from(token.is_pair());
        let value = token_value(payload, &token, record);
        fields::assign(record, payload, None, Field { key: token.key, value, at: token.at }, receive_time);
    }
    if pair_count == 0 {
        return Err(mismatch("key=value pairs", 0));
    }
    fields::finish(record, payload, receive_time)
}

/// Whether a line is mostly pairs, at least `pairs_min` of them: ordinary text has a pair here and there.
pub(crate) fn looks_like_logfmt(payload: &[u8], pairs_min: usize) -> bool {
    let mut tokens = Tokens { text: payload, at: 0 };
    let (mut pair_count, mut bare_count) = (0, 0);
    loop {
        match tokens.next_token() {
            Ok(Some(token)) if token.is_pair() => pair_count += 1,
            Ok(Some(_)) => bare_count += 1,
            Ok(None) => return pair_count >= pairs_min && pair_count >= 2 * bare_count,
            Err(_) => return false,
        }
    }
}

fn token_value(payload: &[u8], token: &Token, record: &mut Record) -> Value {
    match token.value {
        Written::Nothing => Value { text: record.keep(b"true"), kind: AttributeType::Bool },
        Written::Bare(text) => Value { text, kind: bare_type(record.bytes(payload, text)) },
        Written::Quoted { start, end, has_escapes } => {
            let written = Span::payload(start, end);
            let mut is_plain = !has_escapes;
            let mut text = written;
            if has_escapes {
                text = record.keep_with(|out| is_plain = unescape(&payload[start..end], out).is_ok());
            }
            Value { text: if is_plain { text } else { written }, kind: AttributeType::Text }
        }
    }
}

/// Type of a value without quotes. A number is one by JSON's grammar, so that `007` and `+1` stay text.
fn bare_type(text: &[u8]) -> AttributeType {
    if matches!(text, b"true" | b"false") {
        return AttributeType::Bool;
    }
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_number_like = match digits {
        [b'0', next, ..] => matches!(next, b'.' | b'e' | b'E'),
        [first, ..] => first.is_ascii_digit() && digits.last().is_some_and(u8::is_ascii_digit),
        [] => false,
    };
    if !is_number_like {
        AttributeType::Text
    } else if digits.iter().all(u8::is_ascii_digit) {
        AttributeType::Integer
    } else if value::float(text).is_some() && digits.last().is_some_and(u8::is_ascii_digit) {
        AttributeType::Float
    } else {
        AttributeType::Text
    }
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// The key stands alone.
    Nothing,
    /// Up to the next space.
    Bare(Span),
    /// Between quotes, which are not part of it.
    Quoted { start: usize, end: usize, has_escapes: bool },
}

#[derive(Clone, Copy, Debug)]
struct Token {
    at: usize,
    key: Span,
    value: Written,
}

impl Token {
    fn is_pair(&self) -> bool {
        self.value != Written::Nothing
    }
}

struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl Tokens<'_> {
    fn next_token(&mut self) -> Result<Option<Token>, Defect> {
        self.at += self.count_while(|byte| byte <= b' ');
        let start = self.at;
        if start == self.text.len() {
            return Ok(None);
        }
        self.at += self.count_while(|byte| byte > b' ' && byte != b'=' && byte != b'"');
        let key = Span::payload(start, self.at);
        let next = self.text.get(self.at).copied();
        if next == Some(b'"') || self.at == start {
            return Err(mismatch("a key of letters, digits and marks but no quotes", self.at));
        }
        let value = if next == Some(b'=') {
            self.at += 1;
            self.written()?
        } else {
            Written::Nothing
        };
        Ok(Some(Token { at: start, key, value }))
    }

    fn written(&mut self) -> Result<Written, Defect> {
        if self.text.get(self.at) != Some(&b'"') {
            let start = self.at;
            self.at += self.count_while(|byte| byte > b' ');
            return Ok(Written::Bare(Span::payload(start, self.at)));
        }
        let start = self.at + 1;
        let mut end = start;
        let mut has_escapes = false;
        loop {
            let ahead = memchr::memchr2(b'"', b'\\', self.text.get(end..).unwrap_or_default())
                .ok_or_else(|| mismatch("a closing quote", start - 1))?;
            end += ahead;
            if self.text[end] == b'"' {
                self.at = end + 1;
                return Ok(Written::Quoted { start, end, has_escapes });
            }
            has_escapes = true;
            end += 2;
        }
    }

    fn count_while(&self, is_wanted: impl Fn(u8) -> bool) -> usize {
        self.text[self.at..].iter().take_while(|&&byte| is_wanted(byte)).count()
    }
}

fn mismatch(expected: &str, at: usize) -> Defect {
    Defect::new(Reason::FormatMismatch).about(&format!("expected {expected}")).at(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Int, Text, Time};

    const NOW: i64 = 1_795_489_200_000_000;

    fn parsed(line: &str) -> Record {
        let mut record = Record::default();
        parse_logfmt(line.as_bytes(), NOW, &mut record).expect("a line of pairs");
        record
    }

    /// Attributes as `key=value:type`.
    #[track_caller]
    fn check(line: &str, attributes: &str) {
        let record = parsed(line);
        let text = |span| String::from_utf8_lossy(record.bytes(line.as_bytes(), span)).into_owned();
        let shown: Vec<String> = record
            .attributes
            .entries()
            .iter()
            .map(|one| format!("{}={}:{}", text(one.key), text(one.value.text), char::from(one.value.kind.letter())))
            .collect();
        assert_eq!(shown.join(" "), attributes);
    }

    #[test]
    fn fields_fill_the_same_slots_as_in_json() {
        let line =
            "time=2026-11-24T03:00:00Z level=error msg=\"payment \\\"failed\\\"\" dur=107ms duration=107ms user.id=42";
        let record = parsed(line);
        let text = |slot| record.text_bytes(line.as_bytes(), slot).map(String::from_utf8_lossy);
        assert_eq!(record.time(Time::Event), Some(NOW));
        assert_eq!(text(Text::Message).as_deref(), Some("payment \"failed\""));
        assert_eq!(text(Text::SeverityText).as_deref(), Some("error"));
        assert_eq!(text(Text::UserId).as_deref(), Some("42"));
        assert_eq!(record.int(Int::DurationUs), Some(107_000));
    }

    #[test]
    fn values_have_types_and_a_key_alone_is_true() {
        check("a=1 b=-2.5 c=true d=x flag", "a=1:i b=-2.5:d c=true:b d=x:s flag=true:b");
        check("a=\"1\" b=007 c=+1 d=1. e=1e5 f=0", "a=1:s b=007:s c=+1:s d=1.:s e=1e5:d f=0:i");
        check("id=12345678901234567890123", "id=12345678901234567890123:i");
    }

    #[test]
    fn odd_values_are_kept() {
        check("q=a=b&c=\"d\" x=1", "q=a=b&c=\"d\":s x=1:i");
        check(r#"ansi="\x1b[31m" tab="a\tb""#, "ansi=\\x1b[31m:s tab=a\tb:s");
        check("empty= none=null x=1", "empty=:n none=null:n x=1:i");
        check("a=1 a=2", "a=1:i a#2=2:i");
    }

    #[test]
    fn lines_that_are_no_pairs_are_refused_with_the_place() {
        let mut record = Record::default();
        for (line, at) in [("hello world", 0), ("a=1 say \"x\" b=2", 8), ("a=\"open", 2), ("a=\"open\\", 2), ("=1", 0)]
        {
            record.reset();
            let defect = parse_logfmt(line.as_bytes(), NOW, &mut record).expect_err(line);
            assert_eq!((defect.reason, defect.byte_offset), (Reason::FormatMismatch, Some(at)), "{line}");
        }
        let wide = "a=1 ".repeat(FIELDS_MAX + 1);
        record.reset();
        assert_eq!(parse_logfmt(wide.as_bytes(), NOW, &mut record).expect_err("wide").reason, Reason::TooManyFields);
    }

    #[test]
    fn a_time_that_cannot_be_read_names_its_field() {
        let mut record = Record::default();
        let defect = parse_logfmt(b"level=info time=\"half past ten\"", NOW, &mut record).expect_err("no time");
        assert_eq!((defect.reason, defect.field.as_deref()), (Reason::TimeUnreadable, Some("time")));
    }

    #[test]
    fn text_with_a_pair_in_it_is_no_logfmt() {
        for line in [
            "authentication failure; logname= uid=0 euid=0 tty=NODEVssh ruser= rhost=1.2.3.4 by user root at night",
            "session opened for user root by (uid=0)",
            "2015-10-18 18:01:47,978 INFO [main] org.apache: Executing with tokens: a=b c=d",
            "proxy.cse.cuhk.edu.hk:5070 close, 0 bytes sent, 0 bytes received, lifetime=00:01",
            "one=1",
        ] {
            assert!(!looks_like_logfmt(line.as_bytes(), 2), "{line}");
        }
        assert!(looks_like_logfmt(b"level=info msg=\"all is well\" started", 2));
    }

    fn value_strategy() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9.=:/-]{1,12}",
            any::<i64>().prop_map(|number| number.to_string()),
            "\\PC{0,12}",
            "[a\n\r\t\"\\\\= \u{1}\u{7f}é]{0,12}"
        ]
    }

    /// Quoted as Go's `strconv.Quote` and JSON do.
    fn quoted(text: &str) -> String {
        let mut out = String::from("\"");
        for character in text.chars() {
            match character {
                '"' | '\\' => out.extend(['\\', character]),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                control if control.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(control))),
                other => out.push(other),
            }
        }
        out + "\""
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(line in proptest::collection::vec(prop_oneof![
            Just(b'='), Just(b'"'), Just(b'\\'), Just(b' '), Just(b'u'), any::<u8>()
        ], 0..200)) {
            let mut record = Record::default();
            let _ = parse_logfmt(&line, NOW, &mut record);
            let _ = looks_like_logfmt(&line, 2);
        }

        #[test]
        fn what_is_quoted_comes_back(values in proptest::collection::vec(value_strategy(), 1..8)) {
            let pair = |(index, text): (usize, &String)| format!("key{index}={}", quoted(text));
            let line = values.iter().enumerate().map(pair).collect::<Vec<_>>().join(" ");
            prop_assert!(looks_like_logfmt(line.as_bytes(), 1));
            let record = parsed(&line);
            prop_assert_eq!(record.attributes.entries().len(), values.len());
            for (entry, wanted) in record.attributes.entries().iter().zip(&values) {
                prop_assert_eq!(record.bytes(line.as_bytes(), entry.value.text), wanted.as_bytes());
            }
        }
    }
}
