//! A mergeable count of distinct values in bounded memory.
//!
//! For: distinct users. Source: Flajolet, Fusy, Gandouet, Meunier, 'HyperLogLog: the analysis of a near-optimal
//! cardinality estimation algorithm' (2007), with 2¹² registers and 64-bit hashes (no large-range correction needed), and
//! the estimator of Ertl, 'New cardinality estimation algorithms for HyperLogLog sketches' (2017), which has no bias at
//! any size. Standard error: 1.04 / √4096 = 1.6 %. Not for: listing the values. Merging is exact: the sketch depends on
//! the set of values alone, not on their order or on how often they came.

use xxhash_rust::xxh3::xxh3_64;

use crate::varint;

const VERSION: u8 = 1;
/// Bits of the hash that choose the register.
const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;
/// Largest value of a register: leading zeros of the remaining bits, plus one.
const RANK_MAX: u8 = 64 - PRECISION as u8 + 1;
/// So many registers are kept as a list; beyond, all of them take less memory.
const LIST_MAX: usize = REGISTERS / 8;

const FORM_LIST: u8 = 0;
const FORM_FULL: u8 = 1;

/// A set's size, estimated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HyperLogLog {
    registers: Registers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Registers {
    /// Registers that are not zero, by index.
    List(Vec<(u16, u8)>),
    Full(Box<[u8; REGISTERS]>),
}

/// Bytes that are no such sketch.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no sketch of distinct values of version {VERSION}")]
pub struct HyperLogLogError;

impl Default for HyperLogLog {
    fn default() -> Self {
        Self { registers: Registers::List(Vec::new()) }
    }
}

impl HyperLogLog {
    /// Adds a value.
    pub fn add(&mut self, value: &[u8]) {
        let hash = xxh3_64(value);
        let index = (hash >> (64 - PRECISION)) as u16;
        // The bit that is set below the remaining ones bounds the count of leading zeros.
        let rest = (hash << PRECISION) | (1 << (PRECISION - 1));
        self.raise(index, rest.leading_zeros() as u8 + 1);
    }

    /// Adds all values of another sketch.
    pub fn merge(&mut self, other: &Self) {
        match &other.registers {
            Registers::List(list) => list.iter().for_each(|&(index, rank)| self.raise(index, rank)),
            Registers::Full(full) => {
                let mine = self.fill();
                mine.iter_mut().zip(full.iter()).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
            }
        }
    }

    /// Whether no value was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.registers, Registers::List(list) if list.is_empty())
    }

    /// Estimated number of distinct values.
    #[must_use]
    pub fn count(&self) -> u64 {
        let mut multiplicity = [0u32; RANK_MAX as usize + 1];
        match &self.registers {
            Registers::List(list) => {
                multiplicity[0] = (REGISTERS - list.len()) as u32;
                list.iter().for_each(|&(_, rank)| multiplicity[usize::from(rank)] += 1);
            }
            Registers::Full(full) => full.iter().for_each(|&rank| multiplicity[usize::from(rank)] += 1),
        }
        estimate(&multiplicity).round() as u64
    }

    /// Memory of the registers, bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.registers {
            Registers::List(list) => list.capacity() * size_of::<(u16, u8)>(),
            Registers::Full(_) => REGISTERS,
        }
    }

    fn raise(&mut self, index: u16, rank: u8) {
        match &mut self.registers {
            Registers::List(list) => match list.binary_search_by_key(&index, |entry| entry.0) {
                Ok(at) => list[at].1 = list[at].1.max(rank),
                Err(at) if list.len() < LIST_MAX => list.insert(at, (index, rank)),
                Err(_) => {
                    let register = &mut self.fill()[usize::from(index)];
                    *register = (*register).max(rank);
                }
            },
            Registers::Full(full) => {
                let register = &mut full[usize::from(index)];
                *register = (*register).max(rank);
            }
        }
    }

    fn fill(&mut self) -> &mut [u8; REGISTERS] {
        if let Registers::List(list) = &self.registers {
            let mut full = Box::new([0; REGISTERS]);
            list.iter().for_each(|&(index, rank)| full[usize::from(index)] = rank);
            self.registers = Registers::Full(full);
        }
        match &mut self.registers {
            Registers::Full(full) => full,
            Registers::List(_) => unreachable!("the list was turned into registers above"),
        }
    }

    /// Appends the sketch's bytes: version, form, then the registers that are not zero as pairs of index step and rank,
    /// or all of them.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match &self.registers {
            Registers::List(list) => {
                out.push(FORM_LIST);
                varint::write(out, list.len() as u64);
                let mut previous = 0;
                for &(index, rank) in list {
                    varint::write(out, u64::from(index - previous));
                    out.push(rank);
                    previous = index;
                }
            }
            Registers::Full(full) => {
                out.push(FORM_FULL);
                out.extend_from_slice(full.as_slice());
            }
        }
    }

    /// The sketch's bytes alone.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }

    /// Reads a sketch from the front of `bytes` and moves past it.
    ///
    /// # Errors
    /// When the bytes are no sketch.
    pub fn read_from(bytes: &mut &[u8]) -> Result<Self, HyperLogLogError> {
        let rest = bytes.strip_prefix(&[VERSION]).ok_or(HyperLogLogError)?;
        let (&form, rest) = rest.split_first().ok_or(HyperLogLogError)?;
        *bytes = rest;
        let registers = match form {
            FORM_LIST => Registers::List(read_list(bytes).ok_or(HyperLogLogError)?),
            FORM_FULL => {
                let (full, rest) = bytes.split_first_chunk::<REGISTERS>().ok_or(HyperLogLogError)?;
                *bytes = rest;
                if full.iter().any(|&rank| rank > RANK_MAX) {
                    return Err(HyperLogLogError);
                }
                Registers::Full(Box::new(*full))
            }
            _ => return Err(HyperLogLogError),
        };
        Ok(Self { registers })
    }
}

fn read_list(bytes: &mut &[u8]) -> Option<Vec<(u16, u8)>> {
    let len = varint::read(bytes).filter(|&len| len <= LIST_MAX as u64)?;
    let mut list: Vec<(u16, u8)> = Vec::with_capacity(len as usize);
    for _ in 0..len {
        let step = varint::read(bytes).filter(|&step| step < REGISTERS as u64)? as u16;
        let index = match list.last() {
            Some(_) if step == 0 => return None,
            Some(last) => last.0 + step,
            None => step,
        };
        let (&rank, rest) = bytes.split_first()?;
        *bytes = rest;
        if usize::from(index) >= REGISTERS || !(1..=RANK_MAX).contains(&rank) {
            return None;
        }
        list.push((index, rank));
    }
    Some(list)
}

/// Ertl's improved raw estimator (algorithm 6) over how many registers have each rank.
fn estimate(multiplicity: &[u32; RANK_MAX as usize + 1]) -> f64 {
    let registers = REGISTERS as f64;
    let last = usize::from(RANK_MAX);
    let mut z = registers * tau(1.0 - f64::from(multiplicity[last]) / registers);
    for rank in (1..last).rev() {
        z = 0.5 * (z + f64::from(multiplicity[rank]));
    }
    z += registers * sigma(f64::from(multiplicity[0]) / registers);
    registers * registers / (2.0 * std::f64::consts::LN_2 * z)
}

/// x + Σ x^(2^k) · 2^(k−1); infinite at 1, where no value was added.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// (1 − x − Σ (1 − x^(2^−k))² · 2^−k) / 3.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch_of(values: impl IntoIterator<Item = u64>) -> HyperLogLog {
        let mut sketch = HyperLogLog::default();
        values.into_iter().for_each(|value| sketch.add(&value.to_le_bytes()));
        sketch
    }

    #[test]
    fn counts_are_within_four_standard_errors_from_nothing_to_millions() {
        assert_eq!(HyperLogLog::default().count(), 0);
        for size in [1, 10, 100, 1_000, 5_000, 20_000, 100_000, 3_000_000] {
            let found = sketch_of(0..size).count() as f64;
            let bound = (4.0 * 0.01625 * size as f64).max(0.5);
            assert!((found - size as f64).abs() <= bound, "{found} for {size}");
        }
    }

    proptest! {
        #[test]
        fn order_and_repetition_change_nothing(mut values in proptest::collection::vec(0u64..5_000, 0..2_000)) {
            let first = sketch_of(values.iter().copied());
            values.reverse();
            values.extend_from_within(..values.len() / 2);
            prop_assert_eq!(sketch_of(values), first);
        }

        #[test]
        fn merging_equals_counting_together(a in proptest::collection::vec(any::<u64>(), 0..1_200), b in proptest::collection::vec(any::<u64>(), 0..1_200)) {
            let mut merged = sketch_of(a.iter().copied());
            merged.merge(&sketch_of(b.iter().copied()));
            prop_assert_eq!(merged.count(), sketch_of([a, b].concat()).count());
        }

        #[test]
        fn bytes_are_read_back(values in proptest::collection::vec(any::<u64>(), 0..1_500)) {
            let sketch = sketch_of(values);
            let bytes = sketch.to_bytes();
            let mut rest = bytes.as_slice();
            prop_assert_eq!(HyperLogLog::read_from(&mut rest), Ok(sketch));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = HyperLogLog::read_from(&mut bytes.as_slice());
        }
    }
}
