//! Rollups as SQL tables.
//!
//! For: `rollup_NAME_WIDTH`, read from the serving store with what is in memory merged onto it, a page of cells at a time
//! and only the windows that the query's time range needs. Not for: the history in the pane tables, which are tables
//! like all others.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use sawlog_core::rollup::{self, Cell, PaneCell, PaneTiming, Rollup, RollupRow, Width};
use sawlog_core::rowkey;
use sawlog_seams::serving::{Family, ServingSnapshot};
use sawlog_seams::view::{HotRollups, View};

/// Cells of one batch.
const PAGE_CELLS: usize = 2_048;
/// So many cells outside the time range are read over before it is cheaper to look the next one up.
const SKIP_CELLS: usize = 8;
/// Longer than any time at the end of a key: behind all windows of a series.
const BEHIND_SERIES: [u8; 9] = [0xff; 9];

/// One rollup in windows of one width, at one moment.
#[derive(Clone)]
pub(crate) struct RollupTable {
    rollup: Rollup,
    width: Width,
    hot: Vec<Arc<dyn HotRollups>>,
    serving: Arc<dyn ServingSnapshot>,
    watermark: i64,
}

impl fmt::Debug for RollupTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}

impl RollupTable {
    /// All rollup tables of a view.
    pub(crate) fn all(view: &View) -> impl Iterator<Item = Self> + '_ {
        let of = |rollup| Width::ALL.into_iter().map(move |width| (rollup, width));
        Rollup::ALL.into_iter().flat_map(of).map(|(rollup, width)| Self {
            rollup,
            width,
            hot: view.hot_rollups.clone(),
            serving: Arc::clone(&view.serving),
            watermark: view.watermark,
        })
    }

    pub(crate) fn name(&self) -> String {
        format!("rollup_{}_{}", self.rollup.name(), self.width.name())
    }

    /// A cursor over the cells whose windows start within `starts`.
    fn cursor(&self, starts: Range<i64>) -> Cursor {
        let mut hot: BTreeMap<Vec<u8>, Cell> = BTreeMap::new();
        for source in &self.hot {
            for (key, cell) in source.cells(self.rollup, self.width, starts.clone()) {
                hot.entry(key).and_modify(|older| older.merge(&cell)).or_insert(cell);
            }
        }
        Cursor { table: self.clone(), starts, hot, resume: Some(rowkey::range_of(self.rollup.byte()).0) }
    }
}

/// Where a reader of a rollup table is.
struct Cursor {
    table: RollupTable,
    starts: Range<i64>,
    /// What is in memory and was not given out yet.
    hot: BTreeMap<Vec<u8>, Cell>,
    /// Key in the store to go on from; `None` when all are read.
    resume: Option<Vec<u8>>,
}

impl Cursor {
    /// The next rows; `None` at the end.
    fn next_page(&mut self) -> Result<Option<RecordBatch>> {
        let mut rows = Vec::new();
        while rows.is_empty() {
            let Some(start) = self.resume.take() else {
                for (key, cell) in std::mem::take(&mut self.hot) {
                    rows.push(self.row(&key, None, Some(cell))?);
                }
                break;
            };
            for (key, value) in self.read(start)? {
                // Keys in memory that lie before this one have nothing in the store.
                let behind = self.hot.split_off(&key);
                for (key, cell) in std::mem::replace(&mut self.hot, behind) {
                    rows.push(self.row(&key, None, Some(cell))?);
                }
                let newer = self.hot.remove(&key);
                let stored = PaneCell::from_bytes(self.table.rollup, &value).map_err(failed)?;
                rows.push(self.row(&key, Some(stored), newer)?);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some(rollup::rollup_rows(self.table.rollup, &rows, false)?))
    }

    /// A page of cells from a key on, and where the next one starts.
    fn read(&mut self, mut start: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (_, end) = rowkey::range_of(self.table.rollup.byte());
        let family = Family::of_width(self.table.width);
        let (starts, mut found) = (self.starts.clone(), Vec::new());
        loop {
            let (mut skipped, mut next) = (0, None);
            let mut visit = |key: &[u8], value: &[u8]| {
                let time = rowkey::time_of(key).unwrap_or(i64::MIN);
                if starts.contains(&time) {
                    skipped = 0;
                    found.push((key.to_vec(), value.to_vec()));
                    if found.len() < PAGE_CELLS {
                        return ControlFlow::Continue(());
                    }
                    next = Some([key, &[0]].concat());
                    return ControlFlow::Break(());
                }
                skipped += 1;
                if skipped < SKIP_CELLS {
                    return ControlFlow::Continue(());
                }
                // Newest first: what is too new is followed by the range, what is too old by another series.
                let prefix = rollup::prefix_of(key);
                next = Some(match time >= starts.end {
                    true => rollup::with_time(prefix, starts.end - 1),
                    false => [prefix, &BEHIND_SERIES].concat(),
                });
                ControlFlow::Break(())
            };
            self.table.serving.scan_each(family, &start, Some(&end), &mut visit).map_err(failed)?;
            match next {
                Some(next) if found.len() < PAGE_CELLS => start = next,
                next => {
                    self.resume = next;
                    return Ok(found);
                }
            }
        }
    }

    fn row(&self, key: &[u8], stored: Option<PaneCell>, newer: Option<Cell>) -> Result<RollupRow> {
        let (_, decoded) = rollup::decode(key).ok_or_else(|| failed("a rollup key cannot be read"))?;
        let width = self.table.width;
        let is_complete = decoded.time.saturating_add(width.micros()) <= self.table.watermark;
        let before = stored.as_ref().map(|pane| pane.timing);
        // A window that has become complete shows the pane that the next flush writes.
        let is_new = newer.is_some() || (is_complete && before == Some(PaneTiming::Early));
        let timing = match before {
            Some(before) if !is_new => before,
            before => PaneTiming::next(before, is_complete),
        };
        let index = stored.as_ref().map_or(0, |pane| pane.index.saturating_add(u32::from(is_new)));
        let mut cell = stored.map(|pane| pane.cell);
        if let Some(newer) = newer {
            match &mut cell {
                Some(cell) => cell.merge(&newer),
                None => cell = Some(newer),
            }
        }
        let cell = cell.ok_or_else(|| failed("a window without a cell"))?;
        Ok(RollupRow { parts: decoded.parts, width, window_start: decoded.time, index, timing, cell })
    }
}

fn failed(error: impl fmt::Display) -> DataFusionError {
    DataFusionError::Execution(error.to_string())
}

#[async_trait]
impl TableProvider for RollupTable {
    fn schema(&self) -> SchemaRef {
        rollup::rollup_schema(self.rollup)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut starts = i64::MIN..i64::MAX;
        filters.iter().for_each(|filter| narrow(&mut starts, "window_start", filter));
        let part = Arc::new(Part { table: self.clone(), starts, schema: self.schema() });
        let projection = projection.cloned();
        let plan = StreamingTableExec::try_new(self.schema(), vec![part], projection.as_ref(), [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

#[derive(Debug)]
struct Part {
    table: RollupTable,
    starts: Range<i64>,
    schema: SchemaRef,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (table, starts) = (self.table.clone(), self.starts.clone());
        // Memory is gone through when the query runs, not when it is planned.
        let pages = futures::stream::unfold(None, move |cursor: Option<Cursor>| {
            let (table, starts) = (table.clone(), starts.clone());
            async move {
                tokio::task::consume_budget().await;
                let mut cursor = cursor.unwrap_or_else(|| table.cursor(starts));
                cursor.next_page().transpose().map(|page| (page, Some(cursor)))
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), pages))
    }
}

/// Narrows the range of times of a column by a filter, where it says anything about them.
pub(crate) fn narrow(range: &mut Range<i64>, name: &str, filter: &Expr) {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            narrow(range, name, left);
            narrow(range, name, right);
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (op, bound) = match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(value, _)) if column.name == name => (*op, micros(value)),
                (Expr::Literal(value, _), Expr::Column(column)) if column.name == name => {
                    (op.swap().unwrap_or(*op), micros(value))
                }
                _ => return,
            };
            let Some(bound) = bound else { return };
            match op {
                Operator::Gt => range.start = range.start.max(bound.saturating_add(1)),
                Operator::GtEq => range.start = range.start.max(bound),
                Operator::Lt => range.end = range.end.min(bound),
                Operator::LtEq => range.end = range.end.min(bound.saturating_add(1)),
                Operator::Eq => {
                    *range = range.start.max(bound)..range.end.min(bound.saturating_add(1));
                }
                _ => {}
            }
        }
        Expr::Between(between) if !between.negated => {
            if let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) =
                (between.expr.as_ref(), between.low.as_ref(), between.high.as_ref())
                && column.name == name
                && let (Some(low), Some(high)) = (micros(low), micros(high))
            {
                *range = range.start.max(low)..range.end.min(high.saturating_add(1));
            }
        }
        _ => {}
    }
}

/// A time literal in microseconds, as the column has it; a coarser or finer one is left to the filter.
fn micros(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampMicrosecond(micros, _) => *micros,
        _ => match value
            .cast_to(&arrow::datatypes::DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
            .ok()?
        {
            ScalarValue::TimestampMicrosecond(micros, _) if !is_finer(value) => micros,
            _ => None,
        },
    }
}

fn is_finer(value: &ScalarValue) -> bool {
    matches!(value, ScalarValue::TimestampNanosecond(..))
}
