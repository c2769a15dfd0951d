//! Reading numbers, units and null words out of text.
//!
//! For: values as people and programs write them (`"500"`, `107ms`, `1.5 KiB`, `-`). Not for: times
//! ([`crate::time`]) or deciding which field a value belongs to ([`crate::fields`]).

/// Whether the text means "no value": empty, `-`, `null`, `none`, `nil`, `undefined` or `n/a`, in any case.
#[must_use]
pub(crate) fn is_null_word(text: &[u8]) -> bool {
    match text.len() {
        0 => true,
        1 => text[0] == b'-',
        3 => text.eq_ignore_ascii_case(b"nil") || text.eq_ignore_ascii_case(b"n/a"),
        4 => text.eq_ignore_ascii_case(b"null") || text.eq_ignore_ascii_case(b"none"),
        9 => text.eq_ignore_ascii_case(b"undefined"),
        _ => false,
    }
}

/// Reads a whole number with optional sign.
#[must_use]
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut value: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        value = value.checked_mul(10)?;
        value = if negative { value.checked_sub(digit)? } else { value.checked_add(digit)? };
    }
    Some(value)
}

/// Reads a decimal number, with optional fraction and exponent. Infinities and NaN are refused.
#[must_use]
pub(crate) fn float(text: &[u8]) -> Option<f64> {
    let looks_like_number = text.first().is_some_and(|first| first.is_ascii_digit() || b"+-.".contains(first));
    if !looks_like_number {
        return None;
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// Reads a whole number that may be written with a fraction of zero or an exponent (`1e3`, `500.0`).
#[must_use]
pub(crate) fn whole_number(text: &[u8]) -> Option<i64> {
    integer(text).or_else(|| {
        let value = float(text)?;
        (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64)
    })
}

/// Unit of a bare number in a duration field, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DurationUnit {
    /// 10⁻⁹ s.
    Nanos,
    /// 10⁻⁶ s.
    Micros,
    /// 10⁻³ s.
    Millis,
    /// 1 s.
    Seconds,
}

impl DurationUnit {
    fn micros(self) -> f64 {
        match self {
            Self::Nanos => 1e-3,
            Self::Micros => 1.0,
            Self::Millis => 1e3,
            Self::Seconds => 1e6,
        }
    }
}

/// Reads a duration such as `107ms`, `1.5 s`, `2m`, `1h2m3.5s` or a bare number in `unit`; returns whole microseconds.
#[must_use]
pub(crate) fn duration_micros(text: &[u8], unit: DurationUnit) -> Option<i64> {
    let (number, suffix) = split_unit(text);
    if suffix.is_empty() {
        return scaled(number, unit.micros());
    }
    match unit_micros(suffix) {
        Some(per_unit) => scaled(number, per_unit),
        None => compound_micros(text.trim_ascii()),
    }
}

/// Microseconds in a unit of time.
fn unit_micros(suffix: &[u8]) -> Option<f64> {
    Some(match suffix {
        b"ns" => 1e-3,
        b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => 1.0,
        b"ms" | b"msec" | b"millis" => 1e3,
        b"s" | b"sec" | b"secs" | b"seconds" => 1e6,
        b"m" | b"min" | b"mins" | b"minutes" => 6e7,
        b"h" | b"hours" => 3.6e9,
        b"d" | b"days" => 8.64e10,
        _ => return None,
    })
}

/// Several numbers, each with a smaller unit than the one before, as Go writes durations: `1m30s`, `-1h0m0.5s`.
fn compound_micros(text: &[u8]) -> Option<i64> {
    let (is_negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut total: i64 = 0;
    let mut last_unit = f64::INFINITY;
    while !rest.is_empty() {
        let is_of_number = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        let number_len = rest.iter().take_while(|byte| is_of_number(byte)).count();
        let unit_len = rest[number_len..].iter().take_while(|byte| !is_of_number(byte)).count();
        let (number, unit) = rest[..number_len + unit_len].split_at(number_len);
        let per_unit = unit_micros(unit).filter(|per_unit| *per_unit < last_unit)?;
        total = total.checked_add(scaled(number, per_unit)?)?;
        last_unit = per_unit;
        rest = &rest[number_len + unit_len..];
    }
    Some(if is_negative { -total } else { total })
}

/// A number times a factor, rounded; exact where both are whole.
fn scaled(number: &[u8], factor: f64) -> Option<i64> {
    if let (Some(whole), true) = (integer(number), factor >= 1.0) {
        return whole.checked_mul(factor as i64);
    }
    let product = float(number)? * factor;
    (product.abs() < 9e15).then_some(product.round() as i64)
}

/// Units of size, in any case: SI's by 1000, IEC's by 1024, and single letters as `du -h` means them.
const SIZE_UNITS: [(&[u8], i64); 23] = [
    (b"b", 1),
    (b"by", 1),
    (b"bytes", 1),
    (b"kb", 1_000),
    (b"mb", 1_000_000),
    (b"gb", 1_000_000_000),
    (b"tb", 1_000_000_000_000),
    (b"pb", 1_000_000_000_000_000),
    (b"kib", 1 << 10),
    (b"mib", 1 << 20),
    (b"gib", 1 << 30),
    (b"tib", 1 << 40),
    (b"pib", 1 << 50),
    (b"k", 1 << 10),
    (b"m", 1 << 20),
    (b"g", 1 << 30),
    (b"t", 1 << 40),
    (b"p", 1 << 50),
    (b"ki", 1 << 10),
    (b"mi", 1 << 20),
    (b"gi", 1 << 30),
    (b"ti", 1 << 40),
    (b"pi", 1 << 50),
];

/// Reads a size such as `512`, `1.5KiB` or `20 MB`; returns bytes.
#[must_use]
pub(crate) fn size_bytes(text: &[u8]) -> Option<i64> {
    let (number, suffix) = split_unit(text);
    if suffix.is_empty() {
        return whole_number(number);
    }
    let (_, factor) = SIZE_UNITS.iter().find(|(unit, _)| suffix.eq_ignore_ascii_case(unit))?;
    if *factor == 1 { whole_number(number) } else { scaled(number, *factor as f64) }
}

fn split_unit(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii();
    let number_len =
        text.iter().position(|byte| !(byte.is_ascii_digit() || b"+-.".contains(byte))).unwrap_or(text.len());
    // An exponent belongs to the number: 1e3, 2.5E-4.
    let rest = &text[number_len..];
    let is_exponent = matches!(rest, [b'e' | b'E', digit, ..] if digit.is_ascii_digit() || b"+-".contains(digit));
    if is_exponent {
        return (text, b"");
    }
    (&text[..number_len], rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_and_without_units() {
        for (text, micros) in [
            ("107ms", 107_000),
            ("1.5 s", 1_500_000),
            ("250", 250_000),
            ("0.25", 250),
            ("900ns", 1),
            ("3µs", 3),
            ("2m", 120_000_000),
            ("1e3", 1_000_000),
            ("1m30s", 90_000_000),
            ("1.5h", 5_400_000_000),
            ("1h0m0.25s", 3_600_250_000),
            ("2m5.5ms", 120_005_500),
            ("-1m30s", -90_000_000),
            ("3\u{b5}s900ns", 4),
        ] {
            assert_eq!(duration_micros(text.as_bytes(), DurationUnit::Millis), Some(micros), "{text}");
        }
        for text in ["", "fast", "1 fortnight", "9e99", "99999999999999999999s", "-", "30s1m", "1m30", "1m m", "1mx"] {
            assert_eq!(duration_micros(text.as_bytes(), DurationUnit::Millis), None, "{text}");
        }
    }

    #[test]
    fn integers_keep_their_full_range() {
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(integer(b"9223372036854775808"), None);
        assert_eq!(whole_number(b"500.0"), Some(500));
        assert_eq!(whole_number(b"500.5"), None);
    }

    #[test]
    fn sizes_are_read_in_decimal_and_binary_units() {
        for (text, bytes) in [
            ("512", 512),
            ("512 B", 512),
            ("1.5KiB", 1_536),
            ("20 MB", 20_000_000),
            ("1kB", 1_000),
            ("1.5GB", 1_500_000_000),
            ("2TB", 2_000_000_000_000),
            ("1MiB", 1 << 20),
            ("3GiB", 3 << 30),
            ("1TiB", 1 << 40),
            ("512Mi", 512 << 20),
            ("4K", 4_096),
        ] {
            assert_eq!(size_bytes(text.as_bytes()), Some(bytes), "{text}");
        }
        for text in ["12 parsecs", "", "MB", "1.5 B", "9999999PB"] {
            assert_eq!(size_bytes(text.as_bytes()), None, "{text}");
        }
    }
}
