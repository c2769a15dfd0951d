//! Reading lines of the Apache and nginx combined (and common) log format.
//!
//! For: `host ident user [time] "request" status bytes "referrer" "user agent"` with anything after it kept. Not for:
//! error logs of the same servers, which are plain text ([`crate::parse_text`]).

use crate::defect::{Defect, Reason};
use crate::record::{AttributeType, Int, Record, Span, Text, Time, Value};
use crate::{time, value};

pub(crate) fn parse_access(payload: &[u8], receive_time: i64, record: &mut Record) -> Result<(), Defect> {
    let mut line = Line { text: payload, at: 0 };
    let client = line.word()?;
    let ident = line.word()?;
    let user = line.word()?;
    let written_time = line.enclosed(b'[', b']')?;
    let request = line.enclosed(b'"', b'"')?;
    let status = line.word()?;
    let bytes = line.word()?;
    let time_text = record.bytes(payload, written_time);
    let micros = time::parse(time_text, receive_time).ok_or_else(|| {
        let text = String::from_utf8_lossy(time_text).into_owned();
        Defect::new(Reason::TimeUnreadable).in_field(b"time").about(&text)
    })?;
    let status_number = value::integer(record.bytes(payload, status)).filter(|status| (0..1000).contains(status));
    let Some(status_number) = status_number else {
        return Err(line.mismatch("a three-digit status"));
    };
    record.set_time(Time::Event, micros);
    record.set_int(Int::HttpStatus, status_number);
    set_text(record, payload, Text::ClientAddress, client);
    set_text(record, payload, Text::UserId, user);
    if let Some(bytes) = value::integer(record.bytes(payload, bytes)) {
        record.set_int(Int::ResponseBytes, bytes);
    }
    if !value::is_null_word(record.bytes(payload, ident)) {
        add(record, payload, b"http.ident", ident);
    }
    set_request(record, payload, request);
    if let Ok(referrer) = line.enclosed(b'"', b'"') {
        set_text(record, payload, Text::Referrer, referrer);
        if let Ok(agent) = line.enclosed(b'"', b'"') {
            set_text(record, payload, Text::UserAgent, agent);
        }
    }
    let rest = line.rest();
    if !rest.is_empty() {
        add(record, payload, b"http.log_rest", rest);
    }
    Ok(())
}

fn set_request(record: &mut Record, payload: &[u8], request: Span) {
    record.set_text(Text::Message, request);
    let bytes = record.bytes(payload, request);
    let mut words = bytes.split(|&byte| byte == b' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return;
    };
    if method.is_empty() || method.len() > 16 || !method.iter().all(u8::is_ascii_uppercase) {
        return;
    }
    let (method_len, path_len, request_len) = (method.len(), path.len(), bytes.len());
    record.set_text(Text::HttpMethod, request.trimmed(0, request_len - method_len));
    record.set_text(Text::HttpPath, request.trimmed(method_len + 1, request_len - method_len - 1 - path_len));
    if request_len > method_len + path_len + 2 {
        add(record, payload, b"network.protocol", request.trimmed(method_len + path_len + 2, 0));
    }
}

fn set_text(record: &mut Record, payload: &[u8], slot: Text, span: Span) {
    if !value::is_null_word(record.bytes(payload, span)) {
        record.set_text(slot, span);
    }
}

fn add(record: &mut Record, payload: &[u8], key: &[u8], text: Span) {
    let key = record.keep(key);
    let kind = AttributeType::Text;
    record.add_attribute(payload, key, Value { text, kind });
}

struct Line<'a> {
    text: &'a [u8],
    at: usize,
}

impl Line<'_> {
    fn mismatch(&self, expected: &str) -> Defect {
        Defect::new(Reason::FormatMismatch).about(&format!("expected {expected}")).at(self.at)
    }

    fn skip_spaces(&mut self) {
        while self.text.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
    }

    fn word(&mut self) -> Result<Span, Defect> {
        self.skip_spaces();
        let start = self.at;
        let len = memchr::memchr(b' ', &self.text[start..]).unwrap_or(self.text.len() - start);
        if len == 0 {
            return Err(self.mismatch("a word"));
        }
        self.at += len;
        Ok(Span::payload(start, self.at))
    }

    /// Text between two marks; a backslash protects the closing one, as Apache writes it.
    fn enclosed(&mut self, open: u8, close: u8) -> Result<Span, Defect> {
        self.skip_spaces();
        if self.text.get(self.at) != Some(&open) {
            return Err(self.mismatch(&format!("{:?}", char::from(open))));
        }
        let start = self.at + 1;
        let mut end = start;
        loop {
            let ahead = memchr::memchr2(close, b'\\', &self.text[end..])
                .ok_or_else(|| self.mismatch(&format!("a closing {:?}", char::from(close))))?;
            end += ahead;
            if self.text[end] == close {
                self.at = end + 1;
                return Ok(Span::payload(start, end));
            }
            end = (end + 2).min(self.text.len());
        }
    }

    fn rest(&mut self) -> Span {
        self.skip_spaces();
        Span::payload(self.at, self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use crate::batch::Format;
    use crate::shown;

    #[track_caller]
    fn check(line: &str, row: &str) {
        assert_eq!(shown::rows(Format::Access, line), row, "{line}");
    }

    #[test]
    fn combined_and_common_lines_are_read() {
        check(
            r#"203.0.113.9 - ann [24/Nov/2026:03:00:00 +0100] "GET /a/17?x=1 HTTP/1.1" 200 512 "https://example.com/" "curl/8.5.0""#,
            "logs event_time=2026-11-24T02:00:00Z severity_number=9 severity_text=INFO message=GET /a/17?x=1 HTTP/1.1 http_method=GET http_path=/a/17 http_route=/a/{id} http_status=200 response_bytes=512 user_id=ann client_address=203.0.113.9 client_address_class=public user_agent=curl/8.5.0 user_agent_family=curl referrer=https://example.com/ @network.protocol=s:HTTP/1.1 @url.query=s:x=1",
        );
        check(
            r#"::1 - - [24/Nov/2026:03:00:00 +0000] "GET / HTTP/1.0" 503 -"#,
            "logs severity_number=17 severity_text=ERROR message=GET / HTTP/1.0 http_method=GET http_path=/ http_route=/ http_status=503 client_address=::1 client_address_class=private @network.protocol=s:HTTP/1.0",
        );
    }

    #[test]
    fn what_follows_or_is_odd_is_kept() {
        let start = "a ID b [24/Nov/2026:03:00:00 +0000]";
        let row = "user_id=b client_address=a";
        let found = "logs severity_number=13 severity_text=WARN";
        for (rest, message, attributes) in [
            (r#""GET /x" 404 0"#, "GET /x http_method=GET http_path=/x http_route=/x", ""),
            (r#""-" 408 0"#, "-", ""),
            (r#""" 400 0"#, "", ""),
            (r#""\x16\x03\x01" 400 0"#, r"\x16\x03\x01", ""),
            (r#""get /x HTTP/1.1" 400 0"#, "get /x HTTP/1.1", ""),
            (
                r#""GET /\"q\" HTTP/1.1" 400 0"#,
                r#"GET /\"q\" HTTP/1.1 http_method=GET http_path=/\"q\" http_route=/\"q\""#,
                " @network.protocol=s:HTTP/1.1",
            ),
            (
                r#""GET /x" 404 0 "-" "-" "203.0.113.9" 0.004"#,
                "GET /x http_method=GET http_path=/x http_route=/x",
                r#" @http.log_rest=s:"203.0.113.9" 0.004"#,
            ),
        ] {
            let status = if rest.contains(" 404 ") {
                "404"
            } else if rest.contains(" 408 ") {
                "408"
            } else {
                "400"
            };
            check(
                &format!("{start} {rest}"),
                &format!(
                    "{found} message={message} http_status={status} response_bytes=0 {row} @http.ident=s:ID{attributes}"
                ),
            );
        }
    }

    #[test]
    fn other_lines_are_dead_letters_with_the_place() {
        for (line, letter) in [
            (
                "hello",
                "format_mismatch error=the line does not follow the declared format: expected a word (at byte 5) byte_offset=5",
            ),
            (
                "a - - 200",
                "format_mismatch error=the line does not follow the declared format: expected '[' (at byte 6) byte_offset=6",
            ),
            (
                r#"a - - [24/Nov/2026:03:00:00 +0000] "GET / 200 1"#,
                "format_mismatch error=the line does not follow the declared format: expected a closing '\"' (at byte 35) byte_offset=35",
            ),
            (
                r#"a - - [24/Nov/2026:03:00:00 +0000] "GET /" OK 1"#,
                "format_mismatch error=the line does not follow the declared format: expected a three-digit status (at byte 47) byte_offset=47",
            ),
            (
                r#"a - - [99/Nov/2026:03:00:00 +0000] "GET /" 200 1"#,
                "time_unreadable field=time error=the time is in no known form: 99/Nov/2026:03:00:00 +0000",
            ),
        ] {
            let stage = if letter.starts_with("time") { "standardize" } else { "parse" };
            check(line, &format!("dead_letters stage={stage} reason={letter}"));
        }
    }
}
