//! Reading timestamps of every common form into UTC microseconds.
//!
//! For: RFC 3339 and its relatives, epoch numbers, access-log, syslog, asctime and the short forms of older systems.
//! Not for: reading the clock; a missing year is inferred from the receive time that the caller passes.
//! Calendar arithmetic: Howard Hinnant, 'chrono-Compatible Low-Level Date Algorithms'.
//! A time without a zone is taken as UTC.

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Reads a text that is a timestamp and nothing else; microseconds since the epoch.
#[must_use]
pub fn parse(text: &[u8], receive_time: i64) -> Option<i64> {
    let text = text.trim_ascii();
    let (micros, len) = parse_prefix(text, receive_time).or_else(|| epoch_prefix(text))?;
    (len == text.len()).then_some(micros)
}

/// Reads the calendar timestamp at the start of a text; returns it and the number of bytes it takes. Epoch numbers
/// are not read here, since a line that starts with a number rarely starts with a time.
#[must_use]
pub fn parse_prefix(text: &[u8], receive_time: i64) -> Option<(i64, usize)> {
    let mut scan = Scan { text, at: 0 };
    let micros = match text.first()? {
        b'0'..=b'9' => scan.digits_first(receive_time)?,
        b'A'..=b'Z' | b'a'..=b'z' => scan.letters_first(receive_time)?,
        _ => return None,
    };
    Some((micros, scan.at))
}

/// Reads an epoch number, with optional fraction, whose unit (s, ms, µs, ns) follows from its size.
#[must_use]
pub fn epoch_prefix(text: &[u8]) -> Option<(i64, usize)> {
    let (negative, start) = if text.first() == Some(&b'-') { (true, 1) } else { (false, 0) };
    let mut scan = Scan { text, at: start };
    let (whole, digits) = scan.number(19)?;
    if digits > 19 || (digits < 9 && text.len() == digits && whole > 9_999_999) {
        return None;
    }
    let mut micros = match whole {
        0..100_000_000_000 => whole.checked_mul(SECOND)?,
        100_000_000_000..100_000_000_000_000 => whole.checked_mul(1_000)?,
        100_000_000_000_000..100_000_000_000_000_000 => whole,
        _ => whole / 1_000,
    };
    if scan.peek() == Some(b'.') && scan.peek_at(1).is_some_and(|byte| byte.is_ascii_digit()) {
        scan.at += 1;
        let fraction = scan.fraction();
        if whole < 100_000_000_000 {
            micros += fraction;
        } else if whole < 100_000_000_000_000 {
            micros += fraction / 1_000;
        }
    }
    Some((if negative { -micros } else { micros }, scan.at))
}

/// Microseconds of an epoch number whose unit follows from its size.
#[must_use]
pub fn of_epoch_number(text: &[u8]) -> Option<i64> {
    if let Some((micros, len)) = epoch_prefix(text)
        && len == text.len()
    {
        return Some(micros);
    }
    // An exponent: 1.7e9 and the like.
    let seconds = crate::value::float(text)?;
    (0.0..1e11).contains(&seconds).then_some((seconds * 1e6).round() as i64)
}

/// Days since the epoch of a date, for any year; `None` when there is no such day.
#[must_use]
pub fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=month_days).contains(&day) {
        return None;
    }
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Year, month and day of a number of days since the epoch.
#[must_use]
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// RFC 3339 with microseconds, for messages and text output.
#[must_use]
pub fn to_rfc3339(micros: i64) -> String {
    let days = micros.div_euclid(DAY);
    let rest = micros.rem_euclid(DAY);
    let (year, month, day) = civil_from_days(days);
    let seconds = rest / SECOND;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        rest % SECOND
    )
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn eat(&mut self, wanted: &[u8]) -> Option<u8> {
        let byte = self.peek()?;
        wanted.contains(&byte).then(|| {
            self.at += 1;
            byte
        })
    }

    fn spaces(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek() == Some(b' ') && self.at < start + 2 {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// Up to `digits_max` digits: value and how many there were.
    fn number(&mut self, digits_max: usize) -> Option<(i64, usize)> {
        let start = self.at;
        let mut value: i64 = 0;
        while let Some(byte @ b'0'..=b'9') = self.peek()
            && self.at - start < digits_max
        {
            value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
            self.at += 1;
        }
        let digits = self.at - start;
        (digits > 0).then_some((value, digits))
    }

    fn two_digits(&mut self) -> Option<i64> {
        let (value, digits) = self.number(2)?;
        (digits == 2).then_some(value)
    }

    /// Digits after the point, as microseconds; digits past the sixth are cut off.
    fn fraction(&mut self) -> i64 {
        let mut micros = 0;
        let mut scale = SECOND / 10;
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            micros += i64::from(byte - b'0') * scale;
            scale /= 10;
            self.at += 1;
        }
        micros
    }

    fn month_name(&mut self) -> Option<i64> {
        const NAMES: [&[u8; 3]; 12] =
            [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
        let name = self.text.get(self.at..self.at + 3)?.to_ascii_lowercase();
        let month = NAMES.iter().position(|candidate| candidate.as_slice() == name)? + 1;
        self.at += 3;
        while self.peek().is_some_and(|byte| byte.is_ascii_lowercase()) {
            self.at += 1;
        }
        Some(month as i64)
    }

    /// `HH:MM[:SS[.fraction]]`, also with dots; microseconds of the day. A leap second counts as the next minute.
    fn clock(&mut self) -> Option<i64> {
        let (hour, _) = self.number(2)?;
        let separator = self.eat(b":.")?;
        let minute = self.two_digits()?;
        let mut micros = 0;
        if self.peek() == Some(separator) && self.peek_at(1).is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
            let second = self.two_digits()?;
            if second > 60 {
                return None;
            }
            micros = second * SECOND;
            if matches!(self.peek(), Some(b'.' | b',')) && self.peek_at(1).is_some_and(|byte| byte.is_ascii_digit()) {
                self.at += 1;
                micros += self.fraction();
            }
        }
        let hour = self.half_day(hour)?;
        (hour < 24 && minute < 60).then_some((hour * 3_600 + minute * 60) * SECOND + micros)
    }

    fn half_day(&mut self, hour: i64) -> Option<i64> {
        let rest = &self.text[self.at..];
        let (skip, marker) = match rest {
            [b' ', half @ (b'a' | b'p' | b'A' | b'P'), b'm' | b'M', ..] => (3, half),
            [half @ (b'a' | b'p' | b'A' | b'P'), b'm' | b'M', ..] => (2, half),
            _ => return Some(hour),
        };
        if rest.get(skip).is_some_and(u8::is_ascii_alphanumeric) {
            return Some(hour);
        }
        self.at += skip;
        let afternoon = marker.eq_ignore_ascii_case(&b'p');
        (1..=12).contains(&hour).then_some(hour % 12 + if afternoon { 12 } else { 0 })
    }

    /// Offset from UTC in microseconds; 0 where there is none.
    fn zone(&mut self) -> Option<i64> {
        let rest = &self.text[self.at..];
        if let [b'Z' | b'z', ..] = rest {
            self.at += 1;
            return Some(0);
        }
        for name in [&b" UTC"[..], b" GMT", b" Z", b"UTC", b"GMT"] {
            let ends = |next: Option<&u8>| next.is_none_or(|byte| !byte.is_ascii_alphanumeric());
            if rest.starts_with(name) && ends(rest.get(name.len())) {
                self.at += name.len();
                return Some(0);
            }
        }
        let (sign_at, digits) = match rest {
            [b'+' | b'-', digit, ..] if digit.is_ascii_digit() => (0, &rest[1..]),
            [b' ', b'+' | b'-', a, b, c, d, ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()) => {
                (1, &rest[2..])
            }
            _ => return Some(0),
        };
        let sign = if rest[sign_at] == b'-' { -1 } else { 1 };
        let mut inner = Scan { text: digits, at: 0 };
        let hours = inner.two_digits()?;
        inner.eat(b":");
        let minutes = inner.two_digits().unwrap_or(0);
        if hours > 18 || minutes > 59 {
            return None;
        }
        self.at += sign_at + 1 + inner.at;
        Some(sign * (hours * 3_600 + minutes * 60) * SECOND)
    }

    fn digits_first(&mut self, receive_time: i64) -> Option<i64> {
        let (first, digits) = self.number(14)?;
        match (digits, self.peek()) {
            (4, Some(separator @ (b'-' | b'/' | b'.'))) => self.year_first(first, separator),
            (8 | 14, _) => self.compact(first, digits),
            (6, Some(b' ')) => self.six_digits(first),
            (1 | 2, Some(b'/' | b'-' | b' ')) if self.peek_at(1).is_some_and(|byte| byte.is_ascii_alphabetic()) => {
                self.at += 1;
                self.day_month_name(first)
            }
            (1 | 2, Some(b'/')) => self.slashed(first),
            (2, Some(b'.')) => self.month_dot_day(first, receive_time),
            _ => None,
        }
    }

    /// `2015-10-18 18:01:47,978`, `2015-10-18T18:01:47.978+02:00`, `2005-06-03-15.42.50.675872`, `2015/10/18`.
    fn year_first(&mut self, year: i64, separator: u8) -> Option<i64> {
        self.at += 1;
        let (month, _) = self.number(2)?;
        self.eat(&[separator])?;
        let (day, _) = self.number(2)?;
        self.rest_of_day(days_from_civil(year, month, day)?)
    }

    /// A clock time and a zone where they follow, else midnight.
    fn rest_of_day(&mut self, days: i64) -> Option<i64> {
        let date_end = self.at;
        let joins = matches!(self.peek(), Some(b'T' | b't' | b' ' | b'-' | b'_' | b':'));
        if joins && self.peek_at(1).is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
            if let Some(clock) = self.clock() {
                return Some(days * DAY + clock - self.zone()?);
            }
            self.at = date_end;
            return None;
        }
        if self.peek() == Some(b'T') { None } else { Some(days * DAY) }
    }

    /// `20151018`, `20151018T180147Z`, `20151018180147`.
    fn compact(&mut self, number: i64, digits: usize) -> Option<i64> {
        let (date, clock) = if digits == 14 { (number / 1_000_000, Some(number % 1_000_000)) } else { (number, None) };
        let year = date / 10_000;
        if !(1970..=2199).contains(&year) {
            return None;
        }
        let days = days_from_civil(year, date / 100 % 100, date % 100)?;
        let clock = match clock {
            Some(clock) => clock,
            None if matches!(self.peek(), Some(b'T' | b'-' | b' '))
                && self.peek_at(1).is_some_and(|b| b.is_ascii_digit()) =>
            {
                self.at += 1;
                let (clock, clock_digits) = self.number(6)?;
                if clock_digits != 6 {
                    return None;
                }
                clock
            }
            None => return Some(days * DAY),
        };
        let seconds = six_digit_clock(clock)?;
        let mut micros = seconds * SECOND;
        if matches!(self.peek(), Some(b'.' | b',')) && self.peek_at(1).is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
            micros += self.fraction();
        }
        Some(days * DAY + micros - self.zone()?)
    }

    /// `081109 203615`: year, month, day, then hour, minute, second, two digits each.
    fn six_digits(&mut self, date: i64) -> Option<i64> {
        self.at += 1;
        let (clock, digits) = self.number(6)?;
        if digits != 6 || self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let days = days_from_civil(full_year(date / 10_000), date / 100 % 100, date % 100)?;
        Some(days * DAY + six_digit_clock(clock)? * SECOND)
    }

    /// `17/May/2015:10:05:03 +0000`, `17-May-2015 10:05:03`, `17 May 2015 10:05:03 GMT`.
    fn day_month_name(&mut self, day: i64) -> Option<i64> {
        let month = self.month_name()?;
        self.eat(b"/- ")?;
        let (year, digits) = self.number(4)?;
        let year = match digits {
            4 => year,
            2 => full_year(year),
            _ => return None,
        };
        self.rest_of_day(days_from_civil(year, month, day)?)
    }

    /// `17/06/09 20:10:40` (year first, two digits) or `06/17/2015 08:10:40 PM` (month first, four-digit year).
    fn slashed(&mut self, first: i64) -> Option<i64> {
        self.at += 1;
        let (second, _) = self.number(2)?;
        self.eat(b"/")?;
        let (third, digits) = self.number(4)?;
        let days = match digits {
            2 => days_from_civil(full_year(first), second, third)?,
            4 => days_from_civil(third, first, second).or_else(|| days_from_civil(third, second, first))?,
            _ => return None,
        };
        self.rest_of_day(days)
    }

    /// `10.30 16:49:06`: month and day, no year.
    fn month_dot_day(&mut self, month: i64, receive_time: i64) -> Option<i64> {
        self.at += 1;
        let day = self.two_digits()?;
        self.spaces()?;
        let clock = self.clock()?;
        infer_year(month, day, clock, receive_time)
    }

    /// `Jun 14 15:16:01`, `Sun Dec 04 04:47:44 2005`, `Sun, 06 Nov 1994 08:49:37 GMT`, `Dec 4, 2005 4:47:44 PM`.
    fn letters_first(&mut self, receive_time: i64) -> Option<i64> {
        const WEEKDAYS: [&[u8; 3]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
        let name = self.text.get(..3)?.to_ascii_lowercase();
        if WEEKDAYS.iter().any(|weekday| weekday.as_slice() == name) {
            while self.peek().is_some_and(|byte| byte.is_ascii_alphabetic()) {
                self.at += 1;
            }
            self.eat(b",");
            self.spaces()?;
            if self.peek()?.is_ascii_digit() {
                let (day, _) = self.number(2)?;
                self.eat(b" -")?;
                return self.day_month_name(day);
            }
        }
        let month = self.month_name()?;
        self.spaces()?;
        let (day, _) = self.number(2)?;
        self.eat(b",");
        self.spaces()?;
        self.after_month_and_day(month, day, receive_time)
    }

    fn after_month_and_day(&mut self, month: i64, day: i64, receive_time: i64) -> Option<i64> {
        let start = self.at;
        if let Some((year, 4)) = self.number(4)
            && self.peek() != Some(b':')
        {
            return self.rest_of_day(days_from_civil(year, month, day)?);
        }
        self.at = start;
        let clock = self.clock()?;
        let clock_end = self.at;
        if self.peek() == Some(b' ') {
            self.at += 1;
            if let Some((year, 4)) = self.number(4)
                && !self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || b".:-/".contains(&byte))
                && (1970..=2199).contains(&year)
            {
                return Some(days_from_civil(year, month, day)? * DAY + clock);
            }
            self.at = clock_end;
        }
        infer_year(month, day, clock, receive_time)
    }
}

fn six_digit_clock(clock: i64) -> Option<i64> {
    let (hour, minute, second) = (clock / 10_000, clock / 100 % 100, clock % 100);
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3_600 + minute * 60 + second)
}

/// POSIX: two-digit years 69..99 are 19xx, 00..68 are 20xx.
const fn full_year(two_digits: i64) -> i64 {
    if two_digits >= 69 { 1900 + two_digits } else { 2000 + two_digits }
}

/// The latest year in which the time is at most one day after the receive time.
fn infer_year(month: i64, day: i64, clock: i64, receive_time: i64) -> Option<i64> {
    let (receive_year, ..) = civil_from_days(receive_time.div_euclid(DAY));
    // Eight years back reach the last 29 February even around a century year.
    (receive_year - 8..=receive_year + 1)
        .rev()
        .filter_map(|year| days_from_civil(year, month, day))
        .map(|days| days * DAY + clock)
        .find(|&micros| micros <= receive_time.saturating_add(DAY))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-24T03:00:00Z
    const RECEIVED: i64 = 1_795_489_200 * SECOND;

    #[track_caller]
    fn check(text: &str, rfc3339: &str) {
        let micros = parse(text.as_bytes(), RECEIVED).unwrap_or_else(|| panic!("{text} is not read"));
        assert_eq!(to_rfc3339(micros), rfc3339, "{text}");
    }

    #[test]
    fn common_forms_are_read() {
        check("2026-11-24T03:00:00Z", "2026-11-24T03:00:00.000000Z");
        check("2026-11-24T03:00:00.123456789+02:00", "2026-11-24T01:00:00.123456Z");
        check("2026-11-24 03:00:00,978", "2026-11-24T03:00:00.978000Z");
        check("2026-11-24 03:00:00.5 UTC", "2026-11-24T03:00:00.500000Z");
        check("2026-11-24", "2026-11-24T00:00:00.000000Z");
        check("2026/11/24 03:00", "2026-11-24T03:00:00.000000Z");
        check("20261124T030000Z", "2026-11-24T03:00:00.000000Z");
        check("20261124030000", "2026-11-24T03:00:00.000000Z");
        check("17/May/2015:10:05:03 +0000", "2015-05-17T10:05:03.000000Z");
        check("17/May/2015:10:05:03 -0530", "2015-05-17T15:35:03.000000Z");
        check("Sun Dec 04 04:47:44 2005", "2005-12-04T04:47:44.000000Z");
        check("Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37.000000Z");
        check("Dec 4, 2005 4:47:44 PM", "2005-12-04T16:47:44.000000Z");
        check("11/24/2026 03:04:05 AM", "2026-11-24T03:04:05.000000Z");
        check("17/06/09 20:10:40", "2017-06-09T20:10:40.000000Z");
        check("081109 203615", "2008-11-09T20:36:15.000000Z");
        check("2005-06-03-15.42.50.675872", "2005-06-03T15:42:50.675872Z");
    }

    #[test]
    fn epoch_numbers_are_read_by_their_size() {
        for text in ["1795489200", "1795489200000", "1795489200000000", "1795489200000000000"] {
            check(text, "2026-11-24T03:00:00.000000Z");
        }
        check("1795489200.25", "2026-11-24T03:00:00.250000Z");
        check("1077804742", "2004-02-26T14:12:22.000000Z");
    }

    #[test]
    fn a_missing_year_is_the_latest_that_is_not_in_the_future() {
        check("Nov 24 15:16:01", "2026-11-24T15:16:01.000000Z");
        check("Nov 26 15:16:01", "2025-11-26T15:16:01.000000Z");
        check("Feb 29 00:00:01", "2024-02-29T00:00:01.000000Z");
        check("10.30 16:49:06", "2026-10-30T16:49:06.000000Z");
        check("Jun  4 15:16:01", "2026-06-04T15:16:01.000000Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-02-30T00:00:00Z",
            "2026-11-24T25:00:00Z",
            "2026-11-24T03:61:00Z",
            "12",
            "2026-11-24T03:00:00Zjunk",
            "99/99/99 99:99:99",
            "Foo 12 10:00:00",
            "-",
            "2026-11-24T",
        ] {
            let micros = parse(text.as_bytes(), RECEIVED);
            assert!(micros.is_none() || text == "12", "{text} was read as {micros:?}");
        }
    }

    #[test]
    fn a_prefix_ends_where_the_time_ends() {
        let line = b"2015-07-29 17:41:44,747 - INFO  [QuorumPeer";
        assert_eq!(parse_prefix(line, RECEIVED).map(|(_, len)| len), Some(23));
        assert_eq!(parse_prefix(b"Jun 14 15:16:01 2424 units", RECEIVED).map(|(_, len)| len), Some(15));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&text, RECEIVED);
            let _ = parse_prefix(&text, RECEIVED);
        }

        #[test]
        fn rfc3339_output_is_read_back(micros in -60_000_000_000_000_000i64..200_000_000_000_000_000) {
            prop_assert_eq!(parse(to_rfc3339(micros).as_bytes(), RECEIVED), Some(micros));
        }

        #[test]
        fn civil_dates_and_day_numbers_are_inverse(days in -800_000i64..3_000_000) {
            let (year, month, day) = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month, day), Some(days));
        }
    }
}
