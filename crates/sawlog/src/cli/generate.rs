//! `sawlog generate`.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use sawlog_core::ledger::Counts;
use sawlog_core::time;
use sawlog_generate::{Format, Generator, Mix, Scenario, ScenarioError};
use sawlog_seams::{Clock, SystemClock};

use crate::cli::runtime;
use crate::client::Client;

/// Most records of one request.
const BATCH_RECORDS_MAX: usize = 1_000;
/// How long records are collected before they are sent.
const BATCH_INTERVAL: Duration = Duration::from_millis(200);
const DAY_MICROS: i64 = 86_400_000_000;
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Records a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Stop after so many records.
    #[arg(long)]
    count: Option<u64>,
    /// Stop after so many seconds of stream time.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// Same seed and start, same stream [default: from the clock].
    #[arg(long)]
    seed: Option<u64>,
    /// Time of the first record, e.g. 2026-01-01T00:00:00Z [default: now; with --no-pace a day ago].
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// Send to a server instead of standard output.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// API key for the server.
    #[arg(long, env = "SAWLOG_API_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// demo (logs, metrics and activity with incidents) or bench (logs of about 600 bytes without defects).
    #[arg(long, value_enum, default_value = "demo")]
    scenario: Preset,
    /// Form of the records; all but ndjson are for logs alone and for standard output.
    #[arg(long, value_enum, default_value = "ndjson")]
    format: Form,
    /// Share of records that come late.
    #[arg(long, value_name = "RATIO")]
    late: Option<f64>,
    /// Share of records that are sent twice.
    #[arg(long, value_name = "RATIO")]
    duplicate: Option<f64>,
    /// Share of records that are broken.
    #[arg(long, value_name = "RATIO")]
    malformed: Option<f64>,
    /// Leave `insert_id` out of the records.
    #[arg(long)]
    no_insert_ids: bool,
    /// Print the users of the stream as CSV for `[[rules.users]]`, and no records.
    #[arg(long, requires = "seed", conflicts_with = "url")]
    users: bool,
    /// As fast as possible.
    #[arg(long)]
    no_pace: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Preset {
    Demo,
    Bench,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Ndjson,
    Combined,
    Syslog,
    Logfmt,
}

impl GenerateArgs {
    /// Time of the first record; `None` when what was given is none. Without pacing the stream runs ahead of the clock:
    /// it starts a day ago, so that it need not lead into the future.
    fn start_micros(&self) -> Option<i64> {
        let now = SystemClock::new().now_micros();
        match &self.start {
            Some(start) => time::parse(start.as_bytes(), now),
            None => Some(now - if self.no_pace { DAY_MICROS } else { 0 }),
        }
    }

    fn scenario(&self, now_micros: i64) -> Scenario {
        let preset = match self.scenario {
            Preset::Demo => Scenario::demo(),
            Preset::Bench => Scenario::bench(),
        };
        let format = match self.format {
            Form::Ndjson => Format::Ndjson,
            Form::Combined => Format::Combined,
            Form::Syslog => Format::Syslog5424,
            Form::Logfmt => Format::Logfmt,
        };
        Scenario {
            seed: self.seed.unwrap_or(now_micros as u64),
            start_micros: now_micros,
            events_per_second: self.rate,
            format,
            mix: if format == Format::Ndjson { preset.mix } else { Mix::LOGS },
            late_ratio: self.late.unwrap_or(preset.late_ratio),
            duplicate_ratio: self.duplicate.unwrap_or(preset.duplicate_ratio),
            insert_ids: preset.insert_ids && !self.no_insert_ids,
            malformed_ratio: self.malformed.unwrap_or(preset.malformed_ratio),
            ..preset
        }
    }
}

pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<ExitCode> {
    if args.url.is_some() && args.format != Form::Ndjson {
        eprintln!("error: only ndjson can be sent; write the other formats to a file and load it with `sawlog ingest`");
        return Ok(ExitCode::from(2));
    }
    let Some(start) = args.start_micros() else {
        eprintln!(
            "error: `--start {}` is no time; write it like 2026-01-01T00:00:00Z",
            args.start.as_deref().unwrap_or("")
        );
        return Ok(ExitCode::from(2));
    };
    if args.users {
        return print_users(&args.scenario(start));
    }
    let generator = match Generator::new(args.scenario(start)) {
        Ok(generator) => generator,
        Err(error) => return Ok(refuse(&error)),
    };
    let mut stream = PacedStream::new(generator, start, !args.no_pace);
    stream.records_left = args.count.unwrap_or(u64::MAX);
    stream.end_micros =
        args.duration.map_or(i64::MAX, |seconds| start.saturating_add_unsigned(seconds.saturating_mul(1_000_000)));
    runtime()?.block_on(async {
        tokio::select! {
            result = deliver(args, stream) => result,
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
        }
    })
}

async fn deliver(args: &GenerateArgs, mut stream: PacedStream) -> anyhow::Result<ExitCode> {
    let Some(url) = &args.url else {
        let mut out = std::io::BufWriter::with_capacity(1 << 20, std::io::stdout());
        while let Some(body) = stream.next_batch().await {
            match out.write_all(&body).and_then(|()| if stream.is_paced { out.flush() } else { Ok(()) }) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                written => written?,
            }
        }
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    };
    let client = Client::new(url, args.key.as_deref())?;
    let mut total = Counts::default();
    let mut reported = Instant::now();
    let run_id = stream.start_micros;
    let mut sequence = 0u64;
    while let Some(body) = stream.next_batch().await {
        let key = format!("generate-{run_id:x}-{sequence}");
        sequence += 1;
        let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", key.as_str())];
        let answer = client.post("/v1/events?source=generate", &headers, body).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        let count = |name: &str| answer.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
        total += Counts::from_values(Counts::NAMES.map(count));
        if reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            report(&total);
        }
    }
    report(&total);
    Ok(ExitCode::SUCCESS)
}

fn report(total: &Counts) {
    eprintln!(
        "{} sent: {} stored, {} duplicate, {} filtered, {} dead-lettered, {} rejected",
        total.received, total.stored, total.duplicate, total.filtered, total.dead_lettered, total.rejected
    );
}

fn print_users(scenario: &Scenario) -> anyhow::Result<ExitCode> {
    match scenario.users_csv() {
        Ok(table) => {
            std::io::stdout().write_all(&table)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(refuse(&error)),
    }
}

fn refuse(error: &ScenarioError) -> ExitCode {
    eprintln!("error: {error}\n  hint: {}", error.hint());
    ExitCode::from(2)
}

/// A generated stream, handed out in batches when their time has come.
pub(super) struct PacedStream {
    generator: Generator,
    started: Instant,
    start_micros: i64,
    is_paced: bool,
    records_left: u64,
    end_micros: i64,
}

impl PacedStream {
    /// A stream whose time began at `start_micros`, which is now.
    pub(super) fn new(generator: Generator, start_micros: i64, is_paced: bool) -> Self {
        Self {
            generator,
            started: Instant::now(),
            start_micros,
            is_paced,
            records_left: u64::MAX,
            end_micros: i64::MAX,
        }
    }

    /// A stream that is handed out at once, up to a stream time.
    pub(super) fn until(generator: Generator, end_micros: i64) -> Self {
        Self { end_micros, ..Self::new(generator, 0, false) }
    }

    /// The next records, one a line; waits for their time. `None` at the end.
    pub(super) async fn next_batch(&mut self) -> Option<Bytes> {
        let mut body = Vec::new();
        let mut records = 0;
        let first_at = self.generator.next_send_time_micros();
        let close_at = first_at.saturating_add(BATCH_INTERVAL.as_micros() as i64);
        while records < BATCH_RECORDS_MAX && self.records_left > 0 {
            let at = self.generator.next_send_time_micros();
            if at >= self.end_micros || (self.is_paced && records > 0 && at >= close_at) {
                break;
            }
            self.generator.next_into(&mut body);
            body.push(b'\n');
            records += 1;
            self.records_left -= 1;
            if self.is_paced {
                self.wait_until(at).await;
            }
        }
        (records > 0).then(|| Bytes::from(body))
    }

    async fn wait_until(&self, micros: i64) {
        let due = Duration::from_micros(u64::try_from(micros - self.start_micros).unwrap_or(0));
        let ahead = due.saturating_sub(self.started.elapsed());
        // A timer is no finer than a millisecond.
        if ahead > Duration::from_millis(1) {
            tokio::time::sleep(ahead).await;
        }
    }
}
