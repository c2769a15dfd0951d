//! Records as JSON objects, in the conventions of `POST /v1/events`.

use super::{push_client, push_version};
use crate::record::{
    ActivityRecord, Edge, Extra, Http, InsertId, LogRecord, MetricRecord, MetricValue, Severity, Stamp, Topic,
};
use crate::text::{
    push_address, push_hex, push_hundredths, push_number, push_ten_thousandths, push_thousandths, push_time,
};
use crate::topology::REGIONS;

/// Room for a record without an exception, so that the writer does not grow the buffer piece by piece.
const RECORD_BYTES_USUAL: usize = 1024;

/// Appends several pieces of text.
macro_rules! push {
    ($out:ident, $($piece:expr),+) => {{ $($out.extend_from_slice(AsRef::<[u8]>::as_ref($piece));)+ }};
}

#[inline]
fn push_stamp(out: &mut Vec<u8>, stamp: Stamp) {
    out.reserve(RECORD_BYTES_USUAL);
    push!(out, b"{\"timestamp\":\"");
    match stamp.wrong_text {
        None => push_time(out, stamp.micros),
        Some(text) => push!(out, text),
    }
}

fn push_insert_id(out: &mut Vec<u8>, id: Option<InsertId>) {
    if let Some(id) = id {
        push!(out, b",\"insert_id\":\"");
        push_hex::<8>(out, id.stream);
        push_hex::<16>(out, id.record);
        out.push(b'"');
    }
}

pub(super) fn log(record: &LogRecord<'_>, out: &mut Vec<u8>) {
    push_stamp(out, record.time);
    let severity: &[u8] = match record.severity {
        Severity::Debug => b"\",\"severity\":\"DEBUG\",\"message\":\"",
        Severity::Info => b"\",\"severity\":\"INFO\",\"message\":\"",
        Severity::Warn => b"\",\"severity\":\"WARN\",\"message\":\"",
        Severity::Error => b"\",\"severity\":\"ERROR\",\"message\":\"",
    };
    push!(out, severity);
    record.message.write(&record.values, out);
    push!(out, b"\",", &record.host.json, b",\"version\":\"");
    push_version(out, record.version);
    push!(out, b"\",\"logger\":\"", record.logger, b"\"");
    push_insert_id(out, record.insert_id);
    push_request(out, record);
    if let Some(extra) = record.extra {
        push_extra(out, extra);
    }
    if let Some(exception) = record.exception {
        push!(out, b",\"exception\":{\"type\":\"", exception.name, b"\",\"stacktrace\":\"");
        exception.stack.write(&record.values, out);
        push!(out, b"\"}");
    }
    push!(out, b",\"labels\":{", &record.host.labels_json, b"}}");
}

fn push_request(out: &mut Vec<u8>, record: &LogRecord<'_>) {
    if let Some(trace) = record.trace {
        push!(out, b",\"trace_id\":\"");
        push_hex::<16>(out, trace.high);
        push_hex::<16>(out, trace.low);
        push!(out, b"\",\"span_id\":\"");
        push_hex::<16>(out, trace.span);
        out.push(b'"');
    }
    if let Some(user) = record.visitor.and_then(|visitor| visitor.user) {
        push!(out, b",\"user_id\":\"u");
        push_number(out, u64::from(user));
        out.push(b'"');
    }
    match &record.http {
        Some(Http::Edge(edge)) => {
            // Inner services are told the user, not the session.
            if let Some(visitor) = &record.visitor {
                push!(out, b",\"session_id\":\"");
                push_hex::<12>(out, visitor.session);
                out.push(b'"');
            }
            push_edge(out, record, edge);
        }
        Some(Http::Inner { caller }) => {
            push!(out, b",\"http\":{\"method\":\"", record.values.method, b"\",\"path\":\"");
            record.values.path.into_iter().for_each(|path| path.write_path(&record.values, out));
            push!(out, b"\",\"client_ip\":\"");
            push_address(out, caller.address);
            push!(out, b"\"}");
        }
        None => {
            push!(out, b",\"job\":{\"id\":\"");
            push_hex::<8>(out, record.values.record);
            push!(out, b"\",\"queue\":\"default\",\"attempt\":");
            push_number(out, 1 + record.values.record % 3);
            out.push(b'}');
        }
    }
    push!(out, b",\"duration_ms\":");
    push_thousandths(out, u64::from(record.values.duration_us));
}

fn push_edge(out: &mut Vec<u8>, record: &LogRecord<'_>, edge: &Edge) {
    push!(out, b",\"http\":{\"method\":\"", record.values.method, b"\",\"path\":\"");
    record.values.path.into_iter().for_each(|path| path.write_path(&record.values, out));
    push!(out, b"\",\"status\":");
    push_number(out, u64::from(record.values.status));
    push!(out, b",\"user_agent\":\"", edge.user_agent.text, b"\",\"client_ip\":\"");
    push_client(out, edge.client);
    push!(out, b"\",\"request_bytes\":");
    push_number(out, u64::from(edge.request_bytes));
    push!(out, b",\"response_bytes\":");
    push_number(out, u64::from(edge.response_bytes));
    if let Some(referrer) = edge.referrer {
        push!(out, b",\"referrer\":\"", referrer, b"\"");
    }
    out.push(b'}');
}

fn push_extra(out: &mut Vec<u8>, extra: Extra) {
    match extra {
        Extra::CacheHit(true) => push!(out, b",\"cache_hit\":true"),
        Extra::CacheHit(false) => push!(out, b",\"cache_hit\":false"),
        Extra::Attempt(attempt) => {
            push!(out, b",\"attempt\":");
            push_number(out, u64::from(attempt));
        }
        Extra::Thread(prefix, number) => {
            push!(out, b",\"thread\":\"", prefix);
            push_number(out, u64::from(number));
            out.push(b'"');
        }
        Extra::QueueDepth(depth) => {
            push!(out, b",\"queue_depth\":");
            push_number(out, u64::from(depth));
        }
    }
}

/// Appends a metric point.
pub(crate) fn metric(record: &MetricRecord<'_>, out: &mut Vec<u8>) {
    push_stamp(out, record.time);
    push!(out, b"\",\"metric\":\"", record.name, b"\",\"value\":");
    match record.value {
        MetricValue::Whole(value) => push_number(out, value),
        MetricValue::Fraction(value) => push_ten_thousandths(out, value),
    }
    let kind: &[u8] = if record.is_sum { b"sum" } else { b"gauge" };
    push!(out, b",\"unit\":\"", record.unit, b"\",\"type\":\"", kind, b"\",", &record.host.json, b",\"version\":\"");
    push_version(out, record.version);
    push!(out, b"\",\"labels\":{", &record.host.labels_json, b"}}");
}

/// Appends an activity event.
pub(crate) fn activity(record: &ActivityRecord<'_>, out: &mut Vec<u8>) {
    push_stamp(out, record.time);
    push!(out, b"\",\"event\":\"", record.event, b"\"");
    if let Some(user) = record.visitor.user {
        push!(out, b",\"user_id\":\"u");
        push_number(out, u64::from(user));
        out.push(b'"');
    }
    push!(out, b",\"session_id\":\"");
    push_hex::<12>(out, record.visitor.session);
    push!(out, b"\",\"page\":\"");
    record.values.path.into_iter().for_each(|path| path.write_path(&record.values, out));
    let profile = &record.visitor.profile;
    push!(out, b"\",\"service\":\"web\",\"version\":\"");
    push_version(out, record.version);
    push!(out, b"\",\"environment\":\"", record.host.environment, b"\",\"region\":\"");
    push!(out, REGIONS[usize::from(profile.region)], b"\",\"device\":\"", profile.user_agent.device);
    push!(out, b"\",\"user_agent\":\"", profile.user_agent.text, b"\",\"client_ip\":\"");
    push_client(out, profile.address);
    out.push(b'"');
    if let Some(referrer) = record.referrer {
        push!(out, b",\"referrer\":\"", referrer, b"\"");
    }
    push_insert_id(out, record.insert_id);
    push_properties(out, record);
    out.push(b'}');
}

fn push_properties(out: &mut Vec<u8>, record: &ActivityRecord<'_>) {
    let profile = &record.visitor.profile;
    push!(out, b",\"properties\":{\"country\":\"", profile.country, b"\",\"segment\":\"", profile.segment, b"\"");
    match record.topic {
        Topic::Page | Topic::Account => {}
        Topic::Search => push!(out, b",\"query\":\"", record.values.term(), b"\""),
        Topic::Product => {
            push!(out, b",\"product_id\":");
            push_number(out, record.values.product());
            push!(out, b",\"category\":\"", record.values.category(), b"\"");
        }
        Topic::Cart => {
            push!(out, b",\"cart_items\":");
            push_number(out, u64::from(record.cart_items));
        }
        Topic::Order => {
            push!(out, b",\"order_id\":\"");
            push_hex::<12>(out, record.values.order());
            push!(out, b"\",\"amount\":");
            push_hundredths(out, record.values.amount());
            push!(out, b",\"currency\":\"", record.values.currency(), b"\",\"cart_items\":");
            push_number(out, u64::from(record.cart_items));
        }
    }
    if let Some(status) = record.error_status {
        push!(out, b",\"error_status\":");
        push_number(out, u64::from(status));
    }
    out.push(b'}');
}
