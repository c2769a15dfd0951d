//! Joining the parts: which implementation stands behind which seam.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use sawlog_core::batch::AgeLimits;
use sawlog_core::reconciled::Aggregate;
use sawlog_core::rollup::{Rollup, RollupOptions, Width};
use sawlog_core::schema::Table;
use sawlog_core::session::{self, SessionOptions};
use sawlog_core::watermark::WatermarkOptions;
use sawlog_jobs::{CompactionOptions, Jobs, RetentionOptions, Schedule};
use sawlog_query::{QueryEngine, QueryLimits};
use sawlog_seams::lake::Lake;
use sawlog_seams::serving::{Family, ServingStore};
use sawlog_seams::upkeep::TableUpkeep;
use sawlog_seams::view::{StoreRefresh, ViewSource};
use sawlog_seams::warehouse::{ALERT_TABLE, ANOMALY_TABLE, Warehouse};
use sawlog_seams::{Clock, Disk, EventLog, RealDisk, SystemClock};
use sawlog_store::{DeltaWarehouse, FjallServing, LocalLake};
use sawlog_stream::{JudgeOptions, Pipeline, PipelineOptions, RecoverySummary, RulesArchive, Stores, StreamOptions};
use sawlog_telemetry::Metrics;
use sawlog_wal::{RecoveryReport, Wal, WalOptions};

use crate::cloud::{self, Cloud};
use crate::config::{Config, HumanDuration, Role, SourceConfig};
use crate::data_dir::DataDir;
use crate::deploys_file;
use crate::rules_files::RulesFiles;
use crate::shutdown::Stop;

/// A data folder in use: the pipeline over its stores, and queries over the pipeline.
pub(crate) struct Node {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) queries: Arc<QueryEngine>,
    pub(crate) rules: Arc<RulesFiles>,
    pub(crate) jobs: Arc<Jobs>,
    /// Counts of this process.
    pub(crate) metrics: Arc<Metrics>,
    /// Services of Google Cloud.
    pub(crate) cloud: Arc<Cloud>,
    /// Holds the lock of the folder.
    pub(crate) folder: DataDir,
}

impl Node {
    /// Opens the data folder of the configuration and recovers what the last run left.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        Self::open_counting(config, Arc::default()).await
    }

    /// As [`Node::open`], with the counts of this process.
    pub(crate) async fn open_counting(config: &Config, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        if config.gcp.as_ref().is_some_and(|gcp| gcp.role == Role::Reader) {
            anyhow::bail!(
                "a reader (gcp.role) has no data of its own; go through its server with --url, or ask BigQuery with \
                 `sawlog query --engine bigquery`"
            );
        }
        let folder = DataDir::open(&config.data.folder)?;
        cloud::refuse_during_load(folder.path())?;
        let archive = Arc::new(RulesFiles::open(&folder.rules())?);
        let rules = archive.save(&config.rules).context("the rules cannot be used")?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let tables = Arc::new(DeltaWarehouse::open(&folder.tables()).await?);
        let local = Arc::clone(&tables) as Arc<dyn Warehouse>;
        let mut cloud = Cloud::default();
        let warehouse = cloud.warehouse(config, local, folder.path(), &metrics)?;
        let serving = serving_store(config, &folder, &mut cloud).await?;
        let lake = match config.lake.enabled {
            true => Some(lake(config, &folder, &mut cloud).await?),
            false => None,
        };
        let (jobs_clock, jobs_lake, jobs_serving) = (Arc::clone(&clock), lake.clone(), Arc::clone(&serving));
        let resume = Pipeline::resume_position(&disk, folder.path(), warehouse.as_ref(), serving.as_ref())?;
        let mut wal_options = WalOptions::new(folder.wal());
        wal_options.segment_bytes_max = config.wal.segment_size.bytes();
        wal_options.queue_bytes_max = config.wal.queue_size.bytes();
        wal_options.position_min = resume;
        let (wal, log_recovery) = Wal::open(wal_options, Arc::clone(&disk), Arc::clone(&clock))?;
        note_losses(&log_recovery, &metrics);
        let log: Arc<dyn EventLog> = Arc::new(wal);
        let rules_archive = Arc::clone(&archive) as Arc<dyn RulesArchive>;
        let (jobs_disk, query_clock) = (Arc::clone(&disk), Arc::clone(&clock));
        let stores = Stores { log, lake, warehouse, serving, disk, clock, archive: rules_archive };
        let (pipeline, summary) = Pipeline::open(pipeline_options(config, folder.path()), stores, rules).await?;
        log_recovery_summary(&summary);
        let pipeline = Arc::new(pipeline);
        let source: Arc<dyn ViewSource> = Arc::clone(&pipeline) as Arc<dyn ViewSource>;
        let queries = QueryEngine::new(source, query_clock, Arc::clone(&jobs_disk), query_limits(config, &folder))
            .context("the query engine cannot start")?;
        if let Some(path) = &config.deploys {
            queries.set_deploys(&deploys_file::read(path).map_err(anyhow::Error::msg)?)?;
        }
        let jobs = Arc::new(Jobs::new(
            sawlog_jobs::Stores {
                tables: tables as Arc<dyn TableUpkeep>,
                views: Arc::clone(&pipeline) as Arc<dyn StoreRefresh>,
                lake: jobs_lake,
                serving: jobs_serving,
                clock: jobs_clock,
                metrics: Arc::clone(&metrics),
                disk: jobs_disk,
                folder: folder.path().to_path_buf(),
            },
            compaction_options(config),
        ));
        Ok(Self { pipeline, queries: Arc::new(queries), rules: archive, jobs, metrics, cloud: Arc::new(cloud), folder })
    }

    /// Flushes and closes.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.pipeline.close().await?;
        self.cloud.stop().await;
        Ok(())
    }

    /// Flushes and closes for as long as the stop leaves time. What is not flushed by then stays in the event log, and
    /// the next start goes on with it as after a crash.
    pub(crate) async fn close_within(self, stop: &Stop) -> anyhow::Result<()> {
        let pipeline = Arc::clone(&self.pipeline);
        // A task of its own: parts of a flush hold their thread, which must not be the one that watches the time.
        let closing = tokio::spawn(async move { pipeline.close().await });
        match stop.step("last flush", stop.rest(), closing).await {
            Some(closed) => {
                closed??;
                self.cloud.stop().await;
            }
            None => {
                tracing::warn!("the rest is flushed from the event log by the next start");
                // Threads may write until the process ends: the lock of the folder must not end before.
                std::mem::forget(self.folder);
            }
        }
        Ok(())
    }
}

/// The worker's own serving store, with Bigtable before it where it is configured.
async fn serving_store(config: &Config, folder: &DataDir, cloud: &mut Cloud) -> anyhow::Result<Arc<dyn ServingStore>> {
    let local: Arc<dyn ServingStore> = Arc::new(FjallServing::open(&folder.serving())?);
    match config.gcp.as_ref().and_then(|gcp| Some((gcp, gcp.bigtable.as_ref()?))) {
        Some((gcp, bigtable)) => cloud.serving(gcp, bigtable, &config.retention, local).await,
        None => Ok(local),
    }
}

/// The lake in Cloud Storage where it is configured, else on this disk.
async fn lake(config: &Config, folder: &DataDir, cloud: &mut Cloud) -> anyhow::Result<Arc<dyn Lake>> {
    match config.gcp.as_ref().and_then(|gcp| Some((gcp, gcp.storage.as_ref()?))) {
        Some((gcp, storage)) => cloud.lake(storage, gcp.answer_max, &folder.spool_of_lake()).await,
        None => Ok(Arc::new(LocalLake::open(&folder.lake()).context("the lake folder cannot be opened")?)),
    }
}

/// Logs and counts what an operator must know of: acknowledged records that are gone.
fn note_losses(recovery: &RecoveryReport, metrics: &Metrics) {
    for loss in recovery.losses() {
        tracing::error!(position = loss.position.0, bytes = loss.bytes, cause = ?loss.cause, "part of the event log is lost");
    }
    let (mut records, mut bytes) = (0, 0);
    for damage in recovery.quarantined_records() {
        records += 1;
        bytes += damage.bytes;
    }
    metrics.add_log_losses(records, bytes, recovery.missing_bytes());
}

fn log_recovery_summary(summary: &RecoverySummary) {
    if summary.replayed_frames > 0 || summary.finished_flush {
        tracing::info!(
            batches = summary.replayed_frames,
            records = summary.replayed_records,
            finished_flush = summary.finished_flush,
            "recovered from the event log"
        );
    }
}

fn count_or_cores(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

fn pipeline_options(config: &Config, folder: &Path) -> PipelineOptions {
    let pipeline = &config.pipeline;
    PipelineOptions {
        folder: folder.to_path_buf(),
        flush_bytes: pipeline.flush_size.bytes() as usize,
        flush_interval: pipeline.flush_interval.duration(),
        memory_bytes_max: pipeline.memory_max.bytes() as usize,
        workers: count_or_cores(pipeline.workers),
        dedup_window: pipeline.dedup_window.duration(),
        stream: stream_options(config),
        judge: JudgeOptions {
            watch: config.anomalies.clone(),
            rules: config.alerts.clone(),
            ..JudgeOptions::default()
        },
        dedup_keys_max: pipeline.dedup_keys_max as u64,
        disk_free_min: config.data.free_min.bytes(),
    }
}

/// Windows, rollups and sessions.
pub(crate) fn stream_options(config: &Config) -> StreamOptions {
    let micros = |duration: HumanDuration| duration.duration().as_micros() as i64;
    StreamOptions {
        watermark: WatermarkOptions {
            out_of_orderness: micros(config.windows.out_of_orderness),
            idle_timeout: micros(config.windows.idle_timeout),
        },
        allowed_lateness: micros(config.windows.allowed_lateness),
        rollup: RollupOptions {
            apdex_threshold: micros(config.rollups.apdex_threshold),
            series_max: config.rollups.series_max,
        },
        session: SessionOptions { gap: micros(config.sessions.gap), length_max: micros(config.sessions.length_max) },
    }
}

fn compaction_options(config: &Config) -> CompactionOptions {
    let compaction = &config.compaction;
    CompactionOptions {
        file_bytes: compaction.file_size.bytes(),
        files_min: compaction.files_min,
        age_min: compaction.age_min.duration(),
        quiet: compaction.quiet.duration(),
        memory_bytes_max: compaction.memory_max.bytes(),
        disk_free_min: config.data.free_min.bytes(),
        grace: compaction.grace.duration(),
    }
}

/// How long things are kept.
pub(crate) fn retention_options(config: &Config) -> RetentionOptions {
    let retention = &config.retention;
    // The configuration has checked that the numbers are small.
    let days = |days: usize| u32::try_from(days).unwrap_or(u32::MAX);
    let mut tables = vec![
        (Table::Logs.name(), days(retention.logs)),
        (Table::Metrics.name(), days(retention.metrics)),
        (Table::Activity.name(), days(retention.activity)),
        (Table::DeadLetters.name(), days(retention.dead_letters)),
    ];
    tables.extend(Rollup::ALL.map(|rollup| (rollup.pane_table(), days(retention.panes))));
    tables.extend(Aggregate::ALL.map(|aggregate| (aggregate.batch_table(), days(retention.panes))));
    tables.push((session::PANE_TABLE, days(retention.sessions)));
    tables.extend([(ANOMALY_TABLE, days(retention.anomalies)), (ALERT_TABLE, days(retention.alerts))]);
    let rollups = Width::ALL.map(Family::of_width).into_iter().zip(retention.rollups.map(days));
    let users = [(Family::Timeline, days(retention.timelines)), (Family::Profile, days(retention.profiles))];
    let cells = rollups.chain(users).collect();
    RetentionOptions {
        tables,
        lake_days: days(retention.lake),
        cells,
        delete_percent_max: days(retention.delete_percent_max),
    }
}

/// What runs in the background.
pub(crate) fn schedule(config: &Config) -> Schedule {
    Schedule {
        compaction: config.compaction.enabled.then(|| config.compaction.interval.duration()),
        retention: Some((config.retention.interval.duration(), retention_options(config))),
    }
}

pub(crate) fn query_limits(config: &Config, folder: &DataDir) -> QueryLimits {
    let query = &config.query;
    QueryLimits {
        time_max: query.time_max.duration(),
        memory_bytes_max: query.memory_max.bytes() as usize,
        rows_max: query.rows_max,
        answer_bytes_max: query.answer_max.bytes() as usize,
        concurrent_max: count_or_cores(query.concurrent_max),
        threads: count_or_cores(query.threads),
        spill_folder: folder.spill(),
        spill_bytes_max: query.spill_max.bytes(),
        disk_free_min: config.data.free_min.bytes(),
    }
}

/// Accepted event times of a source. What has no lower bound is history.
pub(crate) fn age_limits(source: &SourceConfig) -> AgeLimits {
    AgeLimits {
        past: source.past_max.as_ref().map(|past| past.duration().as_micros() as i64),
        future: source.future_max.duration().as_micros() as i64,
        is_history: source.past_max.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sawlog_core::batch::Format;
    use sawlog_stream::{AckLevel, Submission};

    use super::*;
    use crate::config::ConfigSources;

    fn submission(body: String) -> Submission {
        Submission {
            source: "test".to_owned(),
            file: None,
            format: Format::Json,
            is_declared: true,
            age: AgeLimits::default(),
            body: Bytes::from(body),
            idempotency_key: None,
            ack: AckLevel::Disk,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn damage_of_the_event_log_is_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let flags = vec![("data.folder".to_owned(), folder.path().display().to_string())];
        let loaded = Config::load(&ConfigSources { file: None, environment: Vec::new(), flags }).expect("defaults");
        let node = Node::open(&loaded.config).await.expect("opened");
        assert!(node.metrics.to_text().contains("sawlog_wal_quarantined_records_total 0"));
        for number in 0..3 {
            let body = format!("{{\"message\":\"number {number}\"}}\n");
            node.pipeline.submit(submission(body)).await.expect("stored");
        }
        node.close().await.expect("closed");
        // The newest segment stays after its records were flushed.
        let wal = folder.path().join("wal");
        let segment = std::fs::read_dir(&wal).expect("the log").next().expect("a segment").expect("readable").path();
        let mut bytes = std::fs::read(&segment).expect("readable");
        let at = bytes.windows(8).position(|window| window == b"number 1").expect("the second record");
        bytes[at] ^= 1;
        std::fs::write(&segment, &bytes).expect("written");
        let node = Node::open(&loaded.config).await.expect("opened");
        let text = node.metrics.to_text();
        assert!(text.contains("sawlog_wal_quarantined_records_total 1"), "{text}");
        assert!(!text.contains("sawlog_wal_quarantined_bytes_total 0"), "{text}");
        assert!(text.contains("sawlog_wal_missing_bytes_total 0"), "{text}");
        node.close().await.expect("closed");
    }
}
