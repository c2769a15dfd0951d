//! Frames waiting for the writer thread, limited in bytes.
//!
//! For: handing everything that is queued to the writer at once, which is what makes groups. Not for:
//! order on disk or answers, except that a refused frame comes back to its caller.
//! Invariant: `bytes` counts the frames that were pushed and not yet discharged.

use crate::ledger::lock;
use bytes::Bytes;
use sawlog_seams::AppendError;
use sawlog_seams::event_log::AppendReply;
use std::sync::{Condvar, Mutex, PoisonError};

/// Memory that a queued frame takes besides its bytes, so that empty frames are limited too.
const FRAME_OVERHEAD_BYTES: u64 = 128;

/// A frame and the answer it waits for.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) frame: Bytes,
    pub(crate) reply: AppendReply,
}

impl Pending {
    /// What this frame counts against the limit.
    pub(crate) fn queue_bytes(&self) -> u64 {
        self.frame.len() as u64 + FRAME_OVERHEAD_BYTES
    }
}

/// A queue between many appenders and one writer.
#[derive(Debug)]
pub(crate) struct Queue {
    bytes_max: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<Pending>,
    bytes: u64,
    is_closed: bool,
}

impl Queue {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes the frame, or gives it back with the reason.
    pub(crate) fn push(&self, pending: Pending) -> Result<(), (Pending, AppendError)> {
        let mut state = lock(&self.state);
        if state.is_closed {
            return Err((pending, AppendError::Closed));
        }
        let bytes = state.bytes + pending.queue_bytes();
        // A frame larger than the limit must get through when nothing else waits.
        if bytes > self.bytes_max && state.bytes > 0 {
            let queued_bytes = state.bytes;
            return Err((pending, AppendError::Overloaded { queued_bytes }));
        }
        state.bytes = bytes;
        state.pending.push(pending);
        drop(state);
        self.changed.notify_one(); // there is one writer
        Ok(())
    }

    /// Waits for frames and takes all of them; `None` once the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<Vec<Pending>> {
        let mut state = self
            .changed
            .wait_while(lock(&self.state), |state| state.pending.is_empty() && !state.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut state.pending);
        (!taken.is_empty()).then_some(taken)
    }

    /// Makes room: frames of so many queue bytes have left memory.
    pub(crate) fn discharge(&self, queue_bytes: u64) {
        let mut state = lock(&self.state);
        state.bytes = state.bytes.checked_sub(queue_bytes).expect("a frame is discharged once");
    }

    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.state).bytes
    }

    /// Refuses later frames; those already queued stay.
    pub(crate) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.changed.notify_all();
    }

    /// Closes, and drops what is queued, whose replies then say that they were abandoned. For a
    /// writer that dies.
    pub(crate) fn abandon(&self) {
        self.close();
        let dropped = std::mem::take(&mut lock(&self.state).pending);
        drop(dropped); // outside the lock, because replies run callers' code
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn pending(bytes: usize) -> Pending {
        Pending { frame: Bytes::from(vec![0; bytes]), reply: AppendReply::new(Box::new(|_| ())) }
    }

    #[test]
    fn the_limit_counts_frames_until_they_are_discharged() {
        let queue = Queue::new(1000);
        queue.push(pending(500)).unwrap();
        assert!(matches!(queue.push(pending(500)), Err((_, AppendError::Overloaded { .. }))));
        assert_eq!(queue.take().unwrap().len(), 1);
        queue.push(pending(500)).unwrap_err();
        queue.discharge(628);
        queue.push(pending(500)).unwrap();
    }

    #[test]
    fn one_oversized_frame_and_only_a_bounded_number_of_empty_ones_are_taken() {
        let queue = Queue::new(1000);
        queue.push(pending(5000)).unwrap();
        queue.push(pending(0)).unwrap_err();
        let queue = Queue::new(1000);
        assert_eq!((0..100).filter(|_| queue.push(pending(0)).is_ok()).count(), 7);
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_holds_and_then_ends() {
        let queue = Queue::new(1000);
        queue.push(pending(1)).unwrap();
        queue.close();
        assert!(matches!(queue.push(pending(1)), Err((_, AppendError::Closed))));
        assert!(queue.take().is_some());
        assert!(queue.take().is_none());
    }

    #[test]
    fn abandoned_frames_are_answered() {
        let (tx, rx) = mpsc::channel();
        let reply = AppendReply::new(Box::new(move |outcome| tx.send(outcome).unwrap()));
        let queue = Queue::new(1000);
        queue.push(Pending { frame: Bytes::new(), reply }).unwrap();
        queue.abandon();
        assert!(matches!(rx.recv().unwrap(), Err(AppendError::Abandoned)));
    }
}
