//! `sawlog ingest`.

mod chunks;

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
use sawlog_stream::{AckLevel, Pipeline, RecordProblem, Submission, SubmitError};
use xxhash_rust::xxh3::xxh3_128;

use crate::cli::{ServerArgs, SettingsArgs, runtime};
use crate::client::Client;
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
    let mut failure = None;
    for input in inputs {
        let name = input.name.clone();
        if let Err(error) = load_one(input, format, args.again, &target, &progress, &mut total).await {
            failure = Some(error.context(format!("{name} was loaded in part")));
            break;
        }
    }
    progress.finish_and_clear();
    if let Ok(Target::Folder { node, .. }) = Arc::try_unwrap(target).map_err(drop) {
        node.close().await?;
    }
    total.print(args.json)?;
    match failure {
        Some(error) => Err(error),
        None => Ok(ExitCode::SUCCESS),
    }
}

async fn load_one(
    input: Input,
    format: Option<Format>,
    again: bool,
    target: &Arc<Target>,
    progress: &ProgressBar,
    total: &mut Total,
) -> anyhow::Result<()> {
    progress.set_message(input.name.clone());
    let may_repeat = again || input.is_stream;
    let file = (!input.is_stream).then(|| input.name.clone());
    let mut chunks = Chunks::new(progress.wrap_read(input.reader), file, format)?;
    let mut under_way: FuturesUnordered<BoxFuture<'_, anyhow::Result<Total>>> = FuturesUnordered::new();
    loop {
        while under_way.len() < CHUNKS_IN_FLIGHT {
            // Reading blocks, but this task has nothing else to do, and submissions run on other threads.
            let Some(chunk) = tokio::task::block_in_place(|| chunks.next_chunk())? else { break };
            let key = (!may_repeat).then(|| key_of(&chunk));
            let target = Arc::clone(target);
            under_way.push(tokio::spawn(send(target, chunk, key)).map(|joined| joined?).boxed());
        }
        match under_way.next().await {
            Some(result) => total.add(result?),
            None => return Ok(()),
        }
    }
}

async fn send(target: Arc<Target>, chunk: Chunk, idempotency_key: Option<String>) -> anyhow::Result<Total> {
    match target.as_ref() {
        Target::Folder { node, age } => into_pipeline(&node.pipeline, *age, chunk, idempotency_key).await,
        Target::Server(client) => {
            let refused = chunk.oversize_lines;
            let mut total = into_server(client, chunk, idempotency_key).await?;
            total.counts += Counts::rejected(refused);
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
    let refused = Counts::rejected(chunk.oversize_lines);
    if refused.rejected > 0 {
        pipeline.note_rejected(SOURCE, refused.rejected);
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
                let mut counts = receipt.counts;
                counts += refused;
                return Ok(Total { counts, problems: receipt.problems });
            }
            // Room comes with the next flush.
            Err(SubmitError::Overloaded) => pipeline.flush().await?,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn into_server(client: &Client, chunk: Chunk, idempotency_key: Option<String>) -> anyhow::Result<Total> {
    let mut path = format!("/v1/events?format={}&declared={}&source={SOURCE}", chunk.format.name(), chunk.is_declared);
    if let Some(file) = &chunk.file {
        path.push_str("&file=");
        path.push_str(&percent_encoded(file));
    }
    let mut headers = vec![("content-type", "application/x-ndjson")];
    headers.extend(idempotency_key.as_deref().map(|key| ("idempotency-key", key)));
    let answer = client.post(&path, &headers, chunk.body).await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).context("the server's answer is no JSON")?;
    let count = |name: &str| answer.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
    Ok(Total { counts: Counts::from_values(Counts::NAMES.map(count)), problems: Vec::new() })
}

/// Text as part of a query string (RFC 3986).
fn percent_encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// An input and what is known about it.
struct Input {
    name: String,
    reader: Box<dyn Read + Send>,
    bytes: u64,
    is_stream: bool,
}

impl Input {
    fn open_all(files: &[PathBuf]) -> anyhow::Result<Vec<Self>> {
        if files.is_empty() {
            if std::io::stdin().is_terminal() {
                anyhow::bail!("no files are named; write `sawlog ingest FILE…`, or pipe events in");
            }
            return Ok(vec![Self::standard_input()]);
        }
        files
            .iter()
            .map(|path| if path == Path::new("-") { Ok(Self::standard_input()) } else { Self::open(path) })
            .collect()
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

#[derive(Default)]
struct Total {
    counts: Counts,
    problems: Vec<RecordProblem>,
}

impl Total {
    fn add(&mut self, other: Self) {
        self.counts += other.counts;
        let room = PROBLEMS_SHOWN_MAX.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
    }

    fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let named: Vec<(&str, u64)> = Counts::NAMES.into_iter().zip(self.counts.values()).take(6).collect();
        if as_json {
            let object: serde_json::Map<String, serde_json::Value> =
                named.iter().map(|(name, count)| ((*name).to_owned(), (*count).into())).collect();
            println!("{}", serde_json::to_string(&object)?);
            return Ok(());
        }
        let words: Vec<String> =
            named.iter().map(|(name, count)| format!("{count} {}", name.replace('_', "-"))).collect();
        println!("{}", words.join(", "));
        for problem in &self.problems {
            eprintln!("{}: {} ({})", problem.outcome.replace('_', "-"), problem.error, problem.remedy);
        }
        let more = self.counts.dead_lettered.saturating_sub(self.problems.len() as u64);
        if more > 0 {
            eprintln!("… {more} more: SELECT reason, count(*) FROM dead_letters GROUP BY reason");
        }
        Ok(())
    }
}
