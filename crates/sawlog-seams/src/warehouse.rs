//! Tables of events, appended in batches and read as immutable files.
//!
//! For: what the pipeline writes and what queries scan. Not for: rows that are still in memory ([`crate::view`]) or
//! reads by key ([`crate::serving`]).

mod memory;

pub use memory::MemoryWarehouse;
pub use sawlog_core::tables::{ALERT_TABLE, ANOMALY_TABLE, LEDGER_TABLE, TableSpec};

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;

use crate::event_log::{Disposition, Position};

/// A file of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Path below the table's root.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of rows.
    pub rows: u64,
    /// When it was written, UTC microseconds.
    pub written_at: i64,
    /// Value of the partition column, days since the epoch, if the table is partitioned.
    pub partition_days: Option<i32>,
}

/// The files of a table at one moment.
#[derive(Clone, Debug)]
pub struct StoredTable {
    /// The table.
    pub spec: TableSpec,
    /// Folder of the files; `None` for a warehouse that keeps rows in memory.
    pub root: Option<PathBuf>,
    /// The files.
    pub files: Vec<StoredFile>,
    /// Rows, for a warehouse that keeps them in memory: those of each file at the file's place.
    pub rows: Vec<RecordBatch>,
}

/// Why a table could not be written or opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WarehouseError {
    /// No table of that name.
    #[error("there is no table {table:?}")]
    UnknownTable {
        /// The name.
        table: String,
    },
    /// Space ran out.
    #[error("disk is full while writing table {table}")]
    DiskFull {
        /// The table.
        table: String,
    },
    /// The back end failed.
    #[error("table {table} cannot be {action}: {problem}")]
    Backend {
        /// The table.
        table: String,
        /// `written`, `opened`, …
        action: &'static str,
        /// What the back end said.
        problem: String,
    },
}

impl WarehouseError {
    /// What the pipeline does about it: every failure is tried again, since the events are safe in the log.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        Disposition::RetryAfter(std::time::Duration::from_secs(5))
    }
}

/// Tables of events: those of [`TableSpec::all`]. Contract test: [`crate::contract::warehouse`].
///
/// Once: appending to a table with a position at or below [`Warehouse::committed`] changes nothing and succeeds.
/// Atomic: the rows of one append appear together. Durable: they survive a crash once `append` returns. An append
/// without rows changes nothing, not even the position.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// Appends rows, which came from the log up to `position`.
    async fn append(&self, table: &str, rows: Vec<RecordBatch>, position: Position) -> Result<(), WarehouseError>;
    /// The position of the last append to a table; zero if there was none.
    fn committed(&self, table: &str) -> Position;
    /// The table as of now.
    fn stored(&self, table: &str) -> Result<Arc<StoredTable>, WarehouseError>;
}
