//! Searching a table with a filter: the newest (or oldest) rows that pass, page by page.
//!
//! For: the same plan, limits and view as SQL, without writing SQL. Not for: aggregation. Rows are ordered by time, then
//! by batch and place in it, so that pages neither repeat nor skip a row.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, SchemaRef, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, ident, lit};
use datafusion::prelude::SessionContext;
use sawlog_core::schema::Table;

use crate::engine::{Cut, QueryEngine, QueryError, QueryResult, explain};
use crate::filter::{Filter, FilterError, Span, compile, expression, resolve};

/// Rows of one page.
pub const LIMIT_MAX: usize = 10_000;
/// Columns that may be asked for.
const COLUMNS_MAX: usize = 100;
/// Bytes of a batch id in a cursor.
const BATCH_ID_BYTES_MAX: usize = 200;

/// Order of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest first.
    #[default]
    Newest,
    /// The oldest first.
    Oldest,
}

/// What to search for.
#[derive(Clone, Debug)]
pub struct Search {
    /// The table.
    pub table: Table,
    /// The filter.
    pub filter: Filter,
    /// Rows at or after this time (microseconds since the epoch).
    pub from: Option<i64>,
    /// Rows before this time.
    pub to: Option<i64>,
    /// Most rows of the answer, from 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// Order of the rows.
    pub order: Order,
    /// Where the page before ended: its `next`.
    pub cursor: Option<String>,
    /// Fields to answer, as a filter names them; empty for all columns.
    pub columns: Vec<String>,
    /// What times in the filter count from, microseconds since the epoch.
    pub now: i64,
}

impl Search {
    /// A search for the newest 100 rows.
    #[must_use]
    pub fn new(table: Table, filter: Filter, now: i64) -> Self {
        let (from, to, cursor, columns) = (None, None, None, Vec::new());
        Self { table, filter, from, to, limit: 100, order: Order::default(), cursor, columns, now }
    }
}

/// A page of rows.
#[derive(Debug)]
pub struct Page {
    /// The rows.
    pub result: QueryResult,
    /// The cursor of the page after this one; `None` on the last.
    pub next: Option<String>,
}

/// Why a search has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The filter has a mistake.
    #[error(transparent)]
    Filter(FilterError),
    /// Another part of the request has one.
    #[error("{field}: {problem}")]
    Request {
        /// The part.
        field: &'static str,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl SearchError {
    /// What to do now.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::Filter(error) => &error.hint,
            Self::Request { hint, .. } => hint,
            Self::Query(error) => error.hint(),
        }
    }
}

/// The column that a table is ordered by.
#[must_use]
pub fn time_column(table: Table) -> &'static str {
    if table.schema().field_with_name("event_time").is_ok() { "event_time" } else { "receive_time" }
}

impl QueryEngine {
    /// Searches.
    ///
    /// # Errors
    /// When the filter or another part of the request has a mistake, or the query does not end within its limits.
    pub async fn search(&self, search: &Search) -> Result<Page, SearchError> {
        let schema = search.table.schema();
        let condition = condition(search, &schema)?;
        let (selected, wanted) = selection(search, &schema)?;
        let (table, limit) = (search.table.name(), search.limit);
        let ascending = search.order == Order::Oldest;
        let sort = keys(search.table).map(|name| ident(name).sort(ascending, false)).to_vec();
        let make = move |context: SessionContext| async move {
            let mut frame = context.table(table).await.map_err(explain)?;
            if let Some(condition) = condition {
                frame = frame.filter(condition).map_err(explain)?;
            }
            // One more than asked for tells whether there is another page.
            let frame = frame.sort(sort).and_then(|frame| frame.limit(0, Some(limit + 1)));
            frame.and_then(|frame| frame.select(selected)).map_err(explain)
        };
        let mut result = self.run_frame(make, limit + 1).await?;
        let row_count = result.row_count();
        let is_cut = row_count > limit || result.cut.is_some();
        let next = if is_cut { cut(&mut result.batches, limit.min(row_count)) } else { None };
        for batch in &mut result.batches {
            *batch = batch.project(&wanted).map_err(|error| QueryError::Execution(error.to_string()))?;
        }
        let projected = result.schema.project(&wanted).map_err(|error| QueryError::Execution(error.to_string()))?;
        result.schema = projected.into();
        result.cut = next.is_some().then_some(Cut::Rows);
        Ok(Page { result, next })
    }
}

/// What orders the rows of a table.
const fn batch_keys() -> [&'static str; 2] {
    ["batch_id", "record_index"]
}

fn keys(table: Table) -> [&'static str; 3] {
    let [batch, record] = batch_keys();
    [time_column(table), batch, record]
}

fn request(field: &'static str, problem: impl Into<String>, hint: &'static str) -> SearchError {
    SearchError::Request { field, problem: problem.into(), hint }
}

fn time(micros: i64) -> Expr {
    Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())), None)
}

fn condition(search: &Search, schema: &SchemaRef) -> Result<Option<Expr>, SearchError> {
    if !(1..=LIMIT_MAX).contains(&search.limit) {
        return Err(request(
            "limit",
            format!("{} is out of range", search.limit),
            "give from 1 to 10000, and go on with the cursor",
        ));
    }
    let mut parts = Vec::new();
    parts.extend(search.from.map(|from| ident(time_column(search.table)).gt_eq(time(from))));
    parts.extend(search.to.map(|to| ident(time_column(search.table)).lt(time(to))));
    parts.extend(compile(&search.filter, schema, search.now)?);
    if let Some(cursor) = &search.cursor {
        let after = after(cursor, search).ok_or_else(|| {
            request("cursor", "it is none of Sawlog's", "give the `next` of the page before, unchanged, or none")
        })?;
        parts.push(after);
    }
    Ok(parts.into_iter().reduce(Expr::and))
}

/// Rows after the cursor.
fn after(cursor: &str, search: &Search) -> Option<Expr> {
    let (micros, rest) = cursor.split_once('_')?;
    let (record_index, batch_id) = rest.split_once('_')?;
    let (micros, record_index): (i64, i32) = (micros.parse().ok()?, record_index.parse().ok()?);
    if batch_id.len() > BATCH_ID_BYTES_MAX {
        return None;
    }
    let is_after = |value: Expr, bound: Expr| match search.order {
        Order::Newest => value.lt(bound),
        Order::Oldest => value.gt(bound),
    };
    let [at, batch, record] = keys(search.table).map(ident);
    let same_batch = batch.clone().eq(lit(batch_id)).and(is_after(record, lit(record_index)));
    let same_time = at.clone().eq(time(micros)).and(is_after(batch, lit(batch_id)).or(same_batch));
    // The first part alone lets files be left out.
    let bound = match search.order {
        Order::Newest => at.clone().lt_eq(time(micros)),
        Order::Oldest => at.clone().gt_eq(time(micros)),
    };
    Some(bound.and(is_after(at, time(micros)).or(same_time)))
}

/// The columns to compute, the keys of the order first, and which of them were asked for.
fn selection(search: &Search, schema: &SchemaRef) -> Result<(Vec<Expr>, Vec<usize>), SearchError> {
    if search.columns.len() > COLUMNS_MAX {
        return Err(request("columns", "there are more than 100", "ask for fewer, or for none to get all"));
    }
    let mut selected: Vec<Expr> = keys(search.table)
        .iter()
        .enumerate()
        .map(|(index, name)| ident(*name).alias(format!("_key_{index}")))
        .collect();
    let hidden = selected.len();
    if search.columns.is_empty() {
        selected.extend(schema.fields().iter().map(|field| ident(field.name())));
    }
    for (index, name) in search.columns.iter().enumerate() {
        if search.columns[..index].contains(name) || name.starts_with("_key_") {
            return Err(request("columns", format!("{name:?} cannot be asked for twice"), "name each field once"));
        }
        let value = expression(&resolve(name, schema)).ok_or_else(|| {
            SearchError::Filter(FilterError::new(
                Span::default(),
                format!("there is no field {name:?}"),
                "see GET /v1/fields",
            ))
        })?;
        selected.push(value.alias(name));
    }
    let wanted = (hidden..selected.len()).collect();
    Ok((selected, wanted))
}

/// Leaves `limit` rows and gives the cursor of the last of them.
fn cut(batches: &mut Vec<RecordBatch>, limit: usize) -> Option<String> {
    let mut left = limit;
    for batch in batches.iter_mut() {
        let kept = batch.num_rows().min(left);
        *batch = batch.slice(0, kept);
        left -= kept;
    }
    batches.retain(|batch| batch.num_rows() > 0);
    let last = batches.last()?;
    let row = last.num_rows() - 1;
    let micros = last.column(0).as_primitive::<TimestampMicrosecondType>().value(row);
    let batch_ids = arrow::compute::cast(last.column(1), &arrow::datatypes::DataType::Utf8).ok()?;
    let record_index = last.column(2).as_primitive::<Int32Type>().value(row);
    Some(format!("{micros}_{record_index}_{}", batch_ids.as_string::<i32>().value(row)))
}
