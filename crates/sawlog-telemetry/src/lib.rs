//! Names of Sawlog's own metrics, and its log output.
//!
//! For: one place where a metric's name, unit and labels are fixed. Not for: events that users send. Names follow
//! Prometheus: subsystem, what, base unit, `total` for counters. Label values come from bounded sets.

mod cloud;
mod logging;
mod metrics;
mod pubsub;
mod upkeep;

pub use cloud::LogEntryOutcome;
pub use logging::{LogFormat, init_logging};
pub use metrics::{Metrics, SyslogRefusal};
