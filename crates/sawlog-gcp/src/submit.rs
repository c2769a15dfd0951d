//! Storing a body of records, however often that takes.
//!
//! For: every source of this crate: one submission, repeated while the pipeline has no room. Not for: what is remembered of it, or
//! acknowledging, which are the caller's.

use std::time::Duration;

use bytes::Bytes;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_core::ledger::Counts;
use sawlog_stream::{AckLevel, Pipeline, Submission, SubmitError};
use sawlog_telemetry::Metrics;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Between two tries.
const RETRY: Duration = Duration::from_millis(250);

/// What is stored, and as what.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    /// Name of the source.
    pub(crate) source: String,
    pub(crate) format: Format,
    pub(crate) age: AgeLimits,
    pub(crate) bytes: Bytes,
    /// Repeats of one key are recognized as a whole.
    pub(crate) idempotency_key: Option<String>,
}

/// Why a body was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unstored {
    /// A stop came first.
    #[error("a stop was asked for")]
    Stopped,
    /// It will never be.
    #[error(transparent)]
    Refused(SubmitError),
}

/// Tries once to store a body in the synced event log; what became of its records.
///
/// # Errors
/// When it is not stored; the error says whether another try may succeed.
pub(crate) async fn submit_once(body: Body, pipeline: &Pipeline, metrics: &Metrics) -> Result<Counts, SubmitError> {
    let Body { source, format, age, bytes, idempotency_key } = body;
    let submission = Submission {
        source: source.clone(),
        file: None,
        format,
        is_declared: true,
        age,
        body: bytes,
        idempotency_key,
        ack: AckLevel::Disk,
    };
    let started = Instant::now();
    let receipt = pipeline.submit(submission).await?;
    metrics.observe_acknowledge(started.elapsed().as_secs_f64());
    metrics.add_records(&source, &receipt.counts);
    Ok(receipt.counts)
}

/// Stores a body in the synced event log; what became of its records. At a stop it is unknown whether they were stored.
///
/// # Errors
/// When it will never be stored, or a stop came first.
pub(crate) async fn submit(
    body: Body,
    pipeline: &Pipeline,
    metrics: &Metrics,
    stopped: &mut watch::Receiver<bool>,
) -> Result<Counts, Unstored> {
    let mut was_logged = false;
    loop {
        let error = match submit_once(body.clone(), pipeline, metrics).await {
            Ok(counts) => return Ok(counts),
            Err(error) => error,
        };
        // What this process cannot store any more others may: messages go back to the service.
        if error.is_final() || error.is_of_stopped_log() {
            return Err(Unstored::Refused(error));
        }
        if !std::mem::replace(&mut was_logged, true) {
            tracing::warn!(%error, source = body.source, "records wait until they can be stored");
        }
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return Err(Unstored::Stopped),
            () = sleep(RETRY) => {}
        }
    }
}
