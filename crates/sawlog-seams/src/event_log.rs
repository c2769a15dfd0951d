//! The event log: what was accepted, in order, durable before it is acknowledged.
//!
//! For: the promise between those who accept events and those who process them. Not for: what is
//! inside a frame, and not for deciding when frames are no longer needed.

mod error;
mod memory;
mod reply;

pub use error::{AppendError, Disposition, ReleaseError, ReplayError};
pub use memory::MemoryEventLog;
pub use reply::AppendReply;

use bytes::Bytes;
use std::ops::ControlFlow;
use std::time::Duration;

/// Place in the event log: byte offset of a record since the log began. Strictly growing over the
/// life of the log, across restarts, and never used twice.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position(pub u64);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Receives the outcome of one append.
pub type AppendDone = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

/// Where an acknowledged frame is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Position of this record.
    pub position: Position,
    /// Where to go on: greater than `position`, not greater than the position of any later record.
    pub next: Position,
}

/// Visitor of a replay: gets the record's position, where to go on after it, and its frame.
pub type ReplayVisit<'a> = dyn FnMut(Position, Position, Bytes) -> ControlFlow<()> + 'a;

/// Durable, ordered log of frames (opaque bytes). Contract test: [`crate::contract::event_log`].
///
/// Durability: once `done` gets `Ok`, the frame survives a power loss. Order: `replay` yields frames
/// in position order. Retry: the log does not recognise a frame it has already got; the batch id
/// inside the frame does.
pub trait EventLog: Send + Sync {
    /// Queues one frame. Never blocks on disk.
    ///
    /// `done` is called exactly once, with `Ok` after the frame is durable, with `Err` if it is
    /// certainly not kept — or, where [`AppendError::is_outcome_unknown`], perhaps kept. Accepted
    /// frames are answered from the log's own thread, in position order; a frame refused at once
    /// (queue full, too large, log closed or failed) is answered before `append` returns, on the
    /// caller's thread. `done` may append again; it should not block or panic, but a panic in it
    /// does not stop the log.
    fn append(&self, frame: Bytes, done: AppendDone);

    /// Calls `visit` for each intact record at or after `from`, in order, until it breaks or the
    /// records that were durable at the call are through. Reports what was damaged.
    fn replay(&self, from: Position, visit: &mut ReplayVisit<'_>) -> Result<ReplayReport, ReplayError>;

    /// Allows deletion of everything before `before` (whole segments only, so less may be deleted).
    /// Records at or after `before` stay.
    fn release(&self, before: Position) -> Result<(), ReleaseError>;

    /// Where the log goes on: greater than the position of every durable record, not greater than
    /// that of any later one.
    fn next_position(&self) -> Position;

    /// Counters since the log was opened.
    fn stats(&self) -> LogStats;

    /// Finishes what is queued, syncs, and refuses later appends with [`AppendError::Closed`].
    /// Returns when all is answered, except when called from inside a `done`.
    fn close(&self);
}

/// What a replay went through.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReplayReport {
    /// Records given to `visit`.
    pub records: u64,
    /// Bytes of their frames.
    pub frame_bytes: u64,
    /// Where to go on: after the last visited record if `visit` broke, else the end of the log.
    pub next: Position,
    /// Start of the oldest segment left. If a reader's `from` is smaller and not zero, records it had not
    /// read may be gone.
    pub oldest: Position,
    /// Ranges at or after `from` that hold no readable record, in order.
    pub damages: Vec<Damage>,
}

/// A range of the log whose records cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Where it begins.
    pub position: Position,
    /// How long it is.
    pub bytes: u64,
    /// What is known about it.
    pub cause: DamageCause,
}

impl Damage {
    /// First position after the range.
    #[must_use]
    pub fn end(&self) -> Position {
        Position(self.position.0.saturating_add(self.bytes))
    }

    /// Whether some of it lies at or after `from`. An empty file has an empty range, which counts
    /// where it stands.
    #[must_use]
    pub fn touches(&self, from: Position) -> bool {
        self.position >= from || self.end() > from
    }
}

/// Why a range cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DamageCause {
    /// The end of the log was being written when the process or the machine stopped. Nothing valid
    /// follows, so nothing acknowledged is known to be lost.
    TornTail,
    /// A hole in what was being written when the machine stopped: records follow, but none of this
    /// had been acknowledged.
    Unsynced,
    /// Bytes that had been synced have changed: acknowledged records are probably lost.
    Rotten,
    /// Bytes that had been synced are not there: a file was removed or cut short.
    Missing,
    /// The header of a segment has changed; its records are not concerned.
    Header,
    /// A file of the log that holds no record of its place: a copy, a stranger, or zeros.
    Unrecognised,
}

impl DamageCause {
    /// Whether acknowledged records are probably lost, so that an operator should know.
    #[must_use]
    pub fn is_loss(self) -> bool {
        match self {
            Self::Rotten | Self::Missing | Self::Unrecognised => true,
            Self::TornTail | Self::Unsynced | Self::Header => false,
        }
    }
}

/// Upper bounds of the buckets in [`LogStats::sync_time_counts`]; the last bucket has none.
pub const SYNC_TIME_BOUNDS: [Duration; 7] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_secs(1),
];

/// Counters of an event log. Totals count since it was opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogStats {
    /// Segment files.
    pub segments: u64,
    /// Bytes of the segment files.
    pub segment_bytes: u64,
    /// Bytes of frames queued or being written, with a fixed overhead for each.
    pub queued_bytes: u64,
    /// Records acknowledged.
    pub appended_records: u64,
    /// Bytes of their frames.
    pub appended_bytes: u64,
    /// Frames answered with an error after they were queued.
    pub failed_records: u64,
    /// Frames refused at once.
    pub refused_records: u64,
    /// Syncs of record data; fewer than records when appends share them.
    pub syncs: u64,
    /// Time spent in them.
    pub sync_time_total: Duration,
    /// The longest.
    pub sync_time_max: Duration,
    /// How many took at most the bound in [`SYNC_TIME_BOUNDS`] at the same index (and more than the one
    /// before).
    pub sync_time_counts: [u64; SYNC_TIME_BOUNDS.len() + 1],
    /// A sync failed: the log takes no more appends and the process should stop.
    pub is_failed: bool,
}

impl LogStats {
    /// Counts one sync.
    pub fn record_sync(&mut self, took: Duration) {
        self.syncs += 1;
        self.sync_time_total += took;
        self.sync_time_max = self.sync_time_max.max(took);
        self.sync_time_counts[SYNC_TIME_BOUNDS.partition_point(|bound| *bound < took)] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sync_times_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let mut stats = LogStats::default();
        for micros in [1, 500, 501, 2_000_000] {
            stats.record_sync(Duration::from_micros(micros));
        }
        assert_eq!(stats.sync_time_counts, [2, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!((stats.syncs, stats.sync_time_max), (4, Duration::from_secs(2)));
    }
}
