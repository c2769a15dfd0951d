//! `sawlog dataflow drain` and `cancel`: a job ends.

use std::process::ExitCode;

use clap::Args;
use sawlog_gcp::dataflow::{Dataflow, Job, JobState};

use super::wait::wait;
use super::{CommonArgs, Here};
use crate::cli::confirm::confirmed;

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// Do it without asking.
    #[arg(long)]
    yes: bool,
    /// Wait until the job has ended.
    #[arg(long)]
    wait: bool,
}

const DRAIN: [&str; 4] = [
    "- it takes in no more messages; Pub/Sub keeps those that come, as long as the subscription does",
    "- what it has is finished: rows, dead letters and raw records are written",
    "- every open window closes: its pane is emitted with what is in it so far, as if it were complete. Events of these windows \
     that the next job takes in go into panes of its own, which take the place of the drained ones and lack what was in them",
    "- open sessions end where they are, and remembered ids are forgotten: repeats across the drain are stored",
];
const CANCEL: [&str; 3] = [
    "- it stops at once: rows, panes and sessions that are not written are dropped",
    "- messages that it has not acknowledged come again to the next job; those that it has and had not written are lost: \
     the lake may have them",
    "- `sawlog dataflow drain` finishes what it has instead",
];

pub(super) async fn drain(args: &StopArgs, here: &Here<'_>) -> anyhow::Result<ExitCode> {
    let client = here.client()?;
    let Some(job) = here.active(&client).await? else { return Ok(here.nothing_runs()) };
    match job.state {
        JobState::Running | JobState::Draining => {}
        state => {
            let (id, name) = (&job.id, state.name());
            eprintln!(
                "error: job {id} is {name} and has nothing to finish; wait until it runs, or `sawlog dataflow cancel`"
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    if job.state == JobState::Running {
        if let Err(code) = asked(&job, "is drained", &DRAIN, "Drain?", args.yes)? {
            return Ok(code);
        }
        client.drain(&job.id).await?;
    }
    ended(args, &client, job, JobState::Drained, "drains").await
}

pub(super) async fn cancel(args: &StopArgs, here: &Here<'_>) -> anyhow::Result<ExitCode> {
    let client = here.client()?;
    let Some(job) = here.active(&client).await? else { return Ok(here.nothing_runs()) };
    if job.state != JobState::Cancelling {
        if let Err(code) = asked(&job, "is cancelled", &CANCEL, "Cancel?", args.yes)? {
            return Ok(code);
        }
        client.cancel(&job.id).await?;
    }
    ended(args, &client, job, JobState::Cancelled, "is being cancelled").await
}

/// Says what is about to be done, and asks.
fn asked(job: &Job, what: &str, lines: &[&str], question: &str, is_yes: bool) -> anyhow::Result<Result<(), ExitCode>> {
    println!("job {} of the name {} {what}:", job.id, job.name);
    for line in lines {
        println!("{line}");
    }
    confirmed(question, is_yes)
}

/// Says that a job ends; where wanted, once it has.
async fn ended(
    args: &StopArgs,
    client: &Dataflow,
    job: Job,
    expected: JobState,
    what: &str,
) -> anyhow::Result<ExitCode> {
    if !args.wait {
        println!("{} {what}; `sawlog dataflow status` tells when it has ended", job.id);
        return Ok(ExitCode::SUCCESS);
    }
    let job = wait(client, client.job(&job.id).await?, expected).await?;
    println!("{}: {} since {}", job.id, job.state.name(), job.state_since);
    Ok(if job.state == expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
