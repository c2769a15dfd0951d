//! `sawlog retention`.

use std::process::ExitCode;

use clap::Args;
use sawlog_jobs::{RetentionMode, RetentionOutcome, RetentionReport, date};

use crate::cli::{SettingsArgs, runtime};
use crate::wiring::{Node, retention_options};

#[derive(Debug, Args)]
pub(crate) struct RetentionArgs {
    /// Only say what would be deleted.
    #[arg(long, conflicts_with = "force")]
    dry_run: bool,
    /// Delete even more than `retention.delete-percent-max` at once.
    #[arg(long)]
    force: bool,
    /// Give the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(args: &RetentionArgs) -> anyhow::Result<ExitCode> {
    let config = match args.settings.load() {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let mode = match (args.dry_run, args.force) {
        (true, _) => RetentionMode::DryRun,
        (_, true) => RetentionMode::Force,
        _ => RetentionMode::Careful,
    };
    let reports = runtime()?.block_on(async {
        let node = Node::open(&config).await?;
        // What the last run left in the event log becomes files first.
        node.pipeline.flush().await?;
        let reports = node.jobs.expire(&retention_options(&config), mode).await;
        node.close().await?;
        anyhow::Ok(reports)
    })?;
    if args.json {
        let reports: Vec<serde_json::Value> = reports.iter().map(as_json).collect();
        println!("{}", serde_json::Value::from(reports));
    } else {
        reports.iter().for_each(|report| println!("{}", as_text(report)));
        if reports.is_empty() {
            println!("nothing has an end: set days in [retention], e.g. `--set retention.logs=30`");
        }
    }
    let is_fine =
        |report: &RetentionReport| !matches!(report.outcome, RetentionOutcome::Refused | RetentionOutcome::Failed(_));
    Ok(if reports.iter().all(is_fine) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const fn outcome_name(outcome: &RetentionOutcome) -> &'static str {
    match outcome {
        RetentionOutcome::Nothing => "nothing",
        RetentionOutcome::Planned => "planned",
        RetentionOutcome::Deleted => "deleted",
        RetentionOutcome::Refused => "refused",
        RetentionOutcome::Failed(_) => "failed",
    }
}

fn as_json(report: &RetentionReport) -> serde_json::Value {
    let problem = match &report.outcome {
        RetentionOutcome::Failed(problem) => Some(problem),
        _ => None,
    };
    serde_json::json!({
        "subject": report.subject, "days": report.days, "first_kept": date(report.first_kept_day),
        "outcome": outcome_name(&report.outcome), "problem": problem, "disputed_days": report.disputed_days,
        "items": report.old.items, "rows": report.old.rows, "bytes": report.old.bytes,
        "items_in_all": report.total.items, "rows_in_all": report.total.rows, "bytes_in_all": report.total.bytes,
    })
}

fn as_text(report: &RetentionReport) -> String {
    let (old, total) = (report.old, report.total);
    let amount =
        format!("{} of {} items, {} of {} rows, {} bytes", old.items, total.items, old.rows, total.rows, old.bytes);
    let before = format!("from before {} ({} days are kept)", date(report.first_kept_day), report.days);
    let mut text = match &report.outcome {
        RetentionOutcome::Nothing => format!("{}: nothing is {before}", report.subject),
        RetentionOutcome::Planned => format!("{}: would delete {amount} {before}", report.subject),
        RetentionOutcome::Deleted => format!("{}: deleted {amount} {before}", report.subject),
        RetentionOutcome::Refused => format!(
            "{}: refused to delete {amount} {before}: that is more than `retention.delete-percent-max` allows; check \
             the clock and the settings, then use --force",
            report.subject
        ),
        RetentionOutcome::Failed(problem) => format!("{}: failed: {problem}", report.subject),
    };
    if report.disputed_days > 0 {
        text.push_str(&format!(
            "; {} days are old by the clock but not by the newest data, and are kept",
            report.disputed_days
        ));
    }
    text
}
