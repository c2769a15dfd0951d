//! `sawlog search`.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use sawlog_core::schema::Table;
use sawlog_query::filter::{self, Filter, parse_time};
use sawlog_query::search::{LIMIT_MAX, Order, Search, SearchError};
use sawlog_seams::{Clock, SystemClock};
use serde_json::json;

use crate::cli::query::{Form, print, render, table_of_arrow};
use crate::cli::{ServerArgs, SettingsArgs, runtime};
use crate::client::Client;
use crate::wiring::Node;

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// What to find, e.g. 'service:shop severity>=error "timed out" -path:/health'; nothing finds everything.
    #[arg(default_value = "")]
    filter: String,
    /// From this time on: -15m, -1d, 2026-03-01T10:00:00Z [default: the oldest].
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    from: Option<String>,
    /// Before this time [default: the newest].
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    to: Option<String>,
    /// Most rows.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Which come first.
    #[arg(long, value_enum, default_value = "newest")]
    order: Direction,
    /// Where to look: logs, metrics, activity or dead_letters.
    #[arg(long, default_value = "logs", value_parser = table_named)]
    table: Table,
    /// Fields to show, with commas; attributes too [default: a few as a table, all otherwise].
    #[arg(long, value_delimiter = ',', value_name = "FIELDS")]
    columns: Vec<String>,
    /// Go on after the page that gave this cursor.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Form of the answer.
    #[arg(long, value_enum, default_value = "table")]
    format: Form,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Direction {
    Newest,
    Oldest,
}

/// The table of that name.
pub(super) fn table_named(name: &str) -> Result<Table, String> {
    let found = Table::ALL.into_iter().find(|table| table.name() == name);
    found.ok_or_else(|| {
        "search in logs, metrics, activity or dead_letters; all others are for `sawlog query`".to_owned()
    })
}

/// Columns that a person wants to see first.
pub(super) const fn usual_columns(table: Table) -> &'static [&'static str] {
    match table {
        Table::Logs => &["event_time", "severity_class", "service", "message"],
        Table::Metrics => &["event_time", "metric_name", "value", "unit", "service"],
        Table::Activity => &["event_time", "event_name", "user_id", "page_path"],
        Table::DeadLetters => &["receive_time", "reason", "field", "error"],
    }
}

/// Reads a filter; a mistake is shown at its place.
pub(super) fn read_filter(text: &str) -> Result<Filter, ExitCode> {
    filter::parse(text).map_err(|error| {
        eprintln!("error: {}", error.pointed(text));
        ExitCode::from(2)
    })
}

pub(crate) fn run(args: &SearchArgs) -> anyhow::Result<ExitCode> {
    let filter = match read_filter(&args.filter) {
        Ok(filter) => filter,
        Err(code) => return Ok(code),
    };
    let now = SystemClock::new().now_micros();
    for (name, time) in [("--from", &args.from), ("--to", &args.to)] {
        if time.as_ref().is_some_and(|time| parse_time(time, now).is_none()) {
            eprintln!("error: {name} is no time\n  hint: write -15m, now, or 2026-03-01T10:00:00Z");
            return Ok(ExitCode::from(2));
        }
    }
    if !(1..=LIMIT_MAX).contains(&args.limit) {
        eprintln!("error: --limit is out of range\n  hint: give from 1 to {LIMIT_MAX}, and go on with --cursor");
        return Ok(ExitCode::from(2));
    }
    let config = match args.settings.load() {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let (bytes, next) = runtime()?.block_on(async {
        if let Some(client) = args.server.client()? {
            return through_server(args, &client).await;
        }
        let node = Node::open(&config).await?;
        let page = node.queries.search(&search(args, filter, now)).await;
        node.close().await?;
        let page = page.map_err(|error| explain(&error, &args.filter))?;
        let mut result = page.result;
        result.cut = None;
        Ok((render(&result, args.format)?, page.next))
    })?;
    if let Some(next) = next {
        eprintln!("there are more rows; go on with --cursor {next}");
    }
    print(&bytes)
}

fn columns(args: &SearchArgs) -> Vec<String> {
    if args.columns.is_empty() && args.format == Form::Table {
        return usual_columns(args.table).iter().map(|name| (*name).to_owned()).collect();
    }
    args.columns.clone()
}

fn search(args: &SearchArgs, filter: Filter, now: i64) -> Search {
    let mut search = Search::new(args.table, filter, now);
    search.from = args.from.as_ref().and_then(|text| parse_time(text, now));
    search.to = args.to.as_ref().and_then(|text| parse_time(text, now));
    search.limit = args.limit;
    search.order = if args.order == Direction::Oldest { Order::Oldest } else { Order::Newest };
    search.cursor.clone_from(&args.cursor);
    search.columns = columns(args);
    search
}

fn explain(error: &SearchError, text: &str) -> anyhow::Error {
    match error {
        SearchError::Filter(error) => anyhow::anyhow!("{}", error.pointed(text)),
        other => anyhow::anyhow!("{other}\n  hint: {}", other.hint()),
    }
}

async fn through_server(args: &SearchArgs, client: &Client) -> anyhow::Result<(Vec<u8>, Option<String>)> {
    let body = json!({
        "filter": args.filter,
        "table": args.table.name(),
        "from": args.from,
        "to": args.to,
        "limit": args.limit,
        "order": if args.order == Direction::Oldest { "oldest" } else { "newest" },
        "cursor": args.cursor,
        "columns": columns(args),
    });
    let headers = [("content-type", "application/json"), ("accept", args.format.media_type())];
    let (headers, bytes) = client.post_for_headers("/v1/search", &headers, body.to_string().into()).await?;
    let next = headers.get("x-sawlog-next-cursor").map(|value| value.to_str().map(str::to_owned));
    let next = next.transpose().context("the cursor of the server is no text")?;
    let bytes = if args.format == Form::Table { table_of_arrow(&bytes)? } else { bytes.to_vec() };
    Ok((bytes, next))
}
