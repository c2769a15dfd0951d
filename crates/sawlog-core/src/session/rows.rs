//! Sessions as rows.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Float64Builder, Int32Builder, Int64Builder, ListBuilder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use xxhash_rust::xxh3::xxh3_64;

use crate::rollup::PaneTiming;
use crate::schema::{PARTITION_COLUMN, list_item, time_type};
use crate::session::chain::Session;

const DAY: i64 = 86_400_000_000;

/// A session as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its user.
    pub user: String,
    /// Its events.
    pub session: Session,
    /// Number of the pane.
    pub index: u32,
    /// When it was emitted; early while the session is open.
    pub timing: PaneTiming,
    /// Whether it is one day of a chain that is too long.
    pub is_cut: bool,
    /// Whether the pane takes the session back: a late event has made it part of another.
    pub is_retracted: bool,
}

/// Name of the warehouse table that keeps the panes of sessions; `sessions` shows the newest of each.
pub const PANE_TABLE: &str = "pane_sessions";

/// Sort order of sessions inside a file.
pub const CLUSTERING: &[&str] = &["user_id", "session_start"];

/// Columns of `sessions` and `pane_sessions`.
#[must_use]
pub fn session_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        let count = |name: &str| Field::new(name, DataType::Int64, false);
        let flag = |name: &str| Field::new(name, DataType::Boolean, false);
        Arc::new(Schema::new(vec![
            text("session_key", false),
            text("user_id", false),
            Field::new("session_start", time_type(), false),
            Field::new("session_end", time_type(), false),
            count("duration_us"),
            count("event_count"),
            count("step_count"),
            text("entry", true),
            text("exit", true),
            Field::new("path", DataType::List(list_item(DataType::Utf8)), false),
            count("error_count"),
            text("top_error", true),
            count("request_count"),
            Field::new("latency_avg_us", DataType::Float64, true),
            Field::new("latency_max_us", DataType::Int64, true),
            text("device", true),
            text("user_segment", true),
            text("country", true),
            flag("is_open"),
            flag("is_cut"),
            Field::new("pane_index", DataType::Int32, false),
            text("pane_timing", false),
            flag("is_retracted"),
            Field::new(PARTITION_COLUMN, DataType::Date32, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

#[derive(Default)]
struct Columns {
    texts: [StringBuilder; 9],
    times: [TimestampMicrosecondBuilder; 2],
    counts: [Int64Builder; 6],
    path: Vec<Vec<Box<str>>>,
    average: Float64Builder,
    flags: [BooleanBuilder; 3],
    index: Int32Builder,
    date: Date32Builder,
}

/// Sessions as a batch of [`session_schema`].
///
/// # Errors
/// When Arrow refuses the columns; a defect of this module.
pub fn session_rows<'a>(rows: impl IntoIterator<Item = &'a SessionRow>) -> Result<RecordBatch, ArrowError> {
    let mut columns = Columns::default();
    rows.into_iter().for_each(|row| columns.push(row));
    columns.finish()
}

impl Columns {
    fn push(&mut self, row: &SessionRow) {
        let session = &row.session;
        let step = |step: Option<&(i64, Box<str>)>| step.map(|(_, text)| text.to_string());
        let top_error = session.errors.top().map(str::to_owned);
        let [device, segment, country] = &session.latest;
        let texts = [
            Some(session_key(&row.user, session.first)),
            Some(row.user.clone()),
            step(session.path.first()),
            step(session.exit.as_ref()),
            top_error,
            step(device.as_ref()),
            step(segment.as_ref()),
            step(country.as_ref()),
            Some(row.timing.name().to_owned()),
        ];
        self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.append_option(text));
        let times = [session.first, session.last];
        self.times.iter_mut().zip(times).for_each(|(column, time)| column.append_value(time));
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let has_latency = session.duration_count > 0;
        let counts = [
            Some(session.last.saturating_sub(session.first)),
            Some(signed(session.event_count)),
            Some(signed(session.step_count)),
            Some(signed(session.error_count)),
            Some(signed(session.duration_count)),
            has_latency.then(|| signed(session.duration_max)),
        ];
        self.counts.iter_mut().zip(counts).for_each(|(column, count)| column.append_option(count));
        self.path.push(session.path.iter().map(|(_, text)| text.clone()).collect());
        let average = session.duration_sum as f64 / session.duration_count as f64;
        self.average.append_option(has_latency.then_some(average));
        let flags = [row.timing == PaneTiming::Early, row.is_cut, row.is_retracted];
        self.flags.iter_mut().zip(flags).for_each(|(column, flag)| column.append_value(flag));
        self.index.append_value(i32::try_from(row.index).unwrap_or(i32::MAX));
        self.date.append_value(session.first.div_euclid(DAY) as i32);
    }

    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let mut path = ListBuilder::new(StringBuilder::new()).with_field(list_item(DataType::Utf8));
        for steps in self.path {
            steps.iter().for_each(|step| path.values().append_value(step));
            path.append(true);
        }
        let mut texts = self.texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut counts = self.counts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut flags = self.flags.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut times = self.times.iter_mut().map(|column| Arc::new(column.finish().with_timezone("UTC")) as ArrayRef);
        let mut columns = Vec::new();
        for field in session_schema().fields() {
            let next = match field.data_type() {
                DataType::Utf8 => texts.next(),
                DataType::Int64 => counts.next(),
                DataType::Boolean => flags.next(),
                DataType::List(_) => Some(Arc::new(path.finish()) as ArrayRef),
                DataType::Float64 => Some(Arc::new(self.average.finish()) as ArrayRef),
                DataType::Int32 => Some(Arc::new(self.index.finish()) as ArrayRef),
                DataType::Date32 => Some(Arc::new(self.date.finish()) as ArrayRef),
                _ => times.next(),
            };
            columns.extend(next);
        }
        RecordBatch::try_new(session_schema(), columns)
    }
}

/// Names a session: a hash of its user and its first event's time (UTC microseconds). The same in every runtime.
#[must_use]
pub fn session_key(user: &str, start: i64) -> String {
    format!("{:016x}", xxh3_64(&[user.as_bytes(), &start.to_be_bytes()].concat()))
}
