//! Storing a body of entries, however often that takes.
//!
//! For: waiting while the pipeline has no room. Not for: what is remembered of it ([`super::progress`], [`super::tail_state`]).

use std::time::Duration;

use bytes::Bytes;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_core::ledger::Counts;
use sawlog_stream::{AckLevel, Submission, SubmitError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::client::LoggingState;
use super::entry::{self, Ready};

/// Between two tries.
const RETRY: Duration = Duration::from_millis(250);

/// What a body is stored as.
pub(super) struct Body<'a> {
    /// Name of the source.
    pub(super) source: &'a str,
    pub(super) age: AgeLimits,
    pub(super) entries: &'a [Ready],
    pub(super) idempotency_key: Option<String>,
}

/// Why a body was not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unstored {
    /// A stop came first.
    #[error("a stop was asked for")]
    Stopped,
    /// It will never be.
    #[error(transparent)]
    Refused(SubmitError),
}

/// Stores a body; what became of its entries. At a stop it is unknown whether they were stored.
pub(super) async fn submit(
    body: Body<'_>,
    state: &LoggingState,
    stopped: &mut watch::Receiver<bool>,
) -> Result<Counts, Unstored> {
    let source = body.source;
    let submission = Submission {
        source: source.to_owned(),
        file: None,
        format: Format::Json,
        is_declared: true,
        age: body.age,
        body: Bytes::from(entry::body(body.entries)),
        idempotency_key: body.idempotency_key,
        ack: AckLevel::Disk,
    };
    let mut was_logged = false;
    loop {
        let started = Instant::now();
        let error = match state.pipeline.submit(submission.clone()).await {
            Ok(receipt) => {
                state.metrics.observe_acknowledge(started.elapsed().as_secs_f64());
                state.metrics.add_records(source, &receipt.counts);
                return Ok(receipt.counts);
            }
            Err(error) => error,
        };
        if error.is_final() {
            return Err(Unstored::Refused(error));
        }
        if !std::mem::replace(&mut was_logged, true) {
            tracing::warn!(%error, source, "entries wait until they can be stored");
        }
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return Err(Unstored::Stopped),
            () = sleep(RETRY) => {}
        }
    }
}
