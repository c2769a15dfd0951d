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

/// Reads a duration such as `107ms`, `1.5 s`, `2m` or a bare number in `unit`; returns whole microseconds.
#[must_use]
pub(crate) fn duration_micros(text: &[u8], unit: DurationUnit) -> Option<i64> {
    let (number, suffix) = split_unit(text);
    let per_unit = match suffix {
        b"" => unit.micros(),
        b"ns" => 1e-3,
        b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => 1.0,
        b"ms" | b"msec" | b"millis" => 1e3,
        b"s" | b"sec" | b"secs" | b"seconds" => 1e6,
        b"m" | b"min" => 6e7,
        b"h" => 3.6e9,
        _ => return None,
    };
    if let (Some(whole), true) = (integer(number), per_unit >= 1.0) {
        return whole.checked_mul(per_unit as i64);
    }
    let micros = float(number)? * per_unit;
    (micros.abs() < 9e15).then_some(micros.round() as i64)
}

/// Reads a size such as `512`, `1.5KiB` or `20 MB`; returns bytes.
#[must_use]
pub(crate) fn size_bytes(text: &[u8]) -> Option<i64> {
    let (number, suffix) = split_unit(text);
    let factor = match suffix.to_ascii_lowercase().as_slice() {
        b"" | b"b" | b"by" | b"bytes" => 1.0,
        b"kb" => 1e3,
        b"kib" | b"k" => 1024.0,
        b"mb" => 1e6,
        b"mib" | b"m" => 1024.0 * 1024.0,
        b"gb" => 1e9,
        b"gib" | b"g" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    if factor == 1.0 {
        return whole_number(number);
    }
    let bytes = float(number)? * factor;
    (bytes.abs() < 9e15).then_some(bytes.round() as i64)
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
        ] {
            assert_eq!(duration_micros(text.as_bytes(), DurationUnit::Millis), Some(micros), "{text}");
        }
        for text in ["", "fast", "1 fortnight", "9e99", "99999999999999999999s", "-"] {
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
        assert_eq!(size_bytes(b"1.5KiB"), Some(1536));
        assert_eq!(size_bytes(b"20 MB"), Some(20_000_000));
        assert_eq!(size_bytes(b"12 parsecs"), None);
    }
}
