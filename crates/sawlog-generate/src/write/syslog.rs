//! Log records as RFC 5424 syslog lines, without framing.

use super::push_version;
use crate::record::{LogRecord, Severity};
use crate::text::{push_hex, push_number, push_thousandths, push_time};

/// Facility local0, section 6.2.1.
const FACILITY: u64 = 16;
/// Structured data id; 32473 is the enterprise number for examples (RFC 5612).
const ELEMENT: &[u8] = b" [sawlog@32473";

pub(super) fn log(record: &LogRecord<'_>, out: &mut Vec<u8>) {
    let severity = match record.severity {
        Severity::Debug => 7,
        Severity::Info => 6,
        Severity::Warn => 4,
        Severity::Error => 3,
    };
    out.push(b'<');
    push_number(out, FACILITY * 8 + severity);
    out.extend_from_slice(b">1 ");
    match record.time.wrong_text {
        None => push_time(out, record.time.micros),
        Some(text) => out.extend_from_slice(text.as_bytes()),
    }
    for part in [&record.host.name, crate::topology::SERVICES[usize::from(record.host.service)].name] {
        out.push(b' ');
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b' ');
    push_number(out, 1 + u64::from(record.host.address[3])); // PROCID
    out.extend_from_slice(if record.http.is_some() { b" request" } else { b" job" });
    push_structured(record, out);
    record.message.write(&record.values, out);
    if let Some(exception) = record.exception {
        out.extend_from_slice(b"#012");
        exception.stack.write(&record.values, out);
    }
}

fn push_structured(record: &LogRecord<'_>, out: &mut Vec<u8>) {
    let begin = |name: &str, out: &mut Vec<u8>| {
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
    };
    out.extend_from_slice(ELEMENT);
    begin("version", out);
    push_version(out, record.version);
    out.push(b'"');
    begin("environment", out);
    out.extend_from_slice(record.host.environment.as_bytes());
    out.push(b'"');
    if let Some(id) = record.insert_id {
        begin("insert_id", out);
        push_hex::<8>(out, id.stream);
        push_hex::<16>(out, id.record);
        out.push(b'"');
    }
    if let Some(trace) = record.trace {
        begin("trace_id", out);
        push_hex::<16>(out, trace.high);
        push_hex::<16>(out, trace.low);
        out.push(b'"');
    }
    begin("duration_ms", out);
    push_thousandths(out, u64::from(record.values.duration_us));
    out.extend_from_slice(b"\"] ");
}
