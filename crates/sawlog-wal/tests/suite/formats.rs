//! Segments of earlier versions (`tests/formats`) are read for ever.

use crate::common::{open, segment_path};
use bytes::Bytes;
use sawlog_seams::contract::event_log::{append_and_wait, frames_from};
use sawlog_seams::event_log::DamageCause;
use sawlog_seams::{Disk, Position, SimDisk};
use std::path::Path;

const SEALED: &[u8] = include_bytes!("../../../../tests/formats/wal-v1-sealed.wal");
const TORN: &[u8] = include_bytes!("../../../../tests/formats/wal-v1-torn.wal");

fn planted() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(crate::common::DIR)).unwrap();
    disk.plant(&segment_path(0), SEALED);
    disk.plant(&segment_path(SEALED.len() as u64), TORN);
    disk
}

fn expected() -> Vec<Bytes> {
    let all_bytes: Vec<u8> = (0..=255).collect();
    [&b"first frame"[..], b"", &all_bytes, b"after the seal"].map(Bytes::copy_from_slice).to_vec()
}

#[test]
fn segments_of_version_1_are_read_and_gone_on_with() {
    let disk = planted();
    let (wal, report) = open(&disk).unwrap();
    assert_eq!(frames_from(&wal, Position(0)), expected());
    let causes: Vec<_> = report.damages.iter().map(|damage| damage.cause).collect();
    assert_eq!((causes, report.torn_bytes()), (vec![DamageCause::TornTail], 50));
    append_and_wait(&wal, b"of today").unwrap();
    drop(wal);
    let (wal, report) = open(&disk).unwrap();
    let all = [expected(), vec![Bytes::from_static(b"of today")]].concat();
    assert_eq!(frames_from(&wal, Position(0)), all);
    assert_eq!(report.losses().count(), 0);
}

/// Today's writer makes version 1: the same frames in the same groups give the same bytes, but for the time.
#[test]
fn today_writes_version_1() {
    let disk = SimDisk::new(1);
    let (wal, _) = open(&disk).unwrap();
    for frame in &expected()[..3] {
        append_and_wait(&wal, frame).unwrap();
    }
    drop(wal);
    let written = disk.read(&segment_path(0)).unwrap();
    assert_eq!(written.len(), SEALED.len());
    assert_eq!(written[..16], SEALED[..16], "magic and version");
    let first = 64..64 + 32 + b"first frame".len();
    assert_eq!(written[first.clone()], SEALED[first], "a record");
    let last = SEALED.len() - 32;
    assert_eq!(written[last..], SEALED[last..], "a seal");
}
