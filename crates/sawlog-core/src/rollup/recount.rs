//! Counting stored rows again, to correct what the stream counted.
//!
//! For: batch jobs over whole hours of event time, in the binary, in Beam and in Spark alike: the rows, late ones
//! included, are counted by [`Deltas::add`](crate::rollup::Deltas::add) under [`AsStored`], and [`reconcile`] gives the
//! pane that corrects a stored one. Doing so twice changes nothing. Not for: reading rows or writing panes, windows that
//! the stream may still change, and windows of which rows were deleted: all three are the caller's to see to.

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64;

use crate::rollup::admission::Admit;
use crate::rollup::{Cell, PaneCell, PaneTiming, Rollup, Width};
use crate::schema::Table;

/// A pane that takes the place of a stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Length of the window.
    pub width: Width,
    /// Row key of the cell: series and window start.
    pub key: Vec<u8>,
    /// What the window holds by a recount.
    pub pane: PaneCell,
}

/// The pane that corrects a stored one, where it holds something else than the rows say: the next one, late. `None`
/// where both agree.
///
/// Counts, sums, extremes and sets of users must be equal, for they are exact. Of latencies and distributions only the
/// number of values counts, since their buckets follow a logarithm, which not every machine rounds alike. Lists of most
/// frequent values agree when the same events can have made both. A window that the stream never had has its first pane.
/// The Apdex counts alone are no difference: they follow a setting, not the rows.
#[must_use]
pub fn reconcile(stored: Option<&PaneCell>, recounted: &Cell) -> Option<PaneCell> {
    let index = match stored {
        Some(pane) if agrees(&pane.cell, recounted) => return None,
        Some(pane) => pane.index.saturating_add(1),
        None => 0,
    };
    Some(PaneCell { index, timing: PaneTiming::Late, cell: recounted.clone() })
}

fn agrees(stored: &Cell, recounted: &Cell) -> bool {
    match (stored, recounted) {
        (Cell::Requests(a), Cell::Requests(b)) => {
            let exact = |cell: &crate::rollup::Requests| {
                let sums = [cell.count, cell.error_count, cell.warning_count, cell.request_count, cell.bytes];
                (sums, cell.latency.count())
            };
            exact(a) == exact(b)
        }
        (Cell::Metric(a), Cell::Metric(b)) => {
            // Of two states of a histogram at one time and count either may have been kept.
            let exact = |cell: &crate::rollup::Metric| {
                let states = cell.cumulative.as_ref().map(|both| [&both.0, &both.1].map(|one| (one.time, one.count)));
                let counts = [cell.count, cell.not_finite_count, cell.observation_count, cell.distribution.count()];
                (counts, cell.sum, [cell.min, cell.max], [cell.first, cell.last], states)
            };
            exact(a) == exact(b)
        }
        (Cell::Activity(a), Cell::Activity(b)) => a == b,
        (Cell::Users(a), Cell::Users(b)) => a == b,
        (Cell::Top(a), Cell::Top(b)) => a.agrees(b),
        _ => false,
    }
}

impl Cell {
    /// Events in it; `None` of rollups that do not count them (users, most frequent values).
    #[must_use]
    pub fn event_count(&self) -> Option<u64> {
        match self {
            Self::Requests(cell) => Some(cell.count),
            Self::Metric(cell) => Some(cell.count),
            Self::Activity(cell) => Some(cell.count),
            Self::Users(_) | Self::Top(_) => None,
        }
    }
}

impl Rollup {
    /// Tables whose rows it counts.
    #[must_use]
    pub const fn sources(self) -> &'static [Table] {
        match self {
            Self::Requests => &[Table::Logs],
            Self::Metrics => &[Table::Metrics],
            Self::Activity => &[Table::Activity],
            Self::Users | Self::Top => &[Table::Logs, Table::Activity],
        }
    }
}

/// Which windows the stream has counted, as a recount asks.
pub trait StoredWindows {
    /// Whether the finest window that is kept and holds an event has a stored cell of a series (a key without time).
    fn has(&mut self, rollup: Rollup, series: &[u8], event_time: i64) -> bool;
    /// Whether that window has a stored cell of [`OTHER`](crate::rollup::OTHER).
    fn has_other(&mut self, rollup: Rollup, event_time: i64) -> bool;
}

/// Admission of a recount: no event changes between its own key and [`OTHER`](crate::rollup::OTHER) without need.
///
/// An event counts under its own key where its window has a stored cell of that key. Where it has none, the event counts
/// under [`OTHER`](crate::rollup::OTHER) if the window has a stored cell of that: the stream gave the key no place then.
/// Else it counts under its own key, up to the limit of keys in the stretch. The order of the rows does not matter below
/// that limit. Only a key that got its place in the middle of a window is counted under it as a whole.
#[derive(Debug)]
pub struct AsStored<W> {
    windows: W,
    /// Hashes of keys that are counted on their own where nothing else is stored, by rollup.
    known: [HashSet<u64>; Rollup::ALL.len()],
}

impl<W: StoredWindows> AsStored<W> {
    /// For one stretch of windows.
    pub fn new(windows: W) -> Self {
        Self { windows, known: Default::default() }
    }

    /// The stored windows that were asked.
    pub fn into_windows(self) -> W {
        self.windows
    }
}

impl<W: StoredWindows> Admit for AsStored<W> {
    fn admits(&mut self, rollup: Rollup, key: &[u8], event_time: i64, _receive_time: i64, limit: usize) -> bool {
        if self.windows.has_other(rollup, event_time) {
            return self.windows.has(rollup, key, event_time);
        }
        let known = &mut self.known[rollup as usize];
        let hash = xxh3_64(key);
        if known.contains(&hash) || known.len() < limit && known.insert(hash) {
            return true;
        }
        self.windows.has(rollup, key, event_time)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow_array::{RecordBatch, UInt32Array};
    use arrow_select::take::take_record_batch;
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{AgeLimits, Format, RawBatch};
    use crate::rollup::{Admission, Deltas, OTHER, RollupOptions, decode, with_time};
    use crate::rules::Rules;
    use crate::transform::transform;
    use crate::window::floor;

    const NOW: i64 = 1_795_489_200;

    /// What a serving store holds.
    #[derive(Clone, Default)]
    struct Store(HashMap<(Width, Vec<u8>), PaneCell>);

    impl Store {
        fn start(&self, time: i64) -> i64 {
            floor(time, Width::TenSeconds.micros())
        }

        /// The stream's panes of what came in time.
        fn add(&mut self, deltas: &Deltas) {
            for width in Width::ALL {
                for (series, start, cell) in deltas.cells(width) {
                    let pane = self.0.entry((width, with_time(series, start)));
                    pane.and_modify(|pane| {
                        pane.index += 1;
                        pane.cell.merge(&cell);
                    })
                    .or_insert(PaneCell { index: 0, timing: PaneTiming::OnTime, cell });
                }
            }
        }

        fn recount(&mut self, batches: &[(Table, RecordBatch)], options: &RollupOptions) -> Vec<Correction> {
            let mut admission = AsStored::new(self.clone());
            let mut deltas = Deltas::default();
            batches.iter().for_each(|(table, rows)| deltas.add(*table, rows, 0, options, &mut admission));
            let mut corrections = Vec::new();
            for width in Width::ALL {
                for (series, start, cell) in deltas.cells(width) {
                    let key = with_time(series, start);
                    if let Some(pane) = reconcile(self.0.get(&(width, key.clone())), &cell) {
                        corrections.push(Correction { width, key, pane });
                    }
                }
            }
            for Correction { width, key, pane } in &corrections {
                self.0.insert((*width, key.clone()), pane.clone());
            }
            corrections
        }
    }

    impl StoredWindows for Store {
        fn has(&mut self, _rollup: Rollup, series: &[u8], event_time: i64) -> bool {
            self.0.contains_key(&(Width::TenSeconds, with_time(series, self.start(event_time))))
        }

        fn has_other(&mut self, rollup: Rollup, event_time: i64) -> bool {
            let start = self.start(event_time);
            self.0.keys().any(|(width, key)| {
                *width == Width::TenSeconds
                    && decode(key).is_some_and(|(found, key)| {
                        found == rollup && key.time == start && key.parts[0].as_deref() == Some(OTHER)
                    })
            })
        }
    }

    /// Logs, metrics and activity events: seconds back, service, number.
    fn event() -> impl Strategy<Value = (i64, u8, u16)> {
        (0i64..4_000, 0u8..4, 0u16..900)
    }

    fn rows_of(events: &[(i64, u8, u16)]) -> Vec<(Table, RecordBatch)> {
        let line = |&(back, service, number): &(i64, u8, u16)| {
            let time = NOW - back;
            let level = if number % 3 == 0 { "error" } else { "info" };
            let user = number % 40;
            match number % 4 {
                0 => format!("{{\"ts\":{time},\"metric\":\"cpu\",\"value\":{number}.25,\"host\":\"h{service}\"}}\n"),
                1 => {
                    format!("{{\"ts\":{time},\"event\":\"buy\",\"user_id\":\"u{user}\",\"country\":\"c{service}\"}}\n")
                }
                _ => format!(
                    "{{\"ts\":{time},\"service\":\"s{service}\",\"level\":\"{level}\",\"path\":\"/p/x{number}y\",\
                     \"duration_ms\":{number},\"bytes\":{number},\"user_id\":\"u{user}\",\"message\":\"no {number}\"}}\n"
                ),
            }
        };
        let body: String = events.iter().map(line).collect();
        let batch = RawBatch {
            batch_id: "b",
            source: "test",
            file: None,
            format: Format::Json,
            is_declared: true,
            receive_time: NOW * 1_000_000,
            age: AgeLimits::any_past(),
            body: body.as_bytes(),
        };
        let rows = transform(&batch, &Rules::none()).expect("a batch");
        let rolled = [Table::Logs, Table::Metrics, Table::Activity];
        rolled.into_iter().map(|table| (table, rows.tables[table as usize].clone())).collect()
    }

    /// The same rows backwards, as files of two partitions have them.
    fn shuffled(batches: &[(Table, RecordBatch)]) -> Vec<(Table, RecordBatch)> {
        let backwards = |(table, rows): &(Table, RecordBatch)| {
            let order: UInt32Array = (0..rows.num_rows() as u32).rev().collect::<Vec<_>>().into();
            (*table, take_record_batch(rows, &order).expect("rows"))
        };
        batches.iter().rev().map(backwards).collect()
    }

    fn streamed(batches: &[(Table, RecordBatch)], options: &RollupOptions, admission: &mut Admission) -> Store {
        let mut store = Store::default();
        for (table, rows) in batches {
            let mut deltas = Deltas::default();
            deltas.add(*table, rows, NOW, options, admission);
            store.add(&deltas);
        }
        store
    }

    fn events_of(store: &Store, width: Width) -> u64 {
        let of_width = store.0.iter().filter(|((found, _), _)| *found == width);
        of_width.filter_map(|(_, pane)| pane.cell.event_count()).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_came_in_time_is_right_already(events in proptest::collection::vec(event(), 1..150)) {
            let options = RollupOptions { series_max: 1_000, ..RollupOptions::default() };
            let (front, back) = events.split_at(events.len() / 2);
            let batches = [rows_of(front), rows_of(back)].concat();
            let mut store = streamed(&batches, &options, &mut Admission::default());
            prop_assert_eq!(store.recount(&shuffled(&batches), &options), []);
        }

        #[test]
        fn what_came_too_late_is_added_once(events in proptest::collection::vec(event(), 1..100), late in proptest::collection::vec(event(), 1..60)) {
            let options = RollupOptions { series_max: 1_000, ..RollupOptions::default() };
            let in_time = rows_of(&events);
            let all = [in_time.clone(), rows_of(&late)].concat();
            let expected = streamed(&all, &options, &mut Admission::default());
            let mut store = streamed(&in_time, &options, &mut Admission::default());
            let before = store.clone();
            let corrections = store.recount(&shuffled(&all), &options);
            for width in Width::ALL {
                prop_assert_eq!(events_of(&store, width), (events.len() + late.len()) as u64);
            }
            prop_assert_eq!(store.0.len(), expected.0.len());
            for (place, pane) in &store.0 {
                prop_assert!(agrees(&pane.cell, &expected.0[place].cell), "{:?}", place);
            }
            for correction in &corrections {
                let older = before.0.get(&(correction.width, correction.key.clone()));
                let index = older.map_or(0, |pane| pane.index + 1);
                prop_assert_eq!((correction.pane.index, correction.pane.timing), (index, PaneTiming::Late));
            }
            prop_assert_eq!(store.recount(&all, &options), []);
        }

        #[test]
        fn keys_without_a_place_stay_with_the_others(events in proptest::collection::vec(event(), 1..120), late in proptest::collection::vec(event(), 0..40)) {
            let options = RollupOptions { series_max: 2, ..RollupOptions::default() };
            let in_time = rows_of(&events);
            let mut store = streamed(&in_time, &options, &mut Admission::default());
            let before = store.clone();
            store.recount(&shuffled(&in_time), &options);
            for ((width, key), pane) in &before.0 {
                // Users and lists can only gain what a key that got its place within the window left behind.
                if let Some(count) = pane.cell.event_count() {
                    let (rollup, parts) = decode(key).map(|(rollup, key)| (rollup, key.parts)).expect("a key");
                    let now = store.0[&(*width, key.clone())].cell.event_count();
                    prop_assert_eq!(now, Some(count), "{:?} {:?}", rollup, parts);
                }
            }
            let all = [in_time, rows_of(&late)].concat();
            store.recount(&all, &options);
            prop_assert_eq!(events_of(&store, Width::Hour), (events.len() + late.len()) as u64);
            prop_assert_eq!(store.recount(&shuffled(&all), &options), []);
        }
    }

    #[test]
    fn another_apdex_threshold_is_no_difference() {
        let batches = rows_of(&[(10, 1, 302), (11, 1, 602), (12, 1, 99)]);
        let mut store = streamed(&batches, &RollupOptions::default(), &mut Admission::default());
        let strict = RollupOptions { apdex_threshold: 1, ..RollupOptions::default() };
        assert_eq!(store.recount(&batches, &strict), []);
    }

    #[test]
    fn rows_that_are_gone_from_a_table_are_taken_out() {
        let (some, all) = (rows_of(&[(10, 1, 302)]), rows_of(&[(10, 1, 302), (11, 1, 302)]));
        let mut store = streamed(&all, &RollupOptions::default(), &mut Admission::default());
        assert!(!store.recount(&some, &RollupOptions::default()).is_empty());
        assert_eq!(events_of(&store, Width::Hour), 1);
    }
}
