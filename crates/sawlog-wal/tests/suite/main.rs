//! Tests of the event log through its public interface, on simulated and real disks.

#![expect(clippy::unwrap_used, reason = "clippy knows only functions marked as tests, not their helpers")]

mod common;
mod concurrency;
mod contract;
mod corruption;
mod crash;
mod faults;
mod formats;
mod model;
