//! Alerts in words, with numbers and units.

use super::rule::{Condition, Rule};
use super::verdict::Verdict;
use crate::anomaly::short;

/// Why a rule holds, or why it no longer does.
pub(super) fn of_verdict(rule: &Rule, verdict: &Verdict) -> String {
    let width = rule.width.name();
    match &rule.condition {
        Condition::Silence if verdict.holds => {
            format!("no data for {}", span(i64::from(rule.held_min).saturating_mul(rule.width.micros())))
        }
        Condition::Silence => "there is data again".to_owned(),
        Condition::Anomaly { score, .. } => match (&verdict.reason, verdict.value) {
            (Some(reason), _) if verdict.holds && !reason.is_empty() => reason.clone(),
            (_, Some(value)) => format!("anomaly score {}, limit {}", short(value), short(*score)),
            _ => format!("no data in the window of {width}"),
        },
        _ if verdict.value.is_none() => format!("too little data in the window of {width}"),
        Condition::Threshold { column, comparison, limit } => {
            let value = verdict.value.unwrap_or(f64::NAN);
            format!(
                "{} is {}, limit {} {}",
                column.name,
                number(column.name, value),
                comparison.sign(),
                number(column.name, *limit)
            )
        }
        Condition::Ratio { share, comparison, limit } => {
            let (bad, all) = verdict.pair.unwrap_or((f64::NAN, f64::NAN));
            let (numerator, denominator) = (share.numerator.name, share.denominator.name);
            let percent = short(bad / all * 100.0);
            format!(
                "{numerator} / {denominator} is {percent} % ({bad} of {all}), limit {} {} %",
                comparison.sign(),
                short(limit * 100.0)
            )
        }
        Condition::BurnRate { budget, factor, long, short: brief, .. } => {
            let (in_long, in_short) = verdict.pair.unwrap_or((f64::NAN, f64::NAN));
            let window = |windows: i64| span(windows.saturating_mul(rule.width.micros()));
            format!(
                "the budget of {} % is spent {} times too fast over {} and {} times over {}, limit {} times",
                short(budget * 100.0),
                short(in_long),
                window(*long),
                short(in_short),
                window(*brief),
                short(*factor)
            )
        }
    }
}

/// Durations with their unit.
fn number(column: &str, value: f64) -> String {
    if !column.ends_with("_us") {
        return short(value);
    }
    match value.abs() {
        1e6.. => format!("{} s", short(value / 1e6)),
        1e3.. => format!("{} ms", short(value / 1e3)),
        _ => format!("{} µs", short(value)),
    }
}

fn span(micros: i64) -> String {
    match micros / 1_000_000 {
        seconds if seconds % 86_400 == 0 && seconds >= 172_800 => format!("{} days", seconds / 86_400),
        seconds if seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
