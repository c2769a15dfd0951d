//! What is remembered of followed files: `tail.json` in the data folder.
//!
//! For: resuming at the exact byte, and repeating exactly the batch that was under way. Not for: reading the files. The
//! file is replaced as a whole, so that it is never half written. Layout: docs/formats/tail.md.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sawlog_seams::Disk;
use sawlog_seams::disk::write_atomic;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Key of the `[[tail]]` that it belongs to.
    pub(super) tail: String,
    /// Its path when it was found; the records say that they come from it.
    pub(super) name: String,
    /// Its path when it was last seen.
    pub(super) path: PathBuf,
    pub(super) device: u64,
    pub(super) inode: u64,
    /// When reading began, UTC microseconds; another one after a truncation, so that the same range is another batch.
    pub(super) epoch: i64,
    /// How many of its first bytes the hash is made of.
    pub(super) head_bytes: u64,
    pub(super) head_hash: u64,
    /// Everything before it is stored.
    pub(super) offset: u64,
    /// End of the batch that was submitted and not acknowledged yet.
    pub(super) pending: Option<u64>,
    /// Whether the offset is inside a line that is left out.
    pub(super) is_skipping: bool,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    /// Keys of the `[[tail]]`s that were looked at before.
    pub(super) started: BTreeSet<String>,
    pub(super) files: Vec<Entry>,
}

impl State {
    pub(super) const fn new(started: BTreeSet<String>, files: Vec<Entry>) -> Self {
        Self { version: VERSION, started, files }
    }

    /// Reads it; nothing remembered is fine.
    pub(super) fn load(disk: &dyn Disk, path: &Path) -> anyhow::Result<Self> {
        if !disk.exists(path)? {
            return Ok(Self::new(BTreeSet::new(), Vec::new()));
        }
        let hint = "move it away to read the followed files from their beginning again";
        let bytes = disk.read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let state: Self =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged; {hint}", path.display()))?;
        anyhow::ensure!(state.version == VERSION, "{} is of a newer build; use that, or {hint}", path.display());
        Ok(state)
    }

    /// Writes it durably.
    pub(super) fn save(&self, disk: &dyn Disk, path: &Path) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec_pretty(self)?;
        write_atomic(disk, path, &bytes).with_context(|| format!("{} cannot be written", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use sawlog_seams::SimDisk;

    use super::*;

    /// States of earlier versions are read for ever, and today's code still writes what it reads.
    #[test]
    fn states_of_version_1_are_read() {
        let kept = include_bytes!("../../../../tests/formats/tail-v1.json");
        let (disk, path) = (SimDisk::new(1), Path::new("/data/tail.json"));
        disk.create_dir_all(Path::new("/data")).expect("a folder");
        disk.plant(path, kept);
        let key = "/var/log/app.log\n/var/log/nginx/*.log".to_owned();
        let entry = Entry {
            tail: key.clone(),
            name: "/var/log/app.log".to_owned(),
            path: PathBuf::from("/var/log/app.log.1"),
            device: 64_769,
            inode: 42,
            epoch: 1_795_489_200_000_000,
            head_bytes: 1024,
            head_hash: u64::MAX,
            offset: 5_000,
            pending: Some(6_000),
            is_skipping: true,
        };
        let state = State::load(&disk, path).expect("readable");
        assert_eq!(state, State::new(BTreeSet::from([key]), vec![entry]));
        state.save(&disk, path).expect("written");
        assert_eq!(disk.read(path).expect("readable"), kept);
    }
}
