//! OTLP: logs and metrics from OpenTelemetry SDKs and collectors, over gRPC and HTTP.
//!
//! For: handing the bodies of export requests to the pipeline as they came, and telling the sender in OTLP's words what
//! became of them. Not for: reading the messages (`sawlog-core` does) or opening ports. Source of the rules: OTLP
//! specification 1.x, sections on responses, retries and throttling.
//! Invariant: a sender is asked to send again only what is certainly not kept, or may not be; a dead letter is kept, so
//! it never counts as rejected.

mod answer;
mod grpc;
mod http;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use bytes::Bytes;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_seams::{AppendError, Disposition};
use sawlog_stream::{AckLevel, Pipeline, Receipt, Submission, SubmitError};
use sawlog_telemetry::Metrics;
use tokio::sync::Semaphore;
use tonic::Code;

use crate::auth::{AuthError, AuthPolicy, Scope};
use crate::error::DISK_RETRY;
use crate::receive::reject;

pub use grpc::{ExportServer, LogsServer, MetricsServer};
pub use http::router;

/// Name of the gRPC source in the ledger.
pub const GRPC_SOURCE: &str = "otlp-grpc";
/// Name of the HTTP source in the ledger.
pub const HTTP_SOURCE: &str = "otlp-http";
/// Header (metadata) that asks for an acknowledgement level, and tells the one that was given.
const ACK: &str = "x-sawlog-ack";
/// When to send again while the server is busy.
const OVERLOAD_RETRY: Duration = Duration::from_secs(1);

/// What the OTLP receivers share.
pub struct OtlpState {
    /// Takes the bodies.
    pub pipeline: Arc<Pipeline>,
    /// Knows who may send.
    pub auth: Arc<AuthPolicy>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Bodies that may be in memory at the same time, those of the other receivers included.
    pub bodies: Arc<Semaphore>,
    /// Largest body, compressed or not, bytes.
    pub body_bytes_max: usize,
    /// Accepted event times.
    pub age: AgeLimits,
}

/// Hands a body to the pipeline and waits for the acknowledgement.
///
/// # Errors
/// As [`Pipeline::submit`].
pub async fn ingest(
    state: &OtlpState,
    source: &str,
    format: Format,
    body: Bytes,
    ack: AckLevel,
) -> Result<Receipt, SubmitError> {
    let submission = Submission {
        file: None,
        source: source.to_owned(),
        format,
        is_declared: true,
        age: state.age,
        body,
        idempotency_key: None,
        ack,
    };
    let started = Instant::now();
    let submitted = state.pipeline.submit(submission).await;
    match &submitted {
        Ok(receipt) => {
            state.metrics.observe_acknowledge(started.elapsed().as_secs_f64());
            state.metrics.add_records(source, &receipt.counts);
        }
        // How many records it held cannot be known.
        Err(SubmitError::Unreadable(_)) => reject(&state.pipeline, &state.metrics, source, 1),
        Err(_) => {}
    }
    submitted
}

impl OtlpState {
    /// Lets the holder of a key in; anyone else is counted as one refused record of the source.
    fn authorize(&self, source: &str, header: Option<&HeaderValue>) -> Result<(), Refusal> {
        self.check_key(header).inspect_err(|_| reject(&self.pipeline, &self.metrics, source, 1))
    }

    fn check_key(&self, header: Option<&HeaderValue>) -> Result<(), Refusal> {
        let value = header.map(|value| value.to_str().unwrap_or(""));
        match self.auth.check(value, Scope::Ingest) {
            Ok(_) => Ok(()),
            Err(AuthError::Scope { .. }) => {
                let message = "the API key lacks the scope ingest; make one with `sawlog key create --scope ingest`";
                Err(Refusal::new(Code::PermissionDenied, message))
            }
            Err(error) => {
                let message = format!("{error}; send `authorization: Bearer KEY`, made with `sawlog key create`");
                Err(Refusal::new(Code::Unauthenticated, message))
            }
        }
    }
}

/// The level that a header value asks for; `None` for an unknown one.
fn ack_level(value: Option<&[u8]>) -> Option<AckLevel> {
    match value {
        None | Some(b"disk") => Some(AckLevel::Disk),
        Some(b"memory") => Some(AckLevel::Memory),
        Some(_) => None,
    }
}

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Logs,
    Metrics,
}

/// A refused export, in gRPC's terms; HTTP statuses follow from them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    code: Code,
    message: String,
    /// Where OTLP lets the client send again: when.
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    fn unknown_ack() -> Self {
        Self::new(
            Code::InvalidArgument,
            "the header x-sawlog-ack has an unknown level; use `disk` (default) or `memory`",
        )
    }
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::Unreadable(_) => Self::new(Code::InvalidArgument, message),
            // OTLP clients send again after this code only because the delay comes with it.
            SubmitError::Overloaded => Self::new(Code::ResourceExhausted, message).retry_after(OVERLOAD_RETRY),
            SubmitError::DiskShort { .. } => Self::new(Code::ResourceExhausted, message).retry_after(DISK_RETRY),
            SubmitError::Stopped => Self::new(Code::Unavailable, message).retry_after(OVERLOAD_RETRY),
            SubmitError::Log(error) => Self::from_log(&error),
        }
    }
}

impl Refusal {
    fn from_log(error: &AppendError) -> Self {
        let message = format!("{error}; {}", error.hint());
        match (error, error.disposition()) {
            (AppendError::Overloaded { .. } | AppendError::DiskFull { .. }, Disposition::RetryAfter(after)) => {
                Self::new(Code::ResourceExhausted, message).retry_after(after)
            }
            (_, Disposition::RetryAfter(after)) => Self::new(Code::Unavailable, message).retry_after(after),
            (_, Disposition::Stop) => Self::new(Code::Unavailable, message),
            (_, Disposition::Refuse) => Self::new(Code::InvalidArgument, message),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
