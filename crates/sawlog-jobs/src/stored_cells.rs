//! Which cells the serving store holds of a stretch of windows.
//!
//! For: looking cells up by window without reading the others of their series. Not for: what is in memory.

use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use sawlog_core::rollup::{self, OTHER, Rollup, StoredWindows, Width};
use sawlog_core::rowkey;
use sawlog_core::window::floor;
use sawlog_seams::serving::{Family, ServingError, ServingSnapshot};
use xxhash_rust::xxh3::xxh3_64;

/// Longer than any time at the end of a key: behind all windows of a series.
const BEHIND_SERIES: [u8; 9] = [0xff; 9];
/// Answers that are remembered; with more, all are forgotten.
const ANSWERS_MAX: usize = 1 << 20;

/// Whether the store holds a cell of a rollup in windows that start within `starts`. Looks at two cells of each series at most.
///
/// # Errors
/// When the store fails.
pub(crate) fn has_any(
    snapshot: &dyn ServingSnapshot,
    rollup: Rollup,
    width: Width,
    starts: &Range<i64>,
) -> Result<bool, ServingError> {
    let (mut from, end) = rowkey::range_of(rollup.byte());
    loop {
        let (mut found, mut next) = (false, None);
        snapshot.scan_each(Family::of_width(width), &from, Some(&end), &mut |key, _| {
            let time = rowkey::time_of(key).unwrap_or(i64::MIN);
            found = starts.contains(&time);
            // Newest first: what is too new is followed by the range, what is too old by another series.
            let series = rollup::prefix_of(key);
            next = Some(match time >= starts.end {
                true => rollup::with_time(series, starts.end - 1),
                false => [series, &BEHIND_SERIES].concat(),
            });
            ControlFlow::Break(())
        })?;
        match next {
            Some(next) if !found => from = next,
            _ => return Ok(found),
        }
    }
}

/// The stored windows of one stretch, as a recount asks for them.
pub(crate) struct Stretch {
    snapshot: Arc<dyn ServingSnapshot>,
    /// The finest width that is compared, by rollup.
    widths: [Option<Width>; Rollup::ALL.len()],
    /// Windows with a cell of [`OTHER`].
    others: HashSet<(Rollup, i64)>,
    answers: HashMap<(u64, i64), bool>,
    failure: Option<ServingError>,
}

impl Stretch {
    pub(crate) fn new(
        snapshot: Arc<dyn ServingSnapshot>,
        widths: [Option<Width>; Rollup::ALL.len()],
        starts: &Range<i64>,
    ) -> Result<Self, ServingError> {
        let mut others = HashSet::new();
        for rollup in Rollup::ALL {
            let Some(width) = widths[rollup as usize] else { continue };
            let mut first = Vec::new();
            rowkey::encode(&mut first, rollup.byte(), &vec![Some(OTHER); rollup.parts().len()], starts.end - 1);
            let end = rollup::with_time(rollup::prefix_of(&first), starts.start.saturating_sub(1));
            snapshot.scan_each(Family::of_width(width), &first, Some(&end), &mut |key, _| {
                others.extend(rowkey::time_of(key).map(|start| (rollup, start)));
                ControlFlow::Continue(())
            })?;
        }
        Ok(Self { snapshot, widths, others, answers: HashMap::new(), failure: None })
    }

    /// Why an answer could not be given, if one could not.
    pub(crate) fn into_failure(self) -> Option<ServingError> {
        self.failure
    }

    fn window(&self, rollup: Rollup, event_time: i64) -> Option<(Width, i64)> {
        self.widths[rollup as usize].map(|width| (width, floor(event_time, width.micros())))
    }
}

impl StoredWindows for Stretch {
    fn has(&mut self, rollup: Rollup, series: &[u8], event_time: i64) -> bool {
        let Some((width, start)) = self.window(rollup, event_time) else { return false };
        let question = (xxh3_64(series), start);
        if let Some(answer) = self.answers.get(&question) {
            return *answer;
        }
        let found = self.snapshot.get(Family::of_width(width), &rollup::with_time(series, start));
        let answer = match found {
            Ok(found) => found.is_some(),
            Err(error) => {
                self.failure = Some(error);
                false
            }
        };
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.clear();
        }
        self.answers.insert(question, answer);
        answer
    }

    fn has_other(&mut self, rollup: Rollup, event_time: i64) -> bool {
        self.window(rollup, event_time).is_some_and(|(_, start)| self.others.contains(&(rollup, start)))
    }
}

#[cfg(test)]
mod tests {
    use sawlog_seams::Position;
    use sawlog_seams::serving::{MemoryServing, Mutation, ServingStore};

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn key(parts: &[Option<&str>; 3], time: i64) -> Vec<u8> {
        let mut key = Vec::new();
        rowkey::encode(&mut key, Rollup::Requests.byte(), parts, time);
        key
    }

    #[test]
    fn cells_are_found_by_window_and_series() {
        let (a, other) = ([Some("a"), None, None], [Some(OTHER); 3]);
        let serving = MemoryServing::default();
        let cells = [key(&a, HOUR), key(&a, 9 * HOUR), key(&other, 5 * HOUR), key(&[Some("z"), None, None], 20 * HOUR)];
        let put = |key| Mutation { family: Family::Rollup1h, key, value: Some(vec![1]) };
        serving.apply(cells.map(put).to_vec(), Position(1)).expect("applied");
        let snapshot = serving.snapshot();
        let any = |width, starts: Range<i64>| {
            has_any(snapshot.as_ref(), Rollup::Requests, width, &starts).expect("looked up")
        };
        assert!(any(Width::Hour, HOUR..2 * HOUR) && any(Width::Hour, 9 * HOUR..10 * HOUR));
        assert!(any(Width::Hour, 20 * HOUR..21 * HOUR) && any(Width::Hour, 0..30 * HOUR));
        assert!(!any(Width::Hour, 2 * HOUR..5 * HOUR) && !any(Width::Hour, 10 * HOUR..20 * HOUR));
        assert!(!any(Width::Minute, 0..30 * HOUR) && !any(Width::Hour, 21 * HOUR..30 * HOUR));
        let mut widths = [None; Rollup::ALL.len()];
        widths[Rollup::Requests as usize] = Some(Width::Hour);
        let mut stretch = Stretch::new(Arc::clone(&snapshot), widths, &(0..6 * HOUR)).expect("looked up");
        assert!(stretch.has_other(Rollup::Requests, 5 * HOUR + 7) && !stretch.has_other(Rollup::Requests, 6 * HOUR));
        assert!(!stretch.has_other(Rollup::Users, 5 * HOUR));
        let series = rollup::prefix_of(&key(&a, 0)).to_vec();
        for _ in 0..2 {
            assert!(stretch.has(Rollup::Requests, &series, HOUR + 5) && !stretch.has(Rollup::Requests, &series, 0));
        }
        assert!(stretch.into_failure().is_none());
    }
}
