//! What the simulated sources send, as values that the model counts and as bodies that the pipeline gets.
//!
//! For: events whose meaning is known without reading their bytes. Not for: choosing them ([`super::sources`]).

use std::fmt::Write;

use bytes::Bytes;
use sawlog_core::batch::{AgeLimits, Format};

use crate::prepare::{AckLevel, Submission};

/// Path that the rules of the simulation drop.
pub(super) const FILTERED_PATH: &str = "/healthz";

/// One thing in the event log.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Batch(Batch),
    /// Records that were refused before anything was kept.
    Note {
        source: String,
        receive_time: i64,
        rejected: u64,
    },
    /// Receive time went on until then.
    Tick(i64),
}

/// A batch as a source sends it.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) receive_time: i64,
    pub(super) age: AgeLimits,
    pub(super) idempotency_key: Option<String>,
    /// Records of the request that were refused.
    pub(super) rejected: u64,
    /// Whether it is sent as OTLP metrics, the one format that has words for NaN and infinities.
    pub(super) is_otlp: bool,
    pub(super) events: Vec<Event>,
}

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// When it happened, by the clock of its source, UTC microseconds.
    pub(super) time: i64,
    pub(super) insert_id: Option<String>,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Log(Log),
    Metric(Metric),
    Activity(Activity),
    /// Text that is no record.
    Broken,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) service: Option<String>,
    pub(super) version: Option<String>,
    pub(super) level: &'static str,
    pub(super) path: Option<&'static str>,
    pub(super) user: Option<String>,
    pub(super) message: &'static str,
    pub(super) duration_ms: Option<i64>,
    pub(super) bytes: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) service: Option<String>,
    pub(super) host: Option<&'static str>,
    pub(super) core: Option<u64>,
    /// A multiple of a quarter unless it is not finite, so that sums of floating-point numbers are exact.
    pub(super) value: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Activity {
    pub(super) name: String,
    pub(super) service: Option<String>,
    pub(super) user: String,
    pub(super) page: Option<&'static str>,
}

impl Batch {
    /// The batch as the receivers hand it on.
    pub(super) fn submission(&self) -> Submission {
        let (format, body) = if self.is_otlp {
            (Format::OtlpMetricsJson, otlp(&self.events))
        } else {
            (Format::Json, self.events.iter().map(|event| event.line() + "\n").collect())
        };
        Submission {
            source: self.source.clone(),
            file: None,
            format,
            is_declared: true,
            age: self.age,
            body: Bytes::from(body),
            idempotency_key: self.idempotency_key.clone(),
            ack: AckLevel::Disk,
        }
    }
}

impl Event {
    /// The event as a line of JSON.
    pub(super) fn line(&self) -> String {
        let mut out = format!("{{\"ts\":{}", self.time);
        text(&mut out, "insert_id", self.insert_id.as_deref());
        match &self.what {
            What::Broken => return "{broken".to_owned(),
            What::Log(log) => {
                text(&mut out, "service", log.service.as_deref());
                text(&mut out, "service_version", log.version.as_deref());
                text(&mut out, "level", Some(log.level));
                text(&mut out, "path", log.path);
                text(&mut out, "user_id", log.user.as_deref());
                text(&mut out, "message", Some(log.message));
                number(&mut out, "duration_ms", log.duration_ms);
                number(&mut out, "response_bytes", log.bytes);
            }
            What::Metric(metric) => {
                text(&mut out, "metric", Some(&metric.name));
                text(&mut out, "service", metric.service.as_deref());
                text(&mut out, "host", metric.host);
                text(&mut out, "core", metric.core.map(|core| core.to_string()).as_deref());
                number(&mut out, "value", Some(metric.value));
            }
            What::Activity(activity) => {
                text(&mut out, "event", Some(&activity.name));
                text(&mut out, "service", activity.service.as_deref());
                text(&mut out, "user_id", Some(&activity.user));
                text(&mut out, "page", activity.page);
            }
        }
        out.push('}');
        out
    }
}

fn text(out: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        write!(out, ",\"{name}\":\"{value}\"").expect("a string takes everything");
    }
}

fn number(out: &mut String, name: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        write!(out, ",\"{name}\":{value}").expect("a string takes everything");
    }
}

/// Metrics as OTLP/JSON, one resource for each point.
fn otlp(events: &[Event]) -> String {
    let mut resources = Vec::new();
    for event in events {
        let What::Metric(metric) = &event.what else { continue };
        let attribute = |name: &str, value: &str| format!(r#"{{"key":"{name}","value":{{"stringValue":"{value}"}}}}"#);
        let of_resource = [("service.name", metric.service.as_deref()), ("host.name", metric.host)];
        let resource: Vec<String> =
            of_resource.into_iter().filter_map(|(name, value)| Some(attribute(name, value?))).collect();
        let of_point = metric.core.map(|core| attribute("core", &core.to_string())).unwrap_or_default();
        let value = match metric.value {
            value if value.is_nan() => "\"NaN\"".to_owned(),
            f64::INFINITY => "\"Infinity\"".to_owned(),
            f64::NEG_INFINITY => "\"-Infinity\"".to_owned(),
            value => value.to_string(),
        };
        resources.push(format!(
            r#"{{"resource":{{"attributes":[{}]}},"scopeMetrics":[{{"metrics":[{{"name":"{}","gauge":{{"dataPoints":[{{"timeUnixNano":"{}000","attributes":[{of_point}],"asDouble":{value}}}]}}}}]}}]}}"#,
            resource.join(","),
            metric.name,
            event.time,
        ));
    }
    format!(r#"{{"resourceMetrics":[{}]}}"#, resources.join(","))
}
