//! The data folder: one process at a time, one format version.
//!
//! For: locking, the names of what is inside, and refusing folders of a newer build before anything is touched. Not
//! for: what the parts keep in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use sawlog_seams::RealDisk;
use sawlog_seams::disk::write_atomic;

/// Version of the folder's layout.
const VERSION: u32 = 1;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    #[error("data folder {} cannot be {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
    #[error(
        "data folder {} is in use by process {holder}; stop it, use another --data, or go through it with --url",
        path.display()
    )]
    InUse { path: PathBuf, holder: String },
    #[error("data folder {} has format version {found:?}, this build reads {VERSION}; use the build that wrote it", path.display())]
    Version { path: PathBuf, found: String },
}

/// A locked data folder. The lock ends with the process, however it ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens and locks a folder, which is made if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        let io = |action| move |source| DataDirError::Io { path: path.to_path_buf(), action, source };
        std::fs::create_dir_all(path).map_err(io("made"))?;
        let path = path.canonicalize().map_err(io("opened"))?;
        let mut lock = lock(&path)?;
        check_version(&path)?;
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(io("locked"))?;
        writeln!(lock, "{}", std::process::id()).map_err(io("locked"))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    pub(crate) fn lake(&self) -> PathBuf {
        self.path.join("lake")
    }

    /// Objects of the lake that wait for Cloud Storage.
    pub(crate) fn spool_of_lake(&self) -> PathBuf {
        self.path.join("lake-spool")
    }

    pub(crate) fn tables(&self) -> PathBuf {
        self.path.join("tables")
    }

    pub(crate) fn serving(&self) -> PathBuf {
        self.path.join("serving")
    }

    pub(crate) fn rules(&self) -> PathBuf {
        self.path.join("rules")
    }

    pub(crate) fn spill(&self) -> PathBuf {
        self.path.join("spill")
    }

    pub(crate) fn tail(&self) -> PathBuf {
        self.path.join("tail.json")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        keys_of(&self.path)
    }
}

/// The key file of a data folder, which commands change without locking the folder.
pub(crate) fn keys_of(folder: &Path) -> PathBuf {
    folder.join("keys.json")
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let io = |action| move |source| DataDirError::Io { path: path.to_path_buf(), action, source };
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).open(path.join("LOCK")).map_err(io("locked"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The holder's number only makes the message better.
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "?".to_owned() } else { holder.trim().to_owned() };
            return Err(DataDirError::InUse { path: path.to_path_buf(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(io("locked")(source)),
    }
    Ok(file)
}

fn check_version(path: &Path) -> Result<(), DataDirError> {
    let io = |action| move |source| DataDirError::Io { path: path.to_path_buf(), action, source };
    let file = path.join("VERSION");
    match std::fs::read_to_string(&file) {
        Ok(found) if found.trim() == VERSION.to_string() => Ok(()),
        Ok(found) => Err(DataDirError::Version { path: path.to_path_buf(), found: found.trim().to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            write_atomic(&RealDisk, &file, format!("{VERSION}\n").as_bytes()).map_err(io("marked"))
        }
        Err(error) => Err(io("read")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = DataDir::open(folder.path()).expect("free");
        let message = DataDir::open(folder.path()).expect_err("in use").to_string();
        assert!(message.contains(&std::process::id().to_string()) && message.contains("--url"), "{message}");
        drop(first);
        DataDir::open(folder.path()).expect("free again");
    }

    #[test]
    fn a_folder_of_a_newer_build_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("VERSION"), "2\n").expect("written");
        assert!(matches!(DataDir::open(folder.path()), Err(DataDirError::Version { .. })));
    }
}
