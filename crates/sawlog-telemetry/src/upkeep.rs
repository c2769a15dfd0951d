//! Metrics of the background jobs.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

type Count = Counter<u64, AtomicU64>;

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
    }
}
