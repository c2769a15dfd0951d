//! Metrics of the background jobs.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

type Count = Counter<u64, AtomicU64>;

/// A table, `lake` or `rollups`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SubjectLabels {
    pub(crate) subject: &'static str,
}

/// What kept retention from deleting.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ProblemLabels {
    pub(crate) subject: &'static str,
    pub(crate) problem: &'static str,
}

/// Compaction and deletion of files.
#[derive(Default)]
pub(crate) struct UpkeepMetrics {
    pub(crate) runs: Count,
    pub(crate) failures: Count,
    pub(crate) seconds: Counter<f64, AtomicU64>,
    pub(crate) files_in: Count,
    pub(crate) files_out: Count,
    pub(crate) bytes_in: Count,
    pub(crate) bytes_out: Count,
    pub(crate) swept_files: Count,
    pub(crate) orphans: Count,
    pub(crate) swept_bytes: Count,
    pub(crate) expired_items: Family<SubjectLabels, Count>,
    pub(crate) expired_rows: Family<SubjectLabels, Count>,
    pub(crate) expired_bytes: Family<SubjectLabels, Count>,
    pub(crate) retention_problems: Family<ProblemLabels, Count>,
}

impl UpkeepMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("compaction_runs", "Runs of compaction", self.runs.clone());
        registry.register("compaction_failures", "Merges and deletions that failed", self.failures.clone());
        registry.register("compaction_run_seconds", "Time spent in runs of compaction", self.seconds.clone());
        registry.register("compaction_files_in", "Files that were merged", self.files_in.clone());
        registry.register("compaction_files_out", "Files that took their place", self.files_out.clone());
        registry.register("compaction_in_bytes", "Bytes of files that were merged", self.bytes_in.clone());
        registry.register("compaction_out_bytes", "Bytes of files that took their place", self.bytes_out.clone());
        registry.register("swept_files", "Old files deleted after the grace", self.swept_files.clone());
        registry.register("swept_orphan_files", "Files deleted that no commit had named", self.orphans.clone());
        registry.register("swept_bytes", "Bytes of deleted files", self.swept_bytes.clone());
        let (items, rows) = (self.expired_items.clone(), self.expired_rows.clone());
        registry.register("retention_deleted_items", "Files, objects and cells that retention deleted", items);
        registry.register("retention_deleted_rows", "Rows that retention deleted", rows);
        registry.register("retention_deleted_bytes", "Bytes that retention deleted", self.expired_bytes.clone());
        let problems = self.retention_problems.clone();
        registry.register("retention_problems", "Times that retention refused or failed to delete", problems);
    }
}
