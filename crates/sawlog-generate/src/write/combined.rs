//! Requests as lines of Apache's combined access log (`mod_log_config`, `%h %l %u %t "%r" %>s %b "%{Referer}i"
//! "%{User-agent}i"`).

use super::push_client;
use crate::record::{Http, LogRecord};
use crate::text::{Calendar, MONTHS, push_address, push_number};

pub(super) fn log(record: &LogRecord<'_>, out: &mut Vec<u8>) {
    let edge = match &record.http {
        Some(Http::Edge(edge)) => Some(edge),
        _ => None,
    };
    match edge {
        Some(edge) => push_client(out, edge.client),
        None => push_address(out, record.host.address),
    }
    out.extend_from_slice(b" - ");
    match record.visitor.and_then(|visitor| visitor.user) {
        Some(user) => {
            out.push(b'u');
            push_number(out, u64::from(user));
        }
        None => out.push(b'-'),
    }
    out.extend_from_slice(b" [");
    match record.time.wrong_text {
        None => push_time(out, record.time.micros),
        Some(text) => out.extend_from_slice(text.as_bytes()),
    }
    out.extend_from_slice(b"] \"");
    out.extend_from_slice(record.values.method.as_bytes());
    out.push(b' ');
    record.values.path.into_iter().for_each(|path| path.write_path(&record.values, out));
    out.extend_from_slice(b" HTTP/1.1\" ");
    push_number(out, u64::from(record.values.status));
    out.push(b' ');
    match edge.map_or(0, |edge| edge.response_bytes) {
        0 => out.push(b'-'), // Apache writes %b so
        bytes => push_number(out, u64::from(bytes)),
    }
    out.extend_from_slice(b" \"");
    out.extend_from_slice(edge.and_then(|edge| edge.referrer).unwrap_or("-").as_bytes());
    out.extend_from_slice(b"\" \"");
    out.extend_from_slice(edge.map_or("-", |edge| edge.user_agent.text).as_bytes());
    out.push(b'"');
}

/// `05/Jan/2026:00:00:00 +0000`
fn push_time(out: &mut Vec<u8>, micros: i64) {
    let calendar = Calendar::of(micros);
    if calendar.day < 10 {
        out.push(b'0');
    }
    push_number(out, calendar.day as u64);
    out.push(b'/');
    out.extend_from_slice(MONTHS[(calendar.month - 1) as usize].as_bytes());
    out.push(b'/');
    push_number(out, calendar.year as u64);
    out.push(b':');
    out.extend_from_slice(&calendar.clock());
    out.extend_from_slice(b" +0000");
}
