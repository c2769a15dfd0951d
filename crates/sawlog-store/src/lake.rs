//! The raw lake as files in a local folder.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use sawlog_seams::lake::{Lake, LakeError, Put};
use sawlog_seams::{Disk, RealDisk};

use crate::synced::SyncedFiles;

/// Objects as files below a folder.
#[derive(Debug)]
pub struct LocalLake {
    store: SyncedFiles,
    root: PathBuf,
}

impl LocalLake {
    /// Opens the lake in a folder, which is made if it is missing.
    ///
    /// # Errors
    /// When the folder can neither be made nor opened.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        RealDisk.create_dir_all(folder)?;
        let store = SyncedFiles::below(folder).map_err(std::io::Error::other)?;
        Ok(Self { store, root: folder.to_path_buf() })
    }

    /// Makes the name of an object durable that an earlier run may have left without.
    async fn sync_name(&self, key: &str) -> Result<(), LakeError> {
        let path = self.root.join(key);
        let folder = path.parent().unwrap_or(&self.root).to_path_buf();
        let synced = tokio::task::spawn_blocking(move || RealDisk.sync_dir(&folder)).await;
        let problem = match synced {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(LakeError::Backend { key: key.to_owned(), problem })
    }
}

fn object_path(key: &str) -> Result<ObjectPath, LakeError> {
    let refused = |problem: String| LakeError::Backend { key: key.to_owned(), problem };
    let path = ObjectPath::parse(key).map_err(|error| refused(error.to_string()))?;
    match !key.is_empty() && path.as_ref() == key {
        true => Ok(path),
        false => Err(refused("a key has parts that are not empty, between single slashes".to_owned())),
    }
}

fn explain(key: &str, error: &object_store::Error) -> LakeError {
    let key = key.to_owned();
    match error {
        object_store::Error::NotFound { .. } => LakeError::NotFound { key },
        error if is_disk_full(error) => LakeError::DiskFull { key },
        error => LakeError::Backend { key, problem: error.to_string() },
    }
}

/// Whether any error in the chain says that space ran out.
pub(crate) fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        if error.downcast_ref::<std::io::Error>().is_some_and(sawlog_seams::disk::is_disk_full) {
            return true;
        }
        current = error.source();
    }
    false
}

#[async_trait]
impl Lake for LocalLake {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Put, LakeError> {
        let path = object_path(key)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path, PutPayload::from_bytes(bytes.clone()), options).await {
            Ok(_) => Ok(Put::Stored),
            Err(object_store::Error::AlreadyExists { .. }) => {
                if self.get(key).await? == bytes {
                    self.sync_name(key).await?;
                    return Ok(Put::AlreadyThere);
                }
                Err(LakeError::Conflict { key: key.to_owned() })
            }
            Err(error) => Err(explain(key, &error)),
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes, LakeError> {
        let path = object_path(key)?;
        let found = self.store.get(&path).await.map_err(|error| explain(key, &error))?;
        found.bytes().await.map_err(|error| explain(key, &error))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        let folder = prefix.trim_end_matches('/');
        let path = if folder.is_empty() { ObjectPath::default() } else { object_path(folder)? };
        let mut keys: Vec<String> = self
            .store
            .list(Some(&path))
            .map_ok(|object| object.location.to_string())
            .try_collect()
            .await
            .map_err(|error| explain(prefix, &error))?;
        keys.sort_unstable();
        Ok(keys)
    }

    async fn delete(&self, key: &str) -> Result<(), LakeError> {
        match self.store.delete(&object_path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(explain(key, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Fixture(tempfile::TempDir);

    impl sawlog_seams::contract::lake::Fixture for Fixture {
        fn open(&self) -> Arc<dyn Lake> {
            Arc::new(LocalLake::open(&self.0.path().join("lake")).expect("a lake"))
        }
    }

    sawlog_seams::lake_contract!(Fixture(tempfile::tempdir().expect("a temporary folder")));

    #[tokio::test]
    async fn a_key_cannot_leave_the_folder() {
        let fixture = Fixture(tempfile::tempdir().expect("a temporary folder"));
        let lake = LocalLake::open(&fixture.0.path().join("lake")).expect("a lake");
        for key in ["../outside", "a/../../outside", "a//b"] {
            assert!(lake.put(key, Bytes::from_static(b"x")).await.is_err(), "{key:?}");
            assert!(lake.get(key).await.is_err(), "{key:?}");
        }
    }
}
