//! Traits to the outside world, each with an in-memory fake and contract tests for implementers.
//!
//! For: letting the parts of Sawlog meet without knowing each other, and letting tests replace time,
//! files and the event log. Not for: real storage engines (`sawlog-wal`, `sawlog-store`) or wiring
//! (the binary). To add an implementation: read the trait's promise, copy the smallest
//! implementation, run its [`contract`].
//!
//! ```
//! use sawlog_seams::{Clock, ManualClock};
//! use std::time::Duration;
//!
//! let clock = ManualClock::at_micros(1_000_000);
//! clock.advance(Duration::from_millis(5));
//! assert_eq!(clock.now_micros(), 1_005_000);
//! ```

pub mod clock;
pub mod contract;
pub mod disk;
pub mod event_log;
pub mod lake;
pub mod remote;
pub mod rng;
pub mod serving;
pub mod stored_rows;
pub mod upkeep;
pub mod view;
pub mod warehouse;

pub use clock::{Clock, ManualClock, SystemClock};
pub use disk::{Disk, DiskFile, RealDisk, SimDisk};
pub use event_log::{
    AppendDone, AppendError, Appended, Disposition, EventLog, LogStats, MemoryEventLog, Position, ReleaseError,
    ReplayError, ReplayReport,
};
pub use rng::SeededRng;
