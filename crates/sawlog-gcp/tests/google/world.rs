//! A pipeline in memory that outlives its process, and what tests ask of it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_core::ledger::Counts;
use sawlog_core::rules::Rules;
use sawlog_seams::lake::MemoryLake;
use sawlog_seams::serving::MemoryServing;
use sawlog_seams::view::ViewSource;
use sawlog_seams::warehouse::{LEDGER_TABLE, MemoryWarehouse};
use sawlog_seams::{Disk, MemoryEventLog, SimDisk, SystemClock};
use sawlog_stream::{
    AckLevel, JudgeOptions, MemoryRulesArchive, Pipeline, PipelineOptions, Stores, StreamOptions, Submission,
};

/// What outlives a process.
pub(crate) struct World {
    log: MemoryEventLog,
    lake: Arc<MemoryLake>,
    warehouse: Arc<MemoryWarehouse>,
    serving: Arc<MemoryServing>,
    pub(crate) disk: Arc<SimDisk>,
}

impl World {
    pub(crate) fn new() -> Self {
        let disk = SimDisk::new(1);
        disk.create_dir_all(&folder()).expect("a folder");
        Self {
            log: MemoryEventLog::new(),
            lake: Arc::default(),
            warehouse: Arc::default(),
            serving: Arc::default(),
            disk: Arc::new(disk),
        }
    }

    /// The world as the next process finds it after a kill.
    pub(crate) fn after_kill(&self) -> Self {
        Self {
            log: self.log.reopen(),
            lake: Arc::clone(&self.lake),
            warehouse: Arc::clone(&self.warehouse),
            serving: Arc::clone(&self.serving),
            disk: Arc::new(self.disk.kill()),
        }
    }

    pub(crate) async fn open(&self) -> Arc<Pipeline> {
        let rules = Arc::new(Rules::none());
        let archive = MemoryRulesArchive::default();
        archive.insert(Arc::clone(&rules));
        let stores = Stores {
            log: Arc::new(self.log.reopen()),
            lake: Some(Arc::clone(&self.lake) as _),
            warehouse: Arc::clone(&self.warehouse) as _,
            serving: Arc::clone(&self.serving) as _,
            disk: Arc::clone(&self.disk) as _,
            clock: Arc::new(SystemClock::new()),
            archive: Arc::new(archive),
        };
        Arc::new(Pipeline::open(options(), stores, rules).await.expect("the pipeline opens").0)
    }
}

/// Stores an event of now, without a message, so that dedup remembers no ids of long ago.
pub(crate) async fn store_one_of_now(pipeline: &Pipeline) {
    let submission = Submission {
        source: "now".to_owned(),
        file: None,
        format: Format::Json,
        is_declared: true,
        age: AgeLimits::default(),
        body: Bytes::from_static(b"{\"insert_id\":\"now\"}"),
        idempotency_key: None,
        ack: AckLevel::Disk,
    };
    pipeline.submit(submission).await.expect("taken");
}

/// Folder of all files.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from("/data")
}

/// Nothing is flushed or refused by itself.
fn options() -> PipelineOptions {
    PipelineOptions {
        folder: folder(),
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

/// All rows of a table.
pub(crate) fn rows(pipeline: &Pipeline, table: &str) -> Vec<RecordBatch> {
    let view = pipeline.view();
    let table = &view.tables[table];
    table.stored.rows.iter().chain(&table.hot).cloned().collect()
}

/// How often each text stands in a column of `logs`.
pub(crate) fn texts(pipeline: &Pipeline, column: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for batch in rows(pipeline, "logs") {
        for text in batch.column_by_name(column).expect("a column").as_string::<i32>().iter().flatten() {
            *found.entry(text.to_owned()).or_default() += 1;
        }
    }
    found
}

/// The ledger's counts of all sources.
pub(crate) fn ledger(pipeline: &Pipeline) -> Counts {
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
