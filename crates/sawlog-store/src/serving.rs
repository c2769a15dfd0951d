//! The serving store on `fjall`, one keyspace for each column family.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use sawlog_seams::Position;
use sawlog_seams::serving::{Cell, Family, Mutation, ServingError, ServingSnapshot, ServingStore};

use crate::lake::is_disk_full;

const POSITION_KEY: &[u8] = b"applied_position";

/// Cells in an embedded log-structured merge tree.
pub struct FjallServing {
    database: Database,
    families: Arc<HashMap<Family, Keyspace>>,
    meta: Keyspace,
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
        Ok(Self { database, families: Arc::new(families), meta })
    }
}

impl ServingStore for FjallServing {
    fn apply(&self, mut mutations: Vec<Mutation>, position: Position) -> Result<(), ServingError> {
        if position <= self.applied() {
            return Ok(());
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
        batch.commit().map_err(explain("writing"))?;
        self.database.persist(PersistMode::SyncAll).map_err(explain("syncing"))
    }

    fn applied(&self) -> Position {
        let stored = self.meta.get(POSITION_KEY).ok().flatten();
        let bytes = stored.and_then(|bytes| <[u8; 8]>::try_from(&*bytes).ok());
        Position(bytes.map_or(0, u64::from_be_bytes))
    }

    fn snapshot(&self) -> Arc<dyn ServingSnapshot> {
        Arc::new(FjallSnapshot { snapshot: self.database.snapshot(), families: Arc::clone(&self.families) })
    }

    fn delete(&self, family: Family, keys: Vec<Vec<u8>>) -> Result<(), ServingError> {
        let mut batch = self.database.batch();
        let keyspace = &self.families[&family];
        for key in keys {
            batch.remove(keyspace, key);
        }
        batch.commit().map_err(explain("writing"))?;
        self.database.persist(PersistMode::SyncAll).map_err(explain("syncing"))
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

    fn scan(&self, family: Family, start: &[u8], end: Option<&[u8]>) -> Result<Vec<Cell>, ServingError> {
        let keyspace = &self.families[&family];
        let range = match end {
            Some(end) => self.snapshot.range(keyspace, start.to_vec()..end.to_vec()),
            None => self.snapshot.range(keyspace, start.to_vec()..),
        };
        range
            .map(|entry| {
                let (key, value) = entry.into_inner().map_err(explain("reading"))?;
                Ok((key.to_vec(), value.to_vec()))
            })
            .collect()
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
}
