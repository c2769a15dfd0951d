//! The table `deploys`: when a service got another version.
//!
//! For: what events announce (`event_name` is `deploy` or `deployment`), what a list in a file says, and the versions that a
//! service reports for the first time and nobody announced within a day before or after. Not for: reading the file, or
//! finding those versions ([`crate::first_versions`]). Of the events only those are read that the query's range of time can
//! need; without one all event names are.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, JoinType, Result, ScalarValue};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::functions::core::expr_fn::{coalesce, get_field};
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, col, ident, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::prelude::SessionContext;
use sawlog_core::deploys::{Deploy, EVENT_NAMES};
use sawlog_core::schema::time_type;

use crate::engine::{QueryEngine, QueryError, QueryResult, explain};
use crate::first_versions::{FirstVersion, Rollups, first_versions};
use crate::rollup_table::narrow;

/// Name of the table.
pub(crate) const DEPLOYS_TABLE: &str = "deploys";
/// An announcement this long before or after the first record of a version is one of it.
const ANNOUNCED_WITHIN_MICROS: i64 = 86_400_000_000;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let time = Field::new("time", time_type(), false);
    let origin = Field::new("origin", DataType::Utf8, false);
    Arc::new(Schema::new(vec![time, text("service"), text("service_version"), text("description"), origin]))
});

/// Which deploys to give.
#[derive(Clone, Debug, Default)]
pub struct DeploysQuery {
    /// Of this time on, UTC microseconds.
    pub from: Option<i64>,
    /// Before this time, UTC microseconds.
    pub to: Option<i64>,
    /// Of this service.
    pub service: Option<String>,
    /// So many at most, the newest ones.
    pub limit: usize,
}

impl QueryEngine {
    /// Deploys, newest first: rows of the table `deploys`. Whether there are more, [`QueryResult::cut`] says.
    ///
    /// # Errors
    /// When the query does not end within its limits.
    pub async fn deploys(&self, query: DeploysQuery) -> std::result::Result<QueryResult, QueryError> {
        let limit = query.limit;
        let make = move |context: SessionContext| async move {
            let frame = context.table(DEPLOYS_TABLE).await.map_err(explain)?;
            let from = query.from.map(|from| ident("time").gt_eq(time(from)));
            let to = query.to.map(|to| ident("time").lt(time(to)));
            let service = query.service.map(|service| ident("service").eq(lit(service)));
            let frame = match conjunction([from, to, service].into_iter().flatten()) {
                Some(condition) => frame.filter(condition).map_err(explain)?,
                None => frame,
            };
            let order = ["time", "service", "service_version"].map(|name| ident(name).sort(name != "time", false));
            frame.sort(order.to_vec()).and_then(|frame| frame.limit(0, Some(limit + 1))).map_err(explain)
        };
        self.run_frame(make, limit).await
    }
}

/// The rows of a list.
pub(crate) fn listed(deploys: &[Deploy]) -> std::result::Result<RecordBatch, ArrowError> {
    let texts = |of: fn(&Deploy) -> Option<&str>| Arc::new(StringArray::from_iter(deploys.iter().map(of))) as ArrayRef;
    let times = TimestampMicrosecondArray::from_iter_values(deploys.iter().map(|deploy| deploy.time));
    let columns = vec![
        Arc::new(times.with_timezone("UTC")) as ArrayRef,
        texts(|deploy| Some(&deploy.service)),
        texts(|deploy| Some(&deploy.service_version)),
        texts(|deploy| deploy.description.as_deref()),
        texts(|_| Some("file")),
    ];
    RecordBatch::try_new(Arc::clone(&SCHEMA), columns)
}

/// The table at one moment.
pub(crate) struct DeploysTable {
    pub(crate) logs: Arc<dyn TableProvider>,
    pub(crate) activity: Arc<dyn TableProvider>,
    pub(crate) listed: RecordBatch,
    pub(crate) rollups: Rollups,
}

impl fmt::Debug for DeploysTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(DEPLOYS_TABLE)
    }
}

impl DeploysTable {
    /// What events and the list announce from `start` until before `end`.
    fn announced(&self, start: i64, end: i64) -> Result<LogicalPlanBuilder> {
        let described = |name: &str| get_field(ident("attributes"), name);
        let of_log = coalesce(vec![ident("message"), described("description")]);
        let of_activity = coalesce(vec![described("message"), described("description")]);
        let events = |table: &Arc<dyn TableProvider>, description: Expr| {
            let mut condition = ident("event_name").in_list(EVENT_NAMES.map(lit).to_vec(), false);
            if start > i64::MIN {
                condition = condition.and(ident("event_time").gt_eq(time(start)));
            }
            if end < i64::MAX {
                condition = condition.and(ident("event_time").lt(time(end)));
            }
            LogicalPlanBuilder::scan("events", provider_as_source(Arc::clone(table)), None)?.filter(condition)?.project(
                [
                    ident("event_time").alias("time"),
                    ident("service"),
                    ident("service_version"),
                    description.alias("description"),
                    lit("event").alias("origin"),
                ],
            )
        };
        let listed = MemTable::try_new(Arc::clone(&SCHEMA), vec![vec![self.listed.clone()]])?;
        let listed = LogicalPlanBuilder::scan("listed", provider_as_source(Arc::new(listed)), None)?.build()?;
        let events_of_activity = events(&self.activity, of_activity)?.build()?;
        events(&self.logs, of_log)?.union(events_of_activity)?.union(listed)
    }

    /// First versions that nobody announced.
    fn unannounced(&self, announced: LogicalPlanBuilder) -> Result<LogicalPlanBuilder> {
        let first = provider_as_source(Arc::new(FirstVersionsTable(self.rollups.clone())));
        let is_near =
            col("first.earliest").lt_eq(col("announced.time")).and(col("announced.time").lt_eq(col("first.latest")));
        let keys = ["service", "service_version"];
        let [left, right] = ["first", "announced"].map(|side| keys.map(|key| format!("{side}.{key}")).to_vec());
        LogicalPlanBuilder::scan("first", first, None)?
            .join(announced.alias("announced")?.build()?, JoinType::LeftAnti, (left, right), Some(is_near))?
            .project([
                col("first.time").alias("time"),
                col("first.service").alias("service"),
                col("first.service_version").alias("service_version"),
                lit(ScalarValue::Utf8(None)).alias("description"),
                lit("first_seen").alias("origin"),
            ])
    }
}

fn time(micros: i64) -> Expr {
    Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())), None)
}

#[async_trait]
impl TableProvider for DeploysTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut times = i64::MIN..i64::MAX;
        filters.iter().for_each(|filter| narrow(&mut times, "time", filter));
        let start = times.start.saturating_sub(ANNOUNCED_WITHIN_MICROS);
        let announced = self.announced(start, times.end.saturating_add(ANNOUNCED_WITHIN_MICROS))?;
        let unannounced = self.unannounced(announced.clone())?.build()?;
        let mut plan = LogicalPlanBuilder::from(announced.union(unannounced)?.build()?);
        if let Some(filter) = conjunction(filters.iter().map(|filter| unnormalize_col(filter.clone()))) {
            plan = plan.filter(filter)?;
        }
        let wanted = projection.cloned().unwrap_or_else(|| (0..SCHEMA.fields().len()).collect());
        let columns: Vec<Expr> = wanted.iter().map(|&index| ident(SCHEMA.field(index).name())).collect();
        let plan = plan.project(columns)?.limit(0, limit)?.build()?;
        state.create_physical_plan(&plan).await
    }
}

/// First versions, with the range of time in which an announcement is one of theirs.
struct FirstVersionsTable(Rollups);

static FIRST_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let time = |name: &str| Field::new(name, time_type(), false);
    Arc::new(Schema::new(vec![
        text("service"),
        text("service_version"),
        time("time"),
        time("earliest"),
        time("latest"),
    ]))
});

impl fmt::Debug for FirstVersionsTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("first_versions")
    }
}

#[async_trait]
impl TableProvider for FirstVersionsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&FIRST_SCHEMA)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let part = Arc::new(FirstVersionsPart(self.0.clone()));
        let schema = Arc::clone(&FIRST_SCHEMA);
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![part], projection, [], false, limit)?))
    }
}

struct FirstVersionsPart(Rollups);

impl fmt::Debug for FirstVersionsPart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("first_versions")
    }
}

impl PartitionStream for FirstVersionsPart {
    fn schema(&self) -> &SchemaRef {
        &FIRST_SCHEMA
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rollups = self.0.clone();
        let found = futures::stream::once(async move {
            let versions =
                first_versions(&rollups).await.map_err(|error| DataFusionError::External(Box::new(error)))?;
            Ok(first_rows(&versions)?)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&FIRST_SCHEMA), found))
    }
}

fn first_rows(versions: &[FirstVersion]) -> std::result::Result<RecordBatch, ArrowError> {
    let times = |offset: i64| {
        let times = versions.iter().map(|version| version.time.saturating_add(offset));
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")) as ArrayRef
    };
    let texts =
        |of: fn(&FirstVersion) -> &str| Arc::new(StringArray::from_iter_values(versions.iter().map(of))) as ArrayRef;
    let names = [texts(|version| &version.service), texts(|version| &version.version)];
    let times = [0, -ANNOUNCED_WITHIN_MICROS, ANNOUNCED_WITHIN_MICROS].map(times);
    RecordBatch::try_new(Arc::clone(&FIRST_SCHEMA), names.into_iter().chain(times).collect())
}
