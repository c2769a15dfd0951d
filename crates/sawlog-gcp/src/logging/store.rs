//! Entries into the pipeline, where their ids say which are there already.
//!
//! For: what streams and short lists give. Not for: entries that are older than ids are known ([`super::fill`]).

use bytes::Bytes;
use google_cloud_logging_v2::model::LogEntry;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_core::ledger::Counts;
use tokio::sync::watch;

use super::client::LoggingState;
use super::entry::{self, Ready};
use crate::submit::{Body, Unstored, submit};

/// The entries as records. One that has no JSON form is logged and counted as rejected.
pub(super) fn ready(entries: &[LogEntry], source: &str, state: &LoggingState) -> Vec<Ready> {
    let ready = entries.iter().filter_map(|entry| match Ready::new(entry) {
        Ok(ready) => Some(ready),
        Err(error) => {
            tracing::error!(%error, source, insert_id = entry.insert_id, "an entry cannot be written as JSON");
            state.metrics.add_records(source, &Counts::rejected(1));
            state.pipeline.note_rejected(source, 1);
            None
        }
    });
    ready.collect()
}

/// Stores entries, however often that takes.
///
/// # Errors
/// At a stop, and when the event log refuses them for good.
pub(super) async fn store(
    source: &str,
    age: AgeLimits,
    state: &LoggingState,
    entries: &[LogEntry],
    stopped: &mut watch::Receiver<bool>,
) -> Result<(), Unstored> {
    for entries in entry::bodies(ready(entries, source, state)) {
        let body = Body {
            source: source.to_owned(),
            format: Format::Json,
            age,
            bytes: Bytes::from(entry::body(&entries)),
            idempotency_key: None,
        };
        submit(body, &state.pipeline, &state.metrics, stopped).await?;
    }
    Ok(())
}
