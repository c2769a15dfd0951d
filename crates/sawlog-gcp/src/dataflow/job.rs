//! A job as Dataflow describes it.
//!
//! For: its state, its pipeline's options and steps, out of the service's JSON. Not for: its metrics and messages
//! ([`super::health`]).

use std::collections::{BTreeMap, BTreeSet};

use sawlog_core::time;
use serde_json::Value;

/// What a job is doing. Names are those of the service without `JOB_STATE_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits for its launch.
    Queued,
    /// It is being started.
    Pending,
    /// It is held.
    Stopped,
    /// It works.
    Running,
    /// It is about to be held.
    Pausing,
    /// It is held, and goes on when asked to.
    Paused,
    /// It takes in nothing more and finishes what it has.
    Draining,
    /// It is being stopped, what it has is dropped.
    Cancelling,
    /// It has ended, and its machines are let go.
    CleaningUp,
    /// It came to its end.
    Done,
    /// It has finished what it had.
    Drained,
    /// It was stopped.
    Cancelled,
    /// Another one took its place.
    Updated,
    /// It gave up.
    Failed,
    /// A state that this version does not know.
    Unknown,
}

const STATES: [(JobState, &str); 14] = [
    (JobState::Queued, "QUEUED"),
    (JobState::Pending, "PENDING"),
    (JobState::Stopped, "STOPPED"),
    (JobState::Running, "RUNNING"),
    (JobState::Pausing, "PAUSING"),
    (JobState::Paused, "PAUSED"),
    (JobState::Draining, "DRAINING"),
    (JobState::Cancelling, "CANCELLING"),
    (JobState::CleaningUp, "RESOURCE_CLEANING_UP"),
    (JobState::Done, "DONE"),
    (JobState::Drained, "DRAINED"),
    (JobState::Cancelled, "CANCELLED"),
    (JobState::Updated, "UPDATED"),
    (JobState::Failed, "FAILED"),
];

impl JobState {
    /// A state by its name in the API.
    fn of(text: &str) -> Self {
        let name = text.strip_prefix("JOB_STATE_").unwrap_or(text);
        STATES.iter().find(|(_, known)| *known == name).map_or(Self::Unknown, |(state, _)| *state)
    }

    /// Its name, such as `RUNNING`.
    #[must_use]
    pub fn name(self) -> &'static str {
        STATES.iter().find(|(state, _)| *state == self).map_or("UNKNOWN", |(_, name)| *name)
    }

    /// Whether a job never leaves it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Drained | Self::Cancelled | Self::Updated | Self::Failed)
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id, unique in its region.
    pub id: String,
    /// Its name; only one active job of a region has it.
    pub name: String,
    /// What it is doing.
    pub state: JobState,
    /// Since when, RFC 3339; empty where the service does not say.
    pub state_since: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Name and version of its SDK; empty until it runs.
    pub sdk: String,
    /// The job in whose place it is.
    pub replaces: Option<String>,
    /// The job in its place.
    pub replaced_by: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Options of its pipeline by their names in Python; `None` where they are not known (yet).
    pub options: Option<BTreeMap<String, String>>,
    /// Names of its pipeline's outermost steps.
    pub steps: BTreeSet<String>,
}

impl Job {
    /// Reads the service's JSON; what is missing in it is told.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let text = |name: &str| value[name].as_str().map(ToOwned::to_owned);
        let known = |name: &str| text(name).unwrap_or_default();
        let (Some(id), Some(state)) = (text("id"), text("currentState")) else {
            return Err("a job without `id` or `currentState`".to_owned());
        };
        let labels = value["labels"].as_object().into_iter().flatten();
        let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let options = value["environment"]["sdkPipelineOptions"]["options"].as_object();
        let steps = value["pipelineDescription"]["originalPipelineTransform"].as_array().into_iter().flatten();
        let steps = steps.filter_map(|step| step["name"].as_str());
        Ok(Self {
            id,
            name: known("name"),
            state: JobState::of(&state),
            state_since: known("currentStateTime"),
            created: known("createTime"),
            sdk: sdk(value),
            replaces: text("replaceJobId").filter(|id| !id.is_empty()),
            replaced_by: text("replacedByJobId").filter(|id| !id.is_empty()),
            labels: labels.collect(),
            options: options.map(|options| options.iter().map(|(name, value)| (name.clone(), plain(value))).collect()),
            steps: steps.filter_map(outermost).collect(),
        })
    }
}

/// A time of the service in UTC microseconds; 0 for none.
pub(super) fn micros(text: &str) -> i64 {
    time::parse(text.as_bytes(), 0).unwrap_or_default()
}

/// The outermost step of a name such as `From projects/p/subscriptions/s/Read/Map`.
fn outermost(name: &str) -> Option<String> {
    const SOURCE: &str = "From projects/";
    // The name of a subscription has slashes of its own.
    let parts = if name.starts_with(SOURCE) { 4 } else { 1 };
    let found: Vec<&str> = name.split('/').take(parts).collect();
    (!name.is_empty()).then(|| found.join("/"))
}

fn sdk(value: &Value) -> String {
    let version = &value["jobMetadata"]["sdkVersion"];
    let agent = &value["environment"]["userAgent"];
    let name = version["versionDisplayName"].as_str().or(agent["name"].as_str()).unwrap_or_default();
    let number = version["version"].as_str().or(agent["version"].as_str()).unwrap_or_default();
    format!("{name} {number}").trim().to_owned()
}

/// An option as it is given on a command line; members of a list in order, separated by commas.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            let mut texts: Vec<String> = values.iter().map(plain).collect();
            texts.sort();
            texts.join(",")
        }
        // Numbers of google.protobuf.Struct have a fraction.
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string()),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_is_read_with_its_options_and_outermost_steps() {
        let job = Job::read(&json!({
            "id": "j1", "name": "sawlog", "currentState": "JOB_STATE_RUNNING", "currentStateTime": "2026-11-27T10:00:00Z",
            "labels": {"team": "a"}, "replacedByJobId": "",
            "environment": {
                "userAgent": {"name": "Apache Beam Python 3.11 SDK", "version": "2.77.0"},
                "sdkPipelineOptions": {"options": {
                    "shards": 32.0, "without_dedup": false, "subscription": ["s2", "s1"], "lake": null, "dead_letters_max": 0.5,
                }},
            },
            "pipelineDescription": {"originalPipelineTransform": [
                {"name": "Keep raw/Write"}, {"name": "Keep raw/Key"}, {"name": "From projects/p/subscriptions/s/Read"}, {},
            ]},
        }))
        .expect("a job");
        assert_eq!(
            (job.state, job.sdk.as_str(), job.replaced_by),
            (JobState::Running, "Apache Beam Python 3.11 SDK 2.77.0", None)
        );
        let options = job.options.expect("options");
        let texts: Vec<&str> = ["shards", "without_dedup", "subscription", "lake", "dead_letters_max"]
            .iter()
            .map(|name| options[*name].as_str())
            .collect();
        assert_eq!(texts, ["32", "false", "s1,s2", "", "0.5"]);
        let steps: Vec<&String> = job.steps.iter().collect();
        assert_eq!(steps, ["From projects/p/subscriptions/s", "Keep raw"]);
    }

    #[test]
    fn states_of_later_versions_are_unknown_and_a_job_without_one_is_refused() {
        let state = |text: &str| Job::read(&json!({"id": "j", "currentState": text})).expect("a job").state;
        for (known, name) in STATES {
            assert_eq!((state(&format!("JOB_STATE_{name}")), known.name()), (known, name));
        }
        assert_eq!((state("JOB_STATE_DREAMING"), JobState::Unknown.name()), (JobState::Unknown, "UNKNOWN"));
        assert!(!JobState::Unknown.is_final());
        assert!(Job::read(&json!({"id": "j"})).is_err_and(|problem| problem.contains("currentState")));
    }
}
