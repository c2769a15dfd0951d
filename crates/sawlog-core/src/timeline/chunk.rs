//! Entries of a user's timeline, in chunks.

use crate::timeline::CHUNK_SPAN;
use crate::varint;
use crate::window::floor;

const VERSION: u8 = 1;
/// Most entries of one chunk.
pub(super) const ENTRIES_MAX: usize = 100;
/// Entries that one user may get at once; older ones are left out and counted.
pub(super) const ENTRIES_OF_USER_MAX: usize = 1_000;
/// Longest text of an entry; longer ones are cut. Bytes.
const TEXT_BYTES_MAX: usize = 200;

/// What an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// An activity event.
    Activity,
    /// A log record.
    Log,
}

impl EntryKind {
    /// Name of the table that has the row.
    #[must_use]
    pub const fn table(self) -> &'static str {
        match self {
            Self::Activity => "activity",
            Self::Log => "logs",
        }
    }
}

/// What happened at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Event time, UTC microseconds.
    pub time: i64,
    /// What the entry is of.
    pub kind: EntryKind,
    /// HTTP status.
    pub status: Option<i64>,
    /// Duration, microseconds.
    pub duration: Option<i64>,
    /// Batch of the row.
    pub batch_id: Box<str>,
    /// Place of the row in its batch.
    pub record_index: u32,
    /// Name of the event, or the log record's message.
    pub name: Option<Box<str>>,
    /// Service.
    pub service: Option<Box<str>>,
    /// Route of the page or request.
    pub route: Option<Box<str>>,
    /// Severity class of a log record.
    pub severity: Option<Box<str>>,
}

/// Bytes that are no chunk.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no part of a timeline of version {VERSION}")]
pub struct ChunkError;

/// A stretch of a user's timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Entries, newest first.
    pub entries: Vec<Entry>,
    /// Entries just before the oldest one that were left out, since the user had too many at once.
    pub omitted_count: u64,
}

impl Chunk {
    /// The bytes: version, entries left out, number of entries, then each entry with its distance in time from the one
    /// before it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint::write(&mut out, self.omitted_count);
        varint::write(&mut out, self.entries.len() as u64);
        let mut newer = 0i64;
        for entry in &self.entries {
            varint::write_signed(&mut out, entry.time.wrapping_sub(newer));
            newer = entry.time;
            write_entry(&mut out, entry);
        }
        out
    }

    /// Reads a chunk.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChunkError> {
        Self::read(bytes).ok_or(ChunkError)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes.strip_prefix(&[VERSION])?;
        let omitted_count = varint::read(rest)?;
        let count = varint::read(rest).filter(|count| *count <= ENTRIES_MAX as u64)?;
        let (mut entries, mut newer) = (Vec::with_capacity(count as usize), 0i64);
        for _ in 0..count {
            newer = newer.wrapping_add(varint::read_signed(rest)?);
            entries.push(read_entry(rest, newer)?);
        }
        rest.is_empty().then_some(Self { entries, omitted_count })
    }
}

/// Entries, newest first, in chunks that each lie within one stretch of [`CHUNK_SPAN`].
pub(super) fn in_chunks(entries: impl IntoIterator<Item = Entry>, omitted_count: u64) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for entry in entries {
        let stretch = floor(entry.time, CHUNK_SPAN);
        let has_room = |chunk: &&mut Chunk| {
            chunk.entries.len() < ENTRIES_MAX
                && chunk.entries.last().is_some_and(|last| floor(last.time, CHUNK_SPAN) == stretch)
        };
        match chunks.last_mut().filter(has_room) {
            Some(chunk) => chunk.entries.push(entry),
            None => chunks.push(Chunk { entries: vec![entry], omitted_count: 0 }),
        }
    }
    if let Some(last) = chunks.last_mut() {
        last.omitted_count = omitted_count;
    }
    chunks
}

/// The entries of several chunks of one user in as few chunks as hold them, newest first, in whatever order the chunks come.
#[must_use]
pub fn merged(chunks: Vec<Chunk>) -> Vec<Chunk> {
    let omitted_before: u64 = chunks.iter().map(|chunk| chunk.omitted_count).sum();
    let mut entries: Vec<Entry> = chunks.into_iter().flat_map(|chunk| chunk.entries).collect();
    entries.sort_by(|one, other| {
        let key = |entry: &Entry| (entry.time, entry.kind as u8);
        let place = |entry: &'_ Entry| (entry.batch_id.clone(), entry.record_index);
        key(other).cmp(&key(one)).then_with(|| place(other).cmp(&place(one)))
    });
    let omitted = entries.len().saturating_sub(ENTRIES_OF_USER_MAX) as u64;
    entries.truncate(ENTRIES_OF_USER_MAX);
    in_chunks(entries, omitted_before + omitted)
}

/// A text as entries keep it.
pub(super) fn cut(text: &str) -> Box<str> {
    Box::from(&text[..text.floor_char_boundary(TEXT_BYTES_MAX)])
}

// The first byte says what is there: one bit for the kind, each number and each text.
const IS_LOG: u8 = 1;
const HAS_STATUS: u8 = 2;
const HAS_DURATION: u8 = 4;
const FIRST_TEXT: u8 = 8;

fn write_entry(out: &mut Vec<u8>, entry: &Entry) {
    let texts = [&entry.name, &entry.service, &entry.route, &entry.severity];
    let mut head = match entry.kind {
        EntryKind::Activity => 0,
        EntryKind::Log => IS_LOG,
    };
    head |= if entry.status.is_some() { HAS_STATUS } else { 0 };
    head |= if entry.duration.is_some() { HAS_DURATION } else { 0 };
    for (at, text) in texts.iter().enumerate() {
        head |= if text.is_some() { FIRST_TEXT << at } else { 0 };
    }
    out.push(head);
    for number in [entry.status, entry.duration].into_iter().flatten() {
        varint::write_signed(out, number);
    }
    write_text(out, &entry.batch_id);
    varint::write(out, u64::from(entry.record_index));
    texts.into_iter().flatten().for_each(|text| write_text(out, text));
}

fn read_entry(bytes: &mut &[u8], time: i64) -> Option<Entry> {
    let (&head, rest) = bytes.split_first()?;
    *bytes = rest;
    let mut number = |bit: u8| (head & bit != 0).then(|| varint::read_signed(bytes));
    let (status, duration) = (number(HAS_STATUS), number(HAS_DURATION));
    let batch_id = read_text(bytes)?;
    let record_index = u32::try_from(varint::read(bytes)?).ok()?;
    let mut texts = [None, None, None, None];
    for (at, text) in texts.iter_mut().enumerate() {
        if head & (FIRST_TEXT << at) != 0 {
            *text = Some(read_text(bytes)?);
        }
    }
    let [name, service, route, severity] = texts;
    let kind = if head & IS_LOG != 0 { EntryKind::Log } else { EntryKind::Activity };
    let (status, duration) =
        (status.map_or(Some(None), |read| read.map(Some))?, duration.map_or(Some(None), |read| read.map(Some))?);
    Some(Entry { time, kind, status, duration, batch_id, record_index, name, service, route, severity })
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    varint::write(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn read_text(bytes: &mut &[u8]) -> Option<Box<str>> {
    let len = varint::read(bytes).filter(|len| *len <= TEXT_BYTES_MAX as u64)?;
    let (text, rest) = bytes.split_at_checked(len as usize)?;
    *bytes = rest;
    Some(Box::from(std::str::from_utf8(text).ok()?))
}
