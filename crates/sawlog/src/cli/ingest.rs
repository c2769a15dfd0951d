//! `sawlog ingest`.

pub(super) mod chunks;

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use indicatif::{ProgressBar, ProgressStyle};
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_core::ledger::Counts;
use sawlog_core::limits::RECORD_BYTES_MAX;
use sawlog_stream::{AckLevel, Pipeline, RecordProblem, Submission, SubmitError};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::cli::{ServerArgs, SettingsArgs, runtime};
use crate::client::{Client, ClientError};
use crate::config::Config;
use crate::wiring::{Node, age_limits};
use chunks::{Chunk, Chunks};

/// Chunks on their way at the same time: enough to keep both the CPU and the disk busy.
const CHUNKS_IN_FLIGHT: usize = 4;
const SOURCE: &str = "files";
/// Bad records that are shown.
const PROBLEMS_SHOWN_MAX: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    /// Files to load, plain, gzip or zstd; `-` or nothing reads standard input.
    files: Vec<PathBuf>,
    /// json, logfmt, access, syslog or text [default: detected for each file].
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Load again what was loaded within the last 24 hours.
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    server: ServerArgs,
    /// Print the counts as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) fn run(args: &IngestArgs) -> anyhow::Result<ExitCode> {
    let config = match args.settings.load() {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let format = match &args.format {
        None => None,
        Some(name) => match Format::from_name(name).filter(|format| format.is_lines()) {
            Some(format) => Some(format),
            None => {
                eprintln!("error: format {name:?} is unknown; use json, logfmt, access, syslog or text");
                return Ok(ExitCode::from(2));
            }
        },
    };
    runtime()?.block_on(load(args, &config, format))
}

/// Loads a file into an open pipeline.
pub(super) async fn load_file(pipeline: &Pipeline, path: &Path) -> anyhow::Result<Counts> {
    let input = Input::open(path)?;
    load_reader(pipeline, input.reader, Some(input.name)).await
}

/// Loads a text in memory into an open pipeline.
pub(super) async fn load_bytes(pipeline: &Pipeline, text: Bytes) -> anyhow::Result<Counts> {
    load_reader(pipeline, Box::new(std::io::Cursor::new(text)), None).await
}

async fn load_reader(
    pipeline: &Pipeline,
    reader: Box<dyn Read + Send>,
    file: Option<String>,
) -> anyhow::Result<Counts> {
    let mut chunks = Chunks::new(reader, file, None)?;
    let mut counts = Counts::default();
    while let Some(chunk) = tokio::task::block_in_place(|| chunks.next_chunk())? {
        let key = key_of(&chunk);
        counts += into_pipeline(pipeline, AgeLimits::any_past(), chunk, Some(key)).await?.counts;
    }
    Ok(counts)
}

/// The same bytes at the same place are the same chunk, whatever the file is called by now.
fn key_of(chunk: &Chunk) -> String {
    format!("file:{:032x}:{}", xxh3_128(&chunk.body), chunk.offset)
}

/// Where chunks go.
enum Target {
    Folder { node: Box<Node>, age: AgeLimits },
    Server(Box<Client>),
}

async fn load(args: &IngestArgs, config: &Config, format: Option<Format>) -> anyhow::Result<ExitCode> {
    let inputs = Input::open_all(&args.files)?;
    let target = Arc::new(match args.server.client()? {
        Some(client) => Target::Server(Box::new(client)),
        None => Target::Folder { node: Box::new(Node::open(config).await?), age: age_limits(&config.sources.files) },
    });
    let progress = progress_bar(inputs.iter().map(|input| input.bytes).sum());
    let mut total = Total::default();
    let mut failures = Vec::new();
    for input in inputs {
        let name = input.name.clone();
        let in_part = |error: anyhow::Error| error.context(format!("{name} was loaded in part"));
        match load_one(input, format, args.again, &target, &progress, &mut total).await {
            Ok(()) => {}
            // The others are not damaged for it.
            Err(LoadError::Input(error)) => failures.push(in_part(error)),
            Err(LoadError::Target(error)) => {
                failures.push(in_part(error));
                break;
            }
        }
    }
    progress.finish_and_clear();
    if let Ok(Target::Folder { node, .. }) = Arc::try_unwrap(target).map_err(drop) {
        node.close().await?;
    }
    total.print(args.json)?;
    for failure in &failures {
        eprintln!("error: {failure:#}");
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why an input was not loaded whole.
enum LoadError {
    /// It cannot be read.
    Input(anyhow::Error),
    /// What was read cannot be stored.
    Target(anyhow::Error),
}

async fn load_one(
    input: Input,
    format: Option<Format>,
    again: bool,
    target: &Arc<Target>,
    progress: &ProgressBar,
    total: &mut Total,
) -> Result<(), LoadError> {
    progress.set_message(input.name.clone());
    let may_repeat = again || input.is_stream;
    let file = (!input.is_stream).then(|| input.name.clone());
    let mut chunks = Chunks::new(progress.wrap_read(input.reader), file, format).map_err(LoadError::Input)?;
    let mut under_way: FuturesUnordered<BoxFuture<'_, anyhow::Result<Total>>> = FuturesUnordered::new();
    let mut damage = None;
    loop {
        while damage.is_none() && under_way.len() < CHUNKS_IN_FLIGHT {
            // Reading blocks, but this task has nothing else to do, and submissions run on other threads.
            let chunk = match tokio::task::block_in_place(|| chunks.next_chunk()) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    damage = Some(error);
                    break;
                }
            };
            let key = (!may_repeat).then(|| key_of(&chunk));
            let target = Arc::clone(target);
            under_way.push(tokio::spawn(send(target, chunk, key)).map(|joined| joined?).boxed());
        }
        match under_way.next().await {
            Some(result) => total.add(result.map_err(LoadError::Target)?),
            None => return damage.map_or(Ok(()), |error| Err(LoadError::Input(error))),
        }
    }
}

async fn send(target: Arc<Target>, chunk: Chunk, idempotency_key: Option<String>) -> anyhow::Result<Total> {
    match target.as_ref() {
        Target::Folder { node, age } => into_pipeline(&node.pipeline, *age, chunk, idempotency_key).await,
        Target::Server(client) => {
            let mut total = Total::of_oversize_lines(chunk.oversize_lines);
            total.add(into_server(client, chunk, idempotency_key).await?);
            Ok(total)
        }
    }
}

async fn into_pipeline(
    pipeline: &Pipeline,
    age: AgeLimits,
    chunk: Chunk,
    idempotency_key: Option<String>,
) -> anyhow::Result<Total> {
    let mut total = Total::of_oversize_lines(chunk.oversize_lines);
    if chunk.oversize_lines > 0 {
        pipeline.note_rejected(SOURCE, chunk.oversize_lines);
    }
    let submission = Submission {
        source: SOURCE.to_owned(),
        file: chunk.file,
        format: chunk.format,
        is_declared: chunk.is_declared,
        age,
        body: chunk.body,
        idempotency_key,
        ack: AckLevel::Disk,
    };
    loop {
        match pipeline.submit(submission.clone()).await {
            Ok(receipt) => {
                let problems = receipt.problems.into_iter().map(Problem::from).collect();
                total.add(Total { counts: receipt.counts, problems });
                return Ok(total);
            }
            // Room comes with the next flush.
            Err(SubmitError::Overloaded) => pipeline.flush().await?,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn into_server(client: &Client, chunk: Chunk, idempotency_key: Option<String>) -> anyhow::Result<Total> {
    let (format, is_declared) = (chunk.format.name(), chunk.is_declared);
    let mut path = format!("/v1/events?format={format}&declared={is_declared}&source={SOURCE}&ages={SOURCE}");
    if let Some(file) = &chunk.file {
        path.push_str("&file=");
        path.push_str(&percent_encoded(file));
    }
    let mut headers = vec![("content-type", "application/x-ndjson")];
    headers.extend(idempotency_key.as_deref().map(|key| ("idempotency-key", key)));
    let answer = match client.post(&path, &headers, chunk.body).await {
        // Counts come with a refusal too when it is of the records, each of which is too large.
        Err(ClientError::Refused { body, .. }) if is_counts(&body) => body,
        answer => answer?,
    };
    let answer: Value = serde_json::from_slice(&answer).context("the server's answer is no JSON")?;
    let count = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
    let problems = answer.get("problems").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let problems = problems.iter().map(Problem::from_answer).collect();
    Ok(Total { counts: Counts::from_values(Counts::NAMES.map(count)), problems })
}

fn is_counts(body: &[u8]) -> bool {
    serde_json::from_slice(body).is_ok_and(|answer: Value| answer.get("received").is_some_and(Value::is_u64))
}

/// Text as part of a query string (RFC 3986).
fn percent_encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// An input and what is known about it.
pub(super) struct Input {
    name: String,
    reader: Box<dyn Read + Send>,
    bytes: u64,
    is_stream: bool,
}

impl Input {
    pub(super) fn open_all(files: &[PathBuf]) -> anyhow::Result<Vec<Self>> {
        if files.is_empty() {
            if std::io::stdin().is_terminal() {
                anyhow::bail!("no files are named; name some, or pipe events in");
            }
            return Ok(vec![Self::standard_input()]);
        }
        files
            .iter()
            .map(|path| if path == Path::new("-") { Ok(Self::standard_input()) } else { Self::open(path) })
            .collect()
    }

    /// Its name and its content.
    pub(super) fn into_parts(self) -> (String, Box<dyn Read + Send>) {
        (self.name, self.reader)
    }

    fn standard_input() -> Self {
        Self { name: "standard input".to_owned(), reader: Box::new(std::io::stdin()), bytes: 0, is_stream: true }
    }

    fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("{name} cannot be opened"))?;
        let metadata = file.metadata().with_context(|| format!("{name} cannot be read"))?;
        anyhow::ensure!(!metadata.is_dir(), "{name} is a folder; name the files in it");
        Ok(Self { name, reader: Box::new(file), bytes: metadata.len(), is_stream: false })
    }
}

fn progress_bar(bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    if bytes == 0 {
        return ProgressBar::no_length().with_style(ProgressStyle::default_spinner());
    }
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} ETA {eta} {msg}");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What is wrong with a record, for a person.
struct Problem {
    outcome: String,
    error: String,
    remedy: String,
}

impl From<RecordProblem> for Problem {
    fn from(problem: RecordProblem) -> Self {
        Self { outcome: problem.outcome.to_owned(), error: problem.error, remedy: problem.remedy }
    }
}

impl Problem {
    /// One element of `problems` in a server's answer.
    fn from_answer(problem: &Value) -> Self {
        let text = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { outcome: text("outcome"), error: text("error"), remedy: text("remedy") }
    }
}

#[derive(Default)]
struct Total {
    counts: Counts,
    problems: Vec<Problem>,
}

impl Total {
    /// Lines that were left out while reading.
    fn of_oversize_lines(lines: u64) -> Self {
        let problem = || Problem {
            outcome: "rejected".to_owned(),
            error: format!("a line has more than {RECORD_BYTES_MAX} bytes"),
            remedy: "split it, or leave out what makes it so long".to_owned(),
        };
        let shown = usize::try_from(lines).unwrap_or(usize::MAX).min(PROBLEMS_SHOWN_MAX);
        Self { counts: Counts::rejected(lines), problems: std::iter::repeat_with(problem).take(shown).collect() }
    }

    fn add(&mut self, other: Self) {
        self.counts += other.counts;
        let room = PROBLEMS_SHOWN_MAX.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
    }

    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let named: Vec<(&str, u64)> = Counts::NAMES.into_iter().zip(self.counts.values()).take(6).collect();
        if as_json {
            let object: serde_json::Map<String, Value> =
                named.iter().map(|(name, count)| ((*name).to_owned(), (*count).into())).collect();
            println!("{}", serde_json::to_string(&object)?);
        } else {
            let words: Vec<String> =
                named.iter().map(|(name, count)| format!("{count} {}", name.replace('_', "-"))).collect();
            println!("{}", words.join(", "));
        }
        self.print_problems();
        Ok(())
    }

    fn print_problems(&self) {
        for Problem { outcome, error, remedy } in &self.problems {
            eprintln!("{}: {error} ({remedy})", outcome.replace('_', "-"));
        }
        let shown = |outcome: &str| self.problems.iter().filter(|problem| problem.outcome == outcome).count() as u64;
        let more_rejected = self.counts.rejected.saturating_sub(shown("rejected"));
        if more_rejected > 0 {
            eprintln!("… {more_rejected} more were rejected");
        }
        let more = self.counts.dead_lettered.saturating_sub(shown("dead_lettered"));
        if more > 0 {
            eprintln!("… {more} more: SELECT reason, count(*) FROM dead_letters GROUP BY reason");
        }
    }
}
