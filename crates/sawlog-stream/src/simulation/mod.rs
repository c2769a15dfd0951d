//! Deterministic simulation of the stream: whole histories drawn from a seed, checked against a naive recount.
//!
//! For: orders of events that no hand-written test thinks of: clocks that are off, repeats, crashes at every step of a
//! flush, restarts. One thread, no waiting, a clock that the simulation moves: a seed gives the same history every time.
//! Not for: durability of log and stores, which have simulations and contract tests of their own. [`model`] recounts,
//! [`check`] compares, [`history`] chooses; how to rerun a seed and how to plant a bug is in CONTRIBUTING.md.

mod campaign;
mod check;
mod history;
mod hostile;
mod input;
mod log;
mod model;
mod options;
mod shuffles;
mod sources;
mod stores;
mod world;

use crate::recovery::OpenError;

/// Something that must never be.
#[derive(Debug)]
struct Violation {
    /// Which rule it breaks.
    invariant: &'static str,
    detail: String,
}

impl Violation {
    fn new(invariant: &'static str, detail: String) -> Self {
        Self { invariant, detail }
    }

    fn of_open(error: OpenError) -> Self {
        Self::new("opens", error.to_string())
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.invariant, self.detail)
    }
}
