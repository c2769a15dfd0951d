//! Aggregates with a batch half as SQL tables.
//!
//! For: `v_error_rate`, `v_performance` and `v_activity`, planned only by queries that read them. Not for: which rows
//! count, which is the text of their query (`sawlog_core::reconciled`).

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, ident};
use datafusion::physical_plan::ExecutionPlan;
use sawlog_core::reconciled::Aggregate;

/// The view of one aggregate.
#[derive(Debug)]
pub(crate) struct ReconciledTable(pub(crate) Aggregate);

#[async_trait]
impl TableProvider for ReconciledTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Exact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let sessions = state.as_any().downcast_ref::<SessionState>();
        let sessions = sessions.ok_or_else(|| DataFusionError::Internal("a session without state".to_owned()))?;
        let rows = sessions.create_logical_plan(&self.0.query(str::to_owned)).await?;
        let mut plan = LogicalPlanBuilder::from(rows).alias(self.0.view())?;
        if let Some(filter) = conjunction(filters.iter().map(|filter| unnormalize_col(filter.clone()))) {
            plan = plan.filter(filter)?;
        }
        let schema = self.schema();
        let wanted = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let columns = wanted.iter().map(|&index| ident(schema.field(index).name()));
        let plan = plan.project(columns)?.limit(0, limit)?.build()?;
        state.create_physical_plan(&plan).await
    }
}
