//! Copies of damaged bytes, kept for people and tools that may get something out of them.
//!
//! For: `quarantine/<position>.bad` beside the segments. Not for: deciding what is damaged. Failures
//! are counted, never fatal: a full disk must not keep the log from opening.

use super::RecoveryReport;
use super::assess::Assessment;
use crate::ledger::Segment;
use sawlog_seams::Disk;
use sawlog_seams::disk::write_atomic;
use sawlog_seams::event_log::{Damage, DamageCause};
use std::io;
use std::path::{Path, PathBuf};

/// Copies all damaged ranges whose bytes are there, and moves duplicates away.
pub(super) fn quarantine(disk: &dyn Disk, dir: &Path, assessment: &Assessment, report: &mut RecoveryReport) {
    let dir = dir.join("quarantine");
    for damage in assessment.damages.iter().filter(|damage| has_evidence(damage)) {
        let holds = |segment: &&Segment| segment.start <= damage.position;
        let segment = assessment.segments.iter().rev().find(holds);
        let copied = segment.map(|segment| copy(disk, &dir, segment, damage));
        note(copied.unwrap_or(Err(io::ErrorKind::NotFound.into())), report);
    }
    for duplicate in &assessment.duplicates {
        report.foreign_files.push(duplicate.clone());
        note(move_away(disk, &dir, duplicate), report);
    }
}

/// Torn and unsynced bytes were never acknowledged and come with every power loss.
fn has_evidence(damage: &Damage) -> bool {
    match damage.cause {
        DamageCause::Rotten | DamageCause::Header | DamageCause::Unrecognised => damage.bytes > 0,
        DamageCause::TornTail | DamageCause::Unsynced | DamageCause::Missing => false,
    }
}

fn note(outcome: io::Result<PathBuf>, report: &mut RecoveryReport) {
    match outcome {
        Ok(path) => report.quarantined.push(path),
        Err(_) => report.quarantine_failures += 1,
    }
}

fn copy(disk: &dyn Disk, dir: &Path, segment: &Segment, damage: &Damage) -> io::Result<PathBuf> {
    let path = dir.join(format!("{:020}.bad", damage.position.0));
    if disk.exists(&path)? {
        return Ok(path); // copied by an earlier open
    }
    let len = usize::try_from(damage.bytes).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let offset = damage.position.0 - segment.start.0;
    let read = disk.open(&segment.path)?.read_at(offset, &mut bytes)?;
    disk.create_dir_all(dir)?;
    write_atomic(disk, &path, &bytes[..read])?;
    Ok(path)
}

fn move_away(disk: &dyn Disk, dir: &Path, file: &Path) -> io::Result<PathBuf> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let path = dir.join(format!("{name}.duplicate"));
    disk.create_dir_all(dir)?;
    disk.rename(file, &path)?;
    Ok(path)
}
