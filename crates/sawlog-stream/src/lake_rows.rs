//! Raw records as objects of the lake.
//!
//! For: turning the bodies of a flush into Parquet objects, one for each hour of receive time. Deterministic: the same
//! bodies give the same bytes within a build, so that a repeated flush meets its own objects. Another build may compress
//! or lay out pages differently: its objects are recognized by the records that they hold.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, Int32Array, RecordBatch, StringArray};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use sawlog_core::transform::TransformError;
use sawlog_core::{lake, schema, time};
use sawlog_seams::Position;

use crate::frame::BatchFrame;

const HOUR: i64 = 3_600_000_000;

/// The objects of a flush: key and bytes.
pub(crate) fn objects(
    batches: &[Arc<BatchFrame>],
    positions: &Range<Position>,
) -> Result<Vec<(String, Bytes)>, ParquetError> {
    let mut by_hour: BTreeMap<i64, Vec<&BatchFrame>> = BTreeMap::new();
    for batch in batches {
        by_hour.entry(batch.receive_time.div_euclid(HOUR)).or_default().push(batch);
    }
    by_hour.into_iter().map(|(hour, batches)| Ok((key(hour, positions), object(&batches)?))).collect()
}

fn key(hour: i64, positions: &Range<Position>) -> String {
    let (year, month, day) = time::civil_from_days(hour.div_euclid(24));
    format!(
        "raw/receive_date={year:04}-{month:02}-{day:02}/receive_hour={:02}/{:020}-{:020}.parquet",
        hour.rem_euclid(24),
        positions.start.0,
        positions.end.0
    )
}

fn object(batches: &[&BatchFrame]) -> Result<Bytes, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_dictionary_enabled("payload".into(), false)
        .set_column_statistics_enabled("payload".into(), EnabledStatistics::None)
        // Without a version, which would make every object of a repeated flush another one after an upgrade.
        .set_created_by("sawlog".to_owned())
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema::lake_schema(), Some(properties))?;
    for batch in batches {
        match lake::rows(&[batch.raw()]) {
            Ok(rows) => writer.write(&rows)?,
            // The body was split when it was accepted; one that cannot be split was never written to the log.
            Err(TransformError::Split(_)) => {}
            Err(TransformError::Columns(error)) => return Err(error.into()),
        }
    }
    Ok(Bytes::from(writer.into_inner()?))
}

/// Whether two objects hold the same records in the same order, whatever bytes they take.
pub(crate) fn same_records(one: &Bytes, other: &Bytes) -> Result<bool, ParquetError> {
    let (mut one, mut other) = (Records::open(one)?, Records::open(other)?);
    loop {
        match (one.next()?, other.next()?) {
            (None, None) => return Ok(true),
            (Some(one), Some(other)) if one == other => {}
            _ => return Ok(false),
        }
    }
}

/// What makes a raw record that record: batch, place in it, and payload.
type Identity<'a> = (&'a str, i32, &'a [u8]);

/// The records of an object, one after the other.
struct Records {
    reader: ParquetRecordBatchReader,
    batch: Option<(StringArray, Int32Array, BinaryArray)>,
    row: usize,
}

impl Records {
    fn open(object: &Bytes) -> Result<Self, ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(object.clone())?;
        let columns = ProjectionMask::columns(builder.parquet_schema(), ["batch_id", "record_index", "payload"]);
        Ok(Self { reader: builder.with_projection(columns).build()?, batch: None, row: 0 })
    }

    fn next(&mut self) -> Result<Option<Identity<'_>>, ParquetError> {
        while self.batch.as_ref().is_none_or(|(ids, ..)| self.row >= ids.len()) {
            let Some(rows) = self.reader.next().transpose()? else { return Ok(None) };
            self.batch = Some(identities(&rows)?);
            self.row = 0;
        }
        let row = self.row;
        self.row += 1;
        let batch = self.batch.as_ref();
        Ok(batch.map(|(ids, indices, payloads)| (ids.value(row), indices.value(row), payloads.value(row))))
    }
}

fn identities(rows: &RecordBatch) -> Result<(StringArray, Int32Array, BinaryArray), ParquetError> {
    let missing = |name: &str| ParquetError::General(format!("it has no column {name} of the expected type"));
    let column = |name: &str| rows.column_by_name(name).ok_or_else(|| missing(name));
    Ok((
        column("batch_id")?.as_string_opt().ok_or_else(|| missing("batch_id"))?.clone(),
        column("record_index")?.as_primitive_opt().ok_or_else(|| missing("record_index"))?.clone(),
        column("payload")?.as_binary_opt().ok_or_else(|| missing("payload"))?.clone(),
    ))
}

#[cfg(test)]
mod tests {
    use sawlog_core::batch::{AgeLimits, Format};

    use super::*;

    fn frame(id: &str, body: &str) -> Arc<BatchFrame> {
        Arc::new(BatchFrame {
            batch_id: id.to_owned(),
            source: "http".to_owned(),
            format: Format::Json,
            is_declared: true,
            receive_time: 1_795_489_200_000_000,
            age: AgeLimits::any_past(),
            rules_version: 1,
            rejected: 0,
            idempotency_key: None,
            file: None,
            body: Bytes::from(body.to_owned()),
        })
    }

    fn made_of(frames: &[Arc<BatchFrame>]) -> Bytes {
        objects(frames, &(Position(0)..Position(9))).expect("objects").remove(0).1
    }

    #[test]
    fn objects_do_not_depend_on_the_version_of_the_build() {
        let object = made_of(&[frame("a", "{}\n")]);
        let version = env!("CARGO_PKG_VERSION").as_bytes();
        assert!(!object.windows(version.len()).any(|window| window == version), "the version is in the object");
    }

    #[test]
    fn the_same_records_in_other_bytes_are_recognized() {
        let frames: Vec<_> = (0..50).map(|id| frame(&format!("b{id}"), "{\"a\":1}\n{\"a\":2}\n")).collect();
        let object = made_of(&frames);
        let other = rewritten(&object);
        assert_ne!(object, other);
        assert!(same_records(&object, &other).expect("readable"));
        let fewer = made_of(&frames[..49]);
        assert!(!same_records(&object, &fewer).expect("readable"));
        assert!(!same_records(&fewer, &object).expect("readable"));
        let changed = [&frames[..49], &[frame("b49", "{\"a\":1}\n{\"a\":3}\n")]].concat();
        assert!(!same_records(&object, &made_of(&changed)).expect("readable"));
        let renamed = [&frames[..49], &[frame("x", "{\"a\":1}\n{\"a\":2}\n")]].concat();
        assert!(!same_records(&object, &made_of(&renamed)).expect("readable"));
        assert!(same_records(&object, &Bytes::from_static(b"no Parquet")).is_err());
    }

    /// The rows as another build would write them.
    fn rewritten(object: &Bytes) -> Bytes {
        let reader = ParquetRecordBatchReaderBuilder::try_new(object.clone()).expect("Parquet").with_batch_size(7);
        let properties = WriterProperties::builder().set_created_by("another build".to_owned()).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema::lake_schema(), Some(properties)).expect("a writer");
        for rows in reader.build().expect("a reader") {
            writer.write(&rows.expect("rows")).expect("written");
        }
        Bytes::from(writer.into_inner().expect("an object"))
    }
}
