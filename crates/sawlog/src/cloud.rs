//! Services of Google Cloud behind the seams, as configured, and what runs beside them.
//!
//! For: opening lake, warehouse and serving store, their metrics and their upkeep. Not for: the services themselves
//! (`sawlog_gcp`), or the embedded stores under them, which the caller gives.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sawlog_core::batch::AgeLimits;
use sawlog_core::schema::Table;
use sawlog_gcp::bigquery::{BigQueryOptions, BigQueryWarehouse, load};
use sawlog_gcp::bigtable::{Bigtable, BigtableOptions, BigtableServing, TableChange};
use sawlog_gcp::call::{CallCounts, RetryPolicy};
use sawlog_gcp::logging::sink::{self, DeadLetterOptions, Entries, SinkLayer, SinkOptions, SinkWriter};
use sawlog_gcp::logging::{self, BackfillOptions, LoggingQuery, LoggingState, Pace, TailOptions};
use sawlog_gcp::storage::{GcsLake, GcsLakeOptions, SpoolOptions, SpooledLake};
use sawlog_seams::lake::Lake;
use sawlog_seams::serving::ServingStore;
use sawlog_seams::warehouse::Warehouse;
use sawlog_seams::{Clock, Disk, RealDisk, SystemClock};
use sawlog_server::listen;
use sawlog_store::LocalLake;
use sawlog_telemetry::Metrics;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{BigtableConfig, Config, GcpConfig, LoggingSourceConfig, RetentionConfig, StorageConfig};
use crate::wiring::{Node, age_limits};

/// Between two looks at what the services' clients have counted.
const METRICS_INTERVAL: Duration = Duration::from_secs(5);
/// Between two searches for what crashes have left.
const SWEEP_INTERVAL: Duration = Duration::from_secs(86_400);
/// Age of an unfinished upload at which no process can be at it any more.
const UPLOAD_AGE: Duration = Duration::from_secs(86_400);
/// Cells of Bigtable outlive retention, which notes the numbers of their panes before it deletes them.
const CELL_MARGIN: Duration = Duration::from_secs(2 * 86_400);
/// Requests for entries that a project has in a minute.
const READS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).expect("not zero");
/// Longest wait for an answer of Cloud Storage by default.
const STORAGE_ANSWER_MAX: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);

/// What of the services has something to count or to clean up.
#[derive(Default)]
pub(crate) struct Cloud {
    gcs: Option<Arc<GcsLake>>,
    spool: Option<Arc<SpooledLake>>,
    bigquery: Option<Arc<BigQueryWarehouse>>,
    bigtable: Option<(Arc<Bigtable>, Arc<BigtableServing>)>,
}

impl Cloud {
    /// The lake in Cloud Storage, with its spool in a folder.
    pub(crate) async fn lake(
        &mut self,
        config: &StorageConfig,
        answer_max: Option<Duration>,
        folder: &Path,
    ) -> anyhow::Result<Arc<dyn Lake>> {
        let gcs = Arc::new(GcsLake::open(GcsLakeOptions {
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
            access: config.access.clone(),
            try_deadline: answer_max.unwrap_or(STORAGE_ANSWER_MAX),
            call_deadline: Duration::from_secs(10),
        })?);
        let local = Arc::new(LocalLake::open(folder).context("the folder of the spool cannot be opened")?);
        let options = SpoolOptions {
            bytes_max: config.spool_max,
            drains_at_once: 4,
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let spool = SpooledLake::open(Arc::clone(&gcs) as Arc<dyn Lake>, local, options, clock).await?;
        let spool = Arc::new(spool);
        (self.gcs, self.spool) = (Some(gcs), Some(Arc::clone(&spool)));
        Ok(spool)
    }

    /// The serving store in Bigtable over the worker's own. Its tables are made or changed first.
    pub(crate) async fn serving(
        &mut self,
        gcp: &GcpConfig,
        config: &BigtableConfig,
        retention: &RetentionConfig,
        local: Arc<dyn ServingStore>,
    ) -> anyhow::Result<Arc<dyn ServingStore>> {
        let options = bigtable_options(gcp, config, retention);
        let opening = tokio::task::spawn_blocking(move || {
            let bigtable = Bigtable::connect(options)?;
            for change in bigtable.ensure_tables()? {
                tracing::info!(%change, "changed Bigtable");
            }
            let serving = BigtableServing::open(Arc::clone(&bigtable), local)?;
            anyhow::Ok((bigtable, Arc::new(serving)))
        });
        let (bigtable, serving) = opening.await?.context("Bigtable cannot be used as the serving store")?;
        self.bigtable = Some((bigtable, Arc::clone(&serving)));
        Ok(serving)
    }

    /// The warehouse: the worker's tables, with BigQuery before them where it is configured.
    pub(crate) fn warehouse(
        &mut self,
        config: &Config,
        local: Arc<dyn Warehouse>,
        folder: &Path,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Arc<dyn Warehouse>> {
        let Some(options) = config.gcp.as_ref().and_then(bigquery_options) else { return Ok(local) };
        let (disk, metrics): (Arc<dyn Disk>, _) = (Arc::new(RealDisk), Arc::clone(metrics));
        let warehouse = Arc::new(BigQueryWarehouse::open(options, local, disk, folder, metrics)?);
        self.bigquery = Some(Arc::clone(&warehouse));
        Ok(warehouse)
    }

    /// Counts what the services' clients did, until a stop.
    async fn run(self: Arc<Self>, metrics: Arc<Metrics>, mut stopped: watch::Receiver<bool>) {
        let mut count = tokio::time::interval(METRICS_INTERVAL);
        while !*stopped.borrow() {
            tokio::select! {
                () = listen::until(&mut stopped) => {}
                _ = count.tick() => {}
            }
            self.count(&metrics);
        }
    }

    /// Cleans up what crashes have left, daily until a stop, which does not wait for it.
    async fn sweep_daily(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut daily = tokio::time::interval(SWEEP_INTERVAL);
        let sweeping = async {
            loop {
                daily.tick().await;
                self.sweep().await;
            }
        };
        tokio::select! {
            () = listen::until(&mut stopped) => {}
            () = sweeping => {}
        }
    }

    /// Stops what brings objects to Cloud Storage.
    pub(crate) async fn stop(&self) {
        if let Some(spool) = &self.spool {
            spool.stop().await;
        }
    }

    fn count(&self, metrics: &Metrics) {
        if let Some(spool) = &self.spool {
            let stats = spool.stats();
            let oldest = stats.oldest_age.unwrap_or_default().as_secs();
            metrics.set_spool(stats.objects, stats.bytes, oldest, stats.conflicting);
        }
        let set = |service: &'static str, counts: CallCounts| {
            for ((call, outcome), count) in counts {
                metrics.set_cloud_calls(service, call, outcome, count.calls, count.seconds);
            }
        };
        if let Some(gcs) = &self.gcs {
            set("storage", gcs.counts());
        }
        if let Some(bigquery) = &self.bigquery {
            set("bigquery", bigquery.counts());
        }
        if let Some((bigtable, _)) = &self.bigtable {
            set("bigtable", bigtable.counts());
        }
    }

    async fn sweep(&self) {
        if let Some(gcs) = &self.gcs {
            match gcs.sweep(SystemClock::new().now_micros(), UPLOAD_AGE).await {
                Ok(0) => {}
                Ok(objects) => tracing::info!(objects, "removed uploads that were never finished"),
                Err(error) => tracing::warn!(%error, "unfinished uploads are looked for again tomorrow"),
            }
        }
        if let Some((_, serving)) = &self.bigtable {
            let serving = Arc::clone(serving);
            match tokio::task::spawn_blocking(move || serving.sweep()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "marks of deletions are looked for again tomorrow"),
                Err(error) => tracing::error!(%error, "a thread that looked for marks of deletions died"),
            }
        }
    }
}

/// Refuses a data folder whose tables are on their way into a dataset: rows that come meanwhile would be there twice or not
/// at all.
pub(crate) fn refuse_during_load(folder: &Path) -> anyhow::Result<()> {
    if let Some(dataset) = load::under_way(Arc::new(RealDisk), folder)? {
        anyhow::bail!(
            "the tables of data folder {} are being loaded into dataset {dataset}; finish it with `sawlog gcp load`, or take \
             it back with `sawlog gcp load --undo`",
            folder.display()
        );
    }
    Ok(())
}

/// The tables of Bigtable that are configured.
pub(crate) fn bigtable_options(
    gcp: &GcpConfig,
    config: &BigtableConfig,
    retention: &RetentionConfig,
) -> BigtableOptions {
    let mut options = BigtableOptions::new(&gcp.project, &config.instance, &config.table);
    options.app_profile.clone_from(&config.app_profile);
    options.access = config.access.clone();
    let days = |days: usize| DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX)) + CELL_MARGIN;
    let age = |kept: usize| (kept > 0).then(|| days(kept));
    options.rollup_age = retention.rollups.map(age);
    options.timeline_age = age(retention.timelines);
    options.retry = with_answer_max(options.retry, gcp.answer_max);
    options
}

/// The policy with another longest wait for one answer, where that is set.
fn with_answer_max(policy: RetryPolicy, answer_max: Option<Duration>) -> RetryPolicy {
    RetryPolicy { try_max: answer_max.unwrap_or(policy.try_max), ..policy }
}

/// What the tables of Bigtable lack, made or only named.
pub(crate) async fn table_changes(options: BigtableOptions, are_made: bool) -> anyhow::Result<Vec<TableChange>> {
    let changes = tokio::task::spawn_blocking(move || {
        let bigtable = Bigtable::connect(options)?;
        if are_made { bigtable.ensure_tables() } else { bigtable.plan_tables() }
    });
    Ok(changes.await??)
}

/// The dataset that is configured.
pub(crate) fn bigquery_options(gcp: &GcpConfig) -> Option<BigQueryOptions> {
    let config = gcp.bigquery.as_ref()?;
    Some(BigQueryOptions {
        project: gcp.project.clone(),
        dataset: config.dataset.clone(),
        location: config.location.clone(),
        access: config.access.clone(),
        storage: config.storage.clone(),
        writer: gcp.worker.clone(),
        delivery: config.delivery,
        partition: config.partition,
        expiration_days: config.expiration_days.clone(),
        labels: config.labels.clone(),
        // A statement is no one answer: it takes the time that it takes.
        retry: BigQueryOptions::retry(),
        append: with_answer_max(BigQueryOptions::append(), gcp.answer_max),
    })
}

/// The own log to Cloud Logging, as a layer to start logging with and a writer to run, where it is configured.
pub(crate) fn log_sink(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Option<(SinkLayer, SinkWriter)>> {
    let Some((gcp, log)) = config.gcp.as_ref().and_then(|gcp| Some((gcp, gcp.log.as_ref()?))) else {
        return Ok(None);
    };
    let mut options = SinkOptions::new(&gcp.project, &gcp.worker, env!("CARGO_PKG_VERSION"));
    options.log_id.clone_from(&log.log_id);
    options.access = log.access.clone();
    Ok(Some(sink::sink(options, Arc::new(SystemClock::new()), Arc::clone(metrics))?))
}

/// Runs what goes on beside the stores: the own log out, entries of Cloud Logging in, counting and cleaning up.
pub(crate) fn spawn(
    sink: Option<(Entries, SinkWriter)>,
    config: &Config,
    node: &Node,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    if let Some(sink) = sink {
        spawn_log_sink(sink, config, node, stopped, tasks);
    }
    spawn_logging(config, node, stopped, tasks)?;
    let (cloud, metrics, until) = (Arc::clone(&node.cloud), Arc::clone(&node.metrics), stopped.clone());
    tasks.spawn(async move {
        cloud.run(metrics, until).await;
        Ok(())
    });
    let (cloud, until) = (Arc::clone(&node.cloud), stopped.clone());
    tasks.spawn(async move {
        cloud.sweep_daily(until).await;
        Ok(())
    });
    Ok(())
}

/// Runs the sink and the summaries of dead letters that go with it.
fn spawn_log_sink(
    (entries, writer): (Entries, SinkWriter),
    config: &Config,
    node: &Node,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let options = DeadLetterOptions { redact: config.rules.redact.clone(), ..DeadLetterOptions::default() };
    let tap = node.pipeline.tap(Table::DeadLetters);
    let (mut stopped_first, stopped_too) = (stopped.clone(), stopped.clone());
    tasks.spawn(async move {
        sink::summarize_dead_letters(options, tap, entries, stopped_first.clone()).await?;
        // The end of the pipeline's taps ends the summaries, which must not end the server.
        listen::until(&mut stopped_first).await;
        Ok(())
    });
    tasks.spawn(async move {
        writer.run(stopped_too).await;
        Ok(())
    });
}

/// Takes the entries of Cloud Logging that are configured.
fn spawn_logging(
    config: &Config,
    node: &Node,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let Some(gcp) = config.gcp.as_ref().filter(|gcp| !gcp.logging.is_empty()) else { return Ok(()) };
    let folder = node.folder.path().join("cloud-logging");
    RealDisk.create_dir_all(&folder).context("the folder of the sources of Cloud Logging cannot be made")?;
    let state = LoggingState {
        pipeline: Arc::clone(&node.pipeline),
        metrics: Arc::clone(&node.metrics),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock::new()),
        pace: Arc::new(Pace::new(READS_PER_MINUTE)),
    };
    let age = age_limits(&config.sources.logging);
    let node = LoggingNode { state, age, dedup_window: config.pipeline.dedup_window.duration() };
    for source in &gcp.logging {
        tasks.spawn(run_logging(source.clone(), folder.clone(), node.clone(), stopped.clone()));
    }
    Ok(())
}

/// What the sources of Cloud Logging have in common.
#[derive(Clone)]
struct LoggingNode {
    state: LoggingState,
    age: AgeLimits,
    dedup_window: Duration,
}

/// One source: its range of the past, and what is written meanwhile and later.
async fn run_logging(
    source: LoggingSourceConfig,
    folder: PathBuf,
    node: LoggingNode,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut query = LoggingQuery::new(source.resource, source.source.clone());
    query.filter = source.filter;
    query.access = source.access;
    let backfill = source.backfill.map(|(from, until)| {
        let progress_file = folder.join(format!("{}-backfill.json", source.source));
        BackfillOptions { query: query.clone(), from, until, progress_file }
    });
    let tail = source.tail.then(|| {
        let mut options = TailOptions::new(query, folder.join(format!("{}-tail.json", source.source)));
        options.age = node.age;
        options.ids_known = node.dedup_window / 2;
        options
    });
    tokio::join!(
        async {
            let Some(options) = backfill else { return };
            match logging::backfill(options, node.state.clone(), stopped.clone()).await {
                Ok(report) => tracing::info!(source = source.source, ?report, "loaded entries of Cloud Logging"),
                Err(error) => {
                    tracing::error!(source = source.source, %error, "entries of Cloud Logging are not loaded")
                }
            }
        },
        async {
            if let Some(options) = tail {
                logging::tail(options, node.state.clone(), stopped.clone()).await;
            }
        },
    );
    // A source that is done must not end the server.
    listen::until(&mut stopped).await;
    Ok(())
}
