//! Handing out the records of the log.
//!
//! For: reading segments, one at a time in memory, while others append and release. Not for: deciding
//! what counts, which recovery and the ledger know.

use crate::format::RecordKind;
use crate::ledger::{Ledger, Segment};
use crate::scan::{Item, Record, Scan};
use bytes::Bytes;
use sawlog_seams::event_log::{Damage, DamageCause, ReplayVisit};
use sawlog_seams::{Disk, Position, ReplayError, ReplayReport};
use std::ops::ControlFlow;

/// Replays the records that are durable now.
pub(crate) fn replay(
    disk: &dyn Disk,
    ledger: &Ledger,
    from: Position,
    visit: &mut ReplayVisit<'_>,
) -> Result<ReplayReport, ReplayError> {
    let (segments, end, damages) = {
        let state = ledger.state();
        (state.segments.clone(), state.end, state.damages.clone())
    };
    let oldest = segments.first().map_or(end, |segment| segment.start);
    let report = ReplayReport { next: from, oldest, ..ReplayReport::default() };
    let mut reader = Reader { from, known: damages, report, visit };
    for segment in segments.iter().filter(|segment| segment.end > from) {
        let bytes = read(disk, ledger, segment)?;
        if reader.read_segment(segment, &bytes).is_break() {
            return Ok(reader.finish(None));
        }
    }
    Ok(reader.finish(Some(end)))
}

fn read(disk: &dyn Disk, ledger: &Ledger, segment: &Segment) -> Result<Vec<u8>, ReplayError> {
    disk.read(&segment.path).map_err(|source| {
        let is_listed = ledger.state().segments.iter().any(|listed| listed.start == segment.start);
        if is_listed {
            ReplayError::Read { segment: segment.path.display().to_string(), source }
        } else {
            ReplayError::Released { segment_start: segment.start }
        }
    })
}

struct Reader<'v, 'f> {
    from: Position,
    /// Damages found at open.
    known: Vec<Damage>,
    report: ReplayReport,
    visit: &'v mut ReplayVisit<'f>,
}

impl Reader<'_, '_> {
    fn read_segment(&mut self, segment: &Segment, bytes: &[u8]) -> ControlFlow<()> {
        let counted = usize::try_from(segment.end.0 - segment.start.0).unwrap_or(usize::MAX);
        let counted = &bytes[..bytes.len().min(counted)];
        for item in Scan::new(segment.start, counted) {
            match item {
                Item::Record(record) => self.read_record(&record, counted)?,
                Item::Damage(range) => self.note_damage(Damage {
                    position: Position(segment.start.0 + range.start as u64),
                    bytes: range.len() as u64,
                    cause: DamageCause::Rotten,
                }),
            }
        }
        let read_end = Position(segment.start.0 + counted.len() as u64);
        if read_end < segment.end {
            let bytes = segment.end.0 - read_end.0;
            self.note_damage(Damage { position: read_end, bytes, cause: DamageCause::Missing });
        }
        ControlFlow::Continue(())
    }

    fn read_record(&mut self, record: &Record, segment_bytes: &[u8]) -> ControlFlow<()> {
        if record.position < self.from || record.kind != RecordKind::Frame {
            return ControlFlow::Continue(());
        }
        assert!(record.position >= self.report.next, "records are handed out in order, once");
        // A copy, so that a reader that keeps one frame does not keep the whole segment in memory.
        let frame = Bytes::copy_from_slice(&segment_bytes[record.payload.clone()]);
        self.report.records += 1;
        self.report.frame_bytes += frame.len() as u64;
        self.report.next = record.next;
        (self.visit)(record.position, record.next, frame)
    }

    /// Notes damage that was not there when the log was opened.
    fn note_damage(&mut self, damage: Damage) {
        let is_known = |known: &Damage| known.position <= damage.position && damage.end() <= known.end();
        if !self.known.iter().any(is_known) {
            self.report.damages.push(damage);
        }
    }

    fn finish(mut self, end: Option<Position>) -> ReplayReport {
        self.report.next = end.unwrap_or(self.report.next);
        let (from, until) = (self.from, self.report.next);
        self.report.damages.append(&mut self.known);
        self.report.damages.retain(|damage| damage.touches(from) && damage.position < until);
        self.report.damages.sort_unstable_by_key(|damage| damage.position);
        self.report
    }
}
