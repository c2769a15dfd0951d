//! Why a record could not become a row.
//!
//! For: the reason codes of dead letters with the words that a person reads. Not for: refusals before anything is
//! kept (rejections), which the receiving side words.

use std::fmt;

/// Stage of the transform that gave up on a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the payload's syntax.
    Parse,
    /// Bringing values to their standard form.
    Standardize,
    /// Deciding which table a record belongs to.
    Classify,
}

impl Stage {
    /// The stage in the `stage` column.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Standardize => "standardize",
            Self::Classify => "classify",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $stage:ident, $error:literal, $remedy:literal;)+) => {
        /// Reason of a dead letter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name),+ }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code in the `reason` column.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            /// The stage that finds it.
            #[must_use]
            pub const fn stage(self) -> Stage {
                match self { $(Self::$name => Stage::$stage),+ }
            }

            /// What is wrong, without the particulars of one record.
            #[must_use]
            pub const fn error(self) -> &'static str {
                match self { $(Self::$name => $error),+ }
            }

            /// What the sender can do about it.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),+ }
            }
        }
    };
}

reasons! {
    /// The JSON text breaks off or has a character where none may be.
    JsonSyntax = "json_syntax", Parse, "the record is not valid JSON",
        "send one complete JSON object for each record; escape quotes, backslashes and line breaks";
    /// Valid JSON, but not an object.
    NotAnObject = "not_an_object", Parse, "the record is JSON but not an object",
        "wrap the value in an object, for example {\"message\": …}";
    /// Nesting past the limit.
    NestingTooDeep = "nesting_too_deep", Parse, "the record nests deeper than 64 levels",
        "flatten the record or send the nested part as a string";
    /// More fields than the limit.
    TooManyFields = "too_many_fields", Parse, "the record has more than 1000 fields",
        "send fewer fields, or put them into one string field";
    /// Bytes that are not UTF-8.
    InvalidUtf8 = "invalid_utf8", Parse, "the record is not valid UTF-8",
        "convert the text to UTF-8 before sending it";
    /// A protobuf record that cannot be decoded.
    ProtobufSyntax = "protobuf_syntax", Parse, "the record is not valid protobuf",
        "check that sender and receiver speak the same OTLP version";
    /// A message without data.
    EmptyMessage = "empty_message", Parse, "the message has attributes and no data",
        "send the event as the data of the message";
    /// A record of a message over the limit.
    RecordTooLarge = "record_too_large", Parse, "the record has more than 1 MiB",
        "split the record, or publish its large part as an object of its own";
    /// A line that does not follow the format it was declared to have.
    FormatMismatch = "format_mismatch", Parse, "the line does not follow the declared format",
        "declare the format that the file has, or let it be detected";
    /// A time that is in no known form.
    TimeUnreadable = "time_unreadable", Standardize, "the time is in no known form",
        "send RFC 3339 such as 2026-01-31T12:00:00Z, or seconds, milliseconds, microseconds or nanoseconds since 1970";
    /// A time outside the accepted range around the receive time.
    TimeOutOfRange = "time_out_of_range", Standardize, "the time is outside the accepted range around the receive time",
        "correct the sender's clock, widen the source's age limits, or load old data with `sawlog ingest`";
    /// A metric without a numeric value.
    MetricWithoutValue = "metric_without_value", Classify, "the metric has no numeric value",
        "send a finite number in the field `value`";
    /// A record that claims to be a metric without a name, or an activity event without one.
    NameMissing = "name_missing", Classify, "the record claims a kind whose name field is missing",
        "send `metric` with a metric, `event` with an activity event, or leave `kind` out";
}

/// A defect found in one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// What is wrong.
    pub reason: Reason,
    /// The field in question, where there is one.
    pub field: Option<String>,
    /// Where in the record, in bytes from its start.
    pub byte_offset: Option<usize>,
    /// Particulars of this record.
    pub detail: Option<String>,
}

/// Longest particular that is quoted from a record.
const DETAIL_CHARS_MAX: usize = 80;

impl Defect {
    /// A defect without particulars.
    #[must_use]
    pub const fn new(reason: Reason) -> Self {
        Self { reason, field: None, byte_offset: None, detail: None }
    }

    /// The same defect at a place in the record.
    #[must_use]
    pub const fn at(mut self, byte_offset: usize) -> Self {
        self.byte_offset = Some(byte_offset);
        self
    }

    /// The same defect in a field.
    #[must_use]
    pub fn in_field(mut self, field: &[u8]) -> Self {
        self.field = Some(String::from_utf8_lossy(field).chars().take(DETAIL_CHARS_MAX).collect());
        self
    }

    /// The same defect with a particular, cut to a readable length.
    #[must_use]
    pub fn about(mut self, detail: &str) -> Self {
        self.detail = Some(detail.chars().take(DETAIL_CHARS_MAX).collect());
        self
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.error())?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        if let Some(offset) = self.byte_offset {
            write!(f, " (at byte {offset})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Defect {}
