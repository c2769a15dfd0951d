//! Which series are counted on their own.

use std::collections::BTreeMap;

use sawlog_core::rollup::{OTHER, Rollup};

pub(super) type Parts = Vec<Option<String>>;

const HOUR: i64 = 3_600_000_000;

#[derive(Debug)]
pub(super) struct Series {
    series_max: usize,
    hour: i64,
    known: BTreeMap<Rollup, Places>,
}

#[derive(Debug, Default)]
struct Places {
    /// Hour in which each series last came.
    series: BTreeMap<Parts, i64>,
    swept: i64,
    other_count: u64,
}

impl Series {
    pub(super) fn new(series_max: usize) -> Self {
        Self { series_max, hour: 0, known: BTreeMap::new() }
    }

    /// The series that an event is counted under.
    pub(super) fn place(&mut self, rollup: Rollup, parts: Parts, receive_time: i64) -> Parts {
        let hour = receive_time.div_euclid(HOUR);
        self.hour = self.hour.max(hour);
        let places = self.known.entry(rollup).or_default();
        if let Some(last) = places.series.get_mut(&parts) {
            *last = (*last).max(hour);
            return parts;
        }
        // A series that has not come for a day gives its place up, which is looked at once an hour.
        if places.series.len() >= self.series_max && places.swept < self.hour {
            places.swept = self.hour;
            places.series.retain(|_, last| *last > self.hour - 24);
        }
        if places.series.len() >= self.series_max {
            places.other_count += 1;
            return vec![Some(OTHER.to_owned()); parts.len()];
        }
        places.series.insert(parts.clone(), hour);
        parts
    }

    /// Number of series and of events beyond them.
    pub(super) fn counts(&self, rollup: Rollup) -> (usize, u64) {
        self.known.get(&rollup).map_or((0, 0), |places| (places.series.len(), places.other_count))
    }
}
