//! Cells of what a stretch of batches adds.
//!
//! For: counting rows into windows of ten seconds by key, and adding those up to coarser windows. Not for: what the
//! windows held before: that is merged onto it where it is kept. In Beam this is what a worker makes of one batch before
//! the shuffle.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray, RecordBatch, StringArray};

use crate::rollup::admission::{Admit, OTHER};
use crate::rollup::cell::{Activity, Cell, Metric, Requests, Snapshot};
use crate::rollup::{Rollup, Width, key};
use crate::schema::Table;
use crate::signature;
use crate::sketch::Sketch;
use crate::window::{Window, floor};

/// Settings of rollups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollupOptions {
    /// Apdex threshold T: requests up to T satisfy, up to 4 T are tolerated. Microseconds.
    pub apdex_threshold: i64,
    /// Most series of each rollup; further ones are counted under [`OTHER`].
    pub series_max: usize,
}

impl Default for RollupOptions {
    /// T = 500 ms, 20,000 series.
    fn default() -> Self {
        Self { apdex_threshold: 500_000, series_max: 20_000 }
    }
}

/// Windows of ten seconds by series: key without time, then window start.
#[derive(Clone, Debug, Default)]
pub struct Deltas {
    series: HashMap<Box<[u8]>, BTreeMap<i64, Cell>>,
    memory_bytes: usize,
    /// Room for the key at hand.
    key: Vec<u8>,
}

/// Memory of a cell beside what it says itself, and of a series: keys, map nodes.
const CELL_BYTES: usize = 96;
const SERIES_BYTES: usize = 160;

impl Deltas {
    /// Counts the rows of a batch that was received at `receive_time`; tables without a rollup are passed over. For the
    /// stream, rows that came too late for their window must not be among them.
    pub fn add(
        &mut self,
        table: Table,
        batch: &RecordBatch,
        receive_time: i64,
        options: &RollupOptions,
        admission: &mut impl Admit,
    ) {
        if batch.num_rows() == 0 || table == Table::DeadLetters {
            return;
        }
        let columns = Columns { batch };
        let mut run = Run { deltas: self, columns: &columns, receive_time, options, admission };
        match table {
            Table::Logs => run.logs(),
            Table::Metrics => run.metrics(),
            Table::Activity => run.activity(),
            Table::DeadLetters => {}
        }
    }

    /// Adds what another stretch counted under the same admission.
    pub fn merge(&mut self, other: Self) {
        for (prefix, cells) in other.series {
            if !self.series.contains_key(&prefix) {
                self.memory_bytes += SERIES_BYTES + prefix.len();
            }
            let mine = self.series.entry(prefix).or_default();
            self.memory_bytes += cells.into_iter().map(|(start, cell)| put(mine, start, cell)).sum::<usize>();
        }
    }

    /// Adds a cell of one series, whose key stands without time, and of the window of ten seconds that begins at `start`
    /// (UTC microseconds).
    pub fn put(&mut self, prefix: &[u8], start: i64, cell: Cell) {
        if !self.series.contains_key(prefix) {
            self.memory_bytes += SERIES_BYTES + prefix.len();
            self.series.insert(prefix.into(), BTreeMap::new());
        }
        if let Some(mine) = self.series.get_mut(prefix) {
            self.memory_bytes += put(mine, start, cell);
        }
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Memory, bytes, about.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Cells of all series in windows of a length: key without time, window start, cell. Coarser windows are made of the
    /// finer ones.
    pub fn cells(&self, width: Width) -> impl Iterator<Item = (&[u8], i64, Cell)> {
        self.series.iter().flat_map(move |(prefix, cells)| {
            coarsen(cells.iter(), width).into_iter().map(move |(start, cell)| (prefix.as_ref(), start, cell))
        })
    }

    /// The cells of one rollup whose windows start within `starts`; others are not looked at.
    pub fn cells_of(
        &self,
        rollup: Rollup,
        width: Width,
        starts: Range<i64>,
    ) -> impl Iterator<Item = (&[u8], i64, Cell)> {
        // The last window that may start within the range still takes cells up to its own end.
        let end = floor(starts.end.saturating_sub(1), width.micros()).saturating_add(width.micros());
        let of_rollup = self.series.iter().filter(move |(prefix, _)| prefix.first() == Some(&rollup.byte()));
        of_rollup.flat_map(move |(prefix, cells)| {
            let within = if starts.start < end { cells.range(starts.start..end) } else { cells.range(end..end) };
            let starts = starts.clone();
            let windows = coarsen(within, width).into_iter().filter(move |(start, _)| starts.contains(start));
            windows.map(move |(start, cell)| (prefix.as_ref(), start, cell))
        })
    }

    /// What the window of one series got.
    #[must_use]
    pub fn cell(&self, prefix: &[u8], window: Window) -> Option<Cell> {
        let mut found: Option<Cell> = None;
        for (_, cell) in self.series.get(prefix)?.range(window.start..window.end) {
            match &mut found {
                Some(sum) => sum.merge(cell),
                None => found = Some(cell.clone()),
            }
        }
        found
    }
}

/// Merges a cell onto what the window has; gives the memory that this takes, bytes.
fn put(cells: &mut BTreeMap<i64, Cell>, start: i64, cell: Cell) -> usize {
    match cells.entry(start) {
        Entry::Occupied(mut older) => {
            let before = older.get().memory_bytes();
            older.get_mut().merge(&cell);
            older.get().memory_bytes().saturating_sub(before)
        }
        Entry::Vacant(place) => {
            let bytes = CELL_BYTES + cell.memory_bytes();
            place.insert(cell);
            bytes
        }
    }
}

/// Sums of neighbouring cells by the window of a length that they are in.
fn coarsen<'a>(cells: impl Iterator<Item = (&'a i64, &'a Cell)>, width: Width) -> Vec<(i64, Cell)> {
    let mut coarse: Vec<(i64, Cell)> = Vec::new();
    for (start, cell) in cells {
        let start = floor(*start, width.micros());
        match coarse.last_mut() {
            Some((last, sum)) if *last == start => sum.merge(cell),
            _ => coarse.push((start, cell.clone())),
        }
    }
    coarse
}

struct Run<'a, A> {
    deltas: &'a mut Deltas,
    columns: &'a Columns<'a>,
    receive_time: i64,
    options: &'a RollupOptions,
    admission: &'a mut A,
}

impl<A: Admit> Run<'_, A> {
    /// Changes the cell of a key in the window of a time.
    fn change(&mut self, rollup: Rollup, parts: &[Option<&str>], time: i64, change: impl FnOnce(&mut Cell)) {
        let Self { deltas, receive_time, options, admission, .. } = self;
        let mut key = std::mem::take(&mut deltas.key);
        key.clear();
        key::write_prefix(&mut key, rollup, parts);
        if !admission.admits(rollup, &key, time, *receive_time, options.series_max) {
            key.clear();
            key::write_prefix(&mut key, rollup, &vec![Some(OTHER); parts.len()]);
        }
        let start = floor(time, Width::TenSeconds.micros());
        if let Some(cell) = deltas.series.get_mut(key.as_slice()).and_then(|cells| cells.get_mut(&start)) {
            let before = cell.memory_bytes();
            change(cell);
            deltas.memory_bytes += cell.memory_bytes().saturating_sub(before);
        } else {
            let mut cell = Cell::new(rollup);
            change(&mut cell);
            deltas.memory_bytes += CELL_BYTES + cell.memory_bytes();
            if !deltas.series.contains_key(key.as_slice()) {
                deltas.memory_bytes += SERIES_BYTES + key.len();
            }
            deltas.series.entry(key.clone().into_boxed_slice()).or_default().insert(start, cell);
        }
        deltas.key = key;
    }

    fn logs(&mut self) {
        let columns = self.columns;
        let Some(times) = columns.times("event_time") else { return };
        let [service, version, route] = ["service", "service_version", "http_route"].map(|name| columns.text(name));
        let [class, method, path, user, message] =
            ["severity_class", "http_method", "http_path", "user_id", "message"].map(|name| columns.text(name));
        let [duration, bytes] = ["duration_us", "response_bytes"].map(|name| columns.int64(name));
        let status = columns.int32("http_status");
        let mut error = Vec::new();
        for (row, &time) in times.iter().enumerate() {
            let parts = [text(service, row), text(version, row), text(route, row)];
            let class = text(class, row);
            let duration = duration.and_then(|column| valid(column, row).map(|column| column.value(row)));
            let size = bytes.and_then(|column| valid(column, row).map(|column| column.value(row)));
            let is_request = duration.is_some()
                || status.is_some_and(|column| column.is_valid(row))
                || text(method, row).is_some()
                || text(path, row).is_some();
            let threshold = self.options.apdex_threshold;
            self.change(Rollup::Requests, &parts, time, |cell| {
                if let Cell::Requests(cell) = cell {
                    count_request(cell, class, is_request, duration, size, threshold);
                }
            });
            self.user(text(user, row), parts[0], time);
            if let Some(route) = parts[2] {
                self.top("route", route.as_bytes(), time);
            }
            if class == Some("error")
                && let Some(message) = text(message, row)
            {
                error.clear();
                if let Some(service) = parts[0] {
                    error.extend_from_slice(service.as_bytes());
                    error.extend_from_slice(b": ");
                }
                signature::write_template(&mut error, message);
                self.top("error", &error, time);
            }
        }
    }

    fn user(&mut self, user: Option<&str>, service: Option<&str>, time: i64) {
        let Some(user) = user else { return };
        for scope in [None, service].into_iter().take(1 + usize::from(service.is_some())) {
            self.change(Rollup::Users, &[scope], time, |cell| {
                if let Cell::Users(users) = cell {
                    users.add(user.as_bytes());
                }
            });
        }
        self.top("user", user.as_bytes(), time);
    }

    fn top(&mut self, dimension: &str, value: &[u8], time: i64) {
        self.change(Rollup::Top, &[Some(dimension)], time, |cell| {
            if let Cell::Top(top) = cell {
                top.add(value, 1);
            }
        });
    }

    fn activity(&mut self) {
        let columns = self.columns;
        let Some(times) = columns.times("event_time") else { return };
        let [name, segment, country] = ["event_name", "user_segment", "country"].map(|name| columns.text(name));
        let [user, service, route] = ["user_id", "service", "page_route"].map(|name| columns.text(name));
        for (row, &time) in times.iter().enumerate() {
            let user = text(user, row);
            let parts = [text(name, row), text(segment, row), text(country, row)];
            self.change(Rollup::Activity, &parts, time, |cell| {
                if let Cell::Activity(Activity { count, users }) = cell {
                    *count = count.saturating_add(1);
                    if let Some(user) = user {
                        users.add(user.as_bytes());
                    }
                }
            });
            self.user(user, text(service, row), time);
            if let Some(route) = text(route, row) {
                self.top("route", route.as_bytes(), time);
            }
        }
    }

    fn metrics(&mut self) {
        let columns = self.columns;
        let Some(times) = columns.times("event_time") else { return };
        let [name, service, host] = ["metric_name", "service", "host"].map(|name| columns.text(name));
        let points = Points::new(columns);
        let mut series = String::new();
        for (row, &time) in times.iter().enumerate() {
            points.series(row, &mut series);
            let parts =
                [text(name, row), text(service, row), text(host, row), (!series.is_empty()).then_some(series.as_str())];
            self.change(Rollup::Metrics, &parts, time, |cell| {
                if let Cell::Metric(cell) = cell {
                    points.add(cell, row, time);
                }
            });
        }
    }
}

fn count_request(
    cell: &mut Requests,
    class: Option<&str>,
    is_request: bool,
    duration: Option<i64>,
    bytes: Option<i64>,
    threshold: i64,
) {
    cell.count += 1;
    cell.error_count += u64::from(class == Some("error"));
    cell.warning_count += u64::from(class == Some("warning"));
    cell.request_count += u64::from(is_request);
    cell.bytes = cell.bytes.saturating_add(bytes.map_or(0, |bytes| bytes.max(0) as u64));
    if let Some(duration) = duration {
        cell.latency.add(duration as f64);
        cell.satisfied_count += u64::from(duration <= threshold);
        cell.tolerating_count += u64::from(duration > threshold && duration <= threshold.saturating_mul(4));
    }
}

/// How the names of attributes start that tell of a single data point, not of its series.
const OF_POINT: &str = "otel.";
/// Longest text of a series' attributes; longer ones are cut, and a hash of the whole tells them apart.
const SERIES_TEXT_MAX: usize = 200;
/// A larger histogram has its further buckets counted at the last one's bound.
const BUCKETS_MAX: usize = 1_000;

/// Columns of data points.
struct Points<'a> {
    kind: Option<&'a StringArray>,
    temporality: Option<&'a StringArray>,
    value: Option<&'a Float64Array>,
    value_int: Option<&'a Int64Array>,
    count: Option<&'a Int64Array>,
    sum: Option<&'a Float64Array>,
    min: Option<&'a Float64Array>,
    max: Option<&'a Float64Array>,
    bucket_counts: Option<&'a ListArray>,
    explicit_bounds: Option<&'a ListArray>,
    scale: Option<&'a Int32Array>,
    zero_count: Option<&'a Int64Array>,
    positive_offset: Option<&'a Int32Array>,
    positive_counts: Option<&'a ListArray>,
    negative_counts: Option<&'a ListArray>,
    attributes: Option<&'a MapArray>,
}

impl<'a> Points<'a> {
    fn new(columns: &Columns<'a>) -> Self {
        Self {
            kind: columns.text("metric_type"),
            temporality: columns.text("temporality"),
            value: columns.float("value"),
            value_int: columns.int64("value_int"),
            count: columns.int64("count"),
            sum: columns.float("sum"),
            min: columns.float("min"),
            max: columns.float("max"),
            bucket_counts: columns.list("bucket_counts"),
            explicit_bounds: columns.list("explicit_bounds"),
            scale: columns.int32("scale"),
            zero_count: columns.int64("zero_count"),
            positive_offset: columns.int32("positive_offset"),
            positive_counts: columns.list("positive_counts"),
            negative_counts: columns.list("negative_counts"),
            attributes: columns.map("attributes"),
        }
    }

    /// The point's attributes as `name=value,…` in the order of names.
    fn series(&self, row: usize, out: &mut String) {
        out.clear();
        let Some(map) = self.attributes.filter(|map| map.is_valid(row)) else { return };
        let entries = map.value(row);
        let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
        let mut pairs: Vec<(&str, &str)> =
            (0..entries.len()).filter(|&at| values.is_valid(at)).map(|at| (keys.value(at), values.value(at))).collect();
        pairs.retain(|(name, _)| !name.starts_with(OF_POINT));
        pairs.sort_unstable();
        for (name, value) in pairs {
            out.extend([if out.is_empty() { "" } else { "," }, name, "=", value]);
        }
        if out.len() > SERIES_TEXT_MAX {
            let hash = xxhash_rust::xxh3::xxh3_64(out.as_bytes());
            out.truncate(out.floor_char_boundary(SERIES_TEXT_MAX));
            out.push_str(&format!("…{hash:016x}"));
        }
    }

    fn add(&self, cell: &mut Metric, row: usize, time: i64) {
        let float = |column: Option<&Float64Array>| column.and_then(|column| valid(column, row)).map(|c| c.value(row));
        let int = |column: Option<&Int64Array>| column.and_then(|column| valid(column, row)).map(|c| c.value(row));
        if let Some(value) = float(self.value).or_else(|| int(self.value_int).map(|value| value as f64)) {
            cell.add_value(time, value);
            return;
        }
        let count = int(self.count).unwrap_or(0).max(0) as u64;
        let sum = float(self.sum);
        let distribution = match text(self.kind, row) {
            Some("histogram") => self.explicit_histogram(row, count),
            Some("exponential_histogram") => self.exponential_histogram(row),
            Some("summary") => Sketch::default(),
            _ => return cell.add_value(time, f64::NAN),
        };
        // A summary counts since the start of its process, as a cumulative histogram does.
        let is_delta = text(self.temporality, row) == Some("delta");
        if is_delta {
            cell.add_histogram(count, sum, (float(self.min), float(self.max)), &distribution);
        } else {
            cell.add_snapshot(Snapshot { time, count, sum: sum.unwrap_or(0.0), distribution });
        }
    }

    /// Each bucket's values count as the geometric middle of its bounds; the last bucket's as its lower bound.
    fn explicit_histogram(&self, row: usize, count: u64) -> Sketch {
        let mut sketch = Sketch::default();
        let (Some(counts), Some(bounds)) = (list(self.bucket_counts, row), list(self.explicit_bounds, row)) else {
            sketch.add_times(0.0, count);
            return sketch;
        };
        let (counts, bounds) = (counts.as_primitive::<Int64Type>(), bounds.as_primitive::<Float64Type>());
        for at in 0..counts.len().min(BUCKETS_MAX) {
            let low = if at == 0 || bounds.is_empty() { 0.0 } else { bounds.value((at - 1).min(bounds.len() - 1)) };
            let high = if at < bounds.len() { bounds.value(at) } else { low };
            let middle = if low > 0.0 { (low * high).sqrt() } else { high / 2.0 };
            sketch.add_times(middle, counts.value(at).max(0) as u64);
        }
        sketch
    }

    /// Source: OpenTelemetry data model, 'ExponentialHistogram': bucket i holds (base^i, base^(i+1)] with base =
    /// 2^(2^−scale). Negative values count as zero, as in the sketch itself.
    fn exponential_histogram(&self, row: usize) -> Sketch {
        let mut sketch = Sketch::default();
        let int =
            |column: Option<&Int32Array>| column.and_then(|column| valid(column, row)).map_or(0, |c| c.value(row));
        let base = 2f64.powf(2f64.powi(-int(self.scale).clamp(-10, 20)));
        let zero = self.zero_count.and_then(|column| valid(column, row)).map_or(0, |column| column.value(row));
        sketch.add_times(0.0, zero.max(0) as u64);
        if let Some(counts) = list(self.positive_counts, row) {
            let counts = counts.as_primitive::<Int64Type>();
            let offset = int(self.positive_offset);
            for (at, &count) in counts.values().iter().take(BUCKETS_MAX).enumerate() {
                let middle = 2.0 * base.powi(offset.saturating_add(at as i32 + 1)) / (base + 1.0);
                sketch.add_times(middle, count.max(0) as u64);
            }
        }
        if let Some(counts) = list(self.negative_counts, row) {
            let below: i64 = counts.as_primitive::<Int64Type>().values().iter().map(|count| (*count).max(0)).sum();
            sketch.add_times(0.0, below.max(0) as u64);
        }
        sketch
    }
}

fn list(column: Option<&ListArray>, row: usize) -> Option<arrow_array::ArrayRef> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row))
}

fn valid<T: Array>(column: &T, row: usize) -> Option<&T> {
    column.is_valid(row).then_some(column)
}

/// Text of a row; an empty one is none.
pub(crate) fn text(column: Option<&StringArray>, row: usize) -> Option<&str> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row)).filter(|text| !text.is_empty())
}

/// Columns that rollups read of a table; a batch with these alone is counted alike.
#[must_use]
pub const fn columns_read(table: Table) -> &'static [&'static str] {
    match table {
        Table::Logs => &[
            "event_time",
            "service",
            "service_version",
            "http_route",
            "severity_class",
            "http_method",
            "http_path",
            "user_id",
            "message",
            "duration_us",
            "response_bytes",
            "http_status",
        ],
        Table::Metrics => &[
            "event_time",
            "metric_name",
            "service",
            "host",
            "metric_type",
            "temporality",
            "value",
            "value_int",
            "count",
            "sum",
            "min",
            "max",
            "bucket_counts",
            "explicit_bounds",
            "scale",
            "zero_count",
            "positive_offset",
            "positive_counts",
            "negative_counts",
            "attributes",
        ],
        Table::Activity => &["event_time", "event_name", "user_segment", "country", "user_id", "service", "page_route"],
        Table::DeadLetters => &[],
    }
}

/// The columns of a batch by name; one that is absent or of another type is `None`.
pub(crate) struct Columns<'a> {
    pub(crate) batch: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    pub(crate) fn text(&self, name: &str) -> Option<&'a StringArray> {
        self.batch.column_by_name(name)?.as_string_opt()
    }

    pub(crate) fn times(&self, name: &str) -> Option<&'a [i64]> {
        let times = self.batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()?;
        Some(times.values())
    }

    pub(crate) fn int64(&self, name: &str) -> Option<&'a Int64Array> {
        self.batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()
    }

    pub(crate) fn int32(&self, name: &str) -> Option<&'a Int32Array> {
        self.batch.column_by_name(name)?.as_primitive_opt::<Int32Type>()
    }

    fn float(&self, name: &str) -> Option<&'a Float64Array> {
        self.batch.column_by_name(name)?.as_primitive_opt::<Float64Type>()
    }

    fn list(&self, name: &str) -> Option<&'a ListArray> {
        self.batch.column_by_name(name)?.as_list_opt()
    }

    fn map(&self, name: &str) -> Option<&'a MapArray> {
        self.batch.column_by_name(name)?.as_map_opt()
    }
}
