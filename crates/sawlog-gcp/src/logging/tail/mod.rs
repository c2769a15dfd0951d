//! Entries as they are written.
//!
//! For: a stream of `entries.tail` that is opened again for as long as it takes, and the entries that no stream shows: those of
//! the time between two streams, those that the service left out because they were too many, and those whose payload the
//! client does not decode. Lists give them, which go on while streams end and begin. Not for: history ([`super::backfill`]).
//!
//! Rules: nobody says when a stream begins to show entries, so that each one is followed by a list from the last complete time
//! until some seconds after it was opened. What both give is recognized by its id while ids are known; what is older is filled
//! as a back-fill is. Payloads of protobuf come empty from Google's Rust client (1.15), in streams only: such entries are asked
//! for by id.

mod file;
mod lost;
mod marks;
mod missing;
mod stream;
mod unsure;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use google_cloud_logging_v2::client::LoggingServiceV2;
use sawlog_core::batch::AgeLimits;
use tokio::sync::{Notify, watch};
use tokio::time::{error::Elapsed, sleep, timeout};

use self::file::TailFile;
use self::marks::{Limits, Marks};
use super::client::{LoggingQuery, LoggingState, connect};
use super::entry::{self, Nanos, nanos};
use super::pace::Waits;
use super::pages::{PageError, Pages, Range};
use super::store::store;
use crate::submit::Unstored;

/// Between two writes of the file.
const SAVE_AGE: Duration = Duration::from_secs(5);

/// Settings of a tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailOptions {
    /// Which entries.
    pub query: LoggingQuery,
    /// Accepted event times.
    pub age: AgeLimits,
    /// How long the service holds entries back to put them in order, up to a minute.
    pub buffer_window: Duration,
    /// How long after the beginning of a stream entries are listed too, and how long lists may be behind streams.
    pub settle: Duration,
    /// How much earlier than the last complete time a list begins, for entries that arrive late.
    pub overlap: Duration,
    /// How long after its event time an entry's id is known for certain: half of the pipeline's dedup window, so that a list has
    /// the other half.
    pub ids_known: Duration,
    /// Longest gap that is filled; what is older must be back-filled.
    pub gap_max: Duration,
    /// A stream that shows nothing for so long is opened again: it may be dead.
    pub idle_max: Duration,
    /// File that says what it has and what it lacks; its folder is there, and so is a second file while a long gap is filled.
    /// Each query has one of its own.
    pub state_file: PathBuf,
}

impl TailOptions {
    /// Two seconds of buffer, ids known for half an hour, gaps of up to a day.
    #[must_use]
    pub fn new(query: LoggingQuery, state_file: PathBuf) -> Self {
        Self {
            query,
            age: AgeLimits::default(),
            buffer_window: Duration::from_secs(2),
            settle: Duration::from_secs(15),
            overlap: Duration::from_secs(60),
            ids_known: Duration::from_secs(1_800),
            gap_max: Duration::from_secs(24 * 3600),
            idle_max: Duration::from_secs(600),
            state_file,
        }
    }
}

/// Takes entries as they are written until a stop. What ends a stream is logged, and another one is opened.
pub async fn tail(options: TailOptions, state: LoggingState, stopped: watch::Receiver<bool>) {
    let file = TailFile::new(state.disk.clone(), &options.state_file);
    let marks = file.load().await.unwrap_or_else(|| Marks::new(nanos(state.clock.now_micros())));
    let tail = Tail {
        limits: Limits::new(&options),
        options,
        state,
        file: tokio::sync::Mutex::new(file),
        marks: Mutex::new(marks),
        lost: Mutex::default(),
        unsure_came: Notify::new(),
        missing_came: Notify::new(),
        lost_came: Notify::new(),
    };
    // A tail that ends before its first stream works goes on from here.
    tail.save().await;
    tokio::join!(
        stream::run(&tail, stopped.clone()),
        unsure::run(&tail, stopped.clone()),
        missing::run(&tail, stopped.clone()),
        lost::run(&tail, stopped.clone()),
        tail.save_often(stopped),
    );
    tail.save().await;
}

/// What streams and lists share.
struct Tail {
    options: TailOptions,
    limits: Limits,
    state: LoggingState,
    file: tokio::sync::Mutex<TailFile>,
    marks: Mutex<Marks>,
    lost: Mutex<lost::Queue>,
    unsure_came: Notify,
    missing_came: Notify,
    lost_came: Notify,
}

/// Why a list has not reached its end.
#[derive(Debug, thiserror::Error)]
enum ListError {
    /// A stop was asked for.
    #[error("a stop was asked for")]
    Stopped,
    /// Ids may soon be forgotten.
    #[error("no page came for too long")]
    Late(#[from] Elapsed),
    /// There is no page.
    #[error(transparent)]
    Page(PageError),
    /// The event log refuses the entries.
    #[error("entries cannot be stored: {0}")]
    Store(#[source] Unstored),
}

impl From<PageError> for ListError {
    fn from(error: PageError) -> Self {
        if matches!(error, PageError::Stopped) { Self::Stopped } else { Self::Page(error) }
    }
}

impl From<Unstored> for ListError {
    fn from(error: Unstored) -> Self {
        if matches!(error, Unstored::Stopped) { Self::Stopped } else { Self::Store(error) }
    }
}

impl Tail {
    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Nanos {
        nanos(self.state.clock.now_micros())
    }

    /// Entries since a time are to be listed.
    fn doubt(&self, from: Nanos) {
        self.marks().doubt(from, self.now(), &self.limits);
        self.unsure_came.notify_one();
    }

    /// Writes the file; whether it is written.
    async fn save(&self) -> bool {
        let file = self.file.lock().await;
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).range();
        let marks = self.marks().clone();
        file.save(&marks, lost).await
    }

    async fn save_often(&self, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = sleep(SAVE_AGE) => {}
            }
            self.save().await;
        }
    }

    /// A client for lists, however often that takes; `None` at a stop.
    async fn connected(&self, stopped: &mut watch::Receiver<bool>) -> Option<LoggingServiceV2> {
        let mut waits = Waits::new(self.options.query.backoff, self.now().unsigned_abs());
        loop {
            match connect(&self.options.query.access).await {
                Ok(client) => return Some(client),
                Err(error) => {
                    tracing::warn!(%error, source = self.options.query.source, "Cloud Logging cannot be reached; it is tried again");
                }
            }
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return None,
                () = sleep(waits.after_failure()) => {}
            }
        }
    }

    /// Stores what a list gives, and says after each page before which time everything is; how many entries that was.
    async fn list(
        &self,
        client: &LoggingServiceV2,
        range: Range,
        more: &str,
        mut listed: impl FnMut(Nanos),
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<usize, ListError> {
        let Self { options: TailOptions { query, age, ids_known, .. }, state, .. } = self;
        let mut pages = Pages::new(client, query, state, range, more);
        let mut found = 0;
        while let Some(entries) = timeout(*ids_known / 2, pages.next(stopped)).await?? {
            store(&query.source, *age, state, &entries, stopped).await?;
            found += entries.len();
            if let Some(last) = entries.last() {
                listed(entry::place(last).time);
            }
        }
        Ok(found)
    }
}
