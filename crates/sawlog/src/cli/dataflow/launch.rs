//! `sawlog dataflow launch` and `update`: a job starts, alone or in the place of another.

use std::process::ExitCode;

use clap::Args;
use sawlog_gcp::dataflow::{Change, Dataflow, DataflowError, Job, JobState, Launch, Verdict, changes, unknown_steps};

use super::request::request;
use super::wait::wait;
use super::{CommonArgs, Here};

/// Errors that are shown of a job that does not start.
const ERRORS_MAX: usize = 5;

#[derive(Debug, Args)]
pub(super) struct LaunchArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// Configuration file that the pipeline reads, gs://BUCKET/PATH [default: `settings` of [gcp.dataflow]].
    #[arg(long, value_name = "GS-PATH")]
    settings: Option<String>,
    /// Print the request instead of making it.
    #[arg(long)]
    dry_run: bool,
    /// Wait until the job runs.
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// Configuration file that the pipeline reads, gs://BUCKET/PATH [default: `settings` of [gcp.dataflow]].
    #[arg(long, value_name = "GS-PATH")]
    settings: Option<String>,
    /// A step of the running job and what it is called now; nothing behind `=` for one that may go with its state. May be repeated.
    #[arg(long, value_name = "OLD=NEW", value_parser = renamed)]
    rename_step: Vec<(String, String)>,
    /// Compare and print the request instead of making it.
    #[arg(long)]
    dry_run: bool,
    /// Wait until the new job runs.
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

fn renamed(text: &str) -> Result<(String, String), String> {
    let (old, new) = text.split_once('=').ok_or("it has no `=`; write OLD=NEW, or OLD= for a step that may go")?;
    if old.is_empty() {
        return Err("it names no step; write OLD=NEW, or OLD= for a step that may go".to_owned());
    }
    Ok((old.to_owned(), new.to_owned()))
}

pub(super) async fn launch(args: &LaunchArgs, here: &Here<'_>) -> anyhow::Result<ExitCode> {
    let launch = match request(here, args.settings.as_deref(), &[]) {
        Ok(launch) => launch,
        Err(problems) => return Ok(misused(&problems)),
    };
    if args.dry_run {
        print_request(&launch, false)?;
        return Ok(ExitCode::SUCCESS);
    }
    let client = here.client()?;
    if let Some(job) = client.active(&here.dataflow.job_name).await?.first() {
        let (id, state, since) = (&job.id, job.state.name(), &job.state_since);
        eprintln!("error: job {id} of the name {} is there, {state} since {since}", here.place());
        eprintln!("  hint: {}", instead(job.state));
        return Ok(ExitCode::FAILURE);
    }
    let job = client.launch(&launch, None).await?;
    tell(here, &job, args.wait, &client, "launched").await
}

/// What to do about a job that is there.
fn instead(state: JobState) -> &'static str {
    match state {
        JobState::Draining | JobState::Cancelling => {
            "it is about to end; launch then, `sawlog dataflow status` tells when"
        }
        _ => "`sawlog dataflow update` replaces it, `sawlog dataflow drain` ends it; or set another `job-name`",
    }
}

pub(super) async fn update(args: &UpdateArgs, here: &Here<'_>) -> anyhow::Result<ExitCode> {
    let launch = match request(here, args.settings.as_deref(), &args.rename_step) {
        Ok(launch) => launch,
        Err(problems) => return Ok(misused(&problems)),
    };
    let client = here.client()?;
    let Some(running) = here.active(&client).await? else { return Ok(here.nothing_runs()) };
    if let Some(problem) = unfit(&running) {
        eprintln!("error: {problem}");
        return Ok(ExitCode::FAILURE);
    }
    let unknown = unknown_steps(&running, &launch);
    if !unknown.is_empty() {
        let problem = format!("--rename-step: the job {} has no step {}", running.id, unknown.join(", "));
        let known: Vec<&str> = running.steps.iter().map(String::as_str).collect();
        return Ok(misused(&[format!("{problem}; it has {}", known.join(", "))]));
    }
    let changes = changes(&running, &launch);
    if !is_compatible(&running, &changes) {
        return Ok(ExitCode::FAILURE);
    }
    if args.dry_run {
        print_request(&launch, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    let job = client.launch(&launch, Some(&running)).await?;
    tell(here, &job, args.wait, &client, &format!("launched in the place of {}", running.id)).await
}

/// Why a job cannot be replaced, whatever by.
fn unfit(running: &Job) -> Option<String> {
    let (id, state) = (&running.id, running.state.name());
    match running.state {
        JobState::Running if running.options.is_none() => Some(format!(
            "the options of job {id} are not known, so that nothing can be compared; was it launched by this pipeline?"
        )),
        JobState::Running => None,
        JobState::Draining | JobState::Cancelling => {
            Some(format!("job {id} is {state}: it is about to end; `sawlog dataflow launch` starts the next one then"))
        }
        _ => Some(format!("job {id} is {state}: wait until it runs, and try again")),
    }
}

/// Says what changes. Whether all of it may.
fn is_compatible(running: &Job, changes: &[Change]) -> bool {
    for Change { option, from, to, verdict, reason } in changes {
        let mark = if *verdict == Verdict::Refused { "error: " } else { "" };
        eprintln!("{mark}{option}: {} -> {}: {reason}", or_nothing(from), or_nothing(to));
    }
    let is_compatible = changes.iter().all(|change| change.verdict != Verdict::Refused);
    if !is_compatible {
        eprintln!(
            "  hint: undo these changes; or end job {} with `sawlog dataflow drain --wait`, and launch",
            running.id
        );
    }
    is_compatible
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

fn misused(problems: &[String]) -> ExitCode {
    for problem in problems {
        eprintln!("error: {problem}");
    }
    ExitCode::from(2)
}

fn print_request(launch: &Launch, is_update: bool) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&launch.body(is_update))?);
    Ok(())
}

/// Says which job there is now; where wanted, once it runs.
async fn tell(here: &Here<'_>, job: &Job, is_waiting: bool, client: &Dataflow, what: &str) -> anyhow::Result<ExitCode> {
    println!("{}: {what}\n{}", job.id, here.page(job));
    if !is_waiting {
        return Ok(ExitCode::SUCCESS);
    }
    let job = wait(client, job.clone(), JobState::Running).await?;
    if job.state == JobState::Running {
        return Ok(ExitCode::SUCCESS);
    }
    not_started(client, &job).await?;
    Ok(ExitCode::FAILURE)
}

async fn not_started(client: &Dataflow, job: &Job) -> Result<(), DataflowError> {
    eprintln!("error: job {} is {}", job.id, job.state.name());
    for error in client.errors(&job.id, ERRORS_MAX).await? {
        eprintln!("  {}: {}", error.time, error.text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_renamed_or_may_go() {
        assert_eq!(renamed("Keep raw=Keep"), Ok(("Keep raw".to_owned(), "Keep".to_owned())));
        assert_eq!(renamed("Keep raw="), Ok(("Keep raw".to_owned(), String::new())));
        for text in ["Keep raw", "", "=Keep"] {
            assert!(renamed(text).is_err_and(|problem| problem.contains("OLD=NEW")), "{text}");
        }
    }
}
