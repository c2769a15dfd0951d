//! Alert rules as written: `[[alerts]]` of the configuration.
//!
//! For: reading and checking; a mistake names rule, field and remedy. Reference with examples: docs/concepts/alerts.md.
//! Not for: what a rule does ([`super::rule`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::column::{Column, columns, count_columns};
use super::rule::{ANOMALY_DIMENSIONS, Comparison, Condition, Rule, Severity, Share};
use crate::anomaly::Signal;
use crate::rollup::{Rollup, Width};
use crate::value::{DurationUnit, duration_micros};

/// Groups of a rule when it does not say.
const GROUPS_MAX: usize = 1_000;
/// Score of an anomaly when the rule does not say: that of a watch.
const SCORE_MIN: f64 = 0.999;
/// Most windows that a duration of a rule may be.
const WINDOWS_MAX: i64 = 10_080;

/// A rule as written. Which fields it needs depends on `kind`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AlertConfig {
    /// Names it in events; each name once.
    pub name: String,
    /// `threshold`, `ratio`, `anomaly`, `silence` or `burn-rate`.
    pub kind: String,
    /// `requests` (when not given), `metrics`, `activity` or `users`; not of `anomaly`.
    pub rollup: Option<String>,
    /// Of `threshold`: the number.
    pub column: Option<String>,
    /// Of `threshold` and `ratio`: `>` (when not given), `>=`, `<`, `<=`.
    pub op: Option<String>,
    /// Of `threshold` and `ratio`: what it is compared with.
    pub value: Option<f64>,
    /// Of `ratio` and `burn-rate`: the count of what is bad; `error_count` when not given.
    pub numerator: Option<String>,
    /// Of `ratio` and `burn-rate`: the count of everything; `count` when not given.
    pub denominator: Option<String>,
    /// Of `ratio` and `burn-rate`: with a smaller count of everything nothing is said; 1 when not given.
    pub min_count: Option<u64>,
    /// Of `anomaly`: which signal; all when not given.
    pub signal: Option<String>,
    /// Of `anomaly`: least score; 0.999 when not given.
    pub score: Option<f64>,
    /// Of `burn-rate`: share of what must be good, percent.
    pub objective: Option<f64>,
    /// Of `burn-rate`: how many times too fast the budget is spent.
    pub factor: Option<f64>,
    /// Of `burn-rate`: the long window, such as `1h`.
    pub long: Option<String>,
    /// Of `burn-rate`: the short window, such as `5m`.
    pub short: Option<String>,
    /// Dimension and pattern (`*`, `?`): all must match.
    #[serde(rename = "where")]
    pub filter: BTreeMap<String, String>,
    /// Dimensions whose values are alerted on each on its own; without any all that matches is one group.
    pub group_by: Vec<String>,
    /// Length of the windows: `10s`, `1m` (when not given) or `1h`.
    pub width: Option<String>,
    /// How long it must hold before it fires; one window when not given.
    #[serde(rename = "for")]
    pub held: Option<String>,
    /// How long it must not hold before it is resolved; one window when not given.
    pub resolve_after: Option<String>,
    /// `info`, `warning` (when not given) or `critical`.
    pub severity: Severity,
    /// For those who are told.
    pub labels: BTreeMap<String, String>,
    /// What it is about, for people.
    pub description: Option<String>,
    /// Most groups; further ones are not alerted on, and counted. 1,000 when not given.
    pub max_groups: Option<usize>,
}

/// A mistake in a rule.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("alert {rule:?}, {field}: {problem}")]
pub struct AlertConfigError {
    /// Name of the rule, or its place (`#3`) when it has none.
    pub rule: String,
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub hint: String,
}

/// What is wrong with a field, and what to do about it.
type Mistake = (&'static str, String, String);

impl Rule {
    /// Checks rules and compiles them.
    ///
    /// # Errors
    /// All mistakes at once, each with its rule, field and remedy.
    pub fn compile(configs: &[AlertConfig]) -> Result<Vec<Self>, Vec<AlertConfigError>> {
        let (mut rules, mut errors, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (index, config) in configs.iter().enumerate() {
            let mut check = Check { config, mistakes: Vec::new() };
            if config.name.is_empty() {
                check.mistake("name", "it is missing".to_owned(), "give the rule a name of its own".to_owned());
            } else if !names.insert(&config.name) {
                check.mistake("name", "another rule has it".to_owned(), "give each rule a name of its own".to_owned());
            }
            rules.extend(check.rule());
            let rule = if config.name.is_empty() { format!("#{}", index + 1) } else { config.name.clone() };
            errors.extend(check.mistakes.into_iter().map(|(field, problem, hint)| AlertConfigError {
                rule: rule.clone(),
                field,
                problem,
                hint,
            }));
        }
        if errors.is_empty() { Ok(rules) } else { Err(errors) }
    }
}

struct Check<'a> {
    config: &'a AlertConfig,
    mistakes: Vec<Mistake>,
}

fn list(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

impl Check<'_> {
    fn mistake(&mut self, field: &'static str, problem: String, hint: String) {
        self.mistakes.push((field, problem, hint));
    }

    fn missing<T>(&mut self, field: &'static str, hint: &str) -> Option<T> {
        self.mistake(field, format!("a rule of kind {:?} needs it", self.config.kind), hint.to_owned());
        None
    }

    fn rule(&mut self) -> Option<Rule> {
        let config = self.config;
        self.refuse_fields_of_other_kinds();
        let width = self.width();
        let rollup = if config.kind == "anomaly" { None } else { Some(self.rollup()?) };
        let dimensions = rollup.map_or(ANOMALY_DIMENSIONS.as_slice(), Rollup::parts);
        let group_by: Vec<_> =
            config.group_by.iter().filter_map(|name| self.dimension("group-by", name, dimensions)).collect();
        let filter = config.filter.iter();
        let filter: Vec<_> = filter
            .filter_map(|(name, pattern)| Some((self.dimension("where", name, dimensions)?, pattern.clone())))
            .collect();
        let held = self.windows("for", config.held.as_deref(), width?);
        let clear = self.windows("resolve-after", config.resolve_after.as_deref(), width?);
        let condition = match (config.kind.as_str(), rollup) {
            ("threshold", Some(rollup)) => self.threshold(rollup, &group_by),
            ("ratio", Some(rollup)) => self.ratio(rollup),
            ("burn-rate", Some(rollup)) => self.burn_rate(rollup, width?),
            ("anomaly", None) => self.anomaly(),
            ("silence", _) => Some(Condition::Silence),
            _ => {
                let problem = format!("{:?} is no kind of rule", config.kind);
                self.mistake("kind", problem, "use threshold, ratio, anomaly, silence or burn-rate".to_owned());
                None
            }
        };
        let identity = format!(
            "{:?}",
            AlertConfig { severity: Severity::default(), labels: BTreeMap::new(), description: None, ..config.clone() }
        );
        Some(Rule {
            name: config.name.clone(),
            condition: condition?,
            rollup,
            filter,
            group_by,
            width: width?,
            held_min: held?,
            clear_min: clear?,
            severity: config.severity,
            labels: config.labels.clone(),
            description: config.description.clone(),
            groups_max: config.max_groups.unwrap_or(GROUPS_MAX),
            fingerprint: xxh3_64(identity.as_bytes()),
        })
    }

    fn refuse_fields_of_other_kinds(&mut self) {
        let config = self.config;
        let kind = config.kind.as_str();
        let given: [(&'static str, bool, &[&str]); 13] = [
            ("rollup", config.rollup.is_some(), &["threshold", "ratio", "silence", "burn-rate"]),
            ("column", config.column.is_some(), &["threshold"]),
            ("op", config.op.is_some(), &["threshold", "ratio"]),
            ("value", config.value.is_some(), &["threshold", "ratio"]),
            ("numerator", config.numerator.is_some(), &["ratio", "burn-rate"]),
            ("denominator", config.denominator.is_some(), &["ratio", "burn-rate"]),
            ("min-count", config.min_count.is_some(), &["ratio", "burn-rate"]),
            ("signal", config.signal.is_some(), &["anomaly"]),
            ("score", config.score.is_some(), &["anomaly"]),
            ("objective", config.objective.is_some(), &["burn-rate"]),
            ("factor", config.factor.is_some(), &["burn-rate"]),
            ("long", config.long.is_some(), &["burn-rate"]),
            ("short", config.short.is_some(), &["burn-rate"]),
        ];
        for (field, is_given, kinds) in given {
            if is_given && !kinds.contains(&kind) {
                let problem = format!("a rule of kind {kind:?} has none");
                self.mistake(field, problem, format!("remove it, or use the kind {}", kinds.join(" or ")));
            }
        }
    }

    fn width(&mut self) -> Option<Width> {
        let text = self.config.width.as_deref().unwrap_or(Width::Minute.name());
        let found = Width::ALL.into_iter().find(|width| width.name() == text);
        if found.is_none() {
            self.mistake("width", format!("{text:?} is no width of windows"), "use 10s, 1m or 1h".to_owned());
        }
        found
    }

    fn rollup(&mut self) -> Option<Rollup> {
        let text = self.config.rollup.as_deref().unwrap_or(Rollup::Requests.name());
        let usable = Rollup::ALL.into_iter().filter(|rollup| *rollup != Rollup::Top);
        let found = usable.clone().find(|rollup| rollup.name() == text);
        if found.is_none() {
            let hint = format!("use one of {}", list(usable.map(Rollup::name)));
            self.mistake("rollup", format!("{text:?} is no rollup that rules can be about"), hint);
        }
        found
    }

    fn dimension(&mut self, field: &'static str, name: &str, dimensions: &[&'static str]) -> Option<&'static str> {
        let found = dimensions.iter().find(|known| **known == name).copied();
        if found.is_none() {
            let hint = format!("use {}", list(dimensions.iter().copied()));
            self.mistake(field, format!("{name:?} is no dimension of what the rule is about"), hint);
        }
        found
    }

    /// A duration in whole windows; one when not given.
    fn windows(&mut self, field: &'static str, text: Option<&str>, width: Width) -> Option<u32> {
        let Some(text) = text else { return Some(1) };
        let micros = duration_micros(text.as_bytes(), DurationUnit::Seconds);
        let windows = micros.filter(|micros| micros % width.micros() == 0).map(|micros| micros / width.micros());
        let found = windows.filter(|windows| (1..=WINDOWS_MAX).contains(windows));
        if found.is_none() {
            let problem = format!("{text:?} is no duration of 1 to {WINDOWS_MAX} windows of {}", width.name());
            self.mistake(field, problem, format!("use a multiple of {}, such as 5m", width.name()));
        }
        found.and_then(|windows| u32::try_from(windows).ok())
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let text = self.config.op.as_deref().unwrap_or(">");
        let found = Comparison::of(text);
        if found.is_none() {
            self.mistake("op", format!("{text:?} is no comparison"), "use >, >=, < or <=".to_owned());
        }
        found
    }

    fn finite(&mut self, field: &'static str, value: Option<f64>, hint: &str) -> Option<f64> {
        let Some(value) = value else { return self.missing(field, hint) };
        if !value.is_finite() {
            self.mistake(field, format!("{value} is no finite number"), hint.to_owned());
            return None;
        }
        Some(value)
    }

    fn threshold(&mut self, rollup: Rollup, group_by: &[&'static str]) -> Option<Condition> {
        let hint = format!("use one of {}", list(columns(rollup)));
        let column = match self.config.column.as_deref() {
            None => self.missing("column", &hint),
            Some(name) => {
                let found = Column::of(rollup, name);
                if found.is_none() {
                    self.mistake("column", format!("the rollup {} has no number {name:?}", rollup.name()), hint);
                }
                found
            }
        };
        let is_of_one_series = rollup.parts().iter().all(|part| group_by.contains(part));
        if column.is_some_and(|column| column.is_of_series) && !is_of_one_series {
            let problem = "it means something only of a single series".to_owned();
            self.mistake(
                "column",
                problem,
                format!("group by {}, or use avg, min, max or sum", list(rollup.parts().iter().copied())),
            );
        }
        let comparison = self.comparison();
        let limit = self.finite("value", self.config.value, "give the number to compare with");
        Some(Condition::Threshold { column: column?, comparison: comparison?, limit: limit? })
    }

    fn ratio(&mut self, rollup: Rollup) -> Option<Condition> {
        let share = self.share(rollup);
        let comparison = self.comparison();
        let limit = self.finite("value", self.config.value, "give the share to compare with, such as 0.05 for 5 %");
        Some(Condition::Ratio { share: share?, comparison: comparison?, limit: limit? })
    }

    fn share(&mut self, rollup: Rollup) -> Option<Share> {
        let numerator =
            self.count_column("numerator", self.config.numerator.as_deref().unwrap_or("error_count"), rollup);
        let denominator =
            self.count_column("denominator", self.config.denominator.as_deref().unwrap_or("count"), rollup);
        let count_min = self.config.min_count.unwrap_or(1).max(1) as f64;
        Some(Share { numerator: numerator?, denominator: denominator?, count_min })
    }

    fn count_column(&mut self, field: &'static str, name: &str, rollup: Rollup) -> Option<Column> {
        let found = Column::of(rollup, name).filter(|column| column.is_count);
        if found.is_none() {
            let hint = format!("use one of {}", list(count_columns(rollup)));
            self.mistake(field, format!("the rollup {} has no count {name:?}", rollup.name()), hint);
        }
        found
    }

    fn anomaly(&mut self) -> Option<Condition> {
        let signal = match self.config.signal.as_deref() {
            None => None,
            Some(name) => {
                let found = Signal::ALL.into_iter().find(|signal| signal.name() == name);
                if found.is_none() {
                    let hint = format!("use one of {}", list(Signal::ALL.into_iter().map(Signal::name)));
                    self.mistake("signal", format!("{name:?} is no signal"), hint);
                }
                Some(found?)
            }
        };
        let score = self.config.score.unwrap_or(SCORE_MIN);
        if !(0.0..=1.0).contains(&score) || score == 0.0 {
            self.mistake("score", format!("{score} is no score"), "use a number above 0, up to 1".to_owned());
        }
        Some(Condition::Anomaly { signal, score })
    }

    fn burn_rate(&mut self, rollup: Rollup, width: Width) -> Option<Condition> {
        let share = self.share(rollup);
        let config = self.config;
        let objective =
            self.finite("objective", config.objective, "give the percentage that must be good, such as 99.9");
        if objective.is_some_and(|objective| objective <= 0.0 || objective >= 100.0) {
            self.mistake(
                "objective",
                "it is not between 0 and 100".to_owned(),
                "give a percentage such as 99.9".to_owned(),
            );
        }
        let factor = self.finite("factor", config.factor, "give a number such as 14.4");
        if factor.is_some_and(|factor| factor <= 0.0) {
            self.mistake("factor", "it is not above 0".to_owned(), "give a number such as 14.4".to_owned());
        }
        let long = match config.long.as_deref() {
            None => self.missing("long", "give a duration such as 1h"),
            long => self.windows("long", long, width),
        };
        let short = match config.short.as_deref() {
            None => self.missing("short", "give a twelfth of the long window, such as 5m"),
            short => self.windows("short", short, width),
        };
        let (long, short) = (i64::from(long?), i64::from(short?));
        if short >= long {
            self.mistake(
                "short",
                "it is not shorter than the long window".to_owned(),
                "give a twelfth of the long one".to_owned(),
            );
        }
        // 99.9 % leaves 0.1 %.
        let budget = 1.0 - objective? / 100.0;
        Some(Condition::BurnRate { share: share?, budget, factor: factor?, long, short })
    }
}
