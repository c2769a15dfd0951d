//! Messages of Google Cloud Pub/Sub: the records of a body of messages, and what a message says of its records.
//!
//! For: bodies that are a `google.pubsub.v1.PublishRequest` without a topic, so that the attributes, the id and the publish
//! time of each message stay with its records, from the event log to the lake. Not for: receiving messages. Field numbers
//! are those of `google/pubsub/v1/pubsub.proto`.
//!
//! Rules:
//! - The data of a message is JSON objects, one after the other or in an array, where it begins like JSON; else lines of text.
//!   The attribute `format` says otherwise (a line format's name). A message without data is one record without content.
//! - Attributes fill what a record does not say of itself: its event time (`event_time`, `timestamp`, or that of a Log
//!   Router sink), service, version, environment, region, host. The others are attributes of its resource.
//! - A record without an event time of its own or of an attribute happened when its message was published.
//! - A record without an `insert_id` has that of its message: the message id, and the record's place if it has others beside
//!   it. So a message that is delivered again is recognized.

use std::ops::Range;
use std::sync::Arc;

use crate::batch::{self, Context, Format, RecordSpan, SplitError};
use crate::defect::{Defect, Reason};
use crate::fields::{self, Place};
use crate::otlp_wire::{Field, Reader, WireError, write_bytes_field, write_varint_field};
use crate::record::{AttributeType, Record, Text, Time, Value};
use crate::time::{self, ExactTime};

/// Attribute that names the format of a message's data.
pub const FORMAT_ATTRIBUTE: &str = "format";
/// Attributes that say when the records happened, best first.
const TIME_ATTRIBUTES: [&str; 3] = ["event_time", "timestamp", "logging.googleapis.com/timestamp"];

/// A message as it was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its data, uncompressed.
    pub data: &'a [u8],
    /// Its attributes, in any order.
    pub attributes: Vec<(&'a str, &'a str)>,
    /// Id that the service gave it.
    pub message_id: &'a str,
    /// When the service received it, UTC microseconds.
    pub publish_time: i64,
    /// Its ordering key; empty for none.
    pub ordering_key: &'a str,
}

mod field {
    pub(super) const MESSAGES: u32 = 2;
    pub(super) const DATA: u32 = 1;
    pub(super) const ATTRIBUTES: u32 = 2;
    pub(super) const MESSAGE_ID: u32 = 3;
    pub(super) const PUBLISH_TIME: u32 = 4;
    pub(super) const ORDERING_KEY: u32 = 5;
}

/// A body of messages. The same messages give the same bytes.
#[must_use]
pub fn body_of_messages<'a>(messages: impl IntoIterator<Item = Message<'a>>) -> Vec<u8> {
    let (mut body, mut one) = (Vec::new(), Vec::new());
    for message in messages {
        one.clear();
        write_bytes_field(&mut one, field::DATA, message.data);
        let mut attributes = message.attributes;
        attributes.sort_unstable();
        for (key, value) in attributes {
            let mut entry = Vec::new();
            write_bytes_field(&mut entry, 1, key.as_bytes());
            write_bytes_field(&mut entry, 2, value.as_bytes());
            write_bytes_field(&mut one, field::ATTRIBUTES, &entry);
        }
        write_bytes_field(&mut one, field::MESSAGE_ID, message.message_id.as_bytes());
        let mut stamp = Vec::new();
        write_varint_field(&mut stamp, 1, message.publish_time.div_euclid(1_000_000) as u64);
        write_varint_field(&mut stamp, 2, message.publish_time.rem_euclid(1_000_000) as u64 * 1_000);
        write_bytes_field(&mut one, field::PUBLISH_TIME, &stamp);
        if !message.ordering_key.is_empty() {
            write_bytes_field(&mut one, field::ORDERING_KEY, message.ordering_key.as_bytes());
        }
        write_bytes_field(&mut body, field::MESSAGES, &one);
    }
    body
}

/// The records of a body.
///
/// # Errors
/// When the body is no protobuf.
pub(crate) fn split(body: &[u8]) -> Result<Vec<RecordSpan>, SplitError> {
    let broken = |WireError { problem, at }| SplitError::Syntax {
        format: Format::Pubsub.name(),
        problem: problem.to_owned(),
        byte_offset: at,
    };
    let mut spans = Vec::new();
    let mut request = Reader::new(body, 0..body.len());
    while let Some(field) = request.next().map_err(broken)? {
        if field.number == field::MESSAGES {
            split_message(body, field.bytes().map_err(broken)?, &mut spans).map_err(broken)?;
        }
    }
    Ok(spans)
}

fn split_message(body: &[u8], message: Range<usize>, spans: &mut Vec<RecordSpan>) -> Result<(), WireError> {
    let mut data = message.end..message.end;
    let mut around = Vec::new();
    let mut fields = Reader::new(body, message);
    while let Some(field) = fields.next()? {
        match field.number {
            field::DATA => data = field.bytes()?,
            _ => around.push(field.whole),
        }
    }
    let format = around.iter().find_map(|range| format_of(body, range));
    let format = format.unwrap_or_else(|| guess(&body[data.clone()]));
    let context = Arc::new(Context { resource: around, ..Context::default() });
    let of_data = |range: Range<usize>| range.start + data.start..range.end + data.start;
    let mut records = batch::records(format, &body[data.clone()]);
    if records.is_empty() {
        records.push(0..data.len());
    }
    let one = |range| RecordSpan { record: of_data(range), context: Some(Arc::clone(&context)) };
    spans.extend(records.into_iter().map(one));
    Ok(())
}

/// What an attribute says of the format, if the field is that attribute.
fn format_of(body: &[u8], range: &Range<usize>) -> Option<Format> {
    let field = Reader::new(body, range.clone()).next().ok()??;
    let (key, value) = attribute(body, &field).ok()??;
    let name = (&body[key] == FORMAT_ATTRIBUTE.as_bytes()).then(|| std::str::from_utf8(&body[value]).ok())??;
    Format::from_name(name).filter(|format| format.is_lines())
}

fn guess(data: &[u8]) -> Format {
    match data.trim_ascii_start().first() {
        Some(b'{' | b'[') => Format::Json,
        _ => Format::Text,
    }
}

/// Where key and value of an attribute are.
type Entry = (Range<usize>, Range<usize>);

/// Key and value of a field that is an attribute.
fn attribute(buffer: &[u8], field: &Field) -> Result<Option<Entry>, WireError> {
    if field.number != field::ATTRIBUTES {
        return Ok(None);
    }
    let (mut key, mut value) = (0..0, 0..0);
    let mut entry = Reader::new(buffer, field.bytes()?);
    while let Some(field) = entry.next()? {
        match field.number {
            1 => key = field.bytes()?,
            2 => value = field.bytes()?,
            _ => {}
        }
    }
    Ok(Some((key, value)))
}

/// Reads what messages say of their records; remembers the last one, since its records follow each other.
#[derive(Debug, Default)]
pub(crate) struct MessageReader {
    context: Option<Arc<Context>>,
    facts: Facts,
    /// Records of the message so far.
    place: u32,
}

/// What a message says of its records.
#[derive(Debug, Default)]
struct Facts {
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    format: Option<Format>,
    message_id: Vec<u8>,
    publish_time: Option<i64>,
    ordering_key: Vec<u8>,
}

impl MessageReader {
    /// Format of the record at `span`, and whether its message says so.
    pub(crate) fn begin(&mut self, body: &[u8], span: &RecordSpan) -> Result<(Format, bool), Defect> {
        let is_same = match (&self.context, &span.context) {
            (Some(last), Some(context)) => Arc::ptr_eq(last, context),
            _ => false,
        };
        let stored = span.context.as_ref().and_then(|context| context.place);
        self.place = stored.unwrap_or(if is_same { self.place + 1 } else { 0 });
        if !is_same {
            self.context.clone_from(&span.context);
            self.facts = Facts::default();
            if let Some(context) = &span.context {
                self.facts = Facts::read(body, context)?;
            }
        }
        let payload = &body[span.record.clone()];
        if payload.is_empty() {
            return Err(Defect::new(Reason::EmptyMessage));
        }
        Ok((self.facts.format.unwrap_or_else(|| guess(payload)), self.facts.format.is_some()))
    }

    /// Fills what the record does not say of itself. `is_alone` says whether the message has no other record.
    pub(crate) fn finish(&self, payload: &[u8], is_alone: bool, receive_time: i64, record: &mut Record) {
        let facts = &self.facts;
        for (name, value) in &facts.attributes {
            let is_time = TIME_ATTRIBUTES.iter().any(|time| time.as_bytes() == name.as_slice());
            if is_time
                && record.time(Time::Event).is_none()
                && let Some(found) = event_time(value, receive_time)
            {
                fields::set_time(record, Time::Event, found);
                continue;
            }
            let (key, text) = (record.keep(name), record.keep(value));
            let value = Value { text, kind: AttributeType::Text };
            fields::assign_typed(record, payload, Place::Resource, key, value);
        }
        if record.time(Time::Event).is_none()
            && let Some(publish_time) = facts.publish_time
        {
            record.set_time(Time::Event, publish_time);
        }
        if !facts.ordering_key.is_empty() {
            note(record, payload, "pubsub.ordering_key", &facts.ordering_key);
        }
        if facts.message_id.is_empty() {
            return;
        }
        match record.text(Text::InsertId) {
            Some(_) => note(record, payload, "pubsub.message_id", &facts.message_id),
            None if is_alone => record.set_text_copy(Text::InsertId, &facts.message_id),
            None => {
                let id = record.keep_with(|out| {
                    out.extend_from_slice(&facts.message_id);
                    out.extend_from_slice(format!("/{}", self.place).as_bytes());
                });
                record.set_text(Text::InsertId, id);
            }
        }
    }
}

fn note(record: &mut Record, payload: &[u8], name: &str, value: &[u8]) {
    let (key, text) = (record.keep(name.as_bytes()), record.keep(value));
    record.add_resource(payload, key, Value { text, kind: AttributeType::Text });
}

/// A time as attributes have it: RFC 3339, or a number since the epoch.
fn event_time(value: &[u8], receive_time: i64) -> Option<ExactTime> {
    time::parse_calendar(value, receive_time).or_else(|| time::of_epoch_number(value.trim_ascii()))
}

impl Facts {
    fn read(body: &[u8], context: &Context) -> Result<Self, WireError> {
        let mut facts = Self::default();
        for range in &context.resource {
            let Some(field) = Reader::new(body, range.clone()).next()? else { continue };
            match field.number {
                field::ATTRIBUTES => {
                    if let Some((key, value)) = attribute(body, &field)? {
                        let (key, value) = (body[key].to_vec(), body[value].to_vec());
                        if key == FORMAT_ATTRIBUTE.as_bytes() {
                            let name = std::str::from_utf8(&value).ok().and_then(Format::from_name);
                            facts.format = name.filter(|format| format.is_lines());
                        }
                        facts.attributes.push((key, value));
                    }
                }
                field::MESSAGE_ID => facts.message_id = body[field.bytes()?].to_vec(),
                field::PUBLISH_TIME => facts.publish_time = Some(timestamp(body, field.bytes()?)?),
                field::ORDERING_KEY => facts.ordering_key = body[field.bytes()?].to_vec(),
                _ => {}
            }
        }
        // The better name of a time first.
        let rank = |name: &[u8]| TIME_ATTRIBUTES.iter().position(|time| time.as_bytes() == name);
        facts.attributes.sort_by_key(|(name, _)| rank(name).unwrap_or(TIME_ATTRIBUTES.len()));
        Ok(facts)
    }
}

/// `google.protobuf.Timestamp`, UTC microseconds.
fn timestamp(buffer: &[u8], range: Range<usize>) -> Result<i64, WireError> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut reader = Reader::new(buffer, range);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => seconds = field.varint()? as i64,
            2 => nanos = field.varint()? as i64,
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
}

/// A body with the given records of a body, each with what its message says.
pub(crate) fn body_of(body: &[u8], spans: &[RecordSpan]) -> Vec<u8> {
    let mut out = Vec::new();
    let is_same = |a: &RecordSpan, b: &RecordSpan| match (&a.context, &b.context) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    };
    for records in spans.chunk_by(is_same) {
        let data: Vec<&[u8]> = records.iter().map(|span| &body[span.record.clone()]).collect();
        let mut message = Vec::new();
        write_bytes_field(&mut message, field::DATA, &data.join(&b'\n'));
        if let Some(context) = &records[0].context {
            context.resource.iter().for_each(|range| message.extend_from_slice(&body[range.clone()]));
        }
        write_bytes_field(&mut out, field::MESSAGES, &message);
    }
    out
}

/// A body whose texts are changed by `change`, which is given the format of the text; ids and times stay. `None` when nothing
/// changes.
pub(crate) fn map_texts(body: &[u8], change: impl Fn(Format, &[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let (mut out, mut is_changed) = (Vec::with_capacity(body.len()), false);
    let mut request = Reader::new(body, 0..body.len());
    let mut read = 0;
    while let Ok(Some(field)) = request.next() {
        read = field.whole.end;
        let message = field.bytes().ok().filter(|_| field.number == field::MESSAGES);
        match message.and_then(|message| map_message(body, message, &change)) {
            Some(changed) => {
                is_changed = true;
                write_bytes_field(&mut out, field::MESSAGES, &changed);
            }
            None => out.extend_from_slice(&body[field.whole]),
        }
    }
    // What is broken from here on is changed as text.
    if read < body.len() {
        let rest = &body[read..];
        let changed = change(Format::Text, rest);
        is_changed |= changed.is_some();
        out.extend_from_slice(changed.as_deref().unwrap_or(rest));
    }
    is_changed.then_some(out)
}

fn map_message(
    body: &[u8],
    message: Range<usize>,
    change: impl Fn(Format, &[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let (mut out, mut is_changed) = (Vec::new(), false);
    let mut fields = Reader::new(body, message.clone());
    let mut read = message.start;
    while let Ok(Some(field)) = fields.next() {
        read = field.whole.end;
        let changed = match field.number {
            field::DATA => field.bytes().ok().and_then(|data| {
                let data = &body[data];
                change(guess(data), data).map(|changed| (field::DATA, changed))
            }),
            field::ATTRIBUTES => attribute(body, &field).ok().flatten().and_then(|(key, value)| {
                let changed = change(Format::Text, &body[value])?;
                let mut entry = Vec::new();
                write_bytes_field(&mut entry, 1, &body[key]);
                write_bytes_field(&mut entry, 2, &changed);
                Some((field::ATTRIBUTES, entry))
            }),
            // Changing an id would make messages repeats of each other.
            field::MESSAGE_ID | field::PUBLISH_TIME => None,
            number => {
                field.bytes().ok().and_then(|text| change(Format::Text, &body[text]).map(|changed| (number, changed)))
            }
        };
        match changed {
            Some((number, bytes)) => {
                is_changed = true;
                write_bytes_field(&mut out, number, &bytes);
            }
            None => out.extend_from_slice(&body[field.whole]),
        }
    }
    if read < message.end {
        let rest = &body[read..message.end];
        let changed = change(Format::Text, rest);
        is_changed |= changed.is_some();
        out.extend_from_slice(changed.as_deref().unwrap_or(rest));
    }
    is_changed.then_some(out)
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::TimestampMicrosecondType;
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{AgeLimits, RawBatch};
    use crate::rules::{Rules, RulesConfig};
    use crate::schema::Table;
    use crate::transform::{Transformed, transform};

    const NOW: i64 = 1_795_392_000_000_000;

    fn message<'a>(message_id: &'a str, data: &'a str, attributes: &[(&'a str, &'a str)]) -> Message<'a> {
        let (data, attributes) = (data.as_bytes(), attributes.to_vec());
        Message { data, attributes, message_id, publish_time: NOW - 5_000_000, ordering_key: "" }
    }

    fn run(body: &[u8]) -> Transformed {
        let raw = RawBatch {
            batch_id: "b",
            source: "orders",
            file: None,
            format: Format::Pubsub,
            is_declared: true,
            receive_time: NOW,
            age: AgeLimits::default(),
            body,
        };
        let rules = Rules::compile(&RulesConfig::default(), &|_| Err(String::new())).expect("no rules");
        transform(&raw, &rules).expect("messages")
    }

    fn texts(transformed: &Transformed, table: Table, column: &str) -> Vec<Option<String>> {
        let column = transformed.tables[table as usize].column_by_name(column).expect("a column").clone();
        let column = arrow_cast_to_text(&column);
        (0..column.len()).map(|row| column.is_valid(row).then(|| column.value(row).to_owned())).collect()
    }

    fn arrow_cast_to_text(column: &arrow_array::ArrayRef) -> arrow_array::StringArray {
        match column.as_string_opt::<i32>() {
            Some(text) => text.clone(),
            None => column.as_string_view().iter().collect(),
        }
    }

    fn times(transformed: &Transformed) -> Vec<i64> {
        let column = transformed.tables[0].column_by_name("event_time").expect("a column");
        column.as_primitive::<TimestampMicrosecondType>().values().to_vec()
    }

    #[test]
    fn records_of_messages_have_ids_times_and_what_attributes_say() {
        let pretty = "{\n  \"message\": \"over\nlines\",\n  \"service\": \"own\"\n}";
        let body = body_of_messages([
            message("1", pretty, &[("service", "shop"), ("team", "a")]),
            message("2", "{\"message\":\"x\"}\n{\"message\":\"y\",\"insert_id\":\"mine\"}", &[("service", "shop")]),
            message("3", "[{\"message\":\"z\"}]", &[("event_time", "2026-11-23T00:00:00Z"), ("timestamp", "7")]),
            message("4", "plain words", &[]),
            message("5", "a=1 msg=pairs", &[("format", "logfmt")]),
        ]);
        let found = run(&body);
        assert_eq!(found.counts.stored, 6, "{:?}", found.problems);
        let some = |texts: [&str; 6]| texts.map(|text| Some(text.to_owned())).to_vec();
        assert_eq!(texts(&found, Table::Logs, "insert_id"), some(["1", "2/0", "mine", "3", "4", "5"]));
        assert_eq!(texts(&found, Table::Logs, "message"), some(["over\nlines", "x", "y", "z", "plain words", "pairs"]));
        let services = [Some("own"), Some("shop"), Some("shop"), None, None, None];
        assert_eq!(texts(&found, Table::Logs, "service"), services.map(|text| text.map(str::to_owned)));
        let published = NOW - 5_000_000;
        assert_eq!(times(&found), [published, published, published, NOW, published, published]);
    }

    #[test]
    fn what_is_no_record_is_a_dead_letter_of_its_message() {
        let body = body_of_messages([
            message("1", "", &[("a", "b")]),
            message("2", "{\"message\":", &[]),
            Message { data: b"\xff\xfe", message_id: "3", publish_time: NOW, ..Message::default() },
            message("4", "{\"message\":\"whole\"}", &[]),
        ]);
        let found = run(&body);
        assert_eq!((found.counts.received, found.counts.stored, found.counts.dead_lettered), (4, 1, 3));
        let reasons = ["empty_message", "json_syntax", "invalid_utf8"].map(|reason| Some(reason.to_owned()));
        assert_eq!(texts(&found, Table::DeadLetters, "reason"), reasons);
    }

    #[test]
    fn a_log_entry_of_a_log_router_sink_is_read_whole() {
        let entry = r#"{"insertId":"abc","jsonPayload":{"message":"paid","order":7},"labels":{"zone":"b"},
            "logName":"projects/p/logs/stdout","receiveTimestamp":"2026-11-23T00:00:02.5Z","severity":"ERROR",
            "resource":{"type":"k8s_container","labels":{"container_name":"pay"}},"timestamp":"2026-11-23T00:00:01Z",
            "trace":"projects/p/traces/0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331"}"#;
        let body =
            body_of_messages([message("9", entry, &[("logging.googleapis.com/timestamp", "2026-11-23T00:00:01Z")])]);
        let found = run(&body);
        assert_eq!(found.counts.stored, 1, "{:?}", found.problems);
        for (column, text) in
            [("insert_id", "abc"), ("message", "paid"), ("trace_id", "0af7651916cd43dd8448eb211c80319c")]
        {
            assert_eq!(texts(&found, Table::Logs, column), [Some(text.to_owned())], "{column}");
        }
    }

    #[test]
    fn the_same_message_again_has_the_same_identity() {
        let twice = |message_id| run(&body_of_messages([message(message_id, "{\"message\":\"x\"}", &[])])).ids[0].id;
        assert_eq!(twice("1"), twice("1"));
        assert_ne!(twice("1"), twice("2"));
        let both = run(&body_of_messages([
            message("1", "{\"message\":\"x\"}", &[]),
            message("1", "{\"message\":\"x\"}", &[]),
        ]));
        assert_eq!((both.counts.stored, both.counts.duplicate), (1, 1));
    }

    #[test]
    fn some_of_the_records_make_a_body_with_what_their_messages_say() {
        let body = body_of_messages([
            message("1", "{\"message\":\"a\"}\n{\"message\":\"b\"}", &[("service", "shop")]),
            message("2", "{\"message\":\"c\"}", &[]),
        ]);
        let spans = split(&body).expect("messages");
        assert_eq!(spans.len(), 3);
        let all = body_of(&body, &spans);
        assert_eq!(texts(&run(&all), Table::Logs, "service"), texts(&run(&body), Table::Logs, "service"));
        let some = run(&body_of(&body, &spans[1..]));
        assert_eq!(texts(&some, Table::Logs, "message"), [Some("b".to_owned()), Some("c".to_owned())]);
        assert_eq!(texts(&some, Table::Logs, "insert_id"), [Some("1".to_owned()), Some("2".to_owned())]);
    }

    #[test]
    fn a_redaction_reaches_data_attributes_and_ordering_keys() {
        let one =
            Message { ordering_key: "secret-3", ..message("1", "{\"message\":\"secret-1\"}", &[("who", "secret-2")]) };
        let body = body_of_messages([one, message("2", "{}", &[])]);
        let change = |_, text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            text.contains("secret").then(|| text.replace("secret", "***").into_bytes())
        };
        let changed = map_texts(&body, change).expect("changed");
        assert!(!String::from_utf8_lossy(&changed).contains("secret"));
        assert_eq!(texts(&run(&changed), Table::Logs, "message"), [Some("***-1".to_owned()), None]);
        assert_eq!(map_texts(&changed, change), None);
    }

    proptest! {
        #[test]
        fn every_message_has_a_record_whatever_its_data(datas in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6)) {
            let body = body_of_messages(datas.iter().map(|data| Message { data, message_id: "m", ..Message::default() }));
            let spans = split(&body).expect("messages");
            let mut contexts: Vec<_> = spans.iter().map(|span| Arc::as_ptr(span.context.as_ref().expect("a message"))).collect();
            contexts.dedup();
            prop_assert_eq!(contexts.len(), datas.len());
        }

        #[test]
        fn any_bytes_are_messages_or_refused(body in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(spans) = split(&body) {
                let again = body_of(&body, &spans);
                prop_assert_eq!(split(&again).expect("messages").len() >= spans.len().min(1), true);
            }
            let _ = map_texts(&body, |_, _| None);
        }
    }
}
