//! Small files that say how far a source is.
//!
//! For: reading and replacing them away from the threads that serve requests. Not for: what they say ([`super::progress`],
//! [`super::tail`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_seams::Disk;
use sawlog_seams::disk::write_atomic;
use tokio::task::spawn_blocking;

/// One such file.
#[derive(Clone)]
pub(super) struct SmallFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl SmallFile {
    pub(super) fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self { disk, path: path.to_path_buf() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its content, if it is there.
    pub(super) async fn read(&self) -> io::Result<Option<Vec<u8>>> {
        self.away(|disk, path| if disk.exists(path)? { disk.read(path).map(Some) } else { Ok(None) }).await
    }

    /// Replaces its content durably. Dropped, it may still happen; one writer at a time.
    pub(super) async fn write(&self, bytes: Vec<u8>) -> io::Result<()> {
        self.away(move |disk, path| write_atomic(disk, path, &bytes)).await
    }

    /// Removes it.
    pub(super) async fn remove(&self) -> io::Result<()> {
        self.away(|disk, path| disk.remove(path)).await
    }

    async fn away<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Disk, &Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = self.clone();
        spawn_blocking(move || work(file.disk.as_ref(), &file.path)).await.map_err(io::Error::other)?
    }
}
