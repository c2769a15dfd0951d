//! Tables as Delta Lake folders: Parquet files plus a transaction log that any Delta reader understands.
//!
//! For: appending the rows of a flush exactly once. Each commit carries the log position as Delta's application
//! transaction, so that the same flush, repeated after a crash, stores nothing twice. Not for: reading rows (the query
//! crate scans the files) or choosing what to rewrite (`sawlog-jobs`).

mod files;
mod merge;
mod order;
mod read;
mod upkeep;
mod whole;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, StructField, StructType, Transaction};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use sawlog_seams::warehouse::{StoredFile, StoredTable, TableSpec, Warehouse, WarehouseError};
use sawlog_seams::{Disk, Position, RealDisk};
use tokio::sync::Mutex;
use url::Url;

use crate::lake::is_disk_full;
use crate::synced::SyncedFiles;

/// Name under which commits carry the log position.
const APPLICATION_ID: &str = "sawlog";
/// Folder of the transaction log in a table's folder.
const LOG_FOLDER: &str = "_delta_log";
/// Commits after which the state of a table is written as a whole, so that opening it reads few log entries.
const CHECKPOINT_COMMITS: u64 = 50;

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
    /// Whether a commit failed in a way that leaves open whether it is in the log.
    is_unsure: AtomicBool,
    /// Files that this process took out of the table and that are still on the disk: since when, monotonic.
    removed: std::sync::Mutex<HashMap<String, Duration>>,
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
        RealDisk.create_dir_all(&root).map_err(|error| fail(error.to_string()))?;
        let root = root.canonicalize().map_err(|error| fail(error.to_string()))?;
        let delta = load_or_create(&spec, &root).await.map_err(|error| fail(error.to_string()))?;
        let current = read_state(&delta, &spec, &root).await.map_err(|error| fail(error.to_string()))?;
        let (delta, current, is_unsure) = (Mutex::new(delta), RwLock::new(current), AtomicBool::new(false));
        Ok(Self { spec, root, delta, current, is_unsure, removed: std::sync::Mutex::default() })
    }

    fn position(&self) -> Position {
        self.current.read().unwrap_or_else(PoisonError::into_inner).0
    }

    async fn append(&self, rows: Vec<RecordBatch>, position: Position) -> Result<(), WarehouseError> {
        let mut delta = self.delta.lock().await;
        self.settle(&mut delta).await?;
        if position <= self.position() || rows.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(());
        }
        let (spec, root) = (self.spec.clone(), self.root.clone());
        let written = tokio::task::spawn_blocking(move || files::write(&spec, &root, &rows, position))
            .await
            .map_err(|error| self.failed("written", &error))?;
        let adds = written.map_err(|error| self.failed("written", &error))?;
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: self.spec.partition.map(|column| vec![column.to_owned()]),
            predicate: None,
        };
        let transaction = Transaction::new(APPLICATION_ID, position.0 as i64);
        let properties = CommitProperties::default().with_application_transaction(transaction);
        let actions = adds.into_iter().map(Action::Add).collect();
        self.commit(&mut delta, actions, operation, properties).await
    }

    /// Finds out what became of a commit that failed half way, so that its rows are not appended again.
    async fn settle(&self, delta: &mut DeltaTable) -> Result<(), WarehouseError> {
        if !self.is_unsure.load(Ordering::Acquire) {
            return Ok(());
        }
        RealDisk.sync_dir(&self.root.join(LOG_FOLDER)).map_err(|error| self.failed("synced", &error))?;
        self.reload(delta).await?;
        self.is_unsure.store(false, Ordering::Release);
        Ok(())
    }

    /// Commits actions. When this returns, the log entry and its name are durable: see [`SyncedFiles`].
    async fn commit(
        &self,
        delta: &mut DeltaTable,
        actions: Vec<Action>,
        operation: DeltaOperation,
        properties: CommitProperties,
    ) -> Result<(), WarehouseError> {
        let properties = without_upkeep(properties);
        let snapshot = delta.snapshot().map_err(|error| self.failed("written", &error))?;
        self.is_unsure.store(true, Ordering::Release);
        let finalized = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(snapshot), delta.log_store(), operation)
            .await
            .map_err(|error| self.failed("written", &error))?;
        let version = finalized.version();
        self.reload(delta).await?;
        self.is_unsure.store(false, Ordering::Release);
        tracing::debug!(table = self.spec.name, version, position = self.position().0, "committed");
        if (version + 1).is_multiple_of(CHECKPOINT_COMMITS)
            && let Err(error) = deltalake_core::checkpoints::create_checkpoint(delta, None).await
        {
            tracing::warn!(table = self.spec.name, %error, "the table has no new checkpoint; opening it takes longer");
        }
        Ok(())
    }

    async fn reload(&self, delta: &mut DeltaTable) -> Result<(), WarehouseError> {
        delta.update_state().await.map_err(|error| self.failed("read back", &error))?;
        let state = read_state(delta, &self.spec, &self.root).await;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) =
            state.map_err(|error| self.failed("read back", &error))?;
        Ok(())
    }

    fn failed(&self, action: &'static str, error: &(dyn std::error::Error + 'static)) -> WarehouseError {
        let table = self.spec.name.to_owned();
        match is_disk_full(error) {
            true => WarehouseError::DiskFull { table },
            false => WarehouseError::Backend { table, action, problem: error.to_string() },
        }
    }
}

/// Checkpoints and cleaning have their own time: their failure must not look like one of the commit.
fn without_upkeep(properties: CommitProperties) -> CommitProperties {
    properties.with_create_checkpoint(false).with_cleanup_expired_logs(Some(false))
}

async fn load_or_create(spec: &TableSpec, root: &Path) -> Result<DeltaTable, DeltaTableError> {
    let url = Url::from_directory_path(root)
        .map_err(|()| DeltaTableError::InvalidTableLocation(format!("{} is no absolute path", root.display())))?;
    let store = Arc::new(SyncedFiles::at_root());
    let mut delta = DeltaTableBuilder::from_url(url.clone())?.with_storage_backend(store, url).build()?;
    match delta.load().await {
        Ok(()) => with_new_columns(delta, spec).await,
        Err(DeltaTableError::NotATable(_)) => create(&delta, spec).await,
        Err(error) => Err(error),
    }
}

/// The table with the columns that an older build did not know. They are nullable, since the rows before have none.
async fn with_new_columns(delta: DeltaTable, spec: &TableSpec) -> Result<DeltaTable, DeltaTableError> {
    let known = delta.snapshot()?.schema();
    let schema: StructType = spec.schema.as_ref().try_into_kernel()?;
    let missing = schema.fields().filter(|field| known.field(field.name()).is_none());
    let missing: Vec<StructField> = missing.map(|field| StructField { nullable: true, ..field.clone() }).collect();
    if missing.is_empty() {
        return Ok(delta);
    }
    let names: Vec<&str> = missing.iter().map(|field| field.name().as_str()).collect();
    tracing::info!(table = spec.name, columns = names.join(", "), "the table gets new columns");
    delta.add_columns().with_fields(missing).with_commit_properties(without_upkeep(CommitProperties::default())).await
}

async fn create(delta: &DeltaTable, spec: &TableSpec) -> Result<DeltaTable, DeltaTableError> {
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
) -> Result<(Position, Arc<StoredTable>), DeltaTableError> {
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
