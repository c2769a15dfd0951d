//! A filter over rows that are in hand, for rows that have just arrived.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::common::DFSchema;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::SessionContext;
use sawlog_core::schema::Table;

use super::{Filter, FilterError, compile};
use crate::engine::{QueryError, explain};
use crate::search::SearchError;

/// A filter made ready for the rows of a table.
#[derive(Clone, Debug)]
pub struct Matcher {
    predicate: Option<Arc<dyn PhysicalExpr>>,
}

impl Matcher {
    /// Prepares a filter. Times like `-15m` count from `now`, microseconds, once and for all.
    ///
    /// # Errors
    /// When a value of the filter does not fit its field.
    pub fn new(filter: &Filter, table: Table, now: i64) -> Result<Self, SearchError> {
        let schema = table.schema();
        let Some(condition) = compile(filter, &schema, now)? else { return Ok(Self { predicate: None }) };
        let planned = DFSchema::try_from(schema)
            .and_then(|schema| SessionContext::new().create_physical_expr(condition, &schema))
            .map_err(|error| SearchError::Query(explain(error)))?;
        Ok(Self { predicate: Some(planned) })
    }

    /// The rows that pass.
    ///
    /// # Errors
    /// When a value cannot be computed.
    pub fn matching(&self, rows: &RecordBatch) -> Result<RecordBatch, QueryError> {
        let Some(predicate) = &self.predicate else { return Ok(rows.clone()) };
        let passes = predicate.evaluate(rows).and_then(|value| value.into_array(rows.num_rows())).map_err(explain)?;
        filter_record_batch(rows, passes.as_boolean()).map_err(|error| QueryError::Execution(error.to_string()))
    }
}

impl From<FilterError> for SearchError {
    fn from(error: FilterError) -> Self {
        Self::Filter(error)
    }
}
