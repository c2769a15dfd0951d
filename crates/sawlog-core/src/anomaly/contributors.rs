//! What an anomaly of requests comes from: the services, versions and routes that changed most.
//!
//! For: which values of which dimensions explain most of the excess with the fewest values. Source: Bhagwan et al.,
//! 'Adtributor: revenue debugging in advertising systems' (NSDI 2014): *explanatory power* is a value's share of the
//! excess, *surprise* the Jensen-Shannon divergence between its expected and its actual share of the whole; values of a
//! dimension are taken by surprise until they explain two thirds. Besides single dimensions their combinations are
//! tried, so that 'checkout, version 1.9.2' can be the answer. Not for: whether there is an anomaly.
//!
//! What is expected of a version and route is its own mean of the windows before (half-life an hour of minutes); of
//! errors and durations its own mean for each record, pulled to that of all by 20 records, so that a version that is new
//! is measured by what the others do.

use std::collections::BTreeMap;

use super::bytes::Floats;
use super::signal::Signal;
use crate::rollup::Requests;
use crate::varint;

/// Contributors that are named.
const NAMED_MAX: usize = 3;
/// What a value must explain of the excess to be named, and what all of them must explain.
const SHARE_MIN: f64 = 0.1;
const SHARE_OF_ALL: f64 = 0.67;
/// Less surprise than this: all values have changed alike, and none is to be named.
const SURPRISE_MIN: f64 = 0.005;
/// Half-life of what is usual, windows.
const HALF_LIFE: f64 = 60.0;
/// Records by which a mean is pulled to that of all.
const PRIOR: f64 = 20.0;
const DIMENSIONS: usize = 3;

/// Service, version and route.
pub(super) type Leaf = [Option<String>; DIMENSIONS];

/// Values that contribute to an anomaly.
#[derive(Clone, Debug, PartialEq)]
pub struct Contributor {
    /// The service; null when the contribution is not of one service, or of records without.
    pub service: Option<String>,
    /// The version, likewise.
    pub service_version: Option<String>,
    /// The route, likewise.
    pub http_route: Option<String>,
    /// Its share of the excess; above 1 when others made up for it.
    pub share: f64,
    /// Relative change against what is usual for it: 4.3 is +430 %. `None` when nothing was expected.
    pub change: Option<f64>,
    /// In words: 'errors +430 % in checkout, version 1.9.2'.
    pub text: String,
}

/// What a leaf has, or usually has, in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Measures {
    records: f64,
    errors: f64,
    requests: f64,
    timed: f64,
    /// Sum of the durations, microseconds.
    time: f64,
}

impl Measures {
    pub(super) fn of(cell: &Requests) -> Self {
        Self {
            records: cell.count as f64,
            errors: cell.error_count as f64,
            requests: cell.request_count as f64,
            timed: cell.latency.count() as f64,
            time: cell.latency.sum(),
        }
    }

    pub(super) const fn records(&self) -> f64 {
        self.records
    }

    fn each(&mut self, other: &Self, change: impl Fn(&mut f64, f64)) {
        change(&mut self.records, other.records);
        change(&mut self.errors, other.errors);
        change(&mut self.requests, other.requests);
        change(&mut self.timed, other.timed);
        change(&mut self.time, other.time);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.each(other, |mine, theirs| *mine += theirs);
    }

    fn scaled(mut self, factor: f64) -> Self {
        self.each(&Self::default(), |mine, _| *mine *= factor);
        self
    }
}

/// Usual measures of a leaf: means that forget, in which windows without the leaf are zeros.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Usual {
    sums: Measures,
    windows: f64,
    /// Number of the window that was counted last.
    last: i64,
}

impl Usual {
    pub(super) fn new(window_index: i64) -> Self {
        Self { sums: Measures::default(), windows: 0.0, last: window_index.saturating_sub(1) }
    }

    pub(super) const fn last(&self) -> i64 {
        self.last
    }

    /// Counts windows anew after one. Returns whether later ones had been counted.
    pub(super) fn set_back(&mut self, window_index: i64) -> bool {
        let is_later = self.last > window_index;
        self.last = self.last.min(window_index);
        is_later
    }

    fn fade(&mut self, until: i64) {
        let kept_each = 0.5f64.powf(1.0 / HALF_LIFE);
        let kept = kept_each.powf(until.saturating_sub(self.last).max(0) as f64);
        self.sums = self.sums.scaled(kept);
        self.windows = self.windows * kept + (1.0 - kept) / (1.0 - kept_each);
        self.last = self.last.max(until);
    }

    /// What is usual before a window.
    pub(super) fn before(&self, window_index: i64) -> Measures {
        let mut faded = self.clone();
        faded.fade(window_index.saturating_sub(1));
        if faded.windows > 0.0 { faded.sums.scaled(1.0 / faded.windows) } else { Measures::default() }
    }

    pub(super) fn add(&mut self, window_index: i64, measures: &Measures) {
        self.fade(window_index);
        self.sums.add(measures);
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        let Measures { records, errors, requests, timed, time } = self.sums;
        Floats(&[records, errors, requests, timed, time, self.windows]).write_to(out);
        varint::write_signed(out, self.last);
    }

    pub(super) fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        let numbers: [f64; 6] = Floats::read_from(bytes).filter(|all: &[f64; 6]| all.iter().all(|one| *one >= 0.0))?;
        let [records, errors, requests, timed, time, windows] = numbers;
        let sums = Measures { records, errors, requests, timed, time };
        Some(Self { sums, windows, last: varint::read_signed(bytes)? })
    }
}

/// A leaf of the series at hand, as it is and as it usually is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compared<'a> {
    pub(super) leaf: &'a Leaf,
    pub(super) actual: Measures,
    pub(super) usual: Measures,
}

#[derive(Clone, Copy, Debug, Default)]
struct Change {
    actual: f64,
    expected: f64,
}

/// Values of some dimensions (a bit each) that explain the excess.
struct Explanation {
    dimensions: u8,
    values: Vec<(Leaf, Change)>,
    explained: f64,
    surprise: f64,
}

/// The three values that contribute most to an anomaly of a signal; `is_service` when it is one service's. None when
/// the signal has no leaves, or when nothing exceeds.
pub(super) fn contributors(signal: Signal, is_service: bool, leaves: &[Compared<'_>]) -> Vec<Contributor> {
    let Some((what, changes)) = changes(signal, leaves) else { return Vec::new() };
    let total = changes.iter().fold(Change::default(), |sum, (_, change)| Change {
        actual: sum.actual + change.actual,
        expected: sum.expected + change.expected,
    });
    let excess = total.actual - total.expected;
    if excess.abs() <= 1e-9 * total.actual.abs().max(total.expected.abs()) {
        return Vec::new();
    }
    let subsets = (1u8..1 << DIMENSIONS).filter(|subset| !is_service || subset & 1 == 0);
    let explanations = subsets.filter_map(|dimensions| explain(dimensions, &changes, total, excess));
    let explanations = explanations.filter(|found| found.surprise >= SURPRISE_MIN);
    // Those that explain enough; of these the fewest values, then the most surprising, then the simplest.
    let better = |one: &Explanation, other: &Explanation| {
        let is_enough = |found: &Explanation| found.explained >= SHARE_OF_ALL;
        is_enough(one)
            .cmp(&is_enough(other))
            .then_with(|| other.values.len().cmp(&one.values.len()))
            .then_with(|| (one.surprise * 1e6).round().total_cmp(&(other.surprise * 1e6).round()))
            .then_with(|| other.dimensions.count_ones().cmp(&one.dimensions.count_ones()))
            .then_with(|| other.dimensions.cmp(&one.dimensions))
    };
    let Some(mut best) = explanations.max_by(better) else { return Vec::new() };
    best.values.sort_by(|a, b| (b.1.actual - b.1.expected).abs().total_cmp(&(a.1.actual - a.1.expected).abs()));
    best.values.truncate(NAMED_MAX);
    let named = best.values.into_iter().map(|(leaf, change)| name(what, best.dimensions, leaf, change, excess));
    named.collect()
}

/// What is counted, and how much of it each leaf has and should have.
fn changes<'a>(signal: Signal, leaves: &[Compared<'a>]) -> Option<(&'static str, Vec<(&'a Leaf, Change)>)> {
    let usual = leaves.iter().fold(Measures::default(), |mut sum, leaf| {
        sum.add(&leaf.usual);
        sum
    });
    // By the leaf's own mean, pulled to that of all leaves.
    let mean = |sum: f64, count: f64, all_sum: f64, all_count: f64| {
        let of_all = if all_count > 0.0 { all_sum / all_count } else { 0.0 };
        (sum + PRIOR * of_all) / (count + PRIOR)
    };
    let change = |leaf: &Compared<'a>| {
        let Compared { actual, usual: own, .. } = leaf;
        let (actual, expected) = match signal {
            Signal::ErrorRatio => {
                (actual.errors, actual.records * mean(own.errors, own.records, usual.errors, usual.records))
            }
            Signal::LatencyP50 | Signal::LatencyP99 => {
                (actual.time, actual.timed * mean(own.time, own.timed, usual.time, usual.timed))
            }
            Signal::RequestRate => (actual.requests, own.requests),
            _ => (actual.records, own.records),
        };
        (leaf.leaf, Change { actual, expected })
    };
    let what = match signal {
        Signal::ErrorRatio => "errors",
        Signal::RequestRate => "requests",
        Signal::RecordRate => "records",
        Signal::LatencyP50 | Signal::LatencyP99 => "time spent",
        Signal::MetricAverage | Signal::MetricRate | Signal::MetricP99 | Signal::EventRate => return None,
    };
    Some((what, leaves.iter().map(change).collect()))
}

fn explain(dimensions: u8, changes: &[(&Leaf, Change)], total: Change, excess: f64) -> Option<Explanation> {
    let mut values: BTreeMap<[Option<&str>; DIMENSIONS], Change> = BTreeMap::new();
    for (leaf, change) in changes {
        let part = |at: usize| if dimensions >> at & 1 == 1 { leaf[at].as_deref() } else { None };
        let sum = values.entry(std::array::from_fn(part)).or_default();
        sum.actual += change.actual;
        sum.expected += change.expected;
    }
    let mut ranked: Vec<_> =
        values.into_iter().map(|(value, change)| (surprise(change, total), value, change)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut found = Explanation { dimensions, values: Vec::new(), explained: 0.0, surprise: 0.0 };
    for (surprise, value, change) in ranked {
        let share = (change.actual - change.expected) / excess;
        if share < SHARE_MIN {
            continue;
        }
        found.values.push((value.map(|part| part.map(ToOwned::to_owned)), change));
        found.explained += share;
        found.surprise += surprise;
        if found.explained >= SHARE_OF_ALL {
            return Some(found);
        }
    }
    (!found.values.is_empty()).then_some(found)
}

/// Jensen-Shannon divergence of a value's expected and actual share of the whole.
fn surprise(change: Change, total: Change) -> f64 {
    let share = |part: f64, all: f64| if all > 0.0 { (part / all).clamp(0.0, 1.0) } else { 0.0 };
    let (expected, actual) = (share(change.expected, total.expected), share(change.actual, total.actual));
    let term = |one: f64| if one > 0.0 { one * (2.0 * one / (expected + actual)).ln() } else { 0.0 };
    (term(expected) + term(actual)) / 2.0
}

fn name(what: &str, dimensions: u8, leaf: Leaf, change: Change, excess: f64) -> Contributor {
    let relative =
        (change.expected > 0.0).then(|| change.actual / change.expected - 1.0).filter(|change| change.is_finite());
    let words = ["", "version ", "route "];
    let place = (0..DIMENSIONS).filter(|at| dimensions >> at & 1 == 1).map(|at| match &leaf[at] {
        Some(value) => format!("{}{value}", words[at]),
        None => format!("no {}", ["service", "version", "route"][at]),
    });
    let place = place.collect::<Vec<_>>().join(", ");
    let text = match relative {
        Some(relative) if relative.abs() < 10.0 => format!("{what} {:+.0} % in {place}", relative * 100.0),
        Some(relative) if relative > 0.0 => format!("{what} × {:.0} in {place}", relative + 1.0),
        _ => format!("{what} new in {place}"),
    };
    let [service, service_version, http_route] = leaf;
    let share = (change.actual - change.expected) / excess;
    Contributor { service, service_version, http_route, share, change: relative, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(service: &str, version: &str, route: &str) -> Leaf {
        [service, version, route].map(|text| Some(text.to_owned()))
    }

    fn measures(records: f64, errors: f64, milliseconds: f64) -> Measures {
        Measures { records, errors, requests: records, timed: records, time: records * milliseconds * 1e3 }
    }

    /// Two services with two versions and three routes each; `actual` changes what a leaf has.
    fn texts(signal: Signal, is_service: bool, actual: impl Fn(&Leaf, Measures) -> Measures) -> Vec<String> {
        let mut leaves = Vec::new();
        for service in ["checkout", "search"] {
            for version in ["1.9.1", "1.9.2"] {
                leaves.extend(["/a", "/b", "/c"].map(|route| leaf(service, version, route)));
            }
        }
        if is_service {
            leaves.retain(|leaf| leaf[0].as_deref() == Some("checkout"));
        }
        let usual = measures(200.0, 2.0, 50.0);
        let compared: Vec<_> =
            leaves.iter().map(|leaf| Compared { leaf, actual: actual(leaf, usual), usual }).collect();
        contributors(signal, is_service, &compared).into_iter().map(|found| found.text).collect()
    }

    fn is(leaf: &Leaf, at: usize, value: &str) -> bool {
        leaf[at].as_deref() == Some(value)
    }

    #[test]
    fn errors_of_one_version_of_one_service_are_found() {
        let spike = |leaf: &Leaf, usual: Measures| match is(leaf, 0, "checkout") && is(leaf, 1, "1.9.2") {
            true => measures(200.0, 10.6, 50.0),
            false => usual,
        };
        assert_eq!(texts(Signal::ErrorRatio, false, spike), ["errors +430 % in checkout, version 1.9.2"]);
        assert_eq!(texts(Signal::ErrorRatio, true, spike), ["errors +430 % in version 1.9.2"]);
    }

    #[test]
    fn one_route_of_all_services_is_found() {
        let slow = |leaf: &Leaf, usual: Measures| if is(leaf, 2, "/b") { measures(200.0, 2.0, 100.0) } else { usual };
        assert_eq!(texts(Signal::LatencyP99, false, slow), ["time spent +100 % in route /b"]);
    }

    #[test]
    fn a_whole_service_that_loses_its_requests_is_found() {
        let lost = |leaf: &Leaf, usual: Measures| if is(leaf, 0, "search") { measures(20.0, 0.0, 50.0) } else { usual };
        assert_eq!(texts(Signal::RequestRate, false, lost), ["requests -90 % in search"]);
    }

    #[test]
    fn where_all_values_change_alike_none_is_named() {
        let slow = |_: &Leaf, _: Measures| measures(200.0, 2.0, 100.0);
        assert_eq!(texts(Signal::LatencyP50, false, slow), [""; 0]);
    }

    #[test]
    fn more_requests_alone_are_no_errors() {
        let more = |_: &Leaf, _: Measures| measures(400.0, 4.0, 50.0);
        assert_eq!(texts(Signal::ErrorRatio, false, more), [""; 0]);
    }

    #[test]
    fn a_version_that_is_new_is_measured_by_the_others() {
        let leaves = [leaf("checkout", "1", "/a"), leaf("checkout", "2", "/a")];
        let usual = [measures(200.0, 2.0, 50.0), Measures::default()];
        let actual = [measures(100.0, 1.0, 50.0), measures(100.0, 21.0, 50.0)];
        let compared: Vec<_> =
            (0..2).map(|at| Compared { leaf: &leaves[at], actual: actual[at], usual: usual[at] }).collect();
        let found = contributors(Signal::ErrorRatio, true, &compared);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].service_version.as_deref(), Some("2"));
        assert!((found[0].share - 1.0).abs() < 0.01 && found[0].change.expect("a change") > 19.0, "{found:?}");
    }

    #[test]
    fn what_is_usual_forgets_and_counts_absence_as_zero() {
        let mut usual = Usual::new(0);
        (0..200).for_each(|window| usual.add(window, &measures(100.0, 1.0, 50.0)));
        assert!((usual.before(200).records - 100.0).abs() < 1e-6);
        assert!((usual.before(260).records - 100.0 * 0.5).abs() < 3.0, "{:?}", usual.before(260));
        let mut bytes = Vec::new();
        usual.write_to(&mut bytes);
        assert_eq!(Usual::read_from(&mut bytes.as_slice()), Some(usual));
    }
}
