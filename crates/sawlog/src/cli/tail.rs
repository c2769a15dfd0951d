//! `sawlog tail`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use sawlog_core::schema::Table;
use serde_json::Value;

use crate::cli::query::without_escapes;
use crate::cli::runtime;
use crate::cli::search::{read_filter, table_named, usual_columns};
use crate::client::Client;

/// Bytes of one row; a longer line is no row of Sawlog's.
const LINE_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// What to watch for, as for `sawlog search`; nothing watches everything.
    #[arg(default_value = "")]
    filter: String,
    /// The server.
    #[arg(long, value_name = "URL", default_value = "http://localhost:7070")]
    url: String,
    /// API key for the server.
    #[arg(long, env = "SAWLOG_API_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// What to watch: logs, metrics, activity or dead_letters.
    #[arg(long, default_value = "logs", value_parser = table_named)]
    table: Table,
    /// Whole rows as JSON, one a line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &TailArgs) -> anyhow::Result<ExitCode> {
    if let Err(code) = read_filter(&args.filter) {
        return Ok(code);
    }
    let is_colored = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let path = format!("/v1/tail?table={}&filter={}", args.table.name(), percent_encoded(&args.filter));
    runtime()?.block_on(async {
        let client = Client::new(&args.url, args.key.as_deref())?;
        let mut lines = client.get_lines(&path, "application/x-ndjson", LINE_BYTES_MAX).await?;
        while let Some(line) = lines.next().await? {
            if line.is_empty() {
                continue;
            }
            let text = match serde_json::from_slice::<Value>(&line)? {
                Value::Object(row) if row.contains_key("_skipped") => {
                    eprintln!("… {} rows skipped: they came faster than they could be shown", row["_skipped"]);
                    continue;
                }
                row if !args.json => shown(&row, args.table, is_colored),
                _ => String::from_utf8_lossy(&line).into_owned(),
            };
            let mut out = std::io::stdout();
            match writeln!(out, "{text}").and_then(|()| out.flush()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                written => written?,
            }
        }
        eprintln!("the server ended the stream");
        Ok(ExitCode::FAILURE)
    })
}

/// A row as a line for people: its usual columns, coloured by severity.
fn shown(row: &Value, table: Table, is_colored: bool) -> String {
    let text = |name: &str| match &row[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => without_escapes(&text.replace('\n', "⏎ ")),
        other => other.to_string(),
    };
    let parts: Vec<String> = usual_columns(table)
        .iter()
        .map(|name| match (*name, is_colored) {
            ("event_time" | "receive_time", true) => format!("\u{1b}[2m{}\u{1b}[0m", text(name)),
            ("severity_class", true) => format!("\u{1b}[{}m{:7}\u{1b}[0m", color(&text(name)), text(name)),
            ("severity_class", false) => format!("{:7}", text(name)),
            ("service" | "metric_name" | "event_name" | "reason", true) => format!("\u{1b}[36m{}\u{1b}[0m", text(name)),
            _ => text(name),
        })
        .collect();
    parts.join(" ")
}

fn color(severity: &str) -> &'static str {
    match severity {
        "error" => "1;31",
        "warning" => "33",
        "debug" => "2",
        _ => "32",
    }
}

fn percent_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_one_harmless_line() {
        let row = json!({"event_time": "t", "severity_class": "error", "service": null, "message": "a\nb\u{1b}[2J"});
        assert_eq!(shown(&row, Table::Logs, false), "t error   - a⏎ b\u{fffd}[2J");
        assert!(shown(&row, Table::Logs, true).starts_with("\u{1b}[2mt\u{1b}[0m \u{1b}[1;31merror"));
    }

    #[test]
    fn filters_survive_the_address() {
        assert_eq!(percent_encoded("a:\"ä b\"&c"), "a%3A%22%C3%A4%20b%22%26c");
    }
}
