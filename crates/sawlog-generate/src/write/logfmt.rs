//! Log records as `key=value` pairs.

use super::push_version;
use crate::record::LogRecord;
use crate::text::{push_hex, push_number, push_thousandths, push_time};
use crate::topology::{REGIONS, SERVICES};

pub(super) fn log(record: &LogRecord<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"time=");
    match record.time.wrong_text {
        None => push_time(out, record.time.micros),
        Some(text) => {
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        }
    }
    push_text(out, " level=", record.severity.name());
    out.extend_from_slice(b" msg=\"");
    record.message.write(&record.values, out);
    push_text(out, "\" service=", SERVICES[usize::from(record.host.service)].name);
    out.extend_from_slice(b" version=");
    push_version(out, record.version);
    push_text(out, " environment=", record.host.environment);
    push_text(out, " region=", REGIONS[usize::from(record.host.region)]);
    push_text(out, " host=", &record.host.name);
    push_text(out, " logger=", record.logger);
    push_request(record, out);
    out.extend_from_slice(b" duration_ms=");
    push_thousandths(out, u64::from(record.values.duration_us));
    if let Some(exception) = record.exception {
        push_text(out, " exception=", exception.name);
        out.extend_from_slice(b" stacktrace=\"");
        exception.stack.write(&record.values, out);
        out.push(b'"');
    }
}

fn push_request(record: &LogRecord<'_>, out: &mut Vec<u8>) {
    if let Some(id) = record.insert_id {
        out.extend_from_slice(b" insert_id=");
        push_hex::<8>(out, id.stream);
        push_hex::<16>(out, id.record);
    }
    if let Some(trace) = record.trace {
        out.extend_from_slice(b" trace_id=");
        push_hex::<16>(out, trace.high);
        push_hex::<16>(out, trace.low);
        out.extend_from_slice(b" span_id=");
        push_hex::<16>(out, trace.span);
    }
    if let Some(user) = record.visitor.and_then(|visitor| visitor.user) {
        out.extend_from_slice(b" user_id=u");
        push_number(out, u64::from(user));
    }
    if let Some(path) = record.values.path {
        push_text(out, " method=", record.values.method);
        out.extend_from_slice(b" path=\"");
        path.write_path(&record.values, out);
        out.push(b'"');
    }
}

fn push_text(out: &mut Vec<u8>, before: &str, text: &str) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(text.as_bytes());
}
