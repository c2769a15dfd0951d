//! A rule, checked: what [`super::AlertConfig`] says, in types that cannot say anything else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::column::Column;
use crate::anomaly::{Series, Signal};
use crate::glob;
use crate::rollup::{OTHER, PaneView, Part, Rollup, Width};
use crate::window::{Window, floor};

/// How much an alert matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth looking at today.
    #[default]
    Warning,
    /// Worth waking somebody.
    Critical,
}

impl Severity {
    /// The name in columns.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Comparison {
    pub(super) fn of(text: &str) -> Option<Self> {
        Some(match text {
            ">" => Self::Above,
            ">=" => Self::AtLeast,
            "<" => Self::Below,
            "<=" => Self::AtMost,
            _ => return None,
        })
    }

    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
        }
    }

    /// Never of what is not a number, and never of an infinity.
    pub(super) fn holds(self, value: f64, limit: f64) -> bool {
        value.is_finite()
            && match self {
                Self::Above => value > limit,
                Self::AtLeast => value >= limit,
                Self::Below => value < limit,
                Self::AtMost => value <= limit,
            }
    }
}

/// A share of one count in another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Share {
    pub(super) numerator: Column,
    pub(super) denominator: Column,
    /// Below so many in the denominator nothing is said.
    pub(super) count_min: f64,
}

/// When a rule holds in a window.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    Threshold { column: Column, comparison: Comparison, limit: f64 },
    Ratio { share: Share, comparison: Comparison, limit: f64 },
    Anomaly { signal: Option<Signal>, score: f64 },
    Silence,
    BurnRate { share: Share, budget: f64, factor: f64, long: i64, short: i64 },
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub(super) name: String,
    pub(super) condition: Condition,
    /// `None` for anomalies.
    pub(super) rollup: Option<Rollup>,
    /// Dimension and pattern, all of which must match.
    pub(super) filter: Vec<(&'static str, String)>,
    pub(super) group_by: Vec<&'static str>,
    pub(super) width: Width,
    /// Windows in a row for which it must hold before it fires.
    pub(super) held_min: u32,
    /// Windows in a row for which it must not hold before it is resolved.
    pub(super) clear_min: u32,
    pub(super) severity: Severity,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) description: Option<String>,
    pub(super) groups_max: usize,
    /// Hash of what its state depends on.
    pub(super) fingerprint: u64,
}

impl Rule {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length of its windows.
    #[must_use]
    pub const fn width(&self) -> Width {
        self.width
    }

    /// The rollup whose cells it is about; `None` when it is about anomalies.
    #[must_use]
    pub const fn rollup(&self) -> Option<Rollup> {
        self.rollup
    }

    /// How much it matters.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    /// Labels for those who are told.
    #[must_use]
    pub const fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// What it is about, for people.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Whether its windows are as wide as this one, and begin when it does.
    pub(super) fn has_window(&self, window: Window) -> bool {
        let width = self.width.micros();
        window.end.saturating_sub(window.start) == width && floor(window.start, width) == window.start
    }

    /// What values are compared with: number, share, score, or times too fast; 0 for silences.
    pub(super) const fn limit(&self) -> f64 {
        match self.condition {
            Condition::Threshold { limit, .. } | Condition::Ratio { limit, .. } => limit,
            Condition::Anomaly { score, .. } => score,
            Condition::BurnRate { factor, .. } => factor,
            Condition::Silence => 0.0,
        }
    }

    /// What of a cell it needs.
    pub(super) const fn part(&self) -> Part {
        match self.condition {
            Condition::Threshold { column, .. } => column.part,
            _ => Part::Numbers,
        }
    }

    /// Windows before the one at hand that it looks at.
    pub(super) const fn lookback(&self) -> i64 {
        match self.condition {
            Condition::BurnRate { long, .. } => long - 1,
            _ => 0,
        }
    }

    /// Values of the group that a cell is in; `None` when the rule is not about it.
    pub(super) fn group_of_pane(&self, pane: &PaneView<'_>) -> Option<Vec<Option<String>>> {
        if self.rollup != Some(pane.rollup) {
            return None;
        }
        let group = self.group(|name| pane.part(name))?;
        // Which keys are counted together beyond the limit of series changes: that there are none means nothing.
        let is_of_others = group.iter().any(|value| value.as_deref() == Some(OTHER));
        (self.condition != Condition::Silence || !is_of_others).then_some(group)
    }

    /// Whether cells of a key are in a group.
    pub(super) fn is_about(&self, rollup: Rollup, parts: &[Option<String>]) -> bool {
        let value = |name: &str| {
            let at = rollup.parts().iter().position(|part| *part == name)?;
            parts.get(at)?.as_deref()
        };
        self.rollup == Some(rollup) && self.group(value).is_some()
    }

    /// Values of the group that a series is in; `None` when the rule is not about it.
    pub(super) fn group_of_series(&self, series: &Series) -> Option<Vec<Option<String>>> {
        let Condition::Anomaly { signal, .. } = self.condition else { return None };
        if signal.is_some_and(|signal| signal != series.signal) {
            return None;
        }
        self.group(|name| match name {
            "signal" => Some(series.signal.name()),
            "scope" => Some(series.scope.name()),
            "service" => series.service.as_deref(),
            "metric_name" => series.metric_name.as_deref(),
            "host" => series.host.as_deref(),
            "series" => series.attributes.as_deref(),
            "event_name" => series.event_name.as_deref(),
            _ => None,
        })
    }

    fn group<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Option<Vec<Option<String>>> {
        let is_meant =
            |(name, pattern): &(&'static str, String)| value(name).is_some_and(|found| glob::is_match(pattern, found));
        let group = || self.group_by.iter().map(|name| value(name).map(ToOwned::to_owned)).collect();
        self.filter.iter().all(is_meant).then(group)
    }
}

/// Dimensions of anomalies by which rules filter and group.
pub(super) const ANOMALY_DIMENSIONS: [&str; 7] =
    ["signal", "scope", "service", "metric_name", "host", "series", "event_name"];
