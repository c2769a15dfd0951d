//! The answer to one append, given exactly once.
//!
//! For: implementers of [`EventLog`](super::EventLog), who move it along with the frame. Not for:
//! callers, who pass a plain closure.

use super::{AppendDone, AppendError, Appended};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls the `done` of an append exactly once: by [`AppendReply::send`], or with
/// [`AppendError::Abandoned`] when it is dropped unsent (the log's thread died).
pub struct AppendReply {
    done: Option<AppendDone>,
}

impl AppendReply {
    /// Wraps the caller's `done`.
    #[must_use]
    pub fn new(done: AppendDone) -> Self {
        Self { done: Some(done) }
    }

    /// Answers. A panic inside `done` ends here, because one caller's bug must not stop the log for
    /// the others; the panic hook has reported it.
    pub fn send(mut self, outcome: Result<Appended, AppendError>) {
        self.call(outcome);
    }

    fn call(&mut self, outcome: Result<Appended, AppendError>) {
        if let Some(done) = self.done.take() {
            let _panicked = catch_unwind(AssertUnwindSafe(|| done(outcome)));
        }
    }
}

impl Drop for AppendReply {
    fn drop(&mut self) {
        self.call(Err(AppendError::Abandoned));
    }
}

impl std::fmt::Debug for AppendReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppendReply").field("is_sent", &self.done.is_none()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_dropped_reply_answers_that_it_was_abandoned() {
        let (tx, rx) = mpsc::channel();
        drop(AppendReply::new(Box::new(move |outcome| tx.send(outcome).unwrap())));
        assert!(matches!(rx.recv().unwrap(), Err(AppendError::Abandoned)));
        assert!(rx.recv().is_err(), "answered once");
    }
}
