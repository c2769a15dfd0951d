//! Kinds of errors, and how often each came.
//!
//! For: the most frequent error of a session, the same whatever the order of its events, in bounded memory. Not for: many
//! values ([`crate::top_k`], whose lists depend on the order). Beyond the bound the kinds with the smallest hashes are kept,
//! as in Bar-Yossef et al., 'Counting distinct elements in a data stream' (RANDOM 2002): a kind that is among them in the
//! end has been among them all along. Invariants: each count is exact; adding and merging commute.

use xxhash_rust::xxh3::xxh3_64;

use crate::top_k::{TopK, VALUE_BYTES_MAX};
use crate::varint;

/// Kinds that are counted.
pub(super) const KINDS_MAX: usize = 64;

/// Counts by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorKinds {
    /// In the order of hash and text.
    kinds: Vec<Kind>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    hash: u64,
    text: Box<str>,
    count: u64,
}

impl Kind {
    fn place(&self) -> (u64, &str) {
        (self.hash, &self.text)
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]
}

impl ErrorKinds {
    /// Counts a kind so many times; a text is cut at [`VALUE_BYTES_MAX`].
    pub(super) fn add(&mut self, text: &str, times: u64) {
        let text = cut(text);
        self.add_hashed(xxh3_64(text.as_bytes()), text, times);
    }

    fn add_hashed(&mut self, hash: u64, text: &str, times: u64) {
        match self.kinds.binary_search_by(|kind| kind.place().cmp(&(hash, text))) {
            Ok(at) => self.kinds[at].count = self.kinds[at].count.saturating_add(times),
            Err(at) if at < KINDS_MAX => {
                self.kinds.insert(at, Kind { hash, text: text.into(), count: times });
                self.kinds.truncate(KINDS_MAX);
            }
            Err(_) => {}
        }
    }

    /// Adds the counts of others.
    pub(super) fn merge(&mut self, other: &Self) {
        other.kinds.iter().for_each(|kind| self.add_hashed(kind.hash, &kind.text, kind.count));
    }

    /// The most frequent kind; of equally frequent ones the first in the order of their bytes.
    pub(super) fn top(&self) -> Option<&str> {
        let top = self.kinds.iter().max_by(|a, b| a.count.cmp(&b.count).then_with(|| b.text.cmp(&a.text)));
        top.map(|kind| kind.text.as_ref())
    }

    /// Memory of the counts, bytes, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.kinds.iter().map(Kind::memory_bytes).sum()
    }

    /// Appends the bytes: number of kinds, then each with length, text and count, in the order of their hashes.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        varint::write(out, self.kinds.len() as u64);
        for kind in &self.kinds {
            varint::write(out, kind.text.len() as u64);
            out.extend_from_slice(kind.text.as_bytes());
            varint::write(out, kind.count);
        }
    }

    /// Reads counts from the front of `bytes` and moves past them.
    pub(super) fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        let len = varint::read(bytes).filter(|len| *len <= KINDS_MAX as u64)?;
        let mut kinds: Vec<Kind> = Vec::with_capacity(len as usize);
        for _ in 0..len {
            let text_bytes = varint::read(bytes).filter(|len| *len <= VALUE_BYTES_MAX as u64)?;
            let (text, rest) = bytes.split_at_checked(text_bytes as usize)?;
            *bytes = rest;
            let text = Box::from(std::str::from_utf8(text).ok()?);
            kinds.push(Kind { hash: xxh3_64(str::as_bytes(&text)), text, count: varint::read(bytes)? });
        }
        kinds.is_sorted_by(|one, other| one.place() < other.place()).then_some(Self { kinds })
    }

    /// Reads the counts of chains of version 1, about right where there were more than 16 kinds.
    pub(super) fn read_version_1(bytes: &mut &[u8]) -> Option<Self> {
        let mut kinds = Self::default();
        for top in TopK::read_from(bytes).ok()?.top(KINDS_MAX) {
            kinds.add(&String::from_utf8_lossy(&top.value), top.count);
        }
        Some(kinds)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn kinds_of(errors: &[u16]) -> ErrorKinds {
        let mut kinds = ErrorKinds::default();
        errors.iter().for_each(|error| kinds.add(&format!("error {error}"), 1));
        kinds
    }

    /// Counts all kinds, keeps those with the smallest hashes and gives the most frequent.
    fn naive_top(errors: &[u16]) -> Option<String> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        errors.iter().for_each(|error| *counts.entry(format!("error {error}")).or_default() += 1);
        let mut all: Vec<_> = counts.into_iter().collect();
        all.sort_by_key(|(text, _)| xxh3_64(text.as_bytes()));
        all.truncate(KINDS_MAX);
        all.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        all.into_iter().next().map(|(text, _)| text)
    }

    fn shuffled() -> impl Strategy<Value = (Vec<u16>, Vec<u16>)> {
        let errors = proptest::collection::vec(prop_oneof![1 => 0u16..4, 3 => 0u16..200], 0..400);
        errors.prop_flat_map(|errors| (Just(errors.clone()), Just(errors).prop_shuffle()))
    }

    #[test]
    fn more_kinds_than_the_bound_take_no_more_memory_and_no_text_is_longer_than_its_bound() {
        let mut kinds = ErrorKinds::default();
        for index in 0..10_000 {
            kinds.add(&format!("{index} {}", "ä".repeat(1_000)), 1);
        }
        assert_eq!(kinds.kinds.len(), KINDS_MAX);
        assert!(kinds.memory_bytes() < 20 << 10, "{}", kinds.memory_bytes());
    }

    proptest! {
        #[test]
        fn any_order_and_split_gives_the_same_counts((errors, other) in shuffled(), cut in 0usize..400) {
            let (front, back) = other.split_at(cut.min(other.len()));
            let mut merged = kinds_of(back);
            merged.merge(&kinds_of(front));
            prop_assert_eq!(&merged, &kinds_of(&errors));
            prop_assert_eq!(merged.top().map(str::to_owned), naive_top(&errors));
        }

        #[test]
        fn bytes_are_read_back((errors, _) in shuffled()) {
            let (kinds, mut bytes) = (kinds_of(&errors), Vec::new());
            kinds.write_to(&mut bytes);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(ErrorKinds::read_from(&mut rest), Some(kinds));
            prop_assert!(rest.is_empty());
        }
    }
}
