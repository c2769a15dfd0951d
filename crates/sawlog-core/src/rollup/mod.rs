//! Rollups: what happened in each window, by key, as mergeable cells.
//!
//! For: requests and errors, metrics, activity, distinct users and most frequent values, in windows of 10 seconds, a
//! minute and an hour. A coarser window is made of the cells of the finer ones, never of the events again. Not for: when
//! a window is complete ([`crate::window`], [`crate::watermark`]) or where cells are kept. The same code makes the cells
//! in the binary, in Beam's workers and in Spark's executors.

mod admission;
mod cell;
mod deltas;
mod expired;
mod key;
mod pane;
mod recount;
mod rows;

#[cfg(test)]
mod tests;

pub use admission::{Admission, AdmissionError, Admit, OTHER};
pub use cell::{Activity, Cell, CellError, Metric, Part, Requests, Sample, Snapshot, TOP_CAPACITY};
pub(crate) use deltas::{Columns, text};
pub use deltas::{Deltas, RollupOptions, columns_read};
pub use expired::Expired;
pub use key::{decode, prefix_of, with_time};
pub use pane::{PaneCell, PaneTiming, PaneView, merge};
pub use recount::{AsStored, Correction, StoredWindows, reconcile};
pub use rows::{RollupRow, pane_schema, rollup_rows, rollup_schema};

/// What is rolled up, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rollup {
    /// Log records by service, version and route: counts, errors, latency.
    Requests,
    /// Metric points by metric, service, host and attributes.
    Metrics,
    /// Activity events by name, user segment and country.
    Activity,
    /// Distinct users: of everything, and by service.
    Users,
    /// Most frequent routes, users and errors.
    Top,
}

impl Rollup {
    /// All rollups.
    pub const ALL: [Self; 5] = [Self::Requests, Self::Metrics, Self::Activity, Self::Users, Self::Top];

    /// The name in tables: `rollup_NAME_WIDTH`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Metrics => "metrics",
            Self::Activity => "activity",
            Self::Users => "users",
            Self::Top => "top",
        }
    }

    /// Name of the warehouse table that keeps its panes; read it through the views of [`Rollup::name`], never summed raw.
    #[must_use]
    pub const fn pane_table(self) -> &'static str {
        match self {
            Self::Requests => "pane_requests",
            Self::Metrics => "pane_metrics",
            Self::Activity => "pane_activity",
            Self::Users => "pane_users",
            Self::Top => "pane_top",
        }
    }

    /// Names of the parts of a key, in order; they are columns too.
    #[must_use]
    pub const fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Requests => &["service", "service_version", "http_route"],
            Self::Metrics => &["metric_name", "service", "host", "series"],
            Self::Activity => &["event_name", "user_segment", "country"],
            Self::Users => &["service"],
            Self::Top => &["dimension"],
        }
    }

    /// Sort order of panes inside a file.
    #[must_use]
    pub const fn clustering(self) -> &'static [&'static str] {
        match self {
            Self::Requests => &["width", "service", "http_route", "window_start"],
            Self::Metrics => &["width", "metric_name", "service", "window_start"],
            Self::Activity => &["width", "event_name", "window_start"],
            Self::Users => &["width", "service", "window_start"],
            Self::Top => &["width", "dimension", "window_start"],
        }
    }

    /// First byte of its row keys.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Requests => b'q',
            Self::Metrics => b'm',
            Self::Activity => b'a',
            Self::Users => b'u',
            Self::Top => b't',
        }
    }

    /// The rollup whose row keys start with that byte.
    #[must_use]
    pub fn of_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|rollup| rollup.byte() == byte)
    }
}

/// Length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Width {
    /// Ten seconds.
    TenSeconds,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

impl Width {
    /// All lengths, shortest first.
    pub const ALL: [Self; 3] = [Self::TenSeconds, Self::Minute, Self::Hour];

    /// The length in names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TenSeconds => "10s",
            Self::Minute => "1m",
            Self::Hour => "1h",
        }
    }

    /// The length, microseconds.
    #[must_use]
    pub const fn micros(self) -> i64 {
        match self {
            Self::TenSeconds => 10_000_000,
            Self::Minute => 60_000_000,
            Self::Hour => 3_600_000_000,
        }
    }
}
