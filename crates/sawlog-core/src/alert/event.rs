//! What alert rules tell.

use std::collections::BTreeMap;

use super::rule::Severity;
use super::timeline::State;

/// What has changed for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// The condition holds, not yet for long enough.
    Pending,
    /// It no longer holds, and never held for long enough.
    Inactive,
    /// It has held for long enough.
    Firing,
    /// It has not held for long enough, after it fired.
    Resolved,
    /// With late data: it should not have fired.
    Retracted,
    /// With late data: it should have fired, or have begun or ended at another time.
    Corrected,
}

impl Change {
    /// The name in columns.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Inactive => "inactive",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Retracted => "retracted",
            Self::Corrected => "corrected",
        }
    }
}

/// A change of a rule's group.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertEvent {
    /// Name of the rule.
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
    /// Dimensions and values of the group; `None` where records have no value.
    pub group: Vec<(&'static str, Option<String>)>,
    /// Numbers the events of a rule's group: later ones are larger, and the same event has the same number again.
    pub sequence: u64,
    /// What has changed.
    pub change: Change,
    /// How it is with the group after the event.
    pub state: State,
    /// End of the window in which the change happened, UTC microseconds; of a correction, where the firing begins.
    pub at: i64,
    /// End of the window in which the firing began; `None` when it never did.
    pub fired_at: Option<i64>,
    /// End of the window in which it was resolved; `None` while it was not.
    pub resolved_at: Option<i64>,
    /// The value in that window; `None` when there was none.
    pub value: Option<f64>,
    /// What the value was compared with.
    pub threshold: f64,
    /// Why, in words with numbers.
    pub reason: String,
    /// The rule's labels.
    pub labels: BTreeMap<String, String>,
    /// What the rule is about, for people.
    pub description: Option<String>,
}
