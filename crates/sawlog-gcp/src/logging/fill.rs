//! Loading a range of time so that each entry is stored once.
//!
//! For: pages of a list, oldest first, whose entries are noted before they are submitted, over faults and kills. Not for: which
//! ranges ([`super::backfill`], [`super::tail`]).

use bytes::Bytes;
use google_cloud_logging_v2::client::LoggingServiceV2;
use google_cloud_logging_v2::model::LogEntry;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_core::ledger::Counts;
use tokio::sync::watch;

use super::backfill::BackfillError;
use super::client::{LoggingQuery, LoggingState};
use super::entry::{self, Place, Ready};
use super::pages::{PageError, Pages, Range};
use super::progress::{Pending, Progress, ProgressFile};
use super::store::ready;
use crate::submit::{Body, Unstored, submit};

/// Why a run has not reached the end.
pub(super) enum Interrupted {
    /// A stop was asked for.
    Stopped,
    /// It cannot go on.
    Failed(BackfillError),
}

impl<E: Into<BackfillError>> From<E> for Interrupted {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A range that is being loaded.
pub(super) struct Fill<F> {
    pub(super) client: LoggingServiceV2,
    pub(super) query: LoggingQuery,
    /// Accepted event times.
    pub(super) age: AgeLimits,
    pub(super) state: LoggingState,
    pub(super) file: ProgressFile,
    pub(super) progress: Progress,
    /// Whether an entry was stored by others.
    pub(super) is_stored: F,
    pub(super) stopped: watch::Receiver<bool>,
}

impl<F: Fn(&Place) -> bool> Fill<F> {
    /// Loads what is left of the range.
    pub(super) async fn finish(&mut self) -> Result<(), Interrupted> {
        if self.progress.is_done {
            return Ok(());
        }
        self.repeat_pending().await?;
        self.rest().await?;
        self.progress.is_done = true;
        Ok(self.file.save(&self.progress).await?)
    }

    async fn rest(&mut self) -> Result<(), Interrupted> {
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
            let fresh =
                self.ready(&entries, |entry| !self.progress.has(&entry.place) && !(self.is_stored)(&entry.place));
            for body in entry::bodies(fresh) {
                let pending = self.progress.begin(body.iter().map(|entry| entry.place.clone()).collect()).clone();
                self.file.save(&self.progress).await.map_err(Interrupted::from)?;
                self.store(pending, &body, true).await?;
            }
        }
        Ok(())
    }

    fn ready(&self, entries: &[LogEntry], is_wanted: impl Fn(&Ready) -> bool) -> Vec<Ready> {
        let mut ready = ready(entries, &self.query.source, &self.state);
        ready.retain(is_wanted);
        ready
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
            found.extend(self.ready(&entries, |entry| pending.places.contains(&entry.place)));
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
                age: self.age,
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
        Ok(self.file.save(&self.progress).await?)
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
