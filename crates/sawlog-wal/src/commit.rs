//! Group commit: when a frame is acknowledged.
//!
//! For: writing a group of frames with one append and one sync, and undoing it when that fails. Not
//! for: queueing ([`crate::queue`]) or threads ([`crate::wal`]).
//! Invariants: a frame is acknowledged only after a sync that covers it succeeded; a failed sync is
//! never followed by another write; a frame reported as certainly not kept is never replayed.

use crate::format::{RECORD_HEADER_LEN, RecordHeader, RecordKind, SEGMENT_HEADER_BYTES, SegmentHeader, record_bytes};
use crate::ledger::{Ledger, Segment};
use crate::options::WalOptions;
use crate::queue::Pending;
use crate::segment::{ActiveSegment, Failure};
use bytes::Bytes;
use sawlog_seams::disk::is_disk_full;
use sawlog_seams::{AppendError, Appended, Clock, Disk, Position};
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

/// Where the next segment begins, and what its header says about the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct NextSegment {
    pub(crate) start: Position,
    pub(crate) previous_end: Position,
    pub(crate) previous_synced: Position,
}

/// The writer's state: the only place that changes segment files.
pub(crate) struct Committer {
    options: WalOptions,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    ledger: Arc<Ledger>,
    /// `None` when the next record needs a new segment: after open, and after a failed append that
    /// could not be cut off.
    active: Option<ActiveSegment>,
    next_segment: NextSegment,
}

impl Committer {
    pub(crate) fn new(
        options: WalOptions,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        ledger: Arc<Ledger>,
        next_segment: NextSegment,
    ) -> Self {
        Self { options, disk, clock, ledger, active: None, next_segment }
    }

    /// Writes, syncs and answers all frames, in order. `discharge` is told the queue bytes of frames
    /// that have left memory, before they are answered.
    pub(crate) fn commit(&mut self, mut group: Vec<Pending>, discharge: &dyn Fn(u64)) {
        while !group.is_empty() {
            let rest = group.split_off(self.fitting(&group));
            let chunk = std::mem::replace(&mut group, rest);
            let queue_bytes = chunk.iter().map(Pending::queue_bytes).sum();
            let (frames, replies): (Vec<Bytes>, Vec<_>) =
                chunk.into_iter().map(|pending| (pending.frame, pending.reply)).unzip();
            let outcome = self.commit_chunk(&frames);
            self.count(&frames, &outcome);
            drop(frames);
            discharge(queue_bytes);
            for (index, reply) in replies.into_iter().enumerate() {
                reply.send(outcome.as_ref().map(|appended| appended[index]).map_err(Clone::clone));
            }
        }
    }

    /// How many frames from the front go into one segment: at least one.
    fn fitting(&self, group: &[Pending]) -> usize {
        let first_bytes = record_bytes(group[0].frame.len() as u64);
        let len = match &self.active {
            Some(active) if !self.is_full(active, first_bytes) => active.len(),
            _needs_new => SEGMENT_HEADER_BYTES,
        };
        let mut used = len;
        let fits = |pending: &&Pending| {
            used += record_bytes(pending.frame.len() as u64);
            used <= self.options.segment_bytes_max
        };
        group.iter().take_while(fits).count().max(1)
    }

    fn is_full(&self, active: &ActiveSegment, first_bytes: u64) -> bool {
        active.has_records() && active.len() + first_bytes > self.options.segment_bytes_max
    }

    fn commit_chunk(&mut self, frames: &[Bytes]) -> Result<Vec<Appended>, AppendError> {
        if self.ledger.is_failed() {
            return Err(AppendError::Poisoned);
        }
        let first_bytes = record_bytes(frames[0].len() as u64);
        self.ensure_writable(first_bytes).map_err(|failure| self.not_kept(failure))?;
        self.write(RecordKind::Frame, frames)
    }

    /// Makes sure that an open segment takes the next record. Writes no record, so a failure means
    /// that nothing is kept.
    fn ensure_writable(&mut self, first_bytes: u64) -> Result<(), Failure> {
        if let Some(active) = &self.active
            && !self.is_full(active, first_bytes)
            && active.is_in_place().map_err(Failure::Io)?
        {
            return Ok(());
        }
        self.rotate()
    }

    fn rotate(&mut self) -> Result<(), Failure> {
        let NextSegment { start, previous_end, previous_synced } = self.next_segment;
        let created_micros = self.clock.now_micros();
        let header = SegmentHeader { start, previous_end, previous_synced, created_micros };
        let created = ActiveSegment::create(&*self.disk, &self.options.dir, &self.ledger, &header)
            .inspect_err(|failure| Self::step_over(&mut self.next_segment, failure))?;
        let mut state = self.ledger.state();
        assert!(state.end <= created.start, "a segment begins after everything acknowledged");
        state.segments.push(Segment {
            path: created.path.clone(),
            start: created.start,
            end: created.end,
            file_bytes: created.len(),
        });
        drop(state);
        self.active = Some(created);
        Ok(())
    }

    /// If the name is taken, by a stranger or by a rename that failed and yet took effect, the next
    /// attempt begins a little later: positions may skip, but never overwrite.
    fn step_over(next_segment: &mut NextSegment, failure: &Failure) {
        if matches!(failure, Failure::Io(error) if error.kind() == ErrorKind::AlreadyExists) {
            next_segment.start.0 += SEGMENT_HEADER_BYTES;
        }
    }

    /// One append and one sync for all frames.
    fn write(&mut self, kind: RecordKind, frames: &[Bytes]) -> Result<Vec<Appended>, AppendError> {
        let active = self.active.as_mut().expect("`ensure_writable` came first");
        let (headers, places) = lay_out(kind, frames, active.end);
        let buffers: Vec<IoSlice<'_>> = headers
            .iter()
            .zip(frames)
            .flat_map(|(header, frame)| [IoSlice::new(header), IoSlice::new(frame)])
            .collect();
        if let Err(error) = active.append(&buffers) {
            return Err(self.undo(error));
        }
        let started = self.clock.monotonic();
        let synced = active.sync();
        let took = self.clock.monotonic().saturating_sub(started);
        if let Err(error) = synced {
            return Err(self.stop(error));
        }
        let end = places.last().expect("a group has a frame").next;
        self.advance(end);
        self.ledger.state().stats.record_sync(took);
        Ok(places)
    }

    /// Moves the durable end of the log.
    fn advance(&mut self, end: Position) {
        let active = self.active.as_mut().expect("records were just written to it");
        assert!(end > active.end, "the log grows");
        active.end = end;
        self.next_segment = NextSegment { start: end, previous_end: end, previous_synced: end };
        let mut state = self.ledger.state();
        let segment = state.segments.last_mut().expect("the active segment is in the ledger");
        assert_eq!(segment.start, active.start, "the active segment is the last one");
        segment.end = end;
        segment.file_bytes = active.len();
        state.end = end;
    }

    /// Cuts off a failed append. If the file cannot be cut, a new segment whose header says where the
    /// valid records end does the same. If that fails too, nobody knows what a restart will find.
    fn undo(&mut self, source: io::Error) -> AppendError {
        let active = self.active.as_mut().expect("the append went to it");
        let undone = match active.cut_failed_append() {
            Ok(()) => Ok(()),
            Err(Failure::Sync(error)) => return self.stop(error),
            Err(Failure::Io(_)) => {
                self.active = None;
                self.rotate()
            }
        };
        match undone {
            Ok(()) => write_error(source, true),
            Err(Failure::Io(_)) => write_error(source, false),
            Err(Failure::Sync(error)) => self.stop(error),
        }
    }

    fn not_kept(&self, failure: Failure) -> AppendError {
        match failure {
            Failure::Io(error) => write_error(error, true),
            Failure::Sync(error) => self.stop(error),
        }
    }

    /// A failed sync is final. The kernel may have marked the pages clean, so a later sync would
    /// report success for bytes that are lost.
    fn stop(&self, source: io::Error) -> AppendError {
        self.ledger.fail();
        AppendError::SyncFailed { source: Arc::new(source) }
    }

    fn count(&self, frames: &[Bytes], outcome: &Result<Vec<Appended>, AppendError>) {
        let stats = &mut self.ledger.state().stats;
        match outcome {
            Ok(_) => {
                stats.appended_records += frames.len() as u64;
                stats.appended_bytes += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
            }
            Err(_) => stats.failed_records += frames.len() as u64,
        }
    }

    /// Marks a clean end, which lets recovery tell a damaged last record from a torn one. Without the
    /// mark nothing is lost but that knowledge, so an error is not reported.
    pub(crate) fn seal(&mut self) {
        let is_open = self.active.as_ref().is_some_and(ActiveSegment::has_records);
        if is_open && !self.ledger.is_failed() {
            let _best_effort = self.write(RecordKind::Seal, &[Bytes::new()]);
        }
    }
}

/// Headers and places of the records of a group that is written at `at`, the synced end.
fn lay_out(kind: RecordKind, frames: &[Bytes], at: Position) -> (Vec<[u8; RECORD_HEADER_LEN]>, Vec<Appended>) {
    let mut position = at;
    let lay_out_one = |frame: &Bytes| {
        let header = RecordHeader::of(kind, frame, position, at).encode();
        let next = Position(position.0 + record_bytes(frame.len() as u64));
        let place = Appended { position, next };
        position = next;
        (header, place)
    };
    frames.iter().map(lay_out_one).unzip()
}

fn write_error(source: io::Error, undone: bool) -> AppendError {
    let is_full = is_disk_full(&source);
    let source = Arc::new(source);
    if is_full && undone { AppendError::DiskFull { source } } else { AppendError::Write { undone, source } }
}
