//! Contract tests: what every implementation of a seam has to pass.
//!
//! For: implementers, who run each function from a test of their own. Not for: faults and crashes
//! that only one implementation can have.

pub mod event_log;
pub mod lake;
pub mod remote;
pub mod serving;
pub mod upkeep;
pub mod warehouse;
