//! The ledger: what became of every record.
//!
//! For: counts that close, `received = stored + duplicate + filtered + dead_lettered + rejected + in_flight`. Not for:
//! keeping them ([`sawlog-stream`]) or showing them. The unit is one decoded input record; `late` marks a part of
//! `stored` and is no term of its own.

use std::ops::AddAssign;

/// What became of one record; the terms are those of [`Counts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the terms are explained at `Counts`")]
pub enum Outcome {
    Stored,
    Duplicate,
    Filtered,
    DeadLettered,
    Rejected,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 5] = [Self::Stored, Self::Duplicate, Self::Filtered, Self::DeadLettered, Self::Rejected];

    /// The outcome in answers and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Filtered => "filtered",
            Self::DeadLettered => "dead_lettered",
            Self::Rejected => "rejected",
        }
    }
}

/// Counts of records by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that arrived.
    pub received: u64,
    /// Rows in `logs`, `metrics` or `activity`.
    pub stored: u64,
    /// Records that were there already.
    pub duplicate: u64,
    /// Records that a rule asked to drop.
    pub filtered: u64,
    /// Records kept in `dead_letters` with a reason.
    pub dead_lettered: u64,
    /// Records refused before anything was kept; the client was told.
    pub rejected: u64,
    /// Records that are on their way.
    pub in_flight: u64,
    /// Stored rows that came after their window closed.
    pub late: u64,
}

impl Counts {
    /// Records that were refused.
    #[must_use]
    pub fn rejected(records: u64) -> Self {
        Self { received: records, rejected: records, ..Self::default() }
    }

    /// Records with that outcome.
    #[must_use]
    pub const fn of(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Stored => self.stored,
            Outcome::Duplicate => self.duplicate,
            Outcome::Filtered => self.filtered,
            Outcome::DeadLettered => self.dead_lettered,
            Outcome::Rejected => self.rejected,
        }
    }

    /// Counts one more record with that outcome.
    pub const fn note(&mut self, outcome: Outcome) {
        self.received += 1;
        match outcome {
            Outcome::Stored => self.stored += 1,
            Outcome::Duplicate => self.duplicate += 1,
            Outcome::Filtered => self.filtered += 1,
            Outcome::DeadLettered => self.dead_lettered += 1,
            Outcome::Rejected => self.rejected += 1,
        }
    }

    /// Column names, in the order of [`Counts::values`].
    pub const NAMES: [&'static str; 8] =
        ["received", "stored", "duplicate", "filtered", "dead_lettered", "rejected", "in_flight", "late"];

    /// The counts in column order.
    #[must_use]
    pub const fn values(&self) -> [u64; 8] {
        [
            self.received,
            self.stored,
            self.duplicate,
            self.filtered,
            self.dead_lettered,
            self.rejected,
            self.in_flight,
            self.late,
        ]
    }

    /// The counts from column order.
    #[must_use]
    pub const fn from_values(values: [u64; 8]) -> Self {
        let [received, stored, duplicate, filtered, dead_lettered, rejected, in_flight, late] = values;
        Self { received, stored, duplicate, filtered, dead_lettered, rejected, in_flight, late }
    }

    /// Whether every received record is accounted for exactly once.
    #[must_use]
    pub const fn closes(&self) -> bool {
        self.received
            == self.stored + self.duplicate + self.filtered + self.dead_lettered + self.rejected + self.in_flight
            && self.late <= self.stored
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let (mine, theirs) = (self.values(), other.values());
        *self = Self::from_values(std::array::from_fn(|index| mine[index] + theirs[index]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_lacks_a_record_does_not_close() {
        let mut counts = Counts { received: 3, stored: 2, ..Counts::default() };
        assert!(!counts.closes());
        counts += Counts { dead_lettered: 1, ..Counts::default() };
        assert!(counts.closes());
    }

    #[test]
    fn counts_survive_the_way_through_columns() {
        let counts = Counts::from_values([8, 1, 2, 3, 1, 1, 0, 1]);
        assert_eq!(counts.values(), [8, 1, 2, 3, 1, 1, 0, 1]);
        assert!(counts.closes());
    }
}
