//! Metrics of what goes to services of Google Cloud.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CallLabels {
    pub(crate) service: &'static str,
    pub(crate) call: &'static str,
    pub(crate) outcome: &'static str,
}

/// What services took, and what they left out.
#[derive(Default)]
pub(crate) struct CloudMetrics {
    pub(crate) bigquery_rows: Family<RowLabels, Count>,
    pub(crate) calls: Family<CallLabels, Count>,
    pub(crate) call_seconds: Family<CallLabels, Counter<f64, AtomicU64>>,
    pub(crate) spool_objects: Gauge<i64, AtomicI64>,
    pub(crate) spool_bytes: Gauge<i64, AtomicI64>,
    pub(crate) spool_oldest_seconds: Gauge<i64, AtomicI64>,
    pub(crate) spool_conflicts: Gauge<i64, AtomicI64>,
    pub(crate) logging_suppressed: Family<SuppressedLabels, Count>,
    pub(crate) logging_entries: Family<LogEntryLabels, Count>,
}

impl CloudMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("bigquery_rows", "Rows that BigQuery took or refused", self.bigquery_rows.clone());
        registry.register("cloud_calls", "Calls to services of Google Cloud", self.calls.clone());
        registry.register("cloud_call_seconds", "Time spent in these calls", self.call_seconds.clone());
        let objects = self.spool_objects.clone();
        registry.register("spool_objects", "Objects of the lake that wait for Cloud Storage", objects);
        registry.register("spool_bytes", "Bytes of these objects", self.spool_bytes.clone());
        let oldest = self.spool_oldest_seconds.clone();
        registry.register("spool_oldest_seconds", "How long the oldest of them has waited", oldest);
        let conflicts = self.spool_conflicts.clone();
        registry.register("spool_conflicts", "Objects set aside: the bucket has other content there", conflicts);
        let suppressed = self.logging_suppressed.clone();
        registry.register("logging_suppressed", "Entries that a tail of Cloud Logging left out, by reason", suppressed);
        let entries = self.logging_entries.clone();
        registry.register("logging_entries", "Entries of the own log for Cloud Logging, by outcome", entries);
    }
}
