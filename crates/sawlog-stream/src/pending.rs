//! Batches between a submission and the applier, and the memory that they take.
//!
//! For: handing durable batches from the log's thread to the applier's without ever making the log wait, and knowing
//! how much waits. Not for: refusing when that is too much ([`crate::pipeline`]), which bounds the queue: what is in it
//! was counted before it was given to the log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::applier::Applicable;

/// Bytes of batches that were given to the log and are not applied yet.
#[derive(Debug, Default)]
pub(crate) struct WaitingBytes {
    bytes: Arc<AtomicUsize>,
}

impl WaitingBytes {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Counts bytes until the result is dropped, wherever that happens.
    pub(crate) fn hold(&self, bytes: usize) -> Held {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Held { of: Some(Arc::clone(&self.bytes)), bytes }
    }
}

/// Bytes that are counted as waiting.
#[derive(Debug)]
pub(crate) struct Held {
    of: Option<Arc<AtomicUsize>>,
    bytes: usize,
}

impl Held {
    /// Nothing, for what does not wait.
    pub(crate) const fn none() -> Self {
        Self { of: None, bytes: 0 }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(of) = &self.of {
            of.fetch_sub(self.bytes, Ordering::AcqRel);
        }
    }
}

/// Durable batches on their way from the log's thread to the applier's.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    items: VecDeque<Applicable>,
    is_closed: bool,
}

impl Queue {
    pub(crate) fn push(&self, item: Applicable) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).items.push_back(item);
        self.changed.notify_one();
    }

    pub(crate) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.changed.notify_one();
    }

    /// Waits for batches and takes all; `None` when it is closed and empty.
    pub(crate) fn take_all(&self) -> Option<VecDeque<Applicable>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.items.is_empty() {
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut state.items))
    }
}
