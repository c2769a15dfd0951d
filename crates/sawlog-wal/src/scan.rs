//! Walk over the bytes of one segment: intact records and the damage between them.
//!
//! For: recovery and replay, which must agree on what is readable. Not for: saying why something is
//! damaged ([`crate::recovery`]). Pure: bytes in, items out; any input ends after finitely many steps.
//! Invariant: the items cover the bytes from the segment header to the end, without gap or overlap.

use crate::format::{
    ParsedSegmentHeader, RECORD_HEADER_LEN, RecordHeader, RecordKind, SEGMENT_HEADER_LEN, SegmentHeader,
};
use sawlog_seams::Position;
use std::ops::Range;

/// A stretch of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Record(Record),
    /// No record can be read from these offsets.
    Damage(Range<usize>),
}

/// An intact record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: RecordKind,
    pub(crate) position: Position,
    pub(crate) next: Position,
    pub(crate) synced: Position,
    /// Offsets of the payload in the segment.
    pub(crate) payload: Range<usize>,
}

/// Iterator over the items of a segment, header excluded.
pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    start: Position,
    offset: usize,
}

/// What stands at an offset.
enum At {
    Record(Record),
    /// The header is intact, so the length can be trusted, but the payload is damaged.
    DamagedPayload {
        end: usize,
    },
    Nothing,
}

impl<'a> Scan<'a> {
    /// Scans a segment whose first byte has the position `start`.
    pub(crate) fn new(start: Position, bytes: &'a [u8]) -> Self {
        Self { bytes, start, offset: SEGMENT_HEADER_LEN.min(bytes.len()) }
    }

    fn position(&self, offset: usize) -> Option<Position> {
        self.start.0.checked_add(u64::try_from(offset).ok()?).map(Position)
    }

    fn parse_at(&self, offset: usize) -> At {
        let header = self.position(offset).and_then(|position| RecordHeader::parse(&self.bytes[offset..], position));
        let Some(header) = header else { return At::Nothing };
        let payload_start = offset + RECORD_HEADER_LEN;
        let end = usize::try_from(header.payload_bytes).ok().and_then(|len| payload_start.checked_add(len));
        let Some(end) = end.filter(|end| *end <= self.bytes.len()) else { return At::Nothing };
        let payload = payload_start..end;
        if crc32c::crc32c(&self.bytes[payload.clone()]) != header.payload_crc {
            return At::DamagedPayload { end };
        }
        let Some(next) = self.position(end) else { return At::Nothing };
        let RecordHeader { kind, position, synced, .. } = header;
        At::Record(Record { kind, position, next, synced, payload })
    }

    /// First offset after `from` where an intact record begins. Linear: every byte is looked at once
    /// as a candidate, and a damaged payload is checked once and then skipped.
    fn find_record(&self, from: usize) -> usize {
        let mut from = from;
        while let Some(candidate) = RecordHeader::find_candidate(self.bytes, from) {
            match self.parse_at(candidate) {
                At::Record(_) => return candidate,
                At::DamagedPayload { end } => from = end,
                At::Nothing => from = candidate + 1,
            }
        }
        self.bytes.len()
    }
}

impl Iterator for Scan<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        let begin = self.offset;
        if begin >= self.bytes.len() {
            return None;
        }
        let search_from = match self.parse_at(begin) {
            At::Record(record) => {
                self.offset = record.payload.end;
                return Some(Item::Record(record));
            }
            At::DamagedPayload { end } => end,
            At::Nothing => begin + 1,
        };
        self.offset = self.find_record(search_from);
        Some(Item::Damage(begin..self.offset))
    }
}

/// What a whole segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Where the segment stands: by its header, or else by its name.
    pub(crate) start: Position,
    pub(crate) header: ParsedSegmentHeader,
    pub(crate) file_bytes: u64,
    pub(crate) records: u64,
    /// After the last intact record (or after the segment header).
    pub(crate) end: Position,
    /// The greatest synced position that the header and the records know of.
    pub(crate) synced: Position,
    /// Damaged ranges before `end`.
    pub(crate) holes: Vec<Hole>,
}

/// A damaged range followed by an intact record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) position: Position,
    pub(crate) bytes: u64,
}

impl Summary {
    /// Summarises a segment found under the name of `named_start`.
    pub(crate) fn of(named_start: Position, bytes: &[u8]) -> Self {
        let header = SegmentHeader::parse(bytes);
        // An intact header knows better than a name, which a copy or a swap can change.
        let (start, synced) = match header {
            ParsedSegmentHeader::Valid(valid) => (valid.start, valid.previous_synced),
            _no_header => (named_start, Position(0)),
        };
        let file_bytes = bytes.len() as u64;
        let end = Position(start.0.saturating_add(file_bytes.min(SEGMENT_HEADER_LEN as u64)));
        let mut summary = Self { start, header, file_bytes, records: 0, end, synced, holes: vec![] };
        let mut damage = None;
        for item in Scan::new(start, bytes) {
            match item {
                Item::Record(record) => summary.add(&record, damage.take()),
                Item::Damage(range) => damage = Some(range),
            }
        }
        summary
    }

    fn add(&mut self, record: &Record, hole: Option<Range<usize>>) {
        if let Some(range) = hole {
            self.holes.push(Hole { position: Position(self.start.0 + range.start as u64), bytes: range.len() as u64 });
        }
        self.records += 1;
        self.end = record.next;
        self.synced = self.synced.max(record.synced);
    }

    /// Whether this file is certainly the segment of its place: a header or a record says so.
    pub(crate) fn is_recognised(&self) -> bool {
        self.records > 0 || matches!(self.header, ParsedSegmentHeader::Valid(_))
    }

    /// First position that no byte of this file has.
    pub(crate) fn file_end(&self) -> Position {
        Position(self.start.0.saturating_add(self.file_bytes))
    }
}

#[cfg(test)]
mod tests;
