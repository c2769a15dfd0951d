//! Writing what waits.
//!
//! For: batches, repeats until the service has them, and counting what it refuses. Not for: which entries there are.

use std::sync::Arc;

use google_cloud_gax::error::rpc::StatusDetails;
use google_cloud_logging_v2::Error;
use google_cloud_logging_v2::client::LoggingServiceV2;
use google_cloud_logging_v2::model::WriteLogEntriesRequest;
use sawlog_telemetry::{LogEntryOutcome, Metrics};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::queue::{Entry, Waiting};
use super::{SinkOptions, envelope};
use crate::logging::client::{connect, counted, is_invalid};
use crate::logging::pace::Waits;

/// Bytes of a write, of which the service takes 10 MB.
const BATCH_BYTES: usize = 4 << 20;
/// Details of an answer that says which entries were refused.
const PARTIAL_ERRORS: &str = "type.googleapis.com/google.logging.v2.WriteLogEntriesPartialErrors";

/// Writes what the layer queued.
pub struct SinkWriter {
    options: SinkOptions,
    waiting: Waiting,
    metrics: Arc<Metrics>,
    waits: Waits,
    client: Option<LoggingServiceV2>,
    /// Entries that are being written.
    batch: Vec<Entry>,
}

impl SinkWriter {
    pub(super) fn new(options: SinkOptions, waiting: Waiting, metrics: Arc<Metrics>) -> Self {
        let waits = Waits::new(options.backoff, u64::from(std::process::id()));
        Self { options, waiting, metrics, waits, client: None, batch: Vec::new() }
    }

    /// Writes until a stop, and then what waits, for a bounded time. What fails is written again for as long as it takes; the
    /// log on standard error says so once.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                has_more = self.gather_and_write() => if !has_more { return },
            }
        }
        let stop_max = self.options.stop_max;
        let rest = async {
            while self.gather_now() {
                self.write().await;
            }
        };
        if timeout(stop_max, rest).await.is_err() {
            tracing::warn!("entries of the own log were not written before the stop");
        }
    }

    /// Writes the next batch; whether there may be another one. Cancelled, the batch is kept.
    async fn gather_and_write(&mut self) -> bool {
        if self.batch.is_empty() {
            let Some(first) = self.waiting.next().await else { return false };
            self.batch.push(first);
        }
        let until = Instant::now() + self.options.batch_age;
        while !self.is_full()
            && let Ok(Some(entry)) = timeout_at(until, self.waiting.next()).await
        {
            self.batch.push(entry);
        }
        self.add_dropped();
        self.write().await;
        true
    }

    /// Adds what waits to the batch; whether there is anything to write.
    fn gather_now(&mut self) -> bool {
        while !self.is_full()
            && let Some(entry) = self.waiting.next_now()
        {
            self.batch.push(entry);
        }
        self.add_dropped();
        !self.batch.is_empty()
    }

    fn add_dropped(&mut self) {
        if let Some((dropped, entry)) = self.waiting.take_dropped() {
            self.metrics.add_log_entries(LogEntryOutcome::Dropped, dropped);
            self.batch.push(entry);
        }
    }

    fn is_full(&self) -> bool {
        // One place is for the entry that tells of dropped ones.
        self.batch.len() + 1 >= self.options.batch_entries
            || self.batch.iter().map(|entry| entry.bytes).sum::<usize>() >= BATCH_BYTES
    }

    /// Writes the batch, however often that takes.
    async fn write(&mut self) {
        let count = self.batch.len() as u64;
        let mut was_logged = false;
        let refused = loop {
            match self.try_write().await {
                Ok(refused) => break refused.min(count),
                Err(problem) if !std::mem::replace(&mut was_logged, true) => {
                    tracing::warn!(problem, "the own log cannot be written to Cloud Logging; it is tried again");
                }
                Err(_) => {}
            }
            sleep(self.waits.after_failure()).await;
        };
        self.waits.reset();
        self.batch.clear();
        self.metrics.add_log_entries(LogEntryOutcome::Written, count - refused);
        if refused > 0 {
            tracing::warn!(refused, "Cloud Logging refuses entries of the own log");
            self.metrics.add_log_entries(LogEntryOutcome::Refused, refused);
        }
    }

    /// Writes the batch once. The number of entries that the service refuses for good.
    async fn try_write(&mut self) -> Result<u64, String> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let client = connect(&self.options.access).await.map_err(|error| error.to_string())?;
                self.client.insert(client).clone()
            }
        };
        let mut request = envelope(&self.options);
        request["entries"] = self.batch.iter().map(|entry| entry.json.clone()).collect::<Value>();
        let request: WriteLogEntriesRequest = serde_json::from_value(request).map_err(|error| error.to_string())?;
        let writing = client.write_log_entries().with_request(request).send();
        match counted(&self.metrics, "WriteLogEntries", self.options.answer_max, writing).await {
            Ok(_) => Ok(0),
            Err(error) => match refused_in_part(&error) {
                Some(refused) => Ok(refused),
                None if is_invalid(&error) => {
                    tracing::warn!(%error, "Cloud Logging refuses a write of the own log");
                    Ok(u64::MAX)
                }
                None => Err(error.to_string()),
            },
        }
    }
}

/// How many entries were refused while the others were written.
fn refused_in_part(error: &Error) -> Option<u64> {
    error.status()?.details.iter().find_map(|detail| match detail {
        StatusDetails::Other(any) if any.type_url() == Some(PARTIAL_ERRORS) => {
            let fields = serde_json::to_value(any).ok()?;
            Some(fields.get("logEntryErrors")?.as_object()?.len() as u64)
        }
        _ => None,
    })
}
