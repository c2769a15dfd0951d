//! Tables of events, appended in batches and read as immutable files.
//!
//! For: what the pipeline writes and what queries scan. Not for: rows that are still in memory ([`crate::view`]) or
//! reads by key ([`crate::serving`]).

mod memory;

pub use memory::MemoryWarehouse;

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use sawlog_core::reconciled::{self, Aggregate};
use sawlog_core::rollup::{self, Rollup};
use sawlog_core::schema::{self, Table};
use sawlog_core::{alert, anomaly, session};

use crate::event_log::{Disposition, Position};

/// What a warehouse must know of a table to store it.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Name in SQL and on disk.
    pub name: &'static str,
    /// Columns.
    pub schema: SchemaRef,
    /// Column of the time that rows are of: of the event, the window, the session; never null.
    pub time: &'static str,
    /// Column by whose values the table is partitioned, if it is.
    pub partition: Option<&'static str>,
    /// Sort order inside a file.
    pub clustering: &'static [&'static str],
    /// Columns with a bloom filter in each file.
    pub bloom: &'static [&'static str],
}

/// Name of the table of what the detectors say of each series and window.
pub const ANOMALY_TABLE: &str = "anomaly_scores";
/// Name of the table of what alert rules tell.
pub const ALERT_TABLE: &str = "alert_events";

/// Name of the ledger table.
pub const LEDGER_TABLE: &str = "sawlog_ledger";

impl TableSpec {
    /// The tables of every deployment: events, dead letters, the ledger, the panes of rollups and sessions, verdicts, and
    /// what batch jobs make of history.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut specs: Vec<Self> = Table::ALL.into_iter().map(Self::of).collect();
        specs.push(Self {
            name: LEDGER_TABLE,
            schema: schema::ledger_schema(),
            time: "receive_minute",
            partition: None,
            clustering: &["receive_minute", "source"],
            bloom: &[],
        });
        specs.extend(Rollup::ALL.into_iter().map(|rollup| Self {
            name: rollup.pane_table(),
            schema: rollup::pane_schema(rollup),
            time: "window_start",
            partition: Some(schema::PARTITION_COLUMN),
            clustering: rollup.clustering(),
            bloom: &[],
        }));
        specs.push(Self {
            name: session::PANE_TABLE,
            schema: session::session_schema(),
            time: "session_start",
            partition: Some(schema::PARTITION_COLUMN),
            clustering: session::CLUSTERING,
            bloom: &["user_id", "session_key"],
        });
        specs.push(Self {
            name: ANOMALY_TABLE,
            schema: anomaly::anomaly_schema(),
            time: "window_start",
            partition: Some(schema::PARTITION_COLUMN),
            clustering: &["signal", "service", "window_start"],
            bloom: &[],
        });
        specs.push(Self {
            name: ALERT_TABLE,
            schema: alert::alert_schema(),
            time: "at",
            partition: Some(schema::PARTITION_COLUMN),
            clustering: &["rule", "at"],
            bloom: &[],
        });
        specs.extend(Aggregate::ALL.map(|aggregate| Self {
            name: aggregate.batch_table(),
            schema: aggregate.batch_schema(),
            time: "window_start",
            partition: Some(schema::PARTITION_COLUMN),
            clustering: aggregate.clustering(),
            bloom: &[],
        }));
        specs.push(Self {
            name: reconciled::CONTROL_TABLE,
            schema: reconciled::control_schema(),
            time: "reconciled_at",
            partition: None,
            clustering: &["aggregate", "reconciled_at"],
            bloom: &[],
        });
        specs
    }

    fn of(table: Table) -> Self {
        Self {
            name: table.name(),
            schema: table.schema(),
            time: if table == Table::DeadLetters { "receive_time" } else { "event_time" },
            partition: Some(schema::PARTITION_COLUMN),
            clustering: table.clustering(),
            bloom: table.bloom_columns(),
        }
    }
}

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
