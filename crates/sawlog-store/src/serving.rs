//! The serving store on `fjall`, one keyspace for each column family.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use sawlog_seams::Position;
use sawlog_seams::serving::{Cell, Family, Mutation, ServingError, ServingSnapshot, ServingStore};

const POSITION_KEY: &[u8] = b"applied_position";

/// Cells in an embedded log-structured merge tree.
pub struct FjallServing {
    database: Database,
    families: Arc<HashMap<Family, Keyspace>>,
    meta: Keyspace,
}

fn explain(action: &'static str) -> impl Fn(fjall::Error) -> ServingError {
    move |error| ServingError { action, problem: error.to_string() }
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
    fn apply(&self, mutations: Vec<Mutation>, position: Position) -> Result<(), ServingError> {
        if position <= self.applied() {
            return Ok(());
        }
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

    fn set(key: &[u8], value: &[u8]) -> Mutation {
        Mutation { family: Family::Rollup, key: key.to_vec(), value: Some(value.to_vec()) }
    }

    #[test]
    fn mutations_of_a_position_apply_once_and_survive_reopening() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        {
            let store = FjallServing::open(folder.path()).expect("a store");
            store.apply(vec![set(b"a", b"1"), set(b"b", b"2")], Position(10)).expect("applied");
            let before = store.snapshot();
            store.apply(vec![set(b"a", b"9")], Position(10)).expect("ignored");
            store.apply(vec![set(b"a", b"3")], Position(11)).expect("applied");
            assert_eq!(before.get(Family::Rollup, b"a").expect("read"), Some(b"1".to_vec()));
        }
        let store = FjallServing::open(folder.path()).expect("a store");
        assert_eq!(store.applied(), Position(11));
        let cells = store.snapshot().scan(Family::Rollup, b"a", Some(b"z")).expect("cells");
        assert_eq!(cells, [(b"a".to_vec(), b"3".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
    }
}
