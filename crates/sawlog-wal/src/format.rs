//! Byte layout of segments and records, version 1.
//!
//! For: turning headers into bytes and back. Not for: files, or what to do about damage
//! ([`crate::scan`]). The layout is described in docs/formats/wal.md.
//! Invariant: a header is accepted iff its checksum matches and it stands where it says it does.

use sawlog_seams::Position;

pub(crate) const SEGMENT_HEADER_BYTES: u64 = 64;
pub(crate) const RECORD_HEADER_BYTES: u64 = 32;
/// Version written into new segments.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// No segment begins after this, so that adding a file's length to a position cannot overflow. At 1 GiB
/// a second the log gets there after 136 years.
pub(crate) const POSITION_MAX: u64 = 1 << 62;

const SEGMENT_MAGIC: [u8; 8] = *b"SAWLWAL\n";
/// First bytes of each record. The first is not ASCII and the last two cannot occur in UTF-8, so text
/// inside damaged frames is never mistaken for a record.
const FRAME_MARKER: [u8; 4] = [0xA7, b'F', 0xFE, 0xFF];
const SEAL_MARKER: [u8; 4] = [0xA7, b'S', 0xFE, 0xFF];
const MARKER_FIRST_BYTE: u8 = FRAME_MARKER[0];

pub(crate) const SEGMENT_HEADER_LEN: usize = 64;
pub(crate) const RECORD_HEADER_LEN: usize = 32;
const SEGMENT_CRC_AT: usize = SEGMENT_HEADER_LEN - 4;
const RECORD_CRC_AT: usize = RECORD_HEADER_LEN - 4;

/// Start of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Position of the first byte of this file.
    pub(crate) start: Position,
    /// Where the valid records of the segment before ended when this one was created. Anything there
    /// at or after it was torn or undone and does not count.
    pub(crate) previous_end: Position,
    /// Everything before this was known to be synced when this segment was created.
    pub(crate) previous_synced: Position,
    pub(crate) created_micros: i64,
}

/// What stands where a segment header should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParsedSegmentHeader {
    Valid(SegmentHeader),
    /// Intact, but written by a newer Sawlog.
    NewerVersion(u32),
    Damaged,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        // Bytes 12..16 and 48..60 are reserved and zero.
        bytes[16..24].copy_from_slice(&self.start.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.previous_end.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.previous_synced.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.created_micros.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..SEGMENT_CRC_AT]);
        bytes[SEGMENT_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(file: &[u8]) -> ParsedSegmentHeader {
        let Some(bytes) = file.first_chunk::<SEGMENT_HEADER_LEN>() else {
            return ParsedSegmentHeader::Damaged;
        };
        let is_intact = bytes[0..8] == SEGMENT_MAGIC
            && u64_at(bytes, 16) <= POSITION_MAX
            && crc32c::crc32c(&bytes[..SEGMENT_CRC_AT]) == u32_at(bytes, SEGMENT_CRC_AT);
        match u32_at(bytes, 8) {
            _any if !is_intact => ParsedSegmentHeader::Damaged,
            FORMAT_VERSION => ParsedSegmentHeader::Valid(Self {
                start: Position(u64_at(bytes, 16)),
                previous_end: Position(u64_at(bytes, 24)),
                previous_synced: Position(u64_at(bytes, 32)),
                created_micros: u64_at(bytes, 40).cast_signed(),
            }),
            newer => ParsedSegmentHeader::NewerVersion(newer),
        }
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// Carries a frame.
    Frame,
    /// Written by a clean close, without payload: whatever stands before it was complete.
    Seal,
}

/// Start of a record; the payload follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: RecordKind,
    pub(crate) payload_bytes: u32,
    /// Where this header stands, which makes a copied or moved record invalid.
    pub(crate) position: Position,
    /// Everything before this position was synced when this record was written.
    pub(crate) synced: Position,
    pub(crate) payload_crc: u32,
}

impl RecordHeader {
    /// Describes a record to be written at `position`.
    pub(crate) fn of(kind: RecordKind, payload: &[u8], position: Position, synced: Position) -> Self {
        let payload_bytes = u32::try_from(payload.len()).expect("frames are limited to 1 GiB");
        let payload_crc = crc32c::crc32c(payload);
        Self { kind, payload_bytes, position, synced, payload_crc }
    }

    pub(crate) fn encode(&self) -> [u8; RECORD_HEADER_LEN] {
        let mut bytes = [0; RECORD_HEADER_LEN];
        bytes[0..4].copy_from_slice(match self.kind {
            RecordKind::Frame => &FRAME_MARKER,
            RecordKind::Seal => &SEAL_MARKER,
        });
        bytes[4..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.position.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.synced.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..RECORD_CRC_AT]);
        bytes[RECORD_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at the beginning of `bytes`, if it is intact and belongs to `position`.
    pub(crate) fn parse(bytes: &[u8], position: Position) -> Option<Self> {
        let bytes = bytes.first_chunk::<RECORD_HEADER_LEN>()?;
        let kind = match *bytes.first_chunk::<4>()? {
            FRAME_MARKER => RecordKind::Frame,
            SEAL_MARKER => RecordKind::Seal,
            _other => return None,
        };
        let is_intact =
            u64_at(bytes, 8) == position.0 && crc32c::crc32c(&bytes[..RECORD_CRC_AT]) == u32_at(bytes, RECORD_CRC_AT);
        is_intact.then(|| Self {
            kind,
            payload_bytes: u32_at(bytes, 4),
            position,
            synced: Position(u64_at(bytes, 16)),
            payload_crc: u32_at(bytes, 24),
        })
    }

    /// Offset of the next byte in `bytes`, from `from` on, at which a record could begin.
    pub(crate) fn find_candidate(bytes: &[u8], from: usize) -> Option<usize> {
        let rest = bytes.get(from..)?;
        rest.iter().position(|byte| *byte == MARKER_FIRST_BYTE).map(|offset| from + offset)
    }
}

/// Bytes that a record with this payload takes.
pub(crate) fn record_bytes(payload_bytes: u64) -> u64 {
    RECORD_HEADER_BYTES + payload_bytes
}

/// File name of the segment that begins at `start`.
pub(crate) fn segment_name(start: Position) -> String {
    format!("{:020}.wal", start.0)
}

/// The start position in a segment's file name.
pub(crate) fn parse_segment_name(name: &str) -> Option<Position> {
    let digits = name.strip_suffix(".wal")?;
    let is_canonical = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let start = is_canonical.then(|| digits.parse().ok())??;
    (start <= POSITION_MAX).then_some(Position(start))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the header has a fixed size"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the header has a fixed size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_back_and_any_flipped_bit_is_noticed() {
        let header = SegmentHeader {
            start: Position(1 << 40),
            previous_end: Position(77),
            previous_synced: Position(76),
            created_micros: -5,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::parse(&bytes), ParsedSegmentHeader::Valid(header));
        let record = RecordHeader::of(RecordKind::Seal, b"", Position(9), Position(8));
        let record_bytes = record.encode();
        assert_eq!(RecordHeader::parse(&record_bytes, Position(9)), Some(record));
        assert_eq!(RecordHeader::parse(&record_bytes, Position(10)), None);
        for bit in 0..SEGMENT_HEADER_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::parse(&flipped), ParsedSegmentHeader::Damaged);
        }
        for bit in 0..RECORD_HEADER_LEN * 8 {
            let mut flipped = record_bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::parse(&flipped, Position(9)), None);
        }
    }

    #[test]
    fn the_layout_of_version_1_does_not_change() {
        let header = SegmentHeader {
            start: Position(0x0102),
            previous_end: Position(0x0304),
            previous_synced: Position(0x0506),
            created_micros: 0x0708,
        };
        let segment = "5341574c57414c0a0100000000000000020100000000000004030000000000000605000000000000\
                       0807000000000000000000000000000000000000";
        assert_eq!(hex(&header.encode()[..SEGMENT_CRC_AT]), segment);
        let record = RecordHeader::of(RecordKind::Frame, b"123456789", Position(64), Position(64));
        // e3069283 is the published check value of CRC-32C.
        let expected = "a746feff0900000040000000000000004000000000000000839206e3";
        assert_eq!(hex(&record.encode()[..RECORD_CRC_AT]), expected);
    }

    #[test]
    fn only_canonical_names_are_segments() {
        let start = Position(123);
        assert_eq!(parse_segment_name(&segment_name(start)), Some(start));
        for name in ["1.wal", "99999999999999999999.wal", "18446744073709551615.wal", "x"] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
