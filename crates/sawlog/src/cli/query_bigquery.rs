//! `sawlog query --engine bigquery`.
//!
//! For: a query in BigQuery's dialect on the configured dataset: what it would read, what that costs, its rows. Not for:
//! Sawlog's own tables, functions and dialect (`sawlog query`).

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use sawlog_gcp::bigquery::{Answer, JobError, JobSettings, Jobs, query};
use sawlog_gcp::call::RetryPolicy;
use sawlog_query::{Cut, QueryResult};
use toml::Value;

use super::query::{Form, render};
use crate::cloud;
use crate::config::{BigQueryQueries, ByteSize, Config, FromSetting};

#[derive(Debug, Args)]
#[group(id = "bigquery")]
pub(super) struct BigQueryArgs {
    /// With --engine bigquery: most bytes that the query may bill, e.g. 10GiB [default: gcp.bigquery.query-bytes-max].
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    bytes_max: Option<u64>,
    /// With --engine bigquery: read the tables again even if the same answer was given before.
    #[arg(long)]
    no_cache: bool,
    /// With --engine bigquery: only say what the query would read and cost.
    #[arg(long)]
    dry_run: bool,
}

impl BigQueryArgs {
    /// Whether one of them is given.
    pub(super) const fn are_given(&self) -> bool {
        self.bytes_max.is_some() || self.no_cache || self.dry_run
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let size = ByteSize::from_setting(&Value::String(text.to_owned()));
    size.map(ByteSize::bytes).map_err(|expected| format!("{text:?} is no {expected}; write it like 10GiB"))
}

/// The answer in a form; empty after a dry run.
pub(super) async fn run(sql: &str, form: Form, args: &BigQueryArgs, config: &Config) -> anyhow::Result<Vec<u8>> {
    let gcp = config.gcp.as_ref().and_then(|gcp| Some((gcp, gcp.bigquery.as_ref()?)));
    let Some((gcp, bigquery)) = gcp else {
        anyhow::bail!(
            "there is no dataset to ask\n  hint: add [gcp.bigquery] to the configuration; docs/gcp.md shows it"
        );
    };
    let options = cloud::bigquery_options(gcp).context("the dataset is configured")?;
    let jobs = Jobs::connect(&options, RetryPolicy::default()).await.map_err(|error| explain(&error))?;
    let bytes_max = args.bytes_max.unwrap_or(bigquery.queries.bytes_max);
    let settings =
        JobSettings { bytes_max, time_max: bigquery.queries.time_max, is_cached: !args.no_cache, purpose: "query" };
    let asking = async {
        announce(&jobs, sql, bytes_max, &bigquery.queries).await?;
        if args.dry_run {
            return Ok(None);
        }
        let started = Instant::now();
        let running = query(&jobs, sql, &settings, config.query.rows_max);
        // The service ends it by itself; this is for one that does not answer.
        let ended = tokio::time::timeout(settings.time_max.saturating_mul(2), running).await;
        let answer = ended.context("BigQuery does not answer")?.map_err(|error| explain(&error))?;
        Ok(Some((answer, started.elapsed())))
    };
    let outcome = tokio::select! {
        outcome = asking => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped; the query is cancelled")),
    };
    // A query that nobody waits for any more is ended with the service, too.
    jobs.settle().await;
    let Some((answer, elapsed)) = outcome? else { return Ok(Vec::new()) };
    tell(&answer, &bigquery.queries);
    let cut = answer.is_cut.then_some(Cut::Rows);
    render(&QueryResult { schema: answer.schema, batches: answer.batches, cut, elapsed }, form)
}

/// Says what the query would cost, and refuses what it must not do.
async fn announce(jobs: &Arc<Jobs>, sql: &str, bytes_max: u64, queries: &BigQueryQueries) -> anyhow::Result<()> {
    let estimate = jobs.estimate(sql).await.map_err(|error| explain(&error))?;
    if estimate.statement != "SELECT" {
        let statement = if estimate.statement.is_empty() { "something else" } else { &estimate.statement };
        anyhow::bail!(
            "only SELECT is run, and this is {statement}\n  hint: use Google's `bq query` for what changes data"
        );
    }
    let (bytes, price) = (size(estimate.bytes), queries.price(estimate.bytes));
    eprintln!("the query reads {bytes} ({} B): {price}, unless its answer is cached", estimate.bytes);
    if estimate.bytes > bytes_max {
        anyhow::bail!(
            "the query would read {bytes}, and {} is the most that it may\n  hint: narrow the range of time or name fewer \
             columns, or raise `gcp.bigquery.query-bytes-max` (once: --bytes-max)",
            size(bytes_max)
        );
    }
    Ok(())
}

fn tell(answer: &Answer, queries: &BigQueryQueries) {
    let report = &answer.report;
    if report.is_cache_hit {
        eprintln!("the answer was cached: nothing is billed");
        return;
    }
    let billed = report.bytes_billed.map(|bytes| format!(", billed {}: {}", size(bytes), queries.price(bytes)));
    eprintln!("read {}{}; not from the cache", size(report.bytes_processed), billed.unwrap_or_default());
}

fn explain(error: &JobError) -> anyhow::Error {
    let place = error.place().map(|(line, column)| format!(" (line {line}, column {column})"));
    anyhow::anyhow!("{}{}\n  hint: {}", error.problem(), place.unwrap_or_default(), error.hint())
}

/// A size for people, in powers of 1024.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!(
            (size(1_023), size(1_536), size(100 << 30)),
            ("1023 B".into(), "1.5 KiB".into(), "100.0 GiB".into())
        );
        assert_eq!(bytes("10GiB"), Ok(10 << 30));
        assert_eq!(bytes("much").expect_err("no size"), "\"much\" is no size with a unit; write it like 10GiB");
    }
}
