//! The segment that is being written.
//!
//! For: creating it, appending to it, and cutting off a failed append. Not for: deciding when
//! ([`crate::commit`]) or reading ([`crate::scan`]).
//! Invariant: the file holds its header and whole, synced records up to `end`, or the segment is
//! given up.

use crate::format::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};
use crate::ledger::Ledger;
use sawlog_seams::disk::staging_path;
use sawlog_seams::{Disk, DiskFile, Position};
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

/// A disk call that failed, by what it means for the log.
#[derive(Debug)]
pub(crate) enum Failure {
    /// May succeed later.
    Io(io::Error),
    /// Final: bytes that the kernel took for written may be lost.
    Sync(io::Error),
}

/// The file that records are appended to.
pub(crate) struct ActiveSegment {
    pub(crate) path: PathBuf,
    file: Box<dyn DiskFile>,
    pub(crate) start: Position,
    /// After the last synced record.
    pub(crate) end: Position,
}

impl ActiveSegment {
    /// Creates a segment durably. The header is synced under another name first, so a crash leaves
    /// either no segment or one with an intact header.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        ledger: &Ledger,
        header: &SegmentHeader,
    ) -> Result<Self, Failure> {
        let path = dir.join(segment_name(header.start));
        let staged = staging_path(&path);
        let prepared = prepare(disk, &staged, header).and_then(|file| {
            let _names_change = ledger.lock_directory();
            if disk.exists(&path).map_err(Failure::Io)? {
                return Err(Failure::Io(ErrorKind::AlreadyExists.into()));
            }
            disk.rename(&staged, &path).map_err(Failure::Io)?;
            disk.sync_dir(dir).map_err(|error| stop(ledger, error))?;
            Ok(file)
        });
        let file = prepared.inspect_err(|_| {
            // Frees the space; what is left is removed at the next attempt or at the next open.
            let _ignored = disk.remove(&staged);
        })?;
        let end = Position(header.start.0 + SEGMENT_HEADER_BYTES);
        Ok(Self { path, file, start: header.start, end })
    }

    /// Bytes of the header and the synced records.
    pub(crate) fn len(&self) -> u64 {
        self.end.0 - self.start.0
    }

    pub(crate) fn has_records(&self) -> bool {
        self.len() > SEGMENT_HEADER_BYTES
    }

    /// Whether the file ends where we left it. Nobody else may write to it, but records appended
    /// elsewhere than we think would be acknowledged and unreadable.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        Ok(self.file.len()? == self.len())
    }

    pub(crate) fn append(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        self.file.append(buffers)
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Cuts off what a failed append left. Synced, because otherwise a crash could bring back records
    /// that were reported as not kept.
    pub(crate) fn cut_failed_append(&mut self) -> Result<(), Failure> {
        self.file.set_len(self.len()).map_err(Failure::Io)?;
        self.file.sync_data().map_err(Failure::Sync)
    }
}

fn prepare(disk: &dyn Disk, staged: &Path, header: &SegmentHeader) -> Result<Box<dyn DiskFile>, Failure> {
    if disk.exists(staged).map_err(Failure::Io)? {
        disk.remove(staged).map_err(Failure::Io)?;
    }
    let mut file = disk.create_new(staged).map_err(Failure::Io)?;
    file.append(&[IoSlice::new(&header.encode())]).map_err(Failure::Io)?;
    file.sync_data().map_err(Failure::Sync)?;
    Ok(file)
}

fn stop(ledger: &Ledger, error: io::Error) -> Failure {
    ledger.fail(); // before the directory is unlocked
    Failure::Sync(error)
}
