//! The newest pane of each window.
//!
//! For: `pane_NAME_latest` over the pane table of a rollup, and `sessions`. Panes accumulate, so that the newest one of a window holds
//! everything; the others are history and must not be summed. Not for: windows that are not complete, which have no row
//! in the pane tables ([`crate::rollup_table`] shows them).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::provider_as_source;
use datafusion::functions_window::rank::dense_rank;
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, ident, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use sawlog_core::rollup::Rollup;
use sawlog_core::schema::PARTITION_COLUMN;

const RANK: &str = "__rank";

/// A view of a pane table.
#[derive(Debug)]
pub(crate) struct LatestPanes {
    panes: Arc<dyn TableProvider>,
    /// Columns that name a window.
    keys: Vec<&'static str>,
    /// Column that hides what its newest pane takes back, if there is one.
    retraction: Option<&'static str>,
}

impl LatestPanes {
    pub(crate) fn name(rollup: Rollup) -> String {
        format!("{}_latest", rollup.pane_table())
    }

    pub(crate) fn new(rollup: Rollup, panes: Arc<dyn TableProvider>) -> Self {
        let keys = ["width", "window_start"].into_iter().chain(rollup.parts().iter().copied()).collect();
        Self { panes, keys, retraction: None }
    }

    /// The newest pane of each session that was not taken back.
    pub(crate) fn of_sessions(panes: Arc<dyn TableProvider>) -> Self {
        Self { panes, keys: vec!["session_key", "user_id", "session_start"], retraction: Some("is_retracted") }
    }

    /// Whether a filter keeps or drops whole windows, so that it may go before the choice among panes.
    fn is_by_window(&self, filter: &Expr) -> bool {
        let columns: HashSet<&str> = filter.column_refs().into_iter().map(|column| column.name.as_str()).collect();
        let is_of_window =
            |column: &&str| self.keys.contains(column) || ["window_end", PARTITION_COLUMN].contains(column);
        columns.iter().all(is_of_window)
    }
}

#[async_trait]
impl TableProvider for LatestPanes {
    fn schema(&self) -> SchemaRef {
        self.panes.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let one = |filter: &&Expr| match self.is_by_window(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(one).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut plan = LogicalPlanBuilder::scan("panes", provider_as_source(Arc::clone(&self.panes)), None)?;
        // Filters name the columns of this view; those of the table are the same.
        let unqualified =
            filters.iter().map(|filter| datafusion::logical_expr::expr_rewriter::unnormalize_col(filter.clone()));
        if let Some(filter) = conjunction(unqualified) {
            plan = plan.filter(filter)?;
        }
        // A pane of a rollup may be several rows, one of a session is one: of two with one number one is shown.
        let number = if self.retraction.is_some() { row_number() } else { dense_rank() };
        let rank = number
            .partition_by(self.keys.iter().map(|key| ident(*key)).collect())
            .order_by(vec![ident("pane_index").sort(false, false)])
            .build()?
            .alias(RANK);
        let schema = self.panes.schema();
        let wanted = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let columns: Vec<Expr> = wanted.iter().map(|&index| ident(schema.field(index).name())).collect();
        let mut newest = plan.window([rank])?.filter(ident(RANK).eq(lit(1u64)))?;
        if let Some(column) = self.retraction {
            newest = newest.filter(!ident(column))?;
        }
        let plan = newest.project(columns)?.limit(0, limit)?.build()?;
        state.create_physical_plan(&plan).await
    }
}
