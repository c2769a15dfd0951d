//! Upkeep of stored tables: merging files, taking files out, deleting what nobody can read any more, reading again.
//!
//! For: what background jobs ask of a warehouse that keeps files. Not for: deciding which files and when
//! (`sawlog-jobs`), and not for appends ([`crate::warehouse`]), which upkeep never holds up for longer than a commit.

use std::ops::{ControlFlow, Range};
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;

use crate::clock::Clock;
use crate::warehouse::{Warehouse, WarehouseError};

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Wall clock, UTC microseconds. May jump.
    pub wall: i64,
    /// Monotonic clock of this process.
    pub monotonic: Duration,
}

impl Moment {
    /// The moment that a clock shows.
    #[must_use]
    pub fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now_micros(), monotonic: clock.monotonic() }
    }
}

/// What merging files did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Files that are no part of the table any more.
    pub files_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Files that took their place.
    pub files_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Rows in either.
    pub rows: u64,
}

/// What was deleted from the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files that had been part of the table.
    pub files: u64,
    /// Files that a crash or a failure left before they became part of it.
    pub orphans: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Entries of the table's own log that its checkpoints had replaced.
    pub log_entries: u64,
}

/// Visitor of rows: gets some columns of some rows at a time.
pub type VisitRows<'a> = dyn FnMut(&RecordBatch) -> ControlFlow<()> + Send + 'a;

/// Rows to read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRange<'a> {
    /// The partition, days since the epoch.
    pub day: i32,
    /// Event times, UTC microseconds.
    pub times: Range<i64>,
    /// Columns that are needed.
    pub columns: &'a [&'a str],
}

/// A warehouse whose files need upkeep. Contract test: [`crate::contract::upkeep`].
///
/// Once: a row that is stored is in exactly one file of every [`Warehouse::stored`], whatever fails. Aside: appends and
/// upkeep of a table may run at the same time; the position stays. Whole: a call that fails changed nothing or all.
#[async_trait]
pub trait TableUpkeep: Warehouse {
    /// Replaces files of one partition by one file with the same rows, sorted by the table's clustering. Takes the
    /// files in the given order for as long as their rows fit into `memory_bytes_max`; fewer than two change nothing,
    /// and so do files of which one is no part of the table any more.
    async fn rewrite(
        &self,
        table: &str,
        files: &[String],
        memory_bytes_max: u64,
        at: Moment,
    ) -> Result<Rewritten, WarehouseError>;

    /// Takes files and their rows out of the table in one step; files that are no part of it are skipped. Returns how
    /// many it took out. The files stay on the disk until [`TableUpkeep::sweep`].
    async fn remove(&self, table: &str, files: &[String], at: Moment) -> Result<u64, WarehouseError>;

    /// Deletes files that have been no part of the table for `grace`, so that who reads an older [`Warehouse::stored`]
    /// loses nothing within that time. Limited in work per call: call again while it deletes something.
    async fn sweep(&self, table: &str, grace: Duration, at: Moment) -> Result<Swept, WarehouseError>;

    /// Calls `visit` with the rows of a table in a range of event times, in no order, until it breaks: those of its files
    /// as of now. Columns that a file lacks are null, others than those that are asked for may be absent. Rows are read
    /// some at a time: memory does not depend on how many there are. Holds its thread.
    fn read(&self, table: &str, rows: &RowRange<'_>, visit: &mut VisitRows<'_>) -> Result<(), WarehouseError>;
}
