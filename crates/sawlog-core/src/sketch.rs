//! A mergeable histogram of positive values with bounded relative error.
//!
//! For: latencies, kept as counts in logarithmic buckets. Source: Masson, Rim, Lee, 'DDSketch: a fast and
//! fully-mergeable quantile sketch with relative-error guarantees' (VLDB 2019), with γ = 1.02, hence quantiles within
//! 1 %. Not for: values that may be negative; those count as zero. Merging is exact: counts are integers.

use crate::varint;

/// Ratio of a bucket's upper to its lower bound.
pub const GAMMA: f64 = 1.02;

const VERSION: u8 = 1;

/// Counts of values by logarithmic bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    /// Values of zero or less.
    zeros: u64,
    /// Bucket index and count, by index. Bucket `i` holds values in (γ^(i−1), γ^i].
    buckets: Vec<(i32, u64)>,
}

/// Bytes that are no sketch.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no latency sketch of version {VERSION}")]
pub struct SketchError;

impl Sketch {
    /// Counts one value.
    pub fn add(&mut self, value: f64) {
        self.add_times(value, 1);
    }

    /// Counts a value so many times.
    pub fn add_times(&mut self, value: f64, times: u64) {
        if times == 0 {
            return;
        }
        if value <= 0.0 || value.is_nan() {
            self.zeros = self.zeros.saturating_add(times);
            return;
        }
        let index = (value.min(f64::MAX).ln() / GAMMA.ln()).ceil() as i32;
        match self.buckets.binary_search_by_key(&index, |bucket| bucket.0) {
            Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(times),
            Err(at) => self.buckets.insert(at, (index, times)),
        }
    }

    /// What is left when the counts of an earlier state of the same sketch are taken away.
    #[must_use]
    pub fn without(&self, earlier: &Self) -> Self {
        let before = |index: i32| {
            let at = earlier.buckets.binary_search_by_key(&index, |bucket| bucket.0);
            at.map_or(0, |at| earlier.buckets[at].1)
        };
        let left = self.buckets.iter().map(|&(index, count)| (index, count.saturating_sub(before(index))));
        Self {
            zeros: self.zeros.saturating_sub(earlier.zeros),
            buckets: left.filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// Adds the counts of another sketch. Counts end at their maximum: cells come from storage and may hold anything.
    pub fn merge(&mut self, other: &Self) {
        self.zeros = self.zeros.saturating_add(other.zeros);
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
            return;
        }
        for &(index, count) in &other.buckets {
            match self.buckets.binary_search_by_key(&index, |bucket| bucket.0) {
                Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(count),
                Err(at) => self.buckets.insert(at, (index, count)),
            }
        }
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(self.zeros, |sum, bucket| sum.saturating_add(bucket.1))
    }

    /// Sum of the values, within 1 %.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.buckets.iter().map(|&(index, count)| Self::middle(index) * count as f64).sum()
    }

    /// The value that stands for a bucket: off by the same share at both of its bounds.
    fn middle(index: i32) -> f64 {
        2.0 * GAMMA.powi(index) / (GAMMA + 1.0)
    }

    /// Memory of the buckets, bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<(i32, u64)>()
    }

    /// The value at a quantile in 0..=1, within 1 %; `None` without values.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 || !(0.0..=1.0).contains(&quantile) {
            return None;
        }
        let rank = (quantile * (count - 1) as f64).round() as u64;
        let mut seen = self.zeros;
        if rank < seen {
            return Some(0.0);
        }
        for &(index, bucket_count) in &self.buckets {
            seen = seen.saturating_add(bucket_count);
            if rank < seen {
                return Some(Self::middle(index));
            }
        }
        None
    }

    /// Appends the sketch's bytes: version, zeros, number of buckets, then index steps and counts as varints.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        varint::write(out, self.zeros);
        varint::write(out, self.buckets.len() as u64);
        let mut previous = 0;
        for &(index, count) in &self.buckets {
            varint::write_signed(out, i64::from(index) - previous);
            varint::write(out, count);
            previous = i64::from(index);
        }
    }

    /// The sketch's bytes alone.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.buckets.len() * 3);
        self.write_to(&mut out);
        out
    }

    /// Reads a sketch from the front of `bytes` and moves past it.
    ///
    /// # Errors
    /// When the bytes are no sketch, whose buckets come in order.
    pub fn read_from(bytes: &mut &[u8]) -> Result<Self, SketchError> {
        let (&version, rest) = bytes.split_first().ok_or(SketchError)?;
        if version != VERSION {
            return Err(SketchError);
        }
        *bytes = rest;
        let zeros = varint::read(bytes).ok_or(SketchError)?;
        let bucket_count = varint::read(bytes).ok_or(SketchError)?;
        if bucket_count > bytes.len() as u64 {
            return Err(SketchError);
        }
        let mut buckets: Vec<(i32, u64)> = Vec::with_capacity(bucket_count as usize);
        let mut previous = 0i64;
        for _ in 0..bucket_count {
            let step = varint::read_signed(bytes).ok_or(SketchError)?;
            let index = previous.checked_add(step).and_then(|index| i32::try_from(index).ok()).ok_or(SketchError)?;
            if buckets.last().is_some_and(|last| last.0 >= index) {
                return Err(SketchError);
            }
            buckets.push((index, varint::read(bytes).ok_or(SketchError)?));
            previous = i64::from(index);
        }
        Ok(Self { zeros, buckets })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch_of(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value));
        sketch
    }

    proptest! {
        #[test]
        fn quantiles_are_within_one_percent(mut values in proptest::collection::vec(0.001f64..1e9, 1..300), quantile in 0.0f64..=1.0) {
            let sketch = sketch_of(&values);
            values.sort_by(f64::total_cmp);
            let exact = values[(quantile * (values.len() - 1) as f64).round() as usize];
            let found = sketch.quantile(quantile).expect("there are values");
            prop_assert!((found - exact).abs() <= exact * 0.0101, "{found} for {exact}");
        }

        #[test]
        fn sums_are_within_one_percent(values in proptest::collection::vec(0.001f64..1e9, 0..300)) {
            let exact: f64 = values.iter().sum();
            let found = sketch_of(&values).sum();
            prop_assert!((found - exact).abs() <= exact * 0.0101, "{found} for {exact}");
        }

        #[test]
        fn merging_equals_counting_together(a in proptest::collection::vec(-1.0f64..1e6, 0..100), b in proptest::collection::vec(0.0f64..1e6, 0..100)) {
            let mut merged = sketch_of(&a);
            merged.merge(&sketch_of(&b));
            prop_assert_eq!(merged, sketch_of(&[a, b].concat()));
        }

        #[test]
        fn bytes_are_read_back(values in proptest::collection::vec(-1.0f64..1e9, 0..100)) {
            let sketch = sketch_of(&values);
            prop_assert_eq!(Sketch::read_from(&mut sketch.to_bytes().as_slice()), Ok(sketch));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Sketch::read_from(&mut bytes.as_slice());
        }
    }
}
