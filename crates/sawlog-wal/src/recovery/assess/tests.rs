//! Tests of the judgement over several segments.

use super::*;
use crate::scan::Hole;

/// A segment of `len` bytes whose header says that the one before ended at `previous_end`.
fn found(start: u64, len: u64, previous_end: u64) -> Found {
    let header = SegmentHeader {
        start: Position(start),
        previous_end: Position(previous_end),
        previous_synced: Position(previous_end),
        created_micros: 0,
    };
    Found {
        path: PathBuf::from(format!("{start}.wal")),
        named_start: Position(start),
        summary: Summary {
            start: Position(start),
            header: ParsedSegmentHeader::Valid(header),
            file_bytes: len,
            records: 1,
            end: Position(start + len),
            synced: Position(start + len - 10),
            holes: vec![],
        },
    }
}

#[track_caller]
fn check(files: Vec<Found>, damages: &str, next_start: u64) {
    let assessment = assess(files, Position(0));
    let rendered: Vec<String> = assessment
        .damages
        .iter()
        .map(|damage| format!("{:?} {}+{}", damage.cause, damage.position, damage.bytes))
        .collect();
    assert_eq!(rendered.join(" | "), damages);
    assert_eq!(assessment.next_segment.start, Position(next_start));
}

#[test]
fn whole_segments_are_undamaged_wherever_the_log_begins() {
    check(vec![], "", 0);
    check(vec![found(5000, 1000, 4900), found(6000, 500, 6000)], "", 6500);
}

#[test]
fn a_tail_that_the_next_segment_does_not_count_is_no_damage() {
    let mut torn = found(0, 1000, 0);
    torn.summary.end = Position(900);
    check(vec![torn.clone(), found(1000, 500, 900)], "", 1500);
    check(vec![torn], "TornTail 900+100", 1000);
}

#[test]
fn undone_records_do_not_count() {
    let assessment = assess(vec![found(0, 1000, 0), found(800, 500, 800)], Position(0));
    assert_eq!(assessment.segments[0].end, Position(800));
    assert!(assessment.damages.is_empty());
}

#[test]
fn a_promised_end_that_is_not_reached_is_a_loss() {
    let mut rotten = found(0, 1000, 0);
    rotten.summary.end = Position(900);
    check(vec![rotten, found(1000, 500, 1000)], "Rotten 900+100", 1500);
    check(vec![found(0, 700, 0), found(1000, 500, 1000)], "Missing 700+300", 1500);
    check(vec![found(0, 1000, 0), found(2000, 500, 2000)], "Missing 1000+1000", 2500);
}

#[test]
fn a_hole_is_a_loss_only_where_it_had_been_synced() {
    let mut file = found(0, 1000, 0);
    let hole = |position| Hole { position: Position(position), bytes: 10 };
    file.summary.holes = vec![hole(100), hole(995)];
    check(vec![file], "Rotten 100+10 | Unsynced 995+10", 1000);
}

#[test]
fn zeros_in_place_of_a_segment_are_counted_once() {
    let mut zeros = found(1000, 1000, 1000);
    zeros.summary.header = ParsedSegmentHeader::Damaged;
    zeros.summary.records = 0;
    let files = vec![found(0, 1000, 0), zeros.clone(), found(2000, 500, 2000)];
    check(files, "Unrecognised 1000+1000", 2500);
    check(vec![found(0, 1000, 0), zeros], "Unrecognised 1000+1000", 2000);
}

#[test]
fn of_two_files_for_one_place_the_fuller_one_is_kept() {
    let mut copy = found(0, 1000, 0);
    copy.path = PathBuf::from("copy");
    copy.named_start = Position(5000);
    let assessment = assess(vec![found(0, 1000, 0), copy.clone()], Position(0));
    assert_eq!(assessment.duplicates, [PathBuf::from("copy")]);
    assert_eq!(assessment.next_segment.start, Position(6000), "its name is not used either");
    copy.summary.records = 2;
    assert_eq!(assess(vec![found(0, 1000, 0), copy], Position(0)).duplicates, [PathBuf::from("0.wal")]);
}

#[test]
fn positions_that_readers_have_passed_are_not_given_out() {
    assert_eq!(assess(vec![], Position(77)).next_segment.start, Position(77));
    let assessment = assess(vec![found(0, 1000, 0)], Position(77));
    assert_eq!(assessment.next_segment.start, Position(1000));
}
