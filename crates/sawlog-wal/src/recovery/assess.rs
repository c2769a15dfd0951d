//! Judgement over all segments together: their order, what is missing, torn or rotten.
//!
//! For: decisions that need more than one segment. Not for: reading files. Pure.
//! Rule: when in doubt, damage counts as a loss, so that an operator hears of it.

use crate::commit::NextSegment;
use crate::format::{ParsedSegmentHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::ledger::Segment;
use crate::scan::Summary;
use sawlog_seams::Position;
use sawlog_seams::event_log::{Damage, DamageCause};
use std::cmp::Reverse;
use std::path::PathBuf;

/// A file with the name of a segment.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) named_start: Position,
    pub(super) summary: Summary,
}

/// The log as it was found.
#[derive(Debug, Default)]
pub(super) struct Assessment {
    pub(super) segments: Vec<Segment>,
    pub(super) damages: Vec<Damage>,
    /// Files that claim a place which a better file has.
    pub(super) duplicates: Vec<PathBuf>,
    pub(super) records: u64,
    pub(super) last_recognised: Option<PathBuf>,
    pub(super) next_segment: NextSegment,
}

/// Judges the files of a log.
pub(super) fn assess(found: Vec<Found>, position_min: Position) -> Assessment {
    let starts = found.iter().map(|file| {
        // Neither a byte's position nor a file's name is used again.
        let len = file.summary.file_bytes.max(SEGMENT_HEADER_BYTES);
        Position(file.summary.start.max(file.named_start).0 + len)
    });
    let start = starts.max().unwrap_or_default().max(position_min);
    let (files, duplicates) = without_duplicates(found);
    let mut walk = Walk { assessment: Assessment { duplicates, ..Assessment::default() }, end: None };
    for (index, file) in files.iter().enumerate() {
        walk.visit(file, &files[index + 1..]);
    }
    walk.finish(start)
}

/// Orders the files by place and keeps for each place the one with the most records.
fn without_duplicates(mut found: Vec<Found>) -> (Vec<Found>, Vec<PathBuf>) {
    let rank = |file: &Found| {
        let is_named_right = file.named_start == file.summary.start;
        (file.summary.start, Reverse((file.summary.records, is_named_right)))
    };
    found.sort_by_key(rank);
    let mut kept: Vec<Found> = Vec::with_capacity(found.len());
    let mut duplicates = Vec::new();
    for file in found {
        match kept.last() {
            Some(last) if last.summary.start == file.summary.start => duplicates.push(file.path),
            _new_place => kept.push(file),
        }
    }
    (kept, duplicates)
}

/// Where the segment before a given one ended, according to that one.
struct Before {
    end: Position,
    synced: Position,
}

impl Before {
    fn of(summary: &Summary) -> Self {
        match summary.header {
            ParsedSegmentHeader::Valid(SegmentHeader { previous_end, previous_synced, .. }) => {
                Self { end: previous_end.min(summary.start), synced: previous_synced }
            }
            _unknown => Self { end: summary.start, synced: summary.start },
        }
    }
}

struct Walk {
    assessment: Assessment,
    /// Everything before this is accounted for; `None` before the first segment, because what was
    /// released is not missing.
    end: Option<Position>,
}

impl Walk {
    fn visit(&mut self, file: &Found, later: &[Found]) {
        let summary = &file.summary;
        let next = later.iter().find(|file| file.summary.is_recognised());
        let next = next.map(|file| Before::of(&file.summary));
        if summary.is_recognised() {
            self.note_missing(Before::of(summary).end);
            self.visit_recognised(file, next.as_ref(), later.is_empty());
        } else {
            self.note_missing(summary.start);
            self.note(summary.start, summary.file_end(), DamageCause::Unrecognised);
            self.list(file, summary.start);
            self.end = self.end.max(Some(summary.file_end()));
        }
    }

    fn visit_recognised(&mut self, file: &Found, next: Option<&Before>, is_last: bool) {
        let summary = &file.summary;
        if !matches!(summary.header, ParsedSegmentHeader::Valid(_)) {
            let header_end = Position(summary.start.0 + SEGMENT_HEADER_BYTES);
            self.note(summary.start, header_end, DamageCause::Header);
        }
        // What the next segment does not count was torn or undone.
        let counted_end = next.map_or(summary.end, |next| summary.end.min(next.end));
        let counted_end = counted_end.max(summary.start);
        let synced = next.map_or(summary.synced, |next| summary.synced.max(next.synced));
        for hole in summary.holes.iter().filter(|hole| hole.position < counted_end) {
            let cause = if hole.position < synced { DamageCause::Rotten } else { DamageCause::Unsynced };
            self.note(hole.position, Position(hole.position.0 + hole.bytes), cause);
        }
        let promised_end = next.map_or(counted_end, |next| next.end);
        let rotten_end = promised_end.min(summary.file_end());
        if is_last {
            self.note(counted_end, summary.file_end(), DamageCause::TornTail);
        } else {
            self.note(counted_end, rotten_end, DamageCause::Rotten);
        }
        self.list(file, counted_end);
        self.assessment.records += summary.records;
        self.assessment.last_recognised = Some(file.path.clone());
        self.assessment.next_segment.previous_end = counted_end;
        self.assessment.next_segment.previous_synced = summary.synced;
        self.end = self.end.max(Some(counted_end.max(rotten_end)));
    }

    fn note_missing(&mut self, until: Position) {
        if let Some(end) = self.end {
            self.note(end, until, DamageCause::Missing);
        }
    }

    fn note(&mut self, position: Position, end: Position, cause: DamageCause) {
        let bytes = end.0.saturating_sub(position.0);
        // An empty file with a segment's name has lost all of its bytes.
        if bytes > 0 || cause == DamageCause::Unrecognised {
            self.assessment.damages.push(Damage { position, bytes, cause });
        }
    }

    fn list(&mut self, file: &Found, end: Position) {
        self.assessment.segments.push(Segment {
            path: file.path.clone(),
            start: file.summary.start,
            end,
            file_bytes: file.summary.file_bytes,
        });
    }

    fn finish(mut self, start: Position) -> Assessment {
        let next = &mut self.assessment.next_segment;
        next.start = start;
        if self.assessment.last_recognised.is_none() {
            next.previous_end = self.end.unwrap_or(start); // nothing before it is vouched for
        }
        self.assessment.damages.sort_by_key(|damage| damage.position);
        self.assessment
    }
}

#[cfg(test)]
mod tests;
