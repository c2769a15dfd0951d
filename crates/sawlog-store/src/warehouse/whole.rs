//! Reading files whole, the partition column included.
//!
//! For: rows that go somewhere else ([`StoredRows`]). Not for: ranges of times ([`super::read`]) or merging
//! ([`super::merge`]).

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use sawlog_seams::stored_rows::{FileRows, StoredRows, no_file};
use sawlog_seams::warehouse::{StoredTable, TableSpec, WarehouseError};

use super::DeltaWarehouse;
use super::files::WriteError;
use super::merge::{conform, schema_in_files};

/// Rows that are decoded at a time at most.
const CHUNK_ROWS: usize = 8 * 1024;
/// Bytes that rows which are decoded together have in pages, about.
const CHUNK_BYTES: u64 = 8 << 20;

impl StoredRows for DeltaWarehouse {
    fn rows_of(&self, stored: &Arc<StoredTable>, file: usize) -> Result<FileRows, WarehouseError> {
        let table = self.table(stored.spec.name)?;
        if file >= stored.files.len() {
            return Err(no_file(stored, file));
        }
        let name = stored.files[file].path.clone();
        let failed = move |error: &dyn std::error::Error| WarehouseError::Backend {
            table: name.clone(),
            action: "read",
            problem: error.to_string(),
        };
        let open = || -> Result<_, WriteError> {
            let builder =
                ParquetRecordBatchReaderBuilder::try_new(File::open(table.root.join(&stored.files[file].path))?)?;
            let rows = chunk_rows(builder.metadata());
            Ok((builder.with_batch_size(rows).build()?, schema_in_files(&stored.spec)?))
        };
        let (reader, schema) = open().map_err(|error| failed(&error))?;
        let (spec, day) = (stored.spec.clone(), stored.files[file].partition_days);
        Ok(Box::new(reader.map(move |batch| {
            let batch = batch.and_then(|batch| conform(&batch, &schema));
            batch.and_then(|batch| with_partition(&spec, &batch, day)).map_err(|error| failed(&error))
        })))
    }
}

/// As many rows as memory is meant for, by the average of the file.
fn chunk_rows(metadata: &ParquetMetaData) -> usize {
    let bytes: u64 = metadata.row_groups().iter().map(|group| group.total_byte_size().unsigned_abs()).sum();
    let rows = metadata.file_metadata().num_rows().unsigned_abs().max(1);
    let fitting = CHUNK_BYTES / (bytes / rows).max(1);
    usize::try_from(fitting).unwrap_or(CHUNK_ROWS).clamp(1, CHUNK_ROWS)
}

/// Rows with the partition column, which is in the path of a file and not in it.
fn with_partition(
    spec: &TableSpec,
    rows: &RecordBatch,
    day: Option<i32>,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let columns = spec.schema.fields().iter().map(|field| match rows.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => Arc::new(Date32Array::from(vec![day; rows.num_rows()])) as ArrayRef,
    });
    RecordBatch::try_new(Arc::clone(&spec.schema), columns.collect())
}
