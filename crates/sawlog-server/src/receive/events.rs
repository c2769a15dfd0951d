//! `POST /v1/events`: NDJSON or a JSON array of logs, metrics and activity events in one body.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sawlog_core::batch::Format;
use sawlog_stream::{AckLevel, Receipt, Submission};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::Scope;
use crate::error::ApiError;
use crate::receive::body::{self, BodyError};
use crate::receive::reject;
use crate::serve::authorize;
use crate::state::ServerState;

const SOURCE: &str = "http";
const SOURCE_BYTES_MAX: usize = 64;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const ACK: HeaderName = HeaderName::from_static("x-sawlog-ack");
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// What a loader may say about the body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Format of the records; JSON unless said otherwise.
    #[serde(default)]
    format: Option<String>,
    /// `false` when the format was guessed: lines that do not fit are then read as text.
    #[serde(default)]
    declared: Option<bool>,
    /// Name of the source in the ledger.
    #[serde(default)]
    source: Option<String>,
    /// File that the records were read from.
    #[serde(default)]
    file: Option<String>,
    /// Whose accepted ages count.
    #[serde(default)]
    ages: Ages,
}

/// Accepted ages of event times, by the section of the configuration that sets them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ages {
    #[default]
    Http,
    /// For those who load history. Senders cannot lift their own limit: it takes the scope `admin`, and without it the
    /// limit stays as it is.
    Files,
}

pub(crate) async fn post_events(
    State(state): State<Arc<ServerState>>,
    query: Result<Query<EventsQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => {
            let hint = "the parameters are format, declared, source, file and ages (http or files)";
            return ApiError::new(StatusCode::BAD_REQUEST, "parameter_invalid", error.body_text(), hint)
                .into_response();
        }
    };
    match take(&state, query, &headers, body).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn take(state: &ServerState, query: EventsQuery, headers: &HeaderMap, body: Body) -> Result<Response, ApiError> {
    let pipeline = state.backend.pipeline()?;
    if let Err(error) = authorize(state, headers, Scope::Ingest) {
        reject(pipeline, &state.metrics, SOURCE, 1);
        return Err(error);
    }
    let source = source_name(query.source)?;
    let format = format(query.format.as_deref())?;
    let ack = ack_level(headers)?;
    let idempotency_key = idempotency_key(headers)?;
    let _turn = state.bodies.acquire().await.map_err(|_| ApiError::from(sawlog_stream::SubmitError::Stopped))?;
    let body = match read(state, headers, body).await {
        Ok(body) => body,
        Err(error) => {
            reject(pipeline, &state.metrics, &source, 1);
            return Err(error);
        }
    };
    let started = Instant::now();
    let may_lift = || authorize(state, headers, Scope::Admin).is_ok();
    let age = if query.ages == Ages::Files && may_lift() { state.files_age } else { state.age };
    let is_declared = query.declared.unwrap_or(true);
    let submission =
        Submission { source: source.clone(), file: query.file, format, is_declared, age, body, idempotency_key, ack };
    let receipt = pipeline.submit(submission).await?;
    state.metrics.observe_acknowledge(started.elapsed().as_secs_f64());
    state.metrics.add_records(&source, &receipt.counts);
    Ok(answer(&receipt))
}

/// Source names become labels and ledger keys: few characters, no paths.
fn source_name(source: Option<String>) -> Result<String, ApiError> {
    let Some(source) = source else { return Ok(SOURCE.to_owned()) };
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if source.is_empty() || source.len() > SOURCE_BYTES_MAX || !source.bytes().all(is_allowed) {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "source_invalid",
            "the parameter source is no source name",
            "use 1 to 64 of the characters a-z, 0-9, _ and -",
        ));
    }
    Ok(source)
}

fn format(name: Option<&str>) -> Result<Format, ApiError> {
    match name.map(Format::from_name) {
        None => Ok(Format::Json),
        Some(Some(format)) if format.is_lines() => Ok(format),
        Some(_) => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "format_unknown",
            "the parameter format is unknown",
            "use json, logfmt, access, syslog or text; OTLP has its own ports",
        )),
    }
}

pub(super) fn ack_level(headers: &HeaderMap) -> Result<AckLevel, ApiError> {
    match headers.get(ACK).map(HeaderValue::as_bytes) {
        None | Some(b"disk") => Ok(AckLevel::Disk),
        Some(b"memory") => Ok(AckLevel::Memory),
        Some(_) => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "ack_level_unknown",
            "the header X-Sawlog-Ack has an unknown level",
            "use `disk` (default) or `memory`",
        )),
    }
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= IDEMPOTENCY_KEY_BYTES_MAX => Ok(Some(key.to_owned())),
        _ => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "idempotency_key_invalid",
            format!("the header Idempotency-Key must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"),
            "send a UUID or a hash of the batch",
        )),
    }
}

/// Reads the body whole, within the limit, and undoes its compression.
pub(super) async fn read(state: &ServerState, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    body::read(headers, body, state.body_bytes_max).await.map_err(|error| body_error(&error))
}

pub(super) fn body_error(error: &BodyError) -> ApiError {
    let (status, code) = match error {
        BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
        BodyError::Undecodable { .. } => (StatusCode::BAD_REQUEST, "body_undecodable"),
        BodyError::UnknownEncoding { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding_unknown"),
        BodyError::CutShort => (StatusCode::BAD_REQUEST, "body_cut_short"),
        BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "body_too_slow"),
        BodyError::Stopping => return ApiError::from(sawlog_stream::SubmitError::Stopped),
    };
    ApiError::new(status, code, error.to_string(), error.hint())
}

fn answer(receipt: &Receipt) -> Response {
    let counts = receipt.counts;
    let problems: Vec<Value> = receipt
        .problems
        .iter()
        .map(|problem| {
            json!({
                "index": problem.index,
                "outcome": problem.outcome,
                "field": problem.field,
                "reason": problem.reason,
                "error": problem.error,
                "remedy": problem.remedy,
            })
        })
        .collect();
    let body = json!({
        "ack": receipt.ack.name(),
        "received": counts.received,
        "stored": counts.stored,
        "duplicate": counts.duplicate,
        "filtered": counts.filtered,
        "dead_lettered": counts.dead_lettered,
        "rejected": counts.rejected,
        "problems": problems,
    });
    let is_refused = counts.received > 0 && counts.rejected == counts.received;
    let status = if is_refused { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::OK };
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(ACK, HeaderValue::from_static(receipt.ack.name()));
    response
}
