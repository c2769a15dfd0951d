//! All alert rules, and how it is with each of their groups.
//!
//! For: going on with each complete window, and setting right what late data changes. Not for: what a single
//! rule does in a window ([`super::run`]).
//!
//! Rules: a window is judged when it is complete, with what came in time; so late data causes no false alarm. Windows of
//! a width come in order; one that is not later than the last is ignored and counted. A window that is left out is one
//! without data. Late cells of the last `allowed_lateness` are merged onto what the window had, and everything since is gone
//! over again; what comes later still is ignored and counted. Anomalies are judged once.

use std::collections::{BTreeMap, BTreeSet};

use super::ending::{Endings, FormerRule, end_group};
use super::event::AlertEvent;
use super::facts::RuleFacts;
use super::group::Group;
use super::groups::Groups;
use super::input::Input;
use super::key::Key;
use super::rule::{Condition, Rule};
use super::run::{RuleGroups, Run, named};
use super::stored::StoredRule;
use super::timeline::State;
use crate::anomaly::Scored;
use crate::rollup::{PaneView, Rollup, Width};
use crate::state_cell::StateCell;
use crate::window::{Window, floor};

/// What came late for a window.
pub type Added<'a> = (Window, Vec<PaneView<'a>>);

/// Of groups and inputs.
const VERSION: u8 = 1;

/// Settings of alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertOptions {
    /// For how long after its end a window may still change, microseconds: that of the windows.
    pub allowed_lateness: i64,
}

/// What alerts have done since their state began, or since the rule was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertCounts {
    /// Groups that are known.
    pub groups: u64,
    /// Values of groups for which there was no room.
    pub refused_values: u64,
    /// Windows that were not later than the last.
    pub ignored_windows: u64,
    /// Late cells of windows that take no more.
    pub ignored_late: u64,
}

/// How it is with a group that is pending or firing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// Name of the rule.
    pub rule: String,
    /// Dimensions and values of the group.
    pub group: Vec<(&'static str, Option<String>)>,
    /// Pending or firing.
    pub state: State,
    /// End of the window in which it began to fire; `None` while pending.
    pub fired_at: Option<i64>,
}

/// Bytes that are no state of alerts.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no state of alerts that this version reads")]
pub struct AlertsError;

/// All rules and their groups.
#[derive(Clone, Debug)]
pub struct Alerts {
    options: AlertOptions,
    /// By name.
    rules: BTreeMap<String, RuleGroups>,
    /// Keys of parts that changed, or are no more, since they were last taken.
    changed: BTreeSet<Vec<u8>>,
    /// Of rules that are no more as they were when the state was stored.
    endings: Endings,
}

impl Alerts {
    /// Rules of which nothing is known yet.
    #[must_use]
    pub fn new(rules: Vec<Rule>, options: AlertOptions) -> Self {
        let one = |rule: Rule| {
            let name = rule.name.clone();
            (
                name,
                RuleGroups {
                    rule,
                    last: None,
                    first: None,
                    groups: Groups::default(),
                    sequence: 0,
                    counts: AlertCounts::default(),
                },
            )
        };
        let rules = rules.into_iter().map(one).collect();
        Self { options, rules, changed: BTreeSet::new(), endings: Endings::default() }
    }

    /// The rules, by name.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values().map(|groups| &groups.rule)
    }

    /// Whether a rule looks at windows of a width.
    #[must_use]
    pub fn has_width(&self, width: Width) -> bool {
        self.rules().any(|rule| rule.width == width)
    }

    /// Whether a rule looks at cells of a key in windows of a width; others need not be given to it.
    #[must_use]
    pub fn wants(&self, width: Width, rollup: Rollup, parts: &[Option<String>]) -> bool {
        self.rules().any(|rule| rule.width == width && rule.is_about(rollup, parts))
    }

    /// What the rules have done, by name.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&str, AlertCounts> {
        let count = |rule: &RuleGroups| AlertCounts { groups: rule.groups.len() as u64, ..rule.counts };
        self.rules.iter().map(|(name, rule)| (name.as_str(), count(rule))).collect()
    }

    /// Memory of all groups and of the windows that are kept of them, bytes. A sum that is kept: it costs nothing to ask often.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.rules.values().map(|rule| rule.groups.memory_bytes()).sum()
    }

    /// The groups that are pending or firing, by rule and group.
    #[must_use]
    pub fn states(&self) -> Vec<GroupState> {
        let mut found = Vec::new();
        for RuleGroups { rule, groups, .. } in self.rules.values() {
            for (key, group) in groups.iter() {
                let state = group.phase.state;
                if matches!(state, State::Pending | State::Firing) {
                    let fired_at = group.phase.fired_at.filter(|_| state == State::Firing);
                    found.push(GroupState { rule: rule.name.clone(), group: named(rule, key), state, fired_at });
                }
            }
        }
        found
    }

    /// Ends what fired or pended by rules that are no more, or say something else, since the state was stored: the first call
    /// tells it, later ones nothing. It is told before anything else in any case; until then its state stays stored.
    pub fn end_former_rules(&mut self) -> Vec<AlertEvent> {
        let Endings { events, parts } = std::mem::take(&mut self.endings);
        self.changed.extend(parts);
        events
    }

    /// Ends everything that fires or pends, with a reason, and begins with no groups and no last window: time goes another way
    /// from a watermark on, as after a clock that was set back. Rules and counts stay, and a group that comes again goes on
    /// with larger numbers. What a silence is of stays known, as heard of at the watermark.
    pub fn start_anew(&mut self, watermark: i64, reason: &str) -> Vec<AlertEvent> {
        let mut events = self.end_former_rules();
        for (name, rule) in &mut self.rules {
            self.changed.insert(Key::Rule(name.clone()).to_bytes());
            let facts = RuleFacts::of(&rule.rule);
            let groups = std::mem::take(&mut rule.groups);
            for (key, group) in groups.iter() {
                self.changed.insert(Key::Group(name.clone(), key.clone()).to_bytes());
                let inputs = group.inputs().keys();
                self.changed.extend(inputs.map(|start| Key::Input(name.clone(), key.clone(), *start).to_bytes()));
                if let Some(ended) = end_group(name, &facts, rule.last, key, group, reason) {
                    rule.sequence = ended.sequence.max(rule.sequence);
                    events.push(ended);
                }
            }
            if rule.rule.condition == Condition::Silence && !rule.rule.group_by.is_empty() {
                let start = floor(watermark, rule.rule.width.micros());
                groups.iter().for_each(|(key, _)| rule.groups.insert(key.clone(), Group::new(start, rule.sequence)));
            }
            (rule.last, rule.first) = (None, None);
        }
        events
    }

    /// Takes in a complete window with all its cells, and what the watch said of it if it is of the watch's width. Rules of
    /// other widths are left alone.
    pub fn complete(&mut self, window: Window, panes: &[PaneView<'_>], scored: &[Scored]) -> Vec<AlertEvent> {
        self.each(|run| {
            if run.groups.rule.has_window(window) {
                run.complete(window, panes, scored);
            }
        })
    }

    /// Takes in what came late for complete windows: of each key only what was not in the pane before. What comes together is
    /// given together: what is told is the difference between before and after all of it.
    pub fn late(&mut self, added: &[Added<'_>]) -> Vec<AlertEvent> {
        self.each(|run| {
            let own: Vec<_> = added.iter().filter(|(window, _)| run.groups.rule.has_window(*window)).collect();
            run.late(&own);
        })
    }

    /// Lets each rule work.
    fn each(&mut self, work: impl Fn(&mut Run<'_>)) -> Vec<AlertEvent> {
        let mut events = self.end_former_rules();
        let Self { options, rules, changed, .. } = self;
        for groups in rules.values_mut() {
            work(&mut Run { options: *options, groups, changed, events: &mut events });
        }
        events
    }

    /// The parts of its state that changed since this was last called, or since it began.
    pub fn changed_since_last_take(&mut self) -> Vec<StateCell> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|key| StateCell { value: self.value(&key), key }).collect()
    }

    /// All parts of its state: key and bytes. Without those of rules that are no more as they were.
    #[must_use]
    pub fn to_cells(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut keys = Vec::new();
        for (name, rule) in &self.rules {
            keys.push(Key::Rule(name.clone()).to_bytes());
            for (key, group) in rule.groups.iter() {
                keys.push(Key::Group(name.clone(), key.clone()).to_bytes());
                keys.extend(
                    group.inputs().keys().map(|start| Key::Input(name.clone(), key.clone(), *start).to_bytes()),
                );
            }
        }
        keys.into_iter().filter_map(|key| Some((key.clone(), self.value(&key)?))).collect()
    }

    /// Alerts from the parts of their state, in any order. What rules that are no more, or say something else now, have left
    /// is ended by [`Self::end_former_rules`].
    ///
    /// # Errors
    /// When a part is none of alerts.
    pub fn from_cells<'a>(
        rules: Vec<Rule>,
        options: AlertOptions,
        cells: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, AlertsError> {
        let mut alerts = Self::new(rules, options);
        let mut parts = Vec::new();
        for (bytes, value) in cells {
            parts.push((Key::from_bytes(bytes).ok_or(AlertsError)?, bytes, value));
        }
        // A group needs its rule, and an input its group.
        parts.sort_by_key(|(key, ..)| key.order());
        let mut kept = BTreeSet::new();
        let mut former: BTreeMap<String, FormerRule> = BTreeMap::new();
        for (key, bytes, value) in parts {
            if let Key::Rule(name) = &key {
                let stored = StoredRule::from_bytes(value).ok_or(AlertsError)?;
                if alerts.take_over(name, &stored) {
                    kept.insert(name.clone());
                } else {
                    former.insert(name.clone(), FormerRule { stored, groups: BTreeMap::new() });
                }
            }
            if kept.contains(key.rule()) {
                alerts.read_part(key, value).ok_or(AlertsError)?;
                continue;
            }
            alerts.endings.parts.insert(bytes.to_vec());
            if let Key::Group(name, key) = key
                && let Some(rule) = former.get_mut(&name)
            {
                rule.groups.insert(key, read_group(value).ok_or(AlertsError)?);
            }
        }
        former.into_iter().for_each(|(name, rule)| alerts.end_former(&name, rule));
        Ok(alerts)
    }

    /// Goes on with a rule; whether the state is of the rule as it is now.
    fn take_over(&mut self, name: &str, stored: &StoredRule) -> bool {
        let found = self.rules.get_mut(name).filter(|groups| groups.rule.fingerprint == stored.fingerprint);
        let Some(groups) = found else { return false };
        (groups.last, groups.first) = (stored.last, stored.first);
        (groups.counts, groups.sequence) = (stored.counts, stored.sequence);
        true
    }

    fn end_former(&mut self, name: &str, former: FormerRule) {
        let so_far = former.groups.values().map(|group| group.sequence).fold(former.stored.sequence, u64::max);
        let now = self.rules.get_mut(name);
        let events = former.end(name, now.as_ref().map(|groups| &groups.rule));
        if let Some(groups) = now {
            groups.sequence = events.iter().map(|event| event.sequence).fold(so_far, u64::max);
        }
        self.endings.events.extend(events);
    }

    fn read_part(&mut self, key: Key, value: &[u8]) -> Option<()> {
        let RuleGroups { rule, groups, sequence, .. } = self.rules.get_mut(key.rule())?;
        match key {
            Key::Rule(_) => {}
            Key::Group(_, key) => {
                let group = read_group(value)?;
                *sequence = group.sequence.max(*sequence);
                groups.insert(key, group);
            }
            Key::Input(_, key, start) => {
                let input = Input::from_bytes(value.strip_prefix(&[VERSION])?)?.reduced(rule);
                groups.change(&key, |group| group.insert(start, input))?;
            }
        }
        Some(())
    }

    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![VERSION];
        let key = Key::from_bytes(key)?;
        let rule = self.rules.get(key.rule())?;
        match &key {
            Key::Rule(_) => return Some(StoredRule::bytes_of(rule)),
            Key::Group(_, group) => rule.groups.get(group)?.write_to(&mut out),
            Key::Input(_, group, start) => rule.groups.get(group)?.inputs().get(start)?.write_to(&mut out),
        }
        Some(out)
    }

    /// What [`Self::memory_bytes`] must be, walked over.
    #[cfg(test)]
    pub(super) fn memory_bytes_counted_anew(&self) -> usize {
        self.rules.values().map(|rule| rule.groups.counted_anew()).sum()
    }
}

fn read_group(value: &[u8]) -> Option<Group> {
    let mut rest = value.strip_prefix(&[VERSION])?;
    let group = Group::read_from(&mut rest)?;
    rest.is_empty().then_some(group)
}
