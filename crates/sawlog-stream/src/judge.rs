//! Judging windows as soon as they are complete: anomalies and alerts.
//!
//! For: giving each complete window with all its cells to the detectors and the alert rules within the frame of the log
//! that completes it, and what comes late for it to the rules. Deterministic: the state is stored under the log position
//! of the cells that it was made of. Not for: how surprising something is (`sawlog_core::anomaly`), what rules say
//! (`sawlog_core::alert`), or telling anybody.
//!
//! History that was loaded is complete all at once. So that neither queries nor events wait for its judging, what is more
//! than a frame's share waits ([`Backlog`]) and is judged tick by tick, in order; its cells keep their deadlines, by which
//! they are found.
//!
//! A window that ended more than a day before the watermark when that passed it is not judged: history that is loaded
//! before the first live event teaches the detectors a day and no more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use sawlog_core::alert::{Added, AlertEvent, AlertOptions, Alerts, GroupState, Rule, alert_rows};
use sawlog_core::anomaly::{Scored, Watch, WatchOptions, anomaly_rows};
use sawlog_core::rollup::{self, Cell, Deltas, PaneCell, PaneView, Rollup, Width};
use sawlog_core::window::{Window, floor};
use sawlog_seams::serving::{Family, Mutation, ServingError, ServingSnapshot};

use crate::panes::{end_bytes, split_deadline};
use crate::planted::{Bug, is_planted};
use crate::stream_state::{JUDGED_MAX, Progress};

/// Windows whose cells are in memory at a time.
const WINDOWS_AT_ONCE: usize = 60;
/// Cells that a frame judges at most, about, before the others wait for the next tick: some 50 ms.
const CELLS_AT_ONCE: usize = 10_000;
/// Cell that keeps which windows wait.
const BACKLOG_KEY: &[u8] = b"unjudged";
/// Length of the windows of the detectors whose state is stored.
const WIDTH_KEY: &[u8] = b"watch_width";

/// Settings of detectors and alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeOptions {
    /// Settings of the detectors.
    pub watch: WatchOptions,
    /// Alert rules.
    pub rules: Vec<Rule>,
    /// Cells that a frame of the log judges at most, about.
    pub cells_at_once: usize,
}

impl Default for JudgeOptions {
    /// No rules, 10,000 cells at once.
    fn default() -> Self {
        Self { watch: WatchOptions::default(), rules: Vec::new(), cells_at_once: CELLS_AT_ONCE }
    }
}

/// Windows that are complete and wait to be judged: length and end.
pub(crate) type Backlog = BTreeSet<(Width, i64)>;

/// Detectors and alert rules.
#[derive(Debug)]
pub(crate) struct Judge {
    watch: Watch,
    alerts: Alerts,
    /// Cells of a watch over windows of another length, to be deleted.
    outdated: Vec<Vec<u8>>,
    backlog: Backlog,
    /// Cells that the windows judged last had each; 0 before the first.
    cells_each: usize,
    cells_at_once: usize,
}

/// What a frame of the log has led to.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) scored: Vec<Scored>,
    pub(crate) events: Vec<AlertEvent>,
}

impl Verdicts {
    /// Rows of the tables of anomalies and of alerts, where there are any.
    pub(crate) fn rows(&self) -> Result<[Option<RecordBatch>; 2], ArrowError> {
        let scored = if self.scored.is_empty() { None } else { Some(anomaly_rows(&self.scored)?) };
        let events = if self.events.is_empty() { None } else { Some(alert_rows(&self.events)?) };
        Ok([scored, events])
    }
}

/// Where the cells of windows are.
pub(crate) struct Cells<'a> {
    /// What generations in memory have.
    pub(crate) hot: Vec<&'a crate::generation::Shared<Deltas>>,
    pub(crate) snapshot: &'a dyn ServingSnapshot,
}

/// Cells of a window by row key without time.
type CellsOfWindow = HashMap<Vec<u8>, Cell>;

impl Judge {
    /// The judge whose state is in the store.
    pub(crate) fn load(
        options: JudgeOptions,
        allowed_lateness: i64,
        snapshot: &dyn ServingSnapshot,
    ) -> Result<Self, ServingError> {
        let damaged = |error: &dyn std::fmt::Display| ServingError::backend("reading the state of detectors", error);
        let mut cells = snapshot.scan(Family::Watch, b"", None)?;
        let width = snapshot.get(Family::StreamState, WIDTH_KEY)?;
        let mut outdated = Vec::new();
        if width.is_some_and(|width| width != options.watch.width.name().as_bytes()) {
            outdated = cells.drain(..).map(|(key, _)| key).collect();
        }
        let borrowed = cells.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let watch = Watch::from_cells(options.watch, borrowed).map_err(|error| damaged(&error))?;
        let cells = snapshot.scan(Family::Alert, b"", None)?;
        let borrowed = cells.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let alert_options = AlertOptions { allowed_lateness };
        let alerts = Alerts::from_cells(options.rules, alert_options, borrowed).map_err(|error| damaged(&error))?;
        let backlog = snapshot.get(Family::StreamState, BACKLOG_KEY)?.unwrap_or_default();
        let read = read_backlog(&backlog).ok_or_else(|| damaged(&"the windows that wait make no sense"))?;
        let (cells_each, backlog) = if is_planted(Bug::BacklogForgotten) { (0, Backlog::new()) } else { read };
        Ok(Self { watch, alerts, outdated, backlog, cells_each, cells_at_once: options.cells_at_once.max(1) })
    }

    /// Length of the shortest windows that mean something although they have no events.
    pub(crate) fn shortest_width(&self) -> Option<Width> {
        let is_watching = self.watch.counts().series > 0;
        let is_judged =
            |width: &Width| self.alerts.has_width(*width) || (is_watching && self.watch.options().width == *width);
        Width::ALL.into_iter().find(is_judged)
    }

    /// Windows that are complete and wait to be judged.
    pub(crate) const fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Names of the alert rules.
    pub(crate) fn rule_names(&self) -> Vec<String> {
        self.alerts.rules().map(|rule| rule.name().to_owned()).collect()
    }

    /// Groups of alert rules that are pending or firing.
    pub(crate) fn states(&self) -> Vec<GroupState> {
        self.alerts.states()
    }

    /// Values of groups for which alert rules had no room.
    pub(crate) fn refused_by_alerts(&self) -> u64 {
        self.alerts.counts().values().fold(0, |sum, counts| sum.saturating_add(counts.refused_values))
    }

    /// Memory of what alert rules keep of windows that may still change, bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.alerts.memory_bytes()
    }

    /// What the detectors have done.
    pub(crate) fn counts(&self) -> sawlog_core::anomaly::WatchCounts {
        self.watch.counts()
    }

    /// What has changed since the last call, as cells.
    pub(crate) fn take_mutations(&mut self) -> Vec<Mutation> {
        let outdated = std::mem::take(&mut self.outdated);
        let outdated = outdated.into_iter().map(|key| Mutation { family: Family::Watch, key, value: None });
        let width = self.watch.options().width.name().as_bytes().to_vec();
        let width = Mutation { family: Family::StreamState, key: WIDTH_KEY.to_vec(), value: Some(width) };
        let cell = |family| move |cell: sawlog_core::StateCell| Mutation { family, key: cell.key, value: cell.value };
        let watch = self.watch.changed_since_last_take().into_iter().map(cell(Family::Watch));
        let alerts = self.alerts.changed_since_last_take().into_iter().map(cell(Family::Alert));
        let backlog = Mutation {
            family: Family::StreamState,
            key: BACKLOG_KEY.to_vec(),
            value: Some(backlog_bytes(self.cells_each, &self.backlog)),
        };
        outdated.chain([width, backlog]).chain(watch).chain(alerts).collect()
    }

    /// Begins anew at a watermark, since the clock that had led beyond it was set back; tells what is over by it.
    pub(crate) fn set_back(&mut self, watermark: i64) -> Vec<AlertEvent> {
        self.backlog.retain(|(_, end)| *end <= watermark);
        self.watch.set_back(watermark);
        self.alerts.start_anew(watermark, "the clock was set back")
    }

    /// Ends what fired or pended by alert rules that are no more as they were; tells it once.
    pub(crate) fn end_former_rules(&mut self) -> Vec<AlertEvent> {
        self.alerts.end_former_rules()
    }

    /// Takes in what came for windows that were judged already.
    pub(crate) fn correct(&mut self, corrections: &Deltas, watermark: i64) -> Vec<AlertEvent> {
        let mut events = Vec::new();
        for width in Width::ALL {
            if !self.alerts.has_width(width) {
                continue;
            }
            let mut windows: BTreeMap<i64, CellsOfWindow> = BTreeMap::new();
            for (prefix, start, cell) in corrections.cells(width) {
                let end = start.saturating_add(width.micros());
                if end <= watermark && !self.backlog.contains(&(width, end)) {
                    windows.entry(end).or_default().insert(prefix.to_vec(), cell);
                }
            }
            let windows: Vec<DecodedWindow<'_>> =
                windows.iter().map(|(end, cells)| DecodedWindow::new(*end, width, cells)).collect();
            let added: Vec<Added<'_>> = windows.iter().map(|decoded| (decoded.window, decoded.panes())).collect();
            events.extend(self.alerts.late(&added));
        }
        events
    }

    /// Judges the windows that the watermark has passed, as many as are a frame's share. While some wait only ticks go on, so
    /// that events do not wait for history.
    pub(crate) fn go_on(
        &mut self,
        progress: &Progress,
        is_tick: bool,
        cells: &Cells<'_>,
        verdicts: &mut Verdicts,
    ) -> Result<(), ServingError> {
        let is_turn = is_tick || self.backlog.is_empty();
        for width in Width::ALL {
            if self.watch.options().width == width || self.alerts.has_width(width) {
                self.backlog.extend(ends_of(progress, width).into_iter().map(|end| (width, end)));
            }
        }
        let mut left = if is_turn { self.cells_at_once } else { 0 };
        while left > 0
            && let Some(&(width, _)) = self.backlog.first()
        {
            // A window that is larger than those before is judged all the same; the next ones are fewer at a time.
            let count = left.checked_div(self.cells_each).map_or(1, |count| count.clamp(1, WINDOWS_AT_ONCE));
            let of_width = self.backlog.iter().take_while(|(one, _)| *one == width);
            let ends: Vec<i64> = of_width.take(count).map(|(_, end)| *end).collect();
            let judged = self.judge(width, &ends, cells, verdicts)?;
            self.cells_each = judged.div_ceil(ends.len()).max(1);
            ends.iter().for_each(|end| _ = self.backlog.remove(&(width, *end)));
            left = left.saturating_sub(judged.max(ends.len()));
        }
        Ok(())
    }

    /// Returns the number of cells that the windows have. Others between them do not count: whether those are in memory depends
    /// on flushes.
    fn judge(
        &mut self,
        width: Width,
        ends: &[i64],
        cells: &Cells<'_>,
        verdicts: &mut Verdicts,
    ) -> Result<usize, ServingError> {
        let (Some(&first), Some(&last)) = (ends.first(), ends.last()) else { return Ok(0) };
        let mut windows = self.cells_of(width, first, last, cells)?;
        let mut count = 0;
        for &end in ends {
            let found = windows.remove(&end).unwrap_or_default();
            count += found.len();
            let decoded = DecodedWindow::new(end, width, &found);
            let (window, panes) = (decoded.window, decoded.panes());
            let is_watched = self.watch.options().width == width;
            let scored = if is_watched { self.watch.complete(window, &panes) } else { Vec::new() };
            verdicts.events.extend(self.alerts.complete(window, &panes, &scored));
            verdicts.scored.extend(scored);
        }
        Ok(count)
    }

    /// Cells of the windows that end from `first` to `last`, as far as anybody looks at them.
    fn cells_of(
        &self,
        width: Width,
        first: i64,
        last: i64,
        cells: &Cells<'_>,
    ) -> Result<BTreeMap<i64, CellsOfWindow>, ServingError> {
        let mut windows: BTreeMap<i64, CellsOfWindow> = BTreeMap::new();
        let mut wanted: HashMap<Vec<u8>, bool> = HashMap::new();
        let mut is_wanted = |prefix: &[u8]| match wanted.get(prefix) {
            Some(is_wanted) => *is_wanted,
            None => {
                let decoded = rollup::decode(&rollup::with_time(prefix, 0));
                let is_wanted = decoded.is_some_and(|(rollup, key)| {
                    self.watch.wants(width, rollup, &key.parts) || self.alerts.wants(width, rollup, &key.parts)
                });
                wanted.insert(prefix.to_vec(), is_wanted);
                is_wanted
            }
        };
        let mut stored = Vec::new();
        let (from, to) = (end_bytes(first), end_bytes(last.saturating_add(1)));
        cells.snapshot.scan_each(Family::Deadline, &from, Some(&to), &mut |deadline, _| {
            if let Some((_, key)) = split_deadline(deadline).filter(|(one, _)| *one == width)
                && is_wanted(rollup::prefix_of(key))
            {
                stored.push(key.to_vec());
            }
            ControlFlow::Continue(())
        })?;
        for key in stored {
            let Some((rollup, decoded)) = rollup::decode(&key) else { continue };
            let Some(bytes) = cells.snapshot.get(Family::of_width(width), &key)? else { continue };
            let pane = PaneCell::from_bytes(rollup, &bytes)
                .map_err(|error| ServingError::backend("reading a rollup", error))?;
            let end = decoded.time.saturating_add(width.micros());
            windows.entry(end).or_default().insert(rollup::prefix_of(&key).to_vec(), pane.cell);
        }
        let starts = first - width.micros()..last - width.micros() + 1;
        for deltas in &cells.hot {
            let deltas = deltas.read();
            for rollup in Rollup::ALL.into_iter().filter(|rollup| *rollup != Rollup::Top) {
                for (prefix, start, cell) in deltas.cells_of(rollup, width, starts.clone()) {
                    if is_wanted(prefix) {
                        let window = windows.entry(start.saturating_add(width.micros())).or_default();
                        window.entry(prefix.to_vec()).and_modify(|older| older.merge(&cell)).or_insert(cell);
                    }
                }
            }
        }
        Ok(windows)
    }
}

fn backlog_bytes(cells_each: usize, backlog: &Backlog) -> Vec<u8> {
    let mut out = (cells_each as u64).to_be_bytes().to_vec();
    for (width, end) in backlog {
        out.push(*width as u8);
        out.extend_from_slice(&end.to_be_bytes());
    }
    out
}

fn read_backlog(bytes: &[u8]) -> Option<(usize, Backlog)> {
    let Some((cells_each, bytes)) = bytes.split_first_chunk::<8>() else {
        return bytes.is_empty().then(Default::default);
    };
    let cells_each = usize::try_from(u64::from_be_bytes(*cells_each)).ok()?;
    let (each, rest) = bytes.as_chunks::<9>();
    let one = |bytes: &[u8; 9]| {
        let (&width, end) = bytes.split_first()?;
        let width = Width::ALL.into_iter().find(|one| *one as u8 == width)?;
        Some((width, i64::from_be_bytes(end.try_into().ok()?)))
    };
    let found: Option<Backlog> = each.iter().map(one).collect();
    Some((cells_each, found.filter(|_| rest.is_empty())?))
}

/// Ends of the windows of a width to judge: those with events, and the last one, with events or without.
fn ends_of(progress: &Progress, width: Width) -> BTreeSet<i64> {
    let oldest = progress.watermark.saturating_sub(JUDGED_MAX);
    let is_end = |end: &i64| end.rem_euclid(width.micros()) == 0 && *end > oldest;
    let mut ends: BTreeSet<i64> = progress.ends.iter().copied().filter(is_end).collect();
    let last = floor(progress.watermark, width.micros());
    if last > progress.before && progress.watermark != i64::MIN && progress.before != i64::MIN {
        ends.insert(last);
    }
    ends
}

/// A window's cells with what their keys say.
struct DecodedWindow<'a> {
    window: Window,
    cells: Vec<(Rollup, Vec<Option<String>>, &'a Cell)>,
}

impl<'a> DecodedWindow<'a> {
    fn new(end: i64, width: Width, cells: &'a CellsOfWindow) -> Self {
        let window = Window { start: end - width.micros(), end };
        // In one order, whatever the map's: sums of floating-point numbers depend on it.
        let sorted: BTreeMap<&[u8], &Cell> = cells.iter().map(|(prefix, cell)| (prefix.as_slice(), cell)).collect();
        let decoded = |(prefix, cell): (&[u8], &'a Cell)| {
            let (rollup, key) = rollup::decode(&rollup::with_time(prefix, window.start))?;
            Some((rollup, key.parts, cell))
        };
        Self { window, cells: sorted.into_iter().filter_map(decoded).collect() }
    }

    fn panes(&self) -> Vec<PaneView<'_>> {
        self.cells.iter().map(|(rollup, parts, cell)| PaneView { rollup: *rollup, parts, cell }).collect()
    }
}
