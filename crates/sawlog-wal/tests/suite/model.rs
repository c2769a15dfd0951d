//! Random use compared with the simplest model: a list of frames.

use crate::common::{open_with, options};
use bytes::Bytes;
use proptest::prelude::*;
use sawlog_seams::contract::event_log::{append_and_wait, records_from};
use sawlog_seams::{EventLog, Position, SimDisk};
use sawlog_wal::{Wal, WalOptions};
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Reopen,
    ReplayFrom(prop::sample::Index),
    Release(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..700).prop_map(Step::Append),
        1 => Just(Step::Reopen),
        1 => any::<prop::sample::Index>().prop_map(Step::ReplayFrom),
        1 => any::<prop::sample::Index>().prop_map(Step::Release),
    ]
}

fn open(disk: &SimDisk, segment_bytes_max: u64) -> Wal {
    let options = WalOptions { segment_bytes_max, ..options() };
    let (wal, report) = open_with(options, Arc::new(disk.clone())).unwrap();
    assert!(report.damages.is_empty(), "{report:?}");
    wal
}

proptest! {
    #[test]
    fn a_log_equals_a_list_of_frames(
        steps in prop::collection::vec(step(), 1..60),
        segment_bytes_max in 96_u64..4000,
    ) {
        let disk = SimDisk::new(0);
        let mut wal = open(&disk, segment_bytes_max);
        let mut model: Vec<(Position, Position, Bytes)> = Vec::new();
        let mut released = Position(0);
        for step in steps {
            match step {
                Step::Append(frame) => {
                    let at = append_and_wait(&wal, &frame).unwrap();
                    model.push((at.position, at.next, Bytes::from(frame)));
                }
                Step::Reopen => {
                    drop(wal);
                    wal = open(&disk, segment_bytes_max);
                }
                Step::ReplayFrom(index) if !model.is_empty() => {
                    let from = index.get(&model).0.max(released);
                    let expected = &model[model.partition_point(|record| record.0 < from)..];
                    prop_assert_eq!(records_from(&wal, from), expected);
                }
                Step::Release(index) if !model.is_empty() => {
                    released = released.max(index.get(&model).0);
                    wal.release(released).unwrap();
                }
                Step::ReplayFrom(_) | Step::Release(_) => {}
            }
        }
        let expected = &model[model.partition_point(|record| record.0 < released)..];
        prop_assert_eq!(records_from(&wal, released), expected);
    }
}
