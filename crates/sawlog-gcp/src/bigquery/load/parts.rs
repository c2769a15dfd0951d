//! Rows of files as Parquet objects for BigQuery, each small enough for one request.
//!
//! For: bounded memory, whatever a file has. Not for: reading the files (`sawlog_seams::stored_rows`) or types
//! ([`super::super::rows`]).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow_select::filter::filter_record_batch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use sawlog_seams::stored_rows::StoredRows;
use sawlog_seams::warehouse::StoredTable;
use tokio::sync::mpsc;

use super::super::rows::Encoder;
use super::error::LoadError;

/// Bytes from which on an object is complete: with the rows that are written at a time it stays below what Cloud Storage
/// takes in one conditional request.
const PART_BYTES: usize = 40 << 20;
/// Memory of rows that are not compressed yet, at which they are.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// The files of a group, and what its rows are marked with.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) stored: Arc<StoredTable>,
    /// Places of the files in the table.
    pub(super) files: Vec<usize>,
    /// Times of the rows, UTC microseconds, where not all rows of the files are wanted.
    pub(super) times: Option<Range<i64>>,
    pub(super) writer: String,
    /// Number of the group.
    pub(super) number: u64,
}

/// Writes the rows of a group as objects and hands each over. Returns how many rows there are. Holds its thread.
pub(super) fn write(tables: &dyn StoredRows, group: &Group, parts: &mpsc::Sender<Bytes>) -> Result<u64, LoadError> {
    let mut writing = Writing { encoder: Encoder::new(group.stored.spec.clone()), group, rows: 0, open: None, parts };
    for &file in &group.files {
        for rows in tables.rows_of(&group.stored, file)? {
            writing.add(&rows?)?;
        }
    }
    writing.finish()?;
    Ok(writing.rows)
}

struct Writing<'a> {
    encoder: Encoder,
    group: &'a Group,
    /// Rows so far, in all objects.
    rows: u64,
    open: Option<ArrowWriter<Vec<u8>>>,
    parts: &'a mpsc::Sender<Bytes>,
}

impl Writing<'_> {
    fn add(&mut self, rows: &RecordBatch) -> Result<(), LoadError> {
        let rows = match &self.group.times {
            Some(times) => &within(rows, self.group.stored.spec.time, times)?,
            None => rows,
        };
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let places = self.rows..self.rows + rows.num_rows() as u64;
        self.rows = places.end;
        let number = i64::try_from(self.group.number).unwrap_or(i64::MAX);
        let places = places.map(|place| i64::try_from(place).unwrap_or(i64::MAX));
        let rows = self.encoder.complete(rows, &self.group.writer, number, places)?;
        let writer = match &mut self.open {
            Some(writer) => writer,
            none => none.insert(writer(&self.encoder)?),
        };
        writer.write(&rows)?;
        if writer.memory_size() > ROW_GROUP_BYTES {
            writer.flush()?;
        }
        match writer.bytes_written() + writer.in_progress_size() > PART_BYTES {
            true => self.finish(),
            false => Ok(()),
        }
    }

    /// Completes the object that is open.
    fn finish(&mut self) -> Result<(), LoadError> {
        let Some(writer) = self.open.take() else { return Ok(()) };
        let part = Bytes::from(writer.into_inner()?);
        self.parts.blocking_send(part).map_err(|_| LoadError::Encode("nobody takes its objects any more".to_owned()))
    }
}

fn writer(encoder: &Encoder) -> Result<ArrowWriter<Vec<u8>>, LoadError> {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(concat!("sawlog ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    // BigQuery reads Parquet's own types.
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    Ok(ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(encoder.schema()), options)?)
}

/// The rows whose time is within a range.
fn within(rows: &RecordBatch, time: &str, times: &Range<i64>) -> Result<RecordBatch, LoadError> {
    let column = rows.column_by_name(time);
    let column = column.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let column = column.ok_or_else(|| LoadError::Encode(format!("there are no times in column {time:?}")))?;
    let chosen: BooleanArray = column.values().iter().map(|time| Some(times.contains(time))).collect();
    Ok(filter_record_batch(rows, &chosen)?)
}

#[cfg(test)]
mod tests {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use sawlog_seams::contract::warehouse::rows;
    use sawlog_seams::warehouse::{LEDGER_TABLE, MemoryWarehouse, Warehouse};
    use sawlog_seams::{Position, SeededRng};

    use super::*;

    const DAY_MICROS: i64 = 86_400_000_000;
    /// What Cloud Storage takes in one conditional request.
    const REQUEST_BYTES: usize = 64 << 20;

    /// Objects of all files of a table, as they are written.
    async fn objects(tables: MemoryWarehouse, table: &str, times: Option<Range<i64>>) -> (u64, Vec<Bytes>) {
        let stored = tables.stored(table).expect("a table");
        let files = (0..stored.files.len()).collect();
        let group = Group { stored, files, times, writer: "load/r".to_owned(), number: 7 };
        let (sender, mut parts) = mpsc::channel(1);
        let writing = tokio::task::spawn_blocking(move || write(&tables, &group, &sender));
        let mut objects = Vec::new();
        while let Some(part) = parts.recv().await {
            objects.push(part);
        }
        (writing.await.expect("a thread").expect("written"), objects)
    }

    /// The places of the rows of an object in their group.
    fn places(object: &Bytes) -> Vec<i64> {
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(object.clone()).expect("Parquet").build().expect("a reader");
        let of_batch = |rows: RecordBatch| {
            let column = |name: &str| {
                let column = rows.column_by_name(name).expect("a column");
                column.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
            };
            assert!(column("flush_position").iter().all(|number| *number == 7));
            column("flush_row")
        };
        reader.flat_map(|rows| of_batch(rows.expect("rows"))).collect()
    }

    #[tokio::test]
    async fn only_rows_of_the_wanted_times_become_objects() {
        let tables = MemoryWarehouse::default();
        let days = [20_000, 20_001, 20_002, 20_001].map(|day| ("a".to_owned(), day));
        tables.append(LEDGER_TABLE, vec![rows(LEDGER_TABLE, &days)], Position(1)).await.expect("appended");
        let day = 20_001 * DAY_MICROS;
        let (rows, objects) = objects(tables, LEDGER_TABLE, Some(day..day + DAY_MICROS)).await;
        assert_eq!((rows, objects.len(), places(&objects[0])), (2, 1, vec![0, 1]));
    }

    #[tokio::test]
    async fn objects_stay_below_a_request_whatever_rows_are_like() {
        let tables = MemoryWarehouse::default();
        let mut chance = SeededRng::new(1);
        for position in 1..=12 {
            let text: String = (0..65_536).map(|_| format!("{:016x}", chance.below(u64::MAX))).collect();
            let row = rows("dead_letters", &[(text, 20_000)]);
            tables.append("dead_letters", vec![row], Position(position)).await.expect("appended");
        }
        let (rows, objects) = objects(tables, "dead_letters", None).await;
        let sizes: Vec<usize> = objects.iter().map(Bytes::len).collect();
        assert!(sizes.len() > 1 && sizes.iter().all(|size| *size < REQUEST_BYTES), "{sizes:?}");
        let all: Vec<i64> = objects.iter().flat_map(places).collect();
        assert_eq!((rows, all), (12, (0..12).collect()));
    }
}
