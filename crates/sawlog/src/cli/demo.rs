//! `sawlog demo`: a server with real and generated data, and three questions answered.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_core::ledger::Counts;
use sawlog_core::time::to_rfc3339;
use sawlog_generate::{Generator, Scenario};
use sawlog_seams::disk::write_atomic;
use sawlog_seams::{Clock, RealDisk, SystemClock};
use sawlog_stream::{AckLevel, Pipeline, Submission};

use crate::cli::generate::PacedStream;
use crate::cli::serve::Beside;
use crate::cli::{SettingsArgs, ingest, query, serve};

/// A small log of an invented shop, so that there is something on a machine without logs.
const SAMPLE: &str = include_str!("demo/sample.log");
/// Stands in the sample for a date, which is yesterday's: on every machine it is in the past and in the charts' reach.
const SAMPLE_DATE: &str = "@DATE";
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
/// Where systemd's journal is: kept, or until the next start of the machine.
const JOURNALS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];
/// The newest entries of the journal as syslog, as many as are read within seconds; a stop waits for this program.
const JOURNAL_COMMAND: [&str; 8] =
    ["timeout", "--foreground", "5", "journalctl", "--no-pager", "--quiet", "--output=short-iso", "--lines=20000"];
/// History before the live stream, so that no chart starts empty and the detectors know what is usual.
const HISTORY_MICROS: i64 = 4 * 3_600_000_000;
/// Country, segment and device of the generated users, the same in every demo.
const USER_SEED: u64 = 2026;
/// What the demo writes into its data folder: the users of the generated stream, and a configuration that names them.
const USERS_FILE: &str = "demo-users.csv";
const CONFIG_FILE: &str = "demo.toml";
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
    #[arg(long, default_value_t = 20.0)]
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
    let config = match settings.load() {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    // Who has a configuration decides alone what is looked up.
    if !settings.file().exists() {
        settings.config = Some(write_config(&config.data.folder)?);
    }
    let rate = args.rate;
    if let Err(error) = (Scenario { events_per_second: rate, ..scenario() }).validate() {
        eprintln!("error: --rate: {error}\n  hint: {}", error.hint());
        return Ok(ExitCode::from(2));
    }
    serve::run_with(&settings, move |beside| async move { fill(beside, rate).await })
}

/// The scenario of history and live stream.
fn scenario() -> Scenario {
    Scenario { user_seed: Some(USER_SEED), ..Scenario::demo() }
}

/// Writes the table of users, and a configuration by which the generated logs get their segments and countries.
fn write_config(folder: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let folder = folder.canonicalize()?;
    let (users, config) = (folder.join(USERS_FILE), folder.join(CONFIG_FILE));
    write_atomic(&RealDisk, &users, &scenario().users_csv()?)?;
    let path = toml::Value::String(users.display().to_string());
    write_atomic(&RealDisk, &config, format!("[[rules.users]]\nname = \"demo\"\nfile = {path}\n").as_bytes())?;
    Ok(config)
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
async fn fill(beside: Beside, rate: f64) -> anyhow::Result<()> {
    let Beside { pipeline, queries, address, history: loading } = beside;
    println!("\nLoading:");
    let start = SystemClock::new().now_micros();
    load_logs(&pipeline, start).await?;
    let scenario = Scenario { seed: start as u64, ..scenario() };
    let past = Scenario { events_per_second: rate, start_micros: start - HISTORY_MICROS, ..scenario };
    let mut history = PacedStream::until(Generator::new(past)?, start);
    // Nothing of the past is late: it is loaded as a file would be.
    while submit_next(&pipeline, &mut history, AgeLimits::any_past()).await? {}
    drop(loading);
    println!("  four hours of generated history");
    let live = Scenario { events_per_second: rate, start_micros: start, seed: scenario.seed ^ 1, ..scenario };
    let mut stream = PacedStream::new(Generator::new(live)?, start, true);
    println!("  a live stream of {rate} generated records a second, and this machine's own metrics");
    let program = program();
    for (question, sql) in QUESTIONS {
        println!("\n{question}\n  {program} query --url http://{address} \"{sql}\"");
        match queries.run(sql).await {
            Ok(result) => print!("{}", query::table(&result)?),
            Err(error) => println!("{error}"),
        }
    }
    println!("\nOpen http://{address} — Ctrl-C stops.");
    while submit_next(&pipeline, &mut stream, AgeLimits::default()).await? {}
    Ok(())
}

/// How a shell starts this program: the demo's binary is on nobody's path.
fn program() -> String {
    let path = std::env::current_exe().map_or_else(|_| "sawlog".to_owned(), |path| path.display().to_string());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if path.bytes().all(is_plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

/// Loads the sample and what this machine has, and says what was found and what not.
async fn load_logs(pipeline: &Pipeline, now: i64) -> anyhow::Result<()> {
    show("bundled sample", &ingest::load_bytes(pipeline, sample(now)).await?);
    let (found, missing): (Vec<PathBuf>, Vec<PathBuf>) =
        SYSTEM_LOGS.iter().map(PathBuf::from).partition(|path| is_loadable(path));
    for path in found.into_iter().chain(access_log()) {
        match ingest::load_file(pipeline, &path).await {
            Ok(counts) => show(&path.display().to_string(), &counts),
            Err(error) => println!("  {}: left out ({error:#})", path.display()),
        }
    }
    match journal().await {
        Ok(text) => show("the systemd journal", &ingest::load_bytes(pipeline, text).await?),
        Err(reason) => println!("  the systemd journal: left out ({reason})"),
    }
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(|path| path.display().to_string()).collect();
        println!("  not there, empty, too large or not readable: {}", names.join(", "));
    }
    Ok(())
}

/// The sample as if written yesterday. On one day it is always the same, so that a second demo finds it there already.
fn sample(now: i64) -> Bytes {
    const DAY_MICROS: i64 = 86_400_000_000;
    let yesterday = to_rfc3339(now - DAY_MICROS);
    Bytes::from(SAMPLE.replace(SAMPLE_DATE, &yesterday[..10]))
}

/// The newest entries of the journal, or why there are none.
async fn journal() -> Result<Bytes, String> {
    if !JOURNALS.iter().any(|folder| Path::new(folder).is_dir()) {
        return Err("there is none".to_owned());
    }
    let reading = tokio::task::spawn_blocking(|| {
        Command::new(JOURNAL_COMMAND[0]).args(&JOURNAL_COMMAND[1..]).stdin(Stdio::null()).output()
    });
    let output = reading.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    match output.stdout.is_empty() {
        false => Ok(Bytes::from(output.stdout)),
        true => Err(match String::from_utf8_lossy(&output.stderr).lines().next() {
            Some(line) => line.to_owned(),
            None => "it has no entries that this user may read".to_owned(),
        }),
    }
}

/// Submits the next records of a stream. Returns whether there were any.
async fn submit_next(pipeline: &Pipeline, stream: &mut PacedStream, age: AgeLimits) -> anyhow::Result<bool> {
    let Some(body) = stream.next_batch().await else { return Ok(false) };
    let submission = Submission {
        source: "generate".to_owned(),
        file: None,
        format: Format::Json,
        is_declared: true,
        age,
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

/// The access log among the test data, where that is set.
fn access_log() -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("SAWLOG_TEST_DATA")?).join("access/apache_combined.log");
    is_loadable(&path).then_some(path)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_of_yesterday_on_every_clock() {
        for (now, day) in
            [(0, "1969-12-31"), (1_709_251_200_000_000, "2024-02-29"), (4_102_444_800_000_000, "2099-12-31")]
        {
            let sample = sample(now);
            let text = std::str::from_utf8(&sample).expect("text");
            assert!(text.lines().count() > 100 && text.lines().all(|line| line.starts_with(day)), "{day}");
        }
    }
}
