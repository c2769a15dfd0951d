//! Scales and ranks of residuals, which forget.
//!
//! For: how large a residual is beside those before it, whatever its unit and distribution. Not for: what the residuals
//! are of ([`super::detector`]).

use super::bytes::{self, Floats};

/// Rate of a mean that forgets, and that is the plain mean at first: `rate` is that of its half-life.
pub(super) fn rate_at(rate: f64, count: f64) -> f64 {
    rate.max(1.0 / count)
}

/// Rate at which a mean with a half-life takes on a value.
pub(super) fn rate_of(half_life: f64) -> f64 {
    1.0 - 0.5f64.powf(1.0 / half_life)
}

/// Mean size of residuals; a single one counts at most six times the mean.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scale {
    pub(super) mean: f64,
    count: u32,
}

impl Scale {
    pub(super) fn relative(&self, residual: f64, resolution: f64) -> f64 {
        // While nothing is known the scale is zero: sizes end where the ranks do, whatever the unit.
        if residual == 0.0 { 0.0 } else { (residual.abs() / (self.mean + resolution)).min(RELATIVE_MAX) }
    }

    pub(super) fn add(&mut self, residual: f64, rate: f64) {
        const KNOWN: u32 = 20;
        const LARGEST: f64 = 6.0;
        let size = residual.abs();
        let size = if self.count > KNOWN && self.mean > 0.0 { size.min(LARGEST * self.mean) } else { size };
        self.count = self.count.saturating_add(1);
        self.mean += rate_at(rate, f64::from(self.count)) * (size - self.mean);
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        bytes::write_float(out, self.mean);
        crate::varint::write(out, u64::from(self.count));
    }

    pub(super) fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        let mean = bytes::read_float(bytes).filter(|mean| *mean >= 0.0)?;
        Some(Self { mean, count: u32::try_from(crate::varint::read(bytes)?).ok()? })
    }
}

const BINS: usize = 96;
const BINS_PER_OCTAVE: f64 = 4.0;
/// The first bin begins at 2⁻¹².
const OCTAVES_BELOW_ONE: f64 = 12.0;

/// Below a sixteenth of the usual size one bin serves an octave: almost all sizes are larger, and bytes are saved.
const FINE_BIN_MIN: usize = 32;

/// A size that is none.
const NOTHING: f64 = 1e-6;
/// Largest size that is told apart: where the last bin begins.
const RELATIVE_MAX: f64 = 4_096.0;
/// Weight from which all counts are scaled down, and the count that is none then.
const WEIGHT_MAX: f64 = 1e9;
const COUNT_MIN: f32 = 1e-4;

/// How often sizes came, in bins of a quarter octave, forgetting.
#[derive(Clone, Debug)]
pub(super) struct Ranks {
    /// Counts with 16 bits of precision, which are three bytes when stored.
    bins: [f32; BINS],
    total: f64,
    largest: f64,
    /// What a new entry counts: it grows instead of all others shrinking.
    weight: f64,
}

/// How ranks forget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fading {
    half_life: f64,
    growth: f64,
}

impl Fading {
    pub(super) fn new(half_life: f64) -> Self {
        Self { half_life, growth: 2f64.powf(1.0 / half_life) }
    }
}

impl Default for Ranks {
    fn default() -> Self {
        Self { bins: [0.0; BINS], total: 0.0, largest: 0.0, weight: 1.0 }
    }
}

impl Ranks {
    fn bin(size: f64) -> usize {
        if size <= NOTHING {
            return 0;
        }
        let bin = (((size.log2() + OCTAVES_BELOW_ONE) * BINS_PER_OCTAVE).max(0.0) as usize).min(BINS - 1);
        if bin < FINE_BIN_MIN { bin - bin % BINS_PER_OCTAVE as usize } else { bin }
    }

    /// −log₁₀ of the share of sizes that were at least this one; more by `beyond` for each doubling of the largest.
    pub(super) fn surprise(&self, size: f64, beyond: f64) -> f64 {
        if size <= NOTHING {
            return 0.0;
        }
        let bin = Self::bin(size);
        let above: f64 = self.bins[bin + 1..].iter().map(|count| f64::from(*count)).sum();
        let share = ((above + f64::from(self.bins[bin]) * 0.5) / self.weight + 0.5) / (self.total / self.weight + 1.0);
        let is_record = size > self.largest && self.largest > 0.0;
        -share.log10() + if is_record { beyond * (size / self.largest).log2().min(6.0) } else { 0.0 }
    }

    pub(super) fn add(&mut self, size: f64, fading: &Fading) {
        self.weight *= fading.growth;
        let bin = &mut self.bins[Self::bin(size)];
        *bin = bytes::to_24_bits(*bin + self.weight as f32);
        self.total += self.weight;
        self.largest = (self.largest * (1.0 - 0.1 / fading.half_life)).max(size);
        if self.weight > WEIGHT_MAX {
            let weight = self.weight;
            for count in &mut self.bins {
                let scaled = bytes::to_24_bits(*count / weight as f32);
                *count = if scaled < COUNT_MIN { 0.0 } else { scaled };
            }
            (self.total, self.weight) = (self.total / weight, 1.0);
        }
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        Floats(&[self.total, self.largest, self.weight]).write_to(out);
        let used = self.bins.iter().enumerate().fold(
            0u128,
            |used, (bin, count)| {
                if *count > 0.0 { used | (1 << bin) } else { used }
            },
        );
        out.extend_from_slice(&used.to_le_bytes()[..BINS / 8]);
        for count in self.bins.iter().filter(|count| **count > 0.0) {
            out.extend_from_slice(&count.to_bits().to_le_bytes()[1..]);
        }
    }

    pub(super) fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        let [total, largest, weight] = Floats::read_from(bytes)?;
        let is_sound = total >= 0.0 && largest >= 0.0 && (1.0..=WEIGHT_MAX).contains(&weight);
        let (used, rest) = bytes.split_first_chunk::<{ BINS / 8 }>().filter(|_| is_sound)?;
        *bytes = rest;
        let mut bins = [0.0; BINS];
        for (bin, count) in bins.iter_mut().enumerate() {
            if used[bin / 8] >> (bin % 8) & 1 == 1 {
                let (found, rest) = bytes.split_first_chunk::<3>()?;
                *bytes = rest;
                *count = f32::from_bits(u32::from_le_bytes([0, found[0], found[1], found[2]]));
                if !(*count > 0.0 && count.is_finite()) {
                    return None;
                }
            }
        }
        Some(Self { bins, total, largest, weight })
    }
}
