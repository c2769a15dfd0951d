//! Raw records as rows of the lake, and back.
//!
//! For: the records of bodies as received, one row each, in the schema of [`crate::schema::lake_schema`], and what becomes of
//! such rows when they are transformed again, here or in another runtime. Not for: files and folders. Invariant: the rows of a
//! body are transformed as the body is, whichever of them are read together, but for repeats, which are found among those.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, BooleanBuilder, Int32Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{ArrowError, DataType};

use crate::batch::{self, AgeLimits, Context, Format, RawBatch, RecordSpan, SplitError};
use crate::rules::Rules;
use crate::schema::{self, time_type};
use crate::transform::{Body, TransformError, Transformed, is_alone, transform_bodies};

/// The records of bodies, in their order; a body without records has no rows.
///
/// # Errors
/// When one of the bodies cannot be split into records at all.
pub fn rows(batches: &[RawBatch<'_>]) -> Result<RecordBatch, TransformError> {
    let (mut batch_id, mut record_index) = (StringBuilder::new(), Int32Builder::new());
    let mut receive_time = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let (mut source, mut format, mut file) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let body_bytes = batches.iter().map(|one| one.body.len()).sum();
    let (mut context, mut payload) = (BinaryBuilder::new(), BinaryBuilder::with_capacity(0, body_bytes));
    let mut is_declared = BooleanBuilder::new();
    for one in batches {
        let spans = batch::split(one.format, one.body)?;
        let mut place = Place::default();
        for (index, span) in spans.iter().enumerate() {
            batch_id.append_value(one.batch_id);
            record_index.append_value(index as i32);
            receive_time.append_value(one.receive_time);
            source.append_value(one.source);
            format.append_value(one.format.name());
            context.append_option(place.context(one, &spans, index));
            payload.append_value(&one.body[span.record.clone()]);
            file.append_option(one.file);
            is_declared.append_value(one.is_declared);
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(batch_id.finish()),
        Arc::new(record_index.finish()),
        Arc::new(receive_time.finish()),
        Arc::new(source.finish()),
        Arc::new(format.finish()),
        Arc::new(context.finish()),
        Arc::new(payload.finish()),
        Arc::new(file.finish()),
        Arc::new(is_declared.finish()),
    ];
    Ok(RecordBatch::try_new(schema::lake_schema(), columns)?)
}

/// Where a record stands in its message.
#[derive(Default)]
struct Place {
    last: Option<Arc<Context>>,
    count: u32,
}

impl Place {
    /// The bytes of a record's context, if it has one.
    fn context(&mut self, raw: &RawBatch<'_>, spans: &[RecordSpan], index: usize) -> Option<Vec<u8>> {
        let context = spans[index].context.as_ref()?;
        let is_same = self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, context));
        self.count = if is_same { self.count + 1 } else { 0 };
        self.last = Some(Arc::clone(context));
        let place = (raw.format == Format::Pubsub && !is_alone(spans, index)).then_some(self.count);
        Some(batch::context_bytes(raw.format, raw.body, context, place))
    }
}

/// Transforms records of the lake. `rows` has the columns of [`crate::schema::lake_schema`] by name; rows of older builds lack
/// the last two.
///
/// # Errors
/// When a column is missing or of another type, or a row is none that Sawlog wrote.
pub fn transform(rows: &RecordBatch, age: AgeLimits, rules: &Rules) -> Result<Transformed, TransformError> {
    let columns = Columns::of(rows)?;
    let mut text = Vec::with_capacity(columns.payload.value_data().len());
    let stretches = columns.stretches(&mut text)?;
    let bodies: Vec<Body<'_>> = stretches
        .into_iter()
        .map(|Stretch { first, format, spans, indices }| Body {
            raw: RawBatch {
                batch_id: columns.batch_id.value(first),
                source: columns.source.value(first),
                file: columns.file_of(first),
                format,
                is_declared: columns.is_declared(first),
                receive_time: columns.receive_time.value(first),
                age,
                body: &text,
            },
            spans,
            indices: Some(indices),
        })
        .collect();
    transform_bodies(&bodies, rules)
}

/// Neighbouring rows of one body.
struct Stretch {
    /// Its first row.
    first: usize,
    format: Format,
    spans: Vec<RecordSpan>,
    indices: Vec<i32>,
}

struct Columns<'a> {
    batch_id: &'a StringArray,
    record_index: &'a Int32Array,
    receive_time: &'a TimestampMicrosecondArray,
    source: &'a StringArray,
    format: &'a StringArray,
    context: &'a BinaryArray,
    payload: &'a BinaryArray,
    file: Option<&'a StringArray>,
    is_declared: Option<&'a BooleanArray>,
}

impl<'a> Columns<'a> {
    fn of(rows: &'a RecordBatch) -> Result<Self, ArrowError> {
        let column = |name: &str, wanted: DataType| {
            let column = rows.column_by_name(name);
            let column = column.ok_or_else(|| ArrowError::SchemaError(format!("there is no column {name}")))?;
            if *column.data_type() == wanted {
                return Ok(column);
            }
            Err(ArrowError::SchemaError(format!("column {name} is {}, not {wanted}", column.data_type())))
        };
        let optional = |name: &str, wanted: DataType| match rows.column_by_name(name) {
            Some(_) => column(name, wanted).map(Some),
            None => Ok(None),
        };
        let text = |name: &str| column(name, DataType::Utf8).map(|column| column.as_string::<i32>());
        let bytes = |name: &str| column(name, DataType::Binary).map(|column| column.as_binary::<i32>());
        Ok(Self {
            batch_id: text("batch_id")?,
            record_index: column("record_index", DataType::Int32)?.as_primitive::<Int32Type>(),
            receive_time: column("receive_time", time_type())?.as_primitive::<TimestampMicrosecondType>(),
            source: text("source")?,
            format: text("format")?,
            context: bytes("context")?,
            payload: bytes("payload")?,
            file: optional("file", DataType::Utf8)?.map(|column| column.as_string::<i32>()),
            is_declared: optional("is_declared", DataType::Boolean)?.map(|column| column.as_boolean()),
        })
    }

    fn file_of(&self, row: usize) -> Option<&'a str> {
        self.file.filter(|file| file.is_valid(row)).map(|file| file.value(row))
    }

    fn is_declared(&self, row: usize) -> bool {
        self.is_declared.filter(|declared| declared.is_valid(row)).is_none_or(|declared| declared.value(row))
    }

    fn is_of_one_body(&self, row: usize, next: usize) -> bool {
        self.batch_id.value(row) == self.batch_id.value(next)
            && self.receive_time.value(row) == self.receive_time.value(next)
            && self.source.value(row) == self.source.value(next)
            && self.format.value(row) == self.format.value(next)
            && self.file_of(row) == self.file_of(next)
            && self.is_declared(row) == self.is_declared(next)
    }

    /// The rows by body; contexts and payloads are appended to `text`, where spans find them.
    fn stretches(&self, text: &mut Vec<u8>) -> Result<Vec<Stretch>, SplitError> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for row in 0..self.payload.len() {
            let is_next = row > 0 && self.is_of_one_body(row - 1, row);
            if !is_next {
                let format = Format::from_name(self.format.value(row));
                let format = format.ok_or_else(|| broken("format", row))?;
                stretches.push(Stretch { first: row, format, spans: Vec::new(), indices: Vec::new() });
            }
            let Some(stretch) = stretches.last_mut() else { continue };
            let context =
                self.context_of(row, is_next.then(|| stretch.spans.last()).flatten(), stretch.format, text)?;
            let start = text.len();
            text.extend_from_slice(self.payload.value(row));
            stretch.spans.push(RecordSpan { record: start..text.len(), context });
            stretch.indices.push(self.record_index.value(row));
        }
        Ok(stretches)
    }

    /// The context of a row: that of the row before it where their bytes are the same. Messages are not shared: rows of one
    /// message know their place, and two messages may say the same.
    fn context_of(
        &self,
        row: usize,
        before: Option<&RecordSpan>,
        format: Format,
        text: &mut Vec<u8>,
    ) -> Result<Option<Arc<Context>>, SplitError> {
        if self.context.is_null(row) {
            return Ok(None);
        }
        let bytes = self.context.value(row);
        if let Some(before) = before
            && format != Format::Pubsub
            && self.context.is_valid(row - 1)
            && self.context.value(row - 1) == bytes
        {
            return Ok(before.context.clone());
        }
        let context = batch::read_context(format, bytes, text).ok_or_else(|| broken("context", row))?;
        Ok(Some(Arc::new(context)))
    }
}

fn broken(column: &str, row: usize) -> SplitError {
    let problem = format!("column {column} of row {row} is none that Sawlog wrote");
    SplitError::Syntax { format: "lake", problem, byte_offset: 0 }
}

#[cfg(test)]
mod tests {
    use arrow_select::concat::concat_batches;

    use super::*;
    use crate::ledger::{Counts, Outcome};
    use crate::pubsub::{Message, body_of_messages};
    use crate::schema::Table;
    use crate::shown;

    fn through_lake(batches: &[RawBatch<'_>]) -> Transformed {
        transform(&rows(batches).expect("bodies can be split"), AgeLimits::default(), &Rules::none()).expect("rows")
    }

    #[test]
    fn many_batches_give_the_rows_of_each_one_after_the_other() {
        let data = b"{\"metric\":\"m\",\"value\":1}\n{broken";
        let message = |message_id| Message { data, message_id, publish_time: shown::RECEIVED, ..Message::default() };
        let messages = ["1", "2"].map(|id| body_of_messages([message(id)]));
        let json = "{\"message\":\"a\"}\n{\"event\":\"e\",\"user_id\":\"u\"}\n";
        let (ours, theirs) = (shown::batch(Format::Json, "ours", json), shown::batch(Format::Text, "theirs", "x\ny"));
        let of_messages = |batch_id, body| RawBatch { batch_id, body, format: Format::Pubsub, ..ours };
        let batches = [
            of_messages("m1", &messages[0]),
            ours,
            RawBatch { batch_id: "empty", body: b"", ..ours },
            RawBatch { file: Some("f"), receive_time: ours.receive_time + 1, ..theirs },
            of_messages("m2", &messages[1]),
        ];
        let together = through_lake(&batches);
        let alone = batches.map(|batch| crate::transform::transform(&batch, &Rules::none()).expect("a body"));
        for table in Table::ALL {
            let expected = alone.iter().map(|one| &one.tables[table as usize]);
            let expected = concat_batches(&table.schema(), expected).expect("one schema");
            assert_eq!(together.tables[table as usize], expected, "{}", table.name());
        }
        let outcomes: Vec<_> = alone.iter().flat_map(|one| one.outcomes.clone()).collect();
        assert_eq!(together.outcomes, outcomes);
        let places: Vec<_> = together.ids.iter().map(|id| (id.row, id.record_index)).collect();
        assert_eq!(places, [(0, 0), (1, 6)]);
        assert_eq!(together.problems.iter().map(|problem| problem.record_index).collect::<Vec<_>>(), [1, 7]);
        assert!(together.counts.closes() && together.counts.received == 8, "{:?}", together.counts);
        assert_eq!(through_lake(&[]).counts, Counts::default());
    }

    #[test]
    fn a_repeat_in_another_batch_is_a_duplicate() {
        let one = shown::batch(Format::Json, "s", r#"{"insert_id":"1"}"#);
        let rows = through_lake(&[one, one]);
        assert_eq!(rows.outcomes, [Outcome::Stored, Outcome::Duplicate]);
    }

    #[test]
    fn two_deliveries_of_one_message_are_one_message_each() {
        let message = Message { data: b"a\nb", message_id: "m", publish_time: shown::RECEIVED, ..Message::default() };
        let body = body_of_messages([message.clone(), message]);
        let one = RawBatch { format: Format::Pubsub, body: &body, ..shown::batch(Format::Text, "s", "") };
        let rows = through_lake(&[one]);
        assert_eq!(rows.outcomes, [Outcome::Stored, Outcome::Stored, Outcome::Duplicate, Outcome::Duplicate]);
    }

    #[test]
    fn rows_of_older_builds_and_rows_that_are_none() {
        let whole = rows(&[shown::batch(Format::Json, "s", "{}")]).expect("a body");
        let older = whole.project(&[0, 1, 2, 3, 4, 5, 6]).expect("columns");
        let run = |rows: &RecordBatch| transform(rows, AgeLimits::default(), &Rules::none());
        assert_eq!(run(&older).expect("rows").counts.stored, 1);
        assert!(run(&whole.project(&[0, 1, 2, 3, 4, 5]).expect("columns")).is_err());
        let with = |place: usize, column: ArrayRef| {
            let mut columns = whole.columns().to_vec();
            columns[place] = column;
            RecordBatch::try_new(whole.schema(), columns).expect("a batch")
        };
        for (place, column) in [
            (4, Arc::new(StringArray::from(vec!["none"])) as ArrayRef),
            (5, Arc::new(BinaryArray::from_iter_values([b"\x63"]))),
        ] {
            let error = run(&with(place, column)).expect_err("no such row").to_string();
            assert!(error.contains("row 0 is none that Sawlog wrote"), "{error}");
        }
    }
}
