//! Merging the rows of several files into one.
//!
//! For: reading files that hold one partition, sorting their rows by the table's clustering and writing them to a new
//! file, within a memory budget. Not for: the commit that swaps the files ([`super::upkeep`]).

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{SortColumn, cast, concat, interleave_record_batch, lexsort_to_indices};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use deltalake_core::kernel::Add;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use sawlog_seams::warehouse::{StoredFile, TableSpec};

use super::files::{Statistics, WriteError, date_text, finish_file, folder_of, properties};

/// Rows that are put together at a time.
const CHUNK_ROWS: usize = 8 * 1024;

/// The new file, and how many of the files it takes the place of.
pub(super) struct Merged {
    pub(super) add: Add,
    pub(super) taken: usize,
    /// Rows in it, which are all rows of the files.
    pub(super) rows: u64,
}

/// Merges files of one partition in order, as many as fit into memory. `None` when that are fewer than two.
pub(super) fn merge(
    spec: &TableSpec,
    root: &Path,
    files: &[StoredFile],
    memory_bytes_max: u64,
) -> Result<Option<Merged>, WriteError> {
    let schema = schema_in_files(spec)?;
    if fitting(root, files, memory_bytes_max)? < 2 {
        return Ok(None);
    }
    let (mut batches, mut taken, mut rows) = (Vec::new(), 0, 0);
    let (mut memory, mut encoded) = (0u64, 0u64);
    for file in files {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(root.join(&file.path))?)?;
        let expected = encoded_bytes(reader.metadata());
        // Rows take more room in memory than in pages; how much more, the files read so far tell.
        let growth = (memory / encoded.max(1)).max(1);
        if memory.saturating_add(expected.saturating_mul(growth)) > memory_bytes_max {
            break;
        }
        encoded += expected;
        rows += reader.metadata().file_metadata().num_rows().unsigned_abs();
        for batch in reader.with_batch_size(CHUNK_ROWS).build()? {
            let batch = conform(&batch?, &schema)?;
            memory += batch.get_array_memory_size() as u64;
            batches.push(batch);
        }
        taken += 1;
    }
    if taken < 2 {
        return Ok(None);
    }
    let partition = spec.partition.zip(files[0].partition_days);
    let name = file_name(&files[..taken]);
    let path = match partition {
        Some((column, days)) => format!("{}/{name}", folder_of(column, days)),
        None => name,
    };
    let partition = partition.map(|(column, days)| (column, date_text(days)));
    match write_sorted(spec, root, &path, &batches, partition, rows) {
        Ok(add) => Ok(Some(Merged { add, taken, rows })),
        Err(error) => {
            // Frees the space at once; what stays is an orphan that a sweep finds.
            let _ = fs::remove_file(root.join(&path));
            Err(error)
        }
    }
}

/// Bytes of a file's pages before compression.
fn encoded_bytes(metadata: &ParquetMetaData) -> u64 {
    metadata.row_groups().iter().map(|group| group.total_byte_size().unsigned_abs()).sum()
}

/// How many files may fit into memory, from their footers alone; stops at two, which make a merge.
fn fitting(root: &Path, files: &[StoredFile], memory_bytes_max: u64) -> Result<usize, WriteError> {
    let mut bytes = 0;
    for (count, file) in files.iter().take(2).enumerate() {
        let metadata = ParquetRecordBatchReaderBuilder::try_new(File::open(root.join(&file.path))?)?.metadata().clone();
        bytes += encoded_bytes(&metadata);
        if bytes > memory_bytes_max {
            return Ok(count);
        }
    }
    Ok(files.len().min(2))
}

/// The same files give the same name, so that a repeated try takes the place of its own leftover.
fn file_name(files: &[StoredFile]) -> String {
    let mut hasher = DefaultHasher::new();
    files.iter().for_each(|file| file.path.hash(&mut hasher));
    format!("merged-{}-{:016x}.zstd.parquet", files.len(), hasher.finish())
}

/// Columns as files have them: without the partition column, whose value is in the path.
pub(super) fn schema_in_files(spec: &TableSpec) -> Result<SchemaRef, ArrowError> {
    let Some(partition) = spec.partition else { return Ok(Arc::clone(&spec.schema)) };
    let fields: Vec<_> = spec.schema.fields().iter().filter(|field| field.name() != partition).cloned().collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// Rows with the columns of today: columns that an older build did not write are null.
pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    let unknown = batch.schema().fields().iter().find(|field| schema.field_with_name(field.name()).is_err()).cloned();
    match unknown {
        // Merging would lose it: the file is of a newer build.
        Some(field) => Err(ArrowError::SchemaError(format!("column {:?} is unknown to this build", field.name()))),
        None => RecordBatch::try_new(Arc::clone(schema), columns),
    }
}

fn write_sorted(
    spec: &TableSpec,
    root: &Path,
    path: &str,
    batches: &[RecordBatch],
    partition: Option<(&str, String)>,
    rows_expected: u64,
) -> Result<Add, WriteError> {
    let order = order(spec, batches)?;
    let parts: Vec<&RecordBatch> = batches.iter().collect();
    let target = root.join(path);
    let schema = batches.first().map_or_else(|| Arc::clone(&spec.schema), RecordBatch::schema);
    let mut writer = ArrowWriter::try_new(File::create(&target)?, schema, Some(properties(spec)))?;
    let mut statistics = Statistics::default();
    for chunk in order.chunks(CHUNK_ROWS) {
        let rows = interleave_record_batch(&parts, chunk)?;
        statistics.add(&rows);
        writer.write(&rows)?;
    }
    let file = writer.into_inner()?;
    // What the readers counted is compared with what was written, before anything takes the place of anything.
    assert_eq!(statistics.rows(), rows_expected, "a merge keeps every row: {path}");
    finish_file(root, path, &file, partition, &statistics)
}

/// Batch and row of each row, sorted by the table's clustering. Only those columns are copied.
fn order(spec: &TableSpec, batches: &[RecordBatch]) -> Result<Vec<(usize, usize)>, ArrowError> {
    let places: Vec<(usize, usize)> = batches
        .iter()
        .enumerate()
        .flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row)))
        .collect();
    let mut columns = Vec::new();
    for name in spec.clustering {
        let parts: Vec<&dyn Array> =
            batches.iter().filter_map(|batch| batch.column_by_name(name)).map(AsRef::as_ref).collect();
        if !parts.is_empty() {
            columns.push(SortColumn { values: concat(&parts)?, options: None });
        }
    }
    if columns.is_empty() {
        return Ok(places);
    }
    let sorted = lexsort_to_indices(&columns, None)?;
    Ok(sorted.values().iter().map(|&index| places[index as usize]).collect())
}
