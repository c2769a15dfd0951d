//! `POST /v1/logs` and `POST /v1/metrics`: OTLP over HTTP, protobuf and JSON.
//!
//! For: the HTTP side of exports. Not for: [`crate::receive::events`], Sawlog's own format. Answers come in the encoding
//! of the request.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use bytes::Bytes;
use sawlog_core::batch::Format;
use tonic::Code;

use super::answer::{self, Encoding};
use super::{ACK, HTTP_SOURCE, OtlpState, Refusal, Signal, ack_level, ingest};
use crate::receive::body::{self, BodyError};
use crate::receive::reject;

const ACK_HEADER: HeaderName = HeaderName::from_static(ACK);

/// The routes of OTLP over HTTP.
pub fn router(state: Arc<OtlpState>) -> Router {
    Router::new()
        .route("/v1/logs", post(|State(state), headers, body| export(Signal::Logs, state, headers, body)))
        .route("/v1/metrics", post(|State(state), headers, body| export(Signal::Metrics, state, headers, body)))
        .route("/v1/traces", any(no_traces))
        .with_state(state)
}

async fn no_traces() -> Response {
    let message = "Sawlog takes logs and metrics, no traces; turn the traces exporter off for this endpoint\n";
    (StatusCode::NOT_FOUND, message).into_response()
}

async fn export(signal: Signal, state: Arc<OtlpState>, headers: HeaderMap, body: Body) -> Response {
    let Some(encoding) = encoding(&headers) else {
        let message = "send application/x-protobuf or application/json\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response();
    };
    match take(signal, encoding, &state, &headers, body).await {
        Ok(response) => response,
        Err((status, refusal)) => refuse(encoding, status, &refusal),
    }
}

/// The encoding that `Content-Type` names.
fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let media_type = value.split(';').next()?.trim();
    if media_type.eq_ignore_ascii_case("application/x-protobuf") {
        Some(Encoding::Protobuf)
    } else if media_type.eq_ignore_ascii_case("application/json") {
        Some(Encoding::Json)
    } else {
        None
    }
}

type Refused = (StatusCode, Refusal);

async fn take(
    signal: Signal,
    encoding: Encoding,
    state: &OtlpState,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    state.authorize(HTTP_SOURCE, headers.get(header::AUTHORIZATION)).map_err(with_status)?;
    let wanted = headers.get(ACK_HEADER).map(HeaderValue::as_bytes);
    let ack = ack_level(wanted).ok_or_else(|| with_status(Refusal::unknown_ack()))?;
    let stopped = |_| with_status(Refusal::from(sawlog_stream::SubmitError::Stopped));
    let _turn = state.bodies.acquire().await.map_err(stopped)?;
    let body = match body::read(headers, body, state.body_bytes_max).await.map_err(|error| body_refusal(&error)) {
        Ok(body) => body,
        Err(refused) => {
            reject(&state.pipeline, &state.metrics, HTTP_SOURCE, 1);
            return Err(refused);
        }
    };
    let format = match (signal, encoding) {
        (Signal::Logs, Encoding::Protobuf) => Format::OtlpLogs,
        (Signal::Logs, Encoding::Json) => Format::OtlpLogsJson,
        (Signal::Metrics, Encoding::Protobuf) => Format::OtlpMetrics,
        (Signal::Metrics, Encoding::Json) => Format::OtlpMetricsJson,
    };
    let submitted = ingest(state, HTTP_SOURCE, format, body, ack).await;
    let receipt = submitted.map_err(|error| with_status(Refusal::from(error)))?;
    let mut response = answer(encoding, StatusCode::OK, answer::exported(signal, encoding, &receipt));
    response.headers_mut().insert(ACK_HEADER, HeaderValue::from_static(receipt.ack.name()));
    Ok(response)
}

fn body_refusal(error: &BodyError) -> Refused {
    let status = match error {
        BodyError::Stopping => return with_status(Refusal::from(sawlog_stream::SubmitError::Stopped)),
        BodyError::CutShort => StatusCode::BAD_REQUEST,
        BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Undecodable { .. } => StatusCode::BAD_REQUEST,
        BodyError::UnknownEncoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
    };
    (status, Refusal::new(Code::InvalidArgument, format!("{error}; {}", error.hint())))
}

/// The HTTP status that stands for a gRPC code. Of these only 429 and 503 make an OTLP client send again.
fn with_status(refusal: Refusal) -> Refused {
    let status = match refusal.code {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, refusal)
}

fn refuse(encoding: Encoding, status: StatusCode, refusal: &Refusal) -> Response {
    let mut response = answer(encoding, status, answer::status(encoding, refusal));
    if let Some(after) = refusal.retry_after {
        let seconds = HeaderValue::from(after.as_secs().max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn answer(encoding: Encoding, status: StatusCode, body: Bytes) -> Response {
    let media_type = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(media_type))], body).into_response()
}
