//! Sawlog's own log, and summaries of dead letters, written to Cloud Logging.
//!
//! For: a layer of `tracing` that never waits, and a task that writes what it queued. Not for: standard error, which gets
//! everything in any case (`sawlog_telemetry`).
//!
//! Rules: only events of Sawlog's own crates are written, and none of this module, so that writing makes no entries. Every entry
//! has an id, which makes a repeated write harmless, and the label `sawlog_instance`, by which Sawlog drops it should it come back.

mod dead_letters;
mod layer;
mod queue;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sawlog_core::log_entry::{OWN_LABEL, OWN_LOG_ID};
use sawlog_seams::Clock;
use sawlog_telemetry::Metrics;
use serde_json::{Value, json};
use tracing::Level;

use super::pace::Backoff;
use crate::access::Access;

pub use dead_letters::{DeadLetterOptions, RedactError, summarize_dead_letters};
pub use layer::SinkLayer;
pub use queue::Entries;
pub use writer::SinkWriter;

/// What entries say of where they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SinkResource {
    /// Of the project as a whole (`global`).
    #[default]
    Global,
    /// Of a machine (`generic_node`).
    GenericNode {
        /// Zone or region, or a name of one's own.
        location: String,
        /// What tells nodes of one name apart, such as the cluster.
        namespace: String,
        /// Name of the node.
        node_id: String,
    },
}

/// Settings of the sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkOptions {
    /// Project of the log.
    pub project: String,
    /// Id of the log. Another id than `sawlog` is recognized as Sawlog's by the label only.
    pub log_id: String,
    /// Name of this instance, in the label `sawlog_instance`.
    pub instance: String,
    /// Version of this build, in the label `sawlog_version`.
    pub version: String,
    /// Monitored resource of the entries.
    pub resource: SinkResource,
    /// Least severe events that are written.
    pub level: Level,
    /// Where the service is.
    pub access: Access,
    /// Most entries that wait; what comes then is dropped and counted.
    pub queue_entries: usize,
    /// Most bytes that wait.
    pub queue_bytes: usize,
    /// Entries of a write, at most 1,000.
    pub batch_entries: usize,
    /// Age at which fewer are written.
    pub batch_age: Duration,
    /// Longest wait for an answer.
    pub answer_max: Duration,
    /// Waits after failures.
    pub backoff: Backoff,
    /// At a stop: how long what waits may take to be written.
    pub stop_max: Duration,
}

impl SinkOptions {
    /// Events of INFO and worse, of a project as a whole.
    #[must_use]
    pub fn new(project: impl Into<String>, instance: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            project: project.into(),
            log_id: OWN_LOG_ID.to_owned(),
            instance: instance.into(),
            version: version.into(),
            resource: SinkResource::default(),
            level: Level::INFO,
            access: Access::default(),
            queue_entries: 10_000,
            queue_bytes: 16 << 20,
            batch_entries: 500,
            batch_age: Duration::from_secs(1),
            answer_max: Duration::from_secs(30),
            backoff: Backoff::default(),
            stop_max: Duration::from_secs(5),
        }
    }
}

/// Options that cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field} is {value:?}: {remedy}")]
pub struct SinkError {
    field: &'static str,
    value: String,
    remedy: &'static str,
}

/// Makes the two ends of the sink: a layer that takes events from now on, and a writer that must run for them to be written.
///
/// # Errors
/// When the project, the id of the log or a size cannot be one.
pub fn sink(
    options: SinkOptions,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
) -> Result<(SinkLayer, SinkWriter), SinkError> {
    check(&options)?;
    let run = format!("{}-{:x}", cut(&options.instance, INSTANCE_BYTES), clock.now_micros());
    let (entries, waiting) = queue::queue(options.queue_entries, options.queue_bytes, run, clock);
    let layer = SinkLayer::new(entries, options.level);
    Ok((layer, SinkWriter::new(options, waiting, metrics)))
}

/// Of the instance's name in the ids of entries, bytes.
const INSTANCE_BYTES: usize = 100;

fn check(options: &SinkOptions) -> Result<(), SinkError> {
    let is_word = |text: &str, more: &str| {
        let is_of_it = |byte: u8| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte);
        !text.is_empty() && text.len() <= 512 && text.bytes().all(is_of_it)
    };
    let problem = |field, value: &str, remedy| Err(SinkError { field, value: value.to_owned(), remedy });
    if !is_word(&options.project, "-.:") {
        return problem("project", &options.project, "give the project's id, such as my-project-17");
    }
    if !is_word(&options.log_id, "/_-.") {
        return problem("log_id", &options.log_id, "use up to 512 letters, digits, / _ - .");
    }
    if !(1..=1_000).contains(&options.batch_entries) {
        let remedy = "a write has 1 to 1000 entries";
        return problem("batch_entries", &options.batch_entries.to_string(), remedy);
    }
    if options.queue_entries == 0 {
        return problem("queue_entries", "0", "at least one entry must be able to wait");
    }
    Ok(())
}

/// What all entries of a write have in common, in the form of `WriteLogEntriesRequest`.
fn envelope(options: &SinkOptions) -> Value {
    let project = &options.project;
    let resource = match &options.resource {
        SinkResource::Global => json!({"type": "global", "labels": {"project_id": project}}),
        SinkResource::GenericNode { location, namespace, node_id } => {
            let labels = BTreeMap::from([
                ("project_id", project),
                ("location", location),
                ("namespace", namespace),
                ("node_id", node_id),
            ]);
            json!({"type": "generic_node", "labels": labels})
        }
    };
    json!({
        "logName": format!("projects/{project}/logs/{}", options.log_id.replace('/', "%2F")),
        "resource": resource,
        "labels": {OWN_LABEL: options.instance, "sawlog_version": options.version},
        "partialSuccess": true,
    })
}

/// The beginning of a text, at most so many bytes; what was cut is marked.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes_max)])
}

#[cfg(test)]
mod tests {
    use sawlog_seams::ManualClock;

    use super::*;

    fn try_with(change: impl FnOnce(&mut SinkOptions)) -> Result<(), String> {
        let mut options = SinkOptions::new("p-1", "i", "1.0");
        change(&mut options);
        let made = sink(options, Arc::new(ManualClock::at_micros(0)), Arc::default());
        made.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn options_that_cannot_be_used_are_refused_by_name() {
        assert_eq!(try_with(|_| {}), Ok(()));
        let of = |change: fn(&mut SinkOptions)| try_with(change).expect_err("refused");
        assert_eq!(
            of(|options| options.project = "projects/p".to_owned()),
            "project is \"projects/p\": give the project's id, such as my-project-17"
        );
        assert!(of(|options| options.log_id = "a b".to_owned()).starts_with("log_id is"));
        assert!(of(|options| options.batch_entries = 1_001).starts_with("batch_entries is"));
        assert!(of(|options| options.queue_entries = 0).starts_with("queue_entries is"));
    }

    #[test]
    fn an_envelope_names_log_resource_instance_and_version() {
        let mut options = SinkOptions::new("p", "i-1", "0.1.0");
        options.log_id = "team/sawlog".to_owned();
        let (location, namespace, node_id) = ("eu".to_owned(), "n".to_owned(), "w1".to_owned());
        options.resource = SinkResource::GenericNode { location, namespace, node_id };
        assert_eq!(
            envelope(&options),
            json!({
                "logName": "projects/p/logs/team%2Fsawlog", "partialSuccess": true,
                "labels": {"sawlog_instance": "i-1", "sawlog_version": "0.1.0"},
                "resource": {"type": "generic_node", "labels": {
                    "project_id": "p", "location": "eu", "namespace": "n", "node_id": "w1",
                }},
            })
        );
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("aéb", 2), "a…");
    }
}
