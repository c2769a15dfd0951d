//! `sawlog dataflow`: the job that runs the Beam pipeline.
//!
//! For: what is asked of it by hand, from a launch to its end. Not for: the service's calls and what a replacement may change
//! (`sawlog_gcp::dataflow`), or the pipeline (python/sawlog/beam).

mod launch;
mod request;
mod status;
mod stop;
mod wait;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use sawlog_gcp::call::RetryPolicy;
use sawlog_gcp::dataflow::{Dataflow, DataflowError, DataflowOptions, Job};

use super::{SettingsArgs, runtime};
use crate::config::{Config, DataflowConfig, FromSetting, GcpConfig, HumanDuration};

#[derive(Debug, Args)]
pub(crate) struct DataflowArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start the job. Refused while one of its name runs.
    Launch(launch::LaunchArgs),
    /// Replace the running job by one with these settings, which goes on with its state. Refused where that would not survive.
    Update(launch::UpdateArgs),
    /// Let the job take in nothing more, finish what it has, and end. Says first what that does.
    Drain(stop::StopArgs),
    /// Stop the job at once; what it has taken in and not written is dropped. Says first what that does.
    Cancel(stop::StopArgs),
    /// Show the job's state, watermarks, counters and latest errors.
    Status(status::StatusArgs),
}

/// What all of them need.
#[derive(Debug, Args)]
struct CommonArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Longest time that a call is tried.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    deadline: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = HumanDuration::from_setting(&toml::Value::String(text.to_owned()));
    time.map(|time| time.duration()).map_err(|expected| format!("it is no {expected}; write it like 60s"))
}

pub(crate) fn run(args: &DataflowArgs) -> anyhow::Result<ExitCode> {
    let common = match &args.action {
        Action::Launch(args) => &args.common,
        Action::Update(args) => &args.common,
        Action::Drain(args) | Action::Cancel(args) => &args.common,
        Action::Status(args) => &args.common,
    };
    let config = match common.settings.load() {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let Some((gcp, dataflow)) = config.gcp.as_ref().and_then(|gcp| Some((gcp, gcp.dataflow.as_ref()?))) else {
        eprintln!("error: the configuration has no [gcp.dataflow]; docs/gcp/dataflow.md shows it");
        return Ok(ExitCode::from(2));
    };
    let outcome = runtime()?.block_on(async {
        let here = Here { config: &config, gcp, dataflow, deadline: common.deadline };
        match &args.action {
            Action::Launch(args) => launch::launch(args, &here).await,
            Action::Update(args) => launch::update(args, &here).await,
            Action::Drain(args) => stop::drain(args, &here).await,
            Action::Cancel(args) => stop::cancel(args, &here).await,
            Action::Status(args) => status::run(args, &here).await,
        }
    });
    outcome.or_else(|error| match error.downcast_ref::<DataflowError>() {
        Some(known) => {
            eprintln!("error: {known}\n  hint: {}", known.hint());
            Ok(ExitCode::FAILURE)
        }
        None => Err(error),
    })
}

/// The configuration, and the job that it names.
struct Here<'a> {
    config: &'a Config,
    gcp: &'a GcpConfig,
    dataflow: &'a DataflowConfig,
    deadline: Duration,
}

impl Here<'_> {
    fn client(&self) -> Result<Dataflow, DataflowError> {
        let try_max = self.gcp.answer_max.unwrap_or(RetryPolicy::default().try_max).min(self.deadline);
        Dataflow::new(DataflowOptions {
            project: self.gcp.project.clone(),
            region: self.dataflow.region.clone(),
            access: self.dataflow.access.clone(),
            retry: RetryPolicy { try_max, total_max: self.deadline, ..RetryPolicy::default() },
        })
    }

    /// The newest active job of the name, with all that is known of it.
    async fn active(&self, client: &Dataflow) -> Result<Option<Job>, DataflowError> {
        match client.active(&self.dataflow.job_name).await?.first() {
            Some(job) => client.job(&job.id).await.map(Some),
            None => Ok(None),
        }
    }

    /// `sawlog in europe-west1`
    fn place(&self) -> String {
        format!("{} in {}", self.dataflow.job_name, self.dataflow.region)
    }

    /// Where people look at a job.
    fn page(&self, job: &Job) -> String {
        let region = &self.dataflow.region;
        format!("https://console.cloud.google.com/dataflow/jobs/{region}/{}?project={}", job.id, self.gcp.project)
    }

    fn nothing_runs(&self) -> ExitCode {
        eprintln!("error: no job {} runs; `sawlog dataflow launch` starts one", self.place());
        ExitCode::FAILURE
    }
}
