//! Tables as Delta Lake folders: Parquet files plus a transaction log that any Delta reader understands.
//!
//! For: appending the rows of a flush exactly once. Each commit carries the log position as Delta's application
//! transaction, so that the same flush, repeated after a crash, stores nothing twice. Not for: reading rows (the query
//! crate scans the files) or rewriting files (compaction).

mod files;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, StructType, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use sawlog_seams::Position;
use sawlog_seams::warehouse::{StoredFile, StoredTable, TableSpec, Warehouse, WarehouseError};
use tokio::sync::Mutex;
use url::Url;

use crate::lake::is_disk_full;

/// Name under which commits carry the log position.
const APPLICATION_ID: &str = "sawlog";

/// Delta Lake tables below one folder.
pub struct DeltaWarehouse {
    tables: HashMap<&'static str, OpenTable>,
}

struct OpenTable {
    spec: TableSpec,
    root: PathBuf,
    /// Held while a commit is under way: one writer per table.
    delta: Mutex<DeltaTable>,
    current: RwLock<(Position, Arc<StoredTable>)>,
}

impl DeltaWarehouse {
    /// Opens the tables below a folder; missing ones are made.
    ///
    /// # Errors
    /// When a table can neither be made nor opened.
    pub async fn open(folder: &Path) -> Result<Self, WarehouseError> {
        let mut tables = HashMap::new();
        for spec in TableSpec::all() {
            tables.insert(spec.name, OpenTable::open(spec, folder).await?);
        }
        Ok(Self { tables })
    }

    fn table(&self, name: &str) -> Result<&OpenTable, WarehouseError> {
        self.tables.get(name).ok_or_else(|| WarehouseError::UnknownTable { table: name.to_owned() })
    }
}

#[async_trait]
impl Warehouse for DeltaWarehouse {
    async fn append(&self, table: &str, rows: Vec<RecordBatch>, position: Position) -> Result<(), WarehouseError> {
        self.table(table)?.append(rows, position).await
    }

    fn committed(&self, table: &str) -> Position {
        self.table(table)
            .map_or(Position::default(), |table| table.current.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    fn stored(&self, table: &str) -> Result<Arc<StoredTable>, WarehouseError> {
        let current = self.table(table)?.current.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(&current.1))
    }
}

impl OpenTable {
    async fn open(spec: TableSpec, folder: &Path) -> Result<Self, WarehouseError> {
        let root = folder.join(spec.name);
        let fail = |problem: String| WarehouseError::Backend { table: spec.name.to_owned(), action: "opened", problem };
        std::fs::create_dir_all(&root).map_err(|error| fail(error.to_string()))?;
        let root = root.canonicalize().map_err(|error| fail(error.to_string()))?;
        let url =
            Url::from_directory_path(&root).map_err(|()| fail(format!("{} is no absolute path", root.display())))?;
        let mut delta = DeltaTable::try_from_url(url).await.map_err(|error| fail(error.to_string()))?;
        if delta.version().is_none() {
            delta = create(&delta, &spec).await.map_err(|error| fail(error.to_string()))?;
        }
        let current = read_state(&delta, &spec, &root).await.map_err(|error| fail(error.to_string()))?;
        Ok(Self { spec, root, delta: Mutex::new(delta), current: RwLock::new(current) })
    }

    async fn append(&self, rows: Vec<RecordBatch>, position: Position) -> Result<(), WarehouseError> {
        let mut delta = self.delta.lock().await;
        if position <= self.current.read().unwrap_or_else(PoisonError::into_inner).0 {
            return Ok(());
        }
        if rows.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(());
        }
        let fail =
            |problem: String| WarehouseError::Backend { table: self.spec.name.to_owned(), action: "written", problem };
        let (spec, root) = (self.spec.clone(), self.root.clone());
        let written = tokio::task::spawn_blocking(move || files::write(&spec, &root, &rows, position))
            .await
            .map_err(|error| fail(error.to_string()))?;
        let adds = written.map_err(|error| match error {
            files::WriteError::Io(error) if sawlog_seams::disk::is_disk_full(&error) => {
                WarehouseError::DiskFull { table: self.spec.name.to_owned() }
            }
            error => fail(error.to_string()),
        })?;
        let committed = self.commit(&mut delta, adds, position).await;
        committed.map_err(|error| match is_disk_full(&error) {
            true => WarehouseError::DiskFull { table: self.spec.name.to_owned() },
            false => fail(error.to_string()),
        })?;
        let state = read_state(&delta, &self.spec, &self.root).await.map_err(|error| fail(error.to_string()))?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    async fn commit(
        &self,
        delta: &mut DeltaTable,
        adds: Vec<deltalake_core::kernel::Add>,
        position: Position,
    ) -> Result<(), deltalake_core::DeltaTableError> {
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: self.spec.partition.map(|column| vec![column.to_owned()]),
            predicate: None,
        };
        let transaction = Transaction::new(APPLICATION_ID, position.0 as i64);
        let properties = CommitProperties::default().with_application_transaction(transaction);
        let finalized = CommitBuilder::from(properties)
            .with_actions(adds.into_iter().map(Action::Add).collect())
            .build(Some(delta.snapshot()?), delta.log_store(), operation)
            .await?;
        tracing::debug!(table = self.spec.name, version = finalized.version(), position = position.0, "committed");
        delta.update_state().await
    }
}

async fn create(delta: &DeltaTable, spec: &TableSpec) -> Result<DeltaTable, deltalake_core::DeltaTableError> {
    let schema: StructType = spec.schema.as_ref().try_into_kernel()?;
    delta
        .create()
        .with_table_name(spec.name)
        .with_columns(schema.fields().cloned())
        .with_partition_columns(spec.partition)
        .await
}

async fn read_state(
    delta: &DeltaTable,
    spec: &TableSpec,
    root: &Path,
) -> Result<(Position, Arc<StoredTable>), deltalake_core::DeltaTableError> {
    let snapshot = delta.snapshot()?;
    let position = snapshot.transaction_version(delta.log_store().as_ref(), APPLICATION_ID).await?.unwrap_or(0);
    let files = snapshot
        .log_data()
        .iter()
        .map(|file| StoredFile {
            path: file.path().into_owned(),
            bytes: file.size() as u64,
            rows: file.num_records().unwrap_or_default() as u64,
            written_at: file.modification_time().saturating_mul(1_000),
            partition_days: spec.partition.and_then(|_| files::partition_days(&file.path())),
        })
        .collect();
    let stored = StoredTable { spec: spec.clone(), root: Some(root.to_path_buf()), files, rows: Vec::new() };
    Ok((Position(position as u64), Arc::new(stored)))
}

#[cfg(test)]
mod tests;
