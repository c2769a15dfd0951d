//! Rollups per minute, as mergeable cells.
//!
//! For: counts, errors, bytes and latencies of log records, and count, sum, min, max and last of metrics. Not for:
//! when a minute is complete (windows) or where cells are kept. Cell values have a version and merge in any order.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch, StringArray};

use crate::rowkey::{self, KeyKind, RowKey};
use crate::schema::Table;
use crate::sketch::Sketch;
use crate::varint;

const VERSION: u8 = 1;
const MINUTE: i64 = 60_000_000;

/// Requests of one minute × service × severity class × route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Log records.
    pub count: u64,
    /// Log records of class `error`.
    pub error_count: u64,
    /// Sum of the response bytes.
    pub bytes: u64,
    /// Durations in microseconds.
    pub latency: Sketch,
}

/// A metric in one minute × name × service × host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricPoints {
    /// Data points.
    pub count: u64,
    /// Sum of their values.
    pub sum: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Value with the latest time.
    pub last: f64,
    /// That time, UTC microseconds.
    pub last_time: i64,
}

/// Bytes that are no rollup cell.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no rollup cell of version {VERSION}")]
pub struct CellError;

impl Requests {
    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.error_count = self.error_count.saturating_add(other.error_count);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.latency.merge(&other.latency);
    }

    /// The cell's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for number in [self.count, self.error_count, self.bytes] {
            varint::write(&mut out, number);
        }
        self.latency.write_to(&mut out);
        out
    }

    /// Reads a cell.
    ///
    /// # Errors
    /// When the bytes are no such cell.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CellError> {
        let mut rest = bytes.strip_prefix(&[VERSION]).ok_or(CellError)?;
        let mut number = || varint::read(&mut rest).ok_or(CellError);
        let (count, error_count, bytes) = (number()?, number()?, number()?);
        let latency = Sketch::read_from(&mut rest).map_err(|_| CellError)?;
        Ok(Self { count, error_count, bytes, latency })
    }
}

impl MetricPoints {
    fn one(value: f64, time: i64) -> Self {
        Self { count: 1, sum: value, min: value, max: value, last: value, last_time: time }
    }

    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.last_time >= self.last_time {
            self.last = other.last;
            self.last_time = other.last_time;
        }
    }

    /// The cell's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint::write(&mut out, self.count);
        for number in [self.sum, self.min, self.max, self.last] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        varint::write_signed(&mut out, self.last_time);
        out
    }

    /// Reads a cell.
    ///
    /// # Errors
    /// When the bytes are no such cell.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CellError> {
        let mut rest = bytes.strip_prefix(&[VERSION]).ok_or(CellError)?;
        let count = varint::read(&mut rest).ok_or(CellError)?;
        let mut float = || {
            let (bytes, tail) = rest.split_first_chunk::<8>().ok_or(CellError)?;
            rest = tail;
            Ok(f64::from_le_bytes(*bytes))
        };
        let (sum, min, max, last) = (float()?, float()?, float()?, float()?);
        let last_time = varint::read_signed(&mut rest).ok_or(CellError)?;
        Ok(Self { count, sum, min, max, last, last_time })
    }
}

/// Merges two values of one key, of which `newer` came later.
///
/// # Errors
/// When key or bytes are no rollup cell.
pub fn merge(key: &[u8], older: &[u8], newer: &[u8]) -> Result<Vec<u8>, CellError> {
    match key.first() {
        Some(&kind) if kind == KeyKind::Requests.byte() => {
            let mut cell = Requests::from_bytes(older)?;
            cell.merge(&Requests::from_bytes(newer)?);
            Ok(cell.to_bytes())
        }
        Some(&kind) if kind == KeyKind::Metric.byte() => {
            let mut cell = MetricPoints::from_bytes(older)?;
            cell.merge(&MetricPoints::from_bytes(newer)?);
            Ok(cell.to_bytes())
        }
        _ => Err(CellError),
    }
}

/// Reads the key of a requests cell: service, severity class, route.
#[must_use]
pub fn requests_key(key: &[u8]) -> Option<RowKey> {
    rowkey::decode(key, KeyKind::Requests, 3)
}

/// Reads the key of a metric cell: name, service, host.
#[must_use]
pub fn metric_key(key: &[u8]) -> Option<RowKey> {
    rowkey::decode(key, KeyKind::Metric, 3)
}

/// Cells under construction.
#[derive(Debug, Default)]
pub struct Rollups {
    requests: HashMap<Vec<u8>, Requests>,
    metrics: HashMap<Vec<u8>, MetricPoints>,
    key: Vec<u8>,
}

impl Rollups {
    /// Counts the rows of a batch; tables without a rollup are passed over.
    pub fn add(&mut self, table: Table, batch: &RecordBatch) {
        match table {
            Table::Logs => self.add_logs(batch),
            Table::Metrics => self.add_metrics(batch),
            Table::Activity | Table::DeadLetters => {}
        }
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.metrics.is_empty()
    }

    /// Keys and values of all cells, in no particular order.
    pub fn cells(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        let requests = self.requests.iter().map(|(key, cell)| (key.clone(), cell.to_bytes()));
        requests.chain(self.metrics.iter().map(|(key, cell)| (key.clone(), cell.to_bytes())))
    }

    fn add_logs(&mut self, batch: &RecordBatch) {
        let columns = Columns { batch };
        let (Some(times), Some(service), Some(class), Some(route)) = (
            columns.times("event_time"),
            columns.text("service"),
            columns.text("severity_class"),
            columns.text("http_route"),
        ) else {
            return;
        };
        let durations = batch.column_by_name("duration_us").map(|column| column.as_primitive::<Int64Type>());
        let sizes = batch.column_by_name("response_bytes").map(|column| column.as_primitive::<Int64Type>());
        let number = |column: Option<&arrow_array::Int64Array>, row: usize| {
            column.filter(|column| column.is_valid(row)).map(|column| column.value(row))
        };
        for (row, &time) in times.iter().enumerate() {
            let parts = [value(service, row), value(class, row), value(route, row)];
            self.key.clear();
            rowkey::encode(&mut self.key, KeyKind::Requests, &parts, minute_of(time));
            if !self.requests.contains_key(&self.key) {
                self.requests.insert(self.key.clone(), Requests::default());
            }
            let Some(cell) = self.requests.get_mut(&self.key) else { continue };
            cell.count += 1;
            cell.error_count += u64::from(parts[1] == Some("error"));
            let bytes = number(sizes, row).map_or(0, |bytes| bytes.max(0) as u64);
            cell.bytes = cell.bytes.saturating_add(bytes);
            if let Some(duration) = number(durations, row) {
                cell.latency.add(duration as f64);
            }
        }
    }

    fn add_metrics(&mut self, batch: &RecordBatch) {
        let columns = Columns { batch };
        let (Some(times), Some(name), Some(service), Some(host)) =
            (columns.times("event_time"), columns.text("metric_name"), columns.text("service"), columns.text("host"))
        else {
            return;
        };
        let Some(values) = batch.column_by_name("value").map(|column| column.as_primitive::<Float64Type>()) else {
            return;
        };
        for (row, &time) in times.iter().enumerate() {
            if values.is_null(row) {
                continue;
            }
            let point = MetricPoints::one(values.value(row), time);
            let parts = [value(name, row), value(service, row), value(host, row)];
            self.key.clear();
            rowkey::encode(&mut self.key, KeyKind::Metric, &parts, minute_of(time));
            match self.metrics.get_mut(&self.key) {
                Some(cell) => cell.merge(&point),
                None => {
                    self.metrics.insert(self.key.clone(), point);
                }
            }
        }
    }
}

fn minute_of(time: i64) -> i64 {
    time.div_euclid(MINUTE) * MINUTE
}

fn value(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row)).filter(|text| !text.is_empty())
}

struct Columns<'a> {
    batch: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    fn text(&self, name: &str) -> Option<&'a StringArray> {
        self.batch.column_by_name(name)?.as_string_opt()
    }

    fn times(&self, name: &str) -> Option<&'a [i64]> {
        let times = self.batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()?;
        Some(times.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{AgeLimits, Format, RawBatch};
    use crate::rules::Rules;

    fn rollups_of(body: &str) -> HashMap<Vec<u8>, Vec<u8>> {
        let batch = RawBatch {
            batch_id: "b",
            source: "test",
            file: None,
            format: Format::Json,
            is_declared: true,
            receive_time: 1_795_489_200_000_000,
            age: AgeLimits::default(),
            body: body.as_bytes(),
        };
        let rows = crate::transform::transform(&batch, &Rules::none()).expect("a batch");
        let mut rollups = Rollups::default();
        for table in Table::ALL {
            rollups.add(table, &rows.tables[table as usize]);
        }
        rollups.cells().collect()
    }

    #[test]
    fn parts_merge_to_what_the_whole_gives() {
        let first = "{\"service\":\"a\",\"level\":\"error\",\"path\":\"/x/1\",\"duration_ms\":5,\"bytes\":7}\n";
        let second = "{\"service\":\"a\",\"level\":\"error\",\"path\":\"/x/2\",\"duration_ms\":9}\n";
        let whole = rollups_of(&[first, second].concat());
        let (one, two) = (rollups_of(first), rollups_of(second));
        assert_eq!(whole.len(), 1);
        for (key, value) in &whole {
            assert_eq!(&merge(key, &one[key], &two[key]).expect("cells"), value);
            let cell = Requests::from_bytes(value).expect("a cell");
            assert_eq!((cell.count, cell.error_count, cell.bytes, cell.latency.count()), (2, 2, 7, 2));
            let key = requests_key(key).expect("a key");
            assert_eq!(key.parts, [Some("a".to_owned()), Some("error".to_owned()), Some("/x/{id}".to_owned())]);
        }
    }

    #[test]
    fn sizes_that_no_sum_can_hold_end_at_the_maximum() {
        let line = format!("{{\"service\":\"a\",\"bytes\":{}}}\n", i64::MAX);
        let cells = rollups_of(&line.repeat(3));
        let cell = Requests::from_bytes(cells.values().next().expect("one cell")).expect("a cell");
        assert_eq!((cell.count, cell.bytes), (3, u64::MAX));
    }

    #[test]
    fn a_metric_keeps_count_sum_extremes_and_the_last_value() {
        let cells = rollups_of(
            "{\"metric\":\"cpu\",\"value\":3,\"host\":\"h\",\"ts\":1795489199}\n{\"metric\":\"cpu\",\"value\":1,\"host\":\"h\",\"ts\":1795489198}",
        );
        let (key, value) = cells.iter().next().expect("one cell");
        let cell = MetricPoints::from_bytes(value).expect("a cell");
        assert_eq!((cell.count, cell.sum, cell.min, cell.max, cell.last), (2, 4.0, 1.0, 3.0, 3.0));
        assert_eq!(metric_key(key).expect("a key").parts[0].as_deref(), Some("cpu"));
    }
}
