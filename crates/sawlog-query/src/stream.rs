//! Answers that are handed over while the query still runs, for protocols that fetch rows bit by bit.
//!
//! For: the same guard, limits, threads and view as [`QueryEngine::run`], without holding the whole answer. Not for:
//! encoding rows. Dropping the stream stops the query.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan};
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};

use crate::engine::{AbortOnDrop, QueryEngine, QueryError, explain, joined, verify};
use crate::postgres::ReadStatement;

/// Batches that wait for the reader; the query pauses when there are more.
const BATCHES_WAITING: usize = 2;

/// Parameters of one statement.
const PARAMETERS_MAX: usize = 1000;

/// What is known of a statement before it runs.
#[derive(Clone, Debug)]
pub struct Description {
    /// Columns of the answer.
    pub schema: SchemaRef,
    /// Types of `$1`, `$2`, …: what the client says, else what the statement tells, else text.
    pub parameters: Vec<DataType>,
}

/// The value of a parameter as a client sends it; it is cast to the parameter's type.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ParameterValue {
    Null,
    Text(String),
    Bool(bool),
    Int(i64),
    Float(f64),
    Bytes(Vec<u8>),
    /// Microseconds since the epoch, UTC.
    Time(i64),
    /// Days since the epoch.
    Date(i32),
}

impl ParameterValue {
    fn scalar(&self) -> ScalarValue {
        match self {
            Self::Null => ScalarValue::Null,
            Self::Text(text) => ScalarValue::from(text.as_str()),
            Self::Bool(value) => ScalarValue::from(*value),
            Self::Int(value) => ScalarValue::from(*value),
            Self::Float(value) => ScalarValue::from(*value),
            Self::Bytes(bytes) => ScalarValue::Binary(Some(bytes.clone())),
            Self::Time(micros) => ScalarValue::TimestampMicrosecond(Some(*micros), Some("UTC".into())),
            Self::Date(days) => ScalarValue::Date32(Some(*days)),
        }
    }
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
        joined(ended).err().map(Err)
    }
}

impl QueryEngine {
    /// Starts a query of a Postgres client. More rows than `query.rows-max` end the stream with an error.
    ///
    /// # Errors
    /// When it does not plan or no turn is free in time. What goes wrong later comes from the stream.
    pub async fn stream(
        &self,
        query: &ReadStatement,
        parameters: &[(ParameterValue, DataType)],
    ) -> Result<QueryStream, QueryError> {
        let parameters = cast(parameters)?;
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
            let plan = plan.replace_params_with_values(&ParamValues::from(parameters)).map_err(explain)?;
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
            Err(_) => match joined((&mut task.0).await) {
                Err(error) => Err(error),
                Ok(()) => Err(QueryError::Stopped),
            },
        }
    }

    /// Plans a query without running it. `declared` are the types that the client gives to `$1`, `$2`, …
    ///
    /// # Errors
    /// When it does not plan.
    pub async fn describe(
        &self,
        query: &ReadStatement,
        declared: &[Option<DataType>],
    ) -> Result<Description, QueryError> {
        let context = self.postgres_context().await?;
        let (query, declared) = (query.clone(), declared.to_vec());
        let mut task = AbortOnDrop(self.handle()?.spawn(async move {
            let plan = context.plan(&query).await?;
            let inferred = parameters(&plan)?;
            let parameters: Vec<DataType> = (0..inferred.len())
                .map(|index| declared.get(index).cloned().flatten().or_else(|| inferred[index].clone()))
                .map(|known| known.unwrap_or(DataType::Utf8))
                .collect();
            // Typed nulls in place of the parameters tell the types of the columns that are made of them.
            let nulls: Result<Vec<ScalarValue>, _> = parameters.iter().map(ScalarValue::try_from).collect();
            let nulls = ParamValues::from(nulls.map_err(explain)?);
            let plan = plan.replace_params_with_values(&nulls).map_err(explain)?;
            Ok(Description { schema: plan.schema().inner().clone(), parameters })
        }));
        let planned = tokio::time::timeout(self.limits.time_max, &mut task.0).await;
        joined(planned.map_err(|_| QueryError::Timeout(self.limits.time_max))?)
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

/// The values in their types.
fn cast(parameters: &[(ParameterValue, DataType)]) -> Result<Vec<ScalarValue>, QueryError> {
    let one = |(index, (value, data_type)): (usize, &(ParameterValue, DataType))| {
        value.scalar().cast_to(data_type).map_err(|error| {
            let problem = error.find_root().strip_backtrace();
            QueryError::Parameter { number: index + 1, problem: format!("it is no {data_type}: {problem}") }
        })
    };
    parameters.iter().enumerate().map(one).collect()
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
        let number = id.trim_start_matches('$').parse().ok().filter(|number| (1..=PARAMETERS_MAX).contains(number));
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
