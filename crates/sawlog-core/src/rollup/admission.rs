//! Bounds on how many series a rollup has.
//!
//! For: keys that may be counted on their own; what comes beyond the limit is counted under [`OTHER`], so that sums stay
//! whole and memory stays bounded. Not for: choosing the most frequent keys: first come, first counted, until a key has
//! not come for a day. Deterministic: the same events in the same order admit the same keys.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::rollup::Rollup;
use crate::varint;
use crate::window::floor;

/// What stands in a key in place of values beyond the limit.
pub const OTHER: &str = "__other__";

const VERSION: u8 = 1;
const HOUR: i64 = 3_600_000_000;
/// A key that has not come for so many hours of receive time gives its place to others.
const HOURS_KEPT: i64 = 24;

/// The admitted keys of all rollups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Hash of the key and the hour in which it last came, by rollup.
    known: [HashMap<u64, i64>; Rollup::ALL.len()],
    /// Latest hour seen.
    hour: i64,
    /// Hour in which keys were last given up, by rollup: they are looked through once an hour at most.
    swept: [i64; Rollup::ALL.len()],
    /// Events counted under [`OTHER`], by rollup.
    other_counts: [u64; Rollup::ALL.len()],
}

/// Bytes that are no admitted keys.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no admitted keys of version {VERSION}")]
pub struct AdmissionError;

/// Decides which keys are counted on their own.
pub trait Admit {
    /// Whether the key of an event is counted on its own. `receive_time` is that of its batch: event times may lie far
    /// ahead or behind. `limit` is the most keys of the rollup.
    fn admits(&mut self, rollup: Rollup, key: &[u8], event_time: i64, receive_time: i64, limit: usize) -> bool;
}

impl Admit for Admission {
    fn admits(&mut self, rollup: Rollup, key: &[u8], _event_time: i64, receive_time: i64, limit: usize) -> bool {
        let hour = floor(receive_time, HOUR) / HOUR;
        self.hour = self.hour.max(hour);
        let at = rollup as usize;
        let hash = xxh3_64(key);
        if let Some(last) = self.known[at].get_mut(&hash) {
            *last = (*last).max(hour);
            return true;
        }
        if self.known[at].len() >= limit && self.swept[at] < self.hour {
            self.swept[at] = self.hour;
            let oldest = self.hour - HOURS_KEPT;
            self.known[at].retain(|_, last| *last > oldest);
        }
        if self.known[at].len() >= limit {
            self.other_counts[at] += 1;
            return false;
        }
        self.known[at].insert(hash, hour);
        true
    }
}

impl Admission {
    /// Number of admitted keys and of events beyond them.
    #[must_use]
    pub fn counts(&self, rollup: Rollup) -> (usize, u64) {
        (self.known[rollup as usize].len(), self.other_counts[rollup as usize])
    }

    /// Memory of the keys, bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.known.iter().map(|known| known.capacity() * (size_of::<(u64, i64)>() + 1)).sum()
    }

    /// The keys as bytes: version, hour, then for each rollup its sweep, its count of others, and its keys by hash.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint::write_signed(&mut out, self.hour);
        for (known, (swept, others)) in self.known.iter().zip(self.swept.iter().zip(&self.other_counts)) {
            varint::write_signed(&mut out, *swept);
            varint::write(&mut out, *others);
            varint::write(&mut out, known.len() as u64);
            let mut sorted: Vec<_> = known.iter().collect();
            sorted.sort_unstable();
            for (hash, hour) in sorted {
                out.extend_from_slice(&hash.to_le_bytes());
                varint::write_signed(&mut out, self.hour.saturating_sub(*hour));
            }
        }
        out
    }

    /// Reads admitted keys.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AdmissionError> {
        Self::read(bytes).ok_or(AdmissionError)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[VERSION])?;
        let mut found = Self { hour: varint::read_signed(&mut rest)?, ..Self::default() };
        for at in 0..Rollup::ALL.len() {
            found.swept[at] = varint::read_signed(&mut rest)?;
            found.other_counts[at] = varint::read(&mut rest)?;
            for _ in 0..varint::read(&mut rest)? {
                let (hash, tail) = rest.split_first_chunk::<8>()?;
                rest = tail;
                let hour = found.hour.saturating_sub(varint::read_signed(&mut rest)?);
                found.known[at].insert(u64::from_le_bytes(*hash), hour);
            }
        }
        rest.is_empty().then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(admission: &mut Admission, key: &str, hour: i64) -> bool {
        admission.admits(Rollup::Requests, key.as_bytes(), 0, hour * HOUR, 2)
    }

    #[test]
    fn keys_beyond_the_limit_are_counted_together_until_an_old_one_gives_up_its_place() {
        let mut admission = Admission::default();
        assert!(admits(&mut admission, "a", 1) && admits(&mut admission, "b", 1));
        assert!(!admits(&mut admission, "c", 1) && admits(&mut admission, "a", 20));
        assert_eq!(admission.counts(Rollup::Requests), (2, 1));
        assert!(admits(&mut admission, "c", 26), "b has not come for a day");
        assert!(!admits(&mut admission, "b", 26) && admits(&mut admission, "a", 26));
        assert!(admission.admits(Rollup::Users, b"b", 0, 26 * HOUR, 2), "each rollup has its own places");
        assert_eq!(Admission::from_bytes(&admission.to_bytes()), Ok(admission));
    }

    #[test]
    fn ten_million_keys_take_no_more_memory_than_the_limit() {
        let mut admission = Admission::default();
        let admitted = (0u64..10_000_000)
            .filter(|key| admission.admits(Rollup::Metrics, &key.to_le_bytes(), 0, 0, 10_000))
            .count();
        assert_eq!((admitted, admission.counts(Rollup::Metrics)), (10_000, (10_000, 9_990_000)));
        assert!(admission.memory_bytes() < 1 << 20);
    }
}
