//! `sawlog query`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use sawlog_query::{Cut, OutputFormat, QueryError, QueryResult, encode};

use super::query_bigquery::{self, BigQueryArgs};
use crate::cli::{ServerArgs, SettingsArgs, runtime};
use crate::client::{Client, ClientError};
use crate::wiring::Node;

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// One SELECT (or EXPLAIN, SHOW TABLES, DESCRIBE).
    sql: String,
    /// Form of the answer [default: table].
    #[arg(long, value_enum, default_value = "table")]
    format: Form,
    /// Who answers: Sawlog, or BigQuery in its own dialect on the dataset of `[gcp.bigquery]` [default: sawlog].
    #[arg(long, value_enum, default_value = "sawlog")]
    engine: Engine,
    #[command(flatten)]
    bigquery: BigQueryArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    Sawlog,
    #[value(name = "bigquery")]
    BigQuery,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    Table,
    Json,
    Ndjson,
    Csv,
}

impl Form {
    /// What to ask a server for.
    pub(super) fn media_type(self) -> &'static str {
        self.output().unwrap_or(OutputFormat::ArrowStream).content_type()
    }

    const fn output(self) -> Option<OutputFormat> {
        match self {
            Self::Table => None,
            Self::Json => Some(OutputFormat::Json),
            Self::Ndjson => Some(OutputFormat::Ndjson),
            Self::Csv => Some(OutputFormat::Csv),
        }
    }
}

pub(crate) fn run(args: &QueryArgs) -> anyhow::Result<ExitCode> {
    let config = match args.settings.load() {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let bytes = runtime()?.block_on(async {
        let client = args.server.client()?;
        if args.engine == Engine::BigQuery {
            anyhow::ensure!(client.is_none(), "--engine bigquery asks BigQuery itself; remove --url");
            return query_bigquery::run(&args.sql, args.format, &args.bigquery, &config).await;
        }
        anyhow::ensure!(!args.bigquery.are_given(), "--bytes-max, --no-cache and --dry-run need --engine bigquery");
        if let Some(client) = client {
            return through_server(args, &client).await;
        }
        let node = Node::open(&config).await?;
        let result = node.queries.run(&args.sql).await;
        node.close().await?;
        result.map_err(|error| explain(&error)).and_then(|result| render(&result, args.format))
    })?;
    print(&bytes)
}

/// Writes an answer to standard output.
pub(super) fn print(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // The reader (`head`, a pager) has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written.map(|()| ExitCode::SUCCESS).map_err(Into::into),
    }
}

fn explain(error: &QueryError) -> anyhow::Error {
    anyhow::anyhow!("{error}\n  hint: {}", error.hint())
}

async fn through_server(args: &QueryArgs, client: &Client) -> anyhow::Result<Vec<u8>> {
    let accept = args.format.media_type();
    let body = serde_json::json!({"query": args.sql}).to_string().into_bytes();
    let headers = [("content-type", "application/json"), ("accept", accept)];
    let answer = client.post_for_headers("/v1/sql", &headers, body.into()).await;
    let (headers, bytes) = answer.map_err(|error: ClientError| anyhow::anyhow!("{error}"))?;
    let cut = headers.get("x-sawlog-cut-by").and_then(|value| value.to_str().ok());
    tell_cut(Cut::ALL.into_iter().find(|known| cut == Some(known.name())));
    if args.format != Form::Table {
        return Ok(bytes.to_vec());
    }
    table_of_arrow(&bytes)
}

/// An answer in Arrow's form as a table for people.
pub(super) fn table_of_arrow(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let reader = arrow::ipc::reader::StreamReader::try_new(bytes, None)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    let result = QueryResult { schema, batches, cut: None, elapsed: std::time::Duration::ZERO };
    render(&result, Form::Table)
}

/// Says on standard error that rows are missing: in most forms the answer itself cannot.
fn tell_cut(cut: Option<Cut>) {
    if let Some(cut) = cut {
        eprintln!("the answer was cut off by its limit of {}: {}", cut.name(), cut.hint());
    }
}

pub(super) fn render(result: &QueryResult, form: Form) -> anyhow::Result<Vec<u8>> {
    tell_cut(result.cut);
    if let Some(format) = form.output() {
        let mut bytes = encode(result, format)?;
        if form == Form::Json {
            bytes.push(b'\n');
        }
        return Ok(bytes);
    }
    let mut text = table(result)?;
    if std::io::stdout().is_terminal() {
        text = without_escapes(&text);
    }
    Ok(text.into_bytes())
}

/// The answer as a table for people.
pub(super) fn table(result: &QueryResult) -> anyhow::Result<String> {
    let schema = result.schema.clone();
    let table = arrow::util::pretty::pretty_format_batches_with_schema(schema, &result.batches)?;
    Ok(format!("{table}\n"))
}

/// Replaces control characters, which could steer the terminal: log text is written by others.
pub(super) fn without_escapes(text: &str) -> String {
    let is_harmful = |character: char| {
        (character.is_control() && character != '\n')
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|character| if is_harmful(character) { '\u{fffd}' } else { character }).collect()
}
