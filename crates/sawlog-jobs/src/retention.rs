//! Choosing what is too old to keep.
//!
//! For: plans from amounts by day and two clocks, without touching anything. Not for: deleting ([`crate::Jobs`]).
//! Invariants: what is kept today is never deleted because one clock jumped; a plan never covers more than a share of
//! what there is unless a person says so.

use std::collections::BTreeMap;

use sawlog_seams::serving::Family;

const DAY_MICROS: i64 = 86_400_000_000;

/// How long things are kept. Zero days keep for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionOptions {
    /// Days by table.
    pub tables: Vec<(&'static str, u32)>,
    /// Days of raw records in the lake, by receive date.
    pub lake_days: u32,
    /// Days by family of cells.
    pub cells: Vec<(Family, u32)>,
    /// Largest share of a table that one run may delete, percent.
    pub delete_percent_max: u32,
}

impl Default for RetentionOptions {
    fn default() -> Self {
        Self { tables: Vec::new(), lake_days: 0, cells: Vec::new(), delete_percent_max: 50 }
    }
}

/// How a run treats what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionMode {
    /// Deletes, unless it is too much at once.
    Careful,
    /// Says what it would delete.
    DryRun,
    /// Deletes however much it is.
    Force,
}

/// What became of one table (or the lake, or the rollups).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetentionOutcome {
    /// Nothing is old enough.
    Nothing,
    /// It would have been deleted.
    Planned,
    /// It is deleted.
    Deleted,
    /// It is too much for one run; nothing is deleted.
    Refused,
    /// Deleting failed; what was not deleted is tried again.
    Failed(String),
}

/// What a run found and did in one table (or the lake, or the rollups).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionReport {
    /// Table, `lake` or a family of rollups.
    pub subject: &'static str,
    /// Days to keep.
    pub days: u32,
    /// First day that is kept, days since the epoch.
    pub first_kept_day: i32,
    /// Amount that is too old.
    pub old: Amount,
    /// Amount there was before.
    pub total: Amount,
    /// Days that the wall clock alone calls too old: the newest data says otherwise.
    pub disputed_days: usize,
    /// What became of it.
    pub outcome: RetentionOutcome,
}

/// An amount of data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Files, objects or cells.
    pub items: u64,
    /// Rows in them, where that is known.
    pub rows: u64,
    /// Bytes, where that is known.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, other: Self) {
        self.items += other.items;
        self.rows += other.rows;
        self.bytes += other.bytes;
    }

    /// What shares are measured by: rows if known, else items.
    const fn weight(self) -> u64 {
        if self.rows > 0 { self.rows } else { self.items }
    }
}

/// What there is of a subject by day, days since the epoch.
pub(crate) type AmountByDay = BTreeMap<i32, Amount>;

/// Plans one subject from its amounts by day: what is of a day before [`RetentionReport::first_kept_day`] goes.
pub(crate) fn plan(
    subject: &'static str,
    days: u32,
    percent_max: u32,
    now: i64,
    amounts: &AmountByDay,
) -> RetentionReport {
    let today = i32::try_from(now.div_euclid(DAY_MICROS)).unwrap_or(i32::MAX);
    let newest = amounts.keys().next_back().copied().unwrap_or(today);
    let keep = i32::try_from(days).unwrap_or(i32::MAX);
    let first_kept = |clock: i32| clock.saturating_sub(keep);
    // Both must say it: a wall clock that jumped ahead is held back by the data, data from the future by the clock.
    let first_kept_day = first_kept(today.min(newest));
    let by_wall = first_kept(today);
    let (mut old, mut total) = (Amount::default(), Amount::default());
    for (&day, &amount) in amounts {
        total.add(amount);
        if day < first_kept_day {
            old.add(amount);
        }
    }
    let is_too_much =
        u128::from(old.weight()) * 100 > u128::from(total.weight()) * u128::from(percent_max) && percent_max < 100;
    let outcome = match (old.items == 0, is_too_much) {
        (true, _) => RetentionOutcome::Nothing,
        (false, true) => RetentionOutcome::Refused,
        (false, false) => RetentionOutcome::Planned,
    };
    let disputed_days = amounts.keys().filter(|day| (first_kept_day..by_wall).contains(day)).count();
    RetentionReport { subject, days, first_kept_day, old, total, disputed_days, outcome }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plans files of ten rows, one for each day; returns the days to delete and the outcome.
    fn check(keep: u32, today: i32, days: &[i32], percent_max: u32) -> (Vec<i32>, RetentionOutcome, usize) {
        let amount = Amount { items: 1, rows: 10, bytes: 100 };
        let mut amounts = AmountByDay::new();
        days.iter().for_each(|day| amounts.entry(*day).or_default().add(amount));
        let report = plan("logs", keep, percent_max, i64::from(today) * DAY_MICROS + 5, &amounts);
        let gone: Vec<i32> = days.iter().copied().filter(|day| *day < report.first_kept_day).collect();
        assert_eq!(report.old.items as usize, gone.len());
        assert_eq!(report.total.items as usize, days.len());
        (gone, report.outcome, report.disputed_days)
    }

    #[test]
    fn whole_days_before_the_kept_ones_go() {
        use RetentionOutcome::{Nothing, Planned};
        assert_eq!(check(3, 10, &[5, 6, 7, 8, 9, 10], 50), (vec![5, 6], Planned, 0));
        assert_eq!(check(10, 10, &[5, 6, 7, 8, 9, 10], 50), (vec![], Nothing, 0));
        assert_eq!(check(1, 10, &[8, 9, 10, 11], 50), (vec![8], Planned, 0));
        assert_eq!(check(3, 10, &[], 50), (vec![], Nothing, 0));
    }

    #[test]
    fn a_wall_clock_that_jumped_ahead_deletes_nothing() {
        assert_eq!(check(3, 10_000, &[7, 8, 9, 10], 50), (vec![], RetentionOutcome::Nothing, 4));
    }

    #[test]
    fn data_from_the_future_deletes_nothing() {
        assert_eq!(check(3, 10, &[8, 9, 10, 10_000], 50), (vec![], RetentionOutcome::Nothing, 0));
    }

    #[test]
    fn a_wall_clock_that_fell_back_deletes_nothing() {
        assert_eq!(check(3, -5_000, &[8, 9, 10], 50), (vec![], RetentionOutcome::Nothing, 0));
    }

    #[test]
    fn both_clocks_wrong_at_once_is_stopped_by_the_share() {
        assert_eq!(check(3, 10_000, &[7, 8, 9, 10, 10_000], 50).1, RetentionOutcome::Refused);
        assert_eq!(check(3, 10_000, &[7, 8, 9, 10, 10_000], 100).1, RetentionOutcome::Planned);
    }

    #[test]
    fn the_share_counts_rows_and_exactly_the_limit_is_allowed() {
        assert_eq!(check(1, 10, &[1, 2, 9, 10], 50).1, RetentionOutcome::Planned);
        assert_eq!(check(1, 10, &[1, 2, 3, 9, 10], 50).1, RetentionOutcome::Refused);
        let small = Amount { items: 9, rows: 9, bytes: 0 };
        let large = Amount { items: 1, rows: 1_000, bytes: 0 };
        let amounts = AmountByDay::from([(1, small), (10, large)]);
        assert_eq!(plan("logs", 1, 50, 10 * DAY_MICROS, &amounts).outcome, RetentionOutcome::Planned);
    }

    #[test]
    fn a_day_off_by_one_would_show() {
        // Kept: today and `days` whole days before it.
        assert_eq!(check(1, 10, &[8, 9, 10], 100).0, [8]);
        assert_eq!(check(0x7fff_ffff, 10, &[8, 9, 10], 100).0, Vec::<i32>::new());
    }
}
