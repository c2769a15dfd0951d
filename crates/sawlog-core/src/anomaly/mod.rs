//! Anomalies: how surprising numbers are, given only those before them.
//!
//! For: a [`Detector`] of one series, and a [`Watch`] over the signals of a whole system, made of the cells of complete
//! windows. Not for: when a window is complete ([`crate::watermark`]) or whom to tell.

mod bytes;
mod contributors;
mod detector;
mod ranks;
mod reason;
mod rows;
mod scored;
mod signal;
mod silence;
mod watch;
mod watched;

#[cfg(test)]
mod tests;

pub use contributors::Contributor;
pub use detector::{Detector, DetectorError, Verdict, View};
pub(crate) use reason::short;
pub use rows::{anomaly_rows, anomaly_schema};
pub use scored::{Kind, Scored};
pub use signal::{Scope, Series, Signal};
pub use watch::{Watch, WatchCounts, WatchError, WatchOptions};
