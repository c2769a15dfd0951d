//! Where a restart goes on: the log position up to which everything is in the stores.
//!
//! For: one small file, replaced as a whole. A flush notes its end *before* it writes anything, so that a restart in
//! the middle repeats the same flush with the same boundaries, which the stores recognise.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_seams::disk::write_atomic;
use sawlog_seams::{Disk, Position};
use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "checkpoint.json";
const VERSION: u32 = 1;

/// A checkpoint that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system failed.
    #[error("checkpoint {path} cannot be {action}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The content makes no sense.
    #[error("checkpoint {path} is damaged: {problem}; the log and all tables are untouched")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checkpoint {
    version: u32,
    /// Everything before it is in the stores.
    pub(crate) position: u64,
    /// End of the flush that is under way, if one is.
    pub(crate) flush_to: Option<u64>,
    /// Latest event time that dedup has seen, UTC microseconds.
    pub(crate) newest_event: i64,
}

impl Checkpoint {
    pub(crate) fn new(position: Position, flush_to: Option<Position>, newest_event: i64) -> Self {
        Self { version: VERSION, position: position.0, flush_to: flush_to.map(|position| position.0), newest_event }
    }
}

pub(crate) struct CheckpointFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl CheckpointFile {
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: &Path) -> Self {
        Self { disk, path: folder.join(FILE_NAME) }
    }

    pub(crate) fn read(&self) -> Result<Checkpoint, CheckpointError> {
        let io = |source| CheckpointError::Io { path: self.path.clone(), action: "read", source };
        if !self.disk.exists(&self.path).map_err(io)? {
            return Ok(Checkpoint::new(Position::default(), None, i64::MIN));
        }
        let bytes = self.disk.read(&self.path).map_err(io)?;
        let damaged = |problem: String| CheckpointError::Damaged { path: self.path.clone(), problem };
        let checkpoint: Checkpoint = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if checkpoint.version != VERSION {
            return Err(damaged(format!("version {} is not {VERSION}", checkpoint.version)));
        }
        Ok(checkpoint)
    }

    pub(crate) fn write(&self, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        let io = |source| CheckpointError::Io { path: self.path.clone(), action: "written", source };
        let bytes = serde_json::to_vec_pretty(&checkpoint).map_err(|error| io(error.into()))?;
        write_atomic(self.disk.as_ref(), &self.path, &bytes).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use sawlog_seams::SimDisk;

    use super::*;

    /// Checkpoints of earlier versions are read for ever, and today's code still writes what it reads.
    #[test]
    fn checkpoints_of_version_1_are_read() {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/data")).expect("a folder");
        let file = CheckpointFile::new(Arc::new(disk.clone()), Path::new("/data"));
        let busy = Checkpoint::new(Position(4096), Some(Position(8192)), 1_795_489_200_000_000);
        let fresh = Checkpoint::new(Position(0), None, i64::MIN);
        for (kept, expected) in [
            (&include_bytes!("../../../tests/formats/checkpoint-v1.json")[..], busy),
            (include_bytes!("../../../tests/formats/checkpoint-v1-empty.json"), fresh),
        ] {
            disk.plant(&file.path, kept);
            assert_eq!(file.read().expect("readable"), expected);
            file.write(expected).expect("written");
            assert_eq!(disk.read(&file.path).expect("readable"), kept);
        }
    }

    #[test]
    fn a_checkpoint_of_a_newer_build_is_refused() {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/data")).expect("a folder");
        let file = CheckpointFile::new(Arc::new(disk.clone()), Path::new("/data"));
        for newer in [
            r#"{"version":2,"position":0,"flush_to":null,"newest_event":0}"#,
            r#"{"version":1,"position":0,"flush_to":null,"newest_event":0,"more":1}"#,
        ] {
            disk.plant(&file.path, newer.as_bytes());
            assert!(matches!(file.read(), Err(CheckpointError::Damaged { .. })), "{newer}");
        }
    }
}
