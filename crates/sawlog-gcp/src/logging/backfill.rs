//! Loading the entries of a range of time.
//!
//! For: pages of entries, oldest first, each entry stored once over faults and restarts, until the range is done. Not for:
//! entries that are written while it runs ([`super::tail`]), and entries that arrive late for a time already read: end the range
//! some minutes ago.

use std::path::PathBuf;

use bytes::Bytes;
use google_cloud_logging_v2::client::LoggingServiceV2;
use google_cloud_logging_v2::model::LogEntry;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_core::ledger::Counts;
use sawlog_stream::SubmitError;
use tokio::sync::watch;

use super::client::{LoggingQuery, LoggingState, connect};
use super::entry::{self, Ready, nanos};
use super::pages::{PageError, Pages, Range};
use super::progress::{Pending, Progress, ProgressError, ProgressFile};
use crate::submit::{Body, Unstored, submit};

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
    /// An entry has no JSON form.
    #[error("an entry cannot be written as JSON")]
    Entry(#[from] serde_json::Error),
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
    let progress = file.load(Progress::new(&options.query, range, state.clock.now_micros()))?;
    let client = connect(&options.query.access).await.map_err(BackfillError::Client)?;
    let mut run = Run { client, query: options.query, state, file, progress, stopped };
    match run.finish().await {
        Ok(()) => {
            run.progress.is_done = true;
            run.file.save(&run.progress)?;
        }
        Err(Interrupted::Stopped) => {}
        Err(Interrupted::Failed(error)) => return Err(error),
    }
    Ok(BackfillReport { counts: run.progress.counts(), is_done: run.progress.is_done })
}

/// Why a run has not reached the end.
enum Interrupted {
    Stopped,
    Failed(BackfillError),
}

impl<E: Into<BackfillError>> From<E> for Interrupted {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

struct Run {
    client: LoggingServiceV2,
    query: LoggingQuery,
    state: LoggingState,
    file: ProgressFile,
    progress: Progress,
    stopped: watch::Receiver<bool>,
}

impl Run {
    async fn finish(&mut self) -> Result<(), Interrupted> {
        if self.progress.is_done {
            return Ok(());
        }
        self.repeat_pending().await?;
        let mut expired_at = None;
        loop {
            let rest = self.progress.rest();
            match self.pages(rest).await {
                Err(PassError::TokenExpired) if expired_at == Some(rest) => {
                    return Err(Interrupted::Failed(BackfillError::Tokens));
                }
                Err(PassError::TokenExpired) => expired_at = Some(rest),
                Err(PassError::Interrupted(interrupted)) => return Err(interrupted),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Stores the pages of what is left.
    async fn pages(&mut self, rest: Range) -> Result<(), PassError> {
        let (client, query, state) = (self.client.clone(), self.query.clone(), self.state.clone());
        let mut pages = Pages::new(&client, &query, &state, rest, "");
        while let Some(entries) = pages.next(&mut self.stopped).await? {
            let fresh = self.ready(&entries, |progress, entry| !progress.has(&entry.place))?;
            for body in entry::bodies(fresh) {
                let pending = self.progress.begin(body.iter().map(|entry| entry.place.clone()).collect()).clone();
                self.file.save(&self.progress).map_err(Interrupted::from)?;
                self.store(pending, &body, true).await?;
            }
        }
        Ok(())
    }

    fn ready(
        &self,
        entries: &[LogEntry],
        wanted: impl Fn(&Progress, &Ready) -> bool,
    ) -> Result<Vec<Ready>, Interrupted> {
        let mut ready = Vec::with_capacity(entries.len());
        for entry in entries {
            let entry = Ready::new(entry)?;
            if wanted(&self.progress, &entry) {
                ready.push(entry);
            }
        }
        Ok(ready)
    }

    /// Stores again what was being stored when the last run ended.
    async fn repeat_pending(&mut self) -> Result<(), Interrupted> {
        let Some(pending) = self.progress.pending.clone() else { return Ok(()) };
        let Some(last) = pending.places.iter().map(|place| place.time).max() else { return Ok(()) };
        let range = Range { from: self.progress.reached, until: last.saturating_add(1) };
        let body = loop {
            match self.collect(range, &pending).await {
                Ok(body) => break body,
                Err(PassError::TokenExpired) => {}
                Err(PassError::Interrupted(interrupted)) => return Err(interrupted),
            }
        };
        self.store(pending, &body, false).await
    }

    async fn collect(&mut self, range: Range, pending: &Pending) -> Result<Vec<Ready>, PassError> {
        let (client, query, state) = (self.client.clone(), self.query.clone(), self.state.clone());
        let mut pages = Pages::new(&client, &query, &state, range, "");
        let mut found = Vec::new();
        while found.len() < pending.places.len()
            && let Some(entries) = pages.next(&mut self.stopped).await?
        {
            found.extend(self.ready(&entries, |_, entry| pending.places.contains(&entry.place))?);
        }
        Ok(found)
    }

    /// Submits the pending body, however often that takes, and notes that it is stored.
    async fn store(&mut self, pending: Pending, entries: &[Ready], is_next: bool) -> Result<(), Interrupted> {
        // Entries that the service has deleted since are no body.
        let counts = if entries.is_empty() {
            Counts::default()
        } else {
            let body = Body {
                source: self.query.source.clone(),
                format: Format::Json,
                age: AgeLimits::any_past(),
                bytes: Bytes::from(entry::body(entries)),
                idempotency_key: Some(pending.key),
            };
            submit(body, &self.state.pipeline, &self.state.metrics, &mut self.stopped).await.map_err(|unstored| {
                match unstored {
                    Unstored::Stopped => Interrupted::Stopped,
                    Unstored::Refused(error) => Interrupted::Failed(BackfillError::Store(error)),
                }
            })?
        };
        self.progress.commit(&counts, is_next);
        Ok(self.file.save(&self.progress)?)
    }
}

/// Why the pages of a pass were not all read.
enum PassError {
    TokenExpired,
    Interrupted(Interrupted),
}

impl From<Interrupted> for PassError {
    fn from(interrupted: Interrupted) -> Self {
        Self::Interrupted(interrupted)
    }
}

impl From<PageError> for PassError {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Stopped => Self::Interrupted(Interrupted::Stopped),
            PageError::TokenExpired => Self::TokenExpired,
            PageError::Refused(error) => Self::Interrupted(Interrupted::Failed(BackfillError::Refused(error))),
        }
    }
}
