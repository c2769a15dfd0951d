//! Numbers of detectors as bytes: none that is not finite or too large to reckon with.

use crate::varint;

/// Beyond it nothing is a detector's: values end at 10³⁰, and sums are of some dozens.
const FLOAT_MAX: f64 = 1e60;

/// Rounds to 16 bits of precision: the last byte is zero.
pub(super) fn to_24_bits(value: f32) -> f32 {
    f32::from_bits(value.to_bits().saturating_add(0x80) & !0xff)
}

pub(super) fn write_float(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn read_float(bytes: &mut &[u8]) -> Option<f64> {
    let (found, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(f64::from_le_bytes(*found)).filter(|value| value.abs() <= FLOAT_MAX)
}

/// Several numbers in a row.
pub(super) struct Floats<'a>(pub(super) &'a [f64]);

impl Floats<'_> {
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|value| write_float(out, *value));
    }

    pub(super) fn read_from<const N: usize>(bytes: &mut &[u8]) -> Option<[f64; N]> {
        let mut found = [0.0; N];
        for value in &mut found {
            *value = read_float(bytes)?;
        }
        Some(found)
    }
}

const ALL_ZERO: u8 = 0;
const SINGLE: u8 = 1;
const DOUBLE: u8 = 2;

/// Appends values in the shortest form that holds them all exactly: nothing, four bytes or eight bytes each.
pub(super) fn write_values(out: &mut Vec<u8>, values: impl Iterator<Item = f64> + Clone) {
    // By bits, since −0 is not 0 everywhere.
    if values.clone().all(|value| value.to_bits() == 0) {
        out.push(ALL_ZERO);
    } else if values.clone().all(|value| f64::from(value as f32).to_bits() == value.to_bits()) {
        out.push(SINGLE);
        values.for_each(|value| out.extend_from_slice(&(value as f32).to_le_bytes()));
    } else {
        out.push(DOUBLE);
        values.for_each(|value| write_float(out, value));
    }
}

/// Reads what [`write_values`] wrote.
pub(super) fn read_values(bytes: &mut &[u8], values: &mut [f64]) -> Option<()> {
    let (&form, rest) = bytes.split_first()?;
    *bytes = rest;
    for value in values {
        *value = match form {
            ALL_ZERO => 0.0,
            SINGLE => {
                let (found, rest) = bytes.split_first_chunk::<4>()?;
                *bytes = rest;
                Some(f64::from(f32::from_le_bytes(*found))).filter(|value| value.abs() <= FLOAT_MAX)?
            }
            DOUBLE => read_float(bytes)?,
            _ => return None,
        };
    }
    Some(())
}

/// Appends neighbouring numbers as steps between their bits: those of one size share their front.
pub(super) fn write_steps(out: &mut Vec<u8>, values: &[f32]) {
    let mut previous = 0;
    for value in values {
        let bits = i64::from(value.to_bits());
        varint::write_signed(out, bits - previous);
        previous = bits;
    }
}

/// Reads what [`write_steps`] wrote; NaN, which stands for nothing, is among it.
pub(super) fn read_steps(bytes: &mut &[u8], values: &mut [f32]) -> Option<()> {
    let mut previous = 0i64;
    for value in values {
        previous = previous.checked_add(varint::read_signed(bytes)?)?;
        *value = f32::from_bits(u32::try_from(previous).ok()?);
        if value.is_infinite() {
            return None;
        }
    }
    Some(())
}
