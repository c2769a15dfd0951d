//! Alert rules over complete windows.
//!
//! For: rules as written in the configuration ([`AlertConfig`]), checked and compiled ([`Rule`]), and what they say of
//! each group of values over time ([`Alerts`]): inactive, pending, firing, resolved; and, when late data changes the past,
//! retracted or corrected. A pure state machine: the same windows and late cells give the same events with the same
//! numbers, so that telling them twice changes nothing. Not for: when a window is complete ([`crate::watermark`]), or
//! sending anything anywhere.

mod alerts;
mod burn;
mod column;
mod config;
mod ending;
mod event;
mod facts;
mod group;
mod groups;
mod input;
mod key;
mod reason;
mod rows;
mod rule;
mod run;
mod stored;
mod timeline;
mod verdict;

#[cfg(test)]
mod beginnings;
#[cfg(test)]
mod tests;

pub use alerts::{Added, AlertCounts, AlertOptions, Alerts, AlertsError, GroupState};
pub use column::{columns, count_columns};
pub use config::{AlertConfig, AlertConfigError};
pub use event::{AlertEvent, Change};
pub use rows::{alert_rows, alert_schema};
pub use rule::{Rule, Severity};
pub use timeline::State;
