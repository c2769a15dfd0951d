//! Running queries within limits.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{Expr, LogicalPlan, ident, lit};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use futures::StreamExt;
use sawlog_core::deploys::Deploy;
use sawlog_core::ledger::Counts;
use sawlog_core::reconciled::Aggregate;
use sawlog_core::rollup::Rollup;
use sawlog_core::session;
use sawlog_seams::remote::{RemoteError, RemoteFailure};
use sawlog_seams::view::{View, ViewSource};
use sawlog_seams::warehouse::{ANOMALY_TABLE, LEDGER_TABLE};
use sawlog_seams::{Clock, Disk};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::deploys::{self, DEPLOYS_TABLE, DeploysTable};
use crate::filter::SearchFunction;
use crate::first_versions::Rollups;
use crate::functions::{sketch_merge, sketch_quantile};
use crate::give_way::GiveWay;
use crate::guard;
use crate::latest_panes::LatestPanes;
use crate::postgres::catalog::PgCatalog;
use crate::reconciled::ReconciledTable;
use crate::remote_table::RemoteTableProvider;
use crate::rollup_table::RollupTable;
use crate::sessions::{SESSIONS_TABLE, sessions_table};
use crate::stream::PostgresContext;
use crate::table::SnapshotTable;

/// How a message says where its mistake is; the parser writes it so.
const PLACE: &str = " at Line: ";

/// Limits of every query.
#[derive(Clone, Debug)]
pub struct QueryLimits {
    /// Longest run time.
    pub time_max: Duration,
    /// Memory of all queries together, bytes.
    pub memory_bytes_max: usize,
    /// Rows of one answer; more are cut off and the answer says so.
    pub rows_max: usize,
    /// Memory of the rows of one answer that is held as a whole, bytes; more are cut off and the answer says so.
    pub answer_bytes_max: usize,
    /// Queries that run at the same time; more wait.
    pub concurrent_max: NonZeroUsize,
    /// Threads that queries run on.
    pub threads: NonZeroUsize,
    /// Folder for rows that do not fit into memory.
    pub spill_folder: PathBuf,
    /// Disk space that all queries together may take there, bytes.
    pub spill_bytes_max: u64,
    /// Free space on that disk that queries leave alone, bytes.
    pub disk_free_min: u64,
}

/// Why a query has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is no SQL.
    #[error("{0}")]
    Syntax(String),
    /// The statement would change something.
    #[error("only SELECT, EXPLAIN, SHOW TABLES and DESCRIBE are allowed")]
    NotReadOnly,
    /// The statement is too large or nested too deep.
    #[error("the query is too complex: {0}")]
    TooComplex(String),
    /// Names or types do not fit.
    #[error("{0}")]
    Plan(String),
    /// It ran longer than allowed.
    #[error("the query took longer than {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// It needed more memory than allowed.
    #[error("the query needs more memory than it may use: {0}")]
    Memory(String),
    /// The answer has more rows than allowed, and its reader would not notice that some are missing.
    #[error("the answer has more than {0} rows")]
    TooManyRows(usize),
    /// The value of a parameter does not fit its type.
    #[error("parameter ${number}: {problem}")]
    Parameter {
        /// Its number, from 1.
        number: usize,
        /// What is wrong.
        problem: String,
    },
    /// The service that has the rows of a table gives none.
    #[error("{problem}")]
    Remote {
        /// What can be done about it.
        kind: RemoteFailure,
        /// The table, and what the service said.
        problem: String,
    },
    /// It failed while running.
    #[error("{0}")]
    Execution(String),
    /// The engine is shutting down.
    #[error("the server is stopping")]
    Stopped,
}

impl QueryError {
    /// A short code for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "sql_syntax",
            Self::NotReadOnly => "sql_not_read_only",
            Self::TooComplex(_) => "sql_too_complex",
            Self::Plan(_) => "sql_plan",
            Self::Timeout(_) => "sql_timeout",
            Self::Memory(_) => "sql_memory",
            Self::TooManyRows(_) => "sql_rows",
            Self::Parameter { .. } => "sql_parameter",
            Self::Remote { kind: RemoteFailure::Unavailable, .. } => "warehouse_unavailable",
            Self::Remote { kind: RemoteFailure::TooExpensive, .. } => "warehouse_too_expensive",
            Self::Remote { kind: RemoteFailure::Denied, .. } => "warehouse_denied",
            Self::Remote { kind: RemoteFailure::Other, .. } => "warehouse_failed",
            Self::Execution(_) => "sql_execution",
            Self::Stopped => "stopping",
        }
    }

    /// What to do now.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "the dialect is DataFusion's; `SHOW TABLES` lists the tables",
            Self::NotReadOnly => "change data by sending events; change settings in the configuration",
            Self::TooComplex(_) => "split the query, or use IN (…) instead of a chain of OR",
            Self::Plan(_) => "`SHOW TABLES` lists the tables, `DESCRIBE logs` the columns of one",
            Self::Timeout(_) => "narrow the time range, or raise `query.time-max`",
            Self::Memory(_) => "narrow the time range or group by fewer values, or raise `query.memory-max`",
            Self::TooManyRows(_) => Cut::Rows.hint(),
            Self::Parameter { .. } => "send a value of the parameter's type, or cast it in the query: `$1::text`",
            Self::Remote { kind: RemoteFailure::Unavailable, .. } => {
                "try again; the service or the way to it is disturbed"
            }
            Self::Remote { kind: RemoteFailure::TooExpensive, .. } => {
                "narrow the range of time (WHERE event_time >= …) or name fewer columns, ask the rollups, or raise \
                 `gcp.bigquery.query-bytes-max`"
            }
            Self::Remote { kind: RemoteFailure::Denied, .. } => {
                "give the server's account roles/bigquery.jobUser on the project and roles/bigquery.dataViewer on the dataset"
            }
            Self::Remote { kind: RemoteFailure::Other, .. } => {
                "start a worker of this version, or run `sawlog gcp init`, so that the dataset has its tables and views"
            }
            Self::Execution(_) => "check casts and function arguments; the message names the value",
            Self::Stopped => "try again when the server is back",
        }
    }

    /// Line and column (both from 1, in characters) of the mistake in the query, where they are known.
    #[must_use]
    pub fn place(&self) -> Option<(usize, usize)> {
        let (Self::Syntax(text) | Self::Plan(text)) = self else { return None };
        let (_, place) = text.rsplit_once(PLACE)?;
        let (line, column) = place.split_once(", Column: ")?;
        let digits = column.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(column.len());
        Some((line.parse().ok()?, column[..digits].parse().ok()?))
    }
}

/// The limit that cut an answer off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// `query.rows-max`, or the limit of a page.
    Rows,
    /// `query.answer-max`.
    Bytes,
}

impl Cut {
    /// All limits.
    pub const ALL: [Self; 2] = [Self::Rows, Self::Bytes];

    /// The limit's name in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Bytes => "bytes",
        }
    }

    /// What to do to see all rows.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Rows => "add LIMIT, aggregate, or raise `query.rows-max`",
            Self::Bytes => "select fewer columns or rows, or raise `query.answer-max`",
        }
    }
}

/// The answer to a query.
#[derive(Clone, Debug)]
pub struct QueryResult {
    /// Columns.
    pub schema: SchemaRef,
    /// Rows.
    pub batches: Vec<RecordBatch>,
    /// What made the answer end before its last row.
    pub cut: Option<Cut>,
    /// How long it took.
    pub elapsed: Duration,
}

impl QueryResult {
    /// Number of rows.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// Runs queries on threads and memory of their own.
pub struct QueryEngine {
    source: Arc<dyn ViewSource>,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    pub(crate) limits: QueryLimits,
    environment: Arc<RuntimeEnv>,
    pub(crate) turns: Arc<Semaphore>,
    postgres: tokio::sync::OnceCell<PgCatalog>,
    /// The deploys that a list names.
    listed_deploys: RwLock<RecordBatch>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Drop for QueryEngine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be waited for where others run on it.
            runtime.shutdown_background();
        }
    }
}

/// Stack of a query thread: planning deep expressions takes far more than the default.
const STACK_BYTES: usize = 32 << 20;

impl QueryEngine {
    /// Makes an engine over what `source` shows.
    ///
    /// # Errors
    /// When threads or the spill folder cannot be had.
    pub fn new(
        source: Arc<dyn ViewSource>,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
        limits: QueryLimits,
    ) -> std::io::Result<Self> {
        disk.create_dir_all(&limits.spill_folder)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(limits.threads.get())
            .thread_name("sawlog-query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()?;
        let pool = FairSpillPool::new(limits.memory_bytes_max);
        let top_consumers = NonZeroUsize::MIN.saturating_add(2);
        let spilling =
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![limits.spill_folder.clone()]));
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, top_consumers)))
            .with_disk_manager_builder(spilling)
            .build_arc()
            .map_err(std::io::Error::other)?;
        let turns = Arc::new(Semaphore::new(limits.concurrent_max.get()));
        let postgres = tokio::sync::OnceCell::new();
        let listed_deploys = RwLock::new(deploys::listed(&[]).map_err(std::io::Error::other)?);
        let runtime = Some(runtime);
        Ok(Self { source, clock, disk, limits, environment, turns, postgres, listed_deploys, runtime })
    }

    /// Sets the deploys that a list names, in place of those before.
    ///
    /// # Errors
    /// When their texts are too long for a column.
    pub fn set_deploys(&self, deploys: &[Deploy]) -> Result<(), ArrowError> {
        let rows = deploys::listed(deploys)?;
        *self.listed_deploys.write().unwrap_or_else(PoisonError::into_inner) = rows;
        Ok(())
    }

    /// Runs one SELECT, EXPLAIN, SHOW or DESCRIBE. Dropping the future stops the query.
    ///
    /// # Errors
    /// When it is not allowed, does not plan, fails, or does not end in time.
    pub async fn run(&self, sql: &str) -> Result<QueryResult, QueryError> {
        let sql = sql.to_owned();
        let make = |context: SessionContext| async move {
            let statement = guard::parse(&sql)?;
            let plan = context.state().statement_to_plan(statement).await.map_err(explain)?;
            verify(&plan)?;
            context.execute_logical_plan(plan).await.map_err(explain)
        };
        self.run_frame(make, self.limits.rows_max).await
    }

    /// Runs what `make` makes of the tables as of now, within all limits.
    pub(crate) async fn run_frame<M, F>(&self, make: M, rows_max: usize) -> Result<QueryResult, QueryError>
    where
        M: FnOnce(SessionContext) -> F + Send + 'static,
        F: Future<Output = Result<DataFrame, QueryError>> + Send + 'static,
    {
        let started = Instant::now();
        let turn = tokio::time::timeout(self.limits.time_max, self.turns.acquire()).await;
        let turn = turn.map_err(|_| QueryError::Timeout(self.limits.time_max))?;
        let _turn = turn.map_err(|_| QueryError::Stopped)?;
        self.allow_spilling();
        let surroundings = self.surroundings(false);
        let bytes_max = self.limits.answer_bytes_max;
        let task = self.handle()?.spawn(async move {
            let context = context(&surroundings).map_err(explain)?;
            collect(make(context).await?, rows_max, bytes_max).await
        });
        let mut task = AbortOnDrop(task);
        let finished = tokio::time::timeout(self.limits.time_max, &mut task.0).await;
        let finished = finished.map_err(|_| QueryError::Timeout(self.limits.time_max))?;
        let (schema, batches, cut) = joined(finished)?;
        Ok(QueryResult { schema, batches, cut, elapsed: started.elapsed() })
    }

    /// Sets how much may be spilled from now on: half of what the disk can spare, so that ingest never finds it full
    /// because of a query.
    fn allow_spilling(&self) {
        let limits = &self.limits;
        let manager = &self.environment.disk_manager;
        let free = self.disk.free_bytes(&limits.spill_folder).unwrap_or(u64::MAX);
        let spare = free.saturating_sub(limits.disk_free_min) / 2;
        let allowed = manager.used_disk_space().saturating_add(spare).min(limits.spill_bytes_max);
        if let Err(error) = manager.set_max_temp_directory_size(allowed) {
            tracing::warn!(%error, "the limit of spilled rows stays as it was");
        }
    }

    fn surroundings(&self, is_postgres: bool) -> Surroundings {
        Surroundings {
            view: self.source.view(),
            environment: Arc::clone(&self.environment),
            threads: self.limits.threads.get(),
            now: self.clock.now_micros(),
            is_postgres,
            listed_deploys: self.listed_deploys.read().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// The threads that queries run on.
    pub(crate) fn handle(&self) -> Result<&tokio::runtime::Handle, QueryError> {
        self.runtime.as_ref().map(Runtime::handle).ok_or(QueryError::Stopped)
    }

    /// A context with the tables as of now and Postgres' catalog.
    pub(crate) async fn postgres_context(&self) -> Result<PostgresContext, QueryError> {
        self.allow_spilling();
        let surroundings = self.surroundings(true);
        let made = self.handle()?.spawn(async move { context(&surroundings) });
        let context = joined(made.await.map(|made| made.map_err(explain)))?;
        let catalog = self.postgres.get_or_try_init(|| PgCatalog::new(&context)).await.map_err(explain)?;
        catalog.install(&context).map_err(explain)?;
        Ok(PostgresContext(context))
    }
}

/// What a finished task of the engine says.
pub(crate) fn joined<T>(ended: Result<Result<T, QueryError>, tokio::task::JoinError>) -> Result<T, QueryError> {
    match ended {
        Ok(result) => result,
        Err(error) if error.is_panic() => {
            tracing::error!("a query panicked");
            Err(QueryError::Execution("the query met a defect of the engine".to_owned()))
        }
        Err(_) => Err(QueryError::Stopped),
    }
}

#[derive(Debug)]
pub(crate) struct AbortOnDrop<T>(pub(crate) tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Answer = (SchemaRef, Vec<RecordBatch>, Option<Cut>);

async fn collect(frame: DataFrame, rows_max: usize, bytes_max: usize) -> Result<Answer, QueryError> {
    let mut stream = frame.execute_stream().await.map_err(explain)?;
    let schema = stream.schema();
    let mut batches = Vec::new();
    let (mut rows_left, mut bytes_left) = (rows_max, bytes_max);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(explain)?;
        // A slice counts as what it shows, not as the batch that it keeps alive: the scan holds that one anyway.
        let bytes_per_row = batch.columns().iter().map(slice_bytes).sum::<usize>() / batch.num_rows().max(1);
        // One row at least: a page of a search goes on from its last row.
        let rows_in_bytes = (bytes_left / bytes_per_row.max(1)).max(usize::from(batches.is_empty()));
        let room = rows_left.min(rows_in_bytes);
        if batch.num_rows() > room {
            let cut = if rows_left <= rows_in_bytes { Cut::Rows } else { Cut::Bytes };
            batches.push(batch.slice(0, room));
            return Ok((schema, batches, Some(cut)));
        }
        rows_left -= batch.num_rows();
        bytes_left = bytes_left.saturating_sub(bytes_per_row * batch.num_rows());
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    Ok((schema, batches, None))
}

fn slice_bytes(column: &ArrayRef) -> usize {
    let data = column.to_data();
    data.get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
}

/// Refuses a plan that would change something.
pub(crate) fn verify(plan: &LogicalPlan) -> Result<(), QueryError> {
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(plan).map_err(|_| QueryError::NotReadOnly)
}

pub(crate) fn explain(error: DataFusionError) -> QueryError {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let root = error.find_root();
    if let DataFusionError::External(inner) = root
        && let Some(RemoteError { kind, .. }) = inner.downcast_ref()
    {
        return QueryError::Remote { kind: *kind, problem: inner.to_string() };
    }
    let mut text = root.strip_backtrace();
    if let Some(span) = span.filter(|_| !text.contains(PLACE)) {
        text.push_str(&format!("{PLACE}{}, Column: {}", span.start.line, span.start.column));
    }
    match root {
        DataFusionError::SQL(..) => QueryError::Syntax(text),
        DataFusionError::Plan(_) | DataFusionError::SchemaError(..) | DataFusionError::NotImplemented(_) => {
            QueryError::Plan(text)
        }
        DataFusionError::Diagnostic(..) => QueryError::Plan(text),
        DataFusionError::ResourcesExhausted(_) => QueryError::Memory(text),
        _ => QueryError::Execution(text),
    }
}

/// What the context of one query is made of.
struct Surroundings {
    view: View,
    environment: Arc<RuntimeEnv>,
    threads: usize,
    /// Time by which relative times are read, UTC microseconds.
    now: i64,
    is_postgres: bool,
    listed_deploys: RecordBatch,
}

/// A context that knows the tables of the view and nothing else.
fn context(surroundings: &Surroundings) -> datafusion::common::Result<SessionContext> {
    let Surroundings { view, environment, threads, now, is_postgres, listed_deploys } = surroundings;
    let config = SessionConfig::new()
        .with_target_partitions(*threads)
        .with_information_schema(true)
        .with_default_catalog_and_schema("sawlog", "public")
        .set_str("datafusion.sql_parser.enable_ident_normalization", "true")
        .set_str("datafusion.execution.time_zone", "UTC")
        .set_str("datafusion.sql_parser.collect_spans", "true");
    let mut builder = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(Arc::clone(environment))
        .with_default_features()
        .with_physical_optimizer_rule(Arc::new(GiveWay));
    if *is_postgres {
        builder = builder.with_type_planner(Arc::new(PgOidTypePlanner));
    }
    let state = builder.build();
    let context = SessionContext::new_with_state(state);
    context.register_udaf(sketch_merge());
    context.register_udf(sketch_quantile());
    let mut tables: HashMap<&'static str, Arc<dyn TableProvider>> = HashMap::new();
    for (name, table) in &view.tables {
        tables.insert(name, Arc::new(SnapshotTable::new(table.clone())));
    }
    for (spec, table) in &view.remote {
        let table = RemoteTableProvider::new(Arc::clone(&spec.schema), Arc::clone(table));
        tables.insert(spec.name, Arc::new(table));
    }
    for (name, table) in &tables {
        let table = Arc::clone(table);
        if *name == LEDGER_TABLE {
            let ledger = context.read_table(table)?.aggregate(
                vec![ident("receive_minute"), ident("source")],
                Counts::NAMES.iter().map(|count| sum(ident(*count)).alias(*count)).collect(),
            )?;
            context.register_table(LEDGER_TABLE, ledger.into_view())?;
        } else {
            context.register_table(*name, table)?;
        }
    }
    for rollup in Rollup::ALL {
        if let Some(panes) = tables.get(rollup.pane_table()) {
            context.register_table(LatestPanes::name(rollup), Arc::new(LatestPanes::new(rollup, Arc::clone(panes))))?;
        }
    }
    for aggregate in Aggregate::ALL.into_iter().filter(|aggregate| tables.contains_key(aggregate.batch_table())) {
        context.register_table(aggregate.view(), Arc::new(ReconciledTable(aggregate)))?;
    }
    if let Some(panes) = tables.get(session::PANE_TABLE) {
        context.register_table(SESSIONS_TABLE, Arc::new(sessions_table(Arc::clone(panes), view)))?;
    }
    if let (Some(logs), Some(activity)) = (tables.get("logs"), tables.get("activity")) {
        let (logs, activity) = (Arc::clone(logs), Arc::clone(activity));
        let deploys = DeploysTable { logs, activity, listed: listed_deploys.clone(), rollups: Rollups::of(view) };
        context.register_table(DEPLOYS_TABLE, Arc::new(deploys))?;
    }
    if tables.contains_key(ANOMALY_TABLE) {
        let scores = futures::executor::block_on(context.table(ANOMALY_TABLE))?;
        context.register_table("anomalies", scores.filter(ident("is_anomaly"))?.into_view())?;
    }
    if tables.contains_key("logs") {
        register_severity_split(&context)?;
    }
    context.register_udtf("search", Arc::new(SearchFunction { tables, now: *now }));
    for table in RollupTable::all(view) {
        context.register_table(table.name(), Arc::new(table))?;
    }
    Ok(context)
}

/// `logs_error` and `logs_info`: the severity split.
fn register_severity_split(context: &SessionContext) -> datafusion::common::Result<()> {
    let logs = futures::executor::block_on(context.table("logs"))?;
    let is_error: Expr = ident("severity_class").eq(lit("error"));
    context.register_table("logs_error", logs.clone().filter(is_error.clone())?.into_view())?;
    context.register_table("logs_info", logs.filter(!is_error)?.into_view())?;
    Ok(())
}
