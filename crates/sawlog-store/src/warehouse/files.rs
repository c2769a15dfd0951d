//! Writing the Parquet files of one append.
//!
//! For: splitting rows by partition, clustering them by the table's key, and compressing them with statistics and
//! bloom filters. Not for: the commit that makes them part of the table. File names carry the log position, so that a
//! repeated flush overwrites its own leftovers instead of adding to them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Date32Type, TimestampMicrosecondType};
use deltalake_core::kernel::Add;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sawlog_core::time;
use sawlog_seams::Position;
use sawlog_seams::warehouse::TableSpec;

use super::order::clustered;

/// Rows in a row group: the unit that statistics and bloom filters can skip.
const ROW_GROUP_ROWS: usize = 128 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Files of one append that are written at the same time. Most of the time goes into waiting for syncs, which a file
/// system does together when they come together, so that this is more than there are cores.
const WRITERS_MAX: usize = 16;

/// Writes the rows below the table's root and returns what the commit must add. When this returns, the files and their
/// names are durable.
pub(crate) fn write(
    spec: &TableSpec,
    root: &Path,
    rows: &[RecordBatch],
    position: Position,
) -> Result<Vec<Add>, WriteError> {
    let all = concat_batches(&spec.schema, rows)?;
    let name = file_name(position);
    let Some(partition) = spec.partition else {
        let sorted = clustered(&all, (0..all.num_rows() as u32).collect(), spec.clustering)?;
        let add = write_file(spec, root, &name, &sorted, None)?;
        return Ok(vec![add]);
    };
    let partition_index = spec.schema.index_of(partition)?;
    let days = rows_by_day(&all, partition_index);
    for (day, _) in &days {
        fs::create_dir_all(root.join(folder_of(partition, *day)))?;
    }
    let write_day = |(day, chosen): (i32, Vec<u32>)| {
        let mut sorted = clustered(&all, chosen, spec.clustering)?;
        sorted.remove_column(partition_index);
        let path = format!("{}/{name}", folder_of(partition, day));
        write_file(spec, root, &path, &sorted, Some((partition, date_text(day))))
    };
    let adds = in_parallel(days, &write_day)?;
    File::open(root)?.sync_all()?;
    Ok(adds)
}

/// Runs `work` for every item on a few threads; the results keep the order of the items.
fn in_parallel<I: Send, T: Send>(
    items: Vec<I>,
    work: &(impl Fn(I) -> Result<T, WriteError> + Sync),
) -> Result<Vec<T>, WriteError> {
    if items.len() <= 1 {
        return items.into_iter().map(work).collect();
    }
    let threads = items.len().min(WRITERS_MAX);
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        let mut done = Vec::new();
        while let Some((index, item)) = next() {
            done.push((index, work(item)?));
        }
        Ok::<_, WriteError>(done)
    };
    let mut done = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let mut done = Vec::new();
        for thread in running {
            let finished = thread.join().map_err(|_| std::io::Error::other("a writing thread panicked"))?;
            done.extend(finished?);
        }
        Ok::<_, WriteError>(done)
    })?;
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// The partition value of a file path such as `event_date=2026-11-24/….parquet`, days since the epoch.
pub(crate) fn partition_days(path: &str) -> Option<i32> {
    let date = path.split('/').next()?.split_once('=')?.1;
    let mut parts = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    time::days_from_civil(year, month, day).and_then(|days| i32::try_from(days).ok())
}

pub(super) fn date_text(days: i32) -> String {
    let (year, month, day) = time::civil_from_days(i64::from(days));
    format!("{year:04}-{month:02}-{day:02}")
}

pub(super) fn folder_of(partition: &str, days: i32) -> String {
    format!("{partition}={}", date_text(days))
}

fn file_name(position: Position) -> String {
    format!("part-{:020}.zstd.parquet", position.0)
}

/// The rows of each day, in the order in which they came; days in order.
fn rows_by_day(rows: &RecordBatch, column: usize) -> Vec<(i32, Vec<u32>)> {
    let days = rows.column(column).as_primitive::<Date32Type>().values();
    let mut by_day: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for (row, day) in days.iter().enumerate() {
        by_day.entry(*day).or_default().push(row as u32);
    }
    by_day.into_iter().collect()
}

fn write_file(
    spec: &TableSpec,
    root: &Path,
    path: &str,
    rows: &RecordBatch,
    partition: Option<(&str, String)>,
) -> Result<Add, WriteError> {
    let target = root.join(path);
    let mut writer = ArrowWriter::try_new(File::create(&target)?, rows.schema(), Some(properties(spec)))?;
    writer.write(rows)?;
    let file = writer.into_inner()?;
    let mut statistics = Statistics::default();
    statistics.add(rows);
    finish_file(root, path, &file, partition, &statistics)
}

/// Syncs a written file and its name, and describes it for the commit.
pub(super) fn finish_file(
    root: &Path,
    path: &str,
    file: &File,
    partition: Option<(&str, String)>,
    statistics: &Statistics,
) -> Result<Add, WriteError> {
    let target = root.join(path);
    file.sync_all()?;
    File::open(target.parent().unwrap_or(root))?.sync_all()?;
    let partition_values = partition.map(|(column, date)| (column.to_owned(), Some(date))).into_iter().collect();
    Ok(Add {
        path: path.to_owned(),
        partition_values,
        size: file.metadata()?.len() as i64,
        modification_time: modification_millis(file)?,
        data_change: true,
        stats: Some(statistics.to_json()),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    })
}

fn modification_millis(file: &File) -> std::io::Result<i64> {
    let modified = file.metadata()?.modified()?;
    Ok(modified.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64))
}

/// Row count, and the range of the time columns: what readers prune files by.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    rows: usize,
    ranges: BTreeMap<String, (i64, i64)>,
}

impl Statistics {
    pub(super) fn add(&mut self, rows: &RecordBatch) {
        self.rows += rows.num_rows();
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() else { continue };
            let (min, max) = (arrow::compute::min(times), arrow::compute::max(times));
            if let (Some(min), Some(max)) = (min, max) {
                let range = self.ranges.entry(field.name().clone()).or_insert((min, max));
                *range = (range.0.min(min), range.1.max(max));
            }
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows as u64
    }

    fn to_json(&self) -> String {
        let side = |pick: fn(&(i64, i64)) -> i64| {
            let values = self.ranges.iter().map(|(name, range)| (name.clone(), time::to_rfc3339(pick(range)).into()));
            values.collect::<serde_json::Map<_, _>>()
        };
        let (min, max) = (side(|range| range.0), side(|range| range.1));
        serde_json::json!({"numRecords": self.rows, "minValues": min, "maxValues": max, "nullCount": {}}).to_string()
    }
}

pub(super) fn properties(spec: &TableSpec) -> WriterProperties {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("sawlog ", env!("CARGO_PKG_VERSION")).to_owned());
    for name in spec.bloom {
        builder = builder
            .set_column_bloom_filter_enabled(ColumnPath::from(*name), true)
            .set_column_dictionary_enabled(ColumnPath::from(*name), false);
    }
    for field in spec.schema.fields() {
        if matches!(field.data_type(), arrow::datatypes::DataType::Timestamp(..)) {
            builder = builder
                .set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), false)
                .set_column_encoding(ColumnPath::from(field.name().as_str()), Encoding::DELTA_BINARY_PACKED);
        }
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_values_are_read_from_paths() {
        assert_eq!(partition_days("event_date=1970-01-02/part.parquet"), Some(1));
        assert_eq!(partition_days(&format!("event_date={}/x", date_text(20_781))), Some(20_781));
        assert_eq!(partition_days("part.parquet"), None);
    }
}
