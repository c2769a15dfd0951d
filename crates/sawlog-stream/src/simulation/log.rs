//! The event log of the simulation: answers at once, keeps everything, lets go of what it is told to.
//!
//! For: an order that the simulation decides. Not for: losing what was acknowledged: that is proved of the real log
//! (`sawlog-wal`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sawlog_seams::event_log::ReplayVisit;
use sawlog_seams::{AppendDone, Appended, EventLog, LogStats, Position, ReleaseError, ReplayError, ReplayReport};

/// Bytes before each frame, so that positions of records and ends of records differ.
const HEADER_BYTES: u64 = 32;

#[derive(Debug, Default)]
pub(super) struct SimLog {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    records: Vec<(Position, Position, Bytes)>,
    end: u64,
    oldest: u64,
}

impl SimLog {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a frame, which is durable then.
    pub(super) fn keep(&self, frame: Bytes) -> Appended {
        let mut kept = self.lock();
        let position = Position(kept.end + HEADER_BYTES);
        let next = Position(position.0 + frame.len() as u64);
        kept.end = next.0;
        kept.records.push((position, next, frame));
        Appended { position, next }
    }
}

impl EventLog for SimLog {
    fn append(&self, frame: Bytes, done: AppendDone) {
        done(Ok(self.keep(frame)));
    }

    fn replay(&self, from: Position, visit: &mut ReplayVisit<'_>) -> Result<ReplayReport, ReplayError> {
        let (records, mut report) = {
            let kept = self.lock();
            let first = kept.records.partition_point(|(position, ..)| *position < from);
            let report = ReplayReport { next: Position(kept.end), oldest: Position(kept.oldest), ..Default::default() };
            (kept.records[first..].to_vec(), report)
        };
        for (position, next, frame) in records {
            report.records += 1;
            if visit(position, next, frame).is_break() {
                report.next = next;
                break;
            }
        }
        Ok(report)
    }

    fn release(&self, before: Position) -> Result<(), ReleaseError> {
        let mut kept = self.lock();
        let gone = kept.records.partition_point(|(position, ..)| *position < before);
        if let Some((_, next, _)) = kept.records[..gone].last() {
            kept.oldest = next.0;
        }
        kept.records.drain(..gone);
        Ok(())
    }

    fn next_position(&self) -> Position {
        Position(self.lock().end)
    }

    fn stats(&self) -> LogStats {
        LogStats::default()
    }

    fn close(&self) {}
}
