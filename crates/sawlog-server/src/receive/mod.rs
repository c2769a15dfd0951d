//! Receiving events: HTTP JSON, Elasticsearch's bulk protocol, OTLP and syslog.

pub mod body;
pub(crate) mod elastic;
pub(crate) mod events;
pub mod otlp;
pub mod syslog;

use sawlog_core::ledger::Counts;
use sawlog_telemetry::{Metrics, Outcome};

/// Adds a receipt's counts to the metrics.
fn count(metrics: &Metrics, source: &str, counts: Counts) {
    for (outcome, records) in [
        (Outcome::Stored, counts.stored),
        (Outcome::Duplicate, counts.duplicate),
        (Outcome::Filtered, counts.filtered),
        (Outcome::DeadLettered, counts.dead_lettered),
        (Outcome::Rejected, counts.rejected),
    ] {
        metrics.add_records(source, outcome, records);
    }
}
