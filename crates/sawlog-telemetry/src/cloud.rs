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

/// What services took.
#[derive(Default)]
pub(crate) struct CloudMetrics {
    pub(crate) bigquery_rows: Family<RowLabels, Count>,
}

impl CloudMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("bigquery_rows", "Rows that BigQuery took or refused", self.bigquery_rows.clone());
    }
}
