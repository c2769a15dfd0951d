//! Counting the stored rows of a day again and comparing with what the stream counted.
//!
//! For: the corrections of a day, stretch by stretch in bounded memory: a stretch is as many whole hours as fit, and every
//! window lies in one. Not for: writing corrections; they go through the event log and the pipeline's flush, which
//! alone gives out positions (`sawlog_stream::Pipeline::correct`).
//!
//! What is left alone: windows that the stream may still change; windows without a row, whatever is stored of them; widths
//! of a day whose cells retention has deleted; rollups of a day of which a table's rows were deleted.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use sawlog_core::rollup::{
    self, AsStored, Correction, Deltas, PaneCell, PaneTiming, Rollup, RollupOptions, Width, columns_read, reconcile,
};
use sawlog_core::schema::Table;
use sawlog_core::window::floor;
use sawlog_seams::serving::{Family, ServingError, ServingSnapshot};
use sawlog_seams::upkeep::{RowRange, TableUpkeep};
use sawlog_seams::warehouse::WarehouseError;

use crate::jobs::Jobs;
use crate::retention::RetentionOptions;
use crate::stored_cells::{Stretch, has_any};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// Tables that rollups count, and the rollup that counts every row of it.
const TABLES: [(Table, Rollup); 3] =
    [(Table::Logs, Rollup::Requests), (Table::Metrics, Rollup::Metrics), (Table::Activity, Rollup::Activity)];
/// Differences of a rollup and day that are told one by one.
const DIFFERENCES_MAX: usize = 20;

/// How days are counted again.
#[derive(Clone, Debug)]
pub struct RecountOptions {
    /// Settings of rollups, those of the stream.
    pub rollup: RollupOptions,
    /// What is kept how long: what it has deleted is not made again.
    pub retention: RetentionOptions,
    /// The stream changes no window that ends by then, UTC microseconds: its watermark less the allowed lateness.
    pub complete_until: i64,
    /// Memory of the cells of one stretch, bytes, about; a single hour may take more.
    pub memory_bytes_max: usize,
}

/// Why a day was not counted again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecountError {
    /// Rows could not be read.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// Cells could not be read.
    #[error(transparent)]
    Serving(#[from] ServingError),
}

/// What counting one rollup of a day again found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecountReport {
    /// The day, days since the epoch.
    pub day: i32,
    /// The rollup.
    pub rollup: Rollup,
    /// Windows (of each key and width) that were compared.
    pub windows: u64,
    /// Those that differ.
    pub differing: u64,
    /// Windows that the stream may still change; they were not compared.
    pub open: u64,
    /// Events that the rows have more than the windows of the finest width that is kept; `None` of rollups that do not count
    /// events.
    pub events_added: Option<i64>,
    /// The table whose rows of the day were deleted, so that the rollup was left alone.
    pub deleted: Option<Table>,
    /// The first windows that differ, the longest ones before the others.
    pub differences: Vec<Difference>,
}

/// A window that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Length of the window.
    pub width: Width,
    /// Start of the window, UTC microseconds.
    pub window_start: i64,
    /// Parts of its key, as in [`Rollup::parts`].
    pub parts: Vec<Option<String>>,
    /// Events that the stream counted; `None` where the rollup does not count them or has no such window.
    pub stored_events: Option<u64>,
    /// Events by the rows.
    pub recounted_events: Option<u64>,
}

/// A day that is being counted again.
pub struct DayRecount {
    tables: Arc<dyn TableUpkeep>,
    snapshot: Arc<dyn ServingSnapshot>,
    options: RecountOptions,
    day: i32,
    /// Tables with rows of the day.
    filled: Vec<Table>,
    /// Widths that are compared, by rollup.
    widths: [Vec<Width>; Rollup::ALL.len()],
    /// What is still to count, the next one last.
    stretches: Vec<Range<i64>>,
    reports: Vec<RecountReport>,
}

impl Jobs {
    /// Days of which there are rows that rollups count.
    ///
    /// # Errors
    /// When a table cannot be looked at.
    pub fn recountable_days(&self) -> Result<BTreeSet<i32>, WarehouseError> {
        let mut days = BTreeSet::new();
        for (table, _) in TABLES {
            days.extend(self.stores().tables.stored(table.name())?.files.iter().filter_map(|file| file.partition_days));
        }
        Ok(days)
    }

    /// Begins to count a day again, by the cells that are stored now: nothing may be in memory that is not in the stores.
    ///
    /// # Errors
    /// When a store fails.
    pub fn recount(&self, day: i32, options: &RecountOptions) -> Result<DayRecount, RecountError> {
        let stores = self.stores();
        let mut recount = DayRecount {
            tables: Arc::clone(&stores.tables),
            snapshot: stores.serving.snapshot(),
            options: options.clone(),
            day,
            filled: Vec::new(),
            widths: Default::default(),
            stretches: Vec::from([times_of(day)]),
            reports: Vec::new(),
        };
        recount.choose(stores.clock.now_micros())?;
        Ok(recount)
    }
}

impl DayRecount {
    /// Counts the next stretch; gives its corrections, or `None` when the day is done.
    ///
    /// # Errors
    /// When a store fails; the stretches before are done.
    pub fn next_stretch(&mut self) -> Result<Option<Vec<Correction>>, RecountError> {
        while let Some(times) = self.stretches.pop() {
            match self.count(&times)? {
                Some(deltas) => return self.compare(&deltas).map(Some),
                None => {
                    let half = floor((times.end - times.start) / 2, HOUR).max(HOUR);
                    let middle = times.start + half;
                    self.stretches.extend([middle..times.end, times.start..middle]);
                }
            }
        }
        Ok(None)
    }

    /// What was found, by rollup.
    #[must_use]
    pub fn into_reports(self) -> Vec<RecountReport> {
        self.reports
    }

    /// Chooses what is compared.
    fn choose(&mut self, now: i64) -> Result<(), RecountError> {
        let today = i32::try_from(now.div_euclid(DAY)).unwrap_or(i32::MAX);
        // Whether the newest data agrees does not matter: what is to be deleted soon need not be counted.
        let is_over = |days: u32| days > 0 && self.day < today.saturating_sub(i32::try_from(days).unwrap_or(i32::MAX));
        let retention = &self.options.retention;
        let mut deleted = Vec::new();
        for (table, rollup) in TABLES {
            let stored = self.tables.stored(table.name())?;
            let has_rows = stored.files.iter().any(|file| file.partition_days == Some(self.day));
            let is_old = retention.tables.iter().any(|(name, days)| *name == table.name() && is_over(*days));
            if is_old || !has_rows && self.has_cells(rollup, &Width::ALL)? {
                deleted.push(table);
            }
            if has_rows {
                self.filled.push(table);
            }
        }
        for rollup in Rollup::ALL {
            let gone = deleted.iter().find(|table| rollup.sources().contains(table)).copied();
            let mut widths = Vec::new();
            for (at, width) in Width::ALL.into_iter().enumerate().filter(|_| gone.is_none()) {
                let family = Family::of_width(width);
                let is_old = retention.cells.iter().any(|(found, days)| *found == family && is_over(*days));
                // Coarser cells without finer ones: the finer ones were deleted.
                if !is_old && (self.has_cells(rollup, &[width])? || !self.has_cells(rollup, &Width::ALL[at + 1..])?) {
                    widths.push(width);
                }
            }
            let counts_events = rollup.sources().len() == 1;
            self.widths[rollup as usize] = widths;
            self.reports.push(RecountReport {
                day: self.day,
                rollup,
                windows: 0,
                differing: 0,
                open: 0,
                events_added: counts_events.then_some(0),
                deleted: gone,
                differences: Vec::new(),
            });
        }
        Ok(())
    }

    fn has_cells(&self, rollup: Rollup, widths: &[Width]) -> Result<bool, ServingError> {
        for width in widths {
            if has_any(self.snapshot.as_ref(), rollup, *width, &times_of(self.day))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Counts the rows of a stretch; `None` when they take too much memory and the stretch can be shorter.
    fn count(&self, times: &Range<i64>) -> Result<Option<Deltas>, RecountError> {
        let finest = self.widths.each_ref().map(|widths| widths.first().copied());
        let mut admission = AsStored::new(Stretch::new(Arc::clone(&self.snapshot), finest, times)?);
        let mut deltas = Deltas::default();
        let can_split = times.end - times.start > HOUR;
        let mut is_too_much = false;
        for &table in self.filled.iter().filter(|_| self.widths.iter().any(|widths| !widths.is_empty())) {
            let rows = RowRange { day: self.day, times: times.clone(), columns: columns_read(table) };
            self.tables.read(table.name(), &rows, &mut |rows| {
                deltas.add(table, rows, times.start, &self.options.rollup, &mut admission);
                is_too_much = can_split && deltas.memory_bytes() > self.options.memory_bytes_max;
                if is_too_much { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if is_too_much {
                return Ok(None);
            }
        }
        match admission.into_windows().into_failure() {
            Some(error) => Err(error.into()),
            None => Ok(Some(deltas)),
        }
    }

    fn compare(&mut self, deltas: &Deltas) -> Result<Vec<Correction>, RecountError> {
        let mut found = Vec::new();
        for width in Width::ALL {
            for (series, start, cell) in deltas.cells(width) {
                let Some(rollup) = series.first().and_then(|byte| Rollup::of_byte(*byte)) else { continue };
                let at = rollup as usize;
                if !self.widths[at].contains(&width) {
                    continue;
                }
                let key = rollup::with_time(series, start);
                let stored = stored_pane(self.snapshot.as_ref(), rollup, width, &key)?;
                let is_early = stored.as_ref().is_some_and(|pane| pane.timing == PaneTiming::Early);
                let report = &mut self.reports[at];
                if is_early || start.saturating_add(width.micros()) > self.options.complete_until {
                    report.open += 1;
                    continue;
                }
                report.windows += 1;
                let Some(pane) = reconcile(stored.as_ref(), &cell) else { continue };
                report.differing += 1;
                let stored_events = stored.and_then(|pane| pane.cell.event_count());
                let recounted = cell.event_count().unwrap_or(0).cast_signed();
                if let (Some(added), Some(&finest)) = (&mut report.events_added, self.widths[at].first())
                    && finest == width
                {
                    *added += recounted - stored_events.unwrap_or(0).cast_signed();
                }
                found.push((at, start, stored_events, Correction { width, key, pane }));
            }
        }
        for (at, window_start, stored_events, Correction { width, key, pane }) in &found {
            self.reports[*at].differences.push(Difference {
                width: *width,
                window_start: *window_start,
                parts: rollup::decode(key).map(|(_, key)| key.parts).unwrap_or_default(),
                stored_events: *stored_events,
                recounted_events: pane.cell.event_count(),
            });
        }
        for RecountReport { differences, .. } in &mut self.reports {
            differences.sort_by(|a, b| (b.width, a.window_start, &a.parts).cmp(&(a.width, b.window_start, &b.parts)));
            differences.truncate(DIFFERENCES_MAX);
        }
        Ok(found.into_iter().map(|(.., correction)| correction).collect())
    }
}

/// Event times of a day, UTC microseconds.
fn times_of(day: i32) -> Range<i64> {
    let start = i64::from(day) * DAY;
    start..start + DAY
}

fn stored_pane(
    snapshot: &dyn ServingSnapshot,
    rollup: Rollup,
    width: Width,
    key: &[u8],
) -> Result<Option<PaneCell>, ServingError> {
    let Some(bytes) = snapshot.get(Family::of_width(width), key)? else { return Ok(None) };
    PaneCell::from_bytes(rollup, &bytes).map(Some).map_err(|error| ServingError::backend("reading a rollup", error))
}

#[cfg(test)]
mod tests;
