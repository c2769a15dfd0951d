//! Exact shares with random places.
//!
//! For: marking a share of all records so that the count after n records is n × share to within two, while the
//! marked places look random. Not for: what happens to a marked record.
//! Invariant: the k-th mark falls at a random place of the k-th stretch of 1 ÷ share records.

use crate::rng::Rng;

/// One share. Counts in units of 2⁻³², so that no rounding adds up.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    per_record: u64,
    credit: u64,
    next_mark: u64,
    marks: u64,
}

impl Quota {
    pub(crate) fn new(share: f64, rng: &mut Rng) -> Self {
        Self { per_record: (share * (1_u64 << 32) as f64) as u64, credit: 0, next_mark: rng.bits() >> 32, marks: 0 }
    }

    /// Whether the share is nothing.
    pub(crate) const fn is_zero(&self) -> bool {
        self.per_record == 0
    }

    /// Counts one more record; true if a mark is due. It stays due until [`Quota::take`].
    #[inline]
    pub(crate) fn is_due_at_next_record(&mut self) -> bool {
        self.credit = self.credit.wrapping_add(self.per_record);
        self.per_record != 0 && self.credit > self.next_mark
    }

    /// Uses up the mark that is due.
    pub(crate) fn take(&mut self, rng: &mut Rng) {
        self.marks += 1;
        self.next_mark = (self.marks << 32) | (rng.bits() >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(share: f64) {
        let mut rng = Rng::new(9);
        let mut quota = Quota::new(share, &mut rng);
        let mut marks = 0_u32;
        for record in 1..=100_000_u32 {
            if quota.is_due_at_next_record() {
                quota.take(&mut rng);
                marks += 1;
            }
            let wanted = f64::from(record) * share;
            assert!((f64::from(marks) - wanted).abs() <= 2.0, "{marks} marks after {record} records");
        }
    }

    #[test]
    fn the_count_never_strays_from_the_share() {
        for share in [0.0, 0.000_1, 0.01, 0.3, 0.5, 0.99, 1.0] {
            check(share);
        }
    }
}
