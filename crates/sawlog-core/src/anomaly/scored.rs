//! What a watch says of a series in a window.

use super::contributors::Contributor;
use super::detector::View;
use super::signal::Series;
use crate::window::Window;

/// How something is unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The value itself.
    Value,
    /// The level of the last values.
    LevelChange,
    /// The level of more of them.
    Drift,
    /// The value, or the level, for this time of day.
    Season,
    /// How much values differ.
    Spread,
    /// There is no data.
    Silence,
}

impl Kind {
    /// The name in columns.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::LevelChange => "level_change",
            Self::Drift => "drift",
            Self::Season => "season",
            Self::Spread => "spread",
            Self::Silence => "silence",
        }
    }
}

impl From<View> for Kind {
    fn from(view: View) -> Self {
        match view {
            View::Value => Self::Value,
            View::ShortLevel => Self::LevelChange,
            View::LongLevel => Self::Drift,
            View::TimeOfDay | View::TimeOfDayLevel => Self::Season,
            View::Spread => Self::Spread,
        }
    }
}

/// A series in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Which series.
    pub series: Series,
    /// Which window.
    pub window: Window,
    /// Its value: ratio, number per second, microseconds, or the metric's unit. `None` without data.
    pub value: Option<f64>,
    /// Least and largest expected value; `None` without data.
    pub expected: Option<(f64, f64)>,
    /// How surprising it is, 0 to 1.
    pub score: f64,
    /// Whether the score is at least the threshold.
    pub is_anomaly: bool,
    /// Start of the first window of the anomalies that this one follows, or of this window; `None` when it is none.
    pub episode_start: Option<i64>,
    /// How it is most unusual; `None` while nothing is known.
    pub kind: Option<Kind>,
    /// Why, in words with numbers and units; `None` when it is no anomaly.
    pub reason: Option<String>,
    /// Which services, versions and routes contribute most, at most three; only of anomalies of requests.
    pub contributors: Vec<Contributor>,
}
