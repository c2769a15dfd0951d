//! Background jobs on stored tables.
//!
//! For: deciding which files to merge and when to delete what nobody needs, and doing it beside ingest. Not for: how
//! files are merged or deleted (`sawlog-store`, behind [`sawlog_seams::upkeep::TableUpkeep`]), and not for flushing
//! (`sawlog-stream`).
//!
//! ```
//! use sawlog_jobs::CompactionOptions;
//! use std::time::Duration;
//!
//! let options = CompactionOptions { age_min: Duration::ZERO, ..CompactionOptions::default() };
//! assert!(options.files_min > 1);
//! ```

mod jobs;
mod plan;

pub use jobs::{CompactionReport, Jobs, Stores};
pub use plan::CompactionOptions;
