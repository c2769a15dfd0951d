//! Rows as the Storage Write API takes them: Arrow record batches in requests below its limit.
//!
//! For: types of BigQuery, the columns that say what flush a row came by, an order that a repeated flush has again, and
//! splitting. Not for: sending.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Int64Array, MapArray, RecordBatch, StringArray, StringBuilder, UInt32Array};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow_ord::sort::{SortColumn, lexsort_to_indices};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use bytes::Bytes;
use sawlog_core::bigquery::{self, is_json};
use sawlog_core::schema::Table;
use sawlog_seams::Position;
use sawlog_seams::warehouse::TableSpec;

use super::schema::FLUSH_COLUMNS;

/// Most bytes of the rows of a request; the service takes 10 MB of all of it, of which the schema has some thousands.
pub(super) const REQUEST_BYTES_MAX: usize = 9_950_000;
/// Bytes that a request is planned with. What turns out to be more is halved when it is sent.
const REQUEST_BYTES: usize = 9_000_000;
/// Rows whose size is estimated together.
const PIECE_ROWS: usize = 1_024;
/// Bytes of a row in JSON around its values.
const JSON_ROW_BYTES: usize = 64;

/// The form of the rows of a table in BigQuery.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    spec: TableSpec,
    schema: SchemaRef,
    is_ordered: bool,
}

impl Encoder {
    pub(super) fn new(spec: TableSpec) -> Self {
        let mut fields: Vec<Field> = spec.schema.fields().iter().map(|field| bigquery::field(field)).collect();
        let [(writer, _), (position, _), (row, _)] = FLUSH_COLUMNS;
        fields.push(Field::new(writer, DataType::Utf8, true));
        fields.push(Field::new(position, DataType::Int64, true));
        fields.push(Field::new(row, DataType::Int64, true));
        // Events come in the order of the event log; panes and verdicts come from maps.
        let is_ordered = Table::ALL.into_iter().any(|table| table.name() == spec.name);
        Self { spec, schema: Arc::new(Schema::new(fields)), is_ordered }
    }

    /// The schema as a writer announces it.
    pub(super) fn schema_message(&self) -> Result<Bytes, ArrowError> {
        let writer = StreamWriter::try_new(Vec::new(), &self.schema)?;
        Ok(Bytes::from(writer.get_ref().clone()))
    }

    /// The rows of a flush, in an order that a repeated flush has again.
    pub(super) fn rows(
        &self,
        batches: &[RecordBatch],
        writer: &str,
        position: Position,
    ) -> Result<FlushRows, ArrowError> {
        let batches: Vec<RecordBatch> = match self.is_ordered {
            true => batches.iter().filter(|batch| batch.num_rows() > 0).cloned().collect(),
            false => vec![sorted(&concat_batches(&self.spec.schema, batches)?)?],
        };
        let starts = batches.iter().scan(0, |end, batch| {
            *end += batch.num_rows();
            Some(*end - batch.num_rows())
        });
        Ok(FlushRows {
            encoder: self.clone(),
            starts: starts.collect(),
            count: batches.iter().map(RecordBatch::num_rows).sum(),
            batches: batches.into(),
            writer: writer.into(),
            position: i64::try_from(position.0).unwrap_or(i64::MAX),
        })
    }

    /// The schema of rows in the form of BigQuery.
    pub(super) const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows in the form of BigQuery, with what says where they came by.
    pub(super) fn complete(
        &self,
        rows: &RecordBatch,
        writer: &str,
        position: i64,
        places: impl Iterator<Item = i64>,
    ) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<ArrayRef> = rows.columns().iter().map(as_bigquery).collect::<Result<_, _>>()?;
        let schema = &self.spec.schema;
        for (map, types) in bigquery::TYPED_MAPS {
            if let (Ok(map), Ok(types)) = (schema.index_of(map), schema.index_of(types)) {
                columns[types] = bigquery::letters(rows.column(map).as_map(), rows.column(types).as_string());
            }
        }
        columns.push(Arc::new(StringArray::from(vec![writer; rows.num_rows()])));
        columns.push(Arc::new(Int64Array::from(vec![position; rows.num_rows()])));
        columns.push(Arc::new(Int64Array::from_iter_values(places)));
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }

    fn message(&self, rows: &RecordBatch) -> Result<Bytes, ArrowError> {
        let mut writer = StreamWriter::try_new(Vec::new(), &self.schema)?;
        let header = writer.get_ref().len();
        writer.write(rows)?;
        let end = writer.get_ref().len();
        Ok(Bytes::from(writer.into_inner()?).slice(header..end))
    }
}

/// The rows of a flush of one table. A part of them at a time is brought into the form of BigQuery, so that a flush takes the
/// memory of a request and not its own once more.
#[derive(Clone, Debug)]
pub(super) struct FlushRows {
    encoder: Encoder,
    batches: Arc<[RecordBatch]>,
    /// Place of the first row of each batch.
    starts: Arc<[usize]>,
    count: usize,
    writer: Arc<str>,
    position: i64,
}

impl FlushRows {
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Rows at some places, in ascending order, with what says where they came by.
    pub(super) fn take(&self, places: &[usize]) -> Result<RecordBatch, ArrowError> {
        let mut parts = Vec::new();
        for (batch, start) in self.batches.iter().zip(self.starts.iter()) {
            let from = places.partition_point(|place| place < start);
            let until = places.partition_point(|place| *place < start + batch.num_rows());
            let of_batch = &places[from..until];
            let (Some(first), Some(last)) = (of_batch.first(), of_batch.last()) else { continue };
            if last - first + 1 == of_batch.len() {
                parts.push(batch.slice(first - start, of_batch.len()));
            } else {
                let indices = of_batch.iter().map(|place| u32::try_from(place - start).unwrap_or(u32::MAX));
                parts.push(take_record_batch(batch, &UInt32Array::from_iter_values(indices))?);
            }
        }
        let rows = match &parts[..] {
            [only] => only.clone(),
            _ => concat_batches(&self.encoder.spec.schema, &parts)?,
        };
        self.encoder.complete(&rows, &self.writer, self.position, places.iter().map(|place| *place as i64))
    }

    /// Rows at some places as one record batch message.
    pub(super) fn message(&self, places: &[usize]) -> Result<Bytes, ArrowError> {
        self.encoder.message(&self.take(places)?)
    }

    /// How many rows each request has, so that each is about as large as it may be.
    pub(super) fn plan(&self) -> Vec<usize> {
        let (mut counts, mut rows, mut bytes) = (Vec::new(), 0, 0);
        for batch in self.batches.iter() {
            let mut start = 0;
            while start < batch.num_rows() {
                let mut piece = batch.slice(start, PIECE_ROWS.min(batch.num_rows() - start));
                let mut size = self.bytes_of(&piece);
                while size > REQUEST_BYTES / 4 && piece.num_rows() > 1 {
                    piece = piece.slice(0, piece.num_rows() / 2);
                    size = self.bytes_of(&piece);
                }
                if rows > 0 && bytes + size > REQUEST_BYTES {
                    counts.push(rows);
                    (rows, bytes) = (0, 0);
                }
                (rows, bytes) = (rows + piece.num_rows(), bytes + size);
                start += piece.num_rows();
            }
        }
        counts.extend(Some(rows).filter(|rows| *rows > 0));
        counts
    }

    /// About how many bytes rows have in a request.
    fn bytes_of(&self, rows: &RecordBatch) -> usize {
        let slice_bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
        let of_column = |column: &ArrayRef| match column.data_type() {
            DataType::Map(..) => json_bytes(column.as_map()),
            nested if is_json(nested) => 2 * slice_bytes(column) + JSON_ROW_BYTES * column.len(),
            DataType::Int32 => 2 * slice_bytes(column),
            _ => slice_bytes(column),
        };
        let columns: usize = rows.columns().iter().map(of_column).sum();
        columns + rows.num_rows() * (self.writer.len() + 3 * size_of::<i64>())
    }

    /// The least and the greatest value of the column of the rows' times, microseconds; `None` without rows.
    pub(super) fn times(&self) -> Option<(i64, i64)> {
        let columns = self.batches.iter().filter_map(|batch| batch.column_by_name(self.encoder.spec.time));
        let times = columns.map(|column| column.as_primitive::<TimestampMicrosecondType>());
        let ends = times.filter_map(|times| Some((min(times)?, max(times)?)));
        ends.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
    }
}

/// Sorted by all columns that have an order: rows that are equal in all of them are alike.
fn sorted(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let has_order = |column: &&ArrayRef| !column.data_type().is_nested();
    let columns: Vec<SortColumn> = rows
        .columns()
        .iter()
        .filter(has_order)
        .map(|column| SortColumn { values: Arc::clone(column), options: None })
        .collect();
    let order: UInt32Array = lexsort_to_indices(&columns, None)?;
    take_record_batch(rows, &order)
}

fn as_bigquery(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match bigquery::column(column)? {
        Some(column) => Ok(column),
        None => as_json(column),
    }
}

/// Each value as JSON, by Arrow's names of its fields.
fn as_json(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    const NAME: &str = "value";
    let mut lines = Vec::new();
    let mut writer = arrow::json::LineDelimitedWriter::new(&mut lines);
    writer.write(&RecordBatch::try_from_iter([(NAME, Arc::clone(column))])?)?;
    writer.finish()?;
    let mut values = StringBuilder::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let object: serde_json::Value =
            serde_json::from_slice(line).map_err(|error| ArrowError::JsonError(error.to_string()))?;
        values.append_option(object.get(NAME).map(serde_json::Value::to_string));
    }
    Ok(Arc::new(values.finish()))
}

/// Bytes of maps as JSON objects.
fn json_bytes(maps: &MapArray) -> usize {
    let text = |value: &str| {
        let escaped = value.bytes().map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
            0..0x20 => 6,
            _ => 1,
        });
        escaped.sum::<usize>() + 4
    };
    let (keys, values) = (maps.keys().as_string::<i32>(), maps.values().as_string::<i32>());
    let offsets = maps.value_offsets();
    let entries = offsets[0] as usize..offsets[maps.len()] as usize;
    let bytes = entries.map(|entry| text(keys.value(entry)) + text(values.value(entry)));
    bytes.sum::<usize>() + maps.len() * 8
}

#[cfg(test)]
mod tests {
    use sawlog_seams::contract::warehouse::rows;
    use sawlog_seams::warehouse::{ANOMALY_TABLE, TableSpec};

    use super::*;

    fn encoder(name: &str) -> Encoder {
        Encoder::new(TableSpec::all().into_iter().find(|spec| spec.name == name).expect("a table"))
    }

    fn named(table: &str, names: &[&str]) -> Vec<RecordBatch> {
        vec![rows(table, &names.iter().map(|name| ((*name).to_owned(), 20_000)).collect::<Vec<_>>())]
    }

    #[test]
    fn maps_become_objects_and_counts_have_64_bits() {
        let encoder = encoder("logs");
        let rows = encoder.rows(&named("logs", &["a"]), "w", Position(7)).expect("rows");
        let encoded = rows.take(&[0]).expect("a row");
        let column = |name: &str| Arc::clone(encoded.column_by_name(name).expect("a column"));
        assert!(column("attributes").as_string::<i32>().value(0).starts_with("{}"));
        assert_eq!(column("http_status").data_type(), &DataType::Int64);
        assert_eq!(column("flush_position").as_primitive::<arrow::datatypes::Int64Type>().value(0), 7);
        assert!(rows.message(&[0]).expect("a message").len() > 100);
    }

    #[test]
    fn rows_that_come_from_maps_have_one_order() {
        let encoder = encoder(ANOMALY_TABLE);
        let rows = |names: &[&str]| {
            let rows = encoder.rows(&named(ANOMALY_TABLE, names), "w", Position(7)).expect("rows");
            rows.take(&[0, 1, 2]).expect("rows")
        };
        assert_eq!(rows(&["b", "a", "c"]), rows(&["c", "b", "a"]));
    }

    #[test]
    fn rows_are_found_across_batches() {
        let batches = [named("logs", &["a", "b", "c"]), vec![], named("logs", &["d", "e"])].concat();
        let rows = encoder("logs").rows(&batches, "w", Position(7)).expect("rows");
        let taken = rows.take(&[0, 2, 3]).expect("rows");
        let sources: Vec<_> = taken.column_by_name("source").expect("a column").as_string::<i32>().iter().collect();
        assert_eq!(sources, [Some("a"), Some("c"), Some("d")]);
        let places = taken.column_by_name("flush_row").expect("a column");
        assert_eq!(places.as_primitive::<arrow::datatypes::Int64Type>().values(), &[0, 2, 3]);
        assert_eq!(rows.count(), 5);
    }

    #[test]
    fn requests_are_nearly_full_and_stay_below_the_limit() {
        let encoder = encoder("dead_letters");
        let large = "x".repeat(350_000);
        let names = [large.as_str(), &large, &large, "small", "small"];
        let many: Vec<RecordBatch> = (0..40).flat_map(|_| named("dead_letters", &["text \"quoted\""; 700])).collect();
        let batches = [named("dead_letters", &names), many].concat();
        let rows = encoder.rows(&batches, "w", Position(7)).expect("rows");
        let counts = rows.plan();
        assert_eq!(counts.iter().sum::<usize>(), rows.count());
        let mut start = 0;
        let sizes = counts.iter().map(|count| {
            let places: Vec<usize> = (start..start + count).collect();
            start += count;
            rows.message(&places).expect("a message").len()
        });
        let sizes: Vec<usize> = sizes.collect();
        assert!(sizes.iter().all(|size| *size <= REQUEST_BYTES_MAX), "{sizes:?}");
        assert!(sizes[1..sizes.len() - 1].iter().all(|size| *size >= REQUEST_BYTES / 2), "{sizes:?}");
    }
}
