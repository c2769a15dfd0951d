//! Numbers and times as text, without `format!`.
//!
//! For: the hot path of the writers. Not for: the shape of records ([`crate::write`]).

use crate::rhythm::{DAY, HOUR, MINUTE, SECOND};

/// The two digits of each number below 100.
const PAIRS: [[u8; 2]; 100] = pairs();
const HEX: &[u8; 16] = b"0123456789abcdef";
pub(crate) const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const fn pairs() -> [[u8; 2]; 100] {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
}

const fn pair(n: i64) -> [u8; 2] {
    PAIRS[(n as u64 % 100) as usize]
}

/// Appends a number.
#[inline]
pub(crate) fn push_number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut front = digits.len();
    while n >= 100 {
        front -= 2;
        digits[front..front + 2].copy_from_slice(&PAIRS[(n % 100) as usize]);
        n /= 100;
    }
    if n >= 10 {
        front -= 2;
        digits[front..front + 2].copy_from_slice(&PAIRS[n as usize]);
    } else {
        front -= 1;
        digits[front] = b'0' + n as u8;
    }
    out.extend_from_slice(&digits[front..]);
}

/// Appends thousandths as a decimal number, e.g. 43217 as `43.217`.
#[inline]
pub(crate) fn push_thousandths(out: &mut Vec<u8>, n: u64) {
    push_number(out, n / 1000);
    let rest = n % 1000;
    let [tens, ones] = PAIRS[(rest % 100) as usize];
    out.extend_from_slice(&[b'.', b'0' + (rest / 100) as u8, tens, ones]);
}

/// Appends ten-thousandths as a decimal number, e.g. 4217 as `0.4217`.
pub(crate) fn push_ten_thousandths(out: &mut Vec<u8>, n: u64) {
    push_number(out, n / 10_000);
    let [[a, b], [c, d]] = [PAIRS[(n / 100 % 100) as usize], PAIRS[(n % 100) as usize]];
    out.extend_from_slice(&[b'.', a, b, c, d]);
}

/// Appends hundredths as a decimal number, e.g. 1299 as `12.99`.
pub(crate) fn push_hundredths(out: &mut Vec<u8>, n: u64) {
    push_number(out, n / 100);
    let [tens, ones] = PAIRS[(n % 100) as usize];
    out.extend_from_slice(&[b'.', tens, ones]);
}

/// Appends the lowest `DIGITS` hexadecimal digits.
#[inline]
pub(crate) fn push_hex<const DIGITS: usize>(out: &mut Vec<u8>, n: u64) {
    let digits: [u8; DIGITS] = std::array::from_fn(|place| HEX[(n >> (4 * (DIGITS - 1 - place)) & 15) as usize]);
    out.extend_from_slice(&digits);
}

/// Appends the digits of an address, e.g. `10.20.8.4`.
pub(crate) fn push_address(out: &mut Vec<u8>, address: [u8; 4]) {
    for (place, octet) in address.into_iter().enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        push_number(out, u64::from(octet));
    }
}

/// A time in parts.
pub(crate) struct Calendar {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: i64,
    pub(crate) day: i64,
    micros_in_day: i64,
}

impl Calendar {
    /// The parts of a time in UTC. Algorithm: Hinnant, "chrono-compatible low-level date algorithms".
    #[inline]
    pub(crate) const fn of(micros: i64) -> Self {
        let days = micros.div_euclid(DAY) + 719_468; // since 0000-03-01
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
        Self { year, month, day, micros_in_day: micros.rem_euclid(DAY) }
    }

    /// `HH:MM:SS`.
    #[inline]
    pub(crate) const fn clock(&self) -> [u8; 8] {
        let [h, i] = pair(self.micros_in_day / HOUR);
        let [m, n] = pair(self.micros_in_day % HOUR / MINUTE);
        let [s, t] = pair(self.micros_in_day % MINUTE / SECOND);
        [h, i, b':', m, n, b':', s, t]
    }
}

/// Appends a time as RFC 3339 with microseconds, e.g. `2026-01-05T00:00:00.000123Z`.
#[inline]
pub(crate) fn push_time(out: &mut Vec<u8>, micros: i64) {
    let calendar = Calendar::of(micros);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    text[0..2].copy_from_slice(&pair(calendar.year / 100));
    text[2..4].copy_from_slice(&pair(calendar.year));
    text[5..7].copy_from_slice(&pair(calendar.month));
    text[8..10].copy_from_slice(&pair(calendar.day));
    text[11..19].copy_from_slice(&calendar.clock());
    let fraction = micros.rem_euclid(SECOND);
    text[20..22].copy_from_slice(&pair(fraction / 10_000));
    text[22..24].copy_from_slice(&pair(fraction / 100));
    text[24..26].copy_from_slice(&pair(fraction));
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(push: impl FnOnce(&mut Vec<u8>), text: &str) {
        let mut out = Vec::new();
        push(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), text);
    }

    #[test]
    fn numbers_are_written_as_format_writes_them() {
        for n in [0, 7, 10, 99, 100, 101, 999, 1000, 123_456, u64::MAX] {
            check(|out| push_number(out, n), &n.to_string());
        }
        check(|out| push_thousandths(out, 43_217), "43.217");
        check(|out| push_thousandths(out, 5), "0.005");
        check(|out| push_ten_thousandths(out, 4_217), "0.4217");
        check(|out| push_hundredths(out, 1_205), "12.05");
        check(|out| push_hex::<6>(out, 0xF_0012_ABCD), "12abcd");
        check(|out| push_address(out, [10, 0, 200, 1]), "10.0.200.1");
    }

    #[test]
    fn times_are_rfc_3339_with_microseconds() {
        check(|out| push_time(out, 0), "1970-01-01T00:00:00.000000Z");
        check(|out| push_time(out, 1_767_571_200_000_123), "2026-01-05T00:00:00.000123Z");
        check(|out| push_time(out, 951_782_399_999_999), "2000-02-28T23:59:59.999999Z");
        check(|out| push_time(out, 951_868_799_000_000), "2000-02-29T23:59:59.000000Z");
        check(|out| push_time(out, -1), "1969-12-31T23:59:59.999999Z");
    }
}
