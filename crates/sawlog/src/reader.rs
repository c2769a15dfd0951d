//! A process without data of its own, which answers from what workers have written to BigQuery and Bigtable.
//!
//! For: the view of such a process: tables that BigQuery scans, the cells of Bigtable as of a second ago, and whether both
//! answer. Not for: listening ([`crate::cli`]) or the services (`sawlog_gcp`).

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use sawlog_gcp::bigquery::{BigQueryTable, JobSettings, Jobs};
use sawlog_gcp::bigtable::{Bigtable, BigtableError};
use sawlog_gcp::call::RetryPolicy;
use sawlog_seams::remote::RemoteTable;
use sawlog_seams::serving::{Family, ServingError, ServingSnapshot, VisitCell};
use sawlog_seams::view::{View, ViewSource};
use sawlog_seams::warehouse::TableSpec;
use sawlog_seams::{Clock, Position, SystemClock};
use sawlog_server::{Reader, listen};
use sawlog_stream::{StoredStream, StreamOptions};
use sawlog_telemetry::Metrics;
use tokio::sync::watch;

use crate::cloud;
use crate::config::{Config, GcpConfig};
use crate::wiring::stream_options;

/// Between two looks at how far the worker has come.
const CELLS_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks whether BigQuery answers, when the last one went well.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Longest time for one call of Bigtable: it holds a thread of the queries.
const CELL_CALL_MAX: Duration = Duration::from_secs(5);

/// What is known of the services.
struct Known {
    serving: Arc<dyn ServingSnapshot>,
    position: Option<Position>,
    stream: StoredStream,
    /// Why there are no cells, or no new ones.
    bigtable_problem: Option<String>,
    /// Why BigQuery has no answers.
    bigquery_problem: Option<String>,
}

/// Tables and cells of workers.
pub(crate) struct CloudReader {
    jobs: Arc<Jobs>,
    bigtable: Option<Arc<Bigtable>>,
    tables: Vec<(TableSpec, Arc<dyn RemoteTable>)>,
    stream: StreamOptions,
    clock: SystemClock,
    known: RwLock<Known>,
}

impl CloudReader {
    /// Opens what the configuration names. The services need not answer yet.
    pub(crate) async fn open(config: &Config, gcp: &GcpConfig) -> anyhow::Result<Self> {
        let options = cloud::bigquery_options(gcp).context("a reader has [gcp.bigquery]")?;
        let queries = gcp.bigquery.as_ref().map(|bigquery| &bigquery.queries).context("a reader has [gcp.bigquery]")?;
        let time_max = config.query.time_max.duration();
        let jobs = Jobs::connect(&options, retry(time_max)).await?;
        let settings = JobSettings {
            bytes_max: queries.bytes_max,
            time_max: time_max.min(queries.time_max),
            is_cached: true,
            purpose: "reader",
        };
        let table = |spec: TableSpec| {
            let table = BigQueryTable::new(Arc::clone(&jobs), spec.clone(), settings.clone());
            (spec, Arc::new(table) as Arc<dyn RemoteTable>)
        };
        let tables = TableSpec::all().into_iter().map(table).collect();
        let bigtable = match &gcp.bigtable {
            None => None,
            Some(bigtable) => {
                let mut options = cloud::bigtable_options(gcp, bigtable, &config.retention);
                options.retry = retry(CELL_CALL_MAX);
                Some(Bigtable::connect(options)?)
            }
        };
        let why = match bigtable {
            None => "this reader has no [gcp.bigtable], which rollups, sessions, timelines and deploys need",
            Some(_) => "Bigtable has not answered yet",
        };
        let stream = stream_options(config);
        let serving: Arc<dyn ServingSnapshot> = Arc::new(NoCells(why.to_owned()));
        let known = Known {
            stream: StoredStream::read(stream, &Nothing)?,
            serving,
            position: None,
            bigtable_problem: bigtable.as_ref().map(|_| why.to_owned()),
            bigquery_problem: Some("BigQuery has not answered yet".to_owned()),
        };
        Ok(Self { jobs, bigtable, tables, stream, clock: SystemClock::new(), known: RwLock::new(known) })
    }

    /// Looks at the services until a stop.
    pub(crate) async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let looking = async {
            tokio::join!(Arc::clone(&self).look_at_bigtable(), self.look_at_bigquery());
        };
        tokio::select! {
            () = listen::until(&mut stopped) => {}
            () = looking => {}
        }
    }

    /// Waits until queries that nobody waits for any more are ended with the service.
    pub(crate) async fn settle(&self) {
        self.jobs.settle().await;
    }

    async fn look_at_bigtable(self: Arc<Self>) {
        let Some(bigtable) = self.bigtable.clone() else { return };
        loop {
            let (reader, looked_at) = (Arc::clone(&self), Arc::clone(&bigtable));
            let looked = tokio::task::spawn_blocking(move || reader.refresh(&looked_at)).await;
            let problem = match looked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            tell(problem.as_deref(), self.known().bigtable_problem.as_deref(), "Bigtable");
            self.change(|known| known.bigtable_problem = problem);
            tokio::time::sleep(CELLS_INTERVAL).await;
        }
    }

    /// Takes the cells as of now, if the worker has come further.
    fn refresh(&self, bigtable: &Arc<Bigtable>) -> Result<(), BigtableError> {
        let snapshot = bigtable.snapshot()?;
        let position = Some(snapshot.position());
        if self.known().position == position {
            return Ok(());
        }
        let stream = StoredStream::read(self.stream, &snapshot)?;
        let serving: Arc<dyn ServingSnapshot> = Arc::new(snapshot);
        self.change(|known| (known.serving, known.stream, known.position) = (serving, stream, position));
        Ok(())
    }

    async fn look_at_bigquery(&self) {
        loop {
            let problem = self.jobs.probe().await.err().map(|error| format!("{}; {}", error.problem(), error.hint()));
            let is_well = problem.is_none();
            tell(problem.as_deref(), self.known().bigquery_problem.as_deref(), "BigQuery");
            self.change(|known| known.bigquery_problem = problem);
            tokio::time::sleep(if is_well { PROBE_INTERVAL } else { CELLS_INTERVAL }).await;
        }
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Says once that a service is away, and once that it is back.
fn tell(now: Option<&str>, before: Option<&str>, service: &str) {
    match (now, before) {
        (Some(problem), None) => tracing::warn!(service, problem, "a service has no answers"),
        (None, Some(_)) => tracing::info!(service, "answers"),
        _ => {}
    }
}

/// Calls that somebody waits for.
fn retry(total_max: Duration) -> RetryPolicy {
    RetryPolicy { total_max, try_max: total_max, ..RetryPolicy::default() }
}

impl ViewSource for CloudReader {
    fn view(&self) -> View {
        let known = self.known();
        View {
            tables: std::collections::HashMap::new(),
            remote: self.tables.clone(),
            hot_rollups: Vec::new(),
            hot_sessions: Vec::new(),
            session_rules: known.stream.session_rules,
            serving: Arc::clone(&known.serving),
            watermark: known.stream.watermark,
        }
    }
}

impl Reader for CloudReader {
    fn now_micros(&self) -> i64 {
        self.clock.now_micros()
    }

    fn refusal(&self) -> Option<String> {
        let known = self.known();
        let problem = |service: &str, problem: &Option<String>| Some(format!("{service}: {}", problem.as_ref()?));
        problem("BigQuery", &known.bigquery_problem).or_else(|| problem("Bigtable", &known.bigtable_problem))
    }

    fn count(&self, metrics: &Metrics) {
        for ((call, outcome), count) in self.jobs.counts() {
            metrics.set_cloud_calls("bigquery", call, outcome, count.calls, count.seconds);
        }
        for ((call, outcome), count) in self.bigtable.iter().flat_map(|bigtable| bigtable.counts()) {
            metrics.set_cloud_calls("bigtable", call, outcome, count.calls, count.seconds);
        }
        metrics.set_watermark(self.known().stream.watermark.div_euclid(1_000_000));
    }
}

/// Cells that cannot be had.
struct NoCells(String);

impl ServingSnapshot for NoCells {
    fn get(&self, _family: Family, _key: &[u8]) -> Result<Option<Vec<u8>>, ServingError> {
        Err(ServingError::backend("reading", &self.0))
    }

    fn scan_each(
        &self,
        _family: Family,
        _start: &[u8],
        _end: Option<&[u8]>,
        _visit: &mut VisitCell<'_>,
    ) -> Result<(), ServingError> {
        Err(ServingError::backend("reading", &self.0))
    }
}

/// A store before its first flush.
struct Nothing;

impl ServingSnapshot for Nothing {
    fn get(&self, _family: Family, _key: &[u8]) -> Result<Option<Vec<u8>>, ServingError> {
        Ok(None)
    }

    fn scan_each(
        &self,
        _family: Family,
        _start: &[u8],
        _end: Option<&[u8]>,
        _visit: &mut VisitCell<'_>,
    ) -> Result<(), ServingError> {
        Ok(())
    }
}
