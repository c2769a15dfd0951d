//! What a stream shall be like.
//!
//! For: the settings of a stream, presets, and their checks. Not for: making it ([`crate::Generator`]).

use crate::rhythm::SECOND;
use crate::topology::SERVICES;
use crate::visitor::Users;

/// Bounds of [`Scenario::events_per_second`].
pub const EVENTS_PER_SECOND_MIN: f64 = 0.01;
/// See [`EVENTS_PER_SECOND_MIN`].
pub const EVENTS_PER_SECOND_MAX: f64 = 1e8;
/// Largest share of records that may have a defect.
pub const DEFECT_RATIO_MAX: f64 = 0.9;
/// Most users of a scenario.
pub const USERS_MAX: u32 = 100_000_000;
/// Bounds of [`Scenario::start_micros`]: 1990-01-01 and 2200-01-01.
pub const START_MICROS_MIN: i64 = 631_152_000 * SECOND;
/// See [`START_MICROS_MIN`].
pub const START_MICROS_MAX: i64 = 7_258_118_400 * SECOND;

/// Monday 2026-01-05 00:00 UTC, where the presets start.
const PRESET_START_MICROS: i64 = 1_767_571_200 * SECOND;

/// Text form of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON object for each record, as `POST /v1/events` takes them.
    #[default]
    Ndjson,
    /// Apache combined access lines; one for each request.
    Combined,
    /// RFC 5424 syslog lines with structured data.
    Syslog5424,
    /// `key=value` pairs.
    Logfmt,
}

/// Shares of the kinds of records, as weights: `1, 1, 2` is the same as `25, 25, 50`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// Weight of log records.
    pub logs: f64,
    /// Weight of metric points.
    pub metrics: f64,
    /// Weight of activity events.
    pub activity: f64,
}

impl Mix {
    /// Log records only.
    pub const LOGS: Self = Self { logs: 1.0, metrics: 0.0, activity: 0.0 };

    /// Weights that add up to 1.
    pub(crate) fn shares(self) -> Self {
        let sum = self.logs + self.metrics + self.activity;
        Self { logs: self.logs / sum, metrics: self.metrics / sum, activity: self.activity / sum }
    }
}

/// Settings of a stream. Two generators with the same scenario give the same bytes, on any machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Any number; each gives another stream.
    pub seed: u64,
    /// Stream time of the first record, in microseconds since 1970.
    pub start_micros: i64,
    /// Mean rate over whole weeks, all kinds and defects together. With [`Scenario::rhythm`] single hours are
    /// slower or faster.
    pub events_per_second: f64,
    /// Text form of the records.
    pub format: Format,
    /// Shares of the kinds of records.
    pub mix: Mix,
    /// Share of records whose event time is 2 minutes to 12 hours behind their send time.
    pub late_ratio: f64,
    /// Share of records that repeat an earlier one byte for byte, within an hour.
    pub duplicate_ratio: f64,
    /// Share of records that cannot be parsed.
    pub malformed_ratio: f64,
    /// Whether things go wrong on a schedule (see [`crate::Generator::incidents_until`]).
    pub incidents: bool,
    /// Whether the rate follows the hours of the day and the days of the week (UTC).
    pub rhythm: bool,
    /// Number of users; few of them make most of the traffic.
    pub users: u32,
    /// What decides country, segment and device of each user; `None`: the seed.
    pub user_seed: Option<u64>,
    /// How many of the twelve services take part, counted from the gateway inwards.
    pub services: u8,
    /// Whether logs and activity events have an `insert_id` (NDJSON, syslog and logfmt).
    pub insert_ids: bool,
}

impl Scenario {
    /// Logs only, about 600 B each with 12 fields or more, a nested object and a label map, no defects, steady rate:
    /// what the benches read.
    #[must_use]
    pub const fn bench() -> Self {
        Self {
            seed: 1,
            start_micros: PRESET_START_MICROS,
            events_per_second: 100_000.0,
            format: Format::Ndjson,
            mix: Mix::LOGS,
            late_ratio: 0.0,
            duplicate_ratio: 0.0,
            malformed_ratio: 0.0,
            incidents: false,
            rhythm: false,
            users: 100_000,
            user_seed: None,
            services: SERVICES.len() as u8,
            insert_ids: true,
        }
    }

    /// A shop with everything: all kinds, incidents, rhythm and a few defects.
    #[must_use]
    pub const fn demo() -> Self {
        Self {
            seed: 2026,
            start_micros: PRESET_START_MICROS,
            events_per_second: 200.0,
            format: Format::Ndjson,
            mix: Mix { logs: 0.68, metrics: 0.14, activity: 0.18 },
            late_ratio: 0.01,
            duplicate_ratio: 0.005,
            malformed_ratio: 0.002,
            incidents: true,
            rhythm: true,
            users: 20_000,
            user_seed: None,
            services: SERVICES.len() as u8,
            insert_ids: true,
        }
    }

    /// All users as CSV: `user_id`, `user_segment`, `country`, in the order of their popularity.
    ///
    /// # Errors
    /// If the scenario is not usable ([`Scenario::validate`]).
    pub fn users_csv(&self) -> Result<Vec<u8>, ScenarioError> {
        self.validate()?;
        let mut out = Vec::new();
        Users::of(self).write_csv(&mut out);
        Ok(out)
    }

    /// Checks all settings.
    ///
    /// # Errors
    /// The first setting that is not usable, with the remedy in [`ScenarioError::hint`].
    pub fn validate(&self) -> Result<(), ScenarioError> {
        if !(EVENTS_PER_SECOND_MIN..=EVENTS_PER_SECOND_MAX).contains(&self.events_per_second) {
            return Err(ScenarioError::Rate { events_per_second: self.events_per_second });
        }
        if !(START_MICROS_MIN..=START_MICROS_MAX).contains(&self.start_micros) {
            return Err(ScenarioError::Start { start_micros: self.start_micros });
        }
        if self.users == 0 || self.users > USERS_MAX {
            return Err(ScenarioError::Users { users: self.users });
        }
        if self.services == 0 || usize::from(self.services) > SERVICES.len() {
            return Err(ScenarioError::Services { services: self.services });
        }
        self.validate_mix()?;
        self.validate_ratios()
    }

    fn validate_mix(&self) -> Result<(), ScenarioError> {
        let Mix { logs, metrics, activity } = self.mix;
        for (field, weight) in [("mix.logs", logs), ("mix.metrics", metrics), ("mix.activity", activity)] {
            // The upper bound keeps the sum of three weights finite.
            if !(0.0..=1e12).contains(&weight) {
                return Err(ScenarioError::Weight { field, weight });
            }
        }
        if logs + metrics + activity < 1e-9 {
            return Err(ScenarioError::MixEmpty);
        }
        if self.format != Format::Ndjson && (metrics > 0.0 || activity > 0.0) {
            return Err(ScenarioError::FormatHoldsLogsOnly { format: self.format });
        }
        Ok(())
    }

    fn validate_ratios(&self) -> Result<(), ScenarioError> {
        let ratios = [
            ("late_ratio", self.late_ratio),
            ("duplicate_ratio", self.duplicate_ratio),
            ("malformed_ratio", self.malformed_ratio),
        ];
        for (field, ratio) in ratios {
            if !(0.0..=DEFECT_RATIO_MAX).contains(&ratio) {
                return Err(ScenarioError::Ratio { field, ratio });
            }
        }
        let sum = ratios.iter().map(|(_, ratio)| ratio).sum();
        if sum > DEFECT_RATIO_MAX + 1e-9 {
            return Err(ScenarioError::RatioSum { sum });
        }
        Ok(())
    }
}

/// A setting that is not usable.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScenarioError {
    /// Rate outside its bounds.
    #[error("events_per_second is {events_per_second}")]
    Rate {
        /// The value given.
        events_per_second: f64,
    },
    /// Start outside the years 1990 to 2199.
    #[error("start_micros is {start_micros}")]
    Start {
        /// The value given.
        start_micros: i64,
    },
    /// No users or too many.
    #[error("users is {users}")]
    Users {
        /// The value given.
        users: u32,
    },
    /// No services or more than there are.
    #[error("services is {services}")]
    Services {
        /// The value given.
        services: u8,
    },
    /// A weight that is no weight.
    #[error("{field} is {weight}")]
    Weight {
        /// The setting.
        field: &'static str,
        /// The value given.
        weight: f64,
    },
    /// All weights are zero.
    #[error("mix has no kind of record with a weight above zero")]
    MixEmpty,
    /// A line format with metrics or activity events.
    #[error("format {format:?} cannot hold the metrics and activity events of mix")]
    FormatHoldsLogsOnly {
        /// The value given.
        format: Format,
    },
    /// A ratio outside its bounds.
    #[error("{field} is {ratio}")]
    Ratio {
        /// The setting.
        field: &'static str,
        /// The value given.
        ratio: f64,
    },
    /// Too many defects in all.
    #[error("late_ratio, duplicate_ratio and malformed_ratio add up to {sum}")]
    RatioSum {
        /// Their sum.
        sum: f64,
    },
}

impl ScenarioError {
    /// The setting in question.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Rate { .. } => "events_per_second",
            Self::Start { .. } => "start_micros",
            Self::Users { .. } => "users",
            Self::Services { .. } => "services",
            Self::Weight { field, .. } | Self::Ratio { field, .. } => field,
            Self::MixEmpty => "mix",
            Self::FormatHoldsLogsOnly { .. } => "format",
            Self::RatioSum { .. } => "malformed_ratio",
        }
    }

    /// What to do now.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Rate { .. } => "choose a rate from 0.01 to 100000000 events per second",
            Self::Start { .. } => {
                "give microseconds since 1970 (not seconds or milliseconds) in the years 1990 to 2199"
            }
            Self::Users { .. } => "choose 1 to 100000000 users",
            Self::Services { .. } => "choose 1 to 12 services",
            Self::Weight { .. } => "choose a weight from 0 to 1e12; 0 leaves the kind out",
            Self::MixEmpty => "give at least one of mix.logs, mix.metrics and mix.activity a weight above 0",
            Self::FormatHoldsLogsOnly { .. } => "set mix to Mix::LOGS, or format to Format::Ndjson",
            Self::Ratio { .. } => "choose a share from 0 to 0.9, for example 0.01 for one record in a hundred",
            Self::RatioSum { .. } => "lower them until they add up to 0.9 or less, so that sound records remain",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid() {
        assert_eq!(Scenario::bench().validate(), Ok(()));
        assert_eq!(Scenario::demo().validate(), Ok(()));
    }

    #[track_caller]
    fn check(field: &str, change: impl FnOnce(&mut Scenario)) {
        let mut scenario = Scenario::demo();
        change(&mut scenario);
        let error = scenario.validate().expect_err("the scenario is not usable");
        assert_eq!(error.field(), field);
        let named = field.split('.').next().expect("a split has a first part");
        assert!(error.to_string().contains(named), "{error} does not name {field}");
        assert!(!error.hint().is_empty());
    }

    #[test]
    fn every_error_names_its_field_and_a_remedy() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            check("events_per_second", |scenario| scenario.events_per_second = rate);
        }
        for start in [0, 1_767_571_200, i64::MIN, i64::MAX] {
            check("start_micros", |scenario| scenario.start_micros = start);
        }
        check("users", |scenario| scenario.users = 0);
        check("users", |scenario| scenario.users = u32::MAX);
        check("services", |scenario| scenario.services = 0);
        check("services", |scenario| scenario.services = 13);
        check("mix.logs", |scenario| scenario.mix.logs = -0.1);
        check("mix.metrics", |scenario| scenario.mix.metrics = f64::NAN);
        check("mix.activity", |scenario| scenario.mix.activity = f64::INFINITY);
        check("mix", |scenario| scenario.mix = Mix { logs: 0.0, metrics: 0.0, activity: 0.0 });
        check("format", |scenario| scenario.format = Format::Combined);
        check("late_ratio", |scenario| scenario.late_ratio = 1.0);
        check("duplicate_ratio", |scenario| scenario.duplicate_ratio = -0.5);
        check("malformed_ratio", |scenario| scenario.malformed_ratio = f64::NAN);
        check("malformed_ratio", |scenario| {
            (scenario.late_ratio, scenario.duplicate_ratio, scenario.malformed_ratio) = (0.5, 0.3, 0.2);
        });
    }
}
