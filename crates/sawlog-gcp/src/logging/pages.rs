//! Pages of `entries.list`.
//!
//! For: asking page by page for a range of time, oldest first, within the quota, as often as it takes. Not for: remembering
//! how far the caller is ([`super::progress`]).

use google_cloud_logging_v2::Error;
use google_cloud_logging_v2::client::LoggingServiceV2;
use google_cloud_logging_v2::model::{ListLogEntriesResponse, LogEntry};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;

use super::client::{LoggingQuery, LoggingState, Remedy, counted, is_invalid, remedy};
use super::entry::{Nanos, to_rfc3339};
use super::pace::Waits;

/// A range of time, its end excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    pub(super) from: Nanos,
    pub(super) until: Nanos,
}

impl Range {
    pub(super) fn has(&self, time: Nanos) -> bool {
        self.from <= time && time < self.until
    }
}

/// Why there is no next page.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    /// A stop was asked for.
    #[error("a stop was asked for")]
    Stopped,
    /// The service does not know the token of the page any more: ask anew.
    #[error("the page's token has expired")]
    TokenExpired,
    /// It refuses the request for good.
    #[error("{0}")]
    Refused(#[source] Error),
}

/// The pages of a range.
pub(super) struct Pages<'a> {
    client: &'a LoggingServiceV2,
    query: &'a LoggingQuery,
    state: &'a LoggingState,
    filter: String,
    /// Of the next page; `None` after the last.
    token: Option<String>,
    waits: Waits,
}

impl<'a> Pages<'a> {
    /// `more` is a further condition in the filter's language, or empty.
    pub(super) fn new(
        client: &'a LoggingServiceV2,
        query: &'a LoggingQuery,
        state: &'a LoggingState,
        range: Range,
        more: &str,
    ) -> Self {
        let waits = Waits::new(query.backoff, state.clock.now_micros().unsigned_abs());
        Self { client, query, state, filter: filter(&query.filter, range, more), token: Some(String::new()), waits }
    }

    /// The entries of the next page, oldest first; `None` when there are no more. Cancelled, the page comes again.
    pub(super) async fn next(
        &mut self,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<Option<Vec<LogEntry>>, PageError> {
        let Some(token) = self.token.clone() else { return Ok(None) };
        let mut was_logged = false;
        loop {
            let answer = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return Err(PageError::Stopped),
                answer = self.ask(&token) => answer,
            };
            let error = match answer {
                Ok(page) => {
                    self.token = Some(page.next_page_token).filter(|token| !token.is_empty());
                    self.waits.reset();
                    return Ok(Some(page.entries));
                }
                Err(error) if is_invalid(&error) && !token.is_empty() => return Err(PageError::TokenExpired),
                Err(error) if remedy(&error) == Remedy::GiveUp => return Err(PageError::Refused(error)),
                Err(error) => error,
            };
            if !std::mem::replace(&mut was_logged, true) {
                tracing::warn!(%error, source = self.query.source, "entries cannot be listed; it is tried again");
            }
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return Err(PageError::Stopped),
                () = sleep(self.waits.after_failure()) => {}
            }
        }
    }

    async fn ask(&self, token: &str) -> Result<ListLogEntriesResponse, Error> {
        self.state.pace.turn().await;
        let request = self
            .client
            .list_log_entries()
            .set_resource_names(self.query.resources.clone())
            .set_filter(&self.filter)
            .set_order_by("timestamp asc")
            .set_page_size(self.query.page_entries)
            .set_page_token(token);
        counted(&self.state.metrics, "ListLogEntries", self.query.answer_max, request.send()).await
    }
}

/// The user's filter within a range of time.
fn filter(filter: &str, range: Range, more: &str) -> String {
    let Range { from, until } = range;
    let times = format!("timestamp >= \"{}\" AND timestamp < \"{}\"", to_rfc3339(from), to_rfc3339(until));
    let parts = [filter, more].map(str::trim).into_iter().filter(|part| !part.is_empty());
    parts.fold(times, |all, part| format!("{all} AND ({part})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_bounded_in_time_whatever_its_operators() {
        let range = Range { from: 1_795_485_600_000_000_001, until: 1_795_485_601_000_000_000 };
        let times =
            "timestamp >= \"2026-11-24T02:00:00.000000001Z\" AND timestamp < \"2026-11-24T02:00:01.000000000Z\"";
        assert_eq!(filter(" ", range, ""), times);
        assert_eq!(filter("a=1 OR b=2", range, "c=3"), format!("{times} AND (a=1 OR b=2) AND (c=3)"));
    }
}
