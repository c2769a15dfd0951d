//! Answers that are handed over while the query still runs, for protocols that fetch rows bit by bit.
//!
//! For: the same guard, limits, threads and view as [`QueryEngine::run`], without holding the whole answer. Not for:
//! encoding rows. Dropping the stream stops the query.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};

use crate::engine::{AbortOnDrop, QueryEngine, QueryError, explain, verify};
use crate::postgres::ReadStatement;

/// Batches that wait for the reader; the query pauses when there are more.
const BATCHES_WAITING: usize = 2;

/// What is known of a statement before it runs.
#[derive(Clone, Debug)]
pub struct Description {
    /// Columns of the answer.
    pub schema: SchemaRef,
    /// Types of `$1`, `$2`, …; `None` where nothing in the statement tells.
    pub parameters: Vec<Option<DataType>>,
}

/// The rows of a running query.
#[derive(Debug)]
pub struct QueryStream {
    schema: SchemaRef,
    batches: mpsc::Receiver<RecordBatch>,
    task: Option<AbortOnDrop<Result<(), QueryError>>>,
}

impl QueryStream {
    /// Columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows; `None` at the end. An error is the last thing it gives. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, QueryError>> {
        if let Some(batch) = self.batches.recv().await {
            return Some(Ok(batch));
        }
        let ended = (&mut self.task.as_mut()?.0).await;
        self.task = None;
        crate::engine::joined(ended).err().map(Err)
    }
}

impl QueryEngine {
    /// Starts a query of a Postgres client. More rows than `query.rows-max` end the stream with an error.
    ///
    /// # Errors
    /// When it does not plan or no turn is free in time. What goes wrong later comes from the stream.
    pub async fn stream(&self, query: &ReadStatement, parameters: ParamValues) -> Result<QueryStream, QueryError> {
        let time_max = self.limits.time_max;
        let turn = tokio::time::timeout(time_max, Arc::clone(&self.turns).acquire_owned())
            .await
            .map_err(|_| QueryError::Timeout(time_max))?
            .map_err(|_| QueryError::Stopped)?;
        let context = self.postgres_context().await?;
        let (query, rows_max) = (query.clone(), self.limits.rows_max);
        let (schema_known, schema) = oneshot::channel();
        let (sender, batches) = mpsc::channel(BATCHES_WAITING);
        let run = async move {
            // The turn ends with the task, however it ends.
            let _turn = turn;
            let plan = context.plan(&query).await?;
            let plan = plan.replace_params_with_values(&parameters).map_err(explain)?;
            let frame = context.0.execute_logical_plan(plan).await.map_err(explain)?;
            let mut stream = frame.execute_stream().await.map_err(explain)?;
            if schema_known.send(stream.schema()).is_err() {
                return Ok(());
            }
            let mut room = rows_max;
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(explain)?;
                if batch.num_rows() > room {
                    return Err(QueryError::TooManyRows(rows_max));
                }
                room -= batch.num_rows();
                if batch.num_rows() > 0 && sender.send(batch).await.is_err() {
                    return Ok(());
                }
            }
            Ok(())
        };
        let limited = async move {
            let finished = tokio::time::timeout(time_max, run).await;
            finished.unwrap_or(Err(QueryError::Timeout(time_max)))
        };
        let mut task = AbortOnDrop(self.handle()?.spawn(limited));
        match schema.await {
            Ok(schema) => Ok(QueryStream { schema, batches, task: Some(task) }),
            // The task ended before it had a schema.
            Err(_) => match crate::engine::joined((&mut task.0).await) {
                Err(error) => Err(error),
                Ok(()) => Err(QueryError::Stopped),
            },
        }
    }

    /// Plans a query without running it.
    ///
    /// # Errors
    /// When it does not plan.
    pub async fn describe(&self, query: &ReadStatement) -> Result<Description, QueryError> {
        let context = self.postgres_context().await?;
        let query = query.clone();
        let mut task = AbortOnDrop(self.handle()?.spawn(async move {
            let plan = context.plan(&query).await?;
            Ok(Description { schema: plan.schema().inner().clone(), parameters: parameters(&plan)? })
        }));
        let planned = tokio::time::timeout(self.limits.time_max, &mut task.0).await;
        crate::engine::joined(planned.map_err(|_| QueryError::Timeout(self.limits.time_max))?)
    }
}

/// A context with the tables of one view.
pub(crate) struct PostgresContext(pub(crate) datafusion::prelude::SessionContext);

impl PostgresContext {
    async fn plan(&self, query: &ReadStatement) -> Result<LogicalPlan, QueryError> {
        let statement = datafusion::sql::parser::Statement::Statement(Box::new(query.ast().clone()));
        let plan = self.0.state().statement_to_plan(statement).await.map_err(explain)?;
        verify(&plan)?;
        Ok(plan)
    }
}

/// Types of the parameters in the order of their numbers. A cast tells where comparison does not.
fn parameters(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>, QueryError> {
    let mut known = plan.get_parameter_types().map_err(explain)?;
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|inner| {
                if let Expr::Cast(cast) = inner
                    && let Expr::Placeholder(placeholder) = cast.expr.as_ref()
                {
                    let found = known.entry(placeholder.id.clone()).or_default();
                    found.get_or_insert_with(|| cast.field.data_type().clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.map_err(explain)?;
    let mut numbered: Vec<(usize, Option<DataType>)> = Vec::new();
    for (id, data_type) in known {
        let number = id.trim_start_matches('$').parse().ok().filter(|number| (1..=1000).contains(number));
        let number = number.ok_or_else(|| QueryError::Plan(format!("{id} is no parameter; write $1, $2, …")))?;
        numbered.push((number, data_type));
    }
    let count = numbered.iter().map(|(number, _)| *number).max().unwrap_or(0);
    let mut ordered = vec![None; count];
    for (number, data_type) in numbered {
        ordered[number - 1] = data_type;
    }
    Ok(ordered)
}
