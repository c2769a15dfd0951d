//! How fast an error budget is spent, window after window.
//!
//! For: sums over the last so many windows, of which each window enters and leaves once, however far it is looked back.
//! The sums are of 128 bits, so that what leaves takes away exactly what it brought. Not for: what rate is too fast
//! ([`super::verdict`]).

use super::input::{Input, Inputs};
use super::rule::Share;
use crate::rollup::Width;

/// How many times faster than allowed the budget is spent.
pub(super) struct BurnRate<'a> {
    inputs: &'a Inputs,
    budget: f64,
    count_min: f64,
    /// From the start of the first window that is looked at to that of the last, microseconds.
    reach: i64,
    /// Starts of the first and the last window in the sums; `None` before the first look.
    summed: Option<(i64, i64)>,
    bad: u128,
    all: u128,
}

impl<'a> BurnRate<'a> {
    /// Over so many windows.
    pub(super) fn new(inputs: &'a Inputs, share: &Share, budget: f64, width: Width, windows: i64) -> Self {
        let reach = (windows - 1).saturating_mul(width.micros());
        Self { inputs, budget, count_min: share.count_min, reach, summed: None, bad: 0, all: 0 }
    }

    /// The rate over the windows up to the one that starts then, which is later than at the call before; `None` with too
    /// little in them.
    pub(super) fn at(&mut self, start: i64) -> Option<f64> {
        let from = start.saturating_sub(self.reach);
        let (left_from, entered_from) =
            self.summed.map_or((from, from), |(first, last)| (first, last.saturating_add(1)));
        // Over windows that are passed over a window may enter and leave at once.
        for (bad, all) in counts(self.inputs, entered_from, start.saturating_add(1)) {
            self.bad += bad;
            self.all += all;
        }
        for (bad, all) in counts(self.inputs, left_from, from) {
            self.bad -= bad;
            self.all -= all;
        }
        self.summed = Some((from, start));
        let (bad, all) = (self.bad as f64, self.all as f64);
        (all >= self.count_min).then(|| bad / all / self.budget)
    }
}

/// Counts of the windows that start in a range, the end not included.
fn counts(inputs: &Inputs, from: i64, until: i64) -> impl Iterator<Item = (u128, u128)> {
    inputs.range(from..until.max(from)).filter_map(|(_, input)| match input {
        Input::Counts(bad, all) => Some((u128::from(*bad), u128::from(*all))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::alert::column::Column;
    use crate::rollup::Rollup;

    const BUDGET: f64 = 0.001;

    fn share(count_min: f64) -> Share {
        let column = |name| Column::of(Rollup::Requests, name).expect("a column");
        Share { numerator: column("error_count"), denominator: column("count"), count_min }
    }

    /// The definition: everything in the last windows, added up anew.
    fn naive(inputs: &Inputs, start: i64, windows: i64, count_min: f64) -> Option<f64> {
        let from = start - (windows - 1) * Width::Minute.micros();
        let (mut bad, mut all) = (0u128, 0u128);
        for (_, input) in inputs.range(from..=start) {
            let Input::Counts(more_bad, more) = input else { continue };
            bad += u128::from(*more_bad);
            all += u128::from(*more);
        }
        (all as f64 >= count_min).then(|| bad as f64 / all as f64 / BUDGET)
    }

    /// Counts small and so large that sums of 64 bits would saturate.
    fn count() -> impl Strategy<Value = u64> {
        prop_oneof![4 => 0u64..1_000, 1 => u64::MAX - 5..=u64::MAX]
    }

    proptest! {
        #[test]
        fn what_slides_is_what_is_added_up_anew(
            counts in proptest::collection::btree_map(0i64..60, (count(), count()), 0..40),
            looks in proptest::collection::btree_set(0i64..90, 1..60),
            windows in 1i64..30,
            count_min in 1u64..2_000,
        ) {
            let minutes = |index: i64| index * Width::Minute.micros();
            let inputs: Inputs =
                counts.into_iter().map(|(index, (bad, all))| (minutes(index), Input::Counts(bad, all))).collect();
            let count_min = count_min as f64;
            let mut burn = BurnRate::new(&inputs, &share(count_min), BUDGET, Width::Minute, windows);
            // Also over windows that nobody looks at.
            for start in looks.into_iter().map(minutes) {
                prop_assert_eq!(burn.at(start), naive(&inputs, start, windows, count_min));
            }
        }
    }
}
