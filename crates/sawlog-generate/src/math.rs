//! Powers and logarithms that give the same bits on every machine.
//!
//! For: distributions (log-normal, exponential, Zipf) of a stream whose bytes must not depend on the platform's
//! libm. Not for: precision beyond nine digits. Only `+ − × ÷` and `floor` are used, which IEEE 754 defines exactly.

const LN_2: f64 = std::f64::consts::LN_2;

/// 2ˣ for |x| ≤ 1000; larger exponents count as 1000.
#[inline]
pub(crate) fn exp2(x: f64) -> f64 {
    let x = x.clamp(-1000.0, 1000.0);
    let whole = (x + 0.5).floor();
    let r = (x - whole) * LN_2; // |r| ≤ 0.35, so the ninth term of the series is below 1e-10
    let series = 1.0
        + r * (1.0
            + r / 2.0
                * (1.0
                    + r / 3.0
                        * (1.0
                            + r * 0.25
                                * (1.0
                                    + r * 0.2
                                        * (1.0 + r * (1.0 / 6.0) * (1.0 + r * (1.0 / 7.0) * (1.0 + r * 0.125)))))));
    series * f64::from_bits(((whole as i64 + 1023) as u64) << 52)
}

/// log₂ x for normal positive x.
#[inline]
pub(crate) fn log2(x: f64) -> f64 {
    ln(x) * (1.0 / LN_2)
}

/// Natural logarithm of a normal positive x.
#[inline]
pub(crate) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7FF) as i64 - 1023;
    let mantissa = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    let s = (mantissa - 1.0) / (mantissa + 1.0); // ln m = 2 artanh s with s ≤ 1/3
    let q = s * s;
    let series = 1.0
        + q * (1.0 / 3.0
            + q * (0.2
                + q * (1.0 / 7.0
                    + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0 + q * (1.0 / 15.0 + q * (1.0 / 17.0))))))));
    2.0 * s * series + exponent as f64 * LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_and_logarithms_agree_with_the_platform() {
        for step in -2000..2000 {
            let x = f64::from(step) * 0.017;
            assert!((exp2(x) / x.exp2() - 1.0).abs() < 1e-9, "exp2({x})");
            let y = x.exp2();
            assert!((log2(y) - x).abs() < 1e-8, "log2({y})");
        }
    }
}
