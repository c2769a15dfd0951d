//! Running upkeep beside ingest: merge, show, and delete after a grace.
//!
//! For: one pass over all tables, and the loop that repeats it. Invariant: a file is deleted only when, for the whole
//! grace, no new query could have met it.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sawlog_seams::lake::Lake;
use sawlog_seams::serving::{Family, ServingStore};
use sawlog_seams::upkeep::{Moment, Rewritten, Swept, TableUpkeep};
use sawlog_seams::view::StoreRefresh;
use sawlog_seams::warehouse::{StoredTable, TableSpec, WarehouseError};
use sawlog_seams::{Clock, Disk};
use sawlog_telemetry::Metrics;
use tokio::sync::watch;

use crate::plan::{self, CompactionOptions};
use crate::retention::{RetentionMode, RetentionOptions, RetentionReport};

/// Rounds of one sweep at most; what is left is for the next run.
const SWEEP_ROUNDS_MAX: usize = 100;
/// Rounds of planning in one run at most: merged files may be merged again.
const PLAN_ROUNDS_MAX: usize = 8;

/// Groups that are remembered as fruitless; then all are tried again.
const FRUITLESS_MAX: usize = 1_000;

/// What the jobs work on.
#[derive(Clone)]
pub struct Stores {
    /// The tables.
    pub tables: Arc<dyn TableUpkeep>,
    /// Raw records, if they are kept.
    pub lake: Option<Arc<dyn Lake>>,
    /// Rollups.
    pub serving: Arc<dyn ServingStore>,
    /// Shows queries what changed.
    pub views: Arc<dyn StoreRefresh>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The disk of the tables.
    pub disk: Arc<dyn Disk>,
    /// A folder on it.
    pub folder: PathBuf,
}

/// What runs by itself, and how often; `None` for not at all.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// Time between two runs of compaction.
    pub compaction: Option<Duration>,
    /// Time between two runs of retention, and what it keeps.
    pub retention: Option<(Duration, RetentionOptions)>,
}

/// What one run of compaction did, over all tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Merges.
    pub merged: Rewritten,
    /// Deletions.
    pub swept: Swept,
    /// Calls that failed; the log names them.
    pub failures: u64,
}

/// The jobs of a data folder. One instance for each folder, since a sweep must know of every merge.
pub struct Jobs {
    stores: Stores,
    options: CompactionOptions,
    showing: Mutex<Showing>,
    /// Groups that did not fit into memory: reading them again would be in vain.
    fruitless: Mutex<HashSet<Vec<String>>>,
    /// What the last look at the cells of a family found, and the day on which that was.
    pub(crate) looked_at: Mutex<HashMap<Family, (i64, RetentionReport)>>,
    /// One run at a time.
    turn: tokio::sync::Mutex<()>,
}

/// Whether queries see the tables as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Showing {
    /// A change that queries could not be shown yet.
    is_behind: bool,
    /// When queries were last shown a change late, monotonic: files from before must wait from then.
    caught_up: Option<Duration>,
}

impl Jobs {
    /// Makes the jobs; nothing runs yet.
    #[must_use]
    pub fn new(stores: Stores, options: CompactionOptions) -> Self {
        Self {
            stores,
            options,
            showing: Mutex::default(),
            fruitless: Mutex::default(),
            looked_at: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Merges small files of every table and deletes what the grace is over for.
    pub async fn compact(&self) -> CompactionReport {
        self.compact_with(&self.options).await
    }

    /// Merges also what is young and what belongs to a growing partition: for a person who asks for it.
    pub async fn compact_all(&self) -> CompactionReport {
        self.compact_with(&CompactionOptions { age_min: Duration::ZERO, quiet: Duration::ZERO, ..self.options }).await
    }

    /// Runs what the schedule says until told to stop. Cancel: a merge that is cut off leaves an orphan for a later
    /// sweep, a deletion is done as a whole or not at all.
    pub async fn run(&self, schedule: Schedule, mut stopped: watch::Receiver<bool>) {
        let clock = &self.stores.clock;
        let (mut compacted, mut expired) = (clock.monotonic(), clock.monotonic());
        let tick =
            schedule.compaction.into_iter().chain(schedule.retention.as_ref().map(|(interval, _)| *interval)).min();
        let Some(tick) = tick else { return };
        let work = async {
            loop {
                tokio::time::sleep(tick).await;
                let is_due = |since: Duration, interval: Duration| clock.monotonic().saturating_sub(since) >= interval;
                if let Some((interval, options)) = &schedule.retention
                    && is_due(expired, *interval)
                {
                    expired = clock.monotonic();
                    self.expire(options, RetentionMode::Careful).await;
                }
                match schedule.compaction {
                    Some(interval) if is_due(compacted, interval) => {
                        compacted = clock.monotonic();
                        log_merges(self.compact().await.merged);
                    }
                    Some(_) => {}
                    // Deleted rows leave files behind even where nothing is merged.
                    None => self.sweep_and_count().await,
                }
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = work => {}
        }
    }

    pub(crate) fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Waits until no other job runs.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    async fn compact_with(&self, options: &CompactionOptions) -> CompactionReport {
        let _turn = self.turn.lock().await;
        let started = self.stores.clock.monotonic();
        let mut report = CompactionReport::default();
        let has_room = self.has_room(options);
        for spec in TableSpec::all().into_iter().filter(|_| has_room) {
            if let Err(error) = self.compact_table(spec.name, options, &mut report.merged).await {
                tracing::warn!(table = spec.name, %error, "merging files failed; it is tried again");
                report.failures += 1;
            }
        }
        match self.sweep().await {
            Ok(swept) => report.swept = swept,
            Err(error) => {
                tracing::warn!(%error, "deleting old files failed; it is tried again");
                report.failures += 1;
            }
        }
        self.count_swept(&report.swept);
        let seconds = self.stores.clock.monotonic().saturating_sub(started).as_secs_f64();
        let merged = report.merged;
        self.stores.metrics.add_compaction(merged.files_in, merged.files_out, merged.bytes_in, merged.bytes_out);
        self.stores.metrics.add_compaction_run(seconds, report.failures);
        report
    }

    /// Whether merges leave the space that ingest needs: old files stay beside new ones for the grace.
    fn has_room(&self, options: &CompactionOptions) -> bool {
        let needed = options.disk_free_min.saturating_add(options.file_bytes);
        let free = self.stores.disk.free_bytes(&self.stores.folder).unwrap_or(u64::MAX);
        if free < needed {
            tracing::warn!(free, needed, "the disk is nearly full: files are not merged, old ones are still deleted");
        }
        free >= needed
    }

    async fn compact_table(
        &self,
        table: &str,
        options: &CompactionOptions,
        total: &mut Rewritten,
    ) -> Result<(), WarehouseError> {
        for _round in 0..PLAN_ROUNDS_MAX {
            let stored: Arc<StoredTable> = self.stores.tables.stored(table)?;
            let groups = plan::groups(&stored, options, self.stores.clock.now_micros());
            drop(stored);
            let mut has_merged = false;
            for group in groups {
                if self.fruitless().contains(&group) {
                    continue;
                }
                let at = Moment::now(self.stores.clock.as_ref());
                let done = self.stores.tables.rewrite(table, &group, options.memory_bytes_max, at).await?;
                if done.files_in > 0 {
                    has_merged = true;
                    self.show().await;
                } else {
                    self.note_fruitless(group);
                }
                total.files_in += done.files_in;
                total.bytes_in += done.bytes_in;
                total.files_out += done.files_out;
                total.bytes_out += done.bytes_out;
                total.rows += done.rows;
            }
            if !has_merged {
                break;
            }
        }
        Ok(())
    }

    fn fruitless(&self) -> MutexGuard<'_, HashSet<Vec<String>>> {
        self.fruitless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_fruitless(&self, group: Vec<String>) {
        let mut fruitless = self.fruitless();
        if fruitless.len() >= FRUITLESS_MAX {
            fruitless.clear();
        }
        fruitless.insert(group);
    }

    /// Shows queries the tables as they are. When that has to wait, files must wait too.
    pub(crate) async fn show(&self) {
        let is_shown = self.stores.views.refresh_stored().await;
        let mut showing = self.showing.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_shown {
            showing.is_behind = true;
        } else if showing.is_behind {
            *showing = Showing { is_behind: false, caught_up: Some(self.stores.clock.monotonic()) };
        }
    }

    async fn sweep(&self) -> Result<Swept, WarehouseError> {
        if self.is_behind() {
            self.show().await;
        }
        let showing = *self.showing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.stores.clock.monotonic();
        let is_waiting = showing.caught_up.is_some_and(|since| now.saturating_sub(since) < self.options.grace);
        let mut total = Swept::default();
        if showing.is_behind || is_waiting {
            return Ok(total);
        }
        for spec in TableSpec::all() {
            for _round in 0..SWEEP_ROUNDS_MAX {
                let at = Moment::now(self.stores.clock.as_ref());
                let swept = self.stores.tables.sweep(spec.name, self.options.grace, at).await?;
                total.files += swept.files;
                total.orphans += swept.orphans;
                total.bytes += swept.bytes;
                total.log_entries += swept.log_entries;
                if swept.files + swept.orphans == 0 {
                    break;
                }
            }
        }
        if total.orphans > 0 {
            tracing::info!(files = total.orphans, "deleted files that a crash or a failure had left behind");
        }
        Ok(total)
    }

    async fn sweep_and_count(&self) {
        let _turn = self.turn.lock().await;
        match self.sweep().await {
            Ok(swept) => self.count_swept(&swept),
            Err(error) => tracing::warn!(%error, "deleting old files failed; it is tried again"),
        }
    }

    fn count_swept(&self, swept: &Swept) {
        self.stores.metrics.add_swept(swept.files, swept.orphans, swept.bytes);
    }

    fn is_behind(&self) -> bool {
        self.showing.lock().unwrap_or_else(PoisonError::into_inner).is_behind
    }
}

fn log_merges(merged: Rewritten) {
    if merged.files_in > 0 {
        let (files_in, files_out, bytes) = (merged.files_in, merged.files_out, merged.bytes_out);
        tracing::info!(files_in, files_out, bytes, "merged small files");
    }
}

#[cfg(test)]
mod tests;
