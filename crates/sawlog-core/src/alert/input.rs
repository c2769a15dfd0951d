//! What a group has in a window, reduced to what its rule needs, and whether the rule's condition holds.

use std::collections::BTreeMap;

use super::rule::{Condition, Rule, Share};
use crate::anomaly::Scored;
use crate::rollup::{Cell, PaneView, Rollup};
use crate::state_cell::{read_text, write_text};
use crate::varint;

/// What a group has in a window; late data is merged onto it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    /// Of thresholds: all that was counted.
    Cell(Rollup, Cell),
    /// Of ratios and burn rates: what is bad, and everything.
    Counts(u64, u64),
    /// Of anomalies: the highest score, and its reason.
    Score(f64, String),
    /// Of silences: that there is something.
    Seen,
}

/// Windows of a group by their start.
pub(super) type Inputs = BTreeMap<i64, Input>;

/// Whether a condition holds, and by what.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Verdict {
    pub(super) holds: bool,
    /// What was compared; `None` without data.
    pub(super) value: Option<f64>,
    /// Of ratios: what is bad, and everything. Of burn rates: burn of the long and of the short window.
    pub(super) pair: Option<(f64, f64)>,
    /// Of anomalies.
    pub(super) reason: Option<String>,
}

impl Input {
    pub(super) fn of_pane(rule: &Rule, pane: &PaneView<'_>) -> Self {
        match &rule.condition {
            Condition::Threshold { .. } => Self::Cell(pane.rollup, pane.cell.clone()),
            Condition::Ratio { share, .. } | Condition::BurnRate { share, .. } => {
                // Counts are whole and not below zero.
                let [bad, all] =
                    [share.numerator, share.denominator].map(|column| column.value(pane.cell).unwrap_or(0.0) as u64);
                Self::Counts(bad, all)
            }
            Condition::Silence | Condition::Anomaly { .. } => Self::Seen,
        }
    }

    /// Adds a cell of the same window and group.
    pub(super) fn add_pane(&mut self, rule: &Rule, pane: &PaneView<'_>) {
        match self {
            Self::Cell(_, mine) => mine.merge(pane.cell),
            _ => self.merge(&Self::of_pane(rule, pane)),
        }
    }

    pub(super) fn of_series(scored: &Scored) -> Self {
        Self::Score(scored.score, scored.reason.clone().unwrap_or_default())
    }

    pub(super) fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Cell(_, mine), Self::Cell(_, theirs)) => mine.merge(theirs),
            (Self::Counts(bad, all), Self::Counts(more_bad, more)) => {
                (*bad, *all) = (bad.saturating_add(*more_bad), all.saturating_add(*more));
            }
            (Self::Score(mine, reason), Self::Score(theirs, why)) if theirs > mine => {
                (*mine, *reason) = (*theirs, why.clone());
            }
            _ => {}
        }
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Cell(rollup, cell) => {
                out.extend_from_slice(&[0, rollup.byte()]);
                cell.write_to(out);
            }
            Self::Counts(bad, all) => {
                out.push(1);
                varint::write(out, *bad);
                varint::write(out, *all);
            }
            Self::Score(score, reason) => {
                out.push(2);
                out.extend_from_slice(&score.to_le_bytes());
                write_text(out, Some(reason));
            }
            Self::Seen => out.push(3),
        }
    }

    /// Reads an input, which ends with the bytes.
    pub(super) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        bytes = rest;
        let found = match kind {
            0 => {
                let (&rollup, cell) = bytes.split_first()?;
                let rollup = Rollup::of_byte(rollup)?;
                return Some(Self::Cell(rollup, Cell::from_bytes(rollup, cell).ok()?));
            }
            1 => Self::Counts(varint::read(&mut bytes)?, varint::read(&mut bytes)?),
            2 => {
                let (score, rest) = bytes.split_first_chunk::<8>()?;
                bytes = rest;
                Self::Score(f64::from_le_bytes(*score), read_text(&mut bytes)??)
            }
            3 => Self::Seen,
            _ => return None,
        };
        bytes.is_empty().then_some(found)
    }
}

/// Whether a rule's condition holds in the window that starts then. Never by a number that is not finite.
pub(super) fn judge(rule: &Rule, inputs: &Inputs, start: i64) -> Verdict {
    let input = inputs.get(&start);
    match (&rule.condition, input) {
        (Condition::Silence, input) => Verdict { holds: input.is_none(), ..Verdict::default() },
        (Condition::BurnRate { share, budget, factor, long, short }, _) => {
            let burn = |windows: i64| burn_rate(rule, share, *budget, inputs, start, windows);
            let (Some(long), Some(short)) = (burn(*long), burn(*short)) else { return Verdict::default() };
            let value = long.min(short);
            Verdict {
                holds: value.is_finite() && value >= *factor,
                value: Some(value),
                pair: Some((long, short)),
                reason: None,
            }
        }
        (Condition::Threshold { column, comparison, limit }, Some(Input::Cell(_, cell))) => {
            let value = column.value(cell);
            let holds = value.is_some_and(|value| comparison.holds(value, *limit));
            Verdict { holds, value, ..Verdict::default() }
        }
        (Condition::Ratio { share, comparison, limit }, Some(Input::Counts(bad, all))) => {
            let (bad, all) = (*bad as f64, *all as f64);
            if all < share.count_min {
                return Verdict::default();
            }
            let holds = comparison.holds(bad / all, *limit);
            Verdict { holds, value: Some(bad / all), pair: Some((bad, all)), reason: None }
        }
        (Condition::Anomaly { score: least, .. }, Some(Input::Score(score, reason))) => {
            let holds = score.is_finite() && score >= least;
            Verdict { holds, value: Some(*score), pair: None, reason: Some(reason.clone()) }
        }
        _ => Verdict::default(),
    }
}

/// How many times faster than allowed the budget was spent in the last windows.
fn burn_rate(rule: &Rule, share: &Share, budget: f64, inputs: &Inputs, start: i64, windows: i64) -> Option<f64> {
    let width = rule.width.micros();
    let from = start.saturating_sub((windows - 1).saturating_mul(width));
    let (mut bad, mut all) = (0.0, 0.0);
    for (_, input) in inputs.range(from..=start) {
        if let Input::Counts(more_bad, more) = input {
            bad += *more_bad as f64;
            all += *more as f64;
        }
    }
    (all >= share.count_min).then(|| bad / all / budget)
}
