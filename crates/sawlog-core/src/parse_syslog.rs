//! Reading syslog messages: RFC 5424, and the older BSD form that RFC 3164 describes, with or without a priority.
//!
//! For: one message without its transport framing. Not for: octet counting and listeners (the receiving side).
//! Structured data becomes attributes named `ID.NAME`.

use crate::defect::{Defect, Reason};
use crate::record::{AttributeType, Int, Record, Span, Text, Time, Value};
use crate::{fields, severity, time, value};

pub(crate) fn parse_syslog(payload: &[u8], receive_time: i64, record: &mut Record) -> Result<(), Defect> {
    let (priority, start) = priority(payload)?;
    if let Some(priority) = priority {
        record.set_int(Int::SeverityNumber, severity::number_of_syslog(priority & 7));
        let facility = (priority >> 3).to_string();
        let text = record.keep(facility.as_bytes());
        add(record, payload, b"syslog.facility", text, AttributeType::Integer);
    }
    if priority.is_some() && payload[start..].starts_with(b"1 ") {
        return rfc5424(payload, start + 2, receive_time, record);
    }
    rfc3164(payload, start, receive_time, record)
}

/// `<34>` at the start: 0..191, no more than three digits.
fn priority(payload: &[u8]) -> Result<(Option<u8>, usize), Defect> {
    if payload.first() != Some(&b'<') {
        return Ok((None, 0));
    }
    let end = payload.iter().take(5).position(|&byte| byte == b'>');
    let number = end.and_then(|end| value::integer(&payload[1..end])).filter(|number| (0..192).contains(number));
    match (number, end) {
        (Some(number), Some(end)) => Ok((Some(number as u8), end + 1)),
        _ => Err(mismatch("a priority <0> to <191>", 0)),
    }
}

fn rfc5424(payload: &[u8], start: usize, receive_time: i64, record: &mut Record) -> Result<(), Defect> {
    let mut at = start;
    let mut header = [Span::payload(0, 0); 5];
    for field in &mut header {
        *field = word(payload, at).ok_or_else(|| mismatch("time, host, app, process and message id", at))?;
        at += field.len() + 1;
    }
    let [written_time, host, app, process, message_id] = header;
    let time_text = record.bytes(payload, written_time);
    if time_text != b"-" {
        let text = String::from_utf8_lossy(time_text).into_owned();
        let time = time::parse_calendar(time_text, receive_time)
            .ok_or_else(|| Defect::new(Reason::TimeUnreadable).in_field(b"timestamp").about(&text).at(start))?;
        fields::set_time(record, Time::Event, time);
    }
    set_text(record, payload, Text::Host, host);
    set_text(record, payload, Text::Service, app);
    for (key, span) in [(&b"process.pid"[..], process), (b"syslog.msgid", message_id)] {
        if !value::is_null_word(record.bytes(payload, span)) {
            let kind = if value::integer(record.bytes(payload, span)).is_some() {
                AttributeType::Integer
            } else {
                AttributeType::Text
            };
            add(record, payload, key, span, kind);
        }
    }
    let at = structured_data(payload, at, record)?;
    let rest = payload.get(at..).unwrap_or_default();
    let skip = rest.iter().take_while(|&&byte| byte == b' ').count();
    let skip = skip + if rest[skip..].starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    if skip < rest.len() {
        record.set_text(Text::Message, Span::payload(at + skip, payload.len()));
    }
    Ok(())
}

/// Reads `-` or `[id name="value" …]…`; returns where the message starts.
fn structured_data(payload: &[u8], start: usize, record: &mut Record) -> Result<usize, Defect> {
    let mut at = start;
    if payload.get(at) == Some(&b'-') {
        return Ok(at + 1);
    }
    if payload.get(at) != Some(&b'[') {
        return Err(mismatch("structured data or '-'", at));
    }
    while payload.get(at) == Some(&b'[') {
        at += 1;
        let id_end = find(payload, at, |byte| byte == b' ' || byte == b']').ok_or_else(|| mismatch("']'", at))?;
        let prefix = [&payload[at..id_end], b"."].concat();
        at = id_end;
        while payload.get(at) == Some(&b' ') {
            at = parameter(payload, at + 1, &prefix, record)?;
        }
        if payload.get(at) != Some(&b']') {
            return Err(mismatch("']'", at));
        }
        at += 1;
    }
    Ok(at)
}

fn parameter(payload: &[u8], start: usize, prefix: &[u8], record: &mut Record) -> Result<usize, Defect> {
    let equals = find(payload, start, |byte| byte == b'=').ok_or_else(|| mismatch("name=\"value\"", start))?;
    if payload.get(equals + 1) != Some(&b'"') {
        return Err(mismatch("a quoted value", equals + 1));
    }
    let value_start = equals + 2;
    let mut end = value_start;
    let mut has_escapes = false;
    loop {
        match payload.get(end) {
            None => return Err(mismatch("a closing quote", value_start)),
            Some(b'"') => break,
            Some(b'\\') => {
                has_escapes = true;
                end += 2;
            }
            Some(_) => end += 1,
        }
    }
    let raw = &payload[value_start..end];
    let text = if has_escapes { record.keep(&unescaped(raw)) } else { Span::payload(value_start, end) };
    let key = record.keep_joined(payload, prefix, Span::payload(start, equals));
    let kind = AttributeType::Text;
    record.add_attribute(payload, key, Value { text, kind });
    Ok(end + 1)
}

fn unescaped(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter();
    while let Some(&byte) = bytes.next() {
        match (byte, bytes.as_slice().first()) {
            (b'\\', Some(&next @ (b'"' | b'\\' | b']'))) => {
                out.push(next);
                bytes.next();
            }
            _ => out.push(byte),
        }
    }
    out
}

/// `Jun 14 15:16:01 combo sshd(pam_unix)[19939]: text`; RFC 3339 times, as rsyslog writes them, are read too. The host
/// may be missing.
fn rfc3164(payload: &[u8], start: usize, receive_time: i64, record: &mut Record) -> Result<(), Defect> {
    let Some((time, len)) = time::parse_exact_prefix(&payload[start..], receive_time) else {
        return Err(mismatch("a time such as 'Jun 14 15:16:01'", start));
    };
    fields::set_time(record, Time::Event, time);
    let host_at = start + len + 1;
    let host = word(payload, host_at).ok_or_else(|| mismatch("a host name", host_at))?;
    let is_host = !is_tag(record.bytes(payload, host));
    if is_host {
        set_text(record, payload, Text::Host, host);
    }
    let tag_at = if is_host { host_at + host.len() + 1 } else { host_at };
    let Some(rest) = payload.get(tag_at..) else {
        return Ok(());
    };
    let message_at = match tag_len(rest) {
        Some(len) => {
            tag(payload, tag_at, len, record);
            let skip = rest[len + 1..].iter().take_while(|&&byte| byte == b' ').count();
            tag_at + len + 1 + skip
        }
        None => tag_at,
    };
    if message_at < payload.len() {
        record.set_text(Text::Message, Span::payload(message_at, payload.len()));
    }
    Ok(())
}

/// Whether a word is a tag and no host: `su:`, `sshd[77]:`. An address of IPv6 may end in two colons.
fn is_tag(word: &[u8]) -> bool {
    word.len() > 1 && word.ends_with(b":") && !word.ends_with(b"::")
}

/// Whether a line starts as rsyslog and systemd write files: a time of RFC 3339 with its zone, a host, a tag. Lines of
/// programs that start with such a time have a severity, a bracket or no tag in these places.
pub(crate) fn looks_like_rfc3339_syslog(line: &[u8]) -> bool {
    let mut words = line.split(|&byte| byte == b' ').take(3);
    let (Some(time), Some(host), Some(tag)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    let has_zone = time.ends_with(b"Z") || time.len().checked_sub(6).is_some_and(|at| b"+-".contains(&time[at]));
    let is_of_host = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:".contains(byte);
    time.get(10) == Some(&b'T')
        && has_zone
        && !host.is_empty()
        && host.iter().all(is_of_host)
        && !host.ends_with(b":")
        && severity::number_of_word(host).is_none()
        && is_tag(tag)
        && tag[0].is_ascii_alphanumeric()
}

/// Length of `name[pid]` or `name` in front of a colon, if the text starts with a tag.
fn tag_len(text: &[u8]) -> Option<usize> {
    const TAG_BYTES_MAX: usize = 96;
    let head = &text[..text.len().min(TAG_BYTES_MAX)];
    let colon = head
        .windows(2)
        .position(|pair| pair == b": ")
        .or_else(|| (head.last() == Some(&b':')).then(|| head.len() - 1))?;
    let plain_end = head[..colon].iter().position(|&byte| byte == b'[').unwrap_or(colon);
    let is_tag = plain_end > 0 && !head[..plain_end].contains(&b' ');
    is_tag.then_some(colon)
}

fn tag(payload: &[u8], at: usize, len: usize, record: &mut Record) {
    let text = &payload[at..at + len];
    let name_len = text.iter().position(|&byte| byte == b'[').unwrap_or(len);
    record.set_text(Text::Service, Span::payload(at, at + name_len));
    if name_len + 2 <= len && text[len - 1] == b']' {
        let pid = Span::payload(at + name_len + 1, at + len - 1);
        let kind = if value::integer(record.bytes(payload, pid)).is_some() {
            AttributeType::Integer
        } else {
            AttributeType::Text
        };
        add(record, payload, b"process.pid", pid, kind);
    }
}

fn mismatch(expected: &str, at: usize) -> Defect {
    Defect::new(Reason::FormatMismatch).about(&format!("expected {expected}")).at(at)
}

fn find(payload: &[u8], from: usize, is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    payload.get(from..)?.iter().position(|&byte| is_wanted(byte)).map(|ahead| from + ahead)
}

fn word(payload: &[u8], at: usize) -> Option<Span> {
    let rest = payload.get(at..)?;
    let len = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    (len > 0).then(|| Span::payload(at, at + len))
}

fn set_text(record: &mut Record, payload: &[u8], slot: Text, span: Span) {
    if !value::is_null_word(record.bytes(payload, span)) {
        record.set_text(slot, span);
    }
}

fn add(record: &mut Record, payload: &[u8], key: &[u8], text: Span, kind: AttributeType) {
    let key = record.keep(key);
    record.add_attribute(payload, key, Value { text, kind });
}

#[cfg(test)]
mod tests {
    use crate::batch::Format;
    use crate::shown;

    #[track_caller]
    fn check(line: &str, row: &str) {
        assert_eq!(shown::rows(Format::Syslog, line), row, "{line}");
    }

    #[test]
    fn rfc5424_messages_are_read() {
        let at_two = "logs event_time=2026-11-24T02:00:00.003Z";
        let at_two = at_two.replace(".003Z", ".003000Z");
        check(
            "<165>1 2026-11-24T02:00:00.003Z host app 77 ID47 - \u{feff}hello",
            &format!(
                "{at_two} severity_number=10 severity_text=INFO service=app host=host message=hello @syslog.facility=i:20 @process.pid=i:77 @syslog.msgid=s:ID47"
            ),
        );
        check("<13>1 - - - - - -", "logs severity_number=10 severity_text=INFO @syslog.facility=i:1");
        check(
            "<11>1 - h a p-1 - - two  spaces",
            "logs severity_number=17 severity_text=ERROR service=a host=h message=two  spaces @syslog.facility=i:1 @process.pid=s:p-1",
        );
        check(
            "<0>1 2026-11-24T02:00:00.123456789Z h - - - -",
            "logs event_time=2026-11-24T02:00:00.123456Z event_time_nanos=789 severity_number=21 severity_text=FATAL host=h @syslog.facility=i:0",
        );
    }

    #[test]
    fn structured_data_becomes_attributes_without_its_escapes() {
        let row = "logs severity_number=10 severity_text=INFO service=a host=h";
        for (data, message, attributes) in [
            (r#"[x@1 k="v"]"#, "m", "@x@1.k=s:v"),
            (r#"[x@1 k="v" l=""][y z="1"]"#, "m", "@x@1.k=s:v @x@1.l=s: @y.z=s:1"),
            (r#"[x k="a\"b\\c\]d"]"#, "m", r#"@x.k=s:a"b\c]d"#),
            (r#"[x k="a\nb"]"#, "m", r"@x.k=s:a\nb"),
            (r#"[x k="a" k="b"]"#, "m", "@x.k=s:a @x.k#2=s:b"),
            (r#"[x k="] - ["]"#, "m", "@x.k=s:] - ["),
            ("[empty]", "m", ""),
        ] {
            let line = format!("<13>1 - h a - - {data} {message}");
            let expected = format!("{row} message={message} @syslog.facility=i:1 {attributes}");
            check(&line, expected.trim_end());
        }
    }

    #[test]
    fn rfc3164_messages_are_read_with_and_without_parts() {
        let row = "logs event_time=2026-11-24T02:00:00Z";
        for (line, expected) in [
            (
                "Nov 24 02:00:00 combo sshd(pam_unix)[19939]: check pass",
                "service=sshd(pam_unix) host=combo message=check pass @process.pid=i:19939",
            ),
            ("Nov 24 02:00:00 combo kernel: [ 0.0] up", "service=kernel host=combo message=[ 0.0] up"),
            ("Nov 24 02:00:00 combo -- MARK --", "host=combo message=-- MARK --"),
            ("Nov 24 02:00:00 combo", "host=combo"),
            ("Nov 24 02:00:00 su: no host", "service=su message=no host"),
            ("Nov 24 02:00:00 sshd[77]: no host: at all", "service=sshd message=no host: at all @process.pid=i:77"),
            ("Nov 24 02:00:00 fe80:: su: hi", "service=su host=fe80:: message=hi"),
            (
                "2026-11-24T02:00:00+00:00 vm-1 systemd[1]: Started.",
                "service=systemd host=vm-1 message=Started. @process.pid=i:1",
            ),
            ("2026-11-24T03:00:00.000000+01:00 vm-1 a/b[x]: hi", "service=a/b host=vm-1 message=hi @process.pid=s:x"),
        ] {
            check(line, &format!("{row} {expected}"));
        }
        check(
            "<34>Nov 24 02:00:00 su: hi",
            &format!("{row} severity_number=18 severity_text=ERROR service=su message=hi @syslog.facility=i:4"),
        );
    }

    #[test]
    fn other_lines_are_dead_letters_with_the_place() {
        for (line, error) in [
            ("hello", "expected a time such as 'Jun 14 15:16:01' (at byte 0) byte_offset=0"),
            ("<192>Nov 24 02:00:00 h a: b", "expected a priority <0> to <191> (at byte 0) byte_offset=0"),
            ("<13", "expected a priority <0> to <191> (at byte 0) byte_offset=0"),
            ("Nov 24 02:00:00", "expected a host name (at byte 16) byte_offset=16"),
            ("<13>1 - h a", "expected time, host, app, process and message id (at byte 12) byte_offset=12"),
            ("<13>1 - h a - - x", "expected structured data or '-' (at byte 16) byte_offset=16"),
            ("<13>1 - h a - - [x", "expected ']' (at byte 17) byte_offset=17"),
            ("<13>1 - h a - - [x k=v]", "expected a quoted value (at byte 21) byte_offset=21"),
            ("<13>1 - h a - - [x k=\"v", "expected a closing quote (at byte 22) byte_offset=22"),
            ("<13>1 - h a - - [x k=\"v\\", "expected a closing quote (at byte 22) byte_offset=22"),
        ] {
            let letter =
                "dead_letters stage=parse reason=format_mismatch error=the line does not follow the declared format";
            check(line, &format!("{letter}: {error}"));
        }
        check(
            "<13>1 soon h a - - -",
            "dead_letters stage=standardize reason=time_unreadable field=timestamp error=the time is in no known form: soon (at byte 6) byte_offset=6",
        );
    }
}
