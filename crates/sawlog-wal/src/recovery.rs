//! Opening a log that may have been torn, damaged or tampered with.
//!
//! For: finding out what is intact, saying what is not, and where to go on. Not for: handing out
//! records ([`crate::replay`]). Reads one segment at a time into memory.
//!
//! Recovery changes nothing in the segments: a torn tail is cut by the header of the next segment,
//! which says where the valid records end. The log goes on in a fresh segment that begins after every
//! byte found, because only then
//! - no position is used twice, even if the tail held acknowledged records that rotted;
//! - new records never depend on a file whose last sync may have failed in the life before;
//! - whatever was torn or damaged stays as evidence until it is released;
//! - a log on a full disk opens and can be read.

mod assess;
mod quarantine;

use crate::commit::NextSegment;
use crate::format::{ParsedSegmentHeader, parse_segment_name};
use crate::ledger::State;
use crate::options::{OptionsError, WalOptions};
use crate::scan::Summary;
use assess::{Assessment, Found};
use sawlog_seams::event_log::{Damage, DamageCause};
use sawlog_seams::{Disk, Position};
use std::io;
use std::path::{Path, PathBuf};

/// What opening the log found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Segment files.
    pub segments: u64,
    /// Intact records.
    pub records: u64,
    /// Start of the oldest segment.
    pub oldest: Position,
    /// Where the log goes on.
    pub next: Position,
    /// Ranges without readable records, in order.
    pub damages: Vec<Damage>,
    /// Copies of damaged bytes in `quarantine/`, including those of earlier opens.
    pub quarantined: Vec<PathBuf>,
    /// Files that are not part of the log: duplicates (moved to `quarantine/`) and strangers (left
    /// alone).
    pub foreign_files: Vec<PathBuf>,
    /// Copies or moves to `quarantine/` that failed; the next open tries again.
    pub quarantine_failures: u64,
}

impl RecoveryReport {
    /// Damages by which acknowledged records are probably lost.
    pub fn losses(&self) -> impl Iterator<Item = &Damage> {
        self.damages.iter().filter(|damage| damage.cause.is_loss())
    }

    /// Damages by which acknowledged records are probably lost although their bytes are there: each was one record at
    /// least. Copies of them are in `quarantine/`.
    pub fn quarantined_records(&self) -> impl Iterator<Item = &Damage> {
        self.losses().filter(|damage| damage.cause != DamageCause::Missing)
    }

    /// Bytes that acknowledged records were in and that no file has any more.
    #[must_use]
    pub fn missing_bytes(&self) -> u64 {
        let missing = self.damages.iter().filter(|damage| damage.cause == DamageCause::Missing);
        missing.map(|damage| damage.bytes).sum()
    }

    /// Bytes cut from the end of the log, where writing was interrupted.
    #[must_use]
    pub fn torn_bytes(&self) -> u64 {
        let torn = self.damages.iter().filter(|damage| damage.cause == DamageCause::TornTail);
        torn.map(|damage| damage.bytes).sum()
    }
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is out of range.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The directory cannot be created or listed.
    #[error("cannot read event log directory {dir}")]
    Directory {
        /// The directory.
        dir: String,
        /// The disk's error.
        source: io::Error,
    },
    /// A segment cannot be read. Going on without it would let readers pass its records for ever.
    #[error("cannot read event log segment {segment}")]
    Read {
        /// Path of the segment.
        segment: String,
        /// The disk's error.
        source: io::Error,
    },
    /// The last segment, or the directory, cannot be made durable.
    #[error("sync of {path} failed while opening the event log")]
    Sync {
        /// The file or directory.
        path: String,
        /// The disk's error.
        source: io::Error,
    },
    /// A segment was written by a newer Sawlog.
    #[error("event log segment {segment} has format version {version}, which is newer than this program")]
    NewerVersion {
        /// Path of the segment.
        segment: String,
        /// Its version.
        version: u32,
    },
    /// The writer thread cannot be started.
    #[error("cannot start the event log's thread")]
    Thread {
        /// The system's error.
        source: io::Error,
    },
}

impl OpenError {
    /// What to do now.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Options(_) => "correct the setting",
            Self::Directory { .. } => "check that `wal.path` is a directory that can be written",
            Self::Read { .. } | Self::Sync { .. } => {
                "check the disk under `wal.path` (kernel log, SMART); a segment that stays unreadable \
                 can be moved away, which loses its records"
            }
            Self::NewerVersion { .. } => "start the newer version again",
            Self::Thread { .. } => "raise the limit of threads or memory",
        }
    }
}

/// A log ready to go on.
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) next_segment: NextSegment,
    pub(crate) report: RecoveryReport,
}

/// Reads the whole log and says how to go on.
pub(crate) fn recover(options: &WalOptions, disk: &dyn Disk) -> Result<Recovered, OpenError> {
    let dir = options.dir.as_path();
    let directory_error = |source| OpenError::Directory { dir: dir.display().to_string(), source };
    disk.create_dir_all(dir).map_err(directory_error)?;
    let names = disk.list(dir).map_err(directory_error)?;
    let mut report = RecoveryReport::default();
    let mut found = Vec::new();
    for name in names {
        let path = dir.join(&name);
        if let Some(named_start) = parse_segment_name(&name) {
            found.push(Found { summary: summarise(disk, &path, named_start)?, named_start, path });
        } else if name.ends_with(".wal.tmp") {
            // A segment that was being created. If it cannot be removed, it only takes space.
            let _ignored = disk.remove(&path);
        } else {
            report.foreign_files.push(path);
        }
    }
    let assessment = assess::assess(found, options.position_min);
    sync_found(disk, dir, &assessment)?;
    quarantine::quarantine(disk, dir, &assessment, &mut report);
    Ok(finish(assessment, report))
}

fn summarise(disk: &dyn Disk, path: &Path, named_start: Position) -> Result<Summary, OpenError> {
    let segment = || path.display().to_string();
    let bytes = disk.read(path).map_err(|source| OpenError::Read { segment: segment(), source })?;
    let summary = Summary::of(named_start, &bytes);
    match summary.header {
        ParsedSegmentHeader::NewerVersion(version) => Err(OpenError::NewerVersion { segment: segment(), version }),
        _readable => Ok(summary),
    }
}

/// After a kill, records may be readable and segments removed without having been synced. They are made
/// durable before anyone relies on them, so that what has been replayed stays and a power loss brings
/// back no released segment. Older segments were synced before the next began.
fn sync_found(disk: &dyn Disk, dir: &Path, assessment: &Assessment) -> Result<(), OpenError> {
    let sync_error = |path: &Path, source| OpenError::Sync { path: path.display().to_string(), source };
    disk.sync_dir(dir).map_err(|source| sync_error(dir, source))?;
    let Some(path) = &assessment.last_recognised else { return Ok(()) };
    let synced = disk.open(path).and_then(|mut file| file.sync_data());
    synced.map_err(|source| sync_error(path, source))
}

fn finish(assessment: Assessment, report: RecoveryReport) -> Recovered {
    let Assessment { segments, damages, next_segment, records, .. } = assessment;
    let end = next_segment.start;
    let report = RecoveryReport {
        segments: segments.len() as u64,
        records,
        oldest: segments.first().map_or(end, |segment| segment.start),
        next: end,
        damages: damages.clone(),
        ..report
    };
    let state = State { segments, end, damages, ..State::default() };
    Recovered { state, next_segment, report }
}
