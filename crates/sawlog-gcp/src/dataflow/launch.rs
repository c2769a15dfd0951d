//! A launch of the Flex Template.
//!
//! For: the request, field by field as the API names them. Not for: which parameters there are (the binary, which reads the
//! configuration).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What the machines of a job are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// Folder in Cloud Storage for what is kept while it runs.
    pub temp_location: Option<String>,
    /// Account that they run as.
    pub service_account: Option<String>,
    /// Most of them.
    pub max: Option<u32>,
    /// Their type.
    pub machine_type: Option<String>,
    /// Image of the container that the pipeline's code runs in.
    pub image: Option<String>,
    /// Whether shuffle and state are with the service instead of on their disks.
    pub has_streaming_engine: bool,
}

/// A launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Name of the job.
    pub job_name: String,
    /// The template's specification, `gs://BUCKET/OBJECT`.
    pub template: String,
    /// Options of the pipeline by their names in Python.
    pub parameters: BTreeMap<String, String>,
    /// What runs it.
    pub workers: Workers,
    /// Whether a step may run more than once for a record, which is cheaper: for jobs that only copy.
    pub at_least_once: bool,
    /// Labels of the job.
    pub labels: BTreeMap<String, String>,
    /// Steps of the job that is replaced by their names, with what they are called now; empty for one that is gone.
    pub renamed: BTreeMap<String, String>,
}

impl Launch {
    /// The body of `projects.locations.flexTemplates.launch`; `is_update` replaces the running job of that name.
    #[must_use]
    pub fn body(&self, is_update: bool) -> Value {
        let mut parameter = Map::new();
        parameter.insert("jobName".to_owned(), json!(self.job_name));
        parameter.insert("containerSpecGcsPath".to_owned(), json!(self.template));
        parameter.insert("parameters".to_owned(), json!(self.parameters));
        parameter.insert("environment".to_owned(), self.environment());
        if is_update {
            parameter.insert("update".to_owned(), json!(true));
            if !self.renamed.is_empty() {
                parameter.insert("transformNameMappings".to_owned(), json!(self.renamed));
            }
        }
        json!({ "launchParameter": parameter })
    }

    fn environment(&self) -> Value {
        let workers = &self.workers;
        let mut environment = Map::new();
        let texts = [
            ("tempLocation", &workers.temp_location),
            ("serviceAccountEmail", &workers.service_account),
            ("machineType", &workers.machine_type),
            ("sdkContainerImage", &workers.image),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                environment.insert(name.to_owned(), json!(text));
            }
        }
        if let Some(max) = workers.max {
            environment.insert("maxWorkers".to_owned(), json!(max));
        }
        environment.insert("enableStreamingEngine".to_owned(), json!(workers.has_streaming_engine));
        if self.at_least_once {
            environment.insert("streamingMode".to_owned(), json!("STREAMING_MODE_AT_LEAST_ONCE"));
        }
        if !self.labels.is_empty() {
            environment.insert("additionalUserLabels".to_owned(), json!(self.labels));
        }
        Value::Object(environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_what_is_set_and_nothing_else() {
        let mut launch = Launch {
            job_name: "sawlog".to_owned(),
            template: "gs://b/t.json".to_owned(),
            parameters: BTreeMap::from([("shards".to_owned(), "32".to_owned())]),
            workers: Workers::default(),
            at_least_once: false,
            labels: BTreeMap::new(),
            renamed: BTreeMap::from([("Keep raw".to_owned(), String::new())]),
        };
        let first = json!({"launchParameter": {
            "jobName": "sawlog", "containerSpecGcsPath": "gs://b/t.json", "parameters": {"shards": "32"},
            "environment": {"enableStreamingEngine": false},
        }});
        assert_eq!(launch.body(false), first, "steps are renamed in updates only");
        launch.workers = Workers {
            temp_location: Some("gs://b/tmp".to_owned()),
            service_account: Some("w@p.iam.gserviceaccount.com".to_owned()),
            max: Some(8),
            machine_type: Some("n2-standard-4".to_owned()),
            image: Some("host/sawlog:1".to_owned()),
            has_streaming_engine: true,
        };
        launch.at_least_once = true;
        launch.labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        let update = json!({"launchParameter": {
            "jobName": "sawlog", "containerSpecGcsPath": "gs://b/t.json", "parameters": {"shards": "32"}, "update": true,
            "transformNameMappings": {"Keep raw": ""},
            "environment": {
                "tempLocation": "gs://b/tmp", "serviceAccountEmail": "w@p.iam.gserviceaccount.com", "maxWorkers": 8,
                "machineType": "n2-standard-4", "enableStreamingEngine": true, "sdkContainerImage": "host/sawlog:1",
                "streamingMode": "STREAMING_MODE_AT_LEAST_ONCE", "additionalUserLabels": {"team": "a"},
            },
        }});
        assert_eq!(launch.body(true), update);
    }
}
