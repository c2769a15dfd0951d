//! Versions that services reported for the first time.
//!
//! For: finding, in the rollups of requests, when each version of each service came first, without reading the history: of
//! each series only its ends are looked up. Not for: what was announced ([`crate::deploys`]).
//!
//! The hour is that of the hourly rollup, which is kept longest; the minute that of the rollup by minutes, where that still
//! has it. A version that was there within two minutes of its service's first record is left out: nothing says that it was
//! deployed then, and not when Sawlog first heard of the service.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use sawlog_core::rollup::{self, OTHER, Rollup, Width};
use sawlog_core::rowkey;
use sawlog_seams::serving::{Family, ServingError, ServingSnapshot};
use sawlog_seams::view::{HotRollups, View};

/// What a service reports so soon after its first record was there before.
const SETTLING_MICROS: i64 = 120_000_000;
/// Behind all windows of a series.
const BEHIND_SERIES: [u8; 9] = [0xff; 9];
/// Series that are looked at before others get their turn.
const SERIES_AT_ONCE: usize = 64;

/// The rollups of a view.
#[derive(Clone)]
pub(crate) struct Rollups {
    hot: Vec<Arc<dyn HotRollups>>,
    serving: Arc<dyn ServingSnapshot>,
}

impl Rollups {
    pub(crate) fn of(view: &View) -> Self {
        Self { hot: view.hot_rollups.clone(), serving: Arc::clone(&view.serving) }
    }
}

/// A version of a service that was not there from the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FirstVersion {
    pub(crate) service: String,
    pub(crate) version: String,
    /// Start of the first window that has it, UTC microseconds.
    pub(crate) time: i64,
}

/// Service and version.
type Name = (String, String);

/// All versions but the first of each service, in the order of service and version.
pub(crate) async fn first_versions(rollups: &Rollups) -> Result<Vec<FirstVersion>, ServingError> {
    let hours = first_windows(rollups, Width::Hour).await?;
    let minutes = first_windows(rollups, Width::Minute).await?;
    Ok(without_beginnings(&hours, &minutes))
}

fn without_beginnings(hours: &BTreeMap<Name, i64>, minutes: &BTreeMap<Name, i64>) -> Vec<FirstVersion> {
    let exact = hours.iter().map(|(name, hour)| {
        let minute = minutes.get(name).filter(|minute| (*hour..*hour + Width::Hour.micros()).contains(*minute));
        (name, *minute.unwrap_or(hour))
    });
    let exact: Vec<(&Name, i64)> = exact.collect();
    let mut beginnings: BTreeMap<&str, i64> = BTreeMap::new();
    for ((service, _), time) in &exact {
        beginnings.entry(service).and_modify(|first| *first = (*first).min(*time)).or_insert(*time);
    }
    let is_later =
        |(service, time): (&str, i64)| beginnings.get(service).is_some_and(|first| time > first + SETTLING_MICROS);
    let later = exact.into_iter().filter(|((service, _), time)| is_later((service, *time)));
    later
        .map(|((service, version), time)| FirstVersion { service: service.clone(), version: version.clone(), time })
        .collect()
}

/// The start of the oldest window of each version, in windows of a width.
async fn first_windows(rollups: &Rollups, width: Width) -> Result<BTreeMap<Name, i64>, ServingError> {
    let mut found: BTreeMap<Name, i64> = BTreeMap::new();
    let mut note = |key: &[u8], time: i64| {
        if let Some(name) = name_of(key) {
            found.entry(name).and_modify(|first| *first = (*first).min(time)).or_insert(time);
        }
    };
    for source in &rollups.hot {
        for (key, _) in source.cells(Rollup::Requests, width, i64::MIN..i64::MAX) {
            note(&key, rowkey::time_of(&key).unwrap_or(i64::MAX));
        }
    }
    let (mut start, end) = rowkey::range_of(Rollup::Requests.byte());
    for series in 1usize.. {
        let Some(key) = next_key(rollups, width, &start, &end)? else { break };
        let prefix = rollup::prefix_of(&key);
        if let Some(newest) = rowkey::time_of(&key) {
            note(&key, oldest_window(rollups, width, prefix, newest)?);
        }
        start = [prefix, &BEHIND_SERIES].concat();
        if series.is_multiple_of(SERIES_AT_ONCE) {
            tokio::task::yield_now().await;
        }
    }
    Ok(found)
}

fn name_of(key: &[u8]) -> Option<Name> {
    let (_, decoded) = rollup::decode(key)?;
    match &decoded.parts[..] {
        [Some(service), Some(version), ..] if service != OTHER => Some((service.clone(), version.clone())),
        _ => None,
    }
}

/// The first key at or behind a place.
fn next_key(rollups: &Rollups, width: Width, start: &[u8], end: &[u8]) -> Result<Option<Vec<u8>>, ServingError> {
    let mut found = None;
    rollups.serving.scan_each(Family::of_width(width), start, Some(end), &mut |key, _| {
        found = Some(key.to_vec());
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// The start of a series' oldest window. Keys are ordered by time, newest first: steps back double as long as they find
/// something, then they halve.
fn oldest_window(rollups: &Rollups, width: Width, prefix: &[u8], newest: i64) -> Result<i64, ServingError> {
    let end = [prefix, &BEHIND_SERIES].concat();
    let (mut oldest, mut step, mut is_growing) = (newest, width.micros(), true);
    while step >= width.micros() {
        let older = rollup::with_time(prefix, oldest.saturating_sub(step));
        match next_key(rollups, width, &older, &end)?.as_deref().and_then(rowkey::time_of) {
            Some(time) => oldest = time,
            None => is_growing = false,
        }
        step = if is_growing { step.saturating_mul(2) } else { step / 2 };
    }
    Ok(oldest)
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;
    use sawlog_seams::Position;
    use sawlog_seams::serving::{MemoryServing, Mutation, ServingStore};

    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const MINUTE: i64 = 60_000_000;

    /// A store with a cell for each service, version, route and start of a window.
    fn stored(width: Width, cells: &[(&str, &str, &str, i64)]) -> Rollups {
        let store = MemoryServing::default();
        let cell = |(service, version, route, time): &(&str, &str, &str, i64)| {
            let mut key = Vec::new();
            rowkey::encode(&mut key, Rollup::Requests.byte(), &[Some(service), Some(version), Some(route)], *time);
            Mutation { family: Family::of_width(width), key, value: Some(Vec::new()) }
        };
        store.apply(cells.iter().map(cell).collect(), Position(1)).expect("applied");
        Rollups { hot: Vec::new(), serving: store.snapshot() }
    }

    fn names(times: &[(&str, &str, i64)]) -> BTreeMap<Name, i64> {
        times.iter().map(|(service, version, time)| (((*service).to_owned(), (*version).to_owned()), *time)).collect()
    }

    #[test]
    fn minutes_tell_more_than_hours_where_they_are_kept() {
        let hours = names(&[
            ("a", "1", 0),
            ("a", "2", 10 * HOUR),
            ("a", "3", 20 * HOUR),
            ("b", "1", 10 * HOUR),
            ("b", "2", 10 * HOUR),
        ]);
        let minutes = names(&[
            ("a", "1", 19 * HOUR),
            ("a", "3", 20 * HOUR + 5 * MINUTE),
            ("b", "1", 10 * HOUR + 2 * MINUTE),
            ("b", "2", 10 * HOUR + 4 * MINUTE),
        ]);
        let found = without_beginnings(&hours, &minutes);
        let found: Vec<_> = found.iter().map(|one| (one.service.as_str(), one.version.as_str(), one.time)).collect();
        assert_eq!(found, [("a", "2", 10 * HOUR), ("a", "3", 20 * HOUR + 5 * MINUTE)], "b had both from the beginning");
    }

    proptest! {
        #[test]
        fn the_first_window_is_found_whatever_the_gaps(
            cells in proptest::collection::vec(("[ab]", "[12]", "[xy]", 0i64..3_000), 1..60),
        ) {
            let cells: Vec<(&str, &str, &str, i64)> = cells
                .iter()
                .map(|(service, version, route, hour)| (service.as_str(), version.as_str(), route.as_str(), hour * hour * HOUR))
                .collect();
            let mut expected: BTreeMap<Name, i64> = BTreeMap::new();
            for (service, version, _, time) in &cells {
                let first = expected.entry(((*service).to_owned(), (*version).to_owned())).or_insert(*time);
                *first = (*first).min(*time);
            }
            let found = futures::executor::block_on(first_windows(&stored(Width::Hour, &cells), Width::Hour));
            prop_assert_eq!(found.expect("read"), expected);
        }
    }
}
