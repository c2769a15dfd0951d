//! Reading plain log lines: a time, a severity, a logger and a message, wherever the line has them.
//!
//! For: the many formats that are "a header, then text" and that no grammar describes. Never fails: a line in which
//! nothing is recognized is a message. Not for: formats with a grammar of their own.

use crate::record::{AttributeType, Int, Record, Span, Text, Time, Value};
use crate::time::ExactTime;
use crate::{fields, severity, time, value};

/// How many words into a line its time may stand.
const TIME_WORDS_MAX: usize = 6;
/// How many words after the time its severity may stand.
const SEVERITY_WORDS_MAX: usize = 9;
/// In this many words after the time a severity counts in any case; later only in capitals.
const ANY_CASE_WORDS_MAX: usize = 2;

pub(crate) fn parse_text(payload: &[u8], receive_time: i64, record: &mut Record) {
    let found = find_time(payload, receive_time);
    let mut body_at = 0;
    if let Some((time, start, end)) = found {
        fields::set_time(record, Time::Event, time);
        let before = payload[..start].trim_ascii();
        if !before.is_empty() && !before.iter().all(|byte| b"[(-".contains(byte)) {
            add(record, payload, b"text.prefix", span_of(payload, before));
        }
        body_at = end;
        if time::is_klog(&payload[start..]) {
            return klog(payload, start, end, record);
        }
    }
    body_at = skip_separators(payload, body_at);
    if let Some((number, word_start, word_end)) = find_severity(payload, body_at) {
        record.set_int(Int::SeverityNumber, number);
        record.set_text(Text::SeverityText, Span::payload(word_start, word_end));
        let between = trim_marks(&payload[body_at..word_start]);
        if !between.is_empty() {
            let is_process = value::integer(between).is_some();
            let key: &[u8] = if is_process { b"process.pid" } else { b"text.header" };
            add(record, payload, key, span_of(payload, between));
        }
        let after_word = word_end + payload[word_end..].iter().take_while(|&&byte| b"])>".contains(&byte)).count();
        body_at = logger_and_thread(payload, skip_separators(payload, after_word), record);
    }
    if body_at < payload.len() {
        record.set_text(Text::Message, Span::payload(body_at, payload.len()));
    }
}

/// The header that klog and glog write: `I1124 03:00:00.123456   4711 file.go:123] text`. The severity is the letter in
/// front of the time.
fn klog(payload: &[u8], start: usize, time_end: usize, record: &mut Record) {
    let letter = Span::payload(start, start + 1);
    record.set_text(Text::SeverityText, letter);
    if let Some(number) = severity::number_of_word(&payload[start..=start]) {
        record.set_int(Int::SeverityNumber, number);
    }
    let mut message_at = skip_separators(payload, time_end);
    let header = payload[message_at..].split(|&byte| byte == b']').next().unwrap_or_default();
    let mut parts = words(header, 0).map(|(_, word)| word);
    if let (Some(process), Some(place), None) = (parts.next(), parts.next(), parts.next())
        && message_at + header.len() < payload.len()
        && value::integer(process).is_some()
    {
        add(record, payload, b"process.pid", span_of(payload, process));
        add(record, payload, b"code.place", span_of(payload, place));
        message_at = skip_separators(payload, message_at + header.len() + 1);
    }
    if message_at < payload.len() {
        record.set_text(Text::Message, Span::payload(message_at, payload.len()));
    }
}

/// The first time in the line's first words, its start and its end.
fn find_time(payload: &[u8], receive_time: i64) -> Option<(ExactTime, usize, usize)> {
    for (start, word) in words(payload, 0).take(TIME_WORDS_MAX) {
        let open = word.iter().take_while(|&&byte| b"[(<".contains(&byte)).count();
        let at = start + open;
        if let Some((time, len)) = time::parse_exact_prefix(&payload[at..], receive_time) {
            let end = at + len;
            let is_whole = payload.get(end).is_none_or(|byte| !byte.is_ascii_alphanumeric());
            if is_whole && len >= 8 {
                let close = payload[end..].iter().take_while(|&&byte| b"])>".contains(&byte)).count();
                return Some((time, start, end + close));
            }
        }
        let digits = &word[open..];
        let is_epoch = matches!(digits.len(), 9..=10 | 13) && digits.iter().all(u8::is_ascii_digit);
        if is_epoch && let Some((time, len)) = time::epoch_prefix(digits) {
            return Some((time, start, at + len));
        }
    }
    None
}

fn find_severity(payload: &[u8], from: usize) -> Option<(i64, usize, usize)> {
    for (index, (start, word)) in words(payload, from).take(SEVERITY_WORDS_MAX).enumerate() {
        let name = trim_marks(word);
        let is_clear =
            index < ANY_CASE_WORDS_MAX || word.first() == Some(&b'[') || name.iter().all(u8::is_ascii_uppercase);
        if name.len() >= 3
            && is_clear
            && let Some(number) = severity::number_of_word(name)
        {
            let name_start = start + offset_in(word, name);
            return Some((number, name_start, name_start + name.len()));
        }
    }
    None
}

/// Reads `[thread]` and `logger.name:` after a severity; returns where the message starts.
fn logger_and_thread(payload: &[u8], from: usize, record: &mut Record) -> usize {
    let mut at = from;
    if payload.get(at) == Some(&b'[')
        && let Some(len) = bracketed_len(&payload[at..])
        && at + len < payload.len()
    {
        add(record, payload, b"thread.name", Span::payload(at + 1, at + len - 1));
        at = skip_separators(payload, at + len);
    }
    let rest = &payload[at..];
    let word_len = memchr::memchr(b' ', rest).unwrap_or(0);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"._$-/@".contains(byte);
    if word_len > 1 && rest[word_len - 1] == b':' && rest[..word_len - 1].iter().all(is_name) {
        record.set_text(Text::Logger, Span::payload(at, at + word_len - 1));
        at = skip_separators(payload, at + word_len);
    }
    at
}

/// Length of a bracketed text, counting brackets inside it.
fn bracketed_len(text: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    for (index, byte) in text.iter().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn words(payload: &[u8], from: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = from;
    std::iter::from_fn(move || {
        at += payload.get(at..)?.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let rest = &payload[at..];
        let len = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let start = at;
        at += len;
        (len > 0).then(|| (start, &payload[start..start + len]))
    })
}

fn trim_marks(word: &[u8]) -> &[u8] {
    let is_mark = |byte: &u8| byte.is_ascii_whitespace() || b"[](){}<>:,;|-".contains(byte);
    let start = word.iter().position(|byte| !is_mark(byte)).unwrap_or(word.len());
    let end = word.iter().rposition(|byte| !is_mark(byte)).map_or(start, |last| last + 1);
    &word[start..end]
}

/// Skips spaces, and the marks `-`, `:` and `|` where a space follows them.
fn skip_separators(payload: &[u8], from: usize) -> usize {
    let mut at = from;
    loop {
        match (payload.get(at), payload.get(at + 1)) {
            (Some(b' ' | b'\t'), _) => at += 1,
            (Some(b'-' | b':' | b'|' | b','), Some(b' ')) => at += 2,
            _ => return at,
        }
    }
}

fn offset_in(outer: &[u8], inner: &[u8]) -> usize {
    inner.as_ptr() as usize - outer.as_ptr() as usize
}

fn span_of(payload: &[u8], part: &[u8]) -> Span {
    let start = offset_in(payload, part);
    Span::payload(start, start + part.len())
}

fn add(record: &mut Record, payload: &[u8], key: &[u8], text: Span) {
    let is_integer = value::integer(record.bytes(payload, text)).is_some();
    let key = record.keep(key);
    let kind = if is_integer { AttributeType::Integer } else { AttributeType::Text };
    record.add_attribute(payload, key, Value { text, kind });
}

#[cfg(test)]
mod tests {
    use crate::batch::Format;
    use crate::shown;

    #[track_caller]
    fn check(line: &str, row: &str) {
        assert_eq!(shown::rows(Format::Text, line), row, "{line}");
    }

    #[test]
    fn time_severity_thread_and_logger_are_found_where_they_are() {
        let at_two = "logs event_time=2026-11-24T02:00:00Z";
        for (line, row) in [
            ("2026-11-24 02:00:00 ERROR it broke", "severity_number=17 severity_text=ERROR message=it broke"),
            (
                "2026-11-24 02:00:00,000 - WARN  [main] - slow",
                "severity_number=13 severity_text=WARN message=slow @thread.name=s:main",
            ),
            (
                "2026-11-24T02:00:00Z INFO [a [b]] org.Log: up",
                "severity_number=9 severity_text=INFO logger=org.Log message=up @thread.name=s:a [b]",
            ),
            ("[Tue Nov 24 02:00:00 2026] [error] no file", "severity_number=17 severity_text=error message=no file"),
            ("2026-11-24 02:00:00 4711 INFO up", "severity_number=9 severity_text=INFO message=up @process.pid=i:4711"),
            (
                "2026-11-24 02:00:00 in vm: ERROR down",
                "severity_number=17 severity_text=ERROR message=down @text.header=s:in vm",
            ),
            ("vm-1 2026-11-24 02:00:00 up", "message=up @text.prefix=s:vm-1"),
            ("1795485600 INFO up", "severity_number=9 severity_text=INFO message=up"),
            ("2026-11-24 04:00:00.000 +02:00 [INF] up", "severity_number=9 severity_text=INF message=up"),
            ("2026-11-24 03:00:00 CET LOG:  ready", "message=LOG:  ready"),
            ("Tue 2026-11-24 02:00:00 UTC vm up", "message=vm up"),
            ("24.11.2026 02:00:00 FATAL down", "severity_number=21 severity_text=FATAL message=down"),
            ("2026-11-24 02:00:00 no errors found in warning.txt", "message=no errors found in warning.txt"),
        ] {
            check(line, &format!("{at_two} {row}"));
        }
        check("just words", "logs message=just words");
        check("ERROR without time", "logs severity_number=17 severity_text=ERROR message=without time");
        check("version 10.11.12 of 99 parts", "logs message=version 10.11.12 of 99 parts");
        check(
            "2026-11-24 02:00:00.123456789 up",
            "logs event_time=2026-11-24T02:00:00.123456Z event_time_nanos=789 message=up",
        );
    }

    #[test]
    fn the_headers_of_klog_are_read() {
        let time = "logs event_time=2026-11-24T02:00:00.123456Z";
        for (line, row) in [
            (
                "I1124 02:00:00.123456   4711 server.go:123] ready",
                "severity_number=9 severity_text=I message=ready @process.pid=i:4711 @code.place=s:server.go:123",
            ),
            (
                "W1124 02:00:00.123456 1 a.go:1] \"quoted\" k=\"v\"",
                "severity_number=13 severity_text=W message=\"quoted\" k=\"v\" @process.pid=i:1 @code.place=s:a.go:1",
            ),
            (
                "E20261124 02:00:00.123456 7 a.cc:9] bad [x]",
                "severity_number=17 severity_text=E message=bad [x] @process.pid=i:7 @code.place=s:a.cc:9",
            ),
            ("F1124 02:00:00.123456 no header", "severity_number=21 severity_text=F message=no header"),
        ] {
            check(line, &format!("{time} {row}"));
        }
        check("E1124 burst pipes", "logs message=E1124 burst pipes");
    }
}
