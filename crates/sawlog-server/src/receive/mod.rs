//! Receiving events: HTTP JSON, Elasticsearch's bulk protocol, OTLP, pushes of Pub/Sub and syslog.

pub mod body;
pub(crate) mod elastic;
pub(crate) mod events;
pub mod otlp;
pub mod push;
pub mod syslog;

use sawlog_core::ledger::Counts;
use sawlog_stream::Pipeline;
use sawlog_telemetry::Metrics;

/// Counts records that were refused before anything was kept, in the ledger and in the metrics.
pub fn reject(pipeline: &Pipeline, metrics: &Metrics, source: &str, records: u64) {
    if records > 0 {
        pipeline.note_rejected(source, records);
        metrics.add_records(source, &Counts::rejected(records));
    }
}
