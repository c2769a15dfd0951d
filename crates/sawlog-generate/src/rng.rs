//! Random numbers that stay the same for ever.
//!
//! For: making every byte of a stream a function of the seed, on any machine and with any later version of any
//! crate (the reason for not using `rand::StdRng`, whose algorithm may change). Not for: secrets.
//! Algorithms: xoshiro256++ (Blackman, Vigna: "Scrambled linear pseudorandom number generators", 2021) seeded by
//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).

use crate::math;

/// Increment of SplitMix64: 2⁶⁴ divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finaliser: a bijection of 64-bit numbers that looks random.
pub(crate) const fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(GOLDEN);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// [`mix`] of two numbers: what a thing `b` of a stream `a` looks like.
pub(crate) const fn mix2(a: u64, b: u64) -> u64 {
    mix(mix(a) ^ b)
}

/// `bits` brought into 0 ≤ n < `bound` by multiplication; the bias is below 2⁻³² × `bound`.
pub(crate) const fn scale(bits: u64, bound: u32) -> u32 {
    (((bits >> 32) * bound as u64) >> 32) as u32
}

/// Random numbers that are a function of the seed.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: [u64; 4],
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        let state = [1, 2, 3, 4].map(|step: u64| mix(seed.wrapping_add(step.wrapping_mul(GOLDEN))));
        Self { state }
    }

    /// The next 64 random bits.
    #[inline]
    pub(crate) fn bits(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number below `bound`, or zero if `bound` is zero.
    #[inline]
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        scale(self.bits(), bound)
    }

    /// A number in 0 ≤ n < 1.
    #[inline]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// True with the given probability.
    #[inline]
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Exponentially distributed with mean 1: the gap between independent arrivals.
    #[inline]
    pub(crate) fn exponential(&mut self) -> f64 {
        -math::ln(1.0 - self.unit())
    }

    /// Nearly normal with mean 0 and variance 1: the sum of four uniform numbers, which ends at ±3.46 and thereby
    /// bounds latencies.
    #[inline]
    pub(crate) fn normal(&mut self) -> f64 {
        const ROOT_OF_3: f64 = 1.732_050_807_568_877_2;
        let bits = self.bits();
        let quarters = [bits & 0xFFFF, (bits >> 16) & 0xFFFF, (bits >> 32) & 0xFFFF, bits >> 48];
        let sum: u64 = quarters.iter().sum();
        (sum as f64 / 65_535.0 - 2.0) * ROOT_OF_3
    }

    /// Log-normal: `median` × 2^(`sigma` × normal).
    #[inline]
    pub(crate) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * math::exp2(sigma * self.normal())
    }

    /// One of the choices, which must not be empty.
    #[inline]
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        pick(choices, self.bits())
    }
}

/// The choice that `bits` select; `choices` must not be empty.
#[inline]
pub(crate) fn pick<T>(choices: &[T], bits: u64) -> &T {
    &choices[scale(bits, choices.len() as u32) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_a_seed_never_changes() {
        let mut rng = Rng::new(42);
        let first: Vec<u64> = (0..3).map(|_| rng.bits()).collect();
        assert_eq!(first, GOLDEN_OF_42);
    }

    const GOLDEN_OF_42: [u64; 3] = [17_283_472_583_437_600_544, 8_370_042_955_726_067_862, 16_573_922_359_171_953_602];

    #[test]
    fn below_stays_below_its_bound() {
        let mut rng = Rng::new(1);
        assert!((0..10_000).all(|_| rng.below(3) < 3));
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn normal_and_exponential_have_their_moments() {
        let mut rng = Rng::new(1);
        let count = 200_000;
        let normals: Vec<f64> = (0..count).map(|_| rng.normal()).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(count);
        let variance = normals.iter().map(|z| z * z).sum::<f64>() / f64::from(count);
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let mean = (0..count).map(|_| rng.exponential()).sum::<f64>() / f64::from(count);
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }
}
