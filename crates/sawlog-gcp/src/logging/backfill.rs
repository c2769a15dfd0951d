//! Loading the entries of a range of time.
//!
//! For: pages of entries, oldest first, each entry stored once over faults and restarts, until the range is done. Not for:
//! entries that are written while it runs ([`super::tail`]), and entries that arrive late for a time already read: end the range
//! some minutes ago.

use std::path::PathBuf;

use sawlog_core::batch::AgeLimits;
use sawlog_core::ledger::Counts;
use sawlog_stream::SubmitError;
use tokio::sync::watch;

use super::client::{LoggingQuery, LoggingState, connect};
use super::entry::{Place, nanos};
use super::fill::{Fill, Interrupted};
use super::pages::Range;
use super::progress::{Progress, ProgressError, ProgressFile};

/// Settings of a back-fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackfillOptions {
    /// Which entries.
    pub query: LoggingQuery,
    /// Their first time, UTC microseconds.
    pub from: i64,
    /// The time before which they are, UTC microseconds.
    pub until: i64,
    /// File that says how far it is, for a restart; its folder is there. Each query has one of its own.
    pub progress_file: PathBuf,
}

/// What a back-fill did, earlier runs included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackfillReport {
    /// What became of the entries. Those that a restart gave again are `duplicate`.
    pub counts: Counts,
    /// Whether the range is done; else a stop came before.
    pub is_done: bool,
}

/// Why a back-fill ended early. It can be started again and goes on where it was.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// The range is empty.
    #[error("the range ends at {until} before it begins at {from}; `until` must be after `from`")]
    Range {
        /// First time, RFC 3339.
        from: String,
        /// End, RFC 3339.
        until: String,
    },
    /// There is no client: the endpoint or the credentials cannot be used.
    #[error("Cloud Logging cannot be reached: {0}")]
    Client(#[source] google_cloud_gax::client_builder::Error),
    /// The service refuses the query.
    #[error(
        "Cloud Logging refuses the query: {0}; check `resources`, `filter` and the role roles/logging.viewer (for audit logs of data access roles/logging.privateLogViewer)"
    )]
    Refused(#[source] google_cloud_logging_v2::Error),
    /// Pages cannot be followed: their tokens expire at once.
    #[error("Cloud Logging knows none of its pages' tokens; start again")]
    Tokens,
    /// Its file cannot be used.
    #[error(transparent)]
    Progress(#[from] ProgressError),
    /// The event log refuses the entries.
    #[error("entries cannot be stored: {0}")]
    Store(#[source] SubmitError),
}

/// Loads the entries of a range until it is done or a stop.
///
/// # Errors
/// When the query, the file or the event log cannot be used; what passes is tried again for as long as it takes.
pub async fn backfill(
    options: BackfillOptions,
    state: LoggingState,
    stopped: watch::Receiver<bool>,
) -> Result<BackfillReport, BackfillError> {
    let range = Range { from: nanos(options.from), until: nanos(options.until) };
    if range.until <= range.from {
        let [from, until] = [options.from, options.until].map(sawlog_core::time::to_rfc3339);
        return Err(BackfillError::Range { from, until });
    }
    let file = ProgressFile::new(state.disk.clone(), &options.progress_file);
    let progress = file.load(Progress::new(&options.query, range, state.clock.now_micros())).await?;
    let client = connect(&options.query.access).await.map_err(BackfillError::Client)?;
    let (query, age, is_stored) = (options.query, AgeLimits::any_past(), |_: &Place| false);
    let mut fill = Fill { client, query, age, state, file, progress, is_stored, stopped };
    match fill.finish().await {
        Ok(()) | Err(Interrupted::Stopped) => {}
        Err(Interrupted::Failed(error)) => return Err(error),
    }
    Ok(BackfillReport { counts: fill.progress.counts(), is_done: fill.progress.is_done })
}
