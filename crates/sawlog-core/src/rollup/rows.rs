//! Rollup cells as rows.
//!
//! For: the one definition of the columns of `rollup_NAME_WIDTH` and of the pane tables, from which query tables and
//! other engines' DDL are made. Not for: reading cells. What is not known is null, never 0: a window without requests
//! with a duration has no latency.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    BinaryBuilder, Date32Builder, Float64Builder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use crate::rollup::{Cell, PaneTiming, Rollup, Width};
use crate::schema::{PARTITION_COLUMN, time_type};

/// A pane and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollupRow {
    /// Parts of the key, as in [`Rollup::parts`].
    pub parts: Vec<Option<String>>,
    /// Length of the window.
    pub width: Width,
    /// Start of the window, UTC microseconds.
    pub window_start: i64,
    /// Number of the pane.
    pub index: u32,
    /// When it was emitted.
    pub timing: PaneTiming,
    /// What the window holds.
    pub cell: Cell,
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];
/// Rows that a list of most frequent values gives for each window.
const TOP_ROWS: usize = 20;
const DAY: i64 = 86_400_000_000;

/// Columns of `rollup_NAME_WIDTH`.
#[must_use]
pub fn rollup_schema(rollup: Rollup) -> SchemaRef {
    static SCHEMAS: LazyLock<[SchemaRef; Rollup::ALL.len()]> =
        LazyLock::new(|| Rollup::ALL.map(|rollup| Arc::new(Schema::new(fields(rollup)))));
    Arc::clone(&SCHEMAS[rollup as usize])
}

/// Columns of the pane table of a rollup: those of [`rollup_schema`], with the window's length in front and the date of
/// its start at the end.
#[must_use]
pub fn pane_schema(rollup: Rollup) -> SchemaRef {
    static SCHEMAS: LazyLock<[SchemaRef; Rollup::ALL.len()]> = LazyLock::new(|| {
        Rollup::ALL.map(|rollup| {
            let mut all = vec![Field::new("width", DataType::Utf8, false)];
            all.extend(fields(rollup));
            all.push(Field::new(PARTITION_COLUMN, DataType::Date32, false));
            Arc::new(Schema::new(all))
        })
    });
    Arc::clone(&SCHEMAS[rollup as usize])
}

fn fields(rollup: Rollup) -> Vec<Field> {
    let count = |name: &str| Field::new(name, DataType::Int64, false);
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let mut all = vec![Field::new("window_start", time_type(), false), Field::new("window_end", time_type(), false)];
    all.extend(rollup.parts().iter().map(|part| Field::new(*part, DataType::Utf8, true)));
    all.push(Field::new("pane_index", DataType::Int32, false));
    all.push(Field::new("pane_timing", DataType::Utf8, false));
    match rollup {
        Rollup::Requests => {
            all.extend(["count", "error_count", "warning_count", "request_count", "bytes"].map(count));
            all.extend(["duration_count", "satisfied_count", "tolerating_count"].map(count));
            all.extend(["error_ratio", "apdex"].map(number));
            all.extend(QUANTILES.map(|(name, _)| number(&format!("duration_{name}_us"))));
            all.push(Field::new("latency", DataType::Binary, true));
        }
        Rollup::Metrics => {
            all.extend(["count", "not_finite_count"].map(count));
            all.extend(["sum", "avg", "min", "max", "first", "last", "increase"].map(number));
            all.push(count("observation_count"));
            all.push(number("observation_sum"));
            all.extend(QUANTILES.map(|(name, _)| number(name)));
            all.push(Field::new("distribution", DataType::Binary, true));
        }
        Rollup::Activity => {
            all.extend(["count", "user_count"].map(count));
            all.push(Field::new("users", DataType::Binary, false));
        }
        Rollup::Users => {
            all.push(count("user_count"));
            all.push(Field::new("users", DataType::Binary, false));
        }
        Rollup::Top => {
            all.push(Field::new("rank", DataType::Int32, false));
            all.push(Field::new("value", DataType::Utf8, false));
            all.extend(["count", "count_error"].map(count));
        }
    }
    all
}

/// Rows of one rollup as a batch: of [`rollup_schema`], or of [`pane_schema`] with `is_pane_table`.
///
/// # Errors
/// When Arrow refuses the columns; a defect of this module.
pub fn rollup_rows<'a>(
    rollup: Rollup,
    rows: impl IntoIterator<Item = &'a RollupRow>,
    is_pane_table: bool,
) -> Result<RecordBatch, ArrowError> {
    let mut columns = Columns::new(rollup);
    for row in rows {
        columns.push(row);
    }
    columns.finish(is_pane_table)
}

/// Builders of the columns, those of each type in the order of the schema.
struct Columns {
    rollup: Rollup,
    width: StringBuilder,
    times: [TimestampMicrosecondBuilder; 2],
    parts: Vec<StringBuilder>,
    index: Int32Builder,
    timing: StringBuilder,
    counts: Vec<Int64Builder>,
    numbers: Vec<Float64Builder>,
    ranks: Int32Builder,
    texts: StringBuilder,
    bytes: BinaryBuilder,
    date: Date32Builder,
}

impl Columns {
    fn new(rollup: Rollup) -> Self {
        let all = fields(rollup);
        let of = |wanted: DataType| all.iter().filter(|field| *field.data_type() == wanted).count();
        Self {
            rollup,
            width: StringBuilder::new(),
            times: Default::default(),
            parts: rollup.parts().iter().map(|_| StringBuilder::new()).collect(),
            index: Int32Builder::new(),
            timing: StringBuilder::new(),
            counts: (0..of(DataType::Int64)).map(|_| Int64Builder::new()).collect(),
            numbers: (0..of(DataType::Float64)).map(|_| Float64Builder::new()).collect(),
            ranks: Int32Builder::new(),
            texts: StringBuilder::new(),
            bytes: BinaryBuilder::new(),
            date: Date32Builder::new(),
        }
    }

    fn push(&mut self, row: &RollupRow) {
        match &row.cell {
            Cell::Requests(cell) => {
                self.push_key(row);
                let timed = cell.latency.count();
                self.push_counts(&[
                    cell.count,
                    cell.error_count,
                    cell.warning_count,
                    cell.request_count,
                    cell.bytes,
                    timed,
                    cell.satisfied_count,
                    cell.tolerating_count,
                ]);
                let mut numbers = vec![cell.error_ratio(), cell.apdex()];
                numbers.extend(QUANTILES.map(|(_, quantile)| cell.latency.quantile(quantile)));
                self.push_numbers(&numbers);
                self.bytes.append_option((timed > 0).then(|| cell.latency.to_bytes()));
            }
            Cell::Metric(cell) => {
                self.push_key(row);
                let (observed, observed_sum, distribution) = cell.observed();
                self.push_counts(&[cell.count, cell.not_finite_count, observed]);
                let finite = cell.count.saturating_sub(cell.not_finite_count);
                let has_values = cell.last.is_some();
                let sum = has_values.then(|| cell.sum.value());
                let value = |sample: Option<crate::rollup::Sample>| sample.map(|sample| sample.value);
                let mut numbers = vec![sum, sum.map(|sum| sum / finite as f64), cell.min, cell.max];
                numbers.extend([value(cell.first), value(cell.last), cell.increase()]);
                numbers.push((observed > 0).then_some(observed_sum));
                numbers.extend(QUANTILES.map(|(_, quantile)| distribution.quantile(quantile)));
                self.push_numbers(&numbers);
                self.bytes.append_option((distribution.count() > 0).then(|| distribution.to_bytes()));
            }
            Cell::Activity(cell) => {
                self.push_key(row);
                self.push_counts(&[cell.count, cell.users.count()]);
                self.bytes.append_value(cell.users.to_bytes());
            }
            Cell::Users(users) => {
                self.push_key(row);
                self.push_counts(&[users.count()]);
                self.bytes.append_value(users.to_bytes());
            }
            Cell::Top(top) => {
                for (rank, value) in top.top(TOP_ROWS).into_iter().enumerate() {
                    self.push_key(row);
                    self.ranks.append_value(rank as i32 + 1);
                    self.texts.append_value(String::from_utf8_lossy(&value.value));
                    self.push_counts(&[value.count, value.error]);
                }
            }
        }
    }

    fn push_key(&mut self, row: &RollupRow) {
        self.width.append_value(row.width.name());
        let bounds = [row.window_start, row.window_start.saturating_add(row.width.micros())];
        self.times.iter_mut().zip(bounds).for_each(|(column, time)| column.append_value(time));
        self.parts.iter_mut().zip(&row.parts).for_each(|(column, part)| column.append_option(part.as_deref()));
        self.index.append_value(i32::try_from(row.index).unwrap_or(i32::MAX));
        self.timing.append_value(row.timing.name());
        self.date.append_value(row.window_start.div_euclid(DAY) as i32);
    }

    fn push_counts(&mut self, counts: &[u64]) {
        let counts = counts.iter().map(|&count| i64::try_from(count).unwrap_or(i64::MAX));
        self.counts.iter_mut().zip(counts).for_each(|(column, count)| column.append_value(count));
    }

    fn push_numbers(&mut self, numbers: &[Option<f64>]) {
        self.numbers.iter_mut().zip(numbers).for_each(|(column, number)| column.append_option(*number));
    }

    fn finish(mut self, is_pane_table: bool) -> Result<RecordBatch, ArrowError> {
        let schema = if is_pane_table { pane_schema(self.rollup) } else { rollup_schema(self.rollup) };
        let mut counts = self.counts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut numbers = self.numbers.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut times = self.times.iter_mut().map(|column| Arc::new(column.finish().with_timezone("UTC")) as ArrayRef);
        let mut parts = self.parts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let next = match (field.name().as_str(), field.data_type()) {
                ("width", _) => Some(Arc::new(self.width.finish()) as ArrayRef),
                ("pane_index", _) => Some(Arc::new(self.index.finish()) as ArrayRef),
                ("pane_timing", _) => Some(Arc::new(self.timing.finish()) as ArrayRef),
                ("rank", _) => Some(Arc::new(self.ranks.finish()) as ArrayRef),
                ("value", DataType::Utf8) => Some(Arc::new(self.texts.finish()) as ArrayRef),
                (_, DataType::Utf8) => parts.next(),
                (_, DataType::Int64) => counts.next(),
                (_, DataType::Float64) => numbers.next(),
                (_, DataType::Binary) => Some(Arc::new(self.bytes.finish()) as ArrayRef),
                (_, DataType::Date32) => Some(Arc::new(self.date.finish()) as ArrayRef),
                _ => times.next(),
            };
            columns.extend(next);
        }
        RecordBatch::try_new(schema, columns)
    }
}
