//! The event log as others see it, and its writer thread.
//!
//! For: joining queue, commit, recovery and replay behind [`EventLog`]. Not for: any of their work.
//! Threads: callers push frames and return; one writer thread commits and answers; replays and
//! releases run on their callers' threads.

use crate::commit::Committer;
use crate::ledger::{Ledger, Segment, lock};
use crate::options::WalOptions;
use crate::queue::{Pending, Queue};
use crate::recovery::{OpenError, Recovered, RecoveryReport, recover};
use crate::replay::replay;
use bytes::Bytes;
use sawlog_seams::event_log::{AppendReply, ReplayVisit};
use sawlog_seams::{
    AppendDone, AppendError, Clock, Disk, EventLog, LogStats, Position, ReleaseError, ReplayError, ReplayReport,
};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, ThreadId};

/// Event log on a local disk. Dropping it closes it.
pub struct Wal {
    options: WalOptions,
    disk: Arc<dyn Disk>,
    ledger: Arc<Ledger>,
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    writer_id: ThreadId,
}

impl Wal {
    /// Opens the log, creating its directory if absent. Reads every segment; writes only copies of
    /// damaged bytes, so a log on a full disk opens. The report says what was found.
    ///
    /// One process at a time: the caller holds a lock on the data directory.
    pub fn open(
        options: WalOptions,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        options.check()?;
        let Recovered { state, next_segment, report } = recover(&options, &*disk)?;
        let ledger = Arc::new(Ledger::new(state));
        let queue = Arc::new(Queue::new(options.queue_bytes_max));
        let committer = Committer::new(options.clone(), Arc::clone(&disk), clock, Arc::clone(&ledger), next_segment);
        let life = WriterLife { ledger: Arc::clone(&ledger), queue: Arc::clone(&queue) };
        let writer = thread::Builder::new()
            .name("sawlog-wal".to_owned())
            .spawn(move || write_until_closed(&life, committer))
            .map_err(|source| OpenError::Thread { source })?;
        let writer_id = writer.thread().id();
        let writer = Mutex::new(Some(writer));
        Ok((Self { options, disk, ledger, queue, writer, writer_id }, report))
    }

    fn refuse(&self, reply: AppendReply, error: AppendError) {
        self.ledger.state().stats.refused_records += 1;
        reply.send(Err(error));
    }

    /// Removes the oldest segment if all of it lies before `before`; says whether it did.
    fn release_oldest(&self, before: Position) -> Result<bool, ReleaseError> {
        let _names_change = self.ledger.lock_directory();
        if self.ledger.is_failed() {
            return Err(ReleaseError::Poisoned);
        }
        let oldest = match self.ledger.state().segments.as_slice() {
            [oldest, _later, ..] if oldest.end <= before => oldest.clone(),
            _kept => return Ok(false),
        };
        self.disk.remove(&oldest.path).or_else(|source| self.forgive_absent(&oldest, source))?;
        let synced = self.disk.sync_dir(&self.options.dir);
        let mut state = self.ledger.state();
        state.segments.remove(0);
        let first_kept = state.segments[0].start;
        state.damages.retain(|damage| damage.touches(first_kept));
        drop(state);
        synced.map(|()| true).map_err(|source| {
            self.ledger.fail();
            ReleaseError::SyncFailed { source }
        })
    }

    /// A file that is gone already need not be removed.
    fn forgive_absent(&self, segment: &Segment, source: std::io::Error) -> Result<(), ReleaseError> {
        match self.disk.exists(&segment.path) {
            Ok(false) => Ok(()),
            _still_there => {
                let segment = segment.path.display().to_string();
                Err(ReleaseError::Remove { segment, source })
            }
        }
    }
}

impl EventLog for Wal {
    fn append(&self, frame: Bytes, done: AppendDone) {
        let reply = AppendReply::new(done);
        let (frame_bytes, max) = (frame.len() as u64, self.options.frame_bytes_max);
        if frame_bytes > max {
            return self.refuse(reply, AppendError::FrameTooLarge { frame_bytes, max });
        }
        if self.ledger.is_failed() {
            return self.refuse(reply, AppendError::Poisoned);
        }
        if let Err((pending, error)) = self.queue.push(Pending { frame, reply }) {
            self.refuse(pending.reply, error);
        }
    }

    fn replay(&self, from: Position, visit: &mut ReplayVisit<'_>) -> Result<ReplayReport, ReplayError> {
        replay(&*self.disk, &self.ledger, from, visit)
    }

    /// Oldest first, each removal synced before the next, so that a crash leaves no gap.
    fn release(&self, before: Position) -> Result<(), ReleaseError> {
        while self.release_oldest(before)? {}
        Ok(())
    }

    fn next_position(&self) -> Position {
        self.ledger.state().end
    }

    fn stats(&self) -> LogStats {
        LogStats { queued_bytes: self.queue.bytes(), ..self.ledger.stats() }
    }

    fn close(&self) {
        self.queue.close();
        // A `done` that closes the log runs on the writer, which cannot wait for itself.
        if thread::current().id() != self.writer_id {
            // Held while joining, so that every caller returns only when all is answered.
            let mut writer = lock(&self.writer);
            if let Some(writer) = writer.take() {
                // A panic of the writer has stopped the log and answered all frames already.
                let _panicked = writer.join();
            }
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}

/// Stops the log and answers everyone when the writer thread ends, even by a panic.
struct WriterLife {
    ledger: Arc<Ledger>,
    queue: Arc<Queue>,
}

impl Drop for WriterLife {
    fn drop(&mut self) {
        if thread::panicking() {
            self.ledger.fail();
        }
        self.queue.abandon();
    }
}

fn write_until_closed(life: &WriterLife, mut committer: Committer) {
    while let Some(group) = life.queue.take() {
        committer.commit(group, &|queue_bytes| life.queue.discharge(queue_bytes));
    }
    committer.seal();
}
