//! Records that are broken on purpose.
//!
//! For: each way of being malformed that a receiver must survive. Not for: deciding when ([`crate::Generator`]).

use crate::rng::Rng;
use crate::scenario::Format;

/// Depth of [`MalformedKind::DeepNesting`]: more than the receiver accepts.
const NESTING: usize = 200;
const NESTING_STEP: &[u8] = b"{\"deeper\":";

/// Texts in the place of a time.
pub(crate) const WRONG_TIMES: [&str; 4] = ["yesterday", "2026-13-45T99:99:99Z", "not-a-time", "32/Foo/2026:03:00:00"];

/// Lines that have nothing to do with the format.
const BARE_TEXTS: [&str; 4] = [
    "Out of memory: Killed process 4242 (java) total-vm:8123456kB, anon-rss:3900000kB",
    "    at shop.api.OrderResource.place(OrderResource.java:118)",
    "+++ Mon reconnect ok +++",
    "<html><head><title>502 Bad Gateway</title></head></html>",
];

/// In which way a record is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MalformedKind {
    /// JSON that breaks off in the middle.
    Truncated,
    /// Bytes that are not UTF-8.
    InvalidUtf8,
    /// Sound, but for a time that is none.
    WrongTimestamp,
    /// JSON whose last string has no end.
    UnterminatedString,
    /// Sound JSON, but nested 200 levels deep.
    DeepNesting,
    /// Text in no format at all.
    BareText,
    /// A NUL byte in a string.
    NulByte,
}

impl MalformedKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Truncated,
        Self::InvalidUtf8,
        Self::WrongTimestamp,
        Self::UnterminatedString,
        Self::DeepNesting,
        Self::BareText,
        Self::NulByte,
    ];
    /// Kinds that the line formats have: a line that breaks off is still a line.
    const OF_LINES: [Self; 4] = [Self::InvalidUtf8, Self::WrongTimestamp, Self::BareText, Self::NulByte];

    /// The kind in words, e.g. `truncated`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::WrongTimestamp => "wrong_timestamp",
            Self::UnterminatedString => "unterminated_string",
            Self::DeepNesting => "deep_nesting",
            Self::BareText => "bare_text",
            Self::NulByte => "nul_byte",
        }
    }

    pub(crate) fn draw(format: Format, rng: &mut Rng) -> Self {
        if format == Format::Ndjson { *rng.pick(&Self::ALL) } else { *rng.pick(&Self::OF_LINES) }
    }
}

/// Breaks the record that starts at `front`. A wrong timestamp is the writer's work.
pub(crate) fn break_record(kind: MalformedKind, out: &mut Vec<u8>, front: usize, rng: &mut Rng) {
    match kind {
        MalformedKind::WrongTimestamp => {}
        MalformedKind::Truncated => {
            let length = (out.len() - front) as u32;
            out.truncate(front + (length * 3 / 10 + rng.below(length * 6 / 10)) as usize);
        }
        MalformedKind::InvalidUtf8 => insert_in_string(out, front, *rng.pick(&[b"\xFF\xFE", b"\xC3\x28", b"\xE2\x82"])),
        MalformedKind::NulByte => insert_in_string(out, front, b"\0"),
        MalformedKind::UnterminatedString => {
            if let Some(place) = last_quote(out, front) {
                out.remove(place);
            }
        }
        MalformedKind::DeepNesting => nest(out),
        MalformedKind::BareText => {
            out.truncate(front);
            out.extend_from_slice(rng.pick(&BARE_TEXTS).as_bytes());
        }
    }
}

/// Place of the record's last quote; both the end of a key and that of a value have a string before them.
fn last_quote(out: &[u8], front: usize) -> Option<usize> {
    out[front..].iter().rposition(|&byte| byte == b'"').map(|place| front + place)
}

fn insert_in_string(out: &mut Vec<u8>, front: usize, bytes: &[u8]) {
    let place = last_quote(out, front).unwrap_or(out.len());
    out.splice(place..place, bytes.iter().copied());
}

/// Adds a deep field to the object at the end of `out`.
fn nest(out: &mut Vec<u8>) {
    out.pop(); // the brace that closes the record
    out.extend_from_slice(b",\"nested\":");
    for _ in 0..NESTING {
        out.extend_from_slice(NESTING_STEP);
    }
    out.push(b'0');
    out.resize(out.len() + NESTING + 1, b'}');
}
