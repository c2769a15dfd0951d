//! Rollup cells as SQL tables.
//!
//! For: `rollup_requests_1m` and `rollup_metrics_1m`, read from the serving store with the cells in memory merged onto
//! them. Not for: rollups of other widths or windows.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use sawlog_core::rollup::{self, MetricPoints, Requests};
use sawlog_core::rowkey::{self, KeyKind};
use sawlog_core::schema::time_type;
use sawlog_seams::serving::Family;
use sawlog_seams::view::View;

/// A rollup table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RollupTable {
    Requests,
    Metrics,
}

impl RollupTable {
    pub(crate) const ALL: [Self; 2] = [Self::Requests, Self::Metrics];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "rollup_requests_1m",
            Self::Metrics => "rollup_metrics_1m",
        }
    }

    const fn kind(self) -> KeyKind {
        match self {
            Self::Requests => KeyKind::Requests,
            Self::Metrics => KeyKind::Metric,
        }
    }

    pub(crate) fn schema(self) -> SchemaRef {
        static REQUESTS: LazyLock<SchemaRef> = LazyLock::new(|| {
            let mut fields = vec![
                Field::new("minute", time_type(), false),
                Field::new("service", DataType::Utf8, true),
                Field::new("severity_class", DataType::Utf8, true),
                Field::new("http_route", DataType::Utf8, true),
            ];
            fields.extend(
                ["count", "error_count", "bytes", "duration_count"]
                    .map(|name| Field::new(name, DataType::Int64, false)),
            );
            fields.extend(QUANTILES.map(|(name, _)| Field::new(name, DataType::Float64, true)));
            fields.push(Field::new("latency", DataType::Binary, true));
            Arc::new(Schema::new(fields))
        });
        static METRICS: LazyLock<SchemaRef> = LazyLock::new(|| {
            let mut fields = vec![
                Field::new("minute", time_type(), false),
                Field::new("metric_name", DataType::Utf8, true),
                Field::new("service", DataType::Utf8, true),
                Field::new("host", DataType::Utf8, true),
                Field::new("count", DataType::Int64, false),
            ];
            fields.extend(["sum", "min", "max", "last"].map(|name| Field::new(name, DataType::Float64, false)));
            Arc::new(Schema::new(fields))
        });
        match self {
            Self::Requests => Arc::clone(&REQUESTS),
            Self::Metrics => Arc::clone(&METRICS),
        }
    }

    /// All rows of the table.
    pub(crate) fn rows(self, view: &View) -> Result<RecordBatch> {
        let cells = merged_cells(self.kind(), view)?;
        match self {
            Self::Requests => requests_rows(self.schema(), &cells),
            Self::Metrics => metrics_rows(self.schema(), &cells),
        }
    }
}

const QUANTILES: [(&str, f64); 4] =
    [("duration_p50_us", 0.5), ("duration_p90_us", 0.9), ("duration_p99_us", 0.99), ("duration_p999_us", 0.999)];

type Cells = BTreeMap<Vec<u8>, Vec<u8>>;

fn failed(error: impl std::fmt::Display) -> DataFusionError {
    DataFusionError::Execution(error.to_string())
}

fn merged_cells(kind: KeyKind, view: &View) -> Result<Cells> {
    let (start, end) = rowkey::range_of(kind);
    let mut cells: Cells = view.serving.scan(Family::Rollup, &start, Some(&end)).map_err(failed)?.into_iter().collect();
    for hot in &view.hot_rollups {
        for (key, newer) in hot.cells().into_iter().filter(|(key, _)| key.first() == Some(&kind.byte())) {
            let value = match cells.get(&key) {
                Some(older) => rollup::merge(&key, older, &newer).map_err(failed)?,
                None => newer,
            };
            cells.insert(key, value);
        }
    }
    Ok(cells)
}

fn requests_rows(schema: SchemaRef, cells: &Cells) -> Result<RecordBatch> {
    let mut minute = TimestampMicrosecondBuilder::new();
    let mut texts: [StringBuilder; 3] = Default::default();
    let mut counts: [Int64Builder; 4] = Default::default();
    let mut quantiles: [Float64Builder; 4] = Default::default();
    let mut latency = BinaryBuilder::new();
    for (key, value) in cells {
        let key = rollup::requests_key(key).ok_or_else(|| failed("a rollup key cannot be read"))?;
        let cell = Requests::from_bytes(value).map_err(failed)?;
        minute.append_value(key.time);
        texts.iter_mut().zip(&key.parts).for_each(|(column, part)| column.append_option(part.as_deref()));
        let numbers = [cell.count, cell.error_count, cell.bytes, cell.latency.count()];
        counts.iter_mut().zip(numbers).for_each(|(column, number)| column.append_value(number as i64));
        for (column, (_, quantile)) in quantiles.iter_mut().zip(QUANTILES) {
            column.append_option(cell.latency.quantile(quantile));
        }
        latency.append_option((cell.latency.count() > 0).then(|| cell.latency.to_bytes()));
    }
    let mut columns: Vec<ArrayRef> = vec![Arc::new(minute.finish().with_timezone("UTC"))];
    columns.extend(texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    columns.extend(counts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    columns.extend(quantiles.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    columns.push(Arc::new(latency.finish()));
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn metrics_rows(schema: SchemaRef, cells: &Cells) -> Result<RecordBatch> {
    let mut minute = TimestampMicrosecondBuilder::new();
    let mut texts: [StringBuilder; 3] = Default::default();
    let mut count = Int64Builder::new();
    let mut values: [Float64Builder; 4] = Default::default();
    for (key, value) in cells {
        let key = rollup::metric_key(key).ok_or_else(|| failed("a rollup key cannot be read"))?;
        let cell = MetricPoints::from_bytes(value).map_err(failed)?;
        minute.append_value(key.time);
        texts.iter_mut().zip(&key.parts).for_each(|(column, part)| column.append_option(part.as_deref()));
        count.append_value(cell.count as i64);
        let numbers = [cell.sum, cell.min, cell.max, cell.last];
        values.iter_mut().zip(numbers).for_each(|(column, number)| column.append_value(number));
    }
    let mut columns: Vec<ArrayRef> = vec![Arc::new(minute.finish().with_timezone("UTC"))];
    columns.extend(texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    columns.push(Arc::new(count.finish()));
    columns.extend(values.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    Ok(RecordBatch::try_new(schema, columns)?)
}
