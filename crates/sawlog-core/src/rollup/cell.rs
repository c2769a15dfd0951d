//! What is kept of one key and window: counts, sums, sketches.
//!
//! For: values that merge in any order and have bytes of their own, since they travel between workers, checkpoints and
//! stores. Not for: keys ([`super::key`]) or which events are counted ([`super::deltas`]).
//! Invariants: merging is commutative and associative; counts and sums are exact, saturating integers; reading bytes
//! that no version of this code wrote gives an error, never a panic.

use crate::fixed_sum::FixedSum;
use crate::hyperloglog::HyperLogLog;
use crate::rollup::Rollup;
use crate::sketch::Sketch;
use crate::top_k::TopK;
use crate::varint;

const VERSION: u8 = 2;

/// Counters of a list of most frequent values: with 100 of them a count is too large by at most 1 % of all.
pub const TOP_CAPACITY: usize = 100;

/// The value of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Of [`Rollup::Requests`].
    Requests(Box<Requests>),
    /// Of [`Rollup::Metrics`].
    Metric(Box<Metric>),
    /// Of [`Rollup::Activity`].
    Activity(Activity),
    /// Of [`Rollup::Users`].
    Users(HyperLogLog),
    /// Of [`Rollup::Top`].
    Top(TopK),
}

/// What of a cell a number is made of; each includes the numbers that cost no memory of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Counts, sums, extremes, first and last values.
    Numbers,
    /// Also counts and sums of what histograms observed.
    Observations,
    /// Also distributions.
    Distribution,
    /// Also the distinct users.
    Users,
}

/// Bytes that are no cell.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no cell of version {VERSION} of the rollup {rollup:?}")]
pub struct CellError {
    /// The rollup that they should be of.
    pub rollup: Rollup,
}

impl Cell {
    /// An empty cell.
    #[must_use]
    pub fn new(rollup: Rollup) -> Self {
        match rollup {
            Rollup::Requests => Self::Requests(Box::default()),
            Rollup::Metrics => Self::Metric(Box::default()),
            Rollup::Activity => Self::Activity(Activity::default()),
            Rollup::Users => Self::Users(HyperLogLog::default()),
            Rollup::Top => Self::Top(TopK::new(TOP_CAPACITY)),
        }
    }

    /// Adds what another cell of the same rollup holds; one of another rollup changes nothing, which is a defect of the
    /// caller.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Requests(mine), Self::Requests(theirs)) => mine.merge(theirs),
            (Self::Metric(mine), Self::Metric(theirs)) => mine.merge(theirs),
            (Self::Activity(mine), Self::Activity(theirs)) => mine.merge(theirs),
            (Self::Users(mine), Self::Users(theirs)) => mine.merge(theirs),
            (Self::Top(mine), Self::Top(theirs)) => mine.merge(theirs),
            _ => debug_assert!(false, "cells of two rollups were merged"),
        }
    }

    /// The cell with nothing but a part of it, in the same form: reduced cells merge to the reduced merged cell.
    #[must_use]
    pub fn reduced_to(&self, part: Part) -> Self {
        match self {
            Self::Requests(cell) => Self::Requests(Box::new(cell.reduced_to(part))),
            Self::Metric(cell) => Self::Metric(Box::new(cell.reduced_to(part))),
            Self::Activity(Activity { count, users }) => {
                let users = if part == Part::Users { users.clone() } else { HyperLogLog::default() };
                Self::Activity(Activity { count: *count, users })
            }
            // They have no numbers that are not what they are about.
            Self::Users(_) | Self::Top(_) => self.clone(),
        }
    }

    /// Memory of the cell beside its own size, bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Requests(cell) => size_of::<Requests>() + cell.latency.memory_bytes(),
            Self::Metric(cell) => size_of::<Metric>() + cell.memory_bytes(),
            Self::Activity(cell) => cell.users.memory_bytes(),
            Self::Users(users) => users.memory_bytes(),
            Self::Top(top) => top.memory_bytes(),
        }
    }

    /// Appends the cell's bytes: version, then its fields in order.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            Self::Requests(cell) => cell.write_to(out),
            Self::Metric(cell) => cell.write_to(out),
            Self::Activity(cell) => cell.write_to(out),
            Self::Users(users) => users.write_to(out),
            Self::Top(top) => top.write_to(out),
        }
    }

    /// Reads a cell of a rollup.
    ///
    /// # Errors
    /// When the bytes are no such cell.
    pub fn from_bytes(rollup: Rollup, bytes: &[u8]) -> Result<Self, CellError> {
        Self::read(rollup, bytes).ok_or(CellError { rollup })
    }

    fn read(rollup: Rollup, bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes.strip_prefix(&[VERSION])?;
        let cell = match rollup {
            Rollup::Requests => Self::Requests(Box::new(Requests::read_from(rest)?)),
            Rollup::Metrics => Self::Metric(Box::new(Metric::read_from(rest)?)),
            Rollup::Activity => Self::Activity(Activity::read_from(rest)?),
            Rollup::Users => Self::Users(HyperLogLog::read_from(rest).ok()?),
            Rollup::Top => Self::Top(TopK::read_from(rest).ok()?),
        };
        rest.is_empty().then_some(cell)
    }
}

fn add(mine: &mut u64, theirs: u64) {
    *mine = mine.saturating_add(theirs);
}

/// Log records of one service, version and route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Log records.
    pub count: u64,
    /// Those of class `error`.
    pub error_count: u64,
    /// Those of class `warning`.
    pub warning_count: u64,
    /// Those that are requests: they have an HTTP status, method or path, or a duration.
    pub request_count: u64,
    /// Sum of the response bytes.
    pub bytes: u64,
    /// Requests that took at most the Apdex threshold T.
    pub satisfied_count: u64,
    /// Requests that took more than T and at most 4 T.
    pub tolerating_count: u64,
    /// Durations, microseconds.
    pub latency: Sketch,
}

impl Requests {
    fn merge(&mut self, other: &Self) {
        let theirs = other.counts();
        self.counts_mut().into_iter().zip(theirs).for_each(|(mine, theirs)| add(mine, theirs));
        self.latency.merge(&other.latency);
    }

    fn reduced_to(&self, part: Part) -> Self {
        let latency = if part == Part::Distribution { self.latency.clone() } else { Sketch::default() };
        Self {
            count: self.count,
            error_count: self.error_count,
            warning_count: self.warning_count,
            request_count: self.request_count,
            bytes: self.bytes,
            satisfied_count: self.satisfied_count,
            tolerating_count: self.tolerating_count,
            latency,
        }
    }

    const fn counts(&self) -> [u64; 7] {
        [
            self.count,
            self.error_count,
            self.warning_count,
            self.request_count,
            self.bytes,
            self.satisfied_count,
            self.tolerating_count,
        ]
    }

    const fn counts_mut(&mut self) -> [&mut u64; 7] {
        [
            &mut self.count,
            &mut self.error_count,
            &mut self.warning_count,
            &mut self.request_count,
            &mut self.bytes,
            &mut self.satisfied_count,
            &mut self.tolerating_count,
        ]
    }

    /// Share of the records that are errors; `None` without records.
    #[must_use]
    pub fn error_ratio(&self) -> Option<f64> {
        (self.count > 0).then(|| self.error_count as f64 / self.count as f64)
    }

    /// Apdex: satisfied plus half of the tolerating, as share of the requests with a duration; `None` without any.
    /// Source: Apdex Alliance, 'Application Performance Index, Technical Specification 1.1' (2007).
    #[must_use]
    pub fn apdex(&self) -> Option<f64> {
        let timed = self.latency.count();
        (timed > 0).then(|| (self.satisfied_count as f64 + self.tolerating_count as f64 / 2.0) / timed as f64)
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        self.counts().into_iter().for_each(|count| varint::write(out, count));
        self.latency.write_to(out);
    }

    fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        let mut cell = Self::default();
        for count in cell.counts_mut() {
            *count = varint::read(bytes)?;
        }
        cell.latency = Sketch::read_from(bytes).ok()?;
        Some(cell)
    }
}

/// A number at a time. Of two at one time the larger number is the later one, so that order does not matter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Event time, UTC microseconds.
    pub time: i64,
    /// The number, finite.
    pub value: f64,
}

impl Sample {
    fn is_before(&self, other: &Self) -> bool {
        (self.time, self.value) < (other.time, other.value)
    }
}

/// Data points of one metric series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metric {
    /// Data points, those with numbers that are not finite included.
    pub count: u64,
    /// Data points whose number is not finite; they are in `count` and nowhere else.
    pub not_finite_count: u64,
    /// Sum of the values; of histograms the sum of their sums.
    pub sum: FixedSum,
    /// Smallest value; `None` without values.
    pub min: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Earliest value.
    pub first: Option<Sample>,
    /// Latest value.
    pub last: Option<Sample>,
    /// Values that histograms and summaries with delta temporality report.
    pub observation_count: u64,
    /// Their distribution, within the sender's buckets.
    pub distribution: Sketch,
    /// Earliest and latest state of a histogram with cumulative temporality.
    pub cumulative: Option<Box<(Snapshot, Snapshot)>>,
}

impl Eq for Metric {}

/// State of a cumulative histogram at a time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Event time, UTC microseconds.
    pub time: i64,
    /// Values so far.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Their distribution.
    pub distribution: Sketch,
}

impl Snapshot {
    fn without_distribution(&self) -> Self {
        Self { time: self.time, count: self.count, sum: self.sum, distribution: Sketch::default() }
    }

    fn is_before(&self, other: &Self) -> bool {
        (self.time, self.count) < (other.time, other.count)
    }
}

impl Metric {
    /// Counts a data point with one value.
    pub(super) fn add_value(&mut self, time: i64, value: f64) {
        add(&mut self.count, 1);
        if !self.sum.add(value) {
            add(&mut self.not_finite_count, 1);
            return;
        }
        let sample = Sample { time, value };
        self.widen(Some(value), Some(value), Some(sample), Some(sample));
    }

    fn widen(&mut self, min: Option<f64>, max: Option<f64>, first: Option<Sample>, last: Option<Sample>) {
        let choose = |mine: &mut Option<f64>, theirs: Option<f64>, pick: fn(f64, f64) -> f64| {
            *mine = match (*mine, theirs) {
                (Some(a), Some(b)) => Some(pick(a, b)),
                (a, b) => a.or(b),
            };
        };
        choose(&mut self.min, min, f64::min);
        choose(&mut self.max, max, f64::max);
        if first.is_some_and(|theirs| self.first.is_none_or(|mine| theirs.is_before(&mine))) {
            self.first = first;
        }
        if last.is_some_and(|theirs| self.last.is_none_or(|mine| mine.is_before(&theirs))) {
            self.last = last;
        }
    }

    /// Counts a histogram of the values since the point before it.
    pub(super) fn add_histogram(
        &mut self,
        count: u64,
        sum: Option<f64>,
        extremes: (Option<f64>, Option<f64>),
        distribution: &Sketch,
    ) {
        add(&mut self.count, 1);
        if sum.is_some_and(|sum| !self.sum.add(sum)) {
            add(&mut self.not_finite_count, 1);
        }
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        self.widen(finite(extremes.0), finite(extremes.1), None, None);
        add(&mut self.observation_count, count);
        self.distribution.merge(distribution);
    }

    /// Counts a histogram of the values since the start of its process.
    pub(super) fn add_snapshot(&mut self, snapshot: Snapshot) {
        add(&mut self.count, 1);
        if !snapshot.sum.is_finite() {
            add(&mut self.not_finite_count, 1);
            return;
        }
        self.stretch(&snapshot, &snapshot);
    }

    fn stretch(&mut self, first: &Snapshot, last: &Snapshot) {
        match &mut self.cumulative {
            None => self.cumulative = Some(Box::new((first.clone(), last.clone()))),
            Some(both) => {
                if first.is_before(&both.0) {
                    both.0 = first.clone();
                }
                if both.1.is_before(last) {
                    both.1 = last.clone();
                }
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        add(&mut self.count, other.count);
        add(&mut self.not_finite_count, other.not_finite_count);
        self.sum.merge(other.sum);
        self.widen(other.min, other.max, other.first, other.last);
        add(&mut self.observation_count, other.observation_count);
        self.distribution.merge(&other.distribution);
        if let Some(both) = &other.cumulative {
            self.stretch(&both.0, &both.1);
        }
    }

    fn reduced_to(&self, part: Part) -> Self {
        let without =
            |both: &(Snapshot, Snapshot)| Box::new((both.0.without_distribution(), both.1.without_distribution()));
        let (distribution, cumulative) = match part {
            Part::Numbers | Part::Users => (Sketch::default(), None),
            Part::Observations => (Sketch::default(), self.cumulative.as_deref().map(without)),
            Part::Distribution => (self.distribution.clone(), self.cumulative.clone()),
        };
        Self {
            count: self.count,
            not_finite_count: self.not_finite_count,
            sum: self.sum,
            min: self.min,
            max: self.max,
            first: self.first,
            last: self.last,
            observation_count: self.observation_count,
            distribution,
            cumulative,
        }
    }

    /// By how much a counter grew from the earliest to the latest point; after a reset in between, what it has
    /// counted since. `None` without values.
    #[must_use]
    pub fn increase(&self) -> Option<f64> {
        let (first, last) = (self.first?, self.last?);
        Some(if last.value >= first.value { last.value - first.value } else { last.value })
    }

    /// Count, sum and distribution of what histograms observed in the window, of either temporality.
    #[must_use]
    pub fn observed(&self) -> (u64, f64, Sketch) {
        let mut all = (
            self.observation_count,
            if self.observation_count > 0 { self.sum.value() } else { 0.0 },
            self.distribution.clone(),
        );
        if let Some(both) = &self.cumulative {
            let (first, last) = both.as_ref();
            // A count that went back: the process was restarted, and all that it has counted is new.
            let base = if last.count >= first.count { first.clone() } else { Snapshot::default() };
            all.0 = all.0.saturating_add(last.count.saturating_sub(base.count));
            all.1 += last.sum - base.sum;
            all.2.merge(&last.distribution.without(&base.distribution));
        }
        all
    }

    fn memory_bytes(&self) -> usize {
        let snapshots = self.cumulative.as_ref().map_or(0, |both| {
            size_of::<(Snapshot, Snapshot)>() + both.0.distribution.memory_bytes() + both.1.distribution.memory_bytes()
        });
        self.distribution.memory_bytes() + snapshots
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        varint::write(out, self.count);
        varint::write(out, self.not_finite_count);
        self.sum.write_to(out);
        for number in [self.min, self.max] {
            write_optional(out, number, |out, number| out.extend_from_slice(&number.to_le_bytes()));
        }
        for sample in [self.first, self.last] {
            write_optional(out, sample, |out, sample| {
                varint::write_signed(out, sample.time);
                out.extend_from_slice(&sample.value.to_le_bytes());
            });
        }
        varint::write(out, self.observation_count);
        self.distribution.write_to(out);
        write_optional(out, self.cumulative.as_ref(), |out, both| {
            for snapshot in [&both.0, &both.1] {
                varint::write_signed(out, snapshot.time);
                varint::write(out, snapshot.count);
                out.extend_from_slice(&snapshot.sum.to_le_bytes());
                snapshot.distribution.write_to(out);
            }
        });
    }

    fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        let (count, not_finite_count) = (varint::read(bytes)?, varint::read(bytes)?);
        let sum = FixedSum::read_from(bytes)?;
        let (min, max) = (read_optional(bytes, read_float)?, read_optional(bytes, read_float)?);
        let read_sample =
            |bytes: &mut &[u8]| Some(Sample { time: varint::read_signed(bytes)?, value: read_float(bytes)? });
        let (first, last) = (read_optional(bytes, read_sample)?, read_optional(bytes, read_sample)?);
        let observation_count = varint::read(bytes)?;
        let distribution = Sketch::read_from(bytes).ok()?;
        let cumulative = read_optional(bytes, |bytes| Some(Box::new((read_snapshot(bytes)?, read_snapshot(bytes)?))))?;
        Some(Self { count, not_finite_count, sum, min, max, first, last, observation_count, distribution, cumulative })
    }
}

fn write_optional<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        write(out, value);
    }
}

/// The outer option is whether the bytes made sense.
fn read_optional<T>(bytes: &mut &[u8], read: impl FnOnce(&mut &[u8]) -> Option<T>) -> Option<Option<T>> {
    let (&is_there, rest) = bytes.split_first()?;
    *bytes = rest;
    match is_there {
        0 => Some(None),
        1 => read(bytes).map(Some),
        _ => None,
    }
}

fn read_float(bytes: &mut &[u8]) -> Option<f64> {
    let (found, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(f64::from_le_bytes(*found)).filter(|number| number.is_finite())
}

fn read_snapshot(bytes: &mut &[u8]) -> Option<Snapshot> {
    Some(Snapshot {
        time: varint::read_signed(bytes)?,
        count: varint::read(bytes)?,
        sum: read_float(bytes)?,
        distribution: Sketch::read_from(bytes).ok()?,
    })
}

/// Activity events of one name, segment and country.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Events.
    pub count: u64,
    /// Distinct users.
    pub users: HyperLogLog,
}

impl Activity {
    fn merge(&mut self, other: &Self) {
        add(&mut self.count, other.count);
        self.users.merge(&other.users);
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        varint::write(out, self.count);
        self.users.write_to(out);
    }

    fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self { count: varint::read(bytes)?, users: HyperLogLog::read_from(bytes).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metric() -> impl Strategy<Value = Metric> {
        let point = (0i64..50, prop_oneof![4 => -100.0f64..100.0, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)]);
        let snapshot = (0i64..50, 0u64..40);
        (proptest::collection::vec(point, 0..6), proptest::collection::vec(snapshot, 0..3)).prop_map(
            |(points, snapshots)| {
                let mut cell = Metric::default();
                points.into_iter().for_each(|(time, value)| cell.add_value(time, value));
                for (time, count) in snapshots {
                    let mut distribution = Sketch::default();
                    distribution.add_times(5.0, count);
                    cell.add_snapshot(Snapshot { time, count, sum: count as f64, distribution });
                }
                cell
            },
        )
    }

    fn merged(parts: &[&Metric]) -> Metric {
        let mut all = Metric::default();
        parts.iter().for_each(|part| all.merge(part));
        all
    }

    #[test]
    fn a_counter_grows_from_its_first_to_its_last_point_or_since_its_reset() {
        let grown = |values: &[f64]| {
            let mut cell = Metric::default();
            values.iter().enumerate().for_each(|(time, value)| cell.add_value(time as i64, *value));
            cell.increase()
        };
        assert_eq!(grown(&[]), None);
        assert_eq!(grown(&[5.0]), Some(0.0));
        assert_eq!(grown(&[5.0, 9.0]), Some(4.0));
        assert_eq!(grown(&[500.0, 3.0]), Some(3.0));
    }

    #[test]
    fn numbers_that_are_not_finite_are_counted_and_change_no_sum() {
        let mut cell = Metric::default();
        [1.0, f64::NAN, f64::INFINITY, 3.0].into_iter().for_each(|value| cell.add_value(0, value));
        assert_eq!((cell.count, cell.not_finite_count, cell.sum.value()), (4, 2, 4.0));
        assert_eq!((cell.min, cell.max), (Some(1.0), Some(3.0)));
    }

    #[test]
    fn a_cumulative_histogram_tells_what_it_observed_within_the_window() {
        let snapshot = |time: i64, count: u64| {
            let mut distribution = Sketch::default();
            distribution.add_times(10.0, count);
            Snapshot { time, count, sum: count as f64 * 10.0, distribution }
        };
        let mut cell = Metric::default();
        [(2, 50), (1, 20), (3, 80)].into_iter().for_each(|(time, count)| cell.add_snapshot(snapshot(time, count)));
        let (count, sum, distribution) = cell.observed();
        assert_eq!((count, sum, distribution.count()), (60, 600.0, 60));
        cell.add_snapshot(snapshot(4, 7));
        assert_eq!(cell.observed().0, 7, "a restart counts from nothing");
    }

    #[test]
    fn a_reduced_cell_takes_the_memory_of_its_numbers() {
        let mut requests = Requests { count: 500, ..Requests::default() };
        (1..500).for_each(|value| requests.latency.add(f64::from(value)));
        let mut activity = Activity { count: 500, ..Activity::default() };
        (0..500u64).for_each(|user| activity.users.add(&user.to_le_bytes()));
        for (cell, heavy) in
            [(Cell::Requests(Box::new(requests)), Part::Distribution), (Cell::Activity(activity), Part::Users)]
        {
            let numbers = cell.reduced_to(Part::Numbers);
            assert!(numbers.memory_bytes() + 1_000 < cell.memory_bytes(), "{numbers:?}");
            assert_eq!(cell.reduced_to(heavy), cell);
        }
    }

    #[test]
    fn apdex_counts_the_tolerating_half() {
        let mut cell = Requests { satisfied_count: 6, tolerating_count: 2, ..Requests::default() };
        assert_eq!(cell.apdex(), None);
        cell.latency.add_times(1.0, 10);
        assert_eq!(cell.apdex(), Some(0.7));
    }

    proptest! {
        #[test]
        fn metrics_merge_in_any_order(a in metric(), b in metric(), c in metric()) {
            let one = merged(&[&a, &b, &c]);
            prop_assert_eq!(&merged(&[&c, &a, &b]), &one);
            prop_assert_eq!(&merged(&[&a, &merged(&[&b, &c])]), &one);
        }

        #[test]
        fn reduced_cells_merge_to_the_reduced_merged_cell(a in metric(), b in metric()) {
            let whole = Cell::Metric(Box::new(merged(&[&a, &b])));
            for part in [Part::Numbers, Part::Observations, Part::Distribution, Part::Users] {
                let reduced = |cell: &Metric| Cell::Metric(Box::new(cell.clone())).reduced_to(part);
                let mut both = reduced(&a);
                both.merge(&reduced(&b));
                prop_assert_eq!(&both, &whole.reduced_to(part));
                prop_assert_eq!(&both.reduced_to(part), &both);
            }
        }

        #[test]
        fn bytes_of_metrics_are_read_back(cell in metric()) {
            let cell = Cell::Metric(Box::new(cell));
            let mut bytes = Vec::new();
            cell.write_to(&mut bytes);
            prop_assert_eq!(Cell::from_bytes(Rollup::Metrics, &bytes), Ok(cell));
        }

        #[test]
        fn any_bytes_are_read_or_refused(rest in proptest::collection::vec(any::<u8>(), 0..80)) {
            let bytes = [&[VERSION], rest.as_slice()].concat();
            for rollup in Rollup::ALL {
                let _ = Cell::from_bytes(rollup, &bytes);
            }
        }
    }
}
