//! What goes wrong with Bigtable.

use sawlog_seams::Position;
use sawlog_seams::serving::ServingError;

use crate::call::CallFailed;
use crate::grpc::GrpcError;

/// What goes wrong with Bigtable.
#[derive(Debug, thiserror::Error)]
pub enum BigtableError {
    /// A setting cannot be.
    #[error("bigtable.{field}: {problem}")]
    Option {
        /// The setting.
        field: &'static str,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
    /// The thread for calls did not start.
    #[error("the thread for calls of Bigtable cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The service cannot be reached at all.
    #[error(transparent)]
    Grpc(#[from] GrpcError),
    /// A call did not go well, however often it was tried.
    #[error(transparent)]
    Call(#[from] CallFailed),
    /// The service refused a row.
    #[error("Bigtable refused row {row} of table {table}: {code}: {problem}")]
    Row {
        /// Table of the row.
        table: String,
        /// Its key: the first byte, length and hash.
        row: String,
        /// Code of the answer.
        code: &'static str,
        /// What the service said.
        problem: String,
    },
    /// A cell is larger than the service takes.
    #[error("a cell of family {family} at key {key} has {bytes} B of {what}; Bigtable takes {max}")]
    TooLarge {
        /// Family of the cell.
        family: &'static str,
        /// Its key: the first byte, length and hash.
        key: String,
        /// What is too large.
        what: &'static str,
        /// How large.
        bytes: usize,
        /// How large it may be.
        max: usize,
    },
    /// What came is no answer of the protocol, or no cell of ours.
    #[error("Bigtable sent what cannot be: {0}")]
    Damaged(String),
    /// The local copy and the tables are not of one worker.
    #[error(
        "the tables of Bigtable are not those of this worker: {0}; give each worker tables of its own (`bigtable.table`)"
    )]
    OtherWorker(String),
    /// Another process moved the position on.
    #[error(
        "another process writes the tables of Bigtable: their position is {found}, and this worker left it at {expected}; \
         stop the other one, or give it tables of its own (`bigtable.table`), and start again"
    )]
    OtherWriter {
        /// Position that this worker wrote.
        expected: Position,
        /// Position that is there.
        found: Position,
    },
    /// The flushes since a snapshot may have deleted what it reads.
    #[error("the snapshot of Bigtable is too old: more flushes ended since than `bigtable.versions` covers; ask again")]
    Outdated,
    /// The local copy failed.
    #[error(transparent)]
    Local(#[from] ServingError),
    /// A task died.
    #[error("a call of Bigtable panicked")]
    Panicked,
}

impl BigtableError {
    /// The error in the seam's terms.
    pub(super) fn of_serving(self, action: &'static str) -> ServingError {
        match self {
            Self::Local(error) => error,
            error => ServingError::backend(action, error),
        }
    }
}
