//! Contract of [`EventLog`]: one function per sentence of the trait's documentation.
//!
//! For: every implementation, through [`event_log_contract!`](crate::event_log_contract). Not for:
//! power loss and disk faults, which need an implementation's own disk.

use crate::event_log::{AppendError, Appended, EventLog, Position};
use bytes::Bytes;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Longest wait for an answer: far more than any log needs, so that only a lost answer fails.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// One storage, on which a log can be opened again and again.
pub trait Fixture {
    /// Opens a log on the storage. The log opened before has been closed and dropped.
    fn open(&self) -> Arc<dyn EventLog>;
    /// Largest frame that the log takes.
    fn frame_bytes_max(&self) -> u64;
}

/// Makes one `#[test]` per function of the contract; the expression gives a [`Fixture`] with fresh
/// storage.
#[macro_export]
macro_rules! event_log_contract {
    ($fixture:expr) => {
        $crate::event_log_contract! { @tests $fixture;
            done_is_called_once_per_frame_in_position_order
            positions_grow_and_next_lies_between_records
            replay_yields_frames_in_append_order
            replay_from_next_goes_on_after_the_record
            replay_stops_when_the_visitor_breaks
            acknowledged_frames_survive_reopening
            positions_grow_across_reopening
            next_position_is_after_every_acknowledged_record
            release_keeps_records_at_or_after_the_position
            append_does_not_wait_for_earlier_answers
            done_may_append_again
            a_panic_in_done_does_not_stop_the_log
            close_answers_what_is_queued_and_refuses_the_rest
            close_from_inside_done_returns
            an_empty_frame_is_a_record
            a_frame_too_large_is_refused_and_not_kept
            stats_count_acknowledged_records
        }
    };
    (@tests $fixture:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::contract::event_log::$name(&$fixture);
            }
        )*
    };
}

/// Appends one frame and waits for its answer.
pub fn append_and_wait(log: &dyn EventLog, frame: &[u8]) -> Result<Appended, AppendError> {
    let (tx, rx) = mpsc::channel();
    let done = move |outcome| tx.send(outcome).expect("the receiver waits below");
    log.append(Bytes::copy_from_slice(frame), Box::new(done));
    rx.recv_timeout(ANSWER_DEADLINE).expect("every append is answered")
}

/// Replays the log and collects (position, next, frame).
pub fn records_from(log: &dyn EventLog, from: Position) -> Vec<(Position, Position, Bytes)> {
    let mut records = Vec::new();
    let report = log.replay(from, &mut |position, next, frame| {
        records.push((position, next, frame));
        ControlFlow::Continue(())
    });
    let report = report.expect("the log is readable");
    assert_eq!(report.records, records.len() as u64);
    records
}

/// Replays the log and collects the frames.
pub fn frames_from(log: &dyn EventLog, from: Position) -> Vec<Bytes> {
    records_from(log, from).into_iter().map(|(_, _, frame)| frame).collect()
}

fn append_ok(log: &dyn EventLog, frame: &[u8]) -> Appended {
    append_and_wait(log, frame).expect("a healthy log takes a small frame")
}

fn numbered(index: u64) -> Vec<u8> {
    let length = usize::try_from(index % 97).expect("a small number");
    let mut frame = index.to_le_bytes().to_vec();
    frame.resize(8 + length, b'x');
    frame
}

/// "`done` is called exactly once … from the log's own thread, in position order."
pub fn done_is_called_once_per_frame_in_position_order(fixture: &dyn Fixture) {
    const THREADS: u64 = 4;
    const FRAMES: u64 = 100;
    let log = fixture.open();
    let answers = Arc::new(Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for thread_index in 0..THREADS {
            let (log, answers) = (&log, &answers);
            scope.spawn(move || {
                for index in 0..FRAMES {
                    let id = thread_index * FRAMES + index;
                    let answers = Arc::clone(answers);
                    let done = move |outcome: Result<Appended, AppendError>| {
                        let position = outcome.expect("the log is healthy").position;
                        let answer = (position, id, thread::current().id());
                        answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                    };
                    log.append(Bytes::from(numbered(id)), Box::new(done));
                }
            });
        }
    });
    log.close();
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(answers.windows(2).all(|pair| pair[0].0 < pair[1].0), "in position order");
    assert!(answers.windows(2).all(|pair| pair[0].2 == pair[1].2), "from one thread");
    assert!(answers.iter().all(|answer| answer.2 != thread::current().id()), "the log's own");
    let mut ids: Vec<u64> = answers.iter().map(|answer| answer.1).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..THREADS * FRAMES).collect::<Vec<u64>>(), "each exactly once");
}

/// "`next`: greater than `position`, not greater than the position of any later record."
pub fn positions_grow_and_next_lies_between_records(fixture: &dyn Fixture) {
    let log = fixture.open();
    let appended: Vec<Appended> = (0..50).map(|index| append_ok(&*log, &numbered(index))).collect();
    assert!(appended[0].position > Position(0), "zero means the beginning, not a record");
    assert!(appended.iter().all(|record| record.position < record.next));
    assert!(appended.windows(2).all(|pair| pair[0].next <= pair[1].position));
    let replayed = records_from(&*log, Position(0));
    let replayed: Vec<Appended> = replayed.iter().map(|&(position, next, _)| Appended { position, next }).collect();
    assert_eq!(appended, replayed, "append and replay give the same positions");
}

/// "`replay` yields frames in position order", the order of acknowledged appends.
pub fn replay_yields_frames_in_append_order(fixture: &dyn Fixture) {
    let log = fixture.open();
    for index in 0..50 {
        append_ok(&*log, &numbered(index));
    }
    let expected: Vec<Vec<u8>> = (0..50).map(numbered).collect();
    assert_eq!(frames_from(&*log, Position(0)), expected);
}

/// "Calls `visit` for each intact record at or after `from`."
pub fn replay_from_next_goes_on_after_the_record(fixture: &dyn Fixture) {
    let log = fixture.open();
    let appended: Vec<Appended> = (0..20).map(|index| append_ok(&*log, &numbered(index))).collect();
    for (index, record) in appended.iter().enumerate() {
        let at = frames_from(&*log, record.position).len();
        let after = frames_from(&*log, record.next).len();
        let inside = frames_from(&*log, Position(record.position.0 + 1)).len();
        assert_eq!((at, after, inside), (20 - index, 19 - index, 19 - index));
    }
}

/// "… until it breaks"; the report says where to go on.
pub fn replay_stops_when_the_visitor_breaks(fixture: &dyn Fixture) {
    let log = fixture.open();
    for index in 0..10 {
        append_ok(&*log, &numbered(index));
    }
    let mut seen = 0;
    let report = log.replay(Position(0), &mut |_, _, _| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = report.expect("the log is readable");
    assert_eq!((seen, report.records), (3, 3));
    assert_eq!(frames_from(&*log, report.next)[0], numbered(3));
    let full = log.replay(Position(0), &mut |_, _, _| ControlFlow::Continue(()));
    assert_eq!(full.expect("the log is readable").next, log.next_position());
}

/// "Once `done` gets `Ok`, the frame survives" a restart.
pub fn acknowledged_frames_survive_reopening(fixture: &dyn Fixture) {
    let mut expected = Vec::new();
    for round in 0..4 {
        let log = fixture.open();
        assert_eq!(frames_from(&*log, Position(0)), expected);
        for index in 0..5 {
            append_ok(&*log, &numbered(round * 5 + index));
            expected.push(numbered(round * 5 + index));
        }
    }
    assert_eq!(frames_from(&*fixture.open(), Position(0)), expected);
}

/// "Strictly growing over the life of the log, across restarts."
pub fn positions_grow_across_reopening(fixture: &dyn Fixture) {
    let mut last = Position(0);
    for round in 0..5 {
        let log = fixture.open();
        assert!(log.next_position() >= last);
        let appended = append_ok(&*log, &numbered(round));
        assert!(appended.position >= last);
        last = appended.next;
    }
}

/// "Where the log goes on: greater than the position of every durable record."
pub fn next_position_is_after_every_acknowledged_record(fixture: &dyn Fixture) {
    let log = fixture.open();
    for index in 0..20 {
        let expected_min = log.next_position();
        let appended = append_ok(&*log, &numbered(index));
        assert!(appended.position >= expected_min);
        assert!(log.next_position() >= appended.next);
        assert!(frames_from(&*log, log.next_position()).is_empty());
    }
}

/// "Records at or after `before` stay."
pub fn release_keeps_records_at_or_after_the_position(fixture: &dyn Fixture) {
    let log = fixture.open();
    let appended: Vec<Appended> = (0..60).map(|index| append_ok(&*log, &numbered(index))).collect();
    for (index, record) in appended.iter().enumerate().step_by(7) {
        log.release(record.position).expect("nothing hinders the release");
        let kept = frames_from(&*log, record.position);
        assert_eq!(kept.len(), 60 - index);
        assert_eq!(kept[0], numbered(index as u64));
    }
    log.release(Position(u64::MAX)).expect("nothing hinders the release");
    let later = append_ok(&*log, b"later");
    assert!(later.position >= appended[59].next, "a released position is not used again");
    assert_eq!(frames_from(&*log, later.position), [&b"later"[..]]);
}

/// "Queues one frame. Never blocks on disk."
pub fn append_does_not_wait_for_earlier_answers(fixture: &dyn Fixture) {
    let log = fixture.open();
    let (unblock, blocked) = mpsc::channel::<()>();
    let (tx, rx) = mpsc::channel();
    let first = move |_| {
        let _unblocked = blocked.recv_timeout(ANSWER_DEADLINE);
    };
    log.append(Bytes::from_static(b"first"), Box::new(first));
    for _ in 0..10 {
        let tx = tx.clone();
        let done = move |outcome| tx.send(outcome).expect("the receiver waits below");
        log.append(Bytes::from_static(b"second"), Box::new(done));
    }
    assert!(rx.try_recv().is_err(), "the log's thread is still in the first answer");
    unblock.send(()).expect("the first answer waits");
    for _ in 0..10 {
        let outcome = rx.recv_timeout(ANSWER_DEADLINE).expect("every append is answered");
        outcome.expect("the log is healthy");
    }
}

/// "`done` may append again."
pub fn done_may_append_again(fixture: &dyn Fixture) {
    let log = fixture.open();
    let (tx, rx) = mpsc::channel();
    let inner_log = Arc::downgrade(&log);
    let first = move |outcome: Result<Appended, AppendError>| {
        outcome.expect("the log is healthy");
        let log = inner_log.upgrade().expect("the test holds the log");
        let done = move |outcome| tx.send(outcome).expect("the receiver waits below");
        log.append(Bytes::from_static(b"second"), Box::new(done));
    };
    log.append(Bytes::from_static(b"first"), Box::new(first));
    let outcome = rx.recv_timeout(ANSWER_DEADLINE).expect("every append is answered");
    outcome.expect("the log is healthy");
    assert_eq!(frames_from(&*log, Position(0)).len(), 2);
}

/// "A panic in it does not stop the log."
pub fn a_panic_in_done_does_not_stop_the_log(fixture: &dyn Fixture) {
    let log = fixture.open();
    // `resume_unwind` panics without printing a report into the test's output.
    let bug = |_| std::panic::resume_unwind(Box::new("a caller's bug"));
    log.append(Bytes::from_static(b"first"), Box::new(bug));
    append_ok(&*log, b"second");
    assert_eq!(frames_from(&*log, Position(0)).len(), 2);
}

/// "Finishes what is queued, syncs, and refuses later appends."
pub fn close_answers_what_is_queued_and_refuses_the_rest(fixture: &dyn Fixture) {
    let answered = Arc::new(AtomicU64::new(0));
    let log = fixture.open();
    for index in 0..200 {
        let answered = Arc::clone(&answered);
        let done = move |outcome: Result<Appended, AppendError>| {
            outcome.expect("the log is healthy");
            answered.fetch_add(1, Ordering::SeqCst);
        };
        log.append(Bytes::from(numbered(index)), Box::new(done));
    }
    log.close();
    assert_eq!(answered.load(Ordering::SeqCst), 200);
    assert!(matches!(append_and_wait(&*log, b"late"), Err(AppendError::Closed)));
    log.close();
    assert_eq!(frames_from(&*log, Position(0)).len(), 200, "a closed log can be read");
    drop(log);
    assert_eq!(frames_from(&*fixture.open(), Position(0)).len(), 200);
}

/// "Returns when all is answered, except when called from inside a `done`."
pub fn close_from_inside_done_returns(fixture: &dyn Fixture) {
    let log = fixture.open();
    let (tx, rx) = mpsc::channel();
    let inner_log = Arc::downgrade(&log);
    let done = move |_| {
        if let Some(log) = inner_log.upgrade() {
            log.close();
        }
        tx.send(()).expect("the receiver waits below");
    };
    log.append(Bytes::from_static(b"last"), Box::new(done));
    rx.recv_timeout(ANSWER_DEADLINE).expect("close does not wait for itself");
    log.close();
    assert!(matches!(append_and_wait(&*log, b"late"), Err(AppendError::Closed)));
}

/// A frame is opaque: it may have no bytes.
pub fn an_empty_frame_is_a_record(fixture: &dyn Fixture) {
    let log = fixture.open();
    for _ in 0..3 {
        append_ok(&*log, b"");
    }
    drop(log);
    assert_eq!(frames_from(&*fixture.open(), Position(0)), [&b""[..]; 3]);
}

/// "A frame refused at once (… too large …) is answered before `append` returns."
pub fn a_frame_too_large_is_refused_and_not_kept(fixture: &dyn Fixture) {
    let log = fixture.open();
    let size = usize::try_from(fixture.frame_bytes_max()).expect("the limit fits in memory");
    let refused = append_and_wait(&*log, &vec![0; size + 1]);
    assert!(matches!(refused, Err(AppendError::FrameTooLarge { .. })));
    append_ok(&*log, &vec![1; size]);
    assert_eq!(frames_from(&*log, Position(0)), [vec![1; size]]);
}

/// "Counters since the log was opened."
pub fn stats_count_acknowledged_records(fixture: &dyn Fixture) {
    let log = fixture.open();
    assert_eq!(log.stats().appended_records, 0);
    append_ok(&*log, b"abc");
    append_ok(&*log, b"de");
    let stats = log.stats();
    assert_eq!((stats.appended_records, stats.appended_bytes), (2, 5));
    assert!(stats.segments >= 1 && stats.segment_bytes >= 5);
    assert!(!stats.is_failed);
    log.close();
    assert_eq!(log.stats().queued_bytes, 0);
}
