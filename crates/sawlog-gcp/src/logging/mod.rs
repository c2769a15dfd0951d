//! Cloud Logging as a source and a sink.
//!
//! For: loading entries of a range of time (`entries.list`), taking them as they are written (`entries.tail`), and writing
//! Sawlog's own log and summaries of dead letters there. Not for: what an entry becomes (`sawlog_core`); entries that a Log
//! Router sends to Pub/Sub come by [`crate::pubsub`]. Sawlog's own entries are dropped by `sawlog_core::rules`, however they come.

mod backfill;
mod client;
mod entry;
mod files;
mod fill;
mod pace;
mod pages;
mod progress;
mod store;

pub mod sink;
mod tail;

pub use backfill::{BackfillError, BackfillOptions, BackfillReport, backfill};
pub use client::{LoggingQuery, LoggingState};
pub use pace::{Backoff, Pace};
pub use progress::ProgressError;
pub use tail::{TailOptions, tail};
