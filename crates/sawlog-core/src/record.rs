//! One decoded record on its way from bytes to a row.
//!
//! For: holding what a parser found, as spans of the payload or of a scratch buffer, so that the hot path copies
//! each byte once. Not for: naming columns ([`crate::schema`]) or building arrays ([`crate::rows`]).
//! Invariants: a span was made by the record that resolves it; attribute keys are unique within their list.

use crate::fields::Postponed;

/// Bytes of the payload, or of the record's scratch buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u32,
    /// Length; the top bit tells that the bytes are in the scratch buffer.
    len: u32,
}

const IN_SCRATCH: u32 = 1 << 31;

impl Span {
    /// A span of the payload. A payload is far below 2 GiB ([`crate::limits::RECORD_BYTES_MAX`]).
    #[must_use]
    pub fn payload(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end < IN_SCRATCH as usize);
        Self { start: start as u32, len: (end - start) as u32 }
    }

    fn scratch(start: usize, end: usize) -> Self {
        let span = Self::payload(start, end);
        Self { len: span.len | IN_SCRATCH, ..span }
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(self) -> usize {
        (self.len & !IN_SCRATCH) as usize
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The same span without `front` bytes at its start and `back` bytes at its end.
    #[must_use]
    pub fn trimmed(self, front: usize, back: usize) -> Self {
        debug_assert!(front + back <= self.len());
        Self { start: self.start + front as u32, len: self.len - (front + back) as u32 }
    }
}

macro_rules! slots {
    ($(#[$doc:meta])* $name:ident { $($slot:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each slot is the source of the column of the same name in the schema")]
        pub enum $name { $($slot),+ }
        impl $name {
            /// Number of slots.
            pub const COUNT: usize = [$(Self::$slot),+].len();
        }
    };
}

slots! {
    /// Text values of a record.
    Text {
        Service, ServiceVersion, Environment, Region, Host, Logger, Message, MessageType, Signature, EventName, TraceId, SpanId,
        SeverityText, SeverityClass, HttpMethod, HttpPath, HttpRoute, UserId, SessionId, UserSegment, Country, ClientAddress,
        ClientAddressClass, UserAgent, UserAgentFamily, Referrer, InsertId, Device, MetricName, MetricType, Unit,
        Description, Temporality, Exemplars, Stage, Reason, FieldName, Error, Remedy, CodeVersion,
    }
}
slots! {
    /// Integer values of a record.
    Int {
        SeverityNumber, TraceFlags, HttpStatus, DurationUs, RequestBytes, ResponseBytes, IsMonotonic, ValueInt, Count,
        Scale, ZeroCount, PositiveOffset, NegativeOffset, Flags, ByteOffset, Attempt,
        EventTimeNanos, ObservedTimeNanos, StartTimeNanos,
    }
}
slots! {
    /// Floating-point values of a record.
    Float { Value, Sum, Min, Max, ZeroThreshold }
}
slots! {
    /// Times of a record, UTC microseconds since the epoch.
    Time { Event, Observed, Start }
}
slots! {
    /// Integer lists of a record.
    I64List { BucketCounts, PositiveCounts, NegativeCounts }
}
slots! {
    /// Floating-point lists of a record.
    F64List { ExplicitBounds, Quantiles, QuantileValues }
}

/// Type of an attribute's value; the letter stands in the `attribute_types` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeType {
    /// Text.
    Text,
    /// Integer, as written.
    Integer,
    /// Floating-point number, as written.
    Float,
    /// `true` or `false`.
    Bool,
    /// Array or empty object, as JSON.
    Json,
    /// Bytes, base64.
    Bytes,
    /// Null: the key was there, a value was not.
    Null,
}

impl AttributeType {
    /// The letter that stands for the type.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Text => b's',
            Self::Integer => b'i',
            Self::Float => b'd',
            Self::Bool => b'b',
            Self::Json => b'j',
            Self::Bytes => b'x',
            Self::Null => b'n',
        }
    }
}

/// A value as a parser found it: its text and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// The text of the value; empty for null.
    pub text: Span,
    /// Its type.
    pub kind: AttributeType,
}

/// A named value that has no column of its own.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Name, dotted where the input was nested.
    pub key: Span,
    /// Value.
    pub value: Value,
}

/// Attributes of one record with unique keys.
#[derive(Debug, Default)]
pub struct Attributes {
    entries: Vec<Attribute>,
}

impl Attributes {
    /// The attributes in input order.
    #[must_use]
    pub fn entries(&self) -> &[Attribute] {
        &self.entries
    }
}

/// One decoded record. Reused from record to record: [`Record::reset`] keeps the allocations.
#[derive(Debug)]
pub struct Record {
    scratch: Vec<u8>,
    text: [Option<Span>; Text::COUNT],
    int: [Option<i64>; Int::COUNT],
    float: [Option<f64>; Float::COUNT],
    time: [Option<i64>; Time::COUNT],
    /// Integer lists; an empty list stands for none.
    pub(crate) i64_lists: [Vec<i64>; I64List::COUNT],
    /// Floating-point lists; an empty list stands for none.
    pub(crate) f64_lists: [Vec<f64>; F64List::COUNT],
    /// Attributes of the record.
    pub attributes: Attributes,
    /// Attributes of the resource that sent it.
    pub resource: Attributes,
    /// Kind that the record claims for itself.
    pub(crate) claimed_kind: Option<i64>,
    /// The `value` field as written, should the record turn out to be no metric.
    pub(crate) metric_value: Option<Value>,
    /// Whether a metric point says outright that it has no finite value.
    pub(crate) is_without_value: bool,
    /// Fields that wait for the end of the record, when it is known what others said.
    pub(crate) postponed: Vec<Postponed>,
    /// What the record's fields say about its maker.
    pub(crate) traits: Traits,
}

/// What is known about a record besides its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// It has the message of a GELF record.
    pub(crate) has_gelf_message: bool,
    /// It has a GELF version, which stands in the slot of the service's version.
    pub(crate) has_gelf_version: bool,
    /// It has the name of a log, as Google's LogEntry has.
    pub(crate) has_log_name: bool,
    /// Its payload is an audit log of Google's.
    pub(crate) is_audit_log: bool,
    /// The severity number was read from the severity's text.
    pub(crate) is_severity_derived: bool,
    /// The route was made from the path.
    pub(crate) is_route_derived: bool,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            scratch: Vec::with_capacity(1024),
            text: [None; Text::COUNT],
            int: [None; Int::COUNT],
            float: [None; Float::COUNT],
            time: [None; Time::COUNT],
            i64_lists: Default::default(),
            f64_lists: Default::default(),
            attributes: Attributes::default(),
            resource: Attributes::default(),
            claimed_kind: None,
            metric_value: None,
            is_without_value: false,
            postponed: Vec::new(),
            traits: Traits::default(),
        }
    }
}

impl Record {
    /// Forgets all values.
    pub fn reset(&mut self) {
        self.scratch.clear();
        self.text = [None; Text::COUNT];
        self.int = [None; Int::COUNT];
        self.float = [None; Float::COUNT];
        self.time = [None; Time::COUNT];
        self.i64_lists.iter_mut().for_each(Vec::clear);
        self.f64_lists.iter_mut().for_each(Vec::clear);
        self.attributes.entries.clear();
        self.resource.entries.clear();
        self.claimed_kind = None;
        self.metric_value = None;
        self.is_without_value = false;
        self.postponed.clear();
        self.traits = Traits::default();
    }

    /// Takes over all values of another record, none of which may lie in a payload.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.scratch.clone_from(&other.scratch);
        self.text = other.text;
        self.int = other.int;
        self.float = other.float;
        self.time = other.time;
        self.i64_lists.clone_from(&other.i64_lists);
        self.f64_lists.clone_from(&other.f64_lists);
        self.attributes.entries.clone_from(&other.attributes.entries);
        self.resource.entries.clone_from(&other.resource.entries);
        self.claimed_kind = other.claimed_kind;
        self.metric_value = other.metric_value;
        self.is_without_value = other.is_without_value;
        self.postponed.clone_from(&other.postponed);
        self.traits = other.traits;
    }

    /// The bytes of a span.
    #[must_use]
    pub fn bytes<'a>(&'a self, payload: &'a [u8], span: Span) -> &'a [u8] {
        let from = if span.len & IN_SCRATCH == 0 { payload } else { &self.scratch };
        &from[span.start as usize..span.start as usize + span.len()]
    }

    /// The bytes of a text slot.
    #[must_use]
    pub fn text_bytes<'a>(&'a self, payload: &'a [u8], slot: Text) -> Option<&'a [u8]> {
        self.text[slot as usize].map(|span| self.bytes(payload, span))
    }

    /// Copies bytes into the scratch buffer.
    pub fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.scratch.len();
        self.scratch.extend_from_slice(bytes);
        Span::scratch(start, self.scratch.len())
    }

    /// Lets `write` append to the scratch buffer and returns what it appended.
    pub fn keep_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.scratch.len();
        write(&mut self.scratch);
        Span::scratch(start, self.scratch.len())
    }

    /// Copies `prefix` and then the bytes of `span` into the scratch buffer.
    pub fn keep_joined(&mut self, payload: &[u8], prefix: &[u8], span: Span) -> Span {
        let start = self.scratch.len();
        self.scratch.extend_from_slice(prefix);
        if span.len & IN_SCRATCH == 0 {
            self.scratch.extend_from_slice(&payload[span.start as usize..][..span.len()]);
        } else {
            self.scratch.extend_from_within(span.start as usize..span.start as usize + span.len());
        }
        Span::scratch(start, self.scratch.len())
    }

    /// The span in a text slot.
    #[must_use]
    pub fn text(&self, slot: Text) -> Option<Span> {
        self.text[slot as usize]
    }

    /// Fills a text slot.
    pub fn set_text(&mut self, slot: Text, span: Span) {
        self.text[slot as usize] = Some(span);
    }

    /// Empties a text slot.
    pub fn clear_text(&mut self, slot: Text) {
        self.text[slot as usize] = None;
    }

    /// Fills a text slot with a copy.
    pub fn set_text_copy(&mut self, slot: Text, bytes: &[u8]) {
        let span = self.keep(bytes);
        self.set_text(slot, span);
    }

    /// The value in an integer slot.
    #[must_use]
    pub fn int(&self, slot: Int) -> Option<i64> {
        self.int[slot as usize]
    }

    /// Fills an integer slot.
    pub fn set_int(&mut self, slot: Int, value: i64) {
        self.int[slot as usize] = Some(value);
    }

    /// The value in a floating-point slot.
    #[must_use]
    pub fn float(&self, slot: Float) -> Option<f64> {
        self.float[slot as usize]
    }

    /// Fills a floating-point slot.
    pub fn set_float(&mut self, slot: Float, value: f64) {
        self.float[slot as usize] = Some(value);
    }

    /// Empties a floating-point slot.
    pub(crate) fn clear_float(&mut self, slot: Float) {
        self.float[slot as usize] = None;
    }

    /// The time in a time slot, microseconds since the epoch.
    #[must_use]
    pub fn time(&self, slot: Time) -> Option<i64> {
        self.time[slot as usize]
    }

    /// Fills a time slot, microseconds since the epoch.
    pub fn set_time(&mut self, slot: Time, micros: i64) {
        self.time[slot as usize] = Some(micros);
    }

    /// Adds an attribute. A key that is there already gets the suffix `#2`, `#3`, …, so that nothing is lost.
    pub fn add_attribute(&mut self, payload: &[u8], key: Span, value: Value) {
        let key = self.unique_key(payload, &self.attributes, key).unwrap_or_else(|name| self.keep(&name));
        self.attributes.entries.push(Attribute { key, value });
    }

    /// Adds an attribute of the resource; keys as in [`Record::add_attribute`].
    pub fn add_resource(&mut self, payload: &[u8], key: Span, value: Value) {
        let key = self.unique_key(payload, &self.resource, key).unwrap_or_else(|name| self.keep(&name));
        self.resource.entries.push(Attribute { key, value });
    }

    /// Replaces keys and values of attributes for which `rewrite` has a new text. What was a number or a truth value is a
    /// text then.
    pub(crate) fn rewrite_attributes(
        &mut self,
        payload: &[u8],
        rewrite: impl Fn(&[u8], AttributeType) -> Option<Vec<u8>>,
    ) {
        let mut attributes = std::mem::take(&mut self.attributes);
        self.rewrite_list(payload, &mut attributes, &rewrite);
        self.attributes = attributes;
        let mut resource = std::mem::take(&mut self.resource);
        self.rewrite_list(payload, &mut resource, &rewrite);
        self.resource = resource;
    }

    fn rewrite_list(
        &mut self,
        payload: &[u8],
        list: &mut Attributes,
        rewrite: &impl Fn(&[u8], AttributeType) -> Option<Vec<u8>>,
    ) {
        for index in 0..list.entries.len() {
            let Attribute { key, mut value } = list.entries[index];
            if let Some(text) = rewrite(self.bytes(payload, value.text), value.kind) {
                value.text = self.keep(&text);
                if value.kind != AttributeType::Json {
                    value.kind = AttributeType::Text;
                }
                list.entries[index].value = value;
            }
            if let Some(key) = rewrite(self.bytes(payload, key), AttributeType::Text) {
                let key = self.keep(&key);
                list.entries.remove(index);
                let key = self.unique_key(payload, list, key).unwrap_or_else(|name| self.keep(&name));
                list.entries.insert(index, Attribute { key, value });
            }
        }
    }

    /// The key itself where it is new, else a name that is.
    fn unique_key(&self, payload: &[u8], list: &Attributes, key: Span) -> Result<Span, Vec<u8>> {
        let name = self.bytes(payload, key);
        let is_used = |wanted: &[u8]| {
            list.entries.iter().any(|entry| entry.key.len() == wanted.len() && self.bytes(payload, entry.key) == wanted)
        };
        if !is_used(name) {
            return Ok(key);
        }
        let is_repeat = |entry: &&Attribute| {
            let rest = self.bytes(payload, entry.key).strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"#"))
        };
        let mut repeat = list.entries.iter().filter(is_repeat).count() + 1;
        loop {
            let candidate = [name, b"#", repeat.to_string().as_bytes()].concat();
            if !is_used(&candidate) {
                return Err(candidate);
            }
            repeat += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_is_kept_under_a_numbered_name() {
        let payload = b"aaa";
        let mut record = Record::default();
        let value = Value { text: Span::payload(0, 1), kind: AttributeType::Text };
        for _ in 0..3 {
            record.add_attribute(payload, Span::payload(0, 1), value);
        }
        let keys: Vec<_> = record.attributes.entries().iter().map(|entry| record.bytes(payload, entry.key)).collect();
        assert_eq!(keys, [&b"a"[..], b"a#2", b"a#3"]);
    }
}
