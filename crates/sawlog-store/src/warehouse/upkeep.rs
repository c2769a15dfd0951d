//! Upkeep of Delta tables: swapping files in a commit, and deleting from the disk what no version needs.
//!
//! For: [`TableUpkeep`]. The long part of a merge (reading, sorting, writing) runs beside appends; only its commit takes
//! the table's lock. Not for: choosing files (`sawlog-jobs`).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use deltalake_core::kernel::{Add, Remove};
use futures::TryStreamExt;
use sawlog_seams::upkeep::{Moment, Rewritten, RowRange, Swept, TableUpkeep, VisitRows};

use super::*;

/// Files that one sweep deletes at most: it holds the table's lock meanwhile.
const SWEEP_FILES_MAX: usize = 1_000;
/// How often a commit is tried again that another writer of the table came before.
const COMMIT_TRIES: usize = 3;

#[async_trait]
impl TableUpkeep for DeltaWarehouse {
    async fn rewrite(
        &self,
        table: &str,
        files: &[String],
        memory_bytes_max: u64,
        at: Moment,
    ) -> Result<Rewritten, WarehouseError> {
        self.table(table)?.rewrite(files, memory_bytes_max, at).await
    }

    async fn remove(&self, table: &str, files: &[String], at: Moment) -> Result<u64, WarehouseError> {
        self.table(table)?.remove(files, at).await
    }

    async fn sweep(&self, table: &str, grace: Duration, at: Moment) -> Result<Swept, WarehouseError> {
        self.table(table)?.sweep(grace, at).await
    }

    fn read(&self, table: &str, rows: &RowRange<'_>, visit: &mut VisitRows<'_>) -> Result<(), WarehouseError> {
        let table = self.table(table)?;
        read::read(&table.stored(), &table.root, rows, visit).map_err(|error| table.failed("read", &error))
    }
}

impl OpenTable {
    fn stored(&self) -> Arc<StoredTable> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// The files of the table among `paths`, in the order of `paths`.
    fn present(&self, paths: &[String]) -> Vec<StoredFile> {
        let stored = self.stored();
        let by_path: HashMap<&str, &StoredFile> = stored.files.iter().map(|file| (file.path.as_str(), file)).collect();
        paths.iter().filter_map(|path| by_path.get(path.as_str()).map(|file| (*file).clone())).collect()
    }

    async fn rewrite(&self, paths: &[String], memory_max: u64, at: Moment) -> Result<Rewritten, WarehouseError> {
        let files = self.present(paths);
        let is_one_partition = files.windows(2).all(|pair| pair[0].partition_days == pair[1].partition_days);
        if files.len() < paths.len() || files.len() < 2 || !is_one_partition {
            return Ok(Rewritten::default());
        }
        let (spec, root, inputs) = (self.spec.clone(), self.root.clone(), files.clone());
        let merged = on_own_thread(move || merge::merge(&spec, &root, &inputs, memory_max)).await;
        let merged = merged.map_err(|error| self.failed("merged", &error))?;
        let Some(merged) = merged.map_err(|error| self.failed("merged", &error))? else {
            return Ok(Rewritten::default());
        };
        let taken = &files[..merged.taken];
        let report = Rewritten {
            files_in: taken.len() as u64,
            bytes_in: taken.iter().map(|file| file.bytes).sum(),
            files_out: 1,
            bytes_out: merged.add.size.unsigned_abs(),
            rows: merged.rows,
        };
        let path = self.root.join(&merged.add.path);
        match self.swap(taken, merged.add, at).await {
            Ok(true) => Ok(report),
            Ok(false) => {
                // Another writer took one of the files out: the merged file is of no use.
                let _ = fs::remove_file(path);
                Ok(Rewritten::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Commits `add` in place of `taken`. Returns `false` when they are not all part of the table any more.
    async fn swap(&self, taken: &[StoredFile], mut add: Add, at: Moment) -> Result<bool, WarehouseError> {
        add.data_change = false;
        let paths: Vec<String> = taken.iter().map(|file| file.path.clone()).collect();
        let mut delta = self.delta.lock().await;
        let mut tries = 0;
        loop {
            self.settle(&mut delta).await?;
            if self.stored().files.iter().any(|file| file.path == add.path) {
                return Ok(true); // the try before had succeeded without knowing it
            }
            if self.present(&paths).len() < paths.len() {
                return Ok(false);
            }
            let removes = self.removes(&delta, &paths, false, at)?;
            let mut actions: Vec<Action> = removes.into_iter().map(Action::Remove).collect();
            actions.push(Action::Add(add.clone()));
            let operation = DeltaOperation::Optimize { predicate: None, target_size: add.size };
            tries += 1;
            match self.commit(&mut delta, actions, operation, CommitProperties::default()).await {
                Err(WarehouseError::Backend { problem, .. }) if tries < COMMIT_TRIES => {
                    tracing::info!(table = self.spec.name, problem, "the commit of a merge is tried again");
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        self.note_removed(&paths, at);
        Ok(true)
    }

    async fn remove(&self, paths: &[String], at: Moment) -> Result<u64, WarehouseError> {
        let mut delta = self.delta.lock().await;
        self.settle(&mut delta).await?;
        let paths: Vec<String> = self.present(paths).into_iter().map(|file| file.path).collect();
        if paths.is_empty() {
            return Ok(0);
        }
        let actions = self.removes(&delta, &paths, true, at)?.into_iter().map(Action::Remove).collect();
        let operation = DeltaOperation::Delete { predicate: None };
        self.commit(&mut delta, actions, operation, CommitProperties::default()).await?;
        self.note_removed(&paths, at);
        Ok(paths.len() as u64)
    }

    /// Actions that take all of the files out.
    fn removes(
        &self,
        delta: &DeltaTable,
        paths: &[String],
        data_change: bool,
        at: Moment,
    ) -> Result<Vec<Remove>, WarehouseError> {
        let wanted: HashSet<&str> = paths.iter().map(String::as_str).collect();
        let snapshot = delta.snapshot().map_err(|error| self.failed("read back", &error))?;
        let files = snapshot.log_data();
        let views = files.iter().filter(|view| wanted.contains(view.path().as_ref()));
        let deletion_timestamp = Some(at.wall / 1_000);
        let removes: Vec<Remove> =
            views.map(|view| Remove { deletion_timestamp, ..view.remove_action(data_change) }).collect();
        // Fewer would leave rows in two files.
        assert_eq!(removes.len(), wanted.len(), "every file to take out of {} is in its log", self.spec.name);
        Ok(removes)
    }

    fn note_removed(&self, paths: &[String], at: Moment) {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        removed.extend(paths.iter().map(|path| (path.clone(), at.monotonic)));
    }

    async fn sweep(&self, grace: Duration, at: Moment) -> Result<Swept, WarehouseError> {
        // The lock keeps appends away: a file that is being written is neither part of the table nor an orphan.
        let mut delta = self.delta.lock().await;
        self.settle(&mut delta).await?;
        let cutoff = at.wall / 1_000 - grace.as_millis() as i64;
        let snapshot = delta.snapshot().map_err(|error| self.failed("swept", &error))?;
        let tombstones: HashMap<String, i64> = snapshot
            .all_tombstones(delta.log_store().as_ref())
            .map_ok(|view| (view.path().into_owned(), view.deletion_timestamp().unwrap_or(0)))
            .try_collect()
            .await
            .map_err(|error| self.failed("swept", &error))?;
        let stored = self.stored();
        let active: HashSet<&str> = stored.files.iter().map(|file| file.path.as_str()).collect();
        let mut swept = Swept::default();
        for found in files_below(&self.root).map_err(|error| self.failed("swept", &error))? {
            if active.contains(found.name.as_str()) {
                continue;
            }
            let removed_here = self.removed.lock().unwrap_or_else(PoisonError::into_inner).get(&found.name).copied();
            let is_over = match (removed_here, tombstones.get(&found.name)) {
                // The monotonic clock cannot jump; the wall clock is for what an earlier run took out.
                (Some(since), _) => at.monotonic.saturating_sub(since) >= grace,
                (None, Some(since)) => *since <= cutoff,
                (None, None) => found.modified_millis <= cutoff,
            };
            if !is_over {
                continue;
            }
            match fs::remove_file(&found.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(self.failed("swept", &error)),
                _ => {}
            }
            self.removed.lock().unwrap_or_else(PoisonError::into_inner).remove(&found.name);
            swept.bytes += found.bytes;
            match tombstones.contains_key(&found.name) || removed_here.is_some() {
                true => swept.files += 1,
                false => swept.orphans += 1,
            }
            if let Some(folder) = found.path.parent().filter(|folder| *folder != self.root) {
                // Fails while the folder has files, which is the wish.
                let _ = fs::remove_dir(folder);
            }
            if swept.files + swept.orphans >= SWEEP_FILES_MAX as u64 {
                return Ok(swept);
            }
        }
        swept.log_entries = self.clean_log(&mut delta, cutoff).await?;
        Ok(swept)
    }

    /// Deletes log entries that are older than a checkpoint and than the grace.
    async fn clean_log(&self, delta: &mut DeltaTable, cutoff_millis: i64) -> Result<u64, WarehouseError> {
        let version = delta.snapshot().map_err(|error| self.failed("swept", &error))?.version();
        let store = delta.log_store();
        let cleaned =
            deltalake_core::checkpoints::cleanup_expired_logs_for(version, store.as_ref(), cutoff_millis, None).await;
        let cleaned = cleaned.map_err(|error| self.failed("swept", &error))?;
        if cleaned > 0 {
            // The state in memory must not refer to entries that are gone.
            let fresh = load_or_create(&self.spec, &self.root).await;
            *delta = fresh.map_err(|error| self.failed("read back", &error))?;
        }
        Ok(cleaned as u64)
    }
}

/// Runs a merge on a thread that ends with it. The allocator keeps freed memory for the thread that used it: on the
/// shared pool, where each merge may meet another thread, that added up to several times the budget.
async fn on_own_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> std::io::Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("sawlog-merge".to_owned()).spawn(move || {
        // Nobody waits any more when the job was cancelled.
        let _ = done.send(run());
    })?;
    result.await.map_err(|_| std::io::Error::other("the merging thread panicked"))
}

struct Found {
    path: PathBuf,
    /// Path below the table's folder.
    name: String,
    bytes: u64,
    modified_millis: i64,
}

/// Data files of a table's folder, and what crashes left under staging names.
fn files_below(root: &Path) -> std::io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                folders.push(path);
                continue;
            }
            let is_staged = name.rsplit_once('#').is_some_and(|(_, number)| number.parse::<u64>().is_ok());
            let is_data = name.ends_with(".parquet") && !folder.ends_with(LOG_FOLDER);
            let Ok(below) = path.strip_prefix(root) else { continue };
            let below = below.to_string_lossy().into_owned();
            if is_staged || is_data {
                let metadata = entry.metadata()?;
                let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                let modified_millis = modified.as_millis() as i64;
                found.push(Found { path, name: below, bytes: metadata.len(), modified_millis });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
