//! `search('logs', 'service:shop error')` in SQL: the rows of a table that pass a filter.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::{TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use sawlog_core::schema::Table;

use super::{compile, parse};

/// The function over the tables of one view.
#[derive(Debug)]
pub(crate) struct SearchFunction {
    /// Tables by name.
    pub(crate) tables: HashMap<&'static str, Arc<dyn TableProvider>>,
    /// What times like `-15m` count from, microseconds.
    pub(crate) now: i64,
}

impl TableFunctionImpl for SearchFunction {
    fn call(&self, arguments: &[Expr]) -> Result<Arc<dyn TableProvider>> {
        let text = |argument: &Expr| match argument {
            Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => Some(text.clone()),
            _ => None,
        };
        let texts: Option<Vec<String>> = arguments.iter().map(text).collect();
        let Some([name, filter]) = texts.as_deref() else {
            return plan_err!("search takes a table and a filter: search('logs', 'service:shop error')");
        };
        let searched = Table::ALL.into_iter().find(|table| table.name() == name);
        let table = searched.and_then(|table| self.tables.get(table.name()));
        let Some(table) = table else {
            return plan_err!("search knows logs, metrics, activity and dead_letters, not {name:?}");
        };
        let explain = |error: super::FilterError| {
            let place = error.span.start + 1;
            DataFusionError::Plan(format!("{} (character {place} of the filter); {}", error.message, error.hint))
        };
        let condition = compile(&parse(filter).map_err(explain)?, &table.schema(), self.now).map_err(explain)?;
        let mut plan = LogicalPlanBuilder::scan(name.as_str(), provider_as_source(Arc::clone(table)), None)?;
        if let Some(condition) = condition {
            plan = plan.filter(condition)?;
        }
        Ok(Arc::new(ViewTable::new(plan.build()?, None)))
    }
}
