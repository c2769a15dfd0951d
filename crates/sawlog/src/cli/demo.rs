//! `sawlog demo`: a server with real and generated data, and three questions answered.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_core::ledger::Counts;
use sawlog_generate::{Generator, Scenario};
use sawlog_query::QueryEngine;
use sawlog_seams::{Clock, SystemClock};
use sawlog_stream::{AckLevel, Pipeline, Submission};

use crate::cli::generate::PacedStream;
use crate::cli::{SettingsArgs, ingest, query, serve};

/// A small log of an invented shop, so that there is something on a machine without logs.
const SAMPLE: &[u8] = include_bytes!("demo/sample.log");
/// Files of this machine that are loaded where they are readable.
const SYSTEM_LOGS: [&str; 10] = [
    "/var/log/syslog",
    "/var/log/messages",
    "/var/log/auth.log",
    "/var/log/kern.log",
    "/var/log/dpkg.log",
    "/var/log/alternatives.log",
    "/var/log/apt/history.log",
    "/var/log/bootstrap.log",
    "/var/log/nginx/access.log",
    "/var/log/apache2/access.log",
];
/// Larger system logs would make the demo wait.
const SYSTEM_LOG_BYTES_MAX: u64 = 64 << 20;
/// History before the live stream, so that no chart starts empty: an hour at ten records a second.
const HISTORY_MICROS: i64 = 3_600_000_000;
const HISTORY_RATE: f64 = 10.0;
const QUESTIONS: [(&str, &str); 3] = [
    (
        "Which services have the most errors?",
        "SELECT service, sum(count) AS records, sum(error_count) AS errors FROM rollup_requests_1m \
         GROUP BY service ORDER BY errors DESC, records DESC LIMIT 5",
    ),
    (
        "What do people look for on the web server?",
        "SELECT http_route, count(*) AS requests, count(DISTINCT client_address) AS visitors FROM logs \
         WHERE http_route IS NOT NULL GROUP BY http_route ORDER BY requests DESC LIMIT 5",
    ),
    (
        "What became of every record?",
        "SELECT source, sum(received) AS received, sum(stored) AS stored, sum(duplicate) AS duplicate, \
         sum(dead_lettered) AS dead_lettered, sum(in_flight) AS in_flight FROM sawlog_ledger GROUP BY source ORDER BY source",
    ),
];

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Generated records a second.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let mut settings = args.settings.clone();
    // Free ports, unless the user names some: flags that come later win.
    let free =
        ["server.listen", "server.otlp-grpc-listen", "server.otlp-http-listen", "postgres.listen"].map(free_port);
    settings.set = free.into_iter().chain(["log.level=warn".to_owned()]).chain(settings.set).collect();
    let rate = args.rate;
    serve::run_with(
        &settings,
        move |pipeline, queries, address| async move { fill(pipeline, queries, address, rate).await },
    )
}

/// The usual port where it is free, else any.
fn free_port(setting: &str) -> String {
    let usual = match setting {
        "server.listen" => 7070,
        "server.otlp-grpc-listen" => 4317,
        "postgres.listen" => 5433,
        _ => 4318,
    };
    let port = std::net::TcpListener::bind(("127.0.0.1", usual)).map_or(0, |_| usual);
    format!("{setting}=127.0.0.1:{port}")
}

/// Loads files, answers the questions, and then generates until the server stops.
async fn fill(pipeline: Arc<Pipeline>, queries: Arc<QueryEngine>, address: String, rate: f64) -> anyhow::Result<()> {
    println!("\nLoading:");
    let sample = ingest::load_bytes(&pipeline, Bytes::from_static(SAMPLE)).await?;
    show("bundled sample", &sample);
    for path in files() {
        match ingest::load_file(&pipeline, &path).await {
            Ok(counts) => show(&path.display().to_string(), &counts),
            Err(error) => println!("  {}: left out ({error:#})", path.display()),
        }
    }
    let start = SystemClock::new().now_micros();
    let scenario = Scenario { seed: start as u64, ..Scenario::demo() };
    let past = Scenario { events_per_second: HISTORY_RATE, start_micros: start - HISTORY_MICROS, ..scenario };
    let mut history = PacedStream::until(Generator::new(past)?, start);
    while submit_next(&pipeline, &mut history).await? {}
    println!("  an hour of generated history");
    let live = Scenario { events_per_second: rate, start_micros: start, seed: scenario.seed ^ 1, ..scenario };
    let mut stream = PacedStream::new(Generator::new(live)?, start, true);
    println!("  a live stream of {rate} generated records a second, and this machine's own metrics");
    for (question, sql) in QUESTIONS {
        println!("\n{question}\n  sawlog query --url http://{address} \"{sql}\"");
        match queries.run(sql).await {
            Ok(result) => print!("{}", query::table(&result)?),
            Err(error) => println!("{error}"),
        }
    }
    println!("\nOpen http://{address} — Ctrl-C stops.");
    while submit_next(&pipeline, &mut stream).await? {}
    Ok(())
}

/// Submits the next records of a stream. Returns whether there were any.
async fn submit_next(pipeline: &Pipeline, stream: &mut PacedStream) -> anyhow::Result<bool> {
    let Some(body) = stream.next_batch().await else { return Ok(false) };
    let submission = Submission {
        source: "generate".to_owned(),
        file: None,
        format: Format::Json,
        is_declared: true,
        age: AgeLimits::default(),
        body,
        idempotency_key: None,
        ack: AckLevel::Disk,
    };
    if let Err(error) = pipeline.submit(submission).await {
        tracing::warn!(%error, "generated records were not taken");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(true)
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = SYSTEM_LOGS.iter().map(PathBuf::from).filter(|path| is_loadable(path)).collect();
    if let Some(folder) = std::env::var_os("SAWLOG_TEST_DATA") {
        let access = Path::new(&folder).join("access/apache_combined.log");
        files.extend(is_loadable(&access).then_some(access));
    }
    files
}

fn is_loadable(path: &Path) -> bool {
    let is_small =
        std::fs::metadata(path).is_ok_and(|file| file.is_file() && (1..SYSTEM_LOG_BYTES_MAX).contains(&file.len()));
    is_small && std::fs::File::open(path).is_ok()
}

fn show(name: &str, counts: &Counts) {
    let Counts { received, stored, duplicate, dead_lettered, .. } = counts;
    println!("  {name}: {received} records, {stored} stored, {duplicate} there already, {dead_lettered} dead-lettered");
}
