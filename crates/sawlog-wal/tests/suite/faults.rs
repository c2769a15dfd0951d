//! Failing disks: every call fails once, and nothing that was acknowledged is lost.

use crate::common::{Oracle, open, open_with, options, segment_paths};
use sawlog_seams::contract::event_log::append_and_wait;
use sawlog_seams::disk::sim::{DiskOp, Fault};
use sawlog_seams::{AppendError, Disposition, EventLog, Position, SimDisk};
use sawlog_wal::{Wal, WalOptions};
use std::sync::Arc;

/// Appends across several segments, releases and closes. Calls that fail are part of it.
fn run_scenario(disk: &SimDisk, oracle: &mut Oracle) {
    let Ok((wal, _)) = open(disk) else { return };
    for count in [1, 4, 9, 2] {
        oracle.append_group(&wal, count);
    }
    let middle = oracle.acked().nth(5).map_or(Position(0), |(_, appended)| appended.position);
    oracle.release(&wal, middle);
    oracle.append_group(&wal, 5);
    check_recovers_by_itself(&wal, oracle);
}

/// Unless a sync failed, the log takes frames again as soon as the disk does.
fn check_recovers_by_itself(wal: &Wal, oracle: &mut Oracle) {
    let mut last = oracle.append_group(wal, 3);
    for _retry in 0..4 {
        if last.iter().all(Result::is_ok) {
            return;
        }
        last = oracle.append_group(wal, 3);
    }
    assert!(wal.stats().is_failed, "stuck: {last:?}");
}

#[track_caller]
fn check_after(disk: &SimDisk, oracle: &mut Oracle) {
    let (wal, _) = open(disk).expect("a healthy disk opens");
    oracle.check(&wal);
    let outcomes = oracle.append_group(&wal, 2);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    oracle.check(&wal);
    oracle.check_order();
}

/// Fails the n-th call, and the one `gap` calls later, for all n until none is hit.
fn fail_every_call(fault: Fault, gap: Option<u64>, end: fn(&SimDisk, u64) -> SimDisk) -> u64 {
    for n in 1.. {
        let disk = SimDisk::new(n);
        let mut oracle = Oracle::new();
        disk.fail_nth_call(n, fault);
        if let Some(gap) = gap {
            disk.fail_nth_call(n + gap, fault);
        }
        run_scenario(&disk, &mut oracle);
        let calls = disk.calls();
        check_after(&end(&disk, n), &mut oracle);
        if calls < n {
            return n;
        }
    }
    unreachable!("the scenario has finitely many calls")
}

#[test]
fn no_failing_call_loses_or_invents_a_frame() {
    for fault in [Fault::DiskFull, Fault::Io] {
        for end in [|disk: &SimDisk, _| disk.kill(), |disk: &SimDisk, seed| disk.crash(seed)] {
            let calls = fail_every_call(fault, None, end);
            assert!(calls > 60, "the scenario makes only {calls} calls");
        }
    }
}

#[test]
fn no_two_failing_calls_lose_or_invent_a_frame() {
    for fault in [Fault::DiskFull, Fault::Io] {
        for gap in 1..=4 {
            fail_every_call(fault, Some(gap), |disk, _| disk.kill());
            fail_every_call(fault, Some(gap), |disk, seed| disk.crash(seed));
        }
    }
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_stops_the_log_for_good() {
    for n in 1.. {
        let disk = SimDisk::new(n);
        let mut oracle = Oracle::new();
        disk.fail_nth(DiskOp::SyncData, n, Fault::Io);
        let (wal, _) = open(&disk).unwrap();
        let groups: Vec<_> = (0..8).map(|_| oracle.append_group(&wal, 6)).collect();
        if disk.calls_of(DiskOp::SyncData) < n {
            assert!(groups.iter().flatten().all(Result::is_ok));
            return;
        }
        let outcomes: Vec<_> = groups.into_iter().flatten().collect();
        let first_failed = outcomes.iter().position(Result::is_err).expect("a group has failed");
        let failed = &outcomes[first_failed..];
        assert!(matches!(failed[0], Err(AppendError::SyncFailed { .. })));
        assert!(
            failed
                .iter()
                .all(|outcome| { outcome.as_ref().is_err_and(|error| error.disposition() == Disposition::Stop) })
        );
        assert!(matches!(append_and_wait(&wal, b"x"), Err(AppendError::Poisoned)));
        assert!(wal.stats().is_failed);
        let (syncs, appends) = (disk.calls_of(DiskOp::SyncData), disk.calls_of(DiskOp::Append));
        oracle.check(&wal); // what was acknowledged can still be read
        drop(wal);
        assert_eq!(disk.calls_of(DiskOp::SyncData), syncs, "the same pages are not synced again");
        assert_eq!(disk.calls_of(DiskOp::Append), appends);
        check_after(&disk.crash(n), &mut oracle);
    }
}

#[test]
fn a_full_disk_is_reported_and_appends_succeed_again_when_space_is_released() {
    let disk = SimDisk::new(3);
    let mut oracle = Oracle::new();
    disk.set_capacity(8 * 1024);
    let (wal, _) = open(&disk).unwrap();
    let mut is_full = false;
    for _ in 0..20 {
        for outcome in oracle.append_group(&wal, 4) {
            is_full |= matches!(&outcome, Err(AppendError::DiskFull { .. }));
            assert!(matches!(outcome, Ok(_) | Err(AppendError::DiskFull { .. })), "{outcome:?}");
        }
    }
    assert!(is_full && !wal.stats().is_failed);
    oracle.check(&wal);
    drop(wal);
    // A log on a full disk opens and can be read.
    let (wal, _) = open(&disk).unwrap();
    oracle.check(&wal);
    let before = wal.next_position();
    oracle.release(&wal, before);
    assert!(oracle.append_group(&wal, 4).iter().all(Result::is_ok));
    oracle.check(&wal);
    drop(wal);
    check_after(&disk.crash(1), &mut oracle);
}

#[test]
fn when_a_failed_append_cannot_be_cut_off_a_new_segment_disowns_it() {
    let disk = SimDisk::new(0);
    let mut oracle = Oracle::new();
    let (wal, _) = open_with(WalOptions { segment_bytes_max: 1 << 20, ..options() }, Arc::new(disk.clone())).unwrap();
    assert!(oracle.append_group(&wal, 3)[0].is_ok());
    disk.fail_nth(DiskOp::Append, 1, Fault::DiskFull);
    disk.fail_nth(DiskOp::SetLen, 1, Fault::Io);
    let outcomes = oracle.append_group(&wal, 1);
    assert!(matches!(outcomes[0], Err(AppendError::DiskFull { .. })), "{outcomes:?}");
    assert_eq!(segment_paths(&disk).len(), 2);
    assert!(oracle.append_group(&wal, 3).iter().all(Result::is_ok));
    oracle.check(&wal);
    let (_, report) = open(&disk.kill()).unwrap();
    assert!(report.damages.is_empty(), "{report:?}");
}

#[test]
fn when_nothing_can_undo_a_failed_append_the_outcome_is_called_unknown() {
    let disk = SimDisk::new(0);
    let mut oracle = Oracle::new();
    let (wal, _) = open(&disk).unwrap();
    oracle.append_group(&wal, 1);
    disk.fail_nth(DiskOp::Append, 1, Fault::DiskFull);
    disk.fail_nth(DiskOp::SetLen, 1, Fault::Io);
    disk.fail_nth(DiskOp::CreateNew, 1, Fault::DiskFull);
    let outcomes = oracle.append_group(&wal, 1);
    let error = outcomes[0].as_ref().unwrap_err();
    assert!(error.is_outcome_unknown() && matches!(error.disposition(), Disposition::RetryAfter(_)));
    assert!(oracle.append_group(&wal, 3).iter().all(Result::is_ok));
    check_after(&disk.crash(2), &mut oracle);
}

#[test]
fn a_segment_cut_behind_our_back_gets_no_more_records() {
    let disk = SimDisk::new(0);
    let mut oracle = Oracle::new();
    let (wal, _) = open(&disk).unwrap();
    oracle.append_group(&wal, 1);
    let path = &segment_paths(&disk)[0];
    sawlog_seams::Disk::open(&disk, path).unwrap().set_len(70).unwrap();
    assert!(append_and_wait(&wal, b"kept").is_ok());
    assert_eq!(segment_paths(&disk).len(), 2);
    let (wal, report) = open(&disk.kill()).unwrap();
    assert_eq!(report.losses().count(), 2, "a cut record and what is missing after it");
    assert_eq!(report.records, 1, "the kept one");
    drop(wal);
}
