//! Rhythm of the day and the week.
//!
//! For: how much busier than on average a moment is. Not for: unplanned changes ([`crate::incident`]).
//! Invariant: the mean of the factor over each whole week is 1, so the mean rate of a scenario holds.

/// Microseconds of a second, an hour and a day.
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Load at each full hour UTC of a shop with most customers in Europe; between them it changes linearly.
const BY_HOUR: [f64; 24] = normalized([
    0.50, 0.40, 0.35, 0.32, 0.35, 0.45, 0.65, 0.85, 1.00, 1.10, 1.15, 1.20, 1.25, 1.20, 1.15, 1.15, 1.20, 1.35, 1.55,
    1.75, 1.80, 1.60, 1.20, 0.80,
]);

/// Load from Monday to Sunday.
const BY_DAY: [f64; 7] = normalized([1.05, 1.00, 0.98, 0.98, 0.92, 0.95, 1.12]);

const fn normalized<const N: usize>(mut factors: [f64; N]) -> [f64; N] {
    let mut sum = 0.0;
    let mut i = 0;
    while i < N {
        sum += factors[i];
        i += 1;
    }
    i = 0;
    while i < N {
        factors[i] = factors[i] * N as f64 / sum;
        i += 1;
    }
    factors
}

/// Load at a moment, 1 on average.
pub(crate) fn factor(micros: i64) -> f64 {
    let weekday = (micros.div_euclid(DAY) + 3).rem_euclid(7) as usize; // day 0 of the epoch was a Thursday
    let in_day = micros.rem_euclid(DAY);
    let hour = (in_day / HOUR) as usize;
    let part = (in_day % HOUR) as f64 / HOUR as f64;
    let (from, to) = (BY_HOUR[hour], BY_HOUR[(hour + 1) % 24]);
    BY_DAY[weekday] * (from + (to - from) * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_over_a_week_is_one() {
        let minutes = 7 * 24 * 60;
        let sum: f64 = (0..minutes).map(|minute| factor(1_767_571_200 * SECOND + minute * MINUTE)).sum();
        assert!((sum / minutes as f64 - 1.0).abs() < 0.001);
    }

    #[test]
    fn sunday_evening_is_busier_than_friday_night() {
        let monday = 1_767_571_200 * SECOND;
        assert!(factor(monday + 6 * DAY + 20 * HOUR) > 4.0 * factor(monday + 4 * DAY + 3 * HOUR));
    }
}
