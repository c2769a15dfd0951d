//! Raw records as objects of the lake.
//!
//! For: turning the bodies of a flush into Parquet objects, one for each hour of receive time. Deterministic: the same
//! bodies give the same bytes, so that a repeated flush meets its own objects.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, Int32Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use sawlog_core::batch;
use sawlog_core::{schema, time};
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
        .set_created_by(concat!("sawlog ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema::lake_schema(), Some(properties))?;
    for batch in batches {
        if let Some(rows) = rows(batch)? {
            writer.write(&rows)?;
        }
    }
    Ok(Bytes::from(writer.into_inner()?))
}

fn rows(frame: &BatchFrame) -> Result<Option<RecordBatch>, ParquetError> {
    // The body was split when it was accepted; a body that cannot be split was never written to the log.
    let Ok(spans) = batch::split(frame.format, &frame.body) else { return Ok(None) };
    if spans.is_empty() {
        return Ok(None);
    }
    let mut batch_id = StringBuilder::with_capacity(spans.len(), spans.len() * frame.batch_id.len());
    let mut record_index = Int32Builder::with_capacity(spans.len());
    let mut receive_time = TimestampMicrosecondBuilder::with_capacity(spans.len());
    let (mut source, mut format) = (StringBuilder::new(), StringBuilder::new());
    let mut context = BinaryBuilder::new();
    let mut payload = BinaryBuilder::with_capacity(spans.len(), frame.body.len());
    for (index, span) in spans.iter().enumerate() {
        batch_id.append_value(&frame.batch_id);
        record_index.append_value(index as i32);
        receive_time.append_value(frame.receive_time);
        source.append_value(&frame.source);
        format.append_value(frame.format.name());
        match &span.context {
            Some(around) => context.append_value(batch::context_bytes(frame.format, &frame.body, around)),
            None => context.append_null(),
        }
        payload.append_value(&frame.body[span.record.clone()]);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(batch_id.finish()),
        Arc::new(record_index.finish()),
        Arc::new(receive_time.finish().with_timezone("UTC")),
        Arc::new(source.finish()),
        Arc::new(format.finish()),
        Arc::new(context.finish()),
        Arc::new(payload.finish()),
    ];
    Ok(Some(RecordBatch::try_new(schema::lake_schema(), columns)?))
}
