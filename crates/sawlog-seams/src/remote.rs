//! Tables whose rows are with a service that finds them itself.
//!
//! For: asking for columns of the rows that pass conditions, in an order, up to a limit, and taking them as they come. Not
//! for: rows that this process holds ([`crate::view`], [`crate::warehouse`]), or SQL.

mod condition;
mod memory;

pub use condition::{Comparison, Condition, Value};
pub use memory::MemoryRemote;

use std::fmt;

use arrow_array::RecordBatch;
use async_trait::async_trait;

/// What is wanted of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RemoteScan {
    /// Columns, by their place in the table's schema. With none the answer's batches have rows and no columns.
    pub columns: Vec<usize>,
    /// What holds of each row, all of it.
    pub conditions: Vec<Condition>,
    /// Order of the rows; empty for any.
    pub order: Vec<OrderBy>,
    /// Most rows.
    pub limit: Option<usize>,
}

/// One column of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderBy {
    /// The column, by its place in the table's schema.
    pub column: usize,
    /// Whether large values come first.
    pub is_descending: bool,
    /// Whether rows without a value come first.
    pub has_nulls_first: bool,
}

/// Why a scan gives no rows, or no more of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table {table}: {problem}")]
pub struct RemoteError {
    /// The table.
    pub table: &'static str,
    /// What its user can do.
    pub kind: RemoteFailure,
    /// What happened.
    pub problem: String,
}

/// What the user of a remote table can do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteFailure {
    /// Ask again later: the service is away or busy.
    Unavailable,
    /// Ask for less: it would cost more than is allowed.
    TooExpensive,
    /// Get the right to ask.
    Denied,
    /// Nothing: service and table do not agree.
    Other,
}

/// Rows of a scan, as they come. Dropping it ends the scan with the service too.
#[async_trait]
pub trait RemoteRows: Send {
    /// The next rows; `None` at the end.
    async fn next(&mut self) -> Option<Result<RecordBatch, RemoteError>>;
}

/// A table whose rows are with a service. Contract test: [`crate::contract::remote`].
///
/// Exact: a scan gives all rows that pass its conditions and no others, each once, in its order and up to its limit, with the
/// wanted columns in the types of the table's schema, as the embedded table of the same rows has them; an empty list may
/// come as a missing one. Bounded: a few batches are in memory, however many rows there are.
#[async_trait]
pub trait RemoteTable: Send + Sync + fmt::Debug {
    /// Begins a scan.
    async fn scan(&self, scan: RemoteScan) -> Result<Box<dyn RemoteRows>, RemoteError>;
}
