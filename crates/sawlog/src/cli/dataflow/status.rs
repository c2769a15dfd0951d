//! `sawlog dataflow status`: how the job fares.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use sawlog_core::time;
use sawlog_gcp::dataflow::{Dataflow, DataflowError, Health, Job, JobState, Message};
use sawlog_seams::{Clock, SystemClock};
use serde_json::{Value, json};

use super::{CommonArgs, Here};

/// Errors that are shown.
const ERRORS_MAX: usize = 10;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// This job instead of the newest one of the name.
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A line for each fact.
    Text,
    /// One object.
    Json,
}

/// All that is shown of a job.
struct Status {
    job: Job,
    health: Health,
    errors: Vec<Message>,
}

/// Exit code 1 when there is no such job, or it failed.
pub(super) async fn run(args: &StatusArgs, here: &Here<'_>) -> anyhow::Result<ExitCode> {
    let client = here.client()?;
    let Some(job) = found(args, here, &client).await? else {
        eprintln!("error: there is no job {}; `sawlog dataflow launch` starts one", here.place());
        return Ok(ExitCode::FAILURE);
    };
    let (health, errors) = tokio::try_join!(client.health(&job.id), client.errors(&job.id, ERRORS_MAX))?;
    let status = Status { job, health, errors };
    let now = SystemClock::new().now_micros();
    match args.format {
        Form::Json => println!("{}", serde_json::to_string_pretty(&status.json(now))?),
        Form::Text => status.lines(now).iter().for_each(|line| println!("{line}")),
    }
    Ok(if status.job.state == JobState::Failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn found(args: &StatusArgs, here: &Here<'_>, client: &Dataflow) -> Result<Option<Job>, DataflowError> {
    if let Some(id) = &args.job {
        return client.job(id).await.map(Some);
    }
    // One that failed to take the place of another is newer than that, which still works.
    if let Some(job) = here.active(client).await? {
        return Ok(Some(job));
    }
    match client.newest(&here.dataflow.job_name).await? {
        Some(job) => client.job(&job.id).await.map(Some),
        None => Ok(None),
    }
}

impl Status {
    /// Seconds that the longest-waiting message has waited, and that event time lags behind.
    fn lags(&self, now: i64) -> [Option<i64>; 2] {
        let at = time::parse(self.health.at.as_bytes(), now).unwrap_or(now);
        [self.health.system_watermark, self.health.data_watermark]
            .map(|watermark| watermark.map(|watermark| (at - watermark).max(0) / 1_000_000))
    }

    fn json(&self, now: i64) -> Value {
        let (job, [system_lag, data_lag]) = (&self.job, self.lags(now));
        let counters: serde_json::Map<String, Value> =
            self.health.counters.iter().map(|counter| (counter.name.clone(), json!(counter.value))).collect();
        let errors: Vec<Value> = self.errors.iter().map(|one| json!({"time": one.time, "text": one.text})).collect();
        json!({
            "id": job.id, "name": job.name, "state": job.state.name(), "since": job.state_since, "created": job.created,
            "sdk": job.sdk, "replaces": job.replaces, "replaced_by": job.replaced_by, "labels": job.labels,
            "options": job.options, "measured": self.health.at, "system_lag_seconds": system_lag,
            "data_watermark": self.health.data_watermark.map(time::to_rfc3339), "data_lag_seconds": data_lag,
            "counters": counters, "errors": errors,
        })
    }

    fn lines(&self, now: i64) -> Vec<String> {
        let (job, [system_lag, data_lag]) = (&self.job, self.lags(now));
        let mut lines = vec![
            format!("job      {} ({})", job.id, job.name),
            format!("state    {} since {}", job.state.name(), job.state_since),
            format!("created  {}", job.created),
        ];
        let known = if job.sdk.is_empty() { "not known yet" } else { &job.sdk };
        lines.push(format!("runner   Dataflow, {known}"));
        lines.extend(job.replaces.as_ref().map(|id| format!("in place of {id}")));
        lines.extend(job.replaced_by.as_ref().map(|id| format!("replaced by {id}")));
        let lag =
            |seconds: Option<i64>| seconds.map_or_else(|| "not known".to_owned(), |seconds| format!("{seconds} s"));
        lines.push(format!("system lag      {}", lag(system_lag)));
        lines.push(match self.health.data_watermark {
            Some(watermark) => format!("data watermark  {}, {} behind", time::to_rfc3339(watermark), lag(data_lag)),
            None => "data watermark  not known".to_owned(),
        });
        lines.extend(
            self.health.counters.iter().map(|counter| format!("counter  {} = {}", counter.name, counter.value)),
        );
        lines.extend(self.errors.iter().map(|error| format!("error    {}: {}", error.time, error.text)));
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use sawlog_gcp::dataflow::Counter;

    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn status() -> Status {
        Status {
            job: Job {
                id: "j1".to_owned(),
                name: "sawlog".to_owned(),
                state: JobState::Running,
                state_since: "2026-11-27T10:00:00Z".to_owned(),
                created: "2026-11-27T09:59:00Z".to_owned(),
                sdk: String::new(),
                replaces: Some("j0".to_owned()),
                replaced_by: None,
                labels: BTreeMap::new(),
                options: None,
                steps: BTreeSet::new(),
            },
            health: Health {
                at: "1970-01-01T01:00:00Z".to_owned(),
                data_watermark: Some(59 * MINUTE),
                system_watermark: Some(60 * MINUTE + 1),
                counters: vec![Counter { name: "late".to_owned(), value: 7 }],
            },
            errors: vec![Message { time: "2026-11-27T10:00:01Z".to_owned(), text: "no".to_owned() }],
        }
    }

    #[test]
    fn lags_are_of_the_time_of_the_metrics() {
        let lines = status().lines(90 * MINUTE);
        for line in [
            "state    RUNNING since 2026-11-27T10:00:00Z",
            "runner   Dataflow, not known yet",
            "in place of j0",
            "system lag      0 s",
            "data watermark  1970-01-01T00:59:00.000000Z, 60 s behind",
            "counter  late = 7",
            "error    2026-11-27T10:00:01Z: no",
        ] {
            assert!(lines.iter().any(|one| one == line), "{line} in {lines:#?}");
        }
        let json = status().json(90 * MINUTE);
        assert_eq!((&json["data_lag_seconds"], &json["counters"]["late"]), (&json!(60), &json!(7)));
    }

    #[test]
    fn what_is_not_known_is_told_as_such() {
        let mut status = status();
        status.health = Health::default();
        let lines = status.lines(0).join("\n");
        assert!(lines.contains("system lag      not known") && lines.contains("data watermark  not known"), "{lines}");
        assert_eq!(status.json(0)["data_watermark"], Value::Null);
    }
}
