//! Repeatable random numbers for simulations and tests.
//!
//! For: making a whole run depend on one seed. Not for: secrets or ids, because the sequence can be
//! predicted. Algorithm: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
//! generators", 2014), chosen because it needs no dependency and any seed is a good one.

/// Random numbers that are a function of the seed.
#[derive(Debug, Clone)]
pub struct SeededRng {
    state: u64,
}

impl SeededRng {
    /// A generator whose whole sequence depends on `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or zero if `bound` is zero. The bias of the remainder is below 2⁻³²
    /// for the small bounds of simulations.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// [`SeededRng::below`] for sizes in memory.
    pub fn below_usize(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(self.below(bound)).expect("a number below a usize fits into a usize")
    }

    /// True once in `n` calls on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// `count` random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        assert_eq!(SeededRng::new(7).bytes(33), SeededRng::new(7).bytes(33));
        assert_ne!(SeededRng::new(7).bytes(33), SeededRng::new(8).bytes(33));
    }

    #[test]
    fn below_stays_below_its_bound() {
        let mut rng = SeededRng::new(1);
        assert!((0..1000).all(|_| rng.below(3) < 3));
        assert_eq!(rng.below(0), 0);
    }
}
