//! A local file system as an object store whose writes are durable when they return.
//!
//! For: the raw lake and Delta's transaction log, since `object_store`'s own file system leaves syncing to the system:
//! after a power loss a log entry or checkpoint could be empty although the event log had let go of its events. An
//! object is written and synced under a staging name before it gets its own, so that a name never stands for content
//! that is not on the disk. Not for: data files of tables, which nobody reads before their commit
//! ([`crate::warehouse`]).

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutPayloadMut, PutResult, Result, UploadPart,
};
use sawlog_seams::{Disk, RealDisk};

/// Files below a folder (or the root of the file system), written durably.
#[derive(Clone, Debug)]
pub(crate) struct SyncedFiles {
    inner: Arc<LocalFileSystem>,
}

impl fmt::Display for SyncedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "synced {}", self.inner)
    }
}

impl SyncedFiles {
    /// Objects named by their absolute path.
    pub(crate) fn at_root() -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()) }
    }

    /// Objects below a folder, which must be there.
    pub(crate) fn below(folder: &Path) -> Result<Self> {
        Ok(Self { inner: Arc::new(LocalFileSystem::new_with_prefix(folder)?) })
    }

    async fn put_synced(&self, location: &ObjectPath, payload: PutPayload, is_new: bool) -> Result<PutResult> {
        let path = self.inner.path_to_filesystem(location)?;
        blocking(move || {
            let written = write_synced(&path, &payload, is_new);
            written.map_err(|source| match source.kind() {
                ErrorKind::AlreadyExists => {
                    object_store::Error::AlreadyExists { path: path.display().to_string(), source: Box::new(source) }
                }
                _ => generic(source),
            })
        })
        .await?;
        Ok(PutResult { e_tag: None, version: None })
    }
}

fn generic(source: io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "synced files", source: Box::new(source) }
}

async fn blocking<T: Send + 'static>(run: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(run).await.map_err(|error| generic(io::Error::other(error)))?
}

/// Writes an object so that its name appears with all of its content or not at all, durably.
fn write_synced(path: &Path, payload: &PutPayload, is_new: bool) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
    RealDisk.create_dir_all(folder)?;
    if is_new && path.try_exists()? {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let (mut file, staged) = stage(path)?;
    let named =
        payload.iter().try_for_each(|part| file.write_all(part)).and_then(|()| file.sync_all()).and_then(|()| {
            match is_new {
                true => fs::hard_link(&staged, path),
                false => fs::rename(&staged, path),
            }
        });
    if is_new || named.is_err() {
        // What stays of a crash is found by its name and removed by the sweep of the tables.
        let _ = fs::remove_file(&staged);
    }
    named?;
    RealDisk.sync_dir(folder)
}

/// Opens a file under a staging name: `object_store` leaves names that end in `#` and digits out of its lists.
fn stage(path: &Path) -> io::Result<(File, PathBuf)> {
    for number in 1.. {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!("#{number}"));
        let staged = path.with_file_name(name);
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            opened => return Ok((opened?, staged)),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

#[async_trait]
impl ObjectStore for SyncedFiles {
    async fn put_opts(&self, location: &ObjectPath, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match options.mode {
            PutMode::Create => self.put_synced(location, payload, true).await,
            PutMode::Overwrite => self.put_synced(location, payload, false).await,
            // The file system below refuses this one.
            PutMode::Update(_) => self.inner.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let parts = PutPayloadMut::new();
        Ok(Box::new(Upload { store: self.clone(), location: location.clone(), parts }))
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&ObjectPath>,
        offset: &ObjectPath,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, options: CopyOptions) -> Result<()> {
        let content = self.inner.get(from).await?.bytes().await?;
        self.put_synced(to, PutPayload::from_bytes(content), options.mode == CopyMode::Create).await.map(drop)
    }
}

/// An upload in parts. They are kept in memory: what comes this way are checkpoints, which are small.
#[derive(Debug)]
struct Upload {
    store: SyncedFiles,
    location: ObjectPath,
    parts: PutPayloadMut,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        data.into_iter().for_each(|part| self.parts.push(part));
        Box::pin(futures::future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload = std::mem::take(&mut self.parts).freeze();
        self.store.put_synced(&self.location, payload, false).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts = PutPayloadMut::new();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[tokio::test]
    async fn puts_create_replace_and_copy_without_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let store = SyncedFiles::below(folder.path()).unwrap();
        let path = |name: &str| ObjectPath::from(name);
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&path("a/b"), "one".into(), create()).await.unwrap();
        let taken = store.put_opts(&path("a/b"), "two".into(), create()).await;
        assert!(matches!(taken, Err(object_store::Error::AlreadyExists { .. })), "{taken:?}");
        store.put(&path("a/b"), "three".into()).await.unwrap();
        store.copy(&path("a/b"), &path("a/c")).await.unwrap();
        assert!(store.copy_if_not_exists(&path("a/b"), &path("a/c")).await.is_err());
        store.rename(&path("a/c"), &path("a/d")).await.unwrap();
        let mut upload = store.put_multipart(&path("a/e")).await.unwrap();
        upload.put_part("fo".into()).await.unwrap();
        upload.put_part("ur".into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(store.get(&path("a/e")).await.unwrap().bytes().await.unwrap(), "four");
        assert_eq!(store.get(&path("a/d")).await.unwrap().bytes().await.unwrap(), "three");
        assert_eq!(names(&folder.path().join("a")), ["b", "d", "e"]);
    }

    #[tokio::test]
    async fn what_a_crash_left_under_a_staging_name_is_neither_listed_nor_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a#1"), "torn").unwrap();
        let store = SyncedFiles::below(folder.path()).unwrap();
        store.put(&ObjectPath::from("a"), "whole".into()).await.unwrap();
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(store.get(&ObjectPath::from("a")).await.unwrap().bytes().await.unwrap(), "whole");
    }
}
