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
