//! What a window holds, as the plain values that were counted.
//!
//! For: comparing with a cell: counts and sums must be equal, sketches within their bound. Not for: merging, which a
//! recount does not do.

use std::collections::{BTreeMap, BTreeSet};

use sawlog_core::rollup::{Cell, Rollup, TOP_CAPACITY};

/// One event's share in a cell.
#[derive(Clone, Debug)]
pub(in crate::simulation) enum Share {
    Request { level: &'static str, is_request: bool, duration: Option<i64>, bytes: i64 },
    Value { time: i64, value: f64 },
    Activity { user: String },
    User(String),
    Top(String),
}

#[derive(Clone, Debug, Default)]
pub(in crate::simulation) struct Recount {
    shares: Vec<Share>,
}

/// Apdex threshold of the default options, microseconds.
const SATISFIED_MAX: i64 = 500_000;

impl Recount {
    pub(super) fn add(&mut self, share: Share) {
        self.shares.push(share);
    }

    /// How a cell differs from what was counted.
    pub(in crate::simulation) fn difference(&self, rollup: Rollup, cell: &Cell) -> Option<String> {
        let (expected, found) = match (rollup, cell) {
            (Rollup::Requests, Cell::Requests(cell)) => {
                let found = [
                    cell.count,
                    cell.error_count,
                    cell.warning_count,
                    cell.request_count,
                    cell.bytes,
                    cell.satisfied_count,
                    cell.tolerating_count,
                    cell.latency.count(),
                ];
                if let Some(off) = self.quantile_off(|quantile| cell.latency.quantile(quantile)) {
                    return Some(off);
                }
                (format!("{:?}", self.requests()), format!("{found:?}"))
            }
            (Rollup::Metrics, Cell::Metric(cell)) => {
                let sample = |sample: Option<sawlog_core::rollup::Sample>| sample.map(|one| (one.time, one.value));
                let found = (
                    (cell.count, cell.not_finite_count, cell.sum.value()),
                    (cell.min, cell.max),
                    (sample(cell.first), sample(cell.last)),
                );
                (format!("{:?}", self.metric()), format!("{found:?}"))
            }
            (Rollup::Activity, Cell::Activity(cell)) => {
                let users = near(cell.users.count(), self.users().len());
                (format!("{:?}", (self.shares.len() as u64, self.users().len())), format!("{:?}", (cell.count, users)))
            }
            (Rollup::Users, Cell::Users(users)) => {
                (format!("{:?}", self.users().len()), format!("{:?}", near(users.count(), self.users().len())))
            }
            (Rollup::Top, Cell::Top(top)) => {
                let found = top.top(usize::MAX).into_iter();
                let found = found.map(|one| (String::from_utf8_lossy(&one.value).into_owned(), (one.count, one.error)));
                return self.top_off(&found.collect());
            }
            (rollup, cell) => return Some(format!("a cell of {rollup:?} is {cell:?}")),
        };
        (expected != found).then(|| format!("recounted {expected}, found {found}"))
    }

    fn requests(&self) -> [u64; 8] {
        let mut sums = [0; 8];
        for share in &self.shares {
            let Share::Request { level, is_request, duration, bytes } = share else { continue };
            sums[0] += 1;
            sums[1] += u64::from(*level == "error");
            sums[2] += u64::from(*level == "warn");
            sums[3] += u64::from(*is_request);
            sums[4] += *bytes as u64;
            if let Some(duration) = *duration {
                sums[5] += u64::from(duration <= SATISFIED_MAX);
                sums[6] += u64::from(duration > SATISFIED_MAX && duration <= 4 * SATISFIED_MAX);
                sums[7] += 1;
            }
        }
        sums
    }

    fn quantile_off(&self, quantile_of: impl Fn(f64) -> Option<f64>) -> Option<String> {
        let mut durations: Vec<i64> = Vec::new();
        for share in &self.shares {
            if let Share::Request { duration: Some(duration), .. } = share {
                durations.push(*duration);
            }
        }
        durations.sort_unstable();
        for quantile in [0.0, 0.5, 0.99] {
            let rank = (quantile * durations.len().saturating_sub(1) as f64).round() as usize;
            let expected = durations.get(rank).map(|duration| *duration as f64);
            let found = quantile_of(quantile);
            let is_near = match (expected, found) {
                (Some(expected), Some(found)) => (expected - found).abs() <= expected * 0.0101,
                (expected, found) => expected.is_none() && found.is_none(),
            };
            if !is_near {
                return Some(format!("quantile {quantile}: recounted {expected:?}, found {found:?}"));
            }
        }
        None
    }

    #[expect(clippy::type_complexity, reason = "compared as a whole and nowhere kept")]
    fn metric(&self) -> ((u64, u64, f64), (Option<f64>, Option<f64>), (Option<(i64, f64)>, Option<(i64, f64)>)) {
        let mut points: Vec<(i64, f64)> = Vec::new();
        let (mut count, mut not_finite) = (0, 0);
        for share in &self.shares {
            let Share::Value { time, value } = share else { continue };
            count += 1;
            if value.is_finite() { points.push((*time, *value)) } else { not_finite += 1 }
        }
        points.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut values: Vec<f64> = points.iter().map(|point| point.1).collect();
        values.sort_by(f64::total_cmp);
        let sum = values.iter().fold(0.0, |sum, value| sum + value);
        (
            (count, not_finite, sum),
            (values.first().copied(), values.last().copied()),
            (points.first().copied(), points.last().copied()),
        )
    }

    fn users(&self) -> BTreeSet<&str> {
        let mut users = BTreeSet::new();
        for share in &self.shares {
            if let Share::User(user) | Share::Activity { user } = share {
                users.insert(user.as_str());
            }
        }
        users
    }

    /// A listed count is too large by at most its error, the error is at most a share of all, and what comes more often
    /// than that is listed. With fewer values than counters every count is exact.
    fn top_off(&self, found: &BTreeMap<String, (u64, u64)>) -> Option<String> {
        let expected = self.top();
        let bound = if expected.len() < TOP_CAPACITY { 0 } else { self.shares.len() as u64 / TOP_CAPACITY as u64 };
        let values: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        let off = values.into_iter().find(|value| {
            let count = expected.get(*value).copied().unwrap_or(0);
            match found.get(*value) {
                Some((listed, error)) => *error > bound || *listed < count || *listed > count + error,
                None => count > bound,
            }
        });
        off.map(|value| format!("{value:?}: recounted {:?}, listed {:?}", expected.get(value), found.get(value)))
    }

    fn top(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for share in &self.shares {
            if let Share::Top(value) = share {
                *counts.entry(value.clone()).or_default() += 1;
            }
        }
        counts
    }
}

/// An estimate of a number of users, taken for the number where it is near it: of more than a few users two pairs may fall
/// together, and beyond that four standard errors are allowed.
fn near(estimate: u64, users: usize) -> usize {
    let bound = if users <= 4 { 0.0 } else { (users as f64 * 4.0 * 0.016).max(2.0) };
    if (estimate as f64 - users as f64).abs() <= bound { users } else { estimate as usize }
}
