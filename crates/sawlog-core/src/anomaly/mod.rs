//! Anomalies: how surprising numbers are, given only those before them.
//!
//! For: a [`Detector`] of one series, and a watch over the signals of a whole system, made of the cells of complete
//! windows. Not for: when a window is complete ([`crate::watermark`]) or whom to tell.

mod bytes;
mod detector;
mod ranks;

pub use detector::{Detector, DetectorError, Verdict, View};
