//! A watch over the signals of a whole system.
//!
//! For: one detector for each series, fed with complete windows of one width in the order of time, in bounded memory,
//! with state of which only what changed is written. Not for: late corrections: a window is judged once, when it is
//! complete, so that a score does not depend on when late data came.
//!
//! Rules: windows that are not later than the last are ignored and counted. A window that is left out counts as empty.
//! When there is no room for a series, that which has had no data for longest gives its place if it had none for ten
//! windows; else the new one is refused. Both are counted.

use std::collections::{BTreeMap, BTreeSet};

use super::contributors::{Compared, Leaf, Measures, Usual, contributors};
use super::reason;
use super::scored::{Kind, Scored};
use super::signal::{Reading, Scope, Series, Signal, is_read, readings};
use super::watched::{Judged, Watched};
use crate::rollup::{Cell, PaneView, Rollup, Width};
use crate::state_cell::{StateCell, read_text, write_text};
use crate::varint;
use crate::window::{Window, floor};

const VERSION: u8 = 1;
/// Anomalies with fewer windows between them are one episode.
const EPISODE_GAP: i64 = 10;
/// A series without data for so many windows gives its place to a new one.
const ACTIVE_WINDOWS: i64 = 10;
/// A silence is told for so many windows: a day of minutes.
const SILENCE_TOLD_MAX: i64 = 1_440;
/// A series without data for so many windows is forgotten: a week of minutes.
const FORGOTTEN_AFTER: i64 = 10_080;
/// Services, versions and routes whose usual measures are kept.
const LEAVES_MAX: usize = 5_000;

/// Settings of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchOptions {
    /// Length of the windows.
    pub width: Width,
    /// Score from which something is an anomaly, 0 to 1.
    pub threshold: f64,
    /// Most series; each takes about 5 kB of memory, and half of that when stored.
    pub series_max: usize,
    /// Empty windows from which a silence is told.
    pub silence_windows: u32,
    /// Patterns (`*`, `?`) of metrics that are watched besides CPU and memory.
    pub metrics: Vec<String>,
}

impl Default for WatchOptions {
    /// Minutes, 0.999, 2,000 series, silent after 3 windows.
    fn default() -> Self {
        Self { width: Width::Minute, threshold: 0.999, series_max: 2_000, silence_windows: 3, metrics: Vec::new() }
    }
}

/// What a watch has done, since its state began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Series that are watched.
    pub series: u64,
    /// Readings of series for which there was no room.
    pub refused_readings: u64,
    /// Series that gave their place to others.
    pub dropped_series: u64,
    /// Windows that were not later than the last, or of another width.
    pub ignored_windows: u64,
}

/// Bytes that are no state of a watch.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no watch over series of version {VERSION}")]
pub struct WatchError;

/// Watches the signals of a whole system.
#[derive(Clone, Debug)]
pub struct Watch {
    options: WatchOptions,
    /// Start of the last window.
    last_start: Option<i64>,
    counts: WatchCounts,
    series: BTreeMap<Series, Watched>,
    leaves: BTreeMap<Leaf, Usual>,
    /// Keys of parts that changed, or are no more, since they were last taken.
    changed: BTreeSet<Vec<u8>>,
}

const KEY_HEADER: u8 = b'h';
const KEY_SERIES: u8 = b's';
const KEY_LEAF: u8 = b'l';

impl Watch {
    /// A watch that has seen nothing.
    #[must_use]
    pub const fn new(options: WatchOptions) -> Self {
        Self {
            options,
            last_start: None,
            counts: WatchCounts { series: 0, refused_readings: 0, dropped_series: 0, ignored_windows: 0 },
            series: BTreeMap::new(),
            leaves: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Its settings.
    #[must_use]
    pub const fn options(&self) -> &WatchOptions {
        &self.options
    }

    /// What it has done.
    #[must_use]
    pub fn counts(&self) -> WatchCounts {
        WatchCounts { series: self.series.len() as u64, ..self.counts }
    }

    /// Start of the last window that it took in, UTC microseconds.
    #[must_use]
    pub const fn last_window_start(&self) -> Option<i64> {
        self.last_start
    }

    /// Whether it looks at cells of a key in windows of a width; others need not be given to it.
    #[must_use]
    pub fn wants(&self, width: Width, rollup: Rollup, parts: &[Option<String>]) -> bool {
        width == self.options.width && is_read(rollup, parts, &self.options.metrics)
    }

    /// Windows that end after a time may come again: the clock that had led beyond it was set back. What is known stays; a
    /// series that was heard of later counts as heard of then.
    pub fn set_back(&mut self, watermark: i64) {
        let width = self.options.width.micros();
        let last = floor(watermark, width).saturating_sub(width);
        if self.last_start.is_none_or(|start| start <= last) {
            return;
        }
        self.last_start = Some(last);
        self.changed.insert(vec![KEY_HEADER]);
        for (series, watched) in &mut self.series {
            if watched.set_back(last) {
                self.changed.insert(series_key(series));
            }
        }
        for (leaf, usual) in &mut self.leaves {
            if usual.set_back(last.div_euclid(width)) {
                self.changed.insert(leaf_key(leaf));
            }
        }
    }

    /// Takes in a complete window with all its cells of all rollups, in any order; none when nothing came. Gives each
    /// series that has a value, and those that are silent, in the order of their names.
    pub fn complete(&mut self, window: Window, panes: &[PaneView<'_>]) -> Vec<Scored> {
        self.changed.insert(vec![KEY_HEADER]);
        let width = self.options.width.micros();
        let is_whole = window.end.saturating_sub(window.start) == width && floor(window.start, width) == window.start;
        if !is_whole || self.last_start.is_some_and(|last| window.start <= last) {
            self.counts.ignored_windows += 1;
            return Vec::new();
        }
        self.last_start = Some(window.start);
        let mut scored = Vec::new();
        let mut droppable = None;
        for (series, reading) in self.rates_of_requests(readings(panes, window, &self.options.metrics)) {
            if self.series.contains_key(&series) || self.make_room(window, &mut droppable) {
                scored.extend(self.judge(series, reading, window));
            } else {
                self.counts.refused_readings += 1;
            }
        }
        self.forget(window);
        scored.extend(self.silences(window));
        self.explain(window, panes, &mut scored);
        scored.sort_by(|a, b| a.series.cmp(&b.series));
        scored
    }

    /// A service that has had requests is measured by them: one without any has none, however many records it has.
    fn rates_of_requests(&mut self, mut found: BTreeMap<Series, Reading>) -> BTreeMap<Series, Reading> {
        let rates: Vec<Series> = found.keys().filter(|series| is_rate(series.signal)).cloned().collect();
        for series in rates {
            let by_requests = Series { signal: Signal::RequestRate, ..series.clone() };
            let by_records = Series { signal: Signal::RecordRate, ..series.clone() };
            if series.signal == Signal::RequestRate {
                self.remove(&by_records);
            } else if self.series.contains_key(&by_requests) {
                found.remove(&series);
                found.insert(by_requests, Reading::Value(0.0));
            }
        }
        found
    }

    fn remove(&mut self, series: &Series) -> bool {
        let is_known = self.series.remove(series).is_some();
        if is_known {
            self.changed.insert(series_key(series));
        }
        is_known
    }

    /// Whether there is room for one more series. `droppable` are those that may give theirs, oldest last.
    fn make_room(&mut self, window: Window, droppable: &mut Option<Vec<Series>>) -> bool {
        if self.series.len() < self.options.series_max {
            return true;
        }
        let width = self.options.width.micros();
        let oldest = droppable.get_or_insert_with(|| {
            let is_old = |watched: &Watched| windows_between(watched.last_seen, window.start, width) > ACTIVE_WINDOWS;
            let mut old: Vec<_> = self.series.iter().filter(|(_, watched)| is_old(watched)).collect();
            old.sort_by(|a, b| (b.1.last_seen, b.0).cmp(&(a.1.last_seen, a.0)));
            old.into_iter().map(|(series, _)| series.clone()).collect()
        });
        // One that was heard of in this window keeps its place.
        while let Some(series) = oldest.pop() {
            if self.series.get(&series).is_some_and(|watched| watched.last_seen < window.start) && self.remove(&series)
            {
                self.counts.dropped_series += 1;
                return true;
            }
        }
        false
    }

    fn judge(&mut self, series: Series, reading: Reading, window: Window) -> Option<Scored> {
        self.changed.insert(series_key(&series));
        let width = self.options.width.micros();
        let watched = self.series.entry(series.clone()).or_insert_with(|| Watched::new(window));
        let gap = (windows_between(watched.last_seen, window.start, width) - 1).max(0) as u64;
        let Judged { value, expected, score, view } = watched.judge(series.signal, reading, gap, window)?;
        let is_anomaly = score >= self.options.threshold;
        let mut episode_start = None;
        let mut reason = None;
        if is_anomaly {
            let start = match watched.episode {
                Some((start, last)) if windows_between(last, window.start, width) <= EPISODE_GAP => start,
                _ => window.start,
            };
            watched.episode = Some((start, window.start));
            episode_start = Some(start);
            let why = view.map_or("unusual", |view| view.reason());
            reason = Some(reason::of_value(series.signal, series.metric_name.as_deref(), value, expected, why));
        }
        let (value, expected, kind) = (Some(value), Some(expected), view.map(Kind::from));
        Some(Scored {
            series,
            window,
            value,
            expected,
            score,
            is_anomaly,
            episode_start,
            kind,
            reason,
            contributors: Vec::new(),
        })
    }

    fn forget(&mut self, window: Window) {
        let width = self.options.width.micros();
        let is_old = |watched: &Watched| windows_between(watched.last_seen, window.start, width) > FORGOTTEN_AFTER;
        let old: Vec<Series> =
            self.series.iter().filter(|(_, watched)| is_old(watched)).map(|(series, _)| series.clone()).collect();
        for series in old {
            self.remove(&series);
        }
    }

    /// Series that had data and have none for long enough.
    fn silences(&self, window: Window) -> Vec<Scored> {
        let width = self.options.width.micros();
        let one = |(series, watched): (&Series, &Watched)| {
            let gap = windows_between(watched.last_seen, window.start, width);
            let is_told = gap >= i64::from(self.options.silence_windows.max(1)) && gap <= SILENCE_TOLD_MAX;
            if !is_told || !series.signal.tells_silence() {
                return None;
            }
            let score = watched.presence.score(gap as u64);
            let is_anomaly = score >= self.options.threshold;
            Some(Scored {
                series: series.clone(),
                window,
                value: None,
                expected: None,
                score,
                is_anomaly,
                episode_start: is_anomaly.then(|| watched.last_seen.saturating_add(width)),
                kind: Some(Kind::Silence),
                reason: is_anomaly.then(|| reason::of_silence(gap as u64, width / 1_000_000, watched.presence.share())),
                contributors: Vec::new(),
            })
        };
        self.series.iter().filter_map(one).collect()
    }

    /// Names what the anomalies of requests come from, then takes on what the leaves have in this window.
    fn explain(&mut self, window: Window, panes: &[PaneView<'_>], scored: &mut [Scored]) {
        let index = window.start.div_euclid(self.options.width.micros());
        let mut actual: BTreeMap<Leaf, Measures> = BTreeMap::new();
        for pane in panes {
            if let Cell::Requests(cell) = pane.cell {
                let leaf =
                    ["service", "service_version", "http_route"].map(|name| pane.part(name).map(ToOwned::to_owned));
                actual.entry(leaf).or_default().add(&Measures::of(cell));
            }
        }
        let is_explained = |found: &&mut Scored| found.is_anomaly && found.value.is_some();
        let mut compared: Vec<Compared<'_>> = Vec::new();
        if scored.iter().any(|found| found.is_anomaly && found.value.is_some()) {
            let absent = self.leaves.keys().filter(|leaf| !actual.contains_key(*leaf));
            // One that is new is compared, unless it is unknown for want of room.
            let is_known = |leaf: &&Leaf| self.leaves.len() < LEAVES_MAX || self.leaves.contains_key(*leaf);
            compared.extend(actual.keys().filter(is_known).chain(absent).map(|leaf| Compared {
                leaf,
                actual: actual.get(leaf).copied().unwrap_or_default(),
                usual: self.leaves.get(leaf).map(|usual| usual.before(index)).unwrap_or_default(),
            }));
        }
        for found in scored.iter_mut().filter(is_explained) {
            let is_service = found.series.scope == Scope::Service;
            let is_meant = |one: &&Compared<'_>| !is_service || one.leaf[0] == found.series.service;
            let meant: Vec<Compared<'_>> = compared.iter().filter(is_meant).copied().collect();
            found.contributors = contributors(found.series.signal, is_service, &meant);
        }
        self.learn_leaves(index, actual);
    }

    /// Takes on what leaves have in a window. When they are too many, those with the most records are known, and the others
    /// explain nothing.
    fn learn_leaves(&mut self, index: i64, actual: BTreeMap<Leaf, Measures>) {
        let mut new = Vec::new();
        for (leaf, measures) in actual {
            match self.leaves.get_mut(&leaf) {
                Some(usual) => {
                    usual.add(index, &measures);
                    self.changed.insert(leaf_key(&leaf));
                }
                None => new.push((leaf, measures)),
            }
        }
        let is_full = self.leaves.len() + new.len() > LEAVES_MAX;
        let kept_for = if is_full { ACTIVE_WINDOWS } else { SILENCE_TOLD_MAX };
        let is_old = |usual: &Usual| index.saturating_sub(usual.last()) > kept_for;
        let old: Vec<Leaf> =
            self.leaves.iter().filter(|(_, usual)| is_old(usual)).map(|(leaf, _)| leaf.clone()).collect();
        for leaf in old {
            self.leaves.remove(&leaf);
            self.changed.insert(leaf_key(&leaf));
        }
        new.sort_by(|a, b| b.1.records().total_cmp(&a.1.records()));
        new.truncate(LEAVES_MAX.saturating_sub(self.leaves.len()));
        for (leaf, measures) in new {
            self.changed.insert(leaf_key(&leaf));
            self.leaves.entry(leaf).or_insert_with(|| Usual::new(index)).add(index, &measures);
        }
    }

    /// The parts of its state that changed since this was last called, or since it began.
    pub fn changed_since_last_take(&mut self) -> Vec<StateCell> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|key| StateCell { value: self.value(&key), key }).collect()
    }

    /// All parts of its state: key and bytes.
    #[must_use]
    pub fn to_cells(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let keys = self.series.keys().map(series_key).chain(self.leaves.keys().map(leaf_key));
        let all = std::iter::once(vec![KEY_HEADER]).chain(keys);
        all.filter_map(|key| Some((key.clone(), self.value(&key)?))).collect()
    }

    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![VERSION];
        match read_key(key)? {
            Part::Header => {
                varint::write(&mut out, u64::from(self.last_start.is_some()));
                varint::write_signed(&mut out, self.last_start.unwrap_or_default());
                let counts = [self.counts.refused_readings, self.counts.dropped_series, self.counts.ignored_windows];
                counts.into_iter().for_each(|count| varint::write(&mut out, count));
            }
            Part::Series(series) => self.series.get(&series)?.write_to(&mut out),
            Part::Leaf(leaf) => self.leaves.get(&leaf)?.write_to(&mut out),
        }
        Some(out)
    }

    /// A watch from the parts of its state, in any order; with none it has seen nothing.
    ///
    /// # Errors
    /// When a part is none of a watch.
    pub fn from_cells<'a>(
        options: WatchOptions,
        cells: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, WatchError> {
        let mut watch = Self::new(options);
        for (key, value) in cells {
            watch.read_cell(key, value).ok_or(WatchError)?;
        }
        Ok(watch)
    }

    fn read_cell(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let rest = &mut value.strip_prefix(&[VERSION])?;
        match read_key(key)? {
            Part::Header => {
                let has_window = varint::read(rest)? == 1;
                self.last_start = Some(varint::read_signed(rest)?).filter(|_| has_window);
                self.counts.refused_readings = varint::read(rest)?;
                self.counts.dropped_series = varint::read(rest)?;
                self.counts.ignored_windows = varint::read(rest)?;
            }
            Part::Series(series) => _ = self.series.insert(series, Watched::read_from(rest)?),
            Part::Leaf(leaf) => _ = self.leaves.insert(leaf, Usual::read_from(rest)?),
        }
        rest.is_empty().then_some(())
    }

    /// The whole state as bytes: version, number of parts, then each with the lengths of key and value in front.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let cells = self.to_cells();
        let mut out = vec![VERSION];
        varint::write(&mut out, cells.len() as u64);
        for part in cells.iter().flat_map(|(key, value)| [key, value]) {
            varint::write(&mut out, part.len() as u64);
            out.extend_from_slice(part);
        }
        out
    }

    /// Reads the whole state; the options are those of now.
    ///
    /// # Errors
    /// When the bytes are no watch.
    pub fn from_bytes(options: WatchOptions, bytes: &[u8]) -> Result<Self, WatchError> {
        let mut rest = bytes.strip_prefix(&[VERSION]).ok_or(WatchError)?;
        let mut watch = Self::new(options);
        for _ in 0..varint::read(&mut rest).ok_or(WatchError)? {
            let key = read_part(&mut rest).ok_or(WatchError)?;
            let value = read_part(&mut rest).ok_or(WatchError)?;
            watch.read_cell(key, value).ok_or(WatchError)?;
        }
        if rest.is_empty() { Ok(watch) } else { Err(WatchError) }
    }
}

const fn is_rate(signal: Signal) -> bool {
    matches!(signal, Signal::RequestRate | Signal::RecordRate)
}

/// How many windows a window starts after another.
const fn windows_between(earlier: i64, later: i64, width: i64) -> i64 {
    later.saturating_sub(earlier) / width
}

enum Part {
    Header,
    Series(Series),
    Leaf(Leaf),
}

fn series_key(series: &Series) -> Vec<u8> {
    let mut key = vec![KEY_SERIES];
    series.write_to(&mut key);
    key
}

fn leaf_key(leaf: &Leaf) -> Vec<u8> {
    let mut key = vec![KEY_LEAF];
    leaf.iter().for_each(|part| write_text(&mut key, part.as_deref()));
    key
}

fn read_key(key: &[u8]) -> Option<Part> {
    let (&kind, mut rest) = key.split_first()?;
    let part = match kind {
        KEY_HEADER => Part::Header,
        KEY_SERIES => Part::Series(Series::read_from(&mut rest)?),
        KEY_LEAF => Part::Leaf([read_text(&mut rest)?, read_text(&mut rest)?, read_text(&mut rest)?]),
        _ => return None,
    };
    rest.is_empty().then_some(part)
}

fn read_part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint::read(bytes)?).ok()?;
    let (part, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(part)
}
