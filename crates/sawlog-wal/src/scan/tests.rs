//! Tests of the walk over damaged segments.

use super::*;
use proptest::prelude::*;

const START: Position = Position(1000);

fn segment(frames: &[Vec<u8>]) -> Vec<u8> {
    let header = SegmentHeader { start: START, previous_end: START, previous_synced: START, created_micros: 0 };
    let mut bytes = header.encode().to_vec();
    for frame in frames {
        let position = Position(START.0 + bytes.len() as u64);
        bytes.extend(RecordHeader::of(RecordKind::Frame, frame, position, position).encode());
        bytes.extend(frame);
    }
    bytes
}

fn frames_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    Scan::new(START, bytes)
        .filter_map(|item| match item {
            Item::Record(record) => Some(bytes[record.payload].to_vec()),
            Item::Damage(_) => None,
        })
        .collect()
}

#[test]
fn a_record_inside_a_damaged_payload_is_not_found() {
    // A frame that holds a forged record, valid for the place where it stands.
    let inner_at = Position(START.0 + 64 + 32);
    let mut frame = RecordHeader::of(RecordKind::Frame, b"forged", inner_at, START).encode().to_vec();
    frame.extend(b"forged and more");
    let mut bytes = segment(&[frame, b"honest".to_vec()]);
    let last_of_first = bytes.len() - 32 - 6 - 1;
    bytes[last_of_first] ^= 1;
    assert_eq!(frames_of(&bytes), [b"honest"]);
}

#[test]
fn a_segment_of_markers_is_scanned_in_linear_time() {
    let mut bytes = segment(&[]);
    bytes.resize(4 << 20, 0xA7);
    assert_eq!(Scan::new(START, &bytes).count(), 1);
}

#[test]
fn a_start_near_the_end_of_numbers_does_not_overflow() {
    let bytes = segment(&[b"x".to_vec()]);
    for start in [u64::MAX, u64::MAX - 64, u64::MAX - 70] {
        assert!(Scan::new(Position(start), &bytes).all(|item| matches!(item, Item::Damage(_))));
        Summary::of(Position(start), &bytes[..bytes.len() - 1]);
        Summary::of(Position(start), &[0; 200]);
    }
}

proptest! {
    #[test]
    fn items_cover_all_bytes_and_records_were_written(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..12),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = segment(&frames);
        for (at, value) in damages {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let cut = cut.index(bytes.len() + 1);
        bytes.truncate(bytes.len().max(200) - cut.min(100).min(bytes.len()));
        let mut offset = SEGMENT_HEADER_LEN.min(bytes.len());
        for item in Scan::new(START, &bytes) {
            let range = match item {
                Item::Record(record) => {
                    prop_assert!(frames.contains(&bytes[record.payload.clone()].to_vec()));
                    record.payload.start - RECORD_HEADER_LEN..record.payload.end
                }
                Item::Damage(range) => range,
            };
            prop_assert_eq!(range.start, offset);
            prop_assert!(range.end > range.start);
            offset = range.end;
        }
        prop_assert_eq!(offset, bytes.len());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), start in any::<u64>()) {
        Summary::of(Position(start), &bytes);
    }
}
