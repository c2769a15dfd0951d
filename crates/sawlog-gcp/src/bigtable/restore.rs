//! The local copy out of Bigtable, and Bigtable out of a local copy.
//!
//! For: a worker whose disk is new, one that stopped within a flush, and one that begins to use Bigtable. Invariants: after
//! it the copy has exactly the cells of the position row; a copy that was not finished is made anew. Not for: repeating
//! flushes, which the pipeline does.

use std::ops::ControlFlow;

use sawlog_core::bigtable::{BigtableTable, key_of_row};
use sawlog_seams::Position;
use sawlog_seams::serving::{Family, Mutation, ServingError, ServingStore};

use super::cells::{RowChange, Seen, Tombstone, overwrite, remove_version, shown};
use super::client::Bigtable;
use super::error::BigtableError;
use super::position::Progress;
use super::read::Scan;
use super::{cells, filters};
use crate::bigtable::store::RESTORING_KEY;

/// Cells, and their bytes, that are written at a time.
const PART_CELLS: usize = 50_000;
const PART_BYTES: usize = 32 << 20;

/// What a look at all rows found beside cells.
#[derive(Default)]
pub(super) struct Found {
    /// Marks of deletions that count.
    pub(super) tombstones: Vec<Tombstone>,
}

impl Bigtable {
    /// Makes the local copy what Bigtable has at the position row, whatever it was. What a flush that never ended wrote is
    /// removed: another log may get to its positions.
    pub(super) fn restore_all(&self, local: &dyn ServingStore, to: &Progress) -> Result<Found, BigtableError> {
        local.note(Family::StreamState, (RESTORING_KEY.to_vec(), Vec::new()))?;
        let mut loading = Loading::new(local, to.position);
        let snapshot = local.snapshot();
        for family in Family::ALL {
            let mut failure = Ok(());
            snapshot.scan_each(family, b"", None, &mut |key, _| {
                if !key.starts_with(super::store::OWN_KEYS) {
                    failure = loading.push(Mutation { family, key: key.to_vec(), value: None });
                }
                if failure.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            failure?;
        }
        let found = self.look(to.position, Some(&mut loading))?;
        loading.push(Mutation { family: Family::StreamState, key: RESTORING_KEY.to_vec(), value: None })?;
        loading.finish()?;
        Ok(found)
    }

    /// Adds the last flush, which the copy lacks: the process ended between the position row and the copy.
    pub(super) fn restore_last(&self, local: &dyn ServingStore, to: &Progress) -> Result<(), BigtableError> {
        let mut mutations = Vec::new();
        for table in BigtableTable::ALL {
            let filter = filters::written_behind(to.before.0, self.client.options.versions);
            self.scan(Scan { table, range: (Vec::new(), None), filter, rows_max: 0 }, &mut |row| {
                for (family, Seen { value, deleted, .. }) in cells::seen(&row, to.position.0)? {
                    if let Some(key) = key_of_row(family, &row.key).filter(|_| value.is_some() || deleted.is_some()) {
                        mutations.push(Mutation { family, key, value: value.map(Vec::from) });
                    }
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(local.apply(mutations, to.position)?)
    }

    /// Looks at all rows as of a position: gives cells to the copy, and removes what does not count.
    pub(super) fn look(
        &self,
        position: Position,
        mut loading: Option<&mut Loading<'_>>,
    ) -> Result<Found, BigtableError> {
        let (mut found, mut unfinished) = (Found::default(), Vec::new());
        for table in BigtableTable::ALL {
            let filter = filters::newest(self.client.options.versions);
            self.scan(Scan { table, range: (Vec::new(), None), filter, rows_max: 0 }, &mut |row| {
                for (family, seen) in cells::seen(&row, position.0)? {
                    let Some(key) = key_of_row(family, &row.key) else {
                        tracing::warn!(family = family.name(), row = shown(&row.key), "no cell has such a row key");
                        continue;
                    };
                    unfinished.extend(seen.hidden.iter().map(|time| remove_version(family, row.key.clone(), *time)));
                    let tombstone = |time| Tombstone { family, row: row.key.clone(), time };
                    found.tombstones.extend(seen.deleted.map(tombstone));
                    if let Some((loading, value)) = loading.as_deref_mut().zip(seen.value) {
                        loading.push(Mutation { family, key, value: Some(value.into()) })?;
                    }
                }
                if unfinished.len() >= PART_CELLS {
                    self.write(std::mem::take(&mut unfinished))?;
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        self.write(unfinished)?;
        Ok(found)
    }

    /// Marks of deletions that count, of any age.
    pub(super) fn tombstones(&self, position: Position) -> Result<Vec<Tombstone>, BigtableError> {
        let mut tombstones = Vec::new();
        for table in BigtableTable::ALL {
            let filter = filters::with_deletion(self.client.options.versions);
            self.scan(Scan { table, range: (Vec::new(), None), filter, rows_max: 0 }, &mut |row| {
                for (family, seen) in cells::seen(&row, position.0)? {
                    tombstones.extend(seen.deleted.map(|time| Tombstone { family, row: row.key.clone(), time }));
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(tombstones)
    }

    /// Writes all cells of a local copy to tables that have none that count.
    pub(super) fn seed(&self, local: &dyn ServingStore) -> Result<(), BigtableError> {
        let (position, snapshot) = (local.applied(), local.snapshot());
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for family in Family::ALL {
            let mut failure = Ok(());
            snapshot.scan_each(family, b"", None, &mut |key, value| {
                if key.starts_with(super::store::OWN_KEYS) {
                    return ControlFlow::Continue(());
                }
                failure = overwrite(family, key, value.to_vec(), position.0).and_then(|change| {
                    bytes += change.bytes;
                    changes.push(change);
                    if changes.len() < PART_CELLS && bytes < PART_BYTES {
                        return Ok(());
                    }
                    bytes = 0;
                    self.write(std::mem::take(&mut changes))
                });
                if failure.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            failure?;
        }
        self.write(changes)
    }

    /// Writes rows and waits for it.
    pub(super) fn write(&self, changes: Vec<RowChange>) -> Result<(), BigtableError> {
        self.run(|client| async move { client.mutate(changes).await })
    }
}

/// Cells on their way into the copy, in parts. Each part has a position between that of the copy and that of the last one,
/// as long as there are some: the note that the copy is not finished tells that they mean nothing.
pub(super) struct Loading<'a> {
    local: &'a dyn ServingStore,
    end: Position,
    mutations: Vec<Mutation>,
    bytes: usize,
}

impl<'a> Loading<'a> {
    fn new(local: &'a dyn ServingStore, end: Position) -> Self {
        Self { local, end, mutations: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, mutation: Mutation) -> Result<(), ServingError> {
        self.bytes += mutation.key.len() + mutation.value.as_ref().map_or(0, Vec::len);
        self.mutations.push(mutation);
        let next = Position(self.local.applied().0 + 1);
        if (self.mutations.len() >= PART_CELLS || self.bytes >= PART_BYTES) && next < self.end {
            self.local.apply(std::mem::take(&mut self.mutations), next)?;
            self.bytes = 0;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), ServingError> {
        self.local.apply(self.mutations, self.end)
    }
}
