//! Builders that turn records into Arrow batches.
//!
//! For: filling the columns of one table from records, touching only columns that have a value. Not for: choosing
//! the table ([`crate::transform`]). Invariant: all columns of a finished batch have one length; a column that had
//! no value in the last rows is padded with nulls at the end.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType};

use crate::batch::RawBatch;
use crate::record::{AttributeType, Attributes, Record};
use crate::schema::{self, Source, Table};
use crate::transform::Body;

/// Rows of one table under construction.
#[derive(Debug)]
pub(crate) struct Rows {
    table: Table,
    columns: Vec<ColumnBuilder>,
    record_index: Vec<i32>,
    event_date: Vec<i32>,
    row_count: usize,
    /// Rows before the end of each raw batch.
    batch_ends: Vec<usize>,
}

impl Rows {
    pub(crate) fn new(table: Table, row_capacity: usize) -> Self {
        let columns = table.columns().iter().map(|column| ColumnBuilder::new(column.source, row_capacity)).collect();
        Self {
            table,
            columns,
            record_index: Vec::with_capacity(row_capacity),
            event_date: Vec::with_capacity(row_capacity),
            row_count: 0,
            batch_ends: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.row_count
    }

    /// Adds a row. `event_time` is the time whose date partitions the row.
    pub(crate) fn push(&mut self, payload: &[u8], record: &Record, record_index: i32, event_time: i64) {
        let row = self.row_count;
        for (builder, column) in self.columns.iter_mut().zip(self.table.columns()) {
            match column.source {
                Source::Text(slot) => {
                    if let Some(bytes) = record.text_bytes(payload, slot) {
                        builder.bytes(row, bytes);
                    }
                }
                Source::Int32(slot) | Source::Int64(slot) | Source::Bool(slot) => {
                    if let Some(value) = record.int(slot) {
                        builder.int(row, value);
                    }
                }
                Source::Float(slot) => {
                    if let Some(value) = record.float(slot) {
                        builder.float(row, value);
                    }
                }
                Source::Time(slot) => {
                    if let Some(value) = record.time(slot) {
                        builder.int(row, value);
                    }
                }
                Source::I64List(slot) => builder.int_list(row, &record.i64_lists[slot as usize]),
                Source::F64List(slot) => builder.float_list(row, &record.f64_lists[slot as usize]),
                Source::Attributes => builder.map(row, payload, record, &record.attributes),
                Source::Resource => builder.map(row, payload, record, &record.resource),
                Source::AttributeTypes => builder.letters(row, &record.attributes),
                Source::ResourceTypes => builder.letters(row, &record.resource),
                Source::Payload => builder.bytes(row, payload),
                Source::BatchSource
                | Source::BatchFormat
                | Source::BatchFile
                | Source::ReceiveTime
                | Source::RulesVersion
                | Source::BatchId
                | Source::RecordIndex
                | Source::Late
                | Source::EventDate => {}
            }
        }
        self.record_index.push(record_index);
        self.event_date.push(event_time.div_euclid(86_400_000_000) as i32);
        self.row_count += 1;
    }

    /// Says that the next row is of the next raw batch.
    pub(crate) fn end_batch(&mut self) {
        self.batch_ends.push(self.row_count);
    }

    /// The rows as a batch of the table's schema; they are of these bodies.
    ///
    /// # Errors
    /// When text is not UTF-8, which parsers have ruled out, or a required column has a gap.
    pub(crate) fn finish(self, bodies: &[Body<'_>], rules_version: i64) -> Result<RecordBatch, ArrowError> {
        let rows = self.row_count;
        let of_batches = OfBatches { bodies, ends: &self.batch_ends };
        let mut record_index = Some(self.record_index);
        let mut event_date = Some(self.event_date);
        let arrays = self
            .table
            .columns()
            .iter()
            .zip(self.columns)
            .map(|(column, builder)| {
                Ok(match column.source {
                    Source::BatchSource => of_batches.texts(|batch| Some(batch.source)),
                    Source::BatchFormat => of_batches.texts(|batch| Some(batch.format.name())),
                    Source::BatchId => of_batches.texts(|batch| Some(batch.batch_id)),
                    Source::BatchFile => of_batches.texts(|batch| batch.file),
                    Source::ReceiveTime => {
                        let times = of_batches.each(|batch| batch.receive_time).collect::<Vec<_>>();
                        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) as ArrayRef
                    }
                    Source::Late => Arc::new(BooleanArray::from(vec![false; rows])),
                    Source::RulesVersion => Arc::new(Int64Array::from(vec![rules_version; rows])),
                    Source::RecordIndex => Arc::new(Int32Array::from(record_index.take().unwrap_or_default())),
                    Source::EventDate => Arc::new(Date32Array::from(event_date.take().unwrap_or_default())),
                    source => builder.finish(source, rows)?,
                })
            })
            .collect::<Result<Vec<_>, ArrowError>>()?;
        RecordBatch::try_new(self.table.schema(), arrays)
    }
}

/// Columns whose values are the same for all rows of a raw batch.
struct OfBatches<'a> {
    bodies: &'a [Body<'a>],
    /// Rows before the end of each.
    ends: &'a [usize],
}

impl<'a> OfBatches<'a> {
    /// The batches and how many rows each has.
    fn runs(&self) -> impl Iterator<Item = (&'a RawBatch<'a>, usize)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        self.bodies.iter().zip(self.ends.iter().zip(starts)).map(|(body, (end, start))| (&body.raw, end - start))
    }

    /// A value for each row.
    fn each<T: Copy>(&self, value: impl Fn(&'a RawBatch<'a>) -> T) -> impl Iterator<Item = T> {
        self.runs().flat_map(move |(batch, rows)| std::iter::repeat_n(value(batch), rows))
    }

    fn texts(&self, text: impl Fn(&'a RawBatch<'a>) -> Option<&'a str>) -> ArrayRef {
        let (mut values, mut offsets, mut validity) = (Vec::new(), vec![0], Validity::default());
        for (batch, rows) in self.runs() {
            let (start, bytes) = (values.len(), text(batch).unwrap_or_default().as_bytes());
            values.extend_from_slice(&bytes.repeat(rows));
            offsets.extend((1..=rows).map(|row| (start + row * bytes.len()) as i32));
            if text(batch).is_some() {
                validity.mark_until(offsets.len() - 1);
            } else {
                validity.pad(offsets.len() - 1);
            }
        }
        let rows = offsets.len() - 1;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Arc::new(StringArray::new(offsets, Buffer::from_vec(values), validity.finish(rows)))
    }
}

/// Which rows have a value. Bits are kept as bytes while building: rows are few and appends are hot.
#[derive(Debug, Default)]
struct Validity {
    is_valid: Vec<bool>,
    null_count: usize,
}

impl Validity {
    /// Pads with nulls up to `row`, then marks it as present.
    fn mark(&mut self, row: usize) {
        self.pad(row);
        self.is_valid.push(true);
    }

    /// Marks all rows before `row` that are not marked yet as present.
    fn mark_until(&mut self, row: usize) {
        self.is_valid.resize(row, true);
    }

    fn pad(&mut self, row: usize) {
        self.null_count += row - self.is_valid.len();
        self.is_valid.resize(row, false);
    }

    fn finish(mut self, rows: usize) -> Option<NullBuffer> {
        self.pad(rows);
        (self.null_count > 0).then(|| NullBuffer::new(BooleanBuffer::from(self.is_valid)))
    }
}

#[derive(Debug)]
struct BytesBuilder {
    values: Vec<u8>,
    offsets: Vec<i32>,
}

impl BytesBuilder {
    fn with_capacity(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { values: Vec::new(), offsets }
    }

    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn push(&mut self, bytes: &[u8]) {
        self.values.extend_from_slice(bytes);
        self.offsets.push(self.values.len() as i32);
    }

    /// Repeats the last offset until there are `rows` entries.
    fn pad(&mut self, rows: usize) {
        self.offsets.resize(rows + 1, self.values.len() as i32);
    }

    fn finish_text(self, nulls: Option<NullBuffer>) -> Result<StringArray, ArrowError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        StringArray::try_new(offsets, Buffer::from_vec(self.values), nulls)
    }
}

#[derive(Debug)]
enum Values {
    None,
    Bytes(BytesBuilder),
    Int(Vec<i64>),
    Float(Vec<f64>),
    IntList(Vec<i64>, Vec<i32>),
    FloatList(Vec<f64>, Vec<i32>),
    Map { keys: BytesBuilder, values: BytesBuilder, value_validity: Validity, offsets: Vec<i32> },
}

#[derive(Debug)]
struct ColumnBuilder {
    values: Values,
    validity: Validity,
}

impl ColumnBuilder {
    fn new(source: Source, rows: usize) -> Self {
        let values = match source {
            Source::Text(_) | Source::AttributeTypes | Source::ResourceTypes | Source::Payload => {
                Values::Bytes(BytesBuilder::with_capacity(rows))
            }
            Source::Int32(_) | Source::Int64(_) | Source::Bool(_) | Source::Time(_) => Values::Int(Vec::new()),
            Source::Float(_) => Values::Float(Vec::new()),
            Source::I64List(_) => Values::IntList(Vec::new(), vec![0]),
            Source::F64List(_) => Values::FloatList(Vec::new(), vec![0]),
            Source::Attributes | Source::Resource => Values::Map {
                keys: BytesBuilder::with_capacity(rows),
                values: BytesBuilder::with_capacity(rows),
                value_validity: Validity::default(),
                offsets: vec![0],
            },
            _ => Values::None,
        };
        Self { values, validity: Validity::default() }
    }

    fn bytes(&mut self, row: usize, bytes: &[u8]) {
        if let Values::Bytes(builder) = &mut self.values {
            builder.pad(row);
            builder.push(bytes);
            self.validity.mark(row);
        }
    }

    fn int(&mut self, row: usize, value: i64) {
        if let Values::Int(values) = &mut self.values {
            values.resize(row, 0);
            values.push(value);
            self.validity.mark(row);
        }
    }

    fn float(&mut self, row: usize, value: f64) {
        if let Values::Float(values) = &mut self.values {
            values.resize(row, 0.0);
            values.push(value);
            self.validity.mark(row);
        }
    }

    fn int_list(&mut self, row: usize, list: &[i64]) {
        if let Values::IntList(values, offsets) = &mut self.values
            && !list.is_empty()
        {
            offsets.resize(row + 1, values.len() as i32);
            values.extend_from_slice(list);
            offsets.push(values.len() as i32);
            self.validity.mark(row);
        }
    }

    fn float_list(&mut self, row: usize, list: &[f64]) {
        if let Values::FloatList(values, offsets) = &mut self.values
            && !list.is_empty()
        {
            offsets.resize(row + 1, values.len() as i32);
            values.extend_from_slice(list);
            offsets.push(values.len() as i32);
            self.validity.mark(row);
        }
    }

    fn map(&mut self, row: usize, payload: &[u8], record: &Record, attributes: &Attributes) {
        let entries = attributes.entries();
        if entries.is_empty() {
            return;
        }
        if let Values::Map { keys, values, value_validity, offsets } = &mut self.values {
            offsets.resize(row + 1, keys.len() as i32);
            for entry in entries {
                keys.push(record.bytes(payload, entry.key));
                if entry.value.kind == AttributeType::Null {
                    values.pad(keys.len());
                    value_validity.pad(keys.len());
                } else {
                    values.push(record.bytes(payload, entry.value.text));
                    value_validity.mark(keys.len() - 1);
                }
            }
            offsets.push(keys.len() as i32);
            self.validity.mark(row);
        }
    }

    fn letters(&mut self, row: usize, attributes: &Attributes) {
        let entries = attributes.entries();
        if let Values::Bytes(builder) = &mut self.values
            && !entries.is_empty()
        {
            builder.pad(row);
            builder.values.extend(entries.iter().map(|entry| entry.value.kind.letter()));
            builder.offsets.push(builder.values.len() as i32);
            self.validity.mark(row);
        }
    }

    fn finish(self, source: Source, rows: usize) -> Result<ArrayRef, ArrowError> {
        let nulls = self.validity.finish(rows);
        Ok(match self.values {
            Values::None => return Err(ArrowError::SchemaError(format!("{source:?} has no builder"))),
            Values::Bytes(mut builder) => {
                builder.pad(rows);
                if source == Source::Payload {
                    let offsets = OffsetBuffer::new(ScalarBuffer::from(builder.offsets));
                    Arc::new(BinaryArray::try_new(offsets, Buffer::from_vec(builder.values), nulls)?)
                } else {
                    Arc::new(builder.finish_text(nulls)?)
                }
            }
            Values::Int(mut values) => {
                values.resize(rows, 0);
                finish_int(source, values, nulls)
            }
            Values::Float(mut values) => {
                values.resize(rows, 0.0);
                Arc::new(Float64Array::new(ScalarBuffer::from(values), nulls))
            }
            Values::IntList(values, offsets) => {
                let items = Arc::new(Int64Array::from(values)) as ArrayRef;
                finish_list(DataType::Int64, items, offsets, rows, nulls)?
            }
            Values::FloatList(values, offsets) => {
                let items = Arc::new(Float64Array::from(values)) as ArrayRef;
                finish_list(DataType::Float64, items, offsets, rows, nulls)?
            }
            Values::Map { keys, values, value_validity, offsets } => {
                finish_map(keys, values, value_validity, offsets, rows, nulls)?
            }
        })
    }
}

fn finish_int(source: Source, values: Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    match source {
        Source::Int32(_) => {
            // A value past 32 bits would be another number; it becomes null and stays readable in the lake.
            let fits: Vec<Option<i32>> = values
                .iter()
                .enumerate()
                .map(|(row, &value)| {
                    i32::try_from(value).ok().filter(|_| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)))
                })
                .collect();
            Arc::new(Int32Array::from(fits))
        }
        Source::Bool(_) => {
            let bits = BooleanBuffer::from_iter(values.iter().map(|&value| value != 0));
            Arc::new(BooleanArray::new(bits, nulls))
        }
        Source::Time(_) => {
            Arc::new(TimestampMicrosecondArray::new(ScalarBuffer::from(values), nulls).with_timezone("UTC"))
        }
        _ => Arc::new(Int64Array::new(ScalarBuffer::from(values), nulls)),
    }
}

fn pad_offsets(mut offsets: Vec<i32>, rows: usize) -> OffsetBuffer<i32> {
    let end = offsets.last().copied().unwrap_or(0);
    offsets.resize(rows + 1, end);
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

fn finish_list(
    item: DataType,
    items: ArrayRef,
    offsets: Vec<i32>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let list = ListArray::try_new(schema::list_item(item), pad_offsets(offsets, rows), items, nulls)?;
    Ok(Arc::new(list))
}

fn finish_map(
    keys: BytesBuilder,
    mut values: BytesBuilder,
    value_validity: Validity,
    offsets: Vec<i32>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let entry_count = keys.len();
    values.pad(entry_count);
    let entries = StructArray::try_new(
        schema::text_map_entries(),
        vec![
            Arc::new(keys.finish_text(None)?) as ArrayRef,
            Arc::new(values.finish_text(value_validity.finish(entry_count))?) as ArrayRef,
        ],
        None,
    )?;
    let DataType::Map(field, _) = schema::text_map_type() else {
        return Err(ArrowError::SchemaError("the attribute type is a map".to_owned()));
    };
    let map = MapArray::try_new(field, pad_offsets(offsets, rows), entries, nulls, false)?;
    Ok(Arc::new(map))
}
