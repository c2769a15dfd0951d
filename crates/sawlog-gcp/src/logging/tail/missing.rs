//! Ranges of which nothing is stored, filled as a back-fill is.
//!
//! For: one fill at a time, each entry once over streams, faults and kills. Not for: ranges that ids are known for
//! ([`super::unsure`]).

use google_cloud_logging_v2::client::LoggingServiceV2;
use sawlog_core::ledger::Counts;
use tokio::sync::watch;
use tokio::time::sleep;

use super::super::backfill::BackfillError;
use super::super::entry::{Place, to_rfc3339};
use super::super::fill::{Fill, Interrupted};
use super::super::pace::Waits;
use super::super::pages::Range;
use super::super::progress::{Progress, ProgressError, ProgressFile};
use super::Tail;

/// Why a range is not filled.
#[derive(Debug, thiserror::Error)]
enum Unfilled {
    /// A stop was asked for.
    #[error("a stop was asked for")]
    Stopped,
    /// The tail's file does not name it.
    #[error("the file of the tail cannot be written")]
    Unnoted,
    /// It cannot go on now.
    #[error(transparent)]
    Failed(#[from] BackfillError),
}

impl From<ProgressError> for Unfilled {
    fn from(error: ProgressError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Interrupted> for Unfilled {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::Stopped => Self::Stopped,
            Interrupted::Failed(error) => Self::Failed(error),
        }
    }
}

/// Fills what is missing until a stop.
pub(super) async fn run(tail: &Tail, mut stopped: watch::Receiver<bool>) {
    let Some(client) = tail.connected(&mut stopped).await else { return };
    let mut waits = Waits::new(tail.options.query.backoff, tail.now().unsigned_abs());
    let path = tail.options.state_file.with_extension("fill.json");
    let file = ProgressFile::new(tail.state.disk.clone(), &path);
    while !*stopped.borrow() {
        let first = tail.marks().missing().first().copied();
        let Some(range) = first else {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = tail.missing_came.notified() => {}
            }
            continue;
        };
        let source = &tail.options.query.source;
        match fill(tail, &client, &file, range, &stopped).await {
            Ok(counts) => {
                let [since, until] = [range.from, range.until].map(to_rfc3339);
                tracing::info!(source, since, until, ?counts, "a gap is filled");
                waits.reset();
                continue;
            }
            Err(Unfilled::Stopped) => return,
            Err(error) => {
                tracing::warn!(%error, source, "a gap could not be filled; it is tried again");
            }
        }
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = sleep(waits.after_failure()) => {}
        }
    }
}

/// Fills a range, or the rest of it. The tail's file names the range for as long as the fill's file does.
async fn fill(
    tail: &Tail,
    client: &LoggingServiceV2,
    file: &ProgressFile,
    range: Range,
    stopped: &watch::Receiver<bool>,
) -> Result<Counts, Unfilled> {
    if !tail.save().await {
        return Err(Unfilled::Unnoted);
    }
    let fresh = Progress::new(&tail.options.query, range, tail.state.clock.now_micros());
    let progress = match file.load(fresh.clone()).await {
        // It is of a range that was filled, or of another filter.
        Err(ProgressError::OtherQuery { .. }) => fresh,
        Err(error @ ProgressError::Damaged { .. }) => {
            tracing::error!(%error, source = tail.options.query.source, "the fill of a gap starts anew");
            fresh
        }
        loaded => loaded?,
    };
    let mut fill = Fill {
        client: client.clone(),
        query: tail.options.query.clone(),
        age: tail.options.age,
        state: tail.state.clone(),
        file: file.clone(),
        progress,
        is_stored: |place: &Place| tail.marks().has(place),
        stopped: stopped.clone(),
    };
    fill.finish().await?;
    tail.marks().fill(range);
    if tail.save().await {
        file.remove().await?;
    }
    Ok(fill.progress.counts())
}
