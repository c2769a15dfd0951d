//! Sums of numbers that do not depend on the order of adding.
//!
//! For: metric values, whose sums must be the same in every runtime and for every shuffle of the input. Floating-point
//! addition is not associative; this adds integers of 2⁻⁶⁴. Not for: products or averages of averages.
//! Rules: NaN and infinities are not added (their callers count them); a value beyond ±2⁶² counts as ±2⁶², and a sum ends at
//! the ends of its range.

use crate::varint;

/// Largest absolute value that is added as it is.
const VALUE_MAX: f64 = (1u64 << 62) as f64;
const FRACTION_BITS: i32 = 64;

/// A sum, exact to 2⁻⁶⁴ for each value added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedSum(i128);

impl FixedSum {
    /// Adds a value. Returns whether it was finite, that is, whether it was added.
    pub fn add(&mut self, value: f64) -> bool {
        if !value.is_finite() {
            return false;
        }
        // A product with a power of two is exact; the conversion drops what is below 2⁻⁶⁴.
        let scaled = value.clamp(-VALUE_MAX, VALUE_MAX) * 2f64.powi(FRACTION_BITS);
        self.0 = self.0.saturating_add(scaled as i128);
        true
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }

    /// The sum as the nearest floating-point number.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0 as f64 * 2f64.powi(-FRACTION_BITS)
    }

    /// Appends the sum's bytes: high half as a signed varint, low half little endian.
    pub fn write_to(self, out: &mut Vec<u8>) {
        varint::write_signed(out, (self.0 >> 64) as i64);
        out.extend_from_slice(&(self.0 as u64).to_le_bytes());
    }

    /// Reads a sum from the front and moves past it.
    pub fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        let high = varint::read_signed(bytes)?;
        let (low, rest) = bytes.split_first_chunk::<8>()?;
        *bytes = rest;
        Some(Self((i128::from(high) << 64) | i128::from(u64::from_le_bytes(*low))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum_of(values: &[f64]) -> FixedSum {
        let mut sum = FixedSum::default();
        values.iter().for_each(|value| {
            sum.add(*value);
        });
        sum
    }

    #[test]
    fn what_floating_point_loses_is_kept() {
        assert_eq!(sum_of(&[1e18, 0.25, -1e18]).value(), 0.25);
        assert_eq!(sum_of(&[0.1; 10]).value(), 1.0);
    }

    #[test]
    fn values_that_no_sum_can_hold_are_refused_or_end_at_the_bound() {
        let mut sum = FixedSum::default();
        assert!(!sum.add(f64::NAN) && !sum.add(f64::INFINITY) && !sum.add(f64::NEG_INFINITY));
        assert_eq!(sum, FixedSum::default());
        assert!(sum.add(1e300) && sum.add(1e300) && sum.add(1e300));
        assert!(sum.value() > 9e18 && sum.value().is_finite());
    }

    proptest! {
        #[test]
        fn any_order_gives_the_same_sum(values in proptest::collection::vec(-1e12f64..1e12, 0..200), turn in 0usize..200) {
            let mut turned = values.clone();
            turned.rotate_left(turn.min(values.len()));
            let (first, second) = turned.split_at(values.len() / 2);
            let mut merged = sum_of(second);
            merged.merge(sum_of(first));
            prop_assert_eq!(merged, sum_of(&values));
        }

        #[test]
        fn bytes_are_read_back(values in proptest::collection::vec(any::<f64>(), 0..20)) {
            let sum = sum_of(&values);
            let mut bytes = Vec::new();
            sum.write_to(&mut bytes);
            prop_assert_eq!(FixedSum::read_from(&mut bytes.as_slice()), Some(sum));
        }
    }
}
