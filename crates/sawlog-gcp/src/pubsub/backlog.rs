//! What was taken from a subscription and is not acknowledged.
//!
//! For: its messages, bytes and age as metrics. Not for: what the service holds ([`super::service_backlog`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sawlog_seams::{Clock, SystemClock};
use sawlog_telemetry::Metrics;
use tokio::sync::watch;
use tokio::time::sleep;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Batches of messages that are under way. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog {
    batches: Arc<Mutex<Batches>>,
}

#[derive(Debug, Default)]
struct Batches {
    next: u64,
    held: BTreeMap<u64, Sums>,
}

/// What is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// When the oldest message was published, UTC microseconds; `None` where none says so.
    pub(super) oldest: Option<i64>,
}

/// A batch, under way until it is dropped.
#[derive(Debug)]
pub(super) struct HeldBatch {
    backlog: Backlog,
    number: u64,
}

impl Backlog {
    /// A batch without messages.
    pub(super) fn begin(&self) -> HeldBatch {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.next += 1;
        HeldBatch { backlog: self.clone(), number: batches.next }
    }

    /// What is under way now.
    pub(super) fn sums(&self) -> Sums {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.held.values().fold(Sums::default(), |sums, batch| Sums {
            messages: sums.messages + batch.messages,
            bytes: sums.bytes + batch.bytes,
            oldest: sums.oldest.into_iter().chain(batch.oldest).min(),
        })
    }

    /// Shows what is under way now in the metrics of a source.
    pub(super) fn show(&self, source: &str, metrics: &Metrics, clock: &dyn Clock) {
        let sums = self.sums();
        let age = sums.oldest.map_or(0.0, |oldest| (clock.now_micros() - oldest).max(0) as f64 / 1e6);
        metrics.set_pubsub_outstanding(source, sums.messages, sums.bytes, age);
    }

    /// Shows it in the metrics of a source until a stop.
    pub(super) async fn report(&self, source: &str, metrics: &Metrics, mut stopped: watch::Receiver<bool>) {
        let clock = SystemClock::new();
        loop {
            self.show(source, metrics, &clock);
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => break,
                () = sleep(INTERVAL) => {}
            }
        }
    }
}

impl HeldBatch {
    /// Adds a message of so many bytes, published at a time in UTC microseconds.
    pub(super) fn add(&self, bytes: usize, published: Option<i64>) {
        let mut batches = self.backlog.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = batches.held.entry(self.number).or_default();
        sums.messages += 1;
        sums.bytes += bytes as u64;
        sums.oldest = sums.oldest.into_iter().chain(published).min();
    }
}

impl Drop for HeldBatch {
    fn drop(&mut self) {
        self.backlog.batches.lock().unwrap_or_else(PoisonError::into_inner).held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_is_not_under_way_any_more() {
        let backlog = Backlog::default();
        let (old, new) = (backlog.begin(), backlog.begin());
        old.add(10, Some(5));
        old.add(10, None);
        new.add(1, Some(7));
        assert_eq!(backlog.sums(), Sums { messages: 3, bytes: 21, oldest: Some(5) });
        drop(old);
        assert_eq!(backlog.sums(), Sums { messages: 1, bytes: 1, oldest: Some(7) });
        drop(new);
        assert_eq!(backlog.sums(), Sums::default());
    }
}
