//! Settings of the event log.
//!
//! For: sizes and the place of the log. Not for: parsing configuration files, which the binary does.

use crate::format::{RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use sawlog_seams::Position;
use std::path::PathBuf;

/// Size at which a segment is sealed: larger saves syncs, smaller lets `release` free space earlier
/// and bounds the memory of recovery.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Bytes that may wait for the disk: about a second of a fast disk.
pub const QUEUE_BYTES_MAX: u64 = 64 << 20;
/// Largest frame: a request of 64 MiB and its envelope.
pub const FRAME_BYTES_MAX: u64 = (64 << 20) + (64 << 10);
/// Upper limit of every size setting, so that a segment can be read into memory and lengths fit into
/// the 32 bits of a record header.
const SIZE_MAX: u64 = 1 << 30;

/// How to open a [`Wal`](crate::Wal).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalOptions {
    /// Directory of the log; created if absent. Nothing else may write there.
    pub dir: PathBuf,
    /// Size at which a segment is sealed. One record larger than this gets a segment of its own.
    pub segment_bytes_max: u64,
    /// Bytes that may be queued before appends are refused as overloaded. One frame is always taken
    /// when the queue is empty.
    pub queue_bytes_max: u64,
    /// Largest frame taken.
    pub frame_bytes_max: u64,
    /// The log gives out no position before this one. Pass the last checkpoint of its readers: if the
    /// log's files were lost, new records would otherwise get positions that readers have passed.
    pub position_min: Position,
}

impl WalOptions {
    /// The defaults for a directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes_max: SEGMENT_BYTES_MAX,
            queue_bytes_max: QUEUE_BYTES_MAX,
            frame_bytes_max: FRAME_BYTES_MAX,
            position_min: Position(0),
        }
    }

    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        let smallest = SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES;
        let sizes = [
            ("segment_bytes_max", self.segment_bytes_max, smallest),
            ("queue_bytes_max", self.queue_bytes_max, 1),
            ("frame_bytes_max", self.frame_bytes_max, 1),
        ];
        for (name, value, min) in sizes {
            if !(min..=SIZE_MAX).contains(&value) {
                return Err(OptionsError { name, value, min, max: SIZE_MAX });
            }
        }
        Ok(())
    }
}

/// A setting is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event log option {name} is {value} B, but must be from {min} to {max} B")]
pub struct OptionsError {
    name: &'static str,
    value: u64,
    min: u64,
    max: u64,
}
