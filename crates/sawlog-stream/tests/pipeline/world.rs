//! Stores that fail, a world that outlives a process, and what tests ask of a pipeline.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_core::ledger::Counts;
use sawlog_core::rollup::{Cell, PaneCell, Rollup, Width};
use sawlog_core::rules::Rules;
use sawlog_seams::lake::{Lake, LakeError, MemoryLake, Put};
use sawlog_seams::serving::{Family, MemoryServing, Mutation, ServingError, ServingSnapshot, ServingStore};
use sawlog_seams::view::ViewSource;
use sawlog_seams::warehouse::{LEDGER_TABLE, MemoryWarehouse, StoredTable, Warehouse, WarehouseError};
use sawlog_seams::{ManualClock, MemoryEventLog, Position, SimDisk};
use sawlog_stream::{
    AckLevel, JudgeOptions, MemoryRulesArchive, Pipeline, PipelineOptions, Receipt, Stores, StreamOptions, Submission,
};

pub(super) const NOW: i64 = 1_795_489_200_000_000;
/// Writes of a flush in which no window is complete: one lake object, four tables of events, the ledger, sessions, anomalies,
/// alerts, the serving store.
pub(super) const WRITES: usize = 10;

/// Fails the n-th write of a flush, wherever it goes.
#[derive(Default)]
pub(super) struct Fault {
    pub(super) writes: AtomicUsize,
    pub(super) fails_at: AtomicUsize,
}

impl Fault {
    pub(super) fn hits(&self) -> bool {
        let write = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        write == self.fails_at.load(Ordering::SeqCst)
    }
}

/// Stores whose writes can fail after the write was done, as a crash between write and answer looks.
pub(super) struct Faulty<T> {
    pub(super) inner: T,
    pub(super) fault: Arc<Fault>,
}

#[async_trait::async_trait]
impl Lake for Faulty<Arc<MemoryLake>> {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Put, LakeError> {
        let put = self.inner.put(key, bytes).await?;
        match self.fault.hits() {
            true => Err(LakeError::Backend { key: key.to_owned(), problem: "injected".to_owned() }),
            false => Ok(put),
        }
    }
    async fn get(&self, key: &str) -> Result<Bytes, LakeError> {
        self.inner.get(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        self.inner.list(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<(), LakeError> {
        self.inner.delete(key).await
    }
}

#[async_trait::async_trait]
impl Warehouse for Faulty<Arc<MemoryWarehouse>> {
    async fn append(&self, table: &str, rows: Vec<RecordBatch>, position: Position) -> Result<(), WarehouseError> {
        self.inner.append(table, rows, position).await?;
        match self.fault.hits() {
            true => Err(WarehouseError::DiskFull { table: table.to_owned() }),
            false => Ok(()),
        }
    }
    fn committed(&self, table: &str) -> Position {
        self.inner.committed(table)
    }
    fn stored(&self, table: &str) -> Result<Arc<StoredTable>, WarehouseError> {
        self.inner.stored(table)
    }
}

impl ServingStore for Faulty<Arc<MemoryServing>> {
    fn apply(&self, mutations: Vec<Mutation>, position: Position) -> Result<(), ServingError> {
        self.inner.apply(mutations, position)?;
        match self.fault.hits() {
            true => Err(ServingError::backend("writing", "injected")),
            false => Ok(()),
        }
    }
    fn applied(&self) -> Position {
        self.inner.applied()
    }
    fn snapshot(&self) -> Arc<dyn ServingSnapshot> {
        self.inner.snapshot()
    }
    fn delete_unchanged(&self, family: Family, cells: Vec<sawlog_seams::serving::Cell>) -> Result<(), ServingError> {
        self.inner.delete_unchanged(family, cells)
    }
    fn note(&self, family: Family, cell: sawlog_seams::serving::Cell) -> Result<(), ServingError> {
        self.inner.note(family, cell)
    }
}

/// What outlives a process.
pub(super) struct World {
    pub(super) log: MemoryEventLog,
    pub(super) lake: Arc<MemoryLake>,
    pub(super) warehouse: Arc<MemoryWarehouse>,
    pub(super) serving: Arc<MemoryServing>,
    pub(super) disk: SimDisk,
    pub(super) fault: Arc<Fault>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            log: MemoryEventLog::new(),
            lake: Arc::default(),
            warehouse: Arc::default(),
            serving: Arc::default(),
            disk: SimDisk::new(1),
            fault: Arc::default(),
        }
    }

    /// The world as the next process finds it.
    pub(super) fn after_kill(&self) -> Self {
        Self {
            log: self.log.reopen(),
            lake: Arc::clone(&self.lake),
            warehouse: Arc::clone(&self.warehouse),
            serving: Arc::clone(&self.serving),
            disk: self.disk.kill(),
            fault: Arc::default(),
        }
    }

    pub(super) async fn open(&self) -> Pipeline {
        self.open_with(self.stores(), options()).await
    }

    pub(super) async fn open_with(&self, stores: Stores, options: PipelineOptions) -> Pipeline {
        sawlog_seams::Disk::create_dir_all(&self.disk, &options.folder).expect("a folder");
        Pipeline::open(options, stores, Arc::new(Rules::none())).await.expect("the pipeline opens").0
    }

    pub(super) fn stores(&self) -> Stores {
        let archive = MemoryRulesArchive::default();
        archive.insert(Arc::new(Rules::none()));
        Stores {
            log: Arc::new(self.log.reopen()),
            lake: Some(Arc::new(Faulty { inner: Arc::clone(&self.lake), fault: Arc::clone(&self.fault) })),
            warehouse: Arc::new(Faulty { inner: Arc::clone(&self.warehouse), fault: Arc::clone(&self.fault) }),
            serving: Arc::new(Faulty { inner: Arc::clone(&self.serving), fault: Arc::clone(&self.fault) }),
            disk: Arc::new(self.disk.clone()),
            clock: Arc::new(ManualClock::at_micros(NOW)),
            archive: Arc::new(archive),
        }
    }
}

/// Nothing is flushed or refused by itself.
pub(super) fn options() -> PipelineOptions {
    PipelineOptions {
        folder: PathBuf::from("/data"),
        flush_bytes: usize::MAX,
        flush_interval: Duration::from_secs(3600),
        memory_bytes_max: usize::MAX,
        workers: NonZeroUsize::MIN,
        dedup_window: Duration::from_secs(3600),
        stream: StreamOptions::default(),
        judge: JudgeOptions::default(),
        dedup_keys_max: u64::MAX,
        disk_free_min: 1024,
    }
}

pub(super) fn submission(body: &str, key: Option<&str>, ack: AckLevel) -> Submission {
    Submission {
        source: "test".to_owned(),
        file: None,
        format: Format::Json,
        is_declared: true,
        age: AgeLimits::default(),
        body: Bytes::from(body.to_owned()),
        idempotency_key: key.map(str::to_owned),
        ack,
    }
}

pub(super) async fn submit(pipeline: &Pipeline, body: &str, key: Option<&str>) -> Receipt {
    pipeline.submit(submission(body, key, AckLevel::Disk)).await.expect("the batch is taken")
}

pub(super) fn event(id: &str, message: &str) -> String {
    format!("{{\"insert_id\":\"{id}\",\"message\":\"{message}\",\"level\":\"error\",\"service\":\"a\"}}\n")
}

/// All rows of a table, hot and stored.
pub(super) fn rows(pipeline: &Pipeline, table: &str) -> Vec<RecordBatch> {
    let view = pipeline.view();
    let table = &view.tables[table];
    table.stored.rows.iter().chain(&table.hot).cloned().collect()
}

pub(super) fn messages(pipeline: &Pipeline) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for batch in rows(pipeline, "logs") {
        let column = batch.column_by_name("message").expect("a column").as_string::<i32>().clone();
        for message in column.iter().flatten() {
            *found.entry(message.to_owned()).or_default() += 1;
        }
    }
    found
}

pub(super) fn ledger(pipeline: &Pipeline) -> Counts {
    let mut total = Counts::default();
    for batch in rows(pipeline, LEDGER_TABLE) {
        for row in 0..batch.num_rows() {
            let count = |name: &str| {
                batch.column_by_name(name).expect("a column").as_primitive::<Int64Type>().value(row) as u64
            };
            total += Counts::from_values(Counts::NAMES.map(count));
        }
    }
    total
}

/// Log records in all windows of a width.
pub(super) fn rollup_count_of(pipeline: &Pipeline, width: Width) -> u64 {
    let view = pipeline.view();
    let (start, end) = sawlog_core::rowkey::range_of(Rollup::Requests.byte());
    let stored = view.serving.scan(Family::of_width(width), &start, Some(&end)).expect("cells");
    let stored =
        stored.into_iter().map(|(_, value)| PaneCell::from_bytes(Rollup::Requests, &value).expect("a cell").cell);
    let hot = view.hot_rollups.iter().flat_map(|hot| hot.cells(Rollup::Requests, width, i64::MIN..i64::MAX));
    let counts = stored.chain(hot.map(|(_, cell)| cell)).map(|cell| match cell {
        Cell::Requests(cell) => cell.count,
        other => panic!("a cell of another rollup: {other:?}"),
    });
    counts.sum()
}

pub(super) fn rollup_count(pipeline: &Pipeline) -> u64 {
    let counts = Width::ALL.map(|width| rollup_count_of(pipeline, width));
    assert!(counts.iter().all(|count| *count == counts[0]), "windows of all widths hold the same: {counts:?}");
    counts[0]
}
