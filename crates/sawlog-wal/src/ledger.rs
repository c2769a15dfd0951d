//! What the log holds right now: its segments, its end, its damages, its counters.
//!
//! For: sharing these between the writer thread, replays and releases. Not for: reading or writing
//! files. Lock order: `directory` before `state`; neither is held while a `done` or a visitor runs.
//! Invariant: `end` covers only records that are durable.

use sawlog_seams::event_log::Damage;
use sawlog_seams::{LogStats, Position};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// Position of its first byte.
    pub(crate) start: Position,
    /// After its last record that counts.
    pub(crate) end: Position,
    pub(crate) file_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Ordered by start; the last one is never released, because it pins the end of the log.
    pub(crate) segments: Vec<Segment>,
    /// Where the log goes on.
    pub(crate) end: Position,
    /// Found at open.
    pub(crate) damages: Vec<Damage>,
    pub(crate) stats: LogStats,
}

/// Shared index of the log.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
    /// Held while names in the directory change and are synced: of two syncs of one directory, only
    /// one is told about a failure, and that one must stop the log before the other reports success.
    directory: Mutex<()>,
    is_failed: AtomicBool,
}

impl Ledger {
    pub(crate) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), ..Self::default() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn lock_directory(&self) -> MutexGuard<'_, ()> {
        lock(&self.directory)
    }

    /// Stops the log for good.
    pub(crate) fn fail(&self) {
        self.is_failed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.is_failed.load(Ordering::SeqCst)
    }

    pub(crate) fn stats(&self) -> LogStats {
        let state = self.state();
        LogStats {
            segments: state.segments.len() as u64,
            segment_bytes: state.segments.iter().map(|segment| segment.file_bytes).sum(),
            is_failed: self.is_failed(),
            ..state.stats.clone()
        }
    }
}

/// Locks although another thread panicked meanwhile: every change under these locks is complete at
/// each step, and a log that stops answering would be worse.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
