//! The most frequent values of a stream in bounded memory.
//!
//! For: top routes, users and errors. Source: Metwally, Agrawal, El Abbadi, 'Efficient computation of frequent and top-k
//! elements in data streams' (2005), merged as in Agarwal et al., 'Mergeable summaries' (2012). Not for: exact counts of
//! rare values. Guarantee: with a capacity of m counters and n values added, a count is too large by at most its
//! `error` ≤ n / m, never too small, and every value more frequent than n / m is listed.

use std::collections::HashMap;

use crate::varint;

const VERSION: u8 = 1;
/// Longest value that is told apart; longer ones are cut.
pub const VALUE_BYTES_MAX: usize = 256;
/// Most counters that stored bytes may name.
const CAPACITY_MAX: usize = 4096;

/// Counters of the most frequent values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopK {
    capacity: usize,
    counters: HashMap<Box<[u8]>, Counter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counter {
    count: u64,
    /// How much too large the count may be.
    error: u64,
}

/// A frequent value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopValue {
    /// The value.
    pub value: Vec<u8>,
    /// How often it came, or more.
    pub count: u64,
    /// How much too large the count may be.
    pub error: u64,
}

/// Bytes that are no such summary.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no summary of frequent values of version {VERSION}")]
pub struct TopKError;

impl TopK {
    /// A summary with so many counters, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.clamp(1, CAPACITY_MAX), counters: HashMap::new() }
    }

    /// Counts a value so many times.
    pub fn add(&mut self, value: &[u8], times: u64) {
        let value = &value[..value.len().min(VALUE_BYTES_MAX)];
        if let Some(counter) = self.counters.get_mut(value) {
            counter.count = counter.count.saturating_add(times);
            return;
        }
        let mut error = 0;
        if self.counters.len() >= self.capacity
            && let Some(least) = self.least()
        {
            error = self.counters.remove(&least).map_or(0, |counter| counter.count);
        }
        let count = error.saturating_add(times);
        self.counters.insert(value.into(), Counter { count, error });
    }

    /// Adds the counts of another summary.
    pub fn merge(&mut self, other: &Self) {
        // A value that a full summary does not list may have come as often as its least counter says.
        let (mine, theirs) = (self.floor(), other.floor());
        for (value, counter) in &mut self.counters {
            let add = other.counters.get(value).copied().unwrap_or(Counter { count: theirs, error: theirs });
            counter.count = counter.count.saturating_add(add.count);
            counter.error = counter.error.saturating_add(add.error);
        }
        for (value, counter) in &other.counters {
            self.counters.entry(value.clone()).or_insert_with(|| Counter {
                count: counter.count.saturating_add(mine),
                error: counter.error.saturating_add(mine),
            });
        }
        if self.counters.len() > self.capacity {
            let kept = self.top(self.capacity);
            self.counters = kept
                .into_iter()
                .map(|top| (top.value.into_boxed_slice(), Counter { count: top.count, error: top.error }))
                .collect();
        }
    }

    /// Whether one multiset of values can have made both, in whatever order: what each says of a value overlaps.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        let mut values = self.counters.keys().chain(other.counters.keys());
        values.all(|value| {
            let ((low, high), (other_low, other_high)) = (self.bounds(value), other.bounds(value));
            low <= other_high && other_low <= high
        })
    }

    /// Least and most times that a value came.
    fn bounds(&self, value: &[u8]) -> (u64, u64) {
        let counter = self.counters.get(value);
        counter.map_or_else(|| (0, self.floor()), |counter| (counter.count - counter.error, counter.count))
    }

    /// The most frequent values, most frequent first; equal counts in the order of their bytes.
    #[must_use]
    pub fn top(&self, limit: usize) -> Vec<TopValue> {
        let mut all: Vec<TopValue> = self
            .counters
            .iter()
            .map(|(value, counter)| TopValue { value: value.to_vec(), count: counter.count, error: counter.error })
            .collect();
        all.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        all.truncate(limit);
        all
    }

    /// Memory of the counters, bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.counters.keys().map(|value| value.len() + size_of::<(Box<[u8]>, Counter)>()).sum()
    }

    /// Count that an unlisted value may have.
    fn floor(&self) -> u64 {
        let counts = self.counters.values().map(|counter| counter.count);
        if self.counters.len() < self.capacity { 0 } else { counts.min().unwrap_or(0) }
    }

    /// The value to give up: the rarest, the last in byte order among equals, so that runs repeat.
    fn least(&self) -> Option<Box<[u8]>> {
        let least = self.counters.iter().min_by(|a, b| a.1.count.cmp(&b.1.count).then_with(|| b.0.cmp(a.0)));
        least.map(|(value, _)| value.clone())
    }

    /// Appends the summary's bytes: version, capacity, number of counters, then each with length, value, count, error.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        varint::write(out, self.capacity as u64);
        varint::write(out, self.counters.len() as u64);
        for top in self.top(self.counters.len()) {
            varint::write(out, top.value.len() as u64);
            out.extend_from_slice(&top.value);
            varint::write(out, top.count);
            varint::write(out, top.error);
        }
    }

    /// The summary's bytes alone.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }

    /// Reads a summary from the front of `bytes` and moves past it.
    ///
    /// # Errors
    /// When the bytes are no summary.
    pub fn read_from(bytes: &mut &[u8]) -> Result<Self, TopKError> {
        Self::read(bytes).ok_or(TopKError)
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        *bytes = bytes.strip_prefix(&[VERSION])?;
        let capacity = varint::read(bytes).filter(|&capacity| (1..=CAPACITY_MAX as u64).contains(&capacity))?;
        let len = varint::read(bytes).filter(|&len| len <= capacity)?;
        let mut summary = Self::new(capacity as usize);
        for _ in 0..len {
            let value_bytes = varint::read(bytes).filter(|&len| len <= VALUE_BYTES_MAX as u64)?;
            let (value, rest) = bytes.split_at_checked(value_bytes as usize)?;
            *bytes = rest;
            let (count, error) = (varint::read(bytes)?, varint::read(bytes)?);
            if error > count || summary.counters.insert(value.into(), Counter { count, error }).is_some() {
                return None;
            }
        }
        Some(summary)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPACITY: usize = 8;

    fn summary_of(values: &[u8]) -> TopK {
        let mut summary = TopK::new(CAPACITY);
        values.iter().for_each(|value| summary.add(&[*value], 1));
        summary
    }

    /// Every listed count is right within its error, and every frequent value is listed.
    fn check(summary: &TopK, values: &[u8]) {
        let times = |value: u8| values.iter().filter(|other| **other == value).count() as u64;
        let top = summary.top(CAPACITY);
        for found in &top {
            let exact = times(found.value[0]);
            assert!(found.count >= exact && found.count - found.error <= exact, "{found:?}, exactly {exact}");
            assert!(found.error <= (values.len() / CAPACITY) as u64, "{found:?} of {}", values.len());
        }
        for value in 0..=u8::MAX {
            let is_listed = top.iter().any(|found| found.value == [value]);
            assert!(is_listed || times(value) <= (values.len() / CAPACITY) as u64, "{value} is missing");
        }
    }

    fn skewed() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![3 => 0u8..4, 1 => any::<u8>()], 0..400)
    }

    proptest! {
        #[test]
        fn frequent_values_are_listed_and_counts_are_within_their_error(values in skewed()) {
            check(&summary_of(&values), &values);
        }

        #[test]
        fn so_they_are_after_merging(a in skewed(), b in skewed(), c in skewed()) {
            let mut merged = summary_of(&a);
            merged.merge(&summary_of(&b));
            merged.merge(&summary_of(&c));
            check(&merged, &[a, b, c].concat());
        }

        #[test]
        fn summaries_of_the_same_values_agree_in_any_order(mut values in skewed(), cut in 0usize..400) {
            let first = summary_of(&values);
            values.reverse();
            let (a, b) = values.split_at(cut.min(values.len()));
            let mut merged = summary_of(a);
            merged.merge(&summary_of(b));
            prop_assert!(first.agrees(&merged) && merged.agrees(&first));
        }

        #[test]
        fn few_values_agree_only_when_they_are_the_same(values in proptest::collection::vec(0u8..CAPACITY as u8, 0..200), more in 0u8..CAPACITY as u8) {
            let (first, second) = (summary_of(&values), summary_of(&[values.as_slice(), &[more]].concat()));
            prop_assert!(!first.agrees(&second) && !second.agrees(&first));
        }

        #[test]
        fn few_values_are_counted_exactly_in_any_order(mut values in proptest::collection::vec(0u8..CAPACITY as u8, 0..200)) {
            let first = summary_of(&values);
            values.reverse();
            let (a, b) = values.split_at(values.len() / 3);
            let mut merged = summary_of(a);
            merged.merge(&summary_of(b));
            prop_assert_eq!(merged.top(CAPACITY), first.top(CAPACITY));
            prop_assert!(first.top(CAPACITY).iter().all(|top| top.error == 0));
        }

        #[test]
        fn bytes_are_read_back(values in skewed()) {
            let summary = summary_of(&values);
            prop_assert_eq!(TopK::read_from(&mut summary.to_bytes().as_slice()), Ok(summary));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = TopK::read_from(&mut bytes.as_slice());
        }
    }
}
