//! The serving store of a worker: its own copy, and Bigtable before it.
//!
//! For: flushes that other processes and the next worker see. Invariants: the copy never has what Bigtable lacks; a flush
//! counts for all readers in one step, that of the position row. Order of a flush: cells, position row, copy; then marks of
//! deletions that no reader needs any more go. A failure anywhere is repeated by the pipeline and writes the same.
//! Not for: reading Bigtable ([`super::BigtableSnapshot`]): the worker asks its copy.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sawlog_seams::Position;
use sawlog_seams::serving::{Cell, Family, Mutation, ServingError, ServingSnapshot, ServingStore, VisitCell};

use super::cells::{self, Tombstone};
use super::client::Bigtable;
use super::error::BigtableError;
use super::owner::{self, Owned};
use super::position::Progress;

/// What keys of the copy begin with that are notes of this module. They are in no view of the cells.
pub(super) const OWN_KEYS: &[u8] = b"\xffbigtable/";
/// Note that the copy is being made anew and is not finished.
pub(super) const RESTORING_KEY: &[u8] = b"\xffbigtable/restoring";
/// Marks of deletions that are remembered. More are left for [`BigtableServing::sweep`].
const TOMBSTONES_MAX: usize = 2_000_000;
/// Those of them that one sweep adds.
const SWEPT_MAX: usize = TOMBSTONES_MAX / 2;
const WRITING: &str = "writing";

/// Cells in Bigtable, with a copy that answers reads.
pub struct BigtableServing {
    bigtable: Arc<Bigtable>,
    local: Arc<dyn ServingStore>,
    /// Held by what writes.
    writing: Mutex<Writing>,
}

struct Writing {
    /// What the position row says.
    progress: Option<Progress>,
    worker: String,
    owner: String,
    /// Marks of deletions with the number of the flush that wrote them, oldest first.
    tombstones: VecDeque<(u64, Vec<Tombstone>)>,
}

impl BigtableServing {
    /// Opens the store. Tables without a position row get the cells of the copy, if it has some; a copy that lacks what the
    /// tables have gets it: the last flush, or everything. The latter reads both tables once. Blocks.
    ///
    /// # Errors
    /// When copy and tables are not of one worker, the tables are missing ([`Bigtable::ensure_tables`]), or a store fails.
    pub fn open(bigtable: Arc<Bigtable>, local: Arc<dyn ServingStore>) -> Result<Self, BigtableError> {
        let is_unfinished = local.snapshot().get(Family::StreamState, RESTORING_KEY)?.is_some();
        let Owned { progress, worker, owner } = owner::take(&bigtable, local.as_ref(), is_unfinished)?;
        let writing = Writing { progress, worker, owner, tombstones: VecDeque::new() };
        let store = Self { bigtable, local, writing: Mutex::new(writing) };
        store.bring_together(is_unfinished)?;
        Ok(store)
    }

    fn bring_together(&self, is_unfinished: bool) -> Result<(), BigtableError> {
        let mut writing = self.writing();
        let applied = self.local.applied();
        let Some(progress) = writing.progress.clone() else {
            // A first flush that never ended may have left cells.
            self.bigtable.look(Position(0), None)?;
            if applied > Position(0) {
                tracing::info!(%applied, "writing all cells to Bigtable");
                self.bigtable.seed(self.local.as_ref())?;
                self.advance(&mut writing, applied)?;
            }
            return Ok(());
        };
        if applied == progress.position && !is_unfinished {
            return Ok(());
        }
        if applied == progress.before && applied > Position(0) && !is_unfinished {
            return self.bigtable.restore_last(self.local.as_ref(), &progress);
        }
        tracing::info!(position = %progress.position, "restoring all cells from Bigtable");
        let found = self.bigtable.restore_all(self.local.as_ref(), &progress)?;
        writing.tombstones.push_back((progress.flushes, found.tombstones));
        Ok(())
    }

    /// Finds the marks of deletions that processes which ended have left, to be removed with those of later flushes.
    /// Returns how many there are; of very many a part is removed after each sweep. Reads both tables once while flushes go on;
    /// for upkeep, seldom. Blocks.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn sweep(&self) -> Result<usize, BigtableError> {
        let Some(progress) = self.writing().progress.clone() else { return Ok(0) };
        let mut found = self.bigtable.tombstones(progress.position)?;
        let count = found.len();
        // The others stay for the next sweep: more than are remembered would all be forgotten.
        found.truncate(SWEPT_MAX);
        let mut writing = self.writing();
        let flushes = writing.progress.as_ref().map_or(0, |progress| progress.flushes);
        // Removing one twice changes nothing.
        writing.tombstones.push_back((flushes, found));
        Ok(count)
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what was written up to a position count.
    fn advance(&self, writing: &mut Writing, position: Position) -> Result<(), BigtableError> {
        let from = writing.progress.clone();
        let (worker, owner) = (writing.worker.clone(), writing.owner.clone());
        let to = from.clone().unwrap_or(Progress { worker, owner, ..Progress::default() }).next(position);
        let (now, then) = (from, to.clone());
        self.bigtable.run(|client| async move { client.advance(now, then).await })?;
        writing.progress = Some(to);
        Ok(())
    }

    fn apply_both(&self, mutations: Vec<Mutation>, position: Position) -> Result<(), BigtableError> {
        let mut writing = self.writing();
        let applied = self.local.applied();
        if position <= applied {
            return Ok(());
        }
        let written = writing.progress.as_ref().map_or(applied, |progress| progress.position);
        if written > applied && written != position {
            let problem = format!("the flush up to {written} must be repeated before that up to {position}");
            return Err(ServingError::backend(WRITING, problem).into());
        }
        let mut tombstones = Vec::new();
        let mut changes = Vec::new();
        let snapshot = self.local.snapshot();
        // The last mutation of a cell counts.
        let last: BTreeMap<_, _> = mutations.iter().map(|cell| ((cell.family, &cell.key), &cell.value)).collect();
        for ((family, key), value) in last {
            let before = if value.is_none() { snapshot.get(family, key)? } else { None };
            let (change, tombstone) = cells::write(family, key, value.clone(), before.as_deref(), position.0)?;
            changes.push(change);
            tombstones.extend(tombstone);
        }
        self.bigtable.write(changes)?;
        if written != position {
            self.advance(&mut writing, position)?;
        }
        self.local.apply(mutations, position)?;
        let flushes = writing.progress.as_ref().map_or(0, |progress| progress.flushes);
        writing.tombstones.push_back((flushes, tombstones));
        self.purge(&mut writing);
        Ok(())
    }

    /// Removes the marks of deletions that no snapshot needs any more. One that stays takes room and nothing else.
    fn purge(&self, writing: &mut Writing) {
        let flushes = writing.progress.as_ref().map_or(0, |progress| progress.flushes);
        let covered = u64::from(self.bigtable.client.options.versions.saturating_sub(2));
        while let Some((_, tombstones)) = writing.tombstones.front().filter(|(of, _)| of + covered <= flushes) {
            let changes = tombstones.iter().map(cells::purge).collect();
            if let Err(error) = self.bigtable.write(changes) {
                tracing::warn!(%error, "marks of deletions in Bigtable stay until the next flush");
                break;
            }
            writing.tombstones.pop_front();
        }
        let mut count: usize = writing.tombstones.iter().map(|(_, tombstones)| tombstones.len()).sum();
        while count > TOMBSTONES_MAX
            && let Some((_, tombstones)) = writing.tombstones.pop_front()
        {
            count -= tombstones.len();
            tracing::warn!(marks = tombstones.len(), "marks of deletions in Bigtable stay until the next sweep");
        }
    }

    fn delete_both(&self, family: Family, cells: Vec<Cell>) -> Result<(), BigtableError> {
        let _turn = self.writing();
        let snapshot = self.local.snapshot();
        let mut unchanged = Vec::new();
        for (key, seen) in cells {
            if snapshot.get(family, &key)?.is_some_and(|found| found == seen) {
                unchanged.push((key, seen));
            }
        }
        self.bigtable.write(unchanged.iter().map(|(key, _)| cells::erase(family, key)).collect())?;
        Ok(self.local.delete_unchanged(family, unchanged)?)
    }

    fn note_both(&self, family: Family, (key, value): Cell) -> Result<(), BigtableError> {
        let writing = self.writing();
        let position = writing.progress.as_ref().map_or(Position(0), |progress| progress.position);
        self.bigtable.write(vec![cells::overwrite(family, &key, value.clone(), position.0)?])?;
        Ok(self.local.note(family, (key, value))?)
    }
}

impl ServingStore for BigtableServing {
    fn apply(&self, mutations: Vec<Mutation>, position: Position) -> Result<(), ServingError> {
        self.apply_both(mutations, position).map_err(|error| error.of_serving(WRITING))
    }

    fn applied(&self) -> Position {
        self.local.applied()
    }

    fn snapshot(&self) -> Arc<dyn ServingSnapshot> {
        Arc::new(CopySnapshot(self.local.snapshot()))
    }

    fn delete_unchanged(&self, family: Family, cells: Vec<Cell>) -> Result<(), ServingError> {
        self.delete_both(family, cells).map_err(|error| error.of_serving("deleting from"))
    }

    fn note(&self, family: Family, cell: Cell) -> Result<(), ServingError> {
        self.note_both(family, cell).map_err(|error| error.of_serving(WRITING))
    }
}

/// The copy without this module's notes.
struct CopySnapshot(Arc<dyn ServingSnapshot>);

impl ServingSnapshot for CopySnapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ServingError> {
        if key.starts_with(OWN_KEYS) { Ok(None) } else { self.0.get(family, key) }
    }

    fn scan_each(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut VisitCell<'_>,
    ) -> Result<(), ServingError> {
        self.0.scan_each(family, start, end, &mut |key, value| match key.starts_with(OWN_KEYS) {
            true => ControlFlow::Continue(()),
            false => visit(key, value),
        })
    }
}
