//! The metrics that `/metrics` shows.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sawlog_core::ledger::{Counts, Outcome};

use crate::cloud::{CallLabels, CloudMetrics, LogEntryLabels, LogEntryOutcome, RowLabels, SuppressedLabels};
use crate::pubsub::PubsubMetrics;
use crate::upkeep::{ProblemLabels, SubjectLabels, UpkeepMetrics};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecordLabels {
    source: String,
    outcome: &'static str,
}

/// Why a syslog message, or a connection with all of its messages, was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum SyslogRefusal {
    /// No room in the queue, and the sender cannot be made to wait.
    QueueFull,
    /// Larger than allowed.
    Oversize,
    /// Too many connections.
    ConnectionLimit,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SyslogLabels {
    source: &'static str,
    reason: SyslogRefusal,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuantileLabels {
    quantile: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlertLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RollupLabels {
    rollup: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EnrichmentLabels {
    table: String,
    outcome: &'static str,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    records: Family<RecordLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    syslog_refusals: Family<SyslogLabels, Counter>,
    acknowledge_seconds: Histogram,
    query_seconds: Histogram,
    wal_records: Counter<u64, AtomicU64>,
    wal_bytes: Counter<u64, AtomicU64>,
    wal_syncs: Counter<u64, AtomicU64>,
    wal_segments: Gauge<i64, AtomicI64>,
    wal_quarantined_records: Counter<u64, AtomicU64>,
    wal_quarantined_bytes: Counter<u64, AtomicU64>,
    wal_missing_bytes: Counter<u64, AtomicU64>,
    memory_bytes: Gauge<i64, AtomicI64>,
    dedup_ids: Gauge<i64, AtomicI64>,
    dedup_filter_bytes: Gauge<i64, AtomicI64>,
    dedup_evicted: Counter<u64, AtomicU64>,
    watermark_seconds: Gauge<i64, AtomicI64>,
    rollup_series: Family<RollupLabels, Gauge<i64, AtomicI64>>,
    rollup_other_events: Family<RollupLabels, Counter>,
    on_time_delay_seconds: Family<QuantileLabels, Gauge<f64, AtomicU64>>,
    anomaly_series: Gauge<i64, AtomicI64>,
    anomaly_refused: Counter<u64, AtomicU64>,
    alerts: Family<AlertLabels, Gauge<i64, AtomicI64>>,
    alert_refused: Counter<u64, AtomicU64>,
    alert_state_bytes: Gauge<i64, AtomicI64>,
    rules_reloads: Family<ReloadLabels, Counter>,
    enrichment: Family<EnrichmentLabels, Counter>,
    upkeep: UpkeepMetrics,
    cloud: CloudMetrics,
    pub(crate) pubsub: PubsubMetrics,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        // 0.5 ms … 16 s in doubling steps.
        let latency = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let mut metrics = Self {
            registry: Registry::with_prefix("sawlog"),
            records: Family::default(),
            requests: Family::default(),
            syslog_refusals: Family::default(),
            acknowledge_seconds: latency(),
            query_seconds: latency(),
            wal_records: Counter::default(),
            wal_bytes: Counter::default(),
            wal_syncs: Counter::default(),
            wal_segments: Gauge::default(),
            wal_quarantined_records: Counter::default(),
            wal_quarantined_bytes: Counter::default(),
            wal_missing_bytes: Counter::default(),
            memory_bytes: Gauge::default(),
            dedup_ids: Gauge::default(),
            dedup_filter_bytes: Gauge::default(),
            dedup_evicted: Counter::default(),
            watermark_seconds: Gauge::default(),
            rollup_series: Family::default(),
            rollup_other_events: Family::default(),
            on_time_delay_seconds: Family::default(),
            anomaly_series: Gauge::default(),
            anomaly_refused: Counter::default(),
            alerts: Family::default(),
            alert_refused: Counter::default(),
            alert_state_bytes: Gauge::default(),
            rules_reloads: Family::default(),
            enrichment: Family::default(),
            upkeep: UpkeepMetrics::default(),
            cloud: CloudMetrics::default(),
            pubsub: PubsubMetrics::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("ingest_records", "Records by source and outcome", metrics.records.clone());
        registry.register("http_requests", "HTTP requests by route and status", metrics.requests.clone());
        let refusals = metrics.syslog_refusals.clone();
        registry.register("syslog_refused", "Syslog messages and connections that were not taken, by reason", refusals);
        let acknowledge = metrics.acknowledge_seconds.clone();
        registry.register("ingest_acknowledge_seconds", "Time from a whole body to its acknowledgement", acknowledge);
        registry.register("query_seconds", "Run time of queries", metrics.query_seconds.clone());
        registry.register("wal_records", "Records appended to the event log", metrics.wal_records.clone());
        registry.register("wal_appended_bytes", "Bytes appended to the event log", metrics.wal_bytes.clone());
        registry.register("wal_syncs", "Syncs of the event log", metrics.wal_syncs.clone());
        registry.register("wal_segments", "Files of the event log", metrics.wal_segments.clone());
        metrics.register_damage();
        let registry = &mut metrics.registry;
        let reloads = metrics.rules_reloads.clone();
        registry.register("rules_reloads", "Changed rules by whether they were taken over", reloads);
        let enrichment = metrics.enrichment.clone();
        registry.register("enrichment", "Users looked up, by table and by whether it has them", enrichment);
        metrics.upkeep.register(registry);
        metrics.cloud.register(registry);
        metrics.pubsub.register(registry);
        let hot = metrics.memory_bytes.clone();
        registry.register("hot_bytes", "Memory of what is not in files yet, and of what alert rules keep", hot);
        registry.register("dedup_ids", "Ids in the store within the dedup window", metrics.dedup_ids.clone());
        let filter = metrics.dedup_filter_bytes.clone();
        registry.register("dedup_filter_bytes", "Memory of the filter before the ids in the store", filter);
        let evicted = metrics.dedup_evicted.clone();
        registry.register("dedup_evicted_ids", "Ids given up before the dedup window's end for want of room", evicted);
        metrics.register_stream();
        metrics
    }
}

impl Metrics {
    fn register_stream(&mut self) {
        let registry = &mut self.registry;
        let watermark = self.watermark_seconds.clone();
        registry.register(
            "watermark_seconds",
            "Event time up to which windows are complete, since the epoch",
            watermark,
        );
        registry.register(
            "rollup_series",
            "Series that are counted on their own, by rollup",
            self.rollup_series.clone(),
        );
        let others = self.rollup_other_events.clone();
        registry.register(
            "rollup_other_events",
            "Events counted under __other__ for want of places, by rollup",
            others,
        );
        let delay = self.on_time_delay_seconds.clone();
        registry.register(
            "on_time_delay_seconds",
            "From the watermark passing a window's end to its pane on time, since the start, by quantile",
            delay,
        );
        registry.register("anomaly_series", "Series that are watched for anomalies", self.anomaly_series.clone());
        let refused = self.anomaly_refused.clone();
        registry.register(
            "anomaly_refused_values",
            "Values of series that were not watched for want of places",
            refused,
        );
        registry.register("alerts", "Groups of alert rules by state", self.alerts.clone());
        let refused = self.alert_refused.clone();
        registry.register("alert_refused_values", "Values of groups for which alert rules had no room", refused);
        let state = self.alert_state_bytes.clone();
        registry.register("alert_state_bytes", "Memory of windows that alert rules keep for late data", state);
    }

    fn register_damage(&mut self) {
        let registry = &mut self.registry;
        let records = self.wal_quarantined_records.clone();
        registry.register("wal_quarantined_records", "Damaged places of the event log found at start", records);
        registry.register("wal_quarantined_bytes", "Their bytes", self.wal_quarantined_bytes.clone());
        let missing = self.wal_missing_bytes.clone();
        registry.register("wal_missing_bytes", "Bytes of the event log that were not there at start", missing);
    }

    /// Counts records by what became of them.
    pub fn add_records(&self, source: &str, counts: &Counts) {
        for outcome in Outcome::ALL {
            let records = counts.of(outcome);
            if records > 0 {
                let labels = RecordLabels { source: source.to_owned(), outcome: outcome.name() };
                self.records.get_or_create(&labels).inc_by(records);
            }
        }
    }

    /// Counts rows of an append to BigQuery: appended ones, and those that it refused.
    pub fn add_bigquery_rows(&self, table: &'static str, appended: u64, refused: u64) {
        for (outcome, rows) in [("appended", appended), ("refused", refused)] {
            self.cloud.bigquery_rows.get_or_create(&RowLabels { table, outcome }).inc_by(rows);
        }
    }

    /// Takes over how often a call of a service of Google Cloud ended in a way, and how long that took, seconds.
    pub fn set_cloud_calls(
        &self,
        service: &'static str,
        call: &'static str,
        outcome: &'static str,
        count: u64,
        seconds: f64,
    ) {
        let labels = CallLabels { service, call, outcome };
        raise(&self.cloud.calls.get_or_create(&labels), count);
        let total = self.cloud.call_seconds.get_or_create(&labels);
        total.inc_by((seconds - total.get()).max(0.0));
    }

    /// Counts one call to a service and how long it took, for callers that keep no counts.
    pub fn add_cloud_call(&self, service: &'static str, call: &'static str, outcome: &'static str, seconds: f64) {
        let labels = CallLabels { service, call, outcome };
        self.cloud.calls.get_or_create(&labels).inc();
        self.cloud.call_seconds.get_or_create(&labels).inc_by(seconds);
    }

    /// Takes over what waits for Cloud Storage: objects, bytes, age of the oldest in seconds, and objects set aside.
    pub fn set_spool(&self, objects: usize, bytes: u64, oldest_seconds: u64, conflicts: usize) {
        self.cloud.spool_objects.set(objects as i64);
        self.cloud.spool_bytes.set(bytes as i64);
        self.cloud.spool_oldest_seconds.set(oldest_seconds as i64);
        self.cloud.spool_conflicts.set(conflicts as i64);
    }

    /// Counts one HTTP request. The route is a template, never a path as sent.
    pub fn add_request(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    /// Counts a syslog message or connection that was not taken.
    pub fn add_syslog_refusal(&self, source: &'static str, reason: SyslogRefusal) {
        self.syslog_refusals.get_or_create(&SyslogLabels { source, reason }).inc();
    }

    /// Counts entries that a tail of Cloud Logging left out; reasons are those of its protocol.
    pub fn add_suppressed(&self, source: &str, reason: &str, entries: u64) {
        let labels = SuppressedLabels { source: source.to_owned(), reason: reason.to_owned() };
        self.cloud.logging_suppressed.get_or_create(&labels).inc_by(entries);
    }

    /// Counts entries of the own log for Cloud Logging.
    pub fn add_log_entries(&self, outcome: LogEntryOutcome, entries: u64) {
        self.cloud.logging_entries.get_or_create(&LogEntryLabels { outcome: outcome.name() }).inc_by(entries);
    }

    /// Notes how long an acknowledgement took, seconds.
    pub fn observe_acknowledge(&self, seconds: f64) {
        self.acknowledge_seconds.observe(seconds);
    }

    /// Notes how long a query ran, seconds.
    pub fn observe_query(&self, seconds: f64) {
        self.query_seconds.observe(seconds);
    }

    /// Takes over the event log's own counters.
    pub fn set_log(&self, records: u64, bytes: u64, syncs: u64, segments: usize) {
        raise(&self.wal_records, records);
        raise(&self.wal_bytes, bytes);
        raise(&self.wal_syncs, syncs);
        self.wal_segments.set(segments as i64);
    }

    /// Counts acknowledged records that opening the event log found damaged, and bytes that it did not find.
    pub fn add_log_losses(&self, quarantined_records: u64, quarantined_bytes: u64, missing_bytes: u64) {
        self.wal_quarantined_records.inc_by(quarantined_records);
        self.wal_quarantined_bytes.inc_by(quarantined_bytes);
        self.wal_missing_bytes.inc_by(missing_bytes);
    }

    /// Counts merged files.
    pub fn add_compaction(&self, files_in: u64, files_out: u64, bytes_in: u64, bytes_out: u64) {
        let upkeep = &self.upkeep;
        upkeep.files_in.inc_by(files_in);
        upkeep.files_out.inc_by(files_out);
        upkeep.bytes_in.inc_by(bytes_in);
        upkeep.bytes_out.inc_by(bytes_out);
    }

    /// Counts a run of compaction.
    pub fn add_compaction_run(&self, seconds: f64, failures: u64) {
        self.upkeep.runs.inc();
        self.upkeep.seconds.inc_by(seconds);
        self.upkeep.failures.inc_by(failures);
    }

    /// Counts files deleted from the disk.
    pub fn add_swept(&self, files: u64, orphans: u64, bytes: u64) {
        self.upkeep.swept_files.inc_by(files);
        self.upkeep.orphans.inc_by(orphans);
        self.upkeep.swept_bytes.inc_by(bytes);
    }

    /// Counts what retention deleted from a table, the lake or the rollups.
    pub fn add_expired(&self, subject: &'static str, items: u64, rows: u64, bytes: u64) {
        let labels = SubjectLabels { subject };
        self.upkeep.expired_items.get_or_create(&labels).inc_by(items);
        self.upkeep.expired_rows.get_or_create(&labels).inc_by(rows);
        self.upkeep.expired_bytes.get_or_create(&labels).inc_by(bytes);
    }

    /// Counts that retention was `refused` or `failed`.
    pub fn add_retention_problem(&self, subject: &'static str, problem: &'static str) {
        self.upkeep.retention_problems.get_or_create(&ProblemLabels { subject, problem }).inc();
    }

    /// Sets the memory of what is not in files yet, and of what alert rules keep.
    pub fn set_hot_bytes(&self, bytes: usize) {
        self.memory_bytes.set(bytes as i64);
    }

    /// Takes over what dedup remembers and gave up.
    pub fn set_dedup(&self, ids: u64, filter_bytes: u64, evicted: u64) {
        self.dedup_ids.set(ids as i64);
        self.dedup_filter_bytes.set(filter_bytes as i64);
        raise(&self.dedup_evicted, evicted);
    }

    /// Takes over how long panes on time take after the watermark, seconds.
    pub fn set_on_time_delay(&self, quantile: &'static str, seconds: f64) {
        self.on_time_delay_seconds.get_or_create(&QuantileLabels { quantile }).set(seconds);
    }

    /// Takes over how many series are watched, how many values were refused, and how many groups of alert rules are in
    /// each state.
    pub fn set_verdicts(&self, series: u64, refused: u64, pending: usize, firing: usize) {
        self.anomaly_series.set(series as i64);
        raise(&self.anomaly_refused, refused);
        for (state, count) in [("pending", pending), ("firing", firing)] {
            self.alerts.get_or_create(&AlertLabels { state }).set(count as i64);
        }
    }

    /// Takes over how many values alert rules had no room for, and the memory of what they keep.
    pub fn set_alert_state(&self, refused: u64, bytes: usize) {
        raise(&self.alert_refused, refused);
        self.alert_state_bytes.set(bytes as i64);
    }

    /// Takes over the watermark of all sources, seconds since the epoch.
    pub fn set_watermark(&self, seconds: i64) {
        self.watermark_seconds.set(seconds);
    }

    /// Takes over how many series a rollup has, and how many events came beyond its limit.
    pub fn set_rollup(&self, rollup: &'static str, series: usize, other_events: u64) {
        let labels = RollupLabels { rollup };
        self.rollup_series.get_or_create(&labels).set(series as i64);
        raise(&self.rollup_other_events.get_or_create(&labels), other_events);
    }

    /// Takes over how often a table of users was asked, and how often it had the user and had not.
    pub fn set_enrichment(&self, table: &str, matches: u64, misses: u64) {
        for (outcome, count) in [("match", matches), ("miss", misses)] {
            raise(&self.enrichment.get_or_create(&EnrichmentLabels { table: table.to_owned(), outcome }), count);
        }
    }

    /// Counts a change of the rules that was taken over or refused.
    pub fn count_rules_reload(&self, is_taken: bool) {
        let result = if is_taken { "ok" } else { "error" };
        self.rules_reloads.get_or_create(&ReloadLabels { result }).inc();
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}

/// Brings a counter to where another one is that it shows.
fn raise(counter: &Counter<u64, AtomicU64>, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_unit_and_labels() {
        let metrics = Metrics::default();
        metrics.add_records("http", &Counts { received: 3, dead_lettered: 3, ..Counts::default() });
        metrics.set_log(5, 100, 2, 1);
        metrics.set_log(5, 100, 2, 1);
        metrics.set_enrichment("crm", 2, 1);
        metrics.set_enrichment("crm", 5, 1);
        let text = metrics.to_text();
        assert!(text.contains("sawlog_ingest_records_total{source=\"http\",outcome=\"dead_lettered\"} 3"), "{text}");
        assert!(text.contains("sawlog_wal_records_total 5"), "{text}");
        assert!(text.contains("sawlog_enrichment_total{table=\"crm\",outcome=\"match\"} 5"), "{text}");
        assert!(text.contains("sawlog_enrichment_total{table=\"crm\",outcome=\"miss\"} 1"), "{text}");
    }
}
