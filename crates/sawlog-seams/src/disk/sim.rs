//! In-memory disk that forgets what was not synced, fails on request, and fills up.
//!
//! For: proving that a storage engine keeps what it acknowledged. Not for: speed, permissions or
//! symbolic links. Every random choice comes from the seed and the order of calls, so a
//! single-threaded run repeats exactly.
//!
//! What it models: see [`Disk`]. Bytes live in a *pending* layer until [`DiskFile::sync_data`] and
//! names until [`Disk::sync_dir`]; a failed sync drops or keeps each pending change for good, as
//! Linux does when it marks failed pages clean. Directories are durable at once, as [`Disk`] asks.

mod faults;
mod state;

use super::{Disk, DiskFile};
use faults::Faults;
pub use faults::{DiskOp, Fault};
use state::Files;
use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Fake [`Disk`] with a pending and a durable layer. Clones share the same disk.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    files: Files,
    faults: Faults,
}

impl SimDisk {
    /// An empty disk of unlimited size; `seed` decides where failing writes and syncs are cut.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::from_files(Files::new(seed))
    }

    fn from_files(files: Files) -> Self {
        Self { shared: Arc::new(Mutex::new(Shared { files, faults: Faults::default() })) }
    }

    /// Limits the bytes of all files; a write beyond fails with `StorageFull` after writing what
    /// fits, and succeeds again once files are removed or the capacity is raised.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().files.capacity = bytes;
    }

    /// Bytes of all files that have a name.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().files.used_bytes()
    }

    /// Makes the `n`-th call from now (the first is 1) fail, whatever it is.
    pub fn fail_nth_call(&self, n: u64, fault: Fault) {
        self.lock().faults.fail_nth_call(n, fault);
    }

    /// Makes the `n`-th call of one operation from now (the first is 1) fail.
    pub fn fail_nth(&self, op: DiskOp, n: u64, fault: Fault) {
        self.lock().faults.fail_nth(op, n, fault);
    }

    /// Makes every call of one operation fail until [`SimDisk::clear_faults`].
    pub fn fail_all(&self, op: DiskOp, fault: Fault) {
        self.lock().faults.fail_all(op, fault);
    }

    /// Forgets all planned faults.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Turns the power off at the `n`-th call from now: that call takes effect partly, later ones
    /// fail without effect. Follow with [`SimDisk::crash`].
    pub fn power_off_at_call(&self, n: u64) {
        self.lock().faults.power_off_at_call(n);
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().faults.calls()
    }

    /// Calls of one operation so far.
    #[must_use]
    pub fn calls_of(&self, op: DiskOp) -> u64 {
        self.lock().faults.calls_of(op)
    }

    /// The disk after a power loss: what was synced is there, each other change survives fully,
    /// partly or not. The old disk and its open files fail from now on.
    #[must_use]
    pub fn crash(&self, seed: u64) -> SimDisk {
        let mut shared = self.lock();
        shared.faults.turn_off();
        Self::from_files(shared.files.after_crash(seed))
    }

    /// The disk after the process was killed: the operating system keeps even unsynced changes, but
    /// they are still not durable. The old disk and its open files fail from now on.
    #[must_use]
    pub fn kill(&self) -> SimDisk {
        let mut shared = self.lock();
        shared.faults.turn_off();
        Self::from_files(shared.files.clone())
    }

    /// Replaces (or creates) a file's content, durably and without counting as a call: for planting
    /// corruption.
    pub fn plant(&self, path: &Path, bytes: &[u8]) {
        self.lock().files.plant(path, bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call and lets it run, unless a fault is due.
    fn call<T>(&self, op: DiskOp, run: impl FnOnce(&mut Files) -> io::Result<T>) -> io::Result<T> {
        let mut shared = self.lock();
        shared.faults.check(op)?;
        run(&mut shared.files)
    }

    fn handle(&self, inode: u64) -> Box<dyn DiskFile> {
        Box::new(SimFile { disk: self.clone(), inode })
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.call(DiskOp::CreateDirAll, |files| {
            files.create_dir_all(dir);
            Ok(())
        })
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.call(DiskOp::CreateNew, |files| files.create_new(path))?;
        Ok(self.handle(inode))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.call(DiskOp::Open, |files| files.inode_of(path))?;
        Ok(self.handle(inode))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.call(DiskOp::Exists, |files| Ok(files.exists(path)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call(DiskOp::Read, |files| {
            let inode = files.inode_of(path)?;
            Ok(files.content(inode).to_vec())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.call(DiskOp::List, |files| files.list(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(DiskOp::Rename, |files| files.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(DiskOp::Remove, |files| files.remove(path))
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let files = &self.lock().files;
        Ok(files.capacity.saturating_sub(files.used_bytes()))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut shared = self.lock();
        let checked = shared.faults.check(DiskOp::SyncDir);
        match checked {
            Ok(()) => shared.files.sync_dir(dir),
            Err(_) if !shared.faults.is_off() => shared.files.lose_unsynced_names(dir),
            Err(_) => {}
        }
        checked
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl DiskFile for SimFile {
    fn append(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        let mut shared = self.disk.lock();
        let was_off = shared.faults.is_off();
        let bytes: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect();
        if let Err(error) = shared.faults.check(DiskOp::Append) {
            if !was_off {
                shared.files.append_part(self.inode, &bytes);
            }
            return Err(error);
        }
        shared.files.append(self.inode, &bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.call(DiskOp::ReadAt, |files| {
            let content = files.content(self.inode);
            let start = usize::try_from(offset).map_or(content.len(), |at| at.min(content.len()));
            let count = buffer.len().min(content.len() - start);
            buffer[..count].copy_from_slice(&content[start..start + count]);
            Ok(count)
        })
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut shared = self.disk.lock();
        let checked = shared.faults.check(DiskOp::SyncData);
        match checked {
            Ok(()) => shared.files.sync_data(self.inode),
            Err(_) if !shared.faults.is_off() => shared.files.lose_unsynced_bytes(self.inode),
            Err(_) => {}
        }
        checked
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
        self.disk.call(DiskOp::SetLen, |files| {
            files.set_len(self.inode, len);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.call(DiskOp::Len, |files| Ok(files.content(self.inode).len() as u64))
    }
}

#[cfg(test)]
mod tests;
