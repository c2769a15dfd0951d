//! Whether the disk has room for new events.
//!
//! For: refusing events while there is still enough space to write what was accepted, so that a disk that fills up
//! never stops a flush half way and needs nobody to tidy up. Not for: running out of space all the same, since others
//! write to the disk too; every store reports that itself.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sawlog_seams::{Clock, Disk};

/// How long an answer of the file system is used.
const ANSWER_AGE_MAX: Duration = Duration::from_millis(200);

pub(crate) struct Room {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    folder: PathBuf,
    free_min: u64,
    /// When the file system was asked, and the free bytes if they are too few.
    last: Mutex<Option<(Duration, Option<u64>)>>,
}

impl Room {
    pub(crate) fn new(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, folder: PathBuf, free_min: u64) -> Self {
        Self { disk, clock, folder, free_min, last: Mutex::new(None) }
    }

    pub(crate) fn free_min(&self) -> u64 {
        self.free_min
    }

    /// Free bytes, if they are fewer than there must be. A file system that does not answer has room: writing to it
    /// tells.
    pub(crate) fn shortage(&self) -> Option<u64> {
        let now = self.clock.monotonic();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, shortage)) = *last
            && now.saturating_sub(asked) < ANSWER_AGE_MAX
        {
            return shortage;
        }
        let shortage = self.disk.free_bytes(&self.folder).ok().filter(|free| *free < self.free_min);
        *last = Some((now, shortage));
        shortage
    }
}

#[cfg(test)]
mod tests {
    use sawlog_seams::SimDisk;
    use sawlog_seams::clock::ManualClock;

    use super::*;

    #[test]
    fn a_shortage_is_seen_and_ends_by_itself_after_a_moment() {
        let (disk, clock) = (SimDisk::new(1), Arc::new(ManualClock::at_micros(0)));
        let room = Room::new(Arc::new(disk.clone()), Arc::clone(&clock) as Arc<dyn Clock>, PathBuf::from("/"), 100);
        assert_eq!(room.shortage(), None);
        disk.set_capacity(99);
        assert_eq!(room.shortage(), None, "the answer is kept for a moment");
        clock.advance(ANSWER_AGE_MAX);
        assert_eq!(room.shortage(), Some(99));
        disk.set_capacity(100);
        clock.advance(ANSWER_AGE_MAX);
        assert_eq!(room.shortage(), None);
    }
}
