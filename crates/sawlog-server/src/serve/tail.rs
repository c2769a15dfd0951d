//! `GET /v1/tail`: rows that pass a filter, as they arrive.
//!
//! For: server-sent events (`row`, `skipped`) or, by the Accept header, one JSON object a line. Not for: history, which is
//! `POST /v1/search`. A watcher that reads slowly, or whose filter passes more rows than a person can read, skips rows
//! and is told how many; ingest never waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, stream};
use sawlog_core::schema::Table;
use sawlog_query::filter::{self, Matcher};
use sawlog_query::{OutputFormat, QueryResult, encode};
use sawlog_stream::{Arrival, Tap};
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::Scope;
use crate::error::ApiError;
use crate::serve::authorize;
use crate::serve::search::{FilterQuery, query_of, table};
use crate::state::ServerState;

/// Watchers at the same time.
pub const TAILS_MAX: usize = 50;
/// Rows that one watcher gets in a second.
const ROWS_PER_SECOND: f64 = 2_000.0;
/// Silence after which a sign of life is sent.
const HEARTBEAT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Events,
    Lines,
}

pub(crate) async fn get_tail(
    State(state): State<Arc<ServerState>>,
    query: Result<Query<FilterQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    answer(&state, query, &headers).unwrap_or_else(IntoResponse::into_response)
}

fn answer(
    state: &ServerState,
    query: Result<Query<FilterQuery>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    authorize(state, headers, Scope::Query)?;
    let query = query_of(query)?;
    let pipeline = state.backend.pipeline()?;
    let table = table(query.table.as_deref())?;
    let matcher = Matcher::new(&filter::parse(&query.filter)?, table, pipeline.now_micros())?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = if accept.contains("ndjson") { Form::Lines } else { Form::Events };
    let place = Arc::clone(&state.tails).try_acquire_owned().map_err(|_| {
        let message = format!("{TAILS_MAX} clients watch already");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_tails", message, "close one, or try again later")
            .retry_after(Duration::from_secs(5))
    })?;
    let watcher = Watcher {
        tap: pipeline.tap(table),
        table,
        matcher,
        form,
        allowance: Allowance::full(Instant::now()),
        is_greeted: false,
        _place: place,
    };
    let content_type = match form {
        Form::Events => "text/event-stream",
        Form::Lines => "application/x-ndjson",
    };
    let mut response = Body::from_stream(watcher.parts()).into_response();
    for (name, value) in [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

struct Watcher {
    tap: Tap,
    table: Table,
    matcher: Matcher,
    form: Form,
    allowance: Allowance,
    is_greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    fn parts(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
        stream::unfold(self, |mut watcher| async move {
            let part = watcher.part().await?;
            Some((Ok(part), watcher))
        })
    }

    /// What to send next; `None` when the server stops.
    async fn part(&mut self) -> Option<Bytes> {
        // Something at once, so that the client knows that it watches.
        if !std::mem::replace(&mut self.is_greeted, true) {
            return Some(self.sign_of_life());
        }
        loop {
            let Ok(arrival) = tokio::time::timeout(HEARTBEAT, self.tap.next()).await else {
                return Some(self.sign_of_life());
            };
            let arrival = arrival?;
            let (matcher, table, form) = (self.matcher.clone(), self.table, self.form);
            let allowed = self.allowance.at(Instant::now());
            let written = tokio::task::spawn_blocking(move || write(&matcher, table, form, &arrival, allowed)).await;
            let (part, row_count) = written.ok()?;
            self.allowance.take(row_count);
            if !part.is_empty() {
                return Some(part.into());
            }
        }
    }

    /// What a client reads over.
    fn sign_of_life(&self) -> Bytes {
        match self.form {
            Form::Events => Bytes::from_static(b": watching\n\n"),
            Form::Lines => Bytes::from_static(b"\n"),
        }
    }
}

/// Rows that may be sent, refilled over time.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    rows: f64,
    at: Instant,
}

impl Allowance {
    const fn full(now: Instant) -> Self {
        Self { rows: ROWS_PER_SECOND, at: now }
    }

    /// Whole rows that may be sent now.
    fn at(&mut self, now: Instant) -> usize {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.rows = (self.rows + since * ROWS_PER_SECOND).min(ROWS_PER_SECOND);
        self.at = now;
        self.rows as usize
    }

    fn take(&mut self, row_count: usize) {
        self.rows = (self.rows - row_count as f64).max(0.0);
    }
}

/// The rows that pass, at most `allowed`, and how many they are. Rows that are left out are told of after them.
fn write(matcher: &Matcher, table: Table, form: Form, arrival: &Arrival, allowed: usize) -> (Vec<u8>, usize) {
    let (mut skipped, mut sent, mut out) = (arrival.skipped, 0, Vec::new());
    for rows in &arrival.rows {
        let Ok(passing) = matcher.matching(rows) else {
            skipped += rows.num_rows() as u64;
            continue;
        };
        let kept = passing.num_rows().min(allowed - sent);
        skipped += (passing.num_rows() - kept) as u64;
        let result = QueryResult {
            schema: table.schema(),
            batches: vec![passing.slice(0, kept)],
            cut: None,
            elapsed: Duration::ZERO,
        };
        match encode(&result, OutputFormat::Ndjson) {
            Ok(lines) => {
                sent += kept;
                append(&mut out, form, &lines);
            }
            Err(_) => skipped += kept as u64,
        }
    }
    if skipped > 0 {
        let told = match form {
            Form::Events => format!("event: skipped\ndata: {{\"rows\":{skipped}}}\n\n"),
            Form::Lines => format!("{{\"_skipped\":{skipped}}}\n"),
        };
        out.extend_from_slice(told.as_bytes());
    }
    (out, sent)
}

/// JSON has no line breaks outside its escapes, so that a line is a row.
fn append(out: &mut Vec<u8>, form: Form, lines: &[u8]) {
    match form {
        Form::Lines => out.extend_from_slice(lines),
        Form::Events => {
            for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                out.extend_from_slice(b"event: row\ndata: ");
                out.extend_from_slice(line);
                out.extend_from_slice(b"\n\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_used_up_and_refills() {
        let start = Instant::now();
        let mut allowance = Allowance::full(start);
        assert_eq!(allowance.at(start), 2_000);
        allowance.take(2_000);
        assert_eq!(allowance.at(start), 0);
        assert_eq!(allowance.at(start + Duration::from_millis(500)), 1_000);
        assert_eq!(allowance.at(start + Duration::from_secs(60)), 2_000);
    }

    #[test]
    fn each_line_becomes_an_event() {
        let mut out = Vec::new();
        append(&mut out, Form::Events, b"{\"a\":1}\n{\"a\":2}\n");
        assert_eq!(out, b"event: row\ndata: {\"a\":1}\n\nevent: row\ndata: {\"a\":2}\n\n");
    }
}
