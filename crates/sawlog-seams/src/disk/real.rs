//! The machine's file system.
//!
//! For: passing [`Disk`] calls to `std::fs`. Not for: policy, retries or caching.

use super::{Disk, DiskFile};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Buffers handed to one `writev` call; Linux takes at most 1,024 (`IOV_MAX`).
const BUFFERS_PER_CALL_MAX: usize = 1024;

/// [`Disk`] on `std::fs`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        self.create_dir_all(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists || !dir.is_dir() => Err(error),
            _created => self.sync_dir(parent),
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(path)?;
        Ok(Box::new(RealFile { file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).append(true).open(path)?;
        Ok(Box::new(RealFile { file }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn append(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        for call in buffers.chunks(BUFFERS_PER_CALL_MAX) {
            write_all_vectored(&mut self.file, call)?;
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// `Write::write_all_vectored` is not stable yet.
fn write_all_vectored(file: &mut impl Write, buffers: &[IoSlice<'_>]) -> io::Result<()> {
    let mut owned: Vec<IoSlice<'_>> = buffers.to_vec();
    let mut rest: &mut [IoSlice<'_>] = &mut owned;
    IoSlice::advance_slices(&mut rest, 0); // drops leading empty buffers
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes at most three bytes per call and is interrupted every other call.
    struct Reluctant {
        written: Vec<u8>,
        calls: usize,
    }

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(2) {
                return Err(ErrorKind::Interrupted.into());
            }
            let taken = bytes.len().min(3);
            self.written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn short_and_interrupted_writes_are_continued() {
        let mut file = Reluctant { written: Vec::new(), calls: 0 };
        let buffers = [b"" as &[u8], b"hello", b"", b" world", b""].map(IoSlice::new);
        write_all_vectored(&mut file, &buffers).unwrap();
        assert_eq!(file.written, b"hello world");
    }

    #[test]
    fn more_buffers_than_one_call_takes_are_all_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = RealDisk.create_new(&dir.path().join("f")).unwrap();
        file.append(&vec![IoSlice::new(b"ab"); 3000]).unwrap();
        assert_eq!(file.len().unwrap(), 6000);
    }

    #[test]
    fn nested_directories_are_created_and_files_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("a/b/c");
        RealDisk.create_dir_all(&nested).unwrap();
        RealDisk.create_dir_all(&nested).unwrap();
        for name in ["2", "1", "3"] {
            RealDisk.create_new(&nested.join(name)).unwrap();
        }
        RealDisk.rename(&nested.join("3"), &nested.join("0")).unwrap();
        RealDisk.remove(&nested.join("2")).unwrap();
        RealDisk.sync_dir(&nested).unwrap();
        assert_eq!(RealDisk.list(&nested).unwrap(), ["0", "1"]);
        assert!(RealDisk.list(dir.path()).unwrap().is_empty());
        assert!(RealDisk.create_new(&nested.join("0")).is_err());
    }

    #[test]
    fn reads_stop_at_the_end_and_appends_follow_a_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut file = RealDisk.create_new(&path).unwrap();
        file.append(&[IoSlice::new(b"0123456789")]).unwrap();
        file.set_len(4).unwrap();
        RealDisk.open(&path).unwrap().append(&[IoSlice::new(b"xy")]).unwrap();
        file.sync_data().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(file.read_at(2, &mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"23xy");
    }
}
