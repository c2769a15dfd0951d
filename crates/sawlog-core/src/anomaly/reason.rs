//! Anomalies in words, with numbers and units.

use super::signal::Signal;

/// 'p99 latency 1.8 s, expected 110–160 ms: the level has changed'.
pub(super) fn of_value(signal: Signal, name: Option<&str>, value: f64, (low, high): (f64, f64), why: &str) -> String {
    let what = match signal {
        Signal::ErrorRatio => "error ratio",
        Signal::RequestRate => "requests",
        Signal::RecordRate => "records",
        Signal::LatencyP50 => "median latency",
        Signal::LatencyP99 => "p99 latency",
        Signal::MetricAverage | Signal::MetricRate => name.unwrap_or("metric"),
        Signal::MetricP99 => return format!("p99 of {}", plain(name, value, (low, high), why)),
        Signal::EventRate => "events",
    };
    format!("{what} {}, expected {}: {why}", number(signal, value), range(signal, low, high))
}

fn plain(name: Option<&str>, value: f64, (low, high): (f64, f64), why: &str) -> String {
    let range = range(Signal::MetricP99, low, high);
    format!("{} {}, expected {range}: {why}", name.unwrap_or("metric"), short(value))
}

/// 'no data for 4 min; before that there was data every minute'.
pub(super) fn of_silence(windows: u64, window_seconds: i64, share: f64) -> String {
    let silent = seconds(i64::try_from(windows).unwrap_or(i64::MAX).saturating_mul(window_seconds));
    let window = match window_seconds {
        1 => "second".to_owned(),
        60 => "minute".to_owned(),
        3_600 => "hour".to_owned(),
        other => seconds(other),
    };
    if share > 0.995 {
        format!("no data for {silent}; before that there was data every {window}")
    } else {
        let plural = if window_seconds == 1 || window_seconds == 60 || window_seconds == 3_600 {
            format!("{window}s")
        } else {
            format!("stretches of {window}")
        };
        format!("no data for {silent}; before that there was data in {:.0} % of the {plural}", share * 100.0)
    }
}

fn seconds(count: i64) -> String {
    if count < 120 && count % 60 != 0 {
        format!("{count} s")
    } else if count < 7_200 {
        format!("{} min", count / 60)
    } else if count < 172_800 {
        format!("{} h", count / 3_600)
    } else {
        format!("{} days", count / 86_400)
    }
}

fn number(signal: Signal, value: f64) -> String {
    match signal {
        Signal::ErrorRatio => format!("{} %", short(value * 100.0)),
        Signal::RequestRate | Signal::RecordRate | Signal::EventRate | Signal::MetricRate => {
            format!("{}/s", short(value))
        }
        Signal::LatencyP50 | Signal::LatencyP99 => {
            let (divisor, unit) = time_unit(value);
            format!("{} {unit}", short(value / divisor))
        }
        Signal::MetricAverage | Signal::MetricP99 => short(value),
    }
}

/// Both bounds in one unit.
fn range(signal: Signal, low: f64, high: f64) -> String {
    let (divisor, unit) = match signal {
        Signal::ErrorRatio => (0.01, " %"),
        Signal::RequestRate | Signal::RecordRate | Signal::EventRate | Signal::MetricRate => (1.0, "/s"),
        Signal::LatencyP50 | Signal::LatencyP99 => time_unit(high),
        Signal::MetricAverage | Signal::MetricP99 => (1.0, ""),
    };
    let space = if unit.len() > 1 && !unit.starts_with([' ', '/']) || unit == "s" { " " } else { "" };
    let (low, high) = (short(low / divisor), short(high / divisor));
    if low == high { format!("{low}{space}{unit}") } else { format!("{low}–{high}{space}{unit}") }
}

/// Microseconds in a unit that people read.
fn time_unit(micros: f64) -> (f64, &'static str) {
    match micros {
        1e6.. => (1e6, "s"),
        1e3.. => (1e3, "ms"),
        _ => (1.0, "µs"),
    }
}

/// Three digits that count; large numbers whole, very large ones with an exponent.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = (2 - size.log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_numbers_and_units() {
        let of = |signal, value, low, high| of_value(signal, Some("cpu"), value, (low, high), "why");
        assert_eq!(of(Signal::LatencyP99, 1.8e6, 1.1e5, 1.6e5), "p99 latency 1.8 s, expected 110–160 ms: why");
        assert_eq!(of(Signal::LatencyP50, 2.5e6, 1e6, 2e6), "median latency 2.5 s, expected 1–2 s: why");
        assert_eq!(of(Signal::ErrorRatio, 0.5, 0.0, 0.0123), "error ratio 50 %, expected 0–1.23 %: why");
        assert_eq!(of(Signal::RequestRate, 12.34, 100.0, 120.0), "requests 12.3/s, expected 100–120/s: why");
        assert_eq!(of(Signal::MetricAverage, 0.97, 0.2, 0.4), "cpu 0.97, expected 0.2–0.4: why");
        assert_eq!(of(Signal::MetricP99, 1e12, 5.0, 5.0), "p99 of cpu 1.00e12, expected 5: why");
    }

    #[test]
    fn silences_name_how_long_and_how_regular_it_was() {
        assert_eq!(of_silence(4, 60, 1.0), "no data for 4 min; before that there was data every minute");
        assert_eq!(of_silence(3, 60, 0.97), "no data for 3 min; before that there was data in 97 % of the minutes");
        assert_eq!(of_silence(3, 10, 1.0), "no data for 30 s; before that there was data every 10 s");
        assert_eq!(of_silence(40, 3_600, 1.0), "no data for 40 h; before that there was data every hour");
    }
}
