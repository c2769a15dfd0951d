//! Files and directories, with the durability rules of a POSIX file system spelled out.
//!
//! For: every file access of the storage crates, so that tests can tear, fail and fill the disk. Not
//! for: what the bytes mean, and not for object storage. [`RealDisk`] is the machine's disk,
//! [`SimDisk`] the fake.

mod real;
pub mod sim;

pub use real::RealDisk;
pub use sim::SimDisk;

use std::ffi::OsString;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

/// A file system.
///
/// Durability: file content survives a power loss after [`DiskFile::sync_data`]; the names made,
/// changed or removed in a directory survive it after [`Disk::sync_dir`] of that directory. What is
/// not synced may survive fully, partly or not at all, in any order. A failed sync is final: the
/// bytes concerned may be lost even if a later sync succeeds.
pub trait Disk: Send + Sync {
    /// Creates a directory and its parents, if absent. They are durable when this returns.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Creates an empty file and opens it; fails with `AlreadyExists` if the name is taken.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for reading and appending.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Whether the name is taken.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Names of the files (not the directories) in `dir`, sorted. Names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Renames a file atomically, replacing an existing `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written below `dir`; `u64::MAX` where nobody knows.
    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

/// An open file. It stays valid when the file is renamed.
pub trait DiskFile: Send {
    /// Writes all buffers, one after the other, at the end of the file. After an error any part of
    /// them, cut at any byte, may have been written.
    fn append(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<()>;
    /// Fills `buffer` from `offset`; returns how many bytes there were before the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Makes the content and the length durable (fdatasync).
    fn sync_data(&mut self) -> io::Result<()>;
    /// Cuts or zero-extends the file.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Length of the file in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Whether the error means that space (or quota) ran out, so that freeing some will help.
#[must_use]
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Writes a file so that, whatever happens, `path` holds either its old content or all of `bytes`.
/// When this returns `Ok`, the new content is durable. One writer per path at a time.
pub fn write_atomic(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
    let staged = staging_path(path);
    if disk.exists(&staged)? {
        disk.remove(&staged)?; // left by a crash
    }
    let written = write_staged(disk, &staged, bytes).and_then(|()| disk.rename(&staged, path));
    if let Err(error) = written {
        // Frees the space; if that fails too, the next call removes it.
        let _ignored = disk.remove(&staged);
        return Err(error);
    }
    disk.sync_dir(dir)
}

fn write_staged(disk: &dyn Disk, staged: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = disk.create_new(staged)?;
    file.append(&[IoSlice::new(bytes)])?;
    file.sync_data()
}

/// Name under which a file is prepared before it is renamed into place: `<name>.tmp`.
#[must_use]
pub fn staging_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".tmp");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::sim::Fault;
    use super::*;

    #[test]
    fn an_atomic_write_leaves_the_old_or_the_new_content_whatever_call_fails() {
        let path = Path::new("/d/file");
        for fault in [Fault::DiskFull, Fault::Io] {
            for n in 1.. {
                let disk = SimDisk::new(n);
                disk.create_dir_all(Path::new("/d")).unwrap();
                write_atomic(&disk, path, b"old").unwrap();
                disk.fail_nth_call(n, fault);
                let result = write_atomic(&disk, path, b"new and longer");
                let after = disk.crash(n).read(path).unwrap();
                if result.is_ok() {
                    assert_eq!(after, b"new and longer");
                    break;
                }
                assert!(after == b"old" || after == b"new and longer");
            }
        }
    }
}
