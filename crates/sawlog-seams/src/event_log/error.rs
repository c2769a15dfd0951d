//! What can go wrong with an event log, and what the caller does about it.
//!
//! For: matching on outcomes. Not for: text shown to API users, which belongs to the server.

use super::Position;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Time a full queue usually needs to make room: a few group commits.
const RETRY_AFTER_OVERLOAD: Duration = Duration::from_secs(1);
/// Time after which trying a failing disk again is worth it.
const RETRY_AFTER_DISK_ERROR: Duration = Duration::from_secs(5);

/// What the caller does with an append that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The same frame may succeed later; tell the client when.
    RetryAfter(Duration),
    /// The log takes nothing more; stop the process.
    Stop,
    /// This frame will never be accepted.
    Refuse,
}

/// Why a frame was not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The queue's byte limit is reached.
    #[error("append queue of the event log is full at {queued_bytes} B")]
    Overloaded {
        /// Bytes queued or being written.
        queued_bytes: u64,
    },
    /// No space; the frame is certainly not kept. The next append tries again.
    #[error("disk is full while appending to the event log")]
    DiskFull {
        /// The disk's error.
        source: Arc<io::Error>,
    },
    /// A sync failed, which is final: the frame may or may not be kept.
    #[error("sync of the event log failed, its unsynced records may be lost")]
    SyncFailed {
        /// The disk's error.
        source: Arc<io::Error>,
    },
    /// The log stopped before this frame was written; the frame is certainly not kept.
    #[error("event log has stopped after a failed sync or a fault of its own")]
    Poisoned,
    /// The log's thread died over this frame: the frame may or may not be kept.
    #[error("event log stopped while it was writing this frame")]
    Abandoned,
    /// A write failed. The next append tries again.
    #[error("write to the event log failed")]
    Write {
        /// Whether the write was undone, so that the frame is certainly not kept. If not, the frame
        /// may be replayed after a restart.
        undone: bool,
        /// The disk's error.
        source: Arc<io::Error>,
    },
    /// The log was closed before the frame came.
    #[error("event log is closed")]
    Closed,
    /// The frame is larger than the log takes.
    #[error("frame of {frame_bytes} B is larger than the event log takes ({max} B)")]
    FrameTooLarge {
        /// Size of the frame.
        frame_bytes: u64,
        /// Largest size taken.
        max: u64,
    },
}

impl AppendError {
    /// What the caller does now.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Overloaded { .. } => Disposition::RetryAfter(RETRY_AFTER_OVERLOAD),
            Self::DiskFull { .. } | Self::Write { .. } => Disposition::RetryAfter(RETRY_AFTER_DISK_ERROR),
            // Syncing the same pages again would report success for bytes that are lost.
            Self::SyncFailed { .. } | Self::Poisoned | Self::Abandoned | Self::Closed => Disposition::Stop,
            Self::FrameTooLarge { .. } => Disposition::Refuse,
        }
    }

    /// Whether the frame may be kept although it was not acknowledged: a retry may then store it
    /// twice, and the batch id makes that harmless.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::SyncFailed { .. } | Self::Abandoned | Self::Write { undone: false, .. })
    }

    /// What to do now.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Overloaded { .. } => "send slower, or raise `wal.queue-size`",
            Self::DiskFull { .. } => "free space on the disk of the data folder",
            Self::SyncFailed { .. } | Self::Poisoned | Self::Abandoned => {
                "check the disk of the data folder (kernel log, SMART), then restart"
            }
            Self::Write { .. } => "check the disk of the data folder (kernel log, SMART)",
            Self::Closed => "send again after the restart",
            Self::FrameTooLarge { .. } => "send smaller batches",
        }
    }
}

/// Why a replay stopped early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A segment cannot be read.
    #[error("cannot read event log segment {segment}")]
    Read {
        /// Path of the segment.
        segment: String,
        /// The disk's error.
        source: io::Error,
    },
    /// A segment was released while the replay was on its way to it.
    #[error("event log segment at {segment_start} was released during the replay")]
    Released {
        /// Where the segment began.
        segment_start: Position,
    },
}

impl ReplayError {
    /// What to do now.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the disk under `wal.path`, then restart",
            Self::Released { .. } => "release only what every reader has passed",
        }
    }
}

/// Why released segments are still there.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A segment cannot be removed; a later release tries again.
    #[error("cannot remove event log segment {segment}")]
    Remove {
        /// Path of the segment.
        segment: String,
        /// The disk's error.
        source: io::Error,
    },
    /// The removal could not be made durable; the log stops, because a failed sync is final.
    #[error("sync of the event log directory failed after removing a segment")]
    SyncFailed {
        /// The disk's error.
        source: io::Error,
    },
    /// The log has stopped.
    #[error("event log has stopped after a failed sync")]
    Poisoned,
}

impl ReleaseError {
    /// What to do now.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "check the disk and the permissions under `wal.path`"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_frame_that_may_be_kept_has_an_unknown_outcome() {
        let source = Arc::new(io::Error::other("x"));
        let unknown = [
            AppendError::SyncFailed { source: source.clone() },
            AppendError::Write { undone: false, source: source.clone() },
            AppendError::Abandoned,
        ];
        let known = [
            AppendError::DiskFull { source: source.clone() },
            AppendError::Write { undone: true, source },
            AppendError::Poisoned,
            AppendError::Closed,
        ];
        assert!(unknown.iter().all(AppendError::is_outcome_unknown));
        assert!(!known.iter().any(AppendError::is_outcome_unknown));
    }

    #[test]
    fn a_full_disk_can_be_retried_and_a_failed_sync_cannot() {
        let source = Arc::new(io::Error::from(io::ErrorKind::StorageFull));
        let full = AppendError::DiskFull { source: source.clone() };
        assert!(matches!(full.disposition(), Disposition::RetryAfter(_)));
        assert_eq!(AppendError::SyncFailed { source }.disposition(), Disposition::Stop);
    }
}
