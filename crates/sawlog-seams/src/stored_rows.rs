//! Rows of stored files, whole.
//!
//! For: what brings the tables of a deployment somewhere else. Not for: queries, which read some columns of some rows, or
//! upkeep ([`crate::upkeep`]).

use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::warehouse::{MemoryWarehouse, StoredTable, Warehouse, WarehouseError};

/// Rows of a file, some at a time, with all columns of the table.
pub type FileRows = Box<dyn Iterator<Item = Result<RecordBatch, WarehouseError>> + Send>;

/// A warehouse whose files can be read one by one.
pub trait StoredRows: Warehouse {
    /// The rows of a file of `stored`, by its place there, in the order of the file. Columns that the file lacks are null.
    /// Memory does not depend on the size of the file. Holds its thread.
    ///
    /// # Errors
    /// When there is no such file or it cannot be read.
    fn rows_of(&self, stored: &Arc<StoredTable>, file: usize) -> Result<FileRows, WarehouseError>;
}

impl StoredRows for MemoryWarehouse {
    fn rows_of(&self, stored: &Arc<StoredTable>, file: usize) -> Result<FileRows, WarehouseError> {
        let rows = stored.rows.get(file).cloned().ok_or_else(|| no_file(stored, file))?;
        Ok(Box::new(std::iter::once(Ok(rows))))
    }
}

/// The error for a file that a table does not have.
#[must_use]
pub fn no_file(stored: &StoredTable, file: usize) -> WarehouseError {
    let problem = format!("there is no file {file} among {}", stored.files.len());
    WarehouseError::Backend { table: stored.spec.name.to_owned(), action: "read", problem }
}
