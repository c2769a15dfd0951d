//! Many appenders, readers and a releaser at once.

use crate::common::{DEADLINE, DIR, open_with, options};
use bytes::Bytes;
use sawlog_seams::contract::event_log::records_from;
use sawlog_seams::{AppendError, Appended, Disk, EventLog, Position, RealDisk, ReplayError, SimDisk, SystemClock};
use sawlog_wal::{Wal, WalOptions};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

const THREADS: u64 = 8;
const FRAMES: u64 = 400;

fn append_from_many_threads(wal: &Wal) -> Vec<(u64, Appended)> {
    let (tx, rx) = mpsc::channel();
    thread::scope(|scope| {
        for thread_index in 0..THREADS {
            let tx = tx.clone();
            scope.spawn(move || {
                for index in 0..FRAMES {
                    let id = thread_index * FRAMES + index;
                    let tx = tx.clone();
                    let done = move |outcome: Result<Appended, AppendError>| {
                        tx.send((id, outcome.unwrap())).unwrap();
                    };
                    wal.append(Bytes::copy_from_slice(&id.to_le_bytes()), Box::new(done));
                }
            });
        }
    });
    drop(tx);
    rx.into_iter().collect()
}

#[test]
fn appends_share_syncs_and_are_answered_in_position_order() {
    let dir = tempfile::tempdir().unwrap();
    let disks: [(Arc<dyn Disk>, _); 2] =
        [(Arc::new(SimDisk::new(0)), DIR.into()), (Arc::new(RealDisk), dir.path().join("wal"))];
    for (disk, dir) in disks {
        let options = WalOptions { segment_bytes_max: 16 << 10, ..WalOptions::new(dir) };
        let (wal, _) = Wal::open(options, disk, Arc::new(SystemClock::new())).unwrap();
        let answers = append_from_many_threads(&wal);
        assert_eq!(answers.len() as u64, THREADS * FRAMES);
        assert!(answers.windows(2).all(|pair| pair[0].1.next <= pair[1].1.position));
        let stats = wal.stats();
        assert_eq!(stats.appended_records, THREADS * FRAMES);
        assert!(stats.syncs < stats.appended_records, "{} syncs", stats.syncs);
        assert_eq!(stats.sync_time_counts.iter().sum::<u64>(), stats.syncs);
        let replayed = records_from(&wal, Position(0)).into_iter();
        let replayed: Vec<(u64, Appended)> = replayed
            .map(|(position, next, frame)| {
                let id = u64::from_le_bytes(*frame.first_chunk().unwrap());
                (id, Appended { position, next })
            })
            .collect();
        assert_eq!(replayed, answers);
    }
}

#[test]
fn readers_and_releases_run_beside_appends() {
    let (wal, _) = open_with(options(), Arc::new(SimDisk::new(0))).unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut from, mut read) = (Position(0), 0);
            while !is_done.load(Ordering::SeqCst) || from < wal.next_position() {
                let mut last = from;
                let report = wal.replay(from, &mut |position, next, _| {
                    assert!(position >= last);
                    (last, read) = (next, read + 1);
                    ControlFlow::Continue(())
                });
                let report = report.unwrap();
                assert!(report.damages.is_empty() && report.oldest <= from.max(report.oldest));
                from = report.next;
                wal.release(from).unwrap();
            }
            read
        });
        let answers = append_from_many_threads(&wal);
        is_done.store(true, Ordering::SeqCst);
        assert_eq!(reader.join().unwrap(), answers.len());
    });
    assert!(wal.stats().segments <= 2, "read segments were released");
}

#[test]
fn a_segment_released_under_a_reader_is_an_error_not_a_gap() {
    let (wal, _) = open_with(options(), Arc::new(SimDisk::new(0))).unwrap();
    append_from_many_threads(&wal);
    let result = wal.replay(Position(0), &mut |_, _, _| {
        wal.release(Position(u64::MAX)).unwrap();
        ControlFlow::Continue(())
    });
    assert!(matches!(result, Err(ReplayError::Released { .. })));
}

#[test]
fn a_full_queue_refuses_at_once_and_recovers() {
    let options = WalOptions { queue_bytes_max: 10_000, ..options() };
    let (wal, _) = open_with(options, Arc::new(SimDisk::new(0))).unwrap();
    let (unblock, blocked) = mpsc::channel::<()>();
    let (tx, rx) = mpsc::channel();
    let hold = move |_| {
        let _unblocked = blocked.recv_timeout(DEADLINE);
    };
    wal.append(Bytes::new(), Box::new(hold));
    for _ in 0..100 {
        let tx = tx.clone();
        wal.append(Bytes::from(vec![0; 1000]), Box::new(move |outcome| tx.send(outcome).unwrap()));
    }
    let refused: Vec<_> = rx.try_iter().collect();
    assert!(refused.len() >= 90, "refused before the disk is asked: {}", refused.len());
    assert!(refused.iter().all(|outcome| matches!(outcome, Err(AppendError::Overloaded { .. }))));
    unblock.send(()).unwrap();
    drop(tx);
    assert!(rx.iter().all(|outcome| outcome.is_ok()), "what was queued is kept");
    let stats = wal.stats();
    assert_eq!((stats.refused_records, stats.queued_bytes), (refused.len() as u64, 0));
}

#[test]
fn closing_while_appending_answers_every_frame_exactly_once() {
    for _ in 0..50 {
        let (wal, _) = open_with(options(), Arc::new(SimDisk::new(0))).unwrap();
        let (tx, rx) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..4 {
                let (tx, wal) = (tx.clone(), &wal);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let tx = tx.clone();
                        let done = move |outcome: Result<Appended, AppendError>| {
                            tx.send(outcome.is_ok()).unwrap();
                        };
                        wal.append(Bytes::from_static(b"x"), Box::new(done));
                    }
                });
            }
            scope.spawn(|| wal.close());
            scope.spawn(|| wal.close());
        });
        drop(tx);
        let answers: Vec<bool> = rx.into_iter().collect();
        let kept = answers.iter().filter(|is_ok| **is_ok).count();
        assert_eq!((answers.len(), records_from(&wal, Position(0)).len()), (200, kept));
    }
}
