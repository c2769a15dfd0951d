//! State of the stream that belongs to no key: watermarks, and which series are counted on their own.
//!
//! For: deciding what is late and what a window's next pane is, by the log alone. It is kept in the serving store under the
//! log position of the cells that it belongs to, so that both move together: a restart goes on as if it had not happened.
//! Not for: the cells.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use sawlog_core::lateness;
use sawlog_core::rollup::{Admission, Deltas, Rollup, RollupOptions, Width};
use sawlog_core::schema::Table;
use sawlog_core::session::{Chain, SessionDeltas, SessionOptions};
use sawlog_core::watermark::{WatermarkOptions, Watermarks};
use sawlog_core::window::floor;
use sawlog_seams::serving::{Family, Mutation, ServingError, ServingSnapshot};
use sawlog_seams::view::SessionRules;

use crate::frame::BatchFrame;
use crate::generation::Generation;
use crate::panes::{end_bytes, end_of};
use crate::planted::{Bug, is_planted};

/// Windows that ended longer before the watermark when that passed them are not judged, microseconds: a day.
pub(crate) const JUDGED_MAX: i64 = 86_400_000_000;

const WATERMARKS_KEY: &[u8] = b"watermarks";
const ADMISSION_KEY: &[u8] = b"admission";
const OPEN_ENDS_KEY: &[u8] = b"open_ends";

/// Settings of windows, rollups and sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Settings of watermarks.
    pub watermark: WatermarkOptions,
    /// How far the watermark may pass a window's end before its events are late, microseconds.
    pub allowed_lateness: i64,
    /// Settings of rollups.
    pub rollup: RollupOptions,
    /// Settings of sessions.
    pub session: SessionOptions,
}

impl Default for StreamOptions {
    /// An hour late.
    fn default() -> Self {
        Self {
            watermark: WatermarkOptions::default(),
            allowed_lateness: 3_600_000_000,
            rollup: RollupOptions::default(),
            session: SessionOptions::default(),
        }
    }
}

/// What the stream knows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStats {
    /// Watermark of all sources, UTC microseconds; `None` before the first event.
    pub watermark: Option<i64>,
    /// Series that are counted on their own and events beyond the limit, by rollup.
    pub rollups: Vec<(Rollup, usize, u64)>,
}

/// How far the watermark has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Where it was, UTC microseconds.
    pub(crate) before: i64,
    /// Where it is.
    pub(crate) watermark: i64,
    /// Ends of windows with events that it has passed.
    pub(crate) ends: BTreeSet<i64>,
}

/// What a batch was for the stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct TakenIn {
    /// Rows that came too late.
    pub(crate) late_count: u64,
    /// What it added to windows that were complete before it.
    pub(crate) corrections: Deltas,
    pub(crate) progress: Progress,
}

impl Default for Progress {
    /// None.
    fn default() -> Self {
        Self { before: i64::MIN, watermark: i64::MIN, ends: BTreeSet::new() }
    }
}

/// Watermarks and admitted series.
#[derive(Clone, Debug)]
pub(crate) struct StreamState {
    options: StreamOptions,
    watermarks: Watermarks,
    admission: Admission,
    /// Ends of windows that got something and are not complete, UTC microseconds.
    open_ends: BTreeSet<i64>,
}

impl Default for StreamState {
    fn default() -> Self {
        let options = StreamOptions::default();
        Self {
            options,
            watermarks: Watermarks::new(options.watermark),
            admission: Admission::default(),
            open_ends: BTreeSet::new(),
        }
    }
}

impl StreamState {
    /// The state that belongs to the cells in the store.
    pub(crate) fn load(options: StreamOptions, snapshot: &dyn ServingSnapshot) -> Result<Self, ServingError> {
        let damaged = |error: &dyn std::fmt::Display| ServingError::backend("reading the state of the stream", error);
        let watermarks = match snapshot.get(Family::StreamState, WATERMARKS_KEY)? {
            Some(_) if is_planted(Bug::WatermarkForgotten) => Watermarks::new(options.watermark),
            Some(bytes) => Watermarks::from_bytes(options.watermark, &bytes).map_err(|error| damaged(&error))?,
            None => Watermarks::new(options.watermark),
        };
        let admission = match snapshot.get(Family::StreamState, ADMISSION_KEY)? {
            Some(_) if is_planted(Bug::AdmissionForgotten) => Admission::default(),
            Some(bytes) => Admission::from_bytes(&bytes).map_err(|error| damaged(&error))?,
            None => Admission::default(),
        };
        let ends = snapshot.get(Family::StreamState, OPEN_ENDS_KEY)?.unwrap_or_default();
        let (ends, rest) = ends.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(damaged(&"the ends of open windows are cut short"));
        }
        let ends = if is_planted(Bug::OpenEndsForgotten) { &[] } else { ends };
        let open_ends = ends.iter().map(|end| i64::from_be_bytes(*end)).collect();
        Ok(Self { options, watermarks, admission, open_ends })
    }

    /// Cells that keep the state.
    pub(crate) fn mutations(&self) -> [Mutation; 3] {
        let cell = |key: &[u8], value| Mutation { family: Family::StreamState, key: key.to_vec(), value: Some(value) };
        let ends = self.open_ends.iter().flat_map(|end| end.to_be_bytes()).collect();
        [
            cell(WATERMARKS_KEY, self.watermarks.to_bytes()),
            cell(ADMISSION_KEY, self.admission.to_bytes()),
            cell(OPEN_ENDS_KEY, ends),
        ]
    }

    /// Rules of sessions. The finest window decides which events are late.
    pub(crate) const fn session_rules(&self) -> SessionRules {
        let lateness = self.options.allowed_lateness.saturating_add(Width::TenSeconds.micros());
        SessionRules { options: self.options.session, lateness }
    }

    /// Watermark of all sources, UTC microseconds.
    pub(crate) const fn watermark(&self) -> i64 {
        self.watermarks.combined()
    }

    pub(crate) fn stats(&self) -> StreamStats {
        let of = |rollup| {
            let (series, other_events) = self.admission.counts(rollup);
            (rollup, series, other_events)
        };
        StreamStats {
            watermark: Some(self.watermark()).filter(|watermark| *watermark != i64::MIN),
            rollups: Rollup::ALL.map(of).to_vec(),
        }
    }

    /// Counts the rows of a batch into their windows, marks those that came too late, and moves the watermarks. Rows that
    /// are late are in no rollup. A batch does not make its own rows late.
    pub(crate) fn take_in(
        &mut self,
        frame: &BatchFrame,
        tables: &mut [RecordBatch; 4],
        active: &Generation,
    ) -> Result<TakenIn, ArrowError> {
        // Files that somebody loads are history: never late, and no sign of how far the present is.
        let is_history = frame.age.is_history;
        let before = self.watermark();
        let (mut taken, mut newest) = (TakenIn::default(), None);
        // What ends by the watermark has had its pane on time.
        let complete_until = floor(before, Width::TenSeconds.micros());
        for table in [Table::Logs, Table::Metrics, Table::Activity] {
            let rows = &mut tables[table as usize];
            let (lateness, watermark) = (self.options.allowed_lateness, self.watermark());
            let split = if is_history { None } else { lateness::split(rows, lateness, watermark)? };
            let in_time = match split {
                Some(split) => {
                    taken.late_count += if is_planted(Bug::LateRowNotCounted) { 0 } else { split.late_count };
                    *rows = split.marked;
                    if is_planted(Bug::LateRowRolledUp) { rows.clone() } else { split.in_time }
                }
                None => rows.clone(),
            };
            newest = newest.max(event_times(&in_time).and_then(|times| times.iter().copied().max()));
            let (options, admission) = (&self.options.rollup, &mut self.admission);
            let mut count = |deltas: &mut Deltas, rows: &RecordBatch| {
                deltas.add(table, rows, frame.receive_time, options, admission)
            };
            let corrects = |times: &[i64]| times.iter().copied().min().is_some_and(|time| time < complete_until);
            if !is_history && event_times(&in_time).is_some_and(corrects) {
                let (correcting, others) = part(&in_time, complete_until)?;
                let mut corrections = Deltas::default();
                count(&mut corrections, &correcting);
                taken.corrections.merge(corrections.clone());
                let both = |deltas: &mut Deltas| {
                    deltas.merge(corrections);
                    count(deltas, &others);
                };
                active.rollups.change(both, Deltas::memory_bytes);
            } else {
                active.rollups.change(|deltas| count(deltas, &in_time), Deltas::memory_bytes);
            }
            if table != Table::Metrics {
                let follow = |sessions: &mut SessionDeltas| sessions.add(table, &in_time, &self.options.session);
                active.sessions.change(follow, SessionDeltas::memory_bytes);
            }
        }
        for table in [Table::Logs, Table::Metrics, Table::Activity] {
            self.note_windows(event_times(&tables[table as usize]).unwrap_or_default(), frame.receive_time);
        }
        // A source that sends nothing that could count would hold up all others for as long as it sends.
        if is_history {
            self.watermarks.observe_history(frame.receive_time);
        } else if newest.is_none() && !is_planted(Bug::EmptyBatchWaitedFor) {
            self.watermarks.advance(frame.receive_time);
        } else {
            self.watermarks.observe(&frame.source, frame.receive_time, newest);
        }
        taken.progress = self.progress_since(before);
        Ok(taken)
    }

    /// Begins anew with the watermarks if a receive time says that the clock was set back. Returns whether it did; then the
    /// windows that are open again are to be told ([`Self::reopen`]).
    pub(crate) fn set_back(&mut self, receive_time: i64) -> bool {
        self.watermarks.set_back(receive_time)
    }

    /// Notes windows as open whose first pane waits for a watermark that went back: those in memory, and those in the store.
    pub(crate) fn reopen(
        &mut self,
        generations: &[&Generation],
        snapshot: &dyn ServingSnapshot,
    ) -> Result<(), ServingError> {
        let watermark = self.watermark();
        let mut ends = BTreeSet::new();
        for generation in generations {
            let rollups = generation.rollups.read();
            for width in Width::ALL {
                ends.extend(rollups.cells(width).map(|(_, start, _)| start.saturating_add(width.micros())));
            }
            let sessions = generation.sessions.read();
            let lasts = sessions.users().flat_map(|(_, chains)| chains.iter().map(Chain::last));
            ends.extend(lasts.map(|last| self.sessions_end(last)));
        }
        let from = end_bytes(watermark);
        for family in [Family::Deadline, Family::SessionDue] {
            snapshot.scan_each(family, &from, None, &mut |key, _| {
                if let Some(end) = end_of(key) {
                    // Sessions of ten seconds have one end, as below.
                    let width = Width::TenSeconds.micros();
                    ends.insert(floor(end.saturating_add(width - 1), width));
                }
                ControlFlow::Continue(())
            })?;
        }
        self.open_ends.extend(ends.into_iter().filter(|end| *end > watermark));
        Ok(())
    }

    /// The process was started: no source is idle before it had its time to come back.
    pub(crate) fn start(&mut self, receive_time: i64) {
        self.watermarks.restart(receive_time);
    }

    /// Lets receive time go on without a batch.
    pub(crate) fn tick(&mut self, receive_time: i64) -> Progress {
        let before = self.watermark();
        self.watermarks.advance(receive_time);
        self.progress_since(before)
    }

    /// Whether a window would be complete at a receive time if nothing came until then: one with events, or any one of the
    /// length that is `judged`. Also while the clock may have been set back: it takes
    /// receive times to tell.
    pub(crate) fn is_due(&self, receive_time: i64, judged: Option<Width>) -> bool {
        if self.watermarks.is_behind(receive_time) {
            return true;
        }
        let (watermark, then) = (self.watermark(), self.watermarks.at(receive_time));
        let is_next = |width: Width| floor(then, width.micros()) > floor(watermark, width.micros());
        let is_next = watermark != i64::MIN && judged.is_some_and(is_next);
        is_next || self.open_ends.first().is_some_and(|end| *end <= then)
    }

    fn note_windows(&mut self, times: &[i64], receive_time: i64) {
        // Of what is older only the hours count: nobody judges it, and it is complete one way or the other.
        let oldest = receive_time.saturating_sub(JUDGED_MAX);
        let (watermark, mut last) = (self.watermark(), None);
        for &time in times {
            let start = floor(time, Width::TenSeconds.micros());
            if last.replace(start) == Some(start) {
                continue;
            }
            let ends = Width::ALL.map(|width| floor(time, width.micros()).saturating_add(width.micros()));
            if ends[2] < oldest {
                self.open_ends.extend(Some(ends[2]).filter(|end| *end > watermark));
                continue;
            }
            let sessions_end = self.sessions_end(time);
            self.open_ends.extend(ends.into_iter().chain([sessions_end]).filter(|end| *end > watermark));
        }
    }

    /// When a session whose last event was then is complete: a gap later, one end for all of ten seconds.
    const fn sessions_end(&self, last: i64) -> i64 {
        let width = Width::TenSeconds.micros();
        floor(last, width).saturating_add(width).saturating_add(self.options.session.gap)
    }

    /// What has become complete, which is forgotten.
    fn progress_since(&mut self, before: i64) -> Progress {
        let watermark = self.watermark();
        let open = self.open_ends.split_off(&watermark.saturating_add(1));
        let ends = std::mem::replace(&mut self.open_ends, open);
        Progress { before, watermark, ends }
    }
}

/// Rows before a time, and the others.
fn part(rows: &RecordBatch, time: i64) -> Result<(RecordBatch, RecordBatch), ArrowError> {
    let is_before: BooleanArray =
        event_times(rows).unwrap_or_default().iter().map(|event| Some(*event < time)).collect();
    Ok((filter_record_batch(rows, &is_before)?, filter_record_batch(rows, &not(&is_before)?)?))
}

fn event_times(rows: &RecordBatch) -> Option<&[i64]> {
    let column = rows.column_by_name("event_time")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    Some(column.values())
}
