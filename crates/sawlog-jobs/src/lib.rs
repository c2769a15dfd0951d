//! Background jobs on stored tables.
//!
//! For: deciding which files to merge and when to delete what nobody needs, and doing it beside ingest; counting stored
//! rows again. Not for: how files are merged or deleted (`sawlog-store`, behind [`sawlog_seams::upkeep::TableUpkeep`]), and not for flushing
//! (`sawlog-stream`).
//!
//! ```
//! use sawlog_jobs::CompactionOptions;
//! use std::time::Duration;
//!
//! let options = CompactionOptions { age_min: Duration::ZERO, ..CompactionOptions::default() };
//! assert!(options.files_min > 1);
//! ```

mod expire;
mod jobs;
mod plan;
mod recount;
mod retention;
mod stored_cells;

pub use expire::date;
pub use jobs::{CompactionReport, Jobs, Schedule, Stores};
pub use plan::CompactionOptions;
pub use recount::{DayRecount, Difference, RecountError, RecountOptions, RecountReport};
pub use retention::{Amount, RetentionMode, RetentionOptions, RetentionOutcome, RetentionReport};
