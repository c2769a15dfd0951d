//! Up to when a tail has all entries: a small file that a restart fills the gap from.
//!
//! For: the time before which every entry is stored or asked for. Not for: which entries there are; those that come twice are
//! recognized by their ids.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_seams::Disk;
use sawlog_seams::disk::write_atomic;
use serde::{Deserialize, Serialize};

use super::entry::Nanos;

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    complete_until: Nanos,
}

/// The file.
pub(super) struct TailFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl TailFile {
    pub(super) fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self { disk, path: path.to_path_buf() }
    }

    /// What it says; `None` if there is none. One that cannot be read is logged and counts as none: the tail begins now.
    pub(super) fn load(&self) -> Option<Nanos> {
        let read = || -> std::io::Result<Option<Content>> {
            if !self.disk.exists(&self.path)? {
                return Ok(None);
            }
            Ok(Some(serde_json::from_slice(&self.disk.read(&self.path)?)?))
        };
        match read() {
            Ok(content) => content.filter(|content| content.version == VERSION).map(|content| content.complete_until),
            Err(error) => {
                tracing::error!(%error, path = %self.path.display(), "the file of a tail cannot be read; entries since it stopped must be back-filled");
                None
            }
        }
    }

    /// Writes it; a failure is logged, and a restart fills a longer gap.
    pub(super) fn save(&self, complete_until: Nanos) {
        let content = Content { version: VERSION, complete_until };
        let bytes = serde_json::to_vec(&content).map_err(std::io::Error::from);
        if let Err(error) = bytes.and_then(|bytes| write_atomic(self.disk.as_ref(), &self.path, &bytes)) {
            tracing::warn!(%error, path = %self.path.display(), "the file of a tail cannot be written");
        }
    }
}

/// What a tail has and what it lacks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// All entries before it came, but for the gap.
    seen: Nanos,
    /// From when on entries may lack that a list is to give.
    gap: Option<Gap>,
    /// How often a gap was opened.
    opened: u64,
}

/// A time from which on entries may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) from: Nanos,
    /// Which opening it is: one that is opened again while a list runs needs another list.
    opened: u64,
}

impl Marks {
    pub(super) fn new(seen: Nanos) -> Self {
        Self { seen, gap: None, opened: 0 }
    }

    /// Before which every entry is there.
    pub(super) fn complete_until(&self) -> Nanos {
        self.gap.map_or(self.seen, |gap| gap.from.min(self.seen))
    }

    /// An entry of that time is stored.
    pub(super) fn see(&mut self, time: Nanos) {
        self.seen = self.seen.max(time);
    }

    /// Entries may lack since a time.
    pub(super) fn open_gap(&mut self, from: Nanos) {
        self.opened += 1;
        let from = self.gap.map_or(from, |gap| gap.from.min(from));
        self.gap = Some(Gap { from, opened: self.opened });
    }

    /// What a list must ask for, if it must.
    pub(super) fn gap(&self) -> Option<Gap> {
        self.gap
    }

    /// A list for the gap has given all entries before `until`.
    pub(super) fn close_gap(&mut self, gap: Gap, until: Nanos) {
        self.see(until);
        if self.gap == Some(gap) {
            self.gap = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use sawlog_seams::SimDisk;

    use super::*;

    #[test]
    fn a_tail_is_complete_up_to_its_first_gap() {
        let mut marks = Marks::new(10);
        marks.see(20);
        assert_eq!(marks.complete_until(), 20);
        marks.open_gap(15);
        marks.open_gap(18);
        marks.see(40);
        assert_eq!(marks.complete_until(), 15);
        let gap = marks.gap().expect("a gap");
        marks.close_gap(gap, 30);
        assert_eq!((marks.complete_until(), marks.gap()), (40, None));
    }

    #[test]
    fn a_gap_that_is_opened_while_it_is_filled_is_filled_again() {
        let mut marks = Marks::new(10);
        marks.open_gap(10);
        let listed = marks.gap().expect("a gap");
        // What was left out now is later than what the list gives.
        marks.open_gap(marks.complete_until());
        marks.close_gap(listed, 30);
        let gap = marks.gap().expect("it is still there");
        assert_eq!((marks.complete_until(), gap.from), (10, 10));
        marks.close_gap(gap, 40);
        assert_eq!(marks.complete_until(), 40);
    }

    #[test]
    fn files_of_version_1_are_read() {
        let disk = Arc::new(SimDisk::new(1));
        disk.plant(Path::new("/d/f"), include_bytes!("../../../../tests/formats/logging-tail-v1.json"));
        assert_eq!(TailFile::new(disk, Path::new("/d/f")).load(), Some(1_794_700_805_000_000_000));
    }

    #[test]
    fn the_file_is_read_back() {
        let disk = Arc::new(SimDisk::new(1));
        disk.create_dir_all(Path::new("/d")).expect("a folder");
        let file = TailFile::new(disk.clone(), Path::new("/d/tail.json"));
        assert_eq!(file.load(), None);
        file.save(7);
        assert_eq!(file.load(), Some(7));
        write_atomic(disk.as_ref(), Path::new("/d/tail.json"), b"{").expect("written");
        assert_eq!(file.load(), None);
    }
}
