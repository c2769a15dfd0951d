//! Any bytes as a segment of the event log, and a good segment with damage of any kind: the scan covers all of it once, and
//! what is not damaged is found.

#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use sawlog_seams::Position;

#[path = "../../crates/sawlog-wal/src/format.rs"]
#[expect(dead_code, reason = "files are named elsewhere")]
mod format;
#[path = "../../crates/sawlog-wal/src/scan.rs"]
#[expect(dead_code, reason = "recovery is elsewhere")]
mod scan;

use format::{RecordHeader, RecordKind, SEGMENT_HEADER_LEN, SegmentHeader};
use scan::{Item, Scan, Summary};

const START: Position = Position(4096);

fuzz_target!(|input: (&[u8], Vec<&[u8]>, Vec<(u16, u8)>)| {
    let (any, frames, damage) = input;
    check(any);
    let (mut segment, records) = segment(&frames);
    for (place, change) in &damage {
        let place = usize::from(*place) % segment.len();
        segment[place] ^= change;
    }
    let found = check(&segment);
    for record in records {
        let is_damaged = damage.iter().any(|(place, change)| {
            *change != 0 && record.contains(&(usize::from(*place) % segment.len()))
        });
        // Two changes of one byte may undo each other, so that a damaged record may be found.
        assert!(is_damaged || found.contains(&record.end), "the record at {record:?} is not damaged");
    }
    Summary::of(START, &segment);
});

/// A good segment, and where its records are.
fn segment(frames: &[&[u8]]) -> (Vec<u8>, Vec<Range<usize>>) {
    let header = SegmentHeader { start: START, previous_end: START, previous_synced: START, created_micros: 0 };
    let mut bytes = header.encode().to_vec();
    let mut records = Vec::new();
    for frame in frames {
        let begin = bytes.len();
        let position = Position(START.0 + begin as u64);
        bytes.extend_from_slice(&RecordHeader::of(RecordKind::Frame, frame, position, START).encode());
        bytes.extend_from_slice(frame);
        records.push(begin..bytes.len());
    }
    (bytes, records)
}

/// Scans a segment; returns the ends of its intact records.
fn check(bytes: &[u8]) -> Vec<usize> {
    let mut covered = SEGMENT_HEADER_LEN.min(bytes.len());
    let mut ends = Vec::new();
    for item in Scan::new(START, bytes) {
        let end = match item {
            Item::Record(record) => {
                assert_eq!(record.position.0, START.0 + covered as u64);
                ends.push(record.payload.end);
                record.payload.end
            }
            Item::Damage(range) => {
                assert_eq!(range.start, covered);
                range.end
            }
        };
        assert!(end > covered, "the scan goes on");
        covered = end;
    }
    assert_eq!(covered, bytes.len());
    ends
}
