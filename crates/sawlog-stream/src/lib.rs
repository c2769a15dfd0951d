//! The pipeline between receiving and storing.
//!
//! For: taking raw bodies from sources, acknowledging them once they are in the event log, transforming, deduplicating
//! and counting them, keeping them readable in memory and flushing them to lake, warehouse and serving store so that a
//! crash at any moment loses and repeats nothing. Not for: protocols (`sawlog-server`), file formats of the stores
//! (`sawlog-store`) or queries.
//!
//! The life of a batch: [`Pipeline::submit`] prepares it on the CPU pool (split, transform, encode) and appends it to
//! the log; the log's thread hands durable batches to the *applier* in log order; the applier removes duplicates,
//! counts, and adds rows to the active generation; the *flusher* freezes a generation, writes it everywhere under one
//! log position, and swaps it for files in one step.

mod applier;
mod checkpoint;
mod dedup;
mod flush;
mod forget;
mod frame;
mod generation;
mod hot;
mod judge;
mod lake_rows;
mod panes;
mod pending;
mod pipeline;
mod planted;
mod prepare;
mod recovery;
mod room;
mod rules_archive;
#[cfg(test)]
mod simulation;
mod stored_stream;
mod stream_state;
mod tap;
mod users;

pub use checkpoint::CheckpointError;
pub use dedup::DedupStats;
pub use flush::FlushError;
pub use frame::FrameError;
pub use hot::LedgerRow;
pub use judge::JudgeOptions;
pub use pipeline::{Pipeline, PipelineOptions, Stores, SubmitError};
pub use prepare::{AckLevel, Receipt, RecordProblem, Submission};
pub use recovery::{OpenError, RecoverySummary};
pub use rules_archive::{MemoryRulesArchive, RulesArchive};
pub use stored_stream::StoredStream;
pub use stream_state::{StreamOptions, StreamStats};
pub use tap::{Arrival, Tap};
