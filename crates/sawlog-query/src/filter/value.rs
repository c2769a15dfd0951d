//! Values as people write them: `500ms`, `2MiB`, `error`, `-15m`.

use sawlog_core::time;

/// What the numbers of a field count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    /// Time; a number without a unit counts steps of this many microseconds.
    Duration { step_micros: f64 },
    /// Bytes.
    Bytes,
    /// Something else.
    Plain,
}

impl Unit {
    /// The unit that the name of a field ends with.
    pub(super) fn of(name: &str) -> Self {
        let last = name.rsplit(['_', '.']).next().unwrap_or_default();
        let step_micros = match last {
            "ns" | "nanos" | "nanoseconds" => 0.001,
            "us" | "micros" | "microseconds" => 1.0,
            "ms" | "millis" | "milliseconds" => 1e3,
            "s" | "sec" | "secs" | "seconds" => 1e6,
            "bytes" => return Self::Bytes,
            _ => return Self::Plain,
        };
        Self::Duration { step_micros }
    }

    /// A number as the field holds it; `None` where the text is none or its unit does not fit.
    pub(super) fn read(self, text: &str) -> Option<f64> {
        let digits =
            text.find(|letter: char| !(letter.is_ascii_digit() || ".-+_".contains(letter))).unwrap_or(text.len());
        // A number may have an exponent; then there is no unit.
        if let Ok(number) = text.replace('_', "").parse::<f64>() {
            return number.is_finite().then_some(number);
        }
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.replace('_', "").parse().ok()?;
        match self {
            Self::Duration { step_micros } => Some(number * micros(unit)? / step_micros),
            Self::Bytes => Some(number * bytes(unit)?),
            Self::Plain => None,
        }
    }

    pub(super) const fn example(self) -> &'static str {
        match self {
            Self::Duration { .. } => "a number with ns, us, ms, s, m, h or d, e.g. 500ms",
            Self::Bytes => "a number with B, KB, MB, GB, KiB, MiB or GiB, e.g. 2MiB",
            Self::Plain => "a number, e.g. 500",
        }
    }
}

fn micros(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 0.001,
        "us" | "µs" | "μs" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" | "min" => 6e7,
        "h" => 3.6e9,
        "d" => 8.64e10,
        "w" => 6.048e11,
        _ => return None,
    })
}

fn bytes(unit: &str) -> Option<f64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => return None,
    })
}

/// Reads a moment: `now`, `-15m` or `now-15m` (ms, s, m, h, d, w), RFC 3339, a date, or seconds since the epoch.
/// `now` and the answer are microseconds since the epoch.
#[must_use]
pub fn parse_time(text: &str, now: i64) -> Option<i64> {
    let text = text.trim();
    if text == "now" {
        return Some(now);
    }
    let relative = text.strip_prefix("now").unwrap_or(text);
    if let Some(sign) = relative.chars().next().filter(|first| "+-".contains(*first)) {
        let age = Unit::Duration { step_micros: 1.0 }.read(&relative[1..]);
        let has_unit = relative.ends_with(|last: char| last.is_ascii_alphabetic());
        let age = age.filter(|age| has_unit && (0.0..=1e18).contains(age))? as i64;
        return if sign == '-' { now.checked_sub(age) } else { now.checked_add(age) };
    }
    time::parse(text.as_bytes(), now)
}

/// The numbers (OpenTelemetry's scale, 1 to 24) that the name of a severity covers.
pub(super) fn severity(name: &str) -> Option<(i64, i64)> {
    Some(match name.to_ascii_lowercase().as_str() {
        "trace" | "verbose" => (1, 4),
        "debug" => (5, 8),
        "info" | "information" => (9, 12),
        "notice" => (10, 12),
        "warn" | "warning" => (13, 16),
        "error" | "err" => (17, 20),
        "critical" | "crit" => (18, 20),
        "alert" => (19, 20),
        "fatal" | "emergency" | "emerg" | "panic" => (21, 24),
        other => {
            let number = other.parse().ok().filter(|number| (1..=24).contains(number))?;
            (number, number)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_unit_of_their_field() {
        let duration = Unit::of("duration_us");
        assert_eq!(duration.read("500ms"), Some(500_000.0));
        assert_eq!(duration.read("1.5s"), Some(1_500_000.0));
        assert_eq!(duration.read("7"), Some(7.0));
        assert_eq!(Unit::of("latency_ms").read("2s"), Some(2000.0));
        assert_eq!(Unit::of("response_bytes").read("2MiB"), Some(2_097_152.0));
        assert_eq!(Unit::of("response_bytes").read("1e3"), Some(1000.0));
        for wrong in ["", "ms", "5 parsecs", "5MiB", "1e999", "--5", "5ms5"] {
            assert_eq!(duration.read(wrong), None, "{wrong}");
        }
        assert_eq!(Unit::of("retries").read("5ms"), None);
    }

    #[test]
    fn moments_are_relative_or_absolute() {
        let now = 1_772_359_200_000_000;
        assert_eq!(parse_time("now", now), Some(now));
        assert_eq!(parse_time("-15m", now), Some(now - 900_000_000));
        assert_eq!(parse_time("now-1.5h", now), Some(now - 5_400_000_000));
        assert_eq!(parse_time("+1d", now), Some(now + 86_400_000_000));
        assert_eq!(parse_time("2026-03-01T10:00:00Z", now), Some(now));
        for wrong in ["", "soon", "-", "-15", "-m", "now15m", "-99999999999999999999d"] {
            assert_eq!(parse_time(wrong, now), None, "{wrong}");
        }
    }

    #[test]
    fn severities_are_ordered() {
        let names = ["trace", "debug", "info", "warn", "ERROR", "fatal"];
        let bounds: Vec<_> = names.iter().map(|name| severity(name).expect("a severity")).collect();
        assert!(bounds.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "{bounds:?}");
        assert_eq!(severity("17"), Some((17, 17)));
        assert!(severity("25").is_none() && severity("loud").is_none());
    }
}
