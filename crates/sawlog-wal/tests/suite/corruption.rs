//! Damage of every kind: what is intact is replayed, what is not is reported, nothing panics.

use crate::common::{DIR, open, open_with, options, segment_path, segment_paths};
use bytes::Bytes;
use sawlog_seams::contract::event_log::{append_and_wait, frames_from, records_from};
use sawlog_seams::event_log::DamageCause;
use sawlog_seams::{Appended, Disk, EventLog, Position, SeededRng, SimDisk};
use sawlog_wal::{OpenError, RecoveryReport, WalOptions};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HEADER_BYTES: usize = 64;

/// A closed log with its segments, records and frames, to be planted damaged again and again.
struct Original {
    files: Vec<(PathBuf, Vec<u8>)>,
    records: Vec<(Appended, Bytes)>,
}

impl Original {
    fn new(segment_bytes_max: u64, frame_count: u64, frame_bytes_max: usize) -> Self {
        let disk = SimDisk::new(0);
        let options = WalOptions { segment_bytes_max, ..options() };
        let (wal, _) = open_with(options, Arc::new(disk.clone())).unwrap();
        let mut rng = SeededRng::new(1);
        let append = |_| {
            let len = rng.below_usize(frame_bytes_max);
            let frame = Bytes::from(rng.bytes(len));
            (append_and_wait(&wal, &frame).unwrap(), frame)
        };
        let records = (0..frame_count).map(append).collect();
        drop(wal);
        let files = segment_paths(&disk).into_iter();
        let files = files.map(|path| (path.clone(), disk.read(&path).unwrap())).collect();
        Self { files, records }
    }

    fn plant(&self) -> SimDisk {
        let disk = SimDisk::new(0);
        disk.create_dir_all(Path::new(DIR)).unwrap();
        self.files.iter().for_each(|(path, bytes)| disk.plant(path, bytes));
        disk
    }

    /// Frames of the records that do not touch the range of positions.
    fn frames_outside(&self, lost: Range<u64>) -> Vec<Bytes> {
        let is_outside = |at: &Appended| at.next.0 <= lost.start || at.position.0 >= lost.end;
        self.records.iter().filter(|(at, _)| is_outside(at)).map(|(_, frame)| frame.clone()).collect()
    }

    fn start_of(&self, index: usize) -> u64 {
        let name = self.files[index].0.file_stem().unwrap();
        name.to_str().unwrap().parse().unwrap()
    }

    fn range_of(&self, index: usize) -> Range<u64> {
        let start = self.start_of(index);
        start..start + self.files[index].1.len() as u64
    }
}

/// Opens, compares what is left, appends, and finds the same and the new frame at the next open.
#[track_caller]
fn check_goes_on(disk: &SimDisk, expected: &[Bytes]) -> RecoveryReport {
    let (wal, report) = open(disk).unwrap();
    assert_eq!(frames_from(&wal, Position(0)), expected);
    let appended = append_and_wait(&wal, b"later").unwrap();
    assert!(appended.position >= report.next);
    let damages = wal.replay(Position(0), &mut |_, _, _| std::ops::ControlFlow::Continue(()));
    assert_eq!(damages.unwrap().damages, report.damages, "replay reports what open found");
    drop(wal);
    let (wal, again) = open(disk).unwrap();
    let mut expected = expected.to_vec();
    expected.push(Bytes::from_static(b"later"));
    assert_eq!(frames_from(&wal, Position(0)), expected);
    assert_eq!(again.losses().count(), report.losses().count(), "losses stay known");
    report
}

#[test]
fn a_flip_of_any_byte_loses_at_most_the_record_it_hits() {
    let original = Original::new(1 << 20, 150, 950);
    let (path, bytes) = &original.files[0];
    assert!(original.files.len() == 1 && bytes.len() >= 65_536, "{} B", bytes.len());
    let check_from = |first: usize| {
        for offset in (first..bytes.len()).step_by(2) {
            let disk = original.plant();
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1 << (offset % 8);
            disk.plant(path, &flipped);
            let position = offset as u64;
            let expected = original.frames_outside(position..position + 1);
            assert!(original.records.len() - expected.len() <= 1);
            let report = if offset % 61 == 0 {
                check_goes_on(&disk, &expected)
            } else {
                let (wal, report) = open(&disk).unwrap();
                assert_eq!(frames_from(&wal, Position(0)), expected, "flip at {offset}");
                report
            };
            let damage = report.damages.first().expect("every flip is noticed");
            assert!(damage.position.0 <= position && position < damage.end().0);
            assert_eq!(report.damages.len(), 1);
            // The log was closed cleanly, so a lost record is known to be a loss.
            let is_loss = expected.len() < original.records.len();
            assert_eq!(report.losses().count(), usize::from(is_loss), "flip at {offset}");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| check_from(0));
        scope.spawn(|| check_from(1));
    });
}

#[test]
fn a_cut_at_any_byte_keeps_all_records_before_it() {
    let original = Original::new(1 << 20, 12, 200);
    let (path, bytes) = &original.files[0];
    for len in 0..bytes.len() {
        let disk = original.plant();
        disk.plant(path, &bytes[..len]);
        let lost = len as u64..u64::MAX;
        let report = check_goes_on(&disk, &original.frames_outside(lost));
        if len >= HEADER_BYTES {
            assert_eq!(report.losses().count(), 0, "a cut tail looks like a torn one");
        }
    }
}

#[test]
fn damage_in_the_middle_is_copied_to_quarantine_and_skipped() {
    let original = Original::new(1 << 20, 10, 200);
    let (path, bytes) = &original.files[0];
    let (at, _) = original.records[4];
    let disk = original.plant();
    let mut damaged = bytes.clone();
    let range = usize::try_from(at.position.0).unwrap()..usize::try_from(at.next.0).unwrap();
    damaged[range.clone()].fill(0xEE);
    disk.plant(path, &damaged);
    let report = check_goes_on(&disk, &original.frames_outside(at.position.0..at.next.0));
    let damage = report.damages[0];
    assert_eq!((damage.position, damage.end(), damage.cause), (at.position, at.next, DamageCause::Rotten));
    assert_eq!(report.quarantined_records().collect::<Vec<_>>(), [&damage]);
    assert_eq!(report.missing_bytes(), 0);
    let copy = Path::new(DIR).join(format!("quarantine/{:020}.bad", at.position.0));
    assert_eq!(report.quarantined, std::slice::from_ref(&copy));
    assert_eq!(disk.read(&copy).unwrap(), vec![0xEE; range.len()]);
}

#[test]
fn rot_after_open_is_reported_by_the_replay_that_meets_it() {
    let original = Original::new(1 << 20, 10, 200);
    let disk = original.plant();
    let (wal, report) = open(&disk).unwrap();
    assert!(report.damages.is_empty());
    let (path, bytes) = &original.files[0];
    let mut damaged = bytes.clone();
    damaged[usize::try_from(original.records[3].0.next.0).unwrap() - 1] ^= 4;
    disk.plant(path, &damaged);
    let replayed = wal.replay(Position(0), &mut |_, _, _| std::ops::ControlFlow::Continue(()));
    let replayed = replayed.unwrap();
    assert_eq!((replayed.records, replayed.damages.len()), (9, 1));
    disk.plant(path, &bytes[..HEADER_BYTES]);
    let replayed = wal.replay(Position(0), &mut |_, _, _| std::ops::ControlFlow::Continue(()));
    assert_eq!(replayed.unwrap().damages[0].cause, DamageCause::Missing);
}

#[test]
fn a_segment_with_a_damaged_header_gives_its_records() {
    let original = Original::new(2048, 30, 300);
    for (path, bytes) in &original.files {
        let disk = original.plant();
        let mut damaged = bytes.clone();
        damaged[..HEADER_BYTES].fill(0);
        disk.plant(path, &damaged);
        let report = check_goes_on(&disk, &original.frames_outside(0..0));
        assert_eq!(report.damages[0].cause, DamageCause::Header);
    }
}

#[test]
fn zero_filled_random_and_empty_segments_lose_only_themselves() {
    let original = Original::new(2048, 30, 300);
    for (index, (path, bytes)) in original.files.iter().enumerate() {
        let expected = original.frames_outside(original.range_of(index));
        let zeros = vec![0; bytes.len()];
        let noise = SeededRng::new(index as u64).bytes(bytes.len());
        for content in [zeros, noise, vec![]] {
            let disk = original.plant();
            disk.plant(path, &content);
            let report = check_goes_on(&disk, &expected);
            assert!(report.losses().count() >= 1, "{report:?}");
        }
    }
}

#[test]
fn a_missing_segment_is_reported_unless_it_may_have_been_released() {
    let original = Original::new(2048, 30, 300);
    for index in 0..original.files.len() - 1 {
        let disk = original.plant();
        disk.remove(&original.files[index].0).unwrap();
        let range = original.range_of(index);
        let report = check_goes_on(&disk, &original.frames_outside(range.clone()));
        if index == 0 {
            assert_eq!((report.damages.len(), report.oldest.0), (0, range.end));
        } else {
            assert_eq!(report.damages[0].position.0..report.damages[0].end().0, range);
            assert_eq!(report.damages[0].cause, DamageCause::Missing);
        }
    }
}

#[test]
fn swapped_segments_are_read_in_the_right_order_without_loss() {
    let original = Original::new(2048, 30, 300);
    let disk = original.plant();
    disk.plant(&original.files[1].0, &original.files[2].1);
    disk.plant(&original.files[2].0, &original.files[1].1);
    let report = check_goes_on(&disk, &original.frames_outside(0..0));
    assert!(report.damages.is_empty(), "{report:?}");
}

#[test]
fn a_duplicated_segment_is_moved_away_and_nothing_is_replayed_twice() {
    let original = Original::new(2048, 30, 300);
    for (_, bytes) in &original.files {
        for name in [original.start_of(1) + 7, 1 << 40] {
            let disk = original.plant();
            disk.plant(&segment_path(name), bytes);
            let (wal, report) = open(&disk).unwrap();
            assert_eq!(frames_from(&wal, Position(0)), original.frames_outside(0..0));
            assert_eq!(report.foreign_files, [segment_path(name)]);
            assert!(report.damages.is_empty() && report.quarantine_failures == 0);
            assert!(!disk.exists(&segment_path(name)).unwrap());
        }
    }
}

#[test]
fn a_segment_replaced_by_another_loses_only_itself() {
    let original = Original::new(2048, 30, 300);
    let disk = original.plant();
    disk.plant(&original.files[1].0, &original.files[0].1);
    let report = check_goes_on(&disk, &original.frames_outside(original.range_of(1)));
    assert_eq!(report.losses().count(), 1);
}

#[test]
fn random_damage_never_gives_a_wrong_frame() {
    let original = Original::new(2048, 30, 300);
    for seed in 0..300 {
        let mut rng = SeededRng::new(seed);
        let disk = original.plant();
        for _ in 0..=rng.below(4) {
            let (path, bytes) = &original.files[rng.below_usize(original.files.len())];
            let mut bytes = bytes.clone();
            let start = rng.below_usize(bytes.len());
            let end = (start + 1 + rng.below_usize(600)).min(bytes.len());
            match rng.below(3) {
                0 => bytes[start..end].copy_from_slice(&SeededRng::new(seed).bytes(end - start)),
                1 => bytes.truncate(start),
                _ => drop(bytes.splice(start..end, [])),
            }
            disk.plant(path, &bytes);
        }
        let (wal, report) = open(&disk).unwrap();
        for (position, next, frame) in records_from(&wal, Position(0)) {
            let expected = (Appended { position, next }, frame);
            assert!(original.records.contains(&expected), "seed {seed}: a record nobody wrote");
        }
        let appended = append_and_wait(&wal, b"later").unwrap();
        assert!(appended.position >= report.next);
    }
}

#[test]
fn strangers_are_left_alone_and_absurd_names_do_no_harm() {
    let original = Original::new(2048, 10, 300);
    let disk = original.plant();
    let strangers = ["18446744073709551615.wal", "99999999999999999999.wal", "notes.txt"];
    strangers.iter().for_each(|name| disk.plant(&Path::new(DIR).join(name), b"?"));
    disk.plant(&Path::new(DIR).join("00000000000000000000.wal.tmp"), b"half a hea");
    let report = check_goes_on(&disk, &original.frames_outside(0..0));
    assert_eq!(report.foreign_files.len(), strangers.len());
    assert!(disk.exists(&Path::new(DIR).join("notes.txt")).unwrap());
    assert!(!disk.exists(&Path::new(DIR).join("00000000000000000000.wal.tmp")).unwrap());
}

#[test]
fn a_segment_of_a_newer_version_is_not_touched() {
    let original = Original::new(2048, 3, 300);
    let disk = original.plant();
    let (path, bytes) = &original.files[0];
    let mut newer = bytes.clone();
    newer[8] = 2;
    let crc = crc32c::crc32c(&newer[..60]).to_le_bytes();
    newer[60..64].copy_from_slice(&crc);
    disk.plant(path, &newer);
    let error = open(&disk).err().expect("a newer format is refused");
    assert!(matches!(error, OpenError::NewerVersion { version: 2, .. }));
    assert_eq!(disk.read(path).unwrap(), newer);
}
