//! Tables of a view whose rows are with a service.
//!
//! For: scans that let the service find rows, order them and end at a limit, where it does so exactly as the engine would,
//! and stream what comes. Not for: rows of this process ([`crate::table`]), or which filters a service can check
//! ([`crate::pushdown`]).

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SortOrderPushdownResult,
};
use sawlog_seams::remote::{OrderBy, RemoteError, RemoteRows, RemoteScan, RemoteTable};

use crate::pushdown::condition;

/// A table whose rows are with a service.
#[derive(Debug)]
pub(crate) struct RemoteTableProvider {
    schema: SchemaRef,
    table: Arc<dyn RemoteTable>,
}

impl RemoteTableProvider {
    pub(crate) const fn new(schema: SchemaRef, table: Arc<dyn RemoteTable>) -> Self {
        Self { schema, table }
    }
}

#[async_trait]
impl TableProvider for RemoteTableProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let one = |filter: &&Expr| match condition(filter, &self.schema) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(one).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let conditions = filters.iter().map(|filter| {
            let unknown = || DataFusionError::Internal(format!("a filter that was not offered: {filter}"));
            condition(filter, &self.schema).ok_or_else(unknown)
        });
        let scan = RemoteScan {
            columns: projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect()),
            conditions: conditions.collect::<Result<_>>()?,
            order: Vec::new(),
            limit,
        };
        Ok(Arc::new(RemoteExec::new(Arc::clone(&self.schema), Arc::clone(&self.table), scan, Vec::new())?))
    }
}

/// A scan of a remote table.
#[derive(Debug)]
struct RemoteExec {
    /// Columns of the table.
    schema: SchemaRef,
    table: Arc<dyn RemoteTable>,
    scan: RemoteScan,
    properties: Arc<PlanProperties>,
}

impl RemoteExec {
    /// A scan whose rows come in `order`, which is that of the scan in the engine's terms.
    fn new(
        schema: SchemaRef,
        table: Arc<dyn RemoteTable>,
        scan: RemoteScan,
        order: Vec<PhysicalSortExpr>,
    ) -> Result<Self> {
        let projected = Arc::new(schema.project(&scan.columns)?);
        let equivalences = EquivalenceProperties::new_with_orderings(projected, [order]);
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { schema, table, scan, properties: Arc::new(properties) })
    }

    /// A column of an order, if the service orders it as the engine does.
    fn order_of(&self, sort: &PhysicalSortExpr) -> Option<OrderBy> {
        let column = *self.scan.columns.get(sort.expr.downcast_ref::<Column>()?.index())?;
        let has_one_order = matches!(
            self.schema.field(column).data_type(),
            DataType::Utf8
                | DataType::Int32
                | DataType::Int64
                | DataType::Boolean
                | DataType::Date32
                | DataType::Timestamp(..)
        );
        has_one_order.then_some(OrderBy {
            column,
            is_descending: sort.options.descending,
            has_nulls_first: sort.options.nulls_first,
        })
    }
}

impl DisplayAs for RemoteExec {
    fn fmt_as(&self, _form: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RemoteScan { columns, conditions, order, limit } = &self.scan;
        let names: Vec<&str> = columns.iter().map(|index| self.schema.field(*index).name().as_str()).collect();
        write!(formatter, "RemoteExec: columns=[{}], conditions={conditions:?}, order={order:?}", names.join(", "))?;
        limit.map_or(Ok(()), |limit| write!(formatter, ", limit={limit}"))
    }
}

impl ExecutionPlan for RemoteExec {
    fn name(&self) -> &'static str {
        "RemoteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a remote scan has no children") }
    }

    fn fetch(&self) -> Option<usize> {
        self.scan.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let scan = RemoteScan { limit, ..self.scan.clone() };
        let (schema, table) = (Arc::clone(&self.schema), Arc::clone(&self.table));
        Some(Arc::new(Self { schema, table, scan, properties: Arc::clone(&self.properties) }))
    }

    fn try_pushdown_sort(&self, order: &[PhysicalSortExpr]) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        // Rows that are cut off already are not those that an order would begin with.
        let wanted: Option<Vec<OrderBy>> = match self.scan.limit {
            Some(_) => None,
            None => order.iter().map(|sort| self.order_of(sort)).collect(),
        };
        let Some(wanted) = wanted else { return Ok(SortOrderPushdownResult::Unsupported) };
        let scan = RemoteScan { order: wanted, ..self.scan.clone() };
        let inner = Self::new(Arc::clone(&self.schema), Arc::clone(&self.table), scan, order.to_vec())?;
        Ok(SortOrderPushdownResult::Exact { inner: Arc::new(inner) })
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let state = State::Asked(Arc::clone(&self.table), self.scan.clone());
        let rows = futures::stream::try_unfold(state, |state| async move {
            let mut rows = match state {
                State::Asked(table, scan) => table.scan(scan).await.map_err(failed)?,
                State::Coming(rows) => rows,
            };
            let next = rows.next().await.transpose().map_err(failed)?;
            Ok(next.map(|batch| (batch, State::Coming(rows))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

enum State {
    Asked(Arc<dyn RemoteTable>, RemoteScan),
    Coming(Box<dyn RemoteRows>),
}

fn failed(error: RemoteError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use sawlog_seams::contract::remote::logs;
    use sawlog_seams::remote::{MemoryRemote, RemoteFailure};
    use sawlog_seams::warehouse::TableSpec;

    use super::*;
    use crate::engine::{QueryError, explain};

    /// Contexts with the same rows in a remote table and in memory.
    struct Both {
        remote: Arc<MemoryRemote>,
        over_remote: SessionContext,
        in_memory: SessionContext,
    }

    impl Both {
        fn new() -> Self {
            let spec = TableSpec::all().into_iter().find(|spec| spec.name == "logs").expect("a table");
            let config = || {
                let config = SessionConfig::new().with_target_partitions(2);
                config.set_str("datafusion.execution.time_zone", "UTC")
            };
            let (over_remote, in_memory) =
                (SessionContext::new_with_config(config()), SessionContext::new_with_config(config()));
            let remote = Arc::new(MemoryRemote::new(&spec, &[logs()]).expect("rows"));
            let provider = RemoteTableProvider::new(Arc::clone(&spec.schema), Arc::clone(&remote) as _);
            over_remote.register_table("logs", Arc::new(provider)).expect("registered");
            let table = MemTable::try_new(spec.schema, vec![vec![logs()]]).expect("a table");
            in_memory.register_table("logs", Arc::new(table)).expect("registered");
            Self { remote, over_remote, in_memory }
        }

        async fn rows(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
            context.sql(sql).await?.collect().await
        }

        /// The only scan that a query asked for; its answer must be that of the rows in memory.
        async fn scan(&self, sql: &str) -> RemoteScan {
            let before = self.remote.asked().len();
            let text = |rows: Vec<RecordBatch>| pretty_format_batches(&rows).expect("a table").to_string();
            let found = text(Self::rows(&self.over_remote, sql).await.expect("rows"));
            assert_eq!(found, text(Self::rows(&self.in_memory, sql).await.expect("rows")), "{sql}");
            let mut asked = self.remote.asked().split_off(before);
            assert_eq!(asked.len(), 1, "{sql}: {asked:?}");
            asked.remove(0)
        }
    }

    #[tokio::test]
    async fn what_the_service_checks_is_not_checked_again() {
        let both = Both::new();
        for filter in [
            "user_id = 'u1'",
            "'u1' <> user_id",
            "http_status IN (200, 500) OR user_id IS NULL",
            "http_status NOT IN (200, 500)",
            "http_status BETWEEN 0 AND 300",
            "NOT (http_status >= 500 AND source LIKE 'z%')",
            "source ILIKE '%ZÜRICH%' AND source NOT LIKE 'x_%'",
            "(user_id = 'u1') IS NOT TRUE",
            "NOT late",
            "event_date = '2026-11-24'",
            "event_time >= '2026-11-24T00:00:00.000001Z' AND event_time < '2026-11-24T12:00:00Z'",
            "event_time > TIMESTAMP '2026-11-24T00:00:00.000000500'",
            "event_time < now()",
        ] {
            let scan = both.scan(&format!("SELECT count(*) FROM logs WHERE {filter}")).await;
            assert!(scan.columns.is_empty() && !scan.conditions.is_empty(), "{filter}: {scan:?}");
        }
    }

    #[tokio::test]
    async fn what_it_cannot_check_is_checked_here() {
        let both = Both::new();
        let scan = both.scan("SELECT count(*) FROM logs WHERE length(source) > 4 AND user_id = 'u1'").await;
        assert_eq!((scan.conditions.len(), scan.columns.len(), scan.limit), (1, 1, None), "{scan:?}");
        let scan = both.scan("SELECT source FROM logs WHERE attributes['team'] = 'it''s \"x\"' LIMIT 1").await;
        assert_eq!((scan.conditions.len(), scan.limit), (0, None), "rows may fall away here: {scan:?}");
    }

    #[tokio::test]
    async fn orders_and_limits_are_left_to_the_service() {
        let both = Both::new();
        let scan = both.scan("SELECT source FROM logs ORDER BY event_time DESC, source LIMIT 2").await;
        let directions: Vec<bool> = scan.order.iter().map(|order| order.is_descending).collect();
        assert_eq!((directions, scan.limit), (vec![true, false], Some(2)), "{scan:?}");
        let scan = both.scan("SELECT source FROM logs WHERE user_id = 'u1' ORDER BY event_time LIMIT 1").await;
        assert_eq!((scan.conditions.len(), scan.limit), (1, Some(1)), "{scan:?}");
        let scan = both.scan("SELECT source FROM logs WHERE length(source) > 1 ORDER BY event_time LIMIT 1").await;
        assert_eq!(scan.limit, None, "rows may fall away here: {scan:?}");
    }

    #[tokio::test]
    async fn a_failure_of_the_service_says_what_can_be_done() {
        let both = Both::new();
        both.remote.fail(Some(RemoteFailure::TooExpensive));
        let error =
            Both::rows(&both.over_remote, "SELECT count(DISTINCT source) FROM logs").await.expect_err("no rows");
        let error = explain(error);
        assert!(matches!(error, QueryError::Remote { kind: RemoteFailure::TooExpensive, .. }), "{error:?}");
        assert!(error.to_string().contains("table logs: a failure that the test asked for"), "{error}");
    }
}
