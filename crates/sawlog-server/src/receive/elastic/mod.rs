//! `POST /_bulk`: events from Filebeat, Logstash, Vector, Fluent Bit and the official Elasticsearch clients.
//!
//! For: Elasticsearch's bulk protocol with its handshake, answers and errors, so that senders that exist need a new
//! address only. Not for: searching, mappings, templates, or changing what is stored: events are never updated or
//! deleted. Invariant: a bad document costs nothing but itself; a broken action line refuses the whole request before
//! anything is kept, as Elasticsearch does, since nobody can tell documents from actions after it.

mod answer;
mod bulk;
mod handshake;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use sawlog_core::batch::Format;
use sawlog_stream::{Receipt, Submission, SubmitError};
use serde_json::json;

use crate::auth::Scope;
use crate::error::ApiError;
use crate::receive::events::{ACK, ack_level, idempotency_key, read};
use crate::receive::reject;
use crate::serve::authorize;
use crate::state::ServerState;
use bulk::{Bulk, Item};

pub(crate) use handshake::{health, license, root, xpack};

/// Name of the source in the ledger.
const SOURCE: &str = "elasticsearch";
/// Clients believe that they talk to Elasticsearch only if each answer has this header.
const PRODUCT: (&str, &str) = ("x-elastic-product", "Elasticsearch");

/// The bulk routes' methods.
pub(crate) fn bulk_methods() -> MethodRouter<Arc<ServerState>> {
    post(post_bulk).put(post_bulk)
}

/// `index` of the path is the default for actions that name none; the type of old clients says nothing.
async fn post_bulk(
    State(state): State<Arc<ServerState>>,
    Path(path): Path<HashMap<String, String>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let response = match take(&state, path.get("index"), &headers, body).await {
        Ok(response) => response,
        Err(error) => refuse(error),
    };
    as_elasticsearch(response)
}

async fn take(
    state: &ServerState,
    index: Option<&String>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let pipeline = state.backend.pipeline()?;
    if let Err(error) = authorize(state, headers, Scope::Ingest) {
        reject(pipeline, &state.metrics, SOURCE, 1);
        return Err(error);
    }
    let ack = ack_level(headers)?;
    let idempotency_key = idempotency_key(headers)?;
    let _turn = state.bodies.acquire().await.map_err(|_| ApiError::from(SubmitError::Stopped))?;
    let bulk = match read_bulk(state, index, headers, body).await {
        Ok(bulk) => bulk,
        Err(error) => {
            // How many events it held cannot be known.
            reject(pipeline, &state.metrics, SOURCE, 1);
            return Err(error);
        }
    };
    let Bulk { body, items } = bulk;
    let mut receipt = None;
    if !body.is_empty() {
        let submission = Submission {
            source: SOURCE.to_owned(),
            file: None,
            format: Format::Json,
            is_declared: true,
            age: state.age,
            body: Bytes::from(body),
            idempotency_key,
            ack,
        };
        let submitted_at = Instant::now();
        let taken = pipeline.submit(submission).await?;
        state.metrics.observe_acknowledge(submitted_at.elapsed().as_secs_f64());
        state.metrics.add_records(SOURCE, &taken.counts);
        receipt = Some(taken);
    }
    let refused = items.iter().filter(|item| matches!(item, Item::Refused(_))).count() as u64;
    reject(pipeline, &state.metrics, SOURCE, refused);
    Ok(answered(receipt.as_ref(), &items, started))
}

async fn read_bulk(
    state: &ServerState,
    index: Option<&String>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bulk, ApiError> {
    let body = read(state, headers, body).await?;
    let index = index.cloned();
    // A body has up to 64 MiB: too much work for a thread that waits for others.
    let parsed = tokio::task::spawn_blocking(move || bulk::parse(&body, index.as_deref())).await;
    parsed.map_err(|_| ApiError::from(SubmitError::Stopped))?
}

fn answered(receipt: Option<&Receipt>, items: &[Item], started: Instant) -> Response {
    let body = answer::body(receipt, items, started.elapsed().as_millis() as u64);
    let mut response = (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(receipt) = receipt {
        response.headers_mut().insert(ACK, HeaderValue::from_static(receipt.ack.name()));
    }
    response
}

/// An error in Elasticsearch's form. Too much at once is 429 there, which clients answer by waiting.
fn refuse(error: ApiError) -> Response {
    let status = if error.code == "overloaded" { StatusCode::TOO_MANY_REQUESTS } else { error.status };
    let kind = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "security_exception",
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "es_rejected_execution_exception",
        StatusCode::PAYLOAD_TOO_LARGE => "content_too_long_exception",
        _ => "illegal_argument_exception",
    };
    let cause = json!({"type": kind, "reason": format!("{}; {}", error.message, error.hint)});
    let mut content = cause.clone();
    content["root_cause"] = json!([cause]);
    let body = json!({"error": content, "status": status.as_u16()});
    // Headers such as Retry-After are those of the plain error.
    let mut response = error.into_response();
    response.headers_mut().remove(header::CONTENT_LENGTH);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey"));
    }
    *response.status_mut() = status;
    *response.body_mut() = Body::from(body.to_string());
    response
}

fn as_elasticsearch(mut response: Response) -> Response {
    response.headers_mut().insert(PRODUCT.0, HeaderValue::from_static(PRODUCT.1));
    response
}
