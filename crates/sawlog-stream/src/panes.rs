//! Firing panes: what a flush writes of the windows that got something, and of those that became complete.
//!
//! For: the cells and pane rows of one flush, as a function of what the generation got, what the store holds and the
//! watermark at the generation's end, so that a repeated flush gives the same panes with the same numbers. A window that
//! is not complete has an entry under its end ([`Family::Deadline`]): the pane on time comes when the watermark has
//! passed it, also when nothing more arrived. The entry stays while the window waits to be judged. What a recount corrects takes the place of the stored cell before anything
//! is added to it. Not for: which rows are late ([`crate::stream_state`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;

use arrow::array::RecordBatch;
use sawlog_core::rollup::{self, Cell, Deltas, Expired, PaneCell, PaneTiming, Rollup, RollupRow, Width};
use sawlog_seams::serving::{Family, Mutation, ServingError, ServingSnapshot};

use crate::judge::Backlog;
use crate::planted::{Bug, is_planted};

/// Windows that got nothing more and that a flush completes at most; what is left is there for the next. History that was
/// loaded is due all at once.
const DUE_MAX: usize = 100_000;

/// What a flush writes of rollups.
#[derive(Debug, Default)]
pub(crate) struct Panes {
    /// Cells and deadlines.
    pub(crate) mutations: Vec<Mutation>,
    /// Panes on time and late ones, for the pane tables.
    pub(crate) rows: Vec<(Rollup, RecordBatch)>,
}

/// Fires the panes of one flush.
pub(crate) fn fire(
    deltas: &Deltas,
    corrections: &BTreeMap<(Width, Vec<u8>), PaneCell>,
    snapshot: &dyn ServingSnapshot,
    watermark: i64,
    backlog: &Backlog,
) -> Result<Panes, ServingError> {
    let mut run = Run {
        snapshot,
        watermark,
        backlog,
        expired: BTreeMap::new(),
        mutations: Vec::new(),
        rows: HashMap::new(),
        closed: HashSet::new(),
        corrected: BTreeMap::new(),
    };
    for width in Width::ALL {
        let noted = snapshot.get(Family::StreamState, &Expired::key(width))?;
        run.expired.extend(noted.and_then(|bytes| Expired::from_bytes(&bytes)).map(|expired| (width, expired)));
    }
    run.correct(corrections)?;
    for width in Width::ALL {
        for (prefix, start, delta) in deltas.cells(width) {
            run.changed(width, rollup::with_time(prefix, start), start, delta)?;
        }
    }
    if !is_planted(Bug::DueWindowNotFired) {
        run.due()?;
    }
    for ((width, key), pane) in std::mem::take(&mut run.corrected) {
        run.emit(width, key, pane);
    }
    run.finish()
}

struct Run<'a> {
    snapshot: &'a dyn ServingSnapshot,
    watermark: i64,
    backlog: &'a Backlog,
    /// Cells that retention has deleted.
    expired: BTreeMap<Width, Expired>,
    mutations: Vec<Mutation>,
    rows: HashMap<Rollup, Vec<RollupRow>>,
    /// Deadlines that a changed window has seen to.
    closed: HashSet<Vec<u8>>,
    /// Panes of a recount that nothing was added to yet.
    corrected: BTreeMap<(Width, Vec<u8>), PaneCell>,
}

impl Run<'_> {
    /// Lays the panes of a recount over the stored ones. One that does not follow the stored pane is of another time, and a
    /// window that waits for its pane on time is the stream's: the recount that is run again sees what there is.
    fn correct(&mut self, corrections: &BTreeMap<(Width, Vec<u8>), PaneCell>) -> Result<(), ServingError> {
        for ((width, key), pane) in corrections {
            let stored = self.stored(*width, key)?;
            let is_next = match &stored {
                Some(stored) => stored.timing != PaneTiming::Early && pane.index == stored.index.saturating_add(1),
                None => pane.index == 0,
            };
            if is_next {
                let mut pane = pane.clone();
                if stored.is_none()
                    && let Some((_, decoded)) = rollup::decode(key)
                {
                    pane.index = self.first_index(*width, decoded.time);
                }
                self.corrected.insert((*width, key.clone()), pane);
            }
        }
        Ok(())
    }

    fn changed(&mut self, width: Width, key: Vec<u8>, start: i64, delta: Cell) -> Result<(), ServingError> {
        let older = match self.corrected.remove(&(width, key.clone())) {
            Some(pane) => Some(pane),
            None => self.stored(width, &key)?,
        };
        let is_complete = start.saturating_add(width.micros()) <= self.watermark;
        let timing = PaneTiming::next(older.as_ref().map(|pane| pane.timing), is_complete);
        let deadline = deadline_key(width, &key, start);
        let is_waiting = self.is_waiting(width, start.saturating_add(width.micros()));
        match (&older, timing) {
            (None, PaneTiming::Early) => self.put(Family::Deadline, deadline, Some(Vec::new())),
            // One that waits to be judged, or is open again since the clock was set back.
            (None, _) if is_waiting => self.put(Family::Deadline, deadline, Some(Vec::new())),
            (Some(_), PaneTiming::Late) if !is_complete => self.put(Family::Deadline, deadline, Some(Vec::new())),
            (Some(pane), PaneTiming::OnTime) if pane.timing == PaneTiming::Early => {
                self.closed.insert(deadline.clone());
                if !is_waiting {
                    self.put(Family::Deadline, deadline, None);
                }
            }
            _ => {}
        }
        let pane = match older {
            Some(mut pane) => {
                pane.cell.merge(&delta);
                let step = u32::from(!is_planted(Bug::PaneIndexNotRaised));
                PaneCell { index: pane.index.saturating_add(step), timing, cell: pane.cell }
            }
            None => PaneCell { index: self.first_index(width, start), timing, cell: delta },
        };
        self.emit(width, key, pane);
        Ok(())
    }

    /// Windows that got nothing in this flush and are complete now.
    fn due(&mut self) -> Result<(), ServingError> {
        let mut due = Vec::new();
        let end = end_bytes(self.watermark.saturating_add(1));
        self.snapshot.scan_each(Family::Deadline, b"", Some(&end), &mut |key, _| {
            due.push(key.to_vec());
            if due.len() < DUE_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        for deadline in due {
            if self.closed.contains(&deadline) {
                continue;
            }
            if let Some((width, key)) = split_deadline(&deadline)
                && let Some(pane) = self.stored(width, key)?
                && pane.timing == PaneTiming::Early
            {
                let index = pane.index.saturating_add(1);
                self.emit(width, key.to_vec(), PaneCell { index, timing: PaneTiming::OnTime, cell: pane.cell });
            }
            let is_waiting = split_deadline(&deadline)
                .zip(end_of(&deadline))
                .is_some_and(|((width, _), end)| self.is_waiting(width, end));
            if !is_planted(Bug::DeadlineKept) && !is_waiting {
                self.put(Family::Deadline, deadline, None);
            }
        }
        Ok(())
    }

    fn first_index(&self, width: Width, start: i64) -> u32 {
        self.expired.get(&width).copied().unwrap_or_default().first_index(start)
    }

    /// Whether the window is to be judged still: its deadline leads there.
    fn is_waiting(&self, width: Width, end: i64) -> bool {
        self.backlog.contains(&(width, end)) && !is_planted(Bug::WaitingDeadlineDeleted)
    }

    fn stored(&self, width: Width, key: &[u8]) -> Result<Option<PaneCell>, ServingError> {
        let Some(bytes) = self.snapshot.get(Family::of_width(width), key)? else { return Ok(None) };
        let failed = |error: &dyn std::fmt::Display| ServingError::backend("reading a rollup", error);
        let rollup = key.first().and_then(|byte| Rollup::of_byte(*byte)).ok_or_else(|| failed(&"its key is none"))?;
        PaneCell::from_bytes(rollup, &bytes).map(Some).map_err(|error| failed(&error))
    }

    fn emit(&mut self, width: Width, key: Vec<u8>, pane: PaneCell) {
        let value = pane.to_bytes();
        if pane.timing != PaneTiming::Early
            && !(pane.timing == PaneTiming::OnTime && is_planted(Bug::OnTimePaneNotWritten))
            && let Some((rollup, decoded)) = rollup::decode(&key)
        {
            let PaneCell { index, timing, cell } = pane;
            let (parts, window_start) = (decoded.parts, decoded.time);
            let row = RollupRow { parts, width, window_start, index, timing, cell };
            self.rows.entry(rollup).or_default().push(row);
        }
        self.put(Family::of_width(width), key, Some(value));
    }

    fn put(&mut self, family: Family, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.mutations.push(Mutation { family, key, value });
    }

    fn finish(self) -> Result<Panes, ServingError> {
        let failed = |error| ServingError::backend("making rows of panes", error);
        let mut rows = Vec::new();
        for rollup in Rollup::ALL {
            if let Some(panes) = self.rows.get(&rollup) {
                rows.push((rollup, rollup::rollup_rows(rollup, panes, true).map_err(failed)?));
            }
        }
        Ok(Panes { mutations: self.mutations, rows })
    }
}

/// Ends in the order of time.
pub(crate) fn end_bytes(end: i64) -> [u8; 8] {
    ((end as u64) ^ (1 << 63)).to_be_bytes()
}

/// The end that a key begins with.
pub(crate) fn end_of(key: &[u8]) -> Option<i64> {
    let (end, _) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*end) ^ (1 << 63)) as i64)
}

/// Key of a deadline: end of the window, its width, row key of its cell.
fn deadline_key(width: Width, key: &[u8], start: i64) -> Vec<u8> {
    let end = end_bytes(start.saturating_add(width.micros()));
    [end.as_slice(), &[width as u8], key].concat()
}

pub(crate) fn split_deadline(deadline: &[u8]) -> Option<(Width, &[u8])> {
    let (&width, key) = deadline.get(8..)?.split_first()?;
    Some((Width::ALL.into_iter().find(|one| *one as u8 == width)?, key))
}

#[cfg(test)]
mod tests {
    use sawlog_core::rollup::{Admission, RollupOptions};
    use sawlog_core::schema::Table;
    use sawlog_seams::Position;
    use sawlog_seams::contract::warehouse::rows;
    use sawlog_seams::serving::{MemoryServing, ServingStore};

    use super::*;

    /// Numbers of the panes that one more record of a service gives, by width.
    fn indices(store: &MemoryServing, position: u64) -> Vec<u32> {
        let batch = rows(Table::Logs.name(), &[("shop".to_owned(), 20_000)]);
        let (options, mut admission, mut deltas) = (RollupOptions::default(), Admission::default(), Deltas::default());
        deltas.add(Table::Logs, &batch, 0, &options, &mut admission);
        let snapshot = store.snapshot();
        let fired = fire(&deltas, &BTreeMap::new(), snapshot.as_ref(), i64::MAX, &Backlog::new()).expect("fired");
        let is_of = |cell: &&Mutation, width| cell.family == Family::of_width(width);
        let index = |cell: &Mutation| PaneCell::index_of(cell.value.as_deref().expect("a pane")).expect("a pane");
        let of_width = |width| fired.mutations.iter().find(|cell| is_of(cell, width)).map(index);
        let found = Width::ALL.into_iter().filter_map(of_width).collect();
        store.apply(fired.mutations, Position(position)).expect("applied");
        found
    }

    #[test]
    fn a_window_whose_cell_retention_has_deleted_goes_on_with_its_numbers() {
        let store = MemoryServing::default();
        assert_eq!([indices(&store, 1), indices(&store, 2)], [[0, 0, 0], [1, 1, 1]]);
        let family = Family::of_width(Width::TenSeconds);
        let cells = store.snapshot().scan(family, b"", None).expect("cells");
        let start = rollup::decode(&cells[0].0).expect("a key").1.time;
        let expired = Expired::default().with(start + 1, 1);
        store.note(Family::StreamState, (Expired::key(Width::TenSeconds), expired.to_bytes())).expect("noted");
        store.delete_unchanged(family, cells).expect("deleted");
        assert_eq!(indices(&store, 3), [2, 2, 2]);
        assert_eq!(indices(&store, 4), [3, 3, 3]);
    }
}
