//! `sawlog recount`.
//!
//! For: making good in rollups what came too late for the stream, on a data folder without a server. What the event log
//! still holds is flushed first, so that every row is in the tables and every cell in the serving store. Corrections then
//! go the way of everything else: into the event log, from there to the next generation, and with its flush to pane
//! tables and serving store under one log position. Killed before a correction is in the log, nothing of it has
//! happened; killed after, the next start finishes it. A recount that is run again compares with what there is then.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use sawlog_core::time;
use sawlog_jobs::{Difference, RecountOptions, RecountReport, date};

use crate::cli::{SettingsArgs, runtime};
use crate::config::Config;
use crate::wiring::{Node, retention_options, stream_options};

#[derive(Debug, Args)]
pub(crate) struct RecountArgs {
    /// First day (UTC) to count again, as YYYY-MM-DD.
    #[arg(long, value_name = "DATE", value_parser = parse_day)]
    from: i32,
    /// Last day to count again [default: the newest].
    #[arg(long, value_name = "DATE", value_parser = parse_day)]
    to: Option<i32>,
    /// Only say what differs; the exit code is 1 when something does.
    #[arg(long)]
    check: bool,
    /// Form of the answer.
    #[arg(long, value_enum, default_value = "table")]
    format: Form,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Lines for people.
    Table,
    /// One JSON object.
    Json,
}

/// What a run found.
struct Findings {
    /// Windows that end by then were compared, UTC microseconds; `None` before the first event.
    complete_until: Option<i64>,
    reports: Vec<RecountReport>,
}

pub(crate) fn run(args: &RecountArgs) -> anyhow::Result<ExitCode> {
    let config = match args.settings.load() {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let to = args.to.unwrap_or(i32::MAX);
    if to < args.from {
        bail!("--to {} is before --from {}; give the first day to --from", date(to), date(args.from));
    }
    let findings = runtime()?.block_on(async {
        let node = Node::open(&config).await?;
        let findings = recount(&node, &config, args.from, to, args.check).await;
        node.close().await?;
        findings
    })?;
    let differing: u64 = findings.reports.iter().map(|report| report.differing).sum();
    match args.format {
        Form::Json => println!("{}", as_json(&findings, args.check, differing)),
        Form::Table => print!("{}", as_text(&findings, args.check, differing)),
    }
    Ok(if args.check && differing > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn recount(node: &Node, config: &Config, from: i32, to: i32, is_check: bool) -> anyhow::Result<Findings> {
    node.pipeline.flush().await?;
    let stream = stream_options(config);
    let watermark = node.pipeline.stream_stats().watermark;
    let complete_until = watermark.map(|watermark| watermark.saturating_sub(stream.allowed_lateness));
    let options = RecountOptions {
        rollup: stream.rollup,
        retention: retention_options(config),
        complete_until: complete_until.unwrap_or(i64::MIN),
        memory_bytes_max: config.compaction.memory_max.bytes() as usize,
    };
    let mut reports = Vec::new();
    for day in node.jobs.recountable_days()?.range(from..=to).copied() {
        let mut recount =
            node.jobs.recount(day, &options).with_context(|| format!("{} cannot be counted", date(day)))?;
        loop {
            let counting = tokio::task::spawn_blocking(move || {
                let stretch = recount.next_stretch();
                (recount, stretch)
            });
            let (counted, stretch) = counting.await?;
            recount = counted;
            let Some(corrections) = stretch.with_context(|| format!("{} cannot be counted", date(day)))? else { break };
            if !is_check && !corrections.is_empty() {
                node.pipeline.correct(corrections).await?;
                node.pipeline.flush().await?;
            }
        }
        reports.extend(recount.into_reports());
    }
    Ok(Findings { complete_until, reports })
}

/// A day as days since the epoch.
fn parse_day(text: &str) -> Result<i32, String> {
    let parts: Vec<&str> = text.split('-').collect();
    let number = |at: usize, digits: usize| {
        let part = parts.get(at).filter(|part| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()));
        part.and_then(|part| part.parse::<i64>().ok())
    };
    let (3, Some(year), Some(month), Some(day)) = (parts.len(), number(0, 4), number(1, 2), number(2, 2)) else {
        return Err("write a day as YYYY-MM-DD, e.g. 2026-11-26".to_owned());
    };
    let days = time::days_from_civil(year, month, day).and_then(|days| i32::try_from(days).ok());
    days.ok_or_else(|| "the calendar has no such day".to_owned())
}

fn as_json(findings: &Findings, is_check: bool, differing: u64) -> serde_json::Value {
    let reports: Vec<serde_json::Value> = findings.reports.iter().map(report_json).collect();
    serde_json::json!({
        "complete_until": findings.complete_until.map(time::to_rfc3339),
        "check": is_check, "agrees": differing == 0, "differing": differing,
        "corrected": if is_check { 0 } else { differing }, "rollups": reports,
    })
}

fn report_json(report: &RecountReport) -> serde_json::Value {
    let differences: Vec<serde_json::Value> = report
        .differences
        .iter()
        .map(|difference| {
            let parts = report.rollup.parts().iter().zip(&difference.parts);
            let key: serde_json::Map<_, _> =
                parts.map(|(name, part)| ((*name).to_owned(), part.clone().into())).collect();
            serde_json::json!({
                "width": difference.width.name(), "window_start": time::to_rfc3339(difference.window_start),
                "key": key, "stored_events": difference.stored_events,
                "recounted_events": difference.recounted_events,
            })
        })
        .collect();
    serde_json::json!({
        "date": date(report.day), "rollup": report.rollup.name(), "windows": report.windows,
        "differing": report.differing, "open": report.open, "events_added": report.events_added,
        "deleted": report.deleted.map(|table| table.name()), "agrees": report.differing == 0,
        "differences": differences,
    })
}

fn as_text(findings: &Findings, is_check: bool, differing: u64) -> String {
    let found = |report: &&RecountReport| report.windows + report.open > 0 || report.deleted.is_some();
    let mut out: String = findings.reports.iter().filter(found).map(report_text).collect();
    let compared: u64 = findings.reports.iter().map(|report| report.windows).sum();
    out.push_str(&match findings.complete_until {
        Some(until) => {
            format!("compared: windows that end by {}, which take no more events\n", time::to_rfc3339(until))
        }
        None => "history alone closes no window: serve until an event of now has come, then count again\n".to_owned(),
    });
    out.push_str(&match (compared, differing, is_check) {
        (0, ..) => "no window was compared\n".to_owned(),
        (_, 0, _) => format!("stream and recount agree in {compared} windows\n"),
        (_, _, true) => format!("{differing} of {compared} windows differ; without --check they are corrected\n"),
        (_, _, false) => format!("{differing} of {compared} windows differed and are corrected\n"),
    });
    out
}

fn report_text(report: &RecountReport) -> String {
    let (day, rollup) = (date(report.day), report.rollup.name());
    if let Some(table) = report.deleted {
        return format!("{day} {rollup}: left alone, rows of {} were deleted\n", table.name());
    }
    let added = report.events_added.map(|added| format!(", {added:+} events")).unwrap_or_default();
    let open = if report.open > 0 { format!(", {} still open", report.open) } else { String::new() };
    let mut text = format!("{day} {rollup}: {} of {} windows differ{added}{open}\n", report.differing, report.windows);
    for difference in &report.differences {
        text.push_str(&difference_text(report, difference));
    }
    let untold = report.differing - report.differences.len() as u64;
    if untold > 0 {
        text.push_str(&format!("  and {untold} more\n"));
    }
    text
}

fn difference_text(report: &RecountReport, difference: &Difference) -> String {
    let named = report.rollup.parts().iter().zip(&difference.parts);
    let key: Vec<String> =
        named.filter_map(|(name, part)| part.as_ref().map(|part| format!("{name}={part:?}"))).collect();
    let start = time::to_rfc3339(difference.window_start);
    let events = match difference.recounted_events {
        Some(events) => format!(": {} events, {events} by the rows", difference.stored_events.unwrap_or(0)),
        None => String::new(),
    };
    format!("  {} from {start} {}{events}\n", difference.width.name(), key.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_or_refused_with_the_form_to_use() {
        assert_eq!((parse_day("1970-01-02"), parse_day("2026-11-26")), (Ok(1), Ok(20_783)));
        for text in ["", "2026-11", "2026-11-26T00", "26-11-2026", "2026-1-2", "yesterday", "2026-11-2x"] {
            assert!(parse_day(text).is_err_and(|problem| problem.contains("YYYY-MM-DD")), "{text}");
        }
        assert!(parse_day("2026-02-30").is_err_and(|problem| problem.contains("calendar")));
    }
}
