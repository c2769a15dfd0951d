//! Reading OTLP metrics and their data points.
//!
//! For: gauges, sums, histograms, exponential histograms and summaries. Not for: logs and what both share
//! ([`crate::parse_otlp`]). A number that is not finite, or that a point says to be no value, would poison every
//! aggregate over its column: it becomes the attribute `otel.<column>` as text, and the column stays empty.

use std::ops::Range;

use crate::batch::MetricKind;
use crate::defect::Defect;
use crate::fields::Place;
use crate::otlp_json::{self, Shape};
use crate::otlp_value::{
    AttributeReader, Source, double_text, hex, write_json_double, write_json_map, write_json_text,
};
use crate::otlp_wire::{Field, Reader};
use crate::parse_otlp::{note_count, set_nanos, set_text};
use crate::record::{AttributeType, F64List, Float, I64List, Int, Record, Text, Time};

/// Bit of `flags` that says that the point has no value (`DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`).
const NO_RECORDED_VALUE: u64 = 1;

/// The kind of message that a point of that kind of metric is.
pub(crate) fn shape(kind: MetricKind) -> &'static Shape {
    match kind {
        MetricKind::Gauge | MetricKind::Sum => &otlp_json::NUMBER_POINT,
        MetricKind::Histogram => &otlp_json::HISTOGRAM_POINT,
        MetricKind::ExponentialHistogram => &otlp_json::EXPONENTIAL_POINT,
        MetricKind::Summary => &otlp_json::SUMMARY_POINT,
    }
}

/// `Metric` without its data.
pub(crate) fn metric_part(source: Source<'_>, record: &mut Record) -> Result<(), Defect> {
    let mut metadata = AttributeReader::new(source, Place::Other, "otel.metric.metadata.");
    let mut reader = Reader::new(source.buffer, 0..source.buffer.len());
    while let Some(field) = reader.next()? {
        match field.number {
            1 => set_text(source, record, Text::MetricName, &field)?,
            2 => set_text(source, record, Text::Description, &field)?,
            3 => set_text(source, record, Text::Unit, &field)?,
            12 => metadata.read(record, field.bytes()?)?,
            _ => {}
        }
    }
    Ok(())
}

/// `Sum`, `Histogram` and the like without their points.
pub(crate) fn data_part(source: Source<'_>, record: &mut Record) -> Result<(), Defect> {
    let mut reader = Reader::new(source.buffer, 0..source.buffer.len());
    while let Some(field) = reader.next()? {
        match field.number {
            2 => match field.varint()? as i32 {
                0 => record.clear_text(Text::Temporality),
                1 => record.set_text_copy(Text::Temporality, b"delta"),
                2 => record.set_text_copy(Text::Temporality, b"cumulative"),
                other => record.set_text_copy(Text::Temporality, other.to_string().as_bytes()),
            },
            3 => record.set_int(Int::IsMonotonic, i64::from(field.varint()? != 0)),
            _ => {}
        }
    }
    Ok(())
}

/// Field numbers that the kinds of points have in different places; 0 where a kind lacks the field.
struct PointFields {
    attributes: u32,
    exemplars: u32,
    flags: u32,
    min: u32,
    max: u32,
}

impl PointFields {
    const fn of(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Gauge | MetricKind::Sum => Self { attributes: 7, exemplars: 5, flags: 8, min: 0, max: 0 },
            MetricKind::Histogram => Self { attributes: 9, exemplars: 8, flags: 10, min: 11, max: 12 },
            MetricKind::ExponentialHistogram => Self { attributes: 1, exemplars: 11, flags: 10, min: 12, max: 13 },
            MetricKind::Summary => Self { attributes: 7, exemplars: 0, flags: 8, min: 0, max: 0 },
        }
    }
}

/// A data point of any kind.
pub(crate) fn point(kind: MetricKind, source: Source<'_>, record: &mut Record) -> Result<(), Defect> {
    let numbers = PointFields::of(kind);
    let mut common = Common::new(source);
    let mut value = None;
    let mut lists = Lists::default();
    set_absent(kind, record);
    let mut reader = Reader::new(source.buffer, 0..source.buffer.len());
    while let Some(field) = reader.next()? {
        match field.number {
            2 => common.start = field.fixed64()?,
            3 => common.time = field.fixed64()?,
            number if number == numbers.attributes => common.attributes.read(record, field.bytes()?)?,
            number if number == numbers.flags => common.flags = field.varint()?,
            number if number == numbers.exemplars => common.exemplar(&field)?,
            number if number == numbers.min => set_float(source, record, Float::Min, "otel.min", field.double()?),
            number if number == numbers.max => set_float(source, record, Float::Max, "otel.max", field.double()?),
            _ => match kind {
                MetricKind::Gauge | MetricKind::Sum => {
                    if let Some(number) = number_value(&field)? {
                        value = Some(number);
                    }
                }
                MetricKind::Histogram => histogram_field(source, record, &mut lists, &field)?,
                MetricKind::ExponentialHistogram => exponential_field(source, record, &mut lists, &field)?,
                MetricKind::Summary => summary_field(source, record, &field)?,
            },
        }
    }
    lists.set(source, record);
    set_value(source, record, value, common.flags);
    common.set(record);
    Ok(())
}

/// Numbers that are 0 unless the point says otherwise.
fn set_absent(kind: MetricKind, record: &mut Record) {
    if !matches!(kind, MetricKind::Gauge | MetricKind::Sum) {
        record.set_int(Int::Count, 0);
    }
    if kind == MetricKind::Summary {
        record.set_float(Float::Sum, 0.0);
    }
    if kind == MetricKind::ExponentialHistogram {
        record.set_int(Int::Scale, 0);
        record.set_int(Int::ZeroCount, 0);
        record.set_float(Float::ZeroThreshold, 0.0);
    }
}

/// What all kinds of points have.
struct Common<'a> {
    source: Source<'a>,
    attributes: AttributeReader<'a>,
    start: u64,
    time: u64,
    flags: u64,
    /// JSON objects, each after a comma but the first.
    exemplars: Vec<u8>,
}

impl<'a> Common<'a> {
    fn new(source: Source<'a>) -> Self {
        let attributes = AttributeReader::new(source, Place::DataPoint, "");
        Self { source, attributes, start: 0, time: 0, flags: 0, exemplars: Vec::new() }
    }

    fn exemplar(&mut self, field: &Field) -> Result<(), Defect> {
        if !self.exemplars.is_empty() {
            self.exemplars.push(b',');
        }
        write_exemplar(self.source.buffer, field.bytes()?, &mut self.exemplars)
    }

    fn set(self, record: &mut Record) {
        set_nanos(record, Time::Start, Int::StartTimeNanos, self.start);
        set_nanos(record, Time::Event, Int::EventTimeNanos, self.time);
        match i32::try_from(self.flags) {
            Ok(0) => {}
            Ok(flags) => record.set_int(Int::Flags, i64::from(flags)),
            Err(_) => note_count(self.source, record, "otel.flags", self.flags),
        }
        if !self.exemplars.is_empty() {
            let list = [b"[", &self.exemplars[..], b"]"].concat();
            record.set_text_copy(Text::Exemplars, &list);
        }
    }
}

/// Value of a point or exemplar.
#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Double(f64),
}

/// The value, if the field is that: both number points have it in 4 and 6.
fn number_value(field: &Field) -> Result<Option<Number>, Defect> {
    Ok(match field.number {
        4 => Some(Number::Double(field.double()?)),
        6 => Some(Number::Int(field.fixed64()? as i64)),
        _ => None,
    })
}

fn set_value(source: Source<'_>, record: &mut Record, value: Option<Number>, flags: u64) {
    let is_withheld = flags & NO_RECORDED_VALUE != 0;
    record.is_without_value = is_withheld;
    match value {
        Some(Number::Int(value)) if is_withheld => {
            source.note(record, "otel.value", &value.to_string(), AttributeType::Integer);
        }
        Some(Number::Int(value)) => {
            record.set_int(Int::ValueInt, value);
            record.set_float(Float::Value, value as f64);
        }
        Some(Number::Double(value)) if is_withheld || !value.is_finite() => {
            record.is_without_value = true;
            source.note(record, "otel.value", &double_text(value), AttributeType::Float);
        }
        Some(Number::Double(value)) => record.set_float(Float::Value, value),
        None => {}
    }
}

fn set_float(source: Source<'_>, record: &mut Record, slot: Float, name: &str, value: f64) {
    if value.is_finite() {
        record.set_float(slot, value);
    } else {
        source.note(record, name, &double_text(value), AttributeType::Float);
    }
}

/// Sets a count; one past the column's range is kept as an attribute.
fn set_count(source: Source<'_>, record: &mut Record, slot: Int, name: &str, count: u64) {
    match i64::try_from(count) {
        Ok(count) => record.set_int(slot, count),
        Err(_) => note_count(source, record, name, count),
    }
}

/// Counts of buckets, which are complete only at the end of the point.
#[derive(Default)]
struct Lists {
    buckets: Vec<u64>,
    positive: Vec<u64>,
    negative: Vec<u64>,
}

impl Lists {
    fn set(&self, source: Source<'_>, record: &mut Record) {
        for (slot, name, counts) in [
            (I64List::BucketCounts, "otel.bucket_counts", &self.buckets),
            (I64List::PositiveCounts, "otel.positive_counts", &self.positive),
            (I64List::NegativeCounts, "otel.negative_counts", &self.negative),
        ] {
            if counts.iter().all(|count| i64::try_from(*count).is_ok()) {
                record.i64_lists[slot as usize].extend(counts.iter().map(|count| *count as i64));
            } else {
                source.note(record, name, &format!("{counts:?}"), AttributeType::Json);
            }
        }
    }
}

fn histogram_field(source: Source<'_>, record: &mut Record, lists: &mut Lists, field: &Field) -> Result<(), Defect> {
    match field.number {
        4 => set_count(source, record, Int::Count, "otel.count", field.fixed64()?),
        5 => set_float(source, record, Float::Sum, "otel.sum", field.double()?),
        6 => field.repeated_fixed64(source.buffer, |count| lists.buckets.push(count))?,
        7 => {
            let bounds = &mut record.f64_lists[F64List::ExplicitBounds as usize];
            field.repeated_fixed64(source.buffer, |bound| bounds.push(f64::from_bits(bound)))?;
        }
        _ => {}
    }
    Ok(())
}

fn exponential_field(source: Source<'_>, record: &mut Record, lists: &mut Lists, field: &Field) -> Result<(), Defect> {
    match field.number {
        4 => set_count(source, record, Int::Count, "otel.count", field.fixed64()?),
        5 => set_float(source, record, Float::Sum, "otel.sum", field.double()?),
        6 => record.set_int(Int::Scale, i64::from(zigzag(field.varint()?))),
        7 => set_count(source, record, Int::ZeroCount, "otel.zero_count", field.fixed64()?),
        8 => buckets(source, record, Int::PositiveOffset, &mut lists.positive, field.bytes()?)?,
        9 => buckets(source, record, Int::NegativeOffset, &mut lists.negative, field.bytes()?)?,
        14 => set_float(source, record, Float::ZeroThreshold, "otel.zero_threshold", field.double()?),
        _ => {}
    }
    Ok(())
}

fn buckets(
    source: Source<'_>,
    record: &mut Record,
    offset: Int,
    counts: &mut Vec<u64>,
    range: Range<usize>,
) -> Result<(), Defect> {
    record.set_int(offset, 0);
    let mut reader = Reader::new(source.buffer, range);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => record.set_int(offset, i64::from(zigzag(field.varint()?))),
            2 => field.repeated_varint(source.buffer, |count| counts.push(count))?,
            _ => {}
        }
    }
    Ok(())
}

/// A signed 32-bit number from its zigzag form.
fn zigzag(value: u64) -> i32 {
    let value = value as u32;
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

fn summary_field(source: Source<'_>, record: &mut Record, field: &Field) -> Result<(), Defect> {
    match field.number {
        4 => set_count(source, record, Int::Count, "otel.count", field.fixed64()?),
        5 => {
            let sum = field.double()?;
            if !sum.is_finite() {
                record.clear_float(Float::Sum);
            }
            set_float(source, record, Float::Sum, "otel.sum", sum);
        }
        6 => {
            let (mut quantile, mut value) = (0.0, 0.0);
            let mut reader = Reader::new(source.buffer, field.bytes()?);
            while let Some(field) = reader.next()? {
                match field.number {
                    1 => quantile = field.double()?,
                    2 => value = field.double()?,
                    _ => {}
                }
            }
            record.f64_lists[F64List::Quantiles as usize].push(quantile);
            record.f64_lists[F64List::QuantileValues as usize].push(value);
        }
        _ => {}
    }
    Ok(())
}

/// An `Exemplar` as JSON: `{"time_unix_nano":…,"value":…,"trace_id":…,"span_id":…,"attributes":{…}}`.
fn write_exemplar(buffer: &[u8], range: Range<usize>, out: &mut Vec<u8>) -> Result<(), Defect> {
    let (mut time, mut value, mut ids, mut entries) = (0, None, [0..0, 0..0], Vec::new());
    let mut reader = Reader::new(buffer, range);
    while let Some(field) = reader.next()? {
        match field.number {
            2 => time = field.fixed64()?,
            3 => value = Some(Number::Double(field.double()?)),
            4 => ids[1] = field.bytes()?,
            5 => ids[0] = field.bytes()?,
            6 => value = Some(Number::Int(field.fixed64()? as i64)),
            7 => entries.push(field.bytes()?),
            _ => {}
        }
    }
    out.extend_from_slice(format!("{{\"time_unix_nano\":{time}").as_bytes());
    match value {
        Some(Number::Int(value)) => out.extend_from_slice(format!(",\"value\":{value}").as_bytes()),
        Some(Number::Double(value)) => {
            out.extend_from_slice(b",\"value\":");
            write_json_double(out, value);
        }
        None => {}
    }
    for (name, id) in [("trace_id", &ids[0]), ("span_id", &ids[1])] {
        if !id.is_empty() {
            out.extend_from_slice(format!(",\"{name}\":").as_bytes());
            write_json_text(out, hex(&buffer[id.clone()]).as_bytes());
        }
    }
    if !entries.is_empty() {
        out.extend_from_slice(b",\"attributes\":");
        write_json_map(buffer, entries.into_iter().map(Ok), 1, out)?;
    }
    out.push(b'}');
    Ok(())
}
