//! Embedded event log: segments, group commit, recovery.
//!
//! For: keeping frames durable on a local disk before they are acknowledged, and giving them back
//! after a crash. Not for: what is inside a frame, when frames are no longer needed, or keeping a
//! second process out (the binary locks the data directory). Byte layout: docs/formats/wal.md.
//!
//! The way of a frame: [`Wal`] `append` → `queue` → `commit` (one write and one sync for all that is
//! queued) → `done`. The way back: `recovery` at open finds what is intact, `replay` hands it out.
//!
//! ```
//! use sawlog_seams::contract::event_log::{append_and_wait, frames_from};
//! use sawlog_seams::{EventLog, ManualClock, Position, SimDisk};
//! use sawlog_wal::{Wal, WalOptions};
//! use std::sync::Arc;
//!
//! let disk = Arc::new(SimDisk::new(0));
//! let clock = Arc::new(ManualClock::at_micros(0));
//! let (wal, report) = Wal::open(WalOptions::new("/wal"), disk.clone(), clock)?;
//! assert!(report.damages.is_empty());
//! append_and_wait(&wal, b"frame")?;
//! assert_eq!(frames_from(&wal, Position(0)), [&b"frame"[..]]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod commit;
mod format;
mod ledger;
mod options;
mod queue;
mod recovery;
mod replay;
mod scan;
mod segment;
mod wal;

pub use options::{FRAME_BYTES_MAX, OptionsError, QUEUE_BYTES_MAX, SEGMENT_BYTES_MAX, WalOptions};
pub use recovery::{OpenError, RecoveryReport};
pub use wal::Wal;
