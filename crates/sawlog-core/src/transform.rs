//! From a raw batch to typed batches and dead letters.
//!
//! For: the one sequence that every runtime calls: parse → standardize → classify → enrich → filter → redact → sign → split by kind.
//! Not for: dedup against what came before, windows, or anything that needs a clock. Deterministic: the same payload,
//! receive time and rules give the same rows. Each record is counted in exactly one outcome.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128_with_seed};

use crate::batch::{self, AgeLimits, Format, RawBatch, RecordSpan, SplitError};
use crate::defect::{Defect, Reason};
use crate::enrich::Enricher;
use crate::fields;
use crate::ledger::{self, Counts};
use crate::limits::PROBLEMS_MAX;
use crate::limits::RECORD_BYTES_MAX;
use crate::log_entry;
use crate::parse_access::parse_access;
use crate::parse_json::parse_json;
use crate::parse_logfmt::{looks_like_logfmt, parse_logfmt};
use crate::parse_otlp::OtlpReader;
use crate::parse_syslog::parse_syslog;
use crate::parse_text::parse_text;
use crate::pubsub::MessageReader;
use crate::record::{AttributeType, Float, Int, Record, Text, Time, Value};
use crate::rows::Rows;
use crate::rules::{LookupCounts, Rules};
use crate::schema::Table;
use crate::signature::{self, Signer};
use crate::time::{ExactTime, to_exact_rfc3339};
use crate::value;

/// What a raw batch became.
#[derive(Debug)]
pub struct Transformed {
    /// One batch for each table, in the order of [`Table::ALL`].
    pub tables: [RecordBatch; 4],
    /// Outcomes before dedup against other batches: `stored` counts rows, `duplicate` only repeats inside this batch.
    pub counts: Counts,
    /// Outcome of each record, in the order of the bodies, with the same limitation.
    pub outcomes: Vec<ledger::Outcome>,
    /// Identity of each row that carries an `insert_id`.
    pub ids: Vec<RowId>,
    /// The first bad records, at most [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// What the tables of users knew, in the order of [`Rules::user_tables`].
    pub lookups: Vec<LookupCounts>,
}

/// Identity of a row for dedup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowId {
    /// Table of the row.
    pub table: Table,
    /// Row in the table's batch.
    pub row: usize,
    /// Record that it was made from, index in [`Transformed::outcomes`].
    pub record_index: usize,
    /// Hash of source, table and `insert_id`: two senders that count from 1 do not meet as long as their sources differ. Of a
    /// LogEntry the log's name too, within which its id is unique.
    pub id: u128,
    /// Event time, UTC microseconds.
    pub event_time: i64,
}

/// A record that did not become a row, for the answer to its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Index of the record in [`Transformed::outcomes`], from 0.
    pub record_index: usize,
    /// What is wrong.
    pub defect: Defect,
}

/// Why a batch could not be transformed at all.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    /// The body cannot be split into records.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Arrow refused the columns; a defect of this crate.
    #[error("building columns failed")]
    Columns(#[from] ArrowError),
}

/// Kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Log,
    Metric,
    Activity,
}

impl Kind {
    const fn table(self) -> Table {
        match self {
            Self::Log => Table::Logs,
            Self::Metric => Table::Metrics,
            Self::Activity => Table::Activity,
        }
    }
}

/// What became of one record.
enum Outcome {
    Row(Kind, RowFacts),
    Filtered,
    Dead(Defect),
}

/// What is known about a row besides its columns.
struct RowFacts {
    /// UTC microseconds.
    event_time: i64,
    /// Identity for dedup, where the record has an `insert_id`.
    id: Option<u128>,
}

/// Transforms a raw batch under the given rules.
///
/// # Errors
/// When the body cannot be split into records at all.
pub fn transform(batch: &RawBatch<'_>, rules: &Rules) -> Result<Transformed, TransformError> {
    let body = Body { raw: *batch, spans: batch::split(batch.format, batch.body)?, indices: None };
    transform_bodies(&[body], rules)
}

/// A raw batch that has been split.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    pub(crate) raw: RawBatch<'a>,
    pub(crate) spans: Vec<RecordSpan>,
    /// Numbers of the records in their batch, where they are not all of it.
    pub(crate) indices: Option<Vec<i32>>,
}

/// Transforms many bodies as if each were transformed alone, into one batch for each table. Repeats are found over all of
/// them. Columns number records within their own batch, while [`Transformed`] does so over all.
pub(crate) fn transform_bodies(bodies: &[Body<'_>], rules: &Rules) -> Result<Transformed, TransformError> {
    let record_count = bodies.iter().map(|body| body.spans.len()).sum();
    let mut run = Run {
        batch: bodies.first().map_or(&NOTHING, |body| &body.raw),
        rules,
        source_seed: 0,
        enricher: Enricher::default(),
        signer: Signer::default(),
        otlp: OtlpReader::default(),
        messages: MessageReader::default(),
        record: Record::default(),
        rows: Table::ALL.map(|table| Rows::new(table, if table == Table::Logs { record_count } else { 0 })),
        counts: Counts::default(),
        outcomes: Vec::with_capacity(record_count),
        ids: Vec::new(),
        problems: Vec::new(),
        lookups: rules.user_tables().map(|_| LookupCounts::default()).collect(),
    };
    for body in bodies {
        run.batch = &body.raw;
        run.source_seed = xxh3_64(body.raw.source.as_bytes());
        for index in 0..body.spans.len() {
            let number = body.indices.as_ref().map_or(index as i32, |indices| indices[index]);
            run.record(index, number, &body.spans);
        }
        run.rows.iter_mut().for_each(Rows::end_batch);
    }
    run.finish(bodies)
}

/// Version of this code, which dead letters name.
pub const CODE_VERSION: &str = env!("CARGO_PKG_VERSION");

const NOTHING: RawBatch<'_> = RawBatch {
    batch_id: "",
    source: "",
    file: None,
    format: Format::Text,
    is_declared: true,
    receive_time: 0,
    age: AgeLimits::any_past(),
    body: b"",
};

struct Run<'a> {
    /// The batch whose turn it is.
    batch: &'a RawBatch<'a>,
    rules: &'a Rules,
    /// Hash of the source's name: the scope of its insert ids.
    source_seed: u64,
    enricher: Enricher,
    signer: Signer,
    otlp: OtlpReader,
    messages: MessageReader,
    record: Record,
    rows: [Rows; 4],
    counts: Counts,
    outcomes: Vec<ledger::Outcome>,
    ids: Vec<Identified>,
    problems: Vec<Problem>,
    lookups: Vec<LookupCounts>,
}

/// A row with an id, and the hash that decides between two of one id.
struct Identified {
    row_id: RowId,
    payload_hash: u64,
}

impl Run<'_> {
    /// Transforms a record, which its batch knows by a number.
    fn record(&mut self, index: usize, number: i32, spans: &[RecordSpan]) {
        let span = &spans[index];
        let payload = &self.batch.body[span.record.clone()];
        self.counts.received += 1;
        self.record.reset();
        let outcome = match self.outcome(payload, index, spans) {
            Outcome::Row(kind, RowFacts { event_time, id }) => {
                self.counts.stored += 1;
                if let Some(id) = id {
                    let row = self.rows[kind.table() as usize].len();
                    let record_index = self.outcomes.len();
                    let row_id = RowId { table: kind.table(), row, record_index, id, event_time };
                    self.ids.push(Identified { row_id, payload_hash: xxh3_64(payload) });
                }
                self.rows[kind.table() as usize].push(payload, &self.record, number, event_time);
                ledger::Outcome::Stored
            }
            Outcome::Filtered => {
                self.counts.filtered += 1;
                ledger::Outcome::Filtered
            }
            Outcome::Dead(defect) => {
                self.dead_letter(payload, number, defect);
                ledger::Outcome::DeadLettered
            }
        };
        self.outcomes.push(outcome);
    }

    fn outcome(&mut self, payload: &[u8], index: usize, spans: &[RecordSpan]) -> Outcome {
        // Records of other formats are refused before they are kept.
        if self.batch.format == Format::Pubsub && payload.len() > RECORD_BYTES_MAX {
            let size = format!("{} bytes", payload.len());
            return Outcome::Dead(Defect::new(Reason::RecordTooLarge).about(&size));
        }
        if let Err(error) = std::str::from_utf8(payload)
            && (self.batch.format.is_lines() || self.batch.format == Format::Pubsub)
        {
            return Outcome::Dead(Defect::new(Reason::InvalidUtf8).at(error.valid_up_to()));
        }
        if let Err(defect) = self.parse(payload, index, spans) {
            return Outcome::Dead(defect);
        }
        let kind = match classify(payload, &mut self.record) {
            Ok(kind) => kind,
            Err(defect) => return Outcome::Dead(defect),
        };
        let receive_time = self.batch.receive_time;
        let event_time = self.record.time(Time::Event).unwrap_or(receive_time);
        self.record.set_time(Time::Event, event_time);
        if !self.batch.age.accept(event_time, receive_time) {
            let written = crate::time::to_rfc3339(event_time);
            return Outcome::Dead(Defect::new(Reason::TimeOutOfRange).in_field(b"timestamp").about(&written));
        }
        self.enricher.enrich(payload, &mut self.record);
        self.rules.add_values(self.batch, payload, &mut self.record, &mut self.lookups);
        if self.rules.drops(self.batch, payload, &self.record) {
            return Outcome::Filtered;
        }
        // Before redaction, after which two ids may read the same.
        let id = self.identity(payload, kind.table());
        self.rules.redact_record(payload, &mut self.record);
        if kind == Kind::Log {
            self.sign(payload);
        }
        Outcome::Row(kind, RowFacts { event_time, id })
    }

    /// Fills the signature of the message as it is after redaction.
    fn sign(&mut self, payload: &[u8]) {
        let message = self.record.text_bytes(payload, Text::Message).and_then(|message| str::from_utf8(message).ok());
        if let Some(message) = message {
            let digits = signature::to_digits(self.signer.signature(message));
            self.record.set_text_copy(Text::Signature, &digits);
        }
    }

    fn parse(&mut self, payload: &[u8], index: usize, spans: &[RecordSpan]) -> Result<(), Defect> {
        let span = &spans[index];
        let (format, is_declared) = match self.batch.format {
            Format::Pubsub => self.messages.begin(self.batch.body, span)?,
            format => (format, self.batch.is_declared),
        };
        match format {
            Format::OtlpLogs | Format::OtlpMetrics | Format::OtlpLogsJson | Format::OtlpMetricsJson => {
                return self.otlp.read(format, self.batch.body, span, &mut self.record);
            }
            _ => self.parse_line(format, is_declared, payload)?,
        }
        if self.batch.format == Format::Pubsub {
            self.messages.finish(payload, is_alone(spans, index), self.batch.receive_time, &mut self.record);
        }
        Ok(())
    }

    fn parse_line(&mut self, format: Format, is_declared: bool, payload: &[u8]) -> Result<(), Defect> {
        let receive_time = self.batch.receive_time;
        let record = &mut self.record;
        let parsed = match format {
            Format::Json => return parse_json(payload, receive_time, record),
            Format::Access => parse_access(payload, receive_time, record),
            Format::Syslog => parse_syslog(payload, receive_time, record),
            // Under a guess, a line that is mostly words is text, although it could be read as keys without values.
            Format::Logfmt if is_declared || looks_like_logfmt(payload, 1) => {
                parse_logfmt(payload, receive_time, record)
            }
            _ => {
                parse_text(payload, receive_time, record);
                Ok(())
            }
        };
        match parsed {
            Err(_) if !is_declared => {
                record.reset();
                parse_text(payload, receive_time, record);
                Ok(())
            }
            parsed => parsed,
        }
    }

    fn identity(&self, payload: &[u8], table: Table) -> Option<u128> {
        let insert_id = self.record.text_bytes(payload, Text::InsertId)?;
        let seed = match log_entry::log_name(payload, &self.record) {
            Some(log) => xxh3_64_with_seed(log, self.source_seed),
            None => self.source_seed,
        };
        Some(xxh3_128_with_seed(insert_id, seed) ^ table as u128)
    }

    fn dead_letter(&mut self, payload: &[u8], number: i32, defect: Defect) {
        self.counts.dead_lettered += 1;
        let record = &mut self.record;
        record.reset();
        record.set_text_copy(Text::Stage, defect.reason.stage().name().as_bytes());
        record.set_text_copy(Text::Reason, defect.reason.code().as_bytes());
        record.set_text_copy(Text::Error, defect.to_string().as_bytes());
        record.set_text_copy(Text::Remedy, defect.reason.remedy().as_bytes());
        if let Some(field) = &defect.field {
            record.set_text_copy(Text::FieldName, field.as_bytes());
        }
        if let Some(offset) = defect.byte_offset {
            record.set_int(Int::ByteOffset, offset as i64);
        }
        // What is wrong with a record is so each time.
        record.set_int(Int::Attempt, 1);
        record.set_text_copy(Text::CodeVersion, CODE_VERSION.as_bytes());
        self.rows[Table::DeadLetters as usize].push(payload, record, number, self.batch.receive_time);
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { record_index: self.outcomes.len(), defect });
        }
    }

    fn finish(self, bodies: &[Body<'_>]) -> Result<Transformed, TransformError> {
        let rules_version = self.rules.version();
        let [logs, metrics, activity, dead_letters] = self.rows;
        let transformed = Transformed {
            tables: [
                logs.finish(bodies, rules_version)?,
                metrics.finish(bodies, rules_version)?,
                activity.finish(bodies, rules_version)?,
                dead_letters.finish(bodies, rules_version)?,
            ],
            counts: self.counts,
            outcomes: self.outcomes,
            ids: Vec::new(),
            problems: self.problems,
            lookups: self.lookups,
        };
        crate::dedup::without_repeats(transformed, self.ids.into_iter().map(|one| (one.row_id, one.payload_hash)))
    }
}

/// Whether a message has no other record than this one.
pub(crate) fn is_alone(spans: &[RecordSpan], index: usize) -> bool {
    let context = |index: usize| spans.get(index)?.context.as_ref();
    let mine = context(index);
    let is_of_message = |other: usize| context(other).zip(mine).is_some_and(|(other, mine)| Arc::ptr_eq(other, mine));
    let has_neighbour = index.checked_sub(1).is_some_and(is_of_message) || is_of_message(index + 1);
    !has_neighbour && mine.is_none_or(|mine| mine.place.is_none())
}

/// Decides which table a record belongs to: its own claim, else a metric has a name and a value, an activity event a
/// name and a user or session and no message.
fn classify(payload: &[u8], record: &mut Record) -> Result<Kind, Defect> {
    let has = |record: &Record, slot| record.text(slot).is_some();
    let has_value = record.float(Float::Value).is_some() || record.int(Int::Count).is_some() || record.is_without_value;
    let kind = match record.claimed_kind {
        Some(fields::KIND_SLOT_METRIC) => Kind::Metric,
        Some(fields::KIND_SLOT_ACTIVITY) => Kind::Activity,
        Some(_) => Kind::Log,
        None if has(record, Text::MetricName) && !has(record, Text::Message) => Kind::Metric,
        None if has(record, Text::EventName)
            && (has(record, Text::UserId) || has(record, Text::SessionId))
            && !has(record, Text::Message)
            && !has(record, Text::SeverityText) =>
        {
            Kind::Activity
        }
        None => Kind::Log,
    };
    let missing_name = match kind {
        Kind::Metric => (!has(record, Text::MetricName)).then_some("metric"),
        Kind::Activity => (!has(record, Text::EventName)).then_some("event"),
        Kind::Log => None,
    };
    if let Some(name) = missing_name {
        return Err(Defect::new(Reason::NameMissing).in_field(name.as_bytes()));
    }
    if kind == Kind::Metric {
        if !has_value {
            return Err(Defect::new(Reason::MetricWithoutValue).in_field(b"value"));
        }
        if !has(record, Text::MetricType) {
            record.set_text_copy(Text::MetricType, b"gauge");
        }
    }
    keep_what_has_no_column(payload, record, kind);
    Ok(kind)
}

/// Values that the chosen table has no column for become attributes, so that nothing is dropped.
fn keep_what_has_no_column(payload: &[u8], record: &mut Record, kind: Kind) {
    const METRIC_SLOTS: [(Text, &[u8]); 3] =
        [(Text::MetricName, b"metric"), (Text::MetricType, b"type"), (Text::Unit, b"unit")];
    const LOG_ONLY: [(Text, &[u8]); 2] = [(Text::Message, b"message"), (Text::SeverityText, b"severity")];
    const HTTP: [(Text, &[u8]); 2] = [(Text::HttpMethod, b"http.method"), (Text::Device, b"device")];
    const VISIT: [(Text, &[u8]); 12] = [
        (Text::EventName, b"event"),
        (Text::UserId, b"user_id"),
        (Text::SessionId, b"session_id"),
        (Text::UserSegment, b"user_segment"),
        (Text::Country, b"country"),
        (Text::HttpPath, b"http.path"),
        (Text::HttpRoute, b"http.route"),
        (Text::Referrer, b"referrer"),
        (Text::UserAgent, b"user_agent"),
        (Text::ClientAddress, b"client_address"),
        (Text::TraceId, b"trace_id"),
        (Text::SpanId, b"span_id"),
    ];
    let mut keep = |slots: &[(Text, &[u8])]| {
        for (slot, name) in slots {
            if let Some(text) = record.text(*slot) {
                add_text(payload, record, name, text, AttributeType::Text);
                record.clear_text(*slot);
            }
        }
    };
    match kind {
        Kind::Log => {
            keep(&METRIC_SLOTS);
            keep(&HTTP[1..]);
        }
        Kind::Metric => {
            keep(&LOG_ONLY);
            keep(&HTTP);
            keep(&VISIT);
        }
        Kind::Activity => {
            keep(&METRIC_SLOTS);
            keep(&LOG_ONLY);
            keep(&HTTP[..1]);
            keep(&[(Text::Logger, b"logger")]);
        }
    }
    if kind != Kind::Metric
        && let Some(value) = record.metric_value.take()
    {
        add_text(payload, record, b"value", value.text, value.kind);
    }
    keep_numbers(payload, record, kind);
}

/// The part of [`keep_what_has_no_column`] for numbers and times.
fn keep_numbers(payload: &[u8], record: &mut Record, kind: Kind) {
    const START: (Time, Int, &[u8]) = (Time::Start, Int::StartTimeNanos, b"start_time");
    const OBSERVED: (Time, Int, &[u8]) = (Time::Observed, Int::ObservedTimeNanos, b"observed_time");
    let lost_times: &[(Time, Int, &[u8])] = match kind {
        Kind::Log => &[START],
        Kind::Metric => &[OBSERVED],
        Kind::Activity => &[START, OBSERVED],
    };
    for (slot, beside, name) in lost_times {
        if let Some(micros) = record.time(*slot) {
            let time = ExactTime { micros, nanos: record.int(*beside).unwrap_or(0) };
            let text = record.keep(to_exact_rfc3339(time).as_bytes());
            add_text(payload, record, name, text, AttributeType::Text);
        }
    }
    let lost_ints: &[(Int, &[u8])] = match kind {
        Kind::Log => &[],
        Kind::Metric => &[
            (Int::HttpStatus, b"http.status"),
            (Int::DurationUs, b"duration_us"),
            (Int::RequestBytes, b"request_bytes"),
            (Int::ResponseBytes, b"response_bytes"),
            (Int::SeverityNumber, b"severity_number"),
            (Int::TraceFlags, b"trace_flags"),
        ],
        Kind::Activity => &[
            (Int::EventTimeNanos, b"event_time_nanos"),
            (Int::HttpStatus, b"http.status"),
            (Int::RequestBytes, b"request_bytes"),
            (Int::ResponseBytes, b"response_bytes"),
            (Int::SeverityNumber, b"severity_number"),
            (Int::TraceFlags, b"trace_flags"),
        ],
    };
    for (slot, name) in lost_ints {
        if let Some(number) = record.int(*slot) {
            let text = record.keep(number.to_string().as_bytes());
            add_text(payload, record, name, text, AttributeType::Integer);
        }
    }
}

fn add_text(payload: &[u8], record: &mut Record, name: &[u8], text: crate::record::Span, kind: AttributeType) {
    if value::is_null_word(record.bytes(payload, text)) {
        return;
    }
    let key = record.keep(name);
    record.add_attribute(payload, key, Value { text, kind });
}
