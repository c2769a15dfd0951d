//! The raw lake as files in a local folder, over `object_store`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use sawlog_seams::lake::{Lake, LakeError, Put};

/// Objects as files below a folder.
#[derive(Debug)]
pub struct LocalLake {
    store: Arc<LocalFileSystem>,
    root: PathBuf,
}

impl LocalLake {
    /// Opens the lake in a folder, which is made if it is missing.
    ///
    /// # Errors
    /// When the folder can neither be made nor opened.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(std::io::Error::other)?;
        Ok(Self { store: Arc::new(store), root: folder.to_path_buf() })
    }
}

impl LocalLake {
    /// Makes an object and the names of the folders above it durable, which `object_store` leaves to the system.
    async fn sync(&self, key: &str) -> Result<(), LakeError> {
        let (root, path) = (self.root.clone(), self.root.join(key));
        let synced = tokio::task::spawn_blocking(move || {
            let folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&root));
            std::iter::once(path.as_path()).chain(folders).try_for_each(|place| std::fs::File::open(place)?.sync_all())
        });
        let problem = match synced.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(LakeError::Backend { key: key.to_owned(), problem })
    }
}

fn object_path(key: &str) -> Result<ObjectPath, LakeError> {
    ObjectPath::parse(key).map_err(|error| LakeError::Backend { key: key.to_owned(), problem: error.to_string() })
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
            Ok(_) => {
                self.sync(key).await?;
                Ok(Put::Stored)
            }
            Err(object_store::Error::AlreadyExists { .. }) => {
                if self.get(key).await? == bytes {
                    self.sync(key).await?;
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
        let path = object_path(prefix.trim_end_matches('/'))?;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_is_stored_once_and_never_changes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let lake = LocalLake::open(folder.path()).expect("a lake");
        let key = "raw/receive_date=2026-11-24/a.parquet";
        assert_eq!(lake.put(key, Bytes::from_static(b"one")).await.expect("stored"), Put::Stored);
        assert_eq!(lake.put(key, Bytes::from_static(b"one")).await.expect("recognised"), Put::AlreadyThere);
        assert!(matches!(lake.put(key, Bytes::from_static(b"two")).await, Err(LakeError::Conflict { .. })));
        assert_eq!(lake.get(key).await.expect("content"), Bytes::from_static(b"one"));
        assert_eq!(lake.list("raw").await.expect("keys"), [key]);
        assert!(matches!(lake.get("raw/none").await, Err(LakeError::NotFound { .. })));
    }
}
