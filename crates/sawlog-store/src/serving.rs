//! The serving store on `fjall`, one keyspace for each column family.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use sawlog_seams::serving::{Cell, Family, Mutation, ServingError, ServingSnapshot, ServingStore, VisitCell};
use sawlog_seams::{Disk, Position, RealDisk};

use crate::lake::is_disk_full;

const POSITION_KEY: &[u8] = b"applied_position";
/// Free space that a write needs beside its own bytes. `fjall` refuses all work after a failed write until it is opened
/// again, so that a write that cannot succeed is better not begun.
const FREE_MIN: u64 = 4 << 20;
/// Longest key; `fjall` ends the thread for a longer one.
const KEY_BYTES_MAX: usize = 65_535;

/// Cells in an embedded log-structured merge tree.
pub struct FjallServing {
    database: Database,
    families: Arc<HashMap<Family, Keyspace>>,
    meta: Keyspace,
    folder: PathBuf,
    /// Held by what writes a value and by what deletes a value that it has looked at.
    writing: Mutex<()>,
    /// A write or sync failed: what is in memory may not be on the disk, and only opening it again tells.
    has_failed: AtomicBool,
}

fn explain(action: &'static str) -> impl Fn(fjall::Error) -> ServingError {
    move |error| match is_disk_full(&error) {
        true => ServingError::DiskFull { action },
        false => ServingError::backend(action, error),
    }
}

impl FjallServing {
    /// Opens the store in a folder, which is made if it is missing.
    ///
    /// # Errors
    /// When the folder cannot be opened or its files are damaged.
    pub fn open(folder: &Path) -> Result<Self, ServingError> {
        let database = Database::builder(folder).open().map_err(explain("opening"))?;
        let keyspace = |name: &str| database.keyspace(name, KeyspaceCreateOptions::default).map_err(explain("opening"));
        let families = Family::ALL
            .into_iter()
            .map(|family| Ok((family, keyspace(family.name())?)))
            .collect::<Result<_, ServingError>>()?;
        let meta = keyspace("meta")?;
        let (families, folder) = (Arc::new(families), folder.to_path_buf());
        Ok(Self { database, families, meta, folder, writing: Mutex::new(()), has_failed: AtomicBool::new(false) })
    }

    fn check_sound(&self) -> Result<(), ServingError> {
        let problem = "an earlier write failed, and what it left is known only after a restart";
        match self.has_failed.load(Ordering::Acquire) {
            true => Err(ServingError::backend("writing", problem)),
            false => Ok(()),
        }
    }

    /// Refuses a write of so many bytes that cannot succeed.
    fn check_room(&self, bytes: usize) -> Result<(), ServingError> {
        let free = RealDisk.free_bytes(&self.folder).unwrap_or(u64::MAX);
        match free < FREE_MIN.saturating_add(2 * bytes as u64) {
            true => Err(ServingError::DiskFull { action: "writing" }),
            false => Ok(()),
        }
    }

    /// Commits and syncs. A failure is final: a repeated sync would report success for bytes that are lost.
    fn commit(&self, batch: fjall::OwnedWriteBatch) -> Result<(), ServingError> {
        let committed = batch.commit().map_err(explain("writing"));
        let synced = committed.and_then(|()| self.database.persist(PersistMode::SyncAll).map_err(explain("syncing")));
        if synced.is_err() {
            self.has_failed.store(true, Ordering::Release);
        }
        synced
    }
}

impl ServingStore for FjallServing {
    fn apply(&self, mut mutations: Vec<Mutation>, position: Position) -> Result<(), ServingError> {
        self.check_sound()?;
        if position <= self.applied() {
            return Ok(());
        }
        self.check_room(mutations.iter().map(|cell| cell.key.len() + cell.value.as_ref().map_or(0, Vec::len)).sum())?;
        if let Some(long) = mutations.iter().find(|cell| cell.key.len() > KEY_BYTES_MAX) {
            let problem = format!("a key of family {} has {} B", long.family.name(), long.key.len());
            return Err(ServingError::backend("writing", problem));
        }
        // In key order each insertion starts where the last one ended. The sort is stable: the last mutation of a key wins.
        mutations.sort_by(|a, b| (a.family, &a.key).cmp(&(b.family, &b.key)));
        let mut batch = self.database.batch();
        for mutation in mutations {
            let keyspace = &self.families[&mutation.family];
            match mutation.value {
                Some(value) => batch.insert(keyspace, mutation.key, value),
                None => batch.remove(keyspace, mutation.key),
            }
        }
        batch.insert(&self.meta, POSITION_KEY, position.0.to_be_bytes());
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.commit(batch)
    }

    fn applied(&self) -> Position {
        let stored = self.meta.get(POSITION_KEY).ok().flatten();
        let bytes = stored.and_then(|bytes| <[u8; 8]>::try_from(&*bytes).ok());
        Position(bytes.map_or(0, u64::from_be_bytes))
    }

    fn snapshot(&self) -> Arc<dyn ServingSnapshot> {
        Arc::new(FjallSnapshot { snapshot: self.database.snapshot(), families: Arc::clone(&self.families) })
    }

    fn delete_unchanged(&self, family: Family, cells: Vec<Cell>) -> Result<(), ServingError> {
        self.check_sound()?;
        self.check_room(cells.iter().map(|(key, _)| key.len()).sum())?;
        let keyspace = &self.families[&family];
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = self.database.batch();
        for (key, seen) in cells {
            let found = keyspace.get(&key).map_err(explain("reading"))?;
            if found.is_some_and(|found| *found == *seen) {
                batch.remove(keyspace, key);
            }
        }
        self.commit(batch)
    }

    fn note(&self, family: Family, (key, value): Cell) -> Result<(), ServingError> {
        self.check_sound()?;
        self.check_room(key.len() + value.len())?;
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = self.database.batch();
        batch.insert(&self.families[&family], key, value);
        self.commit(batch)
    }
}

struct FjallSnapshot {
    snapshot: Snapshot,
    families: Arc<HashMap<Family, Keyspace>>,
}

impl ServingSnapshot for FjallSnapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ServingError> {
        let found = self.snapshot.get(&self.families[&family], key).map_err(explain("reading"))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan_each(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut VisitCell<'_>,
    ) -> Result<(), ServingError> {
        if end.is_some_and(|end| end < start) {
            return Ok(());
        }
        let keyspace = &self.families[&family];
        let range = match end {
            Some(end) => self.snapshot.range(keyspace, start.to_vec()..end.to_vec()),
            None => self.snapshot.range(keyspace, start.to_vec()..),
        };
        for entry in range {
            let (key, value) = entry.into_inner().map_err(explain("reading"))?;
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture(tempfile::TempDir);

    impl sawlog_seams::contract::serving::Fixture for Fixture {
        fn open(&self) -> Arc<dyn ServingStore> {
            Arc::new(FjallServing::open(self.0.path()).expect("a store"))
        }
    }

    sawlog_seams::serving_contract!(Fixture(tempfile::tempdir().expect("a temporary folder")));

    #[test]
    fn after_a_failed_write_nothing_counts_as_applied_until_the_store_is_opened_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = FjallServing::open(folder.path()).expect("a store");
        let cell = || vec![Mutation { family: Family::Rollup1m, key: b"a".to_vec(), value: Some(b"1".to_vec()) }];
        store.apply(cell(), Position(1)).expect("applied");
        store.has_failed.store(true, Ordering::Release);
        assert!(store.apply(cell(), Position(1)).is_err(), "what was applied may not be on the disk");
        assert!(store.delete_unchanged(Family::Rollup1m, vec![(b"a".to_vec(), b"1".to_vec())]).is_err());
        drop(store);
        let store = FjallServing::open(folder.path()).expect("a store");
        store.apply(cell(), Position(2)).expect("applied");
    }

    #[test]
    fn a_write_that_the_disk_has_no_room_for_is_not_begun() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = FjallServing::open(folder.path()).expect("a store");
        assert!(matches!(store.check_room(usize::MAX / 2), Err(ServingError::DiskFull { .. })));
        store.check_room(1).expect("there is room for a byte");
        assert!(!store.has_failed.load(Ordering::Acquire));
    }
}
