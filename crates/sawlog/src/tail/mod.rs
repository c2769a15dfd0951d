//! Following log files as they grow: `[[tail]]`.
//!
//! For: getting every line of files that other programs write, across rotation, truncation and restarts of either side,
//! once. Not for: files that are complete (`sawlog ingest`) or compressed. How: [`follow`] reads and remembers, this module
//! submits. Before a batch is submitted its range is written to `tail.json`; after it is acknowledged, that it was. After a
//! crash the same range is submitted again under the same idempotency key, which the pipeline drops if it has it.

mod follow;
mod state;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_seams::{RealDisk, SystemClock};
use sawlog_server::receive::reject;
use sawlog_stream::{AckLevel, Pipeline, Submission, SubmitError};
use sawlog_telemetry::Metrics;
use tokio::sync::watch;

use follow::{Batch, Follower, Round};

/// Between two looks at the files.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Between two looks when something failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Files to follow, all read in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Patterns of paths.
    pub(crate) paths: Vec<String>,
    /// `None`: detected for each file.
    pub(crate) format: Option<Format>,
    /// Name in the ledger.
    pub(crate) source: String,
    /// Whether files that are there at the very first start are read from their end on.
    pub(crate) starts_at_end: bool,
}

/// What following needs.
pub(crate) struct TailOptions {
    pub(crate) tails: Vec<Tail>,
    pub(crate) age: AgeLimits,
    /// Where the places in the files are remembered.
    pub(crate) state: PathBuf,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Follows files until told to stop.
///
/// # Errors
/// When what was remembered cannot be read: starting anew would store lines again.
pub(crate) async fn run(options: TailOptions, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let TailOptions { tails, age, state, pipeline, metrics } = options;
    let mut follower = Follower::open(tails, state, Arc::new(RealDisk), Arc::new(SystemClock::new()))?;
    let mut waiting = Vec::new();
    let (mut was_failing, mut is_caught_up) = (false, false);
    while !*stopped.borrow() {
        // What was there before is history; what is written from then on is live, and moves the watermark.
        let age = AgeLimits { is_history: age.is_history && !is_caught_up, ..age };
        let pause = match round(&mut follower, &mut waiting, age, &pipeline, &metrics).await {
            Ok(true) => Duration::ZERO,
            Ok(false) => {
                is_caught_up = true;
                POLL_INTERVAL
            }
            Err(error) => {
                if !was_failing {
                    tracing::warn!(error = format!("{error:#}"), "followed files wait; it is tried again");
                }
                was_failing = true;
                RETRY_INTERVAL
            }
        };
        was_failing &= pause == RETRY_INTERVAL;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }
    Ok(())
}

/// One look at all files, or another try with what waits: it is kept, since its file may be truncated meanwhile. Returns
/// whether there is more to read at once.
async fn round(
    follower: &mut Follower,
    waiting: &mut Vec<Batch>,
    age: AgeLimits,
    pipeline: &Pipeline,
    metrics: &Metrics,
) -> anyhow::Result<bool> {
    // File calls block; this task has nothing else to do meanwhile.
    let round = match std::mem::take(waiting) {
        waiting if waiting.is_empty() => tokio::task::block_in_place(|| follower.poll())?,
        batches => Round { batches, ..Round::default() },
    };
    for source in &round.oversize {
        reject(pipeline, metrics, source, 1);
    }
    let submitted = join_all(round.batches.iter().map(|batch| submit(batch, age, pipeline, metrics))).await;
    let mut failure = None;
    for (batch, result) in round.batches.into_iter().zip(submitted) {
        match result {
            Ok(()) => follower.acknowledge(&batch),
            Err(error) => {
                failure = Some(error);
                waiting.push(batch);
            }
        }
    }
    tokio::task::block_in_place(|| follower.save())?;
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(round.has_more),
    }
}

async fn submit(batch: &Batch, age: AgeLimits, pipeline: &Pipeline, metrics: &Metrics) -> Result<(), SubmitError> {
    let submission = Submission {
        source: batch.source.clone(),
        file: Some(batch.name.clone()),
        format: batch.format,
        is_declared: batch.is_declared,
        age,
        body: batch.body.clone(),
        idempotency_key: Some(batch.key.clone()),
        ack: AckLevel::Disk,
    };
    let counts = match pipeline.submit(submission).await {
        Ok(receipt) => receipt.counts,
        Err(error) if error.is_final() => {
            // Trying again is in vain and would keep the rest of the file waiting.
            tracing::error!(%error, file = batch.name, key = batch.key, "part of a followed file was refused");
            reject(pipeline, metrics, &batch.source, 1);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    metrics.add_records(&batch.source, &counts);
    Ok(())
}
