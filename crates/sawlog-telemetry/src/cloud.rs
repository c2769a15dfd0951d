//! Metrics of what goes to services of Google Cloud.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

type Count = Counter<u64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RowLabels {
    pub(crate) table: &'static str,
    pub(crate) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SuppressedLabels {
    pub(crate) source: String,
    pub(crate) reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LogEntryLabels {
    pub(crate) outcome: &'static str,
}

/// What became of an entry of the own log for Cloud Logging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEntryOutcome {
    /// The service has it.
    Written,
    /// No room in the queue.
    Dropped,
    /// The service refuses it.
    Refused,
}

impl LogEntryOutcome {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Dropped => "dropped",
            Self::Refused => "refused",
        }
    }
}

/// What services took, and what they left out.
#[derive(Default)]
pub(crate) struct CloudMetrics {
    pub(crate) bigquery_rows: Family<RowLabels, Count>,
    pub(crate) logging_suppressed: Family<SuppressedLabels, Count>,
    pub(crate) logging_entries: Family<LogEntryLabels, Count>,
}

impl CloudMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("bigquery_rows", "Rows that BigQuery took or refused", self.bigquery_rows.clone());
        let suppressed = self.logging_suppressed.clone();
        registry.register("logging_suppressed", "Entries that a tail of Cloud Logging left out, by reason", suppressed);
        let entries = self.logging_entries.clone();
        registry.register("logging_entries", "Entries of the own log for Cloud Logging, by outcome", entries);
    }
}
