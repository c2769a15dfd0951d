//! Reading timestamps of every common form into UTC microseconds.
//!
//! For: RFC 3339 and its relatives, epoch numbers, access-log, syslog, asctime and the short forms of older systems.
//! Not for: reading the clock; a missing year is inferred from the receive time that the caller passes.
//! Calendar arithmetic: Howard Hinnant, 'chrono-Compatible Low-Level Date Algorithms'.
//! A time without a zone is taken as UTC; abbreviated names of zones have one fixed offset each ([`ZONES`]).

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Abbreviations of zones and their offsets from UTC in minutes. Those of North America are RFC 822's. `IST` is not
/// among them, since India, Ireland and Israel share it.
const ZONES: [(&[u8], i64); 34] = [
    (b"UTC", 0),
    (b"GMT", 0),
    (b"Z", 0),
    (b"CET", 60),
    (b"CEST", 120),
    (b"WET", 0),
    (b"WEST", 60),
    (b"BST", 60),
    (b"EET", 120),
    (b"EEST", 180),
    (b"MSK", 180),
    (b"SAST", 120),
    (b"EST", -300),
    (b"EDT", -240),
    (b"CST", -360),
    (b"CDT", -300),
    (b"MST", -420),
    (b"MDT", -360),
    (b"PST", -480),
    (b"PDT", -420),
    (b"AKST", -540),
    (b"AKDT", -480),
    (b"HST", -600),
    (b"BRT", -180),
    (b"HKT", 480),
    (b"SGT", 480),
    (b"AWST", 480),
    (b"JST", 540),
    (b"KST", 540),
    (b"ACST", 570),
    (b"AEST", 600),
    (b"AEDT", 660),
    (b"NZST", 720),
    (b"NZDT", 780),
];

/// A time with what it says below the microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExactTime {
    /// UTC microseconds since the epoch.
    pub(crate) micros: i64,
    /// Nanoseconds after that, 0..1000.
    pub(crate) nanos: i64,
}

impl ExactTime {
    /// Whether a bare number that was read as this time can be meant as one: 2000 to 2099. A count, a temperature or an
    /// elapsed time reads as a time around 1970.
    pub(crate) const fn is_plausible_epoch(self) -> bool {
        const YEAR_2000: i64 = 946_684_800 * SECOND;
        const YEAR_2100: i64 = 4_102_444_800 * SECOND;
        YEAR_2000 <= self.micros && self.micros < YEAR_2100
    }
}

/// Reads a text that is a timestamp and nothing else; microseconds since the epoch.
#[must_use]
pub fn parse(text: &[u8], receive_time: i64) -> Option<i64> {
    let text = text.trim_ascii();
    let (time, len) = parse_exact_prefix(text, receive_time).or_else(|| epoch_prefix(text))?;
    (len == text.len()).then_some(time.micros)
}

/// Reads a text that is a calendar timestamp and nothing else.
pub(crate) fn parse_calendar(text: &[u8], receive_time: i64) -> Option<ExactTime> {
    let text = text.trim_ascii();
    let (time, len) = parse_exact_prefix(text, receive_time)?;
    (len == text.len()).then_some(time)
}

/// Reads the calendar timestamp at the start of a text; returns it and the number of bytes it takes. Epoch numbers
/// are not read here, since a line that starts with a number rarely starts with a time.
#[must_use]
pub fn parse_prefix(text: &[u8], receive_time: i64) -> Option<(i64, usize)> {
    parse_exact_prefix(text, receive_time).map(|(time, len)| (time.micros, len))
}

/// [`parse_prefix`] with nanoseconds.
pub(crate) fn parse_exact_prefix(text: &[u8], receive_time: i64) -> Option<(ExactTime, usize)> {
    let mut scan = Scan { text, at: 0, nanos: 0 };
    let micros = match text.first()? {
        b'0'..=b'9' => scan.digits_first(receive_time)?,
        b'A'..=b'Z' | b'a'..=b'z' => scan.letters_first(receive_time)?,
        _ => return None,
    };
    Some((ExactTime { micros, nanos: scan.nanos }, scan.at))
}

/// Reads an epoch number, with optional fraction, whose unit (s, ms, µs, ns) follows from its size.
pub(crate) fn epoch_prefix(text: &[u8]) -> Option<(ExactTime, usize)> {
    let (negative, start) = if text.first() == Some(&b'-') { (true, 1) } else { (false, 0) };
    let mut scan = Scan { text, at: start, nanos: 0 };
    let (whole, digits) = scan.number(19)?;
    if digits > 19 || (digits < 9 && text.len() == digits && whole > 9_999_999) {
        return None;
    }
    let mut fraction = 0;
    if scan.peek() == Some(b'.') && scan.peek_at(1).is_some_and(|byte| byte.is_ascii_digit()) {
        scan.at += 1;
        // Millionths of the unit.
        fraction = scan.fraction();
    }
    let (micros, nanos) = match whole {
        0..100_000_000_000 => (whole.checked_mul(SECOND)? + fraction, scan.nanos),
        100_000_000_000..100_000_000_000_000 => (whole.checked_mul(1_000)? + fraction / 1_000, fraction % 1_000),
        100_000_000_000_000..100_000_000_000_000_000 => (whole, fraction / 1_000),
        _ => (whole / 1_000, whole % 1_000),
    };
    let time = match (negative, nanos) {
        (false, _) => ExactTime { micros, nanos },
        (true, 0) => ExactTime { micros: -micros, nanos },
        (true, _) => ExactTime { micros: -micros - 1, nanos: 1_000 - nanos },
    };
    Some((time, scan.at))
}

/// The time of an epoch number whose unit follows from its size.
pub(crate) fn of_epoch_number(text: &[u8]) -> Option<ExactTime> {
    if let Some((time, len)) = epoch_prefix(text)
        && len == text.len()
    {
        return Some(time);
    }
    // An exponent: 1.7e9 and the like.
    let seconds = crate::value::float(text)?;
    (0.0..1e11).contains(&seconds).then_some(ExactTime { micros: (seconds * 1e6).round() as i64, nanos: 0 })
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

/// RFC 3339 with microseconds, or with nanoseconds where there are any.
pub(crate) fn to_exact_rfc3339(time: ExactTime) -> String {
    let mut text = to_rfc3339(time.micros);
    if time.nanos != 0 {
        text.pop();
        text.push_str(&format!("{:03}Z", time.nanos));
    }
    text
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    /// What the last fraction said below a millionth, in thousandths of that.
    nanos: i64,
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

    /// Digits after the point, as millionths, with the next three in [`Scan::nanos`]; digits past the ninth are cut off.
    fn fraction(&mut self) -> i64 {
        let mut billionths = 0;
        let mut scale = 1_000 * SECOND / 10;
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            billionths += i64::from(byte - b'0') * scale;
            scale /= 10;
            self.at += 1;
        }
        self.nanos = billionths % 1_000;
        billionths / 1_000
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
            // U+202F, as JavaScript writes it.
            [0xE2, 0x80, 0xAF, half @ (b'a' | b'p' | b'A' | b'P'), b'm' | b'M', ..] => (5, half),
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
        if let Some((len, minutes)) = zone_name(rest) {
            self.at += len;
            let is_universal = minutes == 0 && matches!(self.peek(), Some(b'+' | b'-'));
            // JavaScript: GMT+0200 (Central European Summer Time).
            return if is_universal { self.offset(0) } else { Some(minutes * 60 * SECOND) };
        }
        match rest {
            [b'+' | b'-', digit, ..] if digit.is_ascii_digit() => self.offset(0),
            [b' ', b'+' | b'-', ..] => self.offset(1),
            _ => Some(0),
        }
    }

    /// An offset in digits `spaces` bytes ahead. After a space it must have four digits, to be told from other numbers.
    fn offset(&mut self, spaces: usize) -> Option<i64> {
        let start = self.at;
        let mut inner = Scan { text: self.text, at: start + spaces + 1, nanos: 0 };
        let hours = inner.two_digits();
        let hours_end = inner.at;
        inner.eat(b":");
        let minutes = inner.two_digits();
        let is_cut = inner.peek().is_some_and(|byte| byte.is_ascii_digit());
        if spaces > 0 && (hours.is_none() || minutes.is_none() || is_cut) {
            return Some(0);
        }
        if minutes.is_none() {
            inner.at = hours_end;
        }
        let (hours, minutes) = (hours?, minutes.unwrap_or(0));
        if hours > 18 || minutes > 59 {
            return None;
        }
        let sign = if self.text[start + spaces] == b'-' { -1 } else { 1 };
        self.at = inner.at;
        self.skip_comment();
        Some(sign * (hours * 3_600 + minutes * 60) * SECOND)
    }

    /// A zone's name in brackets after its offset: ` (CET)`.
    fn skip_comment(&mut self) {
        const NAME_BYTES_MAX: usize = 48;
        let rest = &self.text[self.at..];
        if !rest.starts_with(b" (") {
            return;
        }
        let name =
            rest[2..].iter().take(NAME_BYTES_MAX).take_while(|byte| byte.is_ascii_alphabetic() || **byte == b' ');
        let name_len = name.count();
        if name_len > 0 && rest.get(name_len + 2) == Some(&b')') {
            self.at += name_len + 3;
        }
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
            (1 | 2, Some(b'.')) => self.dotted(first, digits, receive_time),
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
        // JavaScript's toLocaleString: 24.11.2026, 03:00:00.
        if let [b',', b' ', digit, ..] = &self.text[self.at..]
            && digit.is_ascii_digit()
        {
            self.at += 2;
            if let Some(clock) = self.clock() {
                return Some(days * DAY + clock - self.zone()?);
            }
            self.at = date_end;
            return Some(days * DAY);
        }
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

    /// `24.11.2026 03:00:00` (day first), or `10.30 16:49:06`: month and day, no year.
    fn dotted(&mut self, first: i64, first_digits: usize, receive_time: i64) -> Option<i64> {
        self.at += 1;
        let (second, second_digits) = self.number(2)?;
        if self.eat(b".").is_none() {
            if (first_digits, second_digits) != (2, 2) {
                return None;
            }
            self.spaces()?;
            let clock = self.clock()?;
            return infer_year(first, second, clock, receive_time);
        }
        let (year, digits) = self.number(4)?;
        let has_clock =
            matches!(self.text[self.at..], [b' ', digit, ..] | [b',', b' ', digit, ..] if digit.is_ascii_digit());
        let year = match digits {
            4 if (1970..=2199).contains(&year) && self.peek() != Some(b'.') => year,
            // Three short numbers alone are a version or the start of an address.
            2 if has_clock => full_year(year),
            _ => return None,
        };
        self.rest_of_day(days_from_civil(year, second, first)?)
    }

    /// `Jun 14 15:16:01`, `Sun Dec 04 04:47:44 2005`, `Sun, 06 Nov 1994 08:49:37 GMT`, `Dec 4, 2005 4:47:44 PM`,
    /// `Tue 2026-11-24 03:00:00 UTC`, `I1124 03:00:00.123456`.
    fn letters_first(&mut self, receive_time: i64) -> Option<i64> {
        const WEEKDAYS: [&[u8; 3]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
        if is_klog(self.text) {
            return self.klog(receive_time);
        }
        let name = self.text.get(..3)?.to_ascii_lowercase();
        if WEEKDAYS.iter().any(|weekday| weekday.as_slice() == name) {
            while self.peek().is_some_and(|byte| byte.is_ascii_alphabetic()) {
                self.at += 1;
            }
            self.eat(b",");
            self.spaces()?;
            if self.peek()?.is_ascii_digit() {
                let (number, digits) = self.number(4)?;
                if (digits, self.peek()) == (4, Some(b'-')) {
                    return self.year_first(number, b'-');
                }
                self.eat(b" -")?;
                return if digits <= 2 { self.day_month_name(number) } else { None };
            }
        }
        let month = self.month_name()?;
        self.spaces()?;
        let (day, _) = self.number(2)?;
        self.eat(b",");
        self.spaces()?;
        self.after_month_and_day(month, day, receive_time)
    }

    /// `I1124 03:00:00.123456`, or with the year: `I20261124 03:00:00.123456`.
    fn klog(&mut self, receive_time: i64) -> Option<i64> {
        self.at = 1;
        let (date, digits) = self.number(8)?;
        self.spaces()?;
        let clock_start = self.at;
        let clock = self.clock()?;
        if self.at - clock_start < "03:00:00".len() {
            return None;
        }
        if digits == 4 {
            return infer_year(date / 100, date % 100, clock, receive_time);
        }
        Some(days_from_civil(date / 10_000, date / 100 % 100, date % 100)? * DAY + clock)
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
        // Before the year date(1) writes the zone's name, Go and Ruby its offset.
        let offset = self.zone()?;
        let zone_end = self.at;
        if self.peek() == Some(b' ') {
            self.at += 1;
            if let Some((year, 4)) = self.number(4)
                && !self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || b".:-/".contains(&byte))
                && (1970..=2199).contains(&year)
            {
                let offset = if zone_end == clock_end { self.zone()? } else { offset };
                return Some(days_from_civil(year, month, day)? * DAY + clock - offset);
            }
        }
        // Without a year, digits after a space may be anything.
        let is_offset = !matches!(self.text[clock_end..], [b' ', b'+' | b'-', ..]);
        self.at = if is_offset { zone_end } else { clock_end };
        infer_year(month, day, if is_offset { clock - offset } else { clock }, receive_time)
    }
}

/// Whether a text starts as the Go and C++ packages klog and glog write: a severity's letter, month and day.
pub(crate) fn is_klog(text: &[u8]) -> bool {
    let digits = text.iter().skip(1).take(9).take_while(|byte| byte.is_ascii_digit()).count();
    matches!(text.first(), Some(b'I' | b'W' | b'E' | b'F' | b'D'))
        && matches!(digits, 4 | 8)
        && text.get(digits + 1) == Some(&b' ')
}

/// Length of a zone's name, perhaps after a space, and its offset in minutes.
fn zone_name(text: &[u8]) -> Option<(usize, i64)> {
    const LETTERS_MAX: usize = 4;
    let spaces = usize::from(text.first() == Some(&b' '));
    let letters = text[spaces..].iter().take(LETTERS_MAX + 1).take_while(|byte| byte.is_ascii_uppercase()).count();
    if letters == 0 || text.get(spaces + letters).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let name = &text[spaces..spaces + letters];
    ZONES.iter().find(|(zone, _)| *zone == name).map(|(_, minutes)| (spaces + letters, *minutes))
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
mod tests;
