//! Whether a rule's condition holds in a window, and by what.
//!
//! For: going over the windows of a group in order. Not for: for how long it has held ([`super::timeline`]).

use super::burn::BurnRate;
use super::input::{Input, Inputs};
use super::rule::{Condition, Rule};

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

/// Gives verdicts on windows of a group, each later than the one before.
pub(super) struct Verdicts<'a> {
    rule: &'a Rule,
    inputs: &'a Inputs,
    /// Of rules about a burn rate: over the long and over the short window.
    burn: Option<(BurnRate<'a>, BurnRate<'a>)>,
}

impl<'a> Verdicts<'a> {
    pub(super) fn new(rule: &'a Rule, inputs: &'a Inputs) -> Self {
        let burn = match &rule.condition {
            Condition::BurnRate { share, budget, long, short, .. } => {
                let over = |windows| BurnRate::new(inputs, share, *budget, rule.width, windows);
                Some((over(*long), over(*short)))
            }
            _ => None,
        };
        Self { rule, inputs, burn }
    }

    /// Whether the condition holds in the window that starts then. Never by a number that is not finite.
    pub(super) fn at(&mut self, start: i64) -> Verdict {
        let input = self.inputs.get(&start);
        match (&self.rule.condition, input) {
            (Condition::Silence, input) => Verdict { holds: input.is_none(), ..Verdict::default() },
            (Condition::BurnRate { factor, .. }, _) => self.burn_at(start, *factor),
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

    fn burn_at(&mut self, start: i64, factor: f64) -> Verdict {
        let rates = self.burn.as_mut().map(|(long, short)| (long.at(start), short.at(start)));
        let Some((Some(long), Some(short))) = rates else { return Verdict::default() };
        let value = long.min(short);
        let holds = value.is_finite() && value >= factor;
        Verdict { holds, value: Some(value), pair: Some((long, short)), reason: None }
    }
}
