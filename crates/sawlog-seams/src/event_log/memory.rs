//! Event log in memory: the fake for everything that sits on top of an event log.
//!
//! For: tests of receivers and of the pipeline. Not for: production (nothing is durable) or tests of
//! durability (`sawlog-wal` on a `SimDisk`).

use super::{
    AppendDone, AppendError, AppendReply, Appended, EventLog, LogStats, Position, ReleaseError, ReplayError,
    ReplayReport, ReplayVisit,
};
use bytes::Bytes;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};

/// Bytes that a record takes besides its frame, so that empty frames have positions too.
const RECORD_OVERHEAD_BYTES: u64 = 32;
/// Largest frame taken.
const FRAME_BYTES_MAX: u64 = 64 << 20;

/// Fake [`EventLog`]. [`MemoryEventLog::reopen`] gives a new log with the same records, as a restart
/// would.
pub struct MemoryEventLog {
    storage: Arc<Mutex<Storage>>,
    queue: Mutex<Option<Sender<(Bytes, AppendReply)>>>,
    worker: Mutex<Option<JoinHandle<()>>>,
    worker_id: ThreadId,
}

#[derive(Default)]
struct Storage {
    records: Vec<(Position, Position, Bytes)>,
    end: u64,
    oldest: u64,
    failure: Option<AppendError>,
    stats: LogStats,
}

impl MemoryEventLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::over(Arc::default())
    }

    /// A new log over the records of this one.
    #[must_use]
    pub fn reopen(&self) -> Self {
        Self::over(Arc::clone(&self.storage))
    }

    /// Answers appends with `failure` until [`MemoryEventLog::heal`]; the frames are not kept. A log that has stopped or
    /// is full answers before `append` returns, as the trait says.
    pub fn fail_with(&self, failure: AppendError) {
        lock(&self.storage).failure = Some(failure);
    }

    /// Takes appends again.
    pub fn heal(&self) {
        lock(&self.storage).failure = None;
    }

    /// Largest frame taken.
    #[must_use]
    pub fn frame_bytes_max(&self) -> u64 {
        FRAME_BYTES_MAX
    }

    fn over(storage: Arc<Mutex<Storage>>) -> Self {
        let (tx, rx) = mpsc::channel::<(Bytes, AppendReply)>();
        let worker_storage = Arc::clone(&storage);
        let worker = thread::spawn(move || {
            for (frame, reply) in rx {
                let outcome = lock(&worker_storage).keep(frame);
                reply.send(outcome);
            }
        });
        let worker_id = worker.thread().id();
        Self { storage, queue: Mutex::new(Some(tx)), worker: Mutex::new(Some(worker)), worker_id }
    }

    fn refuse(&self, done: AppendDone, error: AppendError) {
        lock(&self.storage).stats.refused_records += 1;
        AppendReply::new(done).send(Err(error));
    }
}

impl Storage {
    fn keep(&mut self, frame: Bytes) -> Result<Appended, AppendError> {
        if let Some(failure) = &self.failure {
            self.stats.failed_records += 1;
            return Err(failure.clone());
        }
        let position = Position(self.end + RECORD_OVERHEAD_BYTES);
        let next = Position(position.0 + frame.len() as u64);
        self.end = next.0;
        self.stats.appended_records += 1;
        self.stats.appended_bytes += frame.len() as u64;
        self.records.push((position, next, frame));
        Ok(Appended { position, next })
    }
}

impl Default for MemoryEventLog {
    fn default() -> Self {
        Self::new()
    }
}

impl EventLog for MemoryEventLog {
    fn append(&self, frame: Bytes, done: AppendDone) {
        let frame_bytes = frame.len() as u64;
        if frame_bytes > FRAME_BYTES_MAX {
            return self.refuse(done, AppendError::FrameTooLarge { frame_bytes, max: FRAME_BYTES_MAX });
        }
        let failure = lock(&self.storage).failure.clone();
        if let Some(failure @ (AppendError::Poisoned | AppendError::Overloaded { .. } | AppendError::Closed)) = failure
        {
            return self.refuse(done, failure);
        }
        let queue = lock(&self.queue).clone();
        match queue {
            Some(queue) => {
                // The worker ends only when all senders are gone, and this is one of them.
                let _sent = queue.send((frame, AppendReply::new(done)));
            }
            None => self.refuse(done, AppendError::Closed),
        }
    }

    fn replay(&self, from: Position, visit: &mut ReplayVisit<'_>) -> Result<ReplayReport, ReplayError> {
        let (records, mut report) = {
            let storage = lock(&self.storage);
            let first = storage.records.partition_point(|(position, _, _)| *position < from);
            let (next, oldest) = (Position(storage.end), Position(storage.oldest));
            (storage.records[first..].to_vec(), ReplayReport { next, oldest, ..Default::default() })
        };
        for (position, next, frame) in records {
            report.records += 1;
            report.frame_bytes += frame.len() as u64;
            if visit(position, next, frame).is_break() {
                report.next = next;
                break;
            }
        }
        Ok(report)
    }

    fn release(&self, before: Position) -> Result<(), ReleaseError> {
        let mut storage = lock(&self.storage);
        let kept_from = storage.records.partition_point(|(position, _, _)| *position < before);
        if let Some((_, next, _)) = storage.records[..kept_from].last() {
            storage.oldest = next.0;
        }
        storage.records.drain(..kept_from);
        Ok(())
    }

    fn next_position(&self) -> Position {
        Position(lock(&self.storage).end)
    }

    fn stats(&self) -> LogStats {
        let storage = lock(&self.storage);
        LogStats { segments: 1, segment_bytes: storage.end - storage.oldest, ..storage.stats.clone() }
    }

    fn close(&self) {
        lock(&self.queue).take();
        if thread::current().id() != self.worker_id
            && let Some(worker) = lock(&self.worker).take()
        {
            worker.join().expect("a panic in `done` is caught, nothing else panics");
        }
    }
}

impl Drop for MemoryEventLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture(MemoryEventLog);

    impl crate::contract::event_log::Fixture for Fixture {
        fn open(&self) -> Arc<dyn EventLog> {
            Arc::new(self.0.reopen())
        }

        fn frame_bytes_max(&self) -> u64 {
            FRAME_BYTES_MAX
        }
    }

    crate::event_log_contract!(Fixture(MemoryEventLog::new()));

    #[test]
    fn a_failing_log_keeps_nothing_until_it_is_healed() {
        use crate::contract::event_log::{append_and_wait, frames_from};
        let log = MemoryEventLog::new();
        log.fail_with(AppendError::Poisoned);
        append_and_wait(&log, b"lost").unwrap_err();
        log.heal();
        append_and_wait(&log, b"kept").unwrap();
        assert_eq!(frames_from(&log, Position(0)), [&b"kept"[..]]);
    }
}
