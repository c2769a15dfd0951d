//! All alert rules, and how it is with each of their groups.
//!
//! For: going on with each complete window, and setting right what late data changes. Not for: what a single group
//! does ([`super::group`]).
//!
//! Rules: a window is judged when it is complete, with what came in time; so late data causes no false alarm. Windows of
//! a width come in order; one that is not later than the last is ignored and counted. A window that is left out is one
//! without data. Late cells of the last `allowed_lateness` are merged onto what the window had, and everything since is gone
//! over again; what comes later still is ignored and counted. Anomalies are judged once.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{AlertEvent, Change};
use super::group::{Group, History, Step};
use super::input::{Input, judge};
use super::reason;
use super::rule::{Condition, Rule};
use super::timeline::{Episode, State};
use crate::anomaly::Scored;
use crate::rollup::{PaneView, Rollup, Width};
use crate::state_cell::{StateCell, read_text, write_text};
use crate::varint;
use crate::window::{Window, floor};

const VERSION: u8 = 1;
const DAY: i64 = 86_400_000_000;

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
#[error("the bytes are no state of alerts of version {VERSION}")]
pub struct AlertsError;

/// Values of a group's dimensions.
type GroupKey = Vec<Option<String>>;

#[derive(Clone, Debug)]
struct RuleGroups {
    rule: Rule,
    /// Start of the last complete window.
    last: Option<i64>,
    groups: BTreeMap<GroupKey, Group>,
    counts: AlertCounts,
}

/// All rules and their groups.
#[derive(Clone, Debug)]
pub struct Alerts {
    options: AlertOptions,
    /// By name.
    rules: BTreeMap<String, RuleGroups>,
    /// Keys of parts that changed, or are no more, since they were last taken.
    changed: BTreeSet<Vec<u8>>,
}

impl Alerts {
    /// Rules of which nothing is known yet.
    #[must_use]
    pub fn new(rules: Vec<Rule>, options: AlertOptions) -> Self {
        let one = |rule: Rule| {
            let name = rule.name.clone();
            (name, RuleGroups { rule, last: None, groups: BTreeMap::new(), counts: AlertCounts::default() })
        };
        Self { options, rules: rules.into_iter().map(one).collect(), changed: BTreeSet::new() }
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

    /// The groups that are pending or firing, by rule and group.
    #[must_use]
    pub fn states(&self) -> Vec<GroupState> {
        let mut found = Vec::new();
        for RuleGroups { rule, groups, .. } in self.rules.values() {
            for (key, group) in groups {
                let state = group.phase.state;
                if matches!(state, State::Pending | State::Firing) {
                    let fired_at = group.phase.fired_at.filter(|_| state == State::Firing);
                    found.push(GroupState { rule: rule.name.clone(), group: named(rule, key), state, fired_at });
                }
            }
        }
        found
    }

    /// Takes in a complete window with all its cells, and what the watch said of it if it is of the watch's width. Rules of
    /// other widths are left alone.
    pub fn complete(&mut self, window: Window, panes: &[PaneView<'_>], scored: &[Scored]) -> Vec<AlertEvent> {
        let mut events = Vec::new();
        for groups in self.rules.values_mut() {
            let width = groups.rule.width.micros();
            if window.end.saturating_sub(window.start) == width && floor(window.start, width) == window.start {
                let mut run = Run { options: self.options, groups, changed: &mut self.changed, events: &mut events };
                run.complete(window, panes, scored);
            }
        }
        events
    }

    /// Takes in what came late for a complete window: of each key only what was not in the pane before.
    pub fn late(&mut self, window: Window, added: &[PaneView<'_>]) -> Vec<AlertEvent> {
        let mut events = Vec::new();
        for groups in self.rules.values_mut() {
            let width = groups.rule.width.micros();
            if window.end.saturating_sub(window.start) == width && floor(window.start, width) == window.start {
                let mut run = Run { options: self.options, groups, changed: &mut self.changed, events: &mut events };
                run.late(window, added);
            }
        }
        events
    }

    /// The parts of its state that changed since this was last called, or since it began.
    pub fn changed_since_last_take(&mut self) -> Vec<StateCell> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|key| StateCell { value: self.value(&key), key }).collect()
    }

    /// All parts of its state: key and bytes.
    #[must_use]
    pub fn to_cells(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut keys = Vec::new();
        for (name, rule) in &self.rules {
            keys.push(Key::Rule(name.clone()).to_bytes());
            for (key, group) in &rule.groups {
                keys.push(Key::Group(name.clone(), key.clone()).to_bytes());
                keys.extend(group.inputs.keys().map(|start| Key::Input(name.clone(), key.clone(), *start).to_bytes()));
            }
        }
        keys.into_iter().filter_map(|key| Some((key.clone(), self.value(&key)?))).collect()
    }

    /// Alerts from the parts of their state, in any order. Parts of rules that are no more, or say something else now, are
    /// left out, and are among those that changed, without a value.
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
            let value = value.strip_prefix(&[VERSION]).ok_or(AlertsError)?;
            parts.push((Key::from_bytes(bytes).ok_or(AlertsError)?, bytes, value));
        }
        // A group needs its rule, and an input its group.
        parts.sort_by_key(|(key, ..)| key.order());
        let mut kept = BTreeSet::new();
        for (key, bytes, value) in parts {
            if let Key::Rule(name) = &key
                && alerts.read_rule(name, value).ok_or(AlertsError)?
            {
                kept.insert(name.clone());
            }
            if kept.contains(key.rule()) {
                alerts.read_part(key, value).ok_or(AlertsError)?;
            } else {
                alerts.changed.insert(bytes.to_vec());
            }
        }
        Ok(alerts)
    }

    /// Whether the state is of the rule as it is now; `None` when the bytes make no sense.
    fn read_rule(&mut self, name: &str, mut value: &[u8]) -> Option<bool> {
        let rest = &mut value;
        let fingerprint = varint::read(rest)?;
        let (has_window, last) = (varint::read(rest)? == 1, varint::read_signed(rest)?);
        let counts = AlertCounts {
            groups: 0,
            refused_values: varint::read(rest)?,
            ignored_windows: varint::read(rest)?,
            ignored_late: varint::read(rest)?,
        };
        if !rest.is_empty() {
            return None;
        }
        let Some(groups) = self.rules.get_mut(name).filter(|groups| groups.rule.fingerprint == fingerprint) else {
            return Some(false);
        };
        (groups.last, groups.counts) = (Some(last).filter(|_| has_window), counts);
        Some(true)
    }

    fn read_part(&mut self, key: Key, mut value: &[u8]) -> Option<()> {
        let groups = &mut self.rules.get_mut(key.rule())?.groups;
        match key {
            Key::Rule(_) => {}
            Key::Group(_, key) => {
                groups.insert(key, Group::read_from(&mut value)?);
                return value.is_empty().then_some(());
            }
            Key::Input(_, key, start) => _ = groups.get_mut(&key)?.inputs.insert(start, Input::from_bytes(value)?),
        }
        Some(())
    }

    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![VERSION];
        let key = Key::from_bytes(key)?;
        let RuleGroups { rule, last, groups, counts } = self.rules.get(key.rule())?;
        match &key {
            Key::Rule(_) => {
                varint::write(&mut out, rule.fingerprint);
                varint::write(&mut out, u64::from(last.is_some()));
                varint::write_signed(&mut out, last.unwrap_or_default());
                let counts = [counts.refused_values, counts.ignored_windows, counts.ignored_late];
                counts.into_iter().for_each(|count| varint::write(&mut out, count));
            }
            Key::Group(_, group) => groups.get(group)?.write_to(&mut out),
            Key::Input(_, group, start) => groups.get(group)?.inputs.get(start)?.write_to(&mut out),
        }
        Some(out)
    }
}

fn named(rule: &Rule, key: &GroupKey) -> Vec<(&'static str, Option<String>)> {
    rule.group_by.iter().copied().zip(key.iter().cloned()).collect()
}

/// One rule at work.
struct Run<'a> {
    options: AlertOptions,
    groups: &'a mut RuleGroups,
    changed: &'a mut BTreeSet<Vec<u8>>,
    events: &'a mut Vec<AlertEvent>,
}

impl Run<'_> {
    fn complete(&mut self, window: Window, panes: &[PaneView<'_>], scored: &[Scored]) {
        self.changed.insert(Key::Rule(self.groups.rule.name.clone()).to_bytes());
        let last = self.groups.last;
        if last.is_some_and(|last| window.start <= last) {
            self.groups.counts.ignored_windows += 1;
            return;
        }
        self.groups.last = Some(window.start);
        let mut inputs = self.inputs_of_panes(panes);
        for found in scored {
            if let Some(key) = self.groups.rule.group_of_series(&found.series) {
                add_input(&mut inputs, key, Input::of_series(found));
            }
        }
        self.add(window, &inputs);
        if self.groups.rule.group_by.is_empty() {
            // All that matches is one group, also before anything does.
            self.groups.groups.entry(GroupKey::new()).or_insert_with(|| Group::new(window.start));
        }
        let from = last.map_or(window.start, |last| last.saturating_add(self.groups.rule.width.micros()));
        for key in self.groups.groups.keys().cloned().collect::<Vec<_>>() {
            self.go_on(&key, from, window);
        }
    }

    fn inputs_of_panes(&self, panes: &[PaneView<'_>]) -> BTreeMap<GroupKey, Input> {
        let mut inputs = BTreeMap::new();
        for pane in panes {
            if let Some(key) = self.groups.rule.group_of_pane(pane) {
                add_input(&mut inputs, key, Input::of_pane(&self.groups.rule, pane));
            }
        }
        inputs
    }

    /// Adds what groups have in a window; gives those for which there was room.
    fn add(&mut self, window: Window, inputs: &BTreeMap<GroupKey, Input>) {
        let name = &self.groups.rule.name;
        for (key, input) in inputs {
            let is_known = self.groups.groups.contains_key(key);
            if !is_known && self.groups.groups.len() >= self.groups.rule.groups_max {
                self.groups.counts.refused_values += 1;
                continue;
            }
            self.changed.insert(Key::Group(name.clone(), key.clone()).to_bytes());
            self.changed.insert(Key::Input(name.clone(), key.clone(), window.start).to_bytes());
            self.groups.groups.entry(key.clone()).or_insert_with(|| Group::new(window.start)).add(window.start, input);
        }
    }

    /// Goes on with a group over the windows since the last one, and closes those that take no more.
    fn go_on(&mut self, key: &GroupKey, from: i64, window: Window) {
        let RuleGroups { rule, groups, .. } = &mut *self.groups;
        let Some(group) = groups.get_mut(key) else { return };
        // A group that is new has no state before this window.
        let from = from.max(group.base_next);
        let before = (group.phase, group.base_next);
        let steps = group.go_on(rule, from, window.end);
        let closed_until = floor(window.end.saturating_sub(self.options.allowed_lateness), rule.width.micros());
        let dropped = group.close(rule, closed_until);
        let name = rule.name.clone();
        self.changed.extend(dropped.into_iter().map(|start| Key::Input(name.clone(), key.clone(), start).to_bytes()));
        if before != (group.phase, group.base_next) {
            self.changed.insert(Key::Group(name, key.clone()).to_bytes());
        }
        for step in steps {
            self.tell_step(key, &step);
        }
        self.forget(key, window);
    }

    /// Gives up a group that has nothing to say any more. A silence of more than a day is of something that is gone.
    fn forget(&mut self, key: &GroupKey, window: Window) {
        let rule = &self.groups.rule;
        let Some(group) = self.groups.groups.get(key).filter(|_| !rule.group_by.is_empty()) else { return };
        let is_silence = rule.condition == Condition::Silence;
        let forgotten_after = DAY.max(i64::from(rule.held_min).saturating_mul(2 * rule.width.micros()));
        let is_gone = is_silence
            && window.start.saturating_sub(group.last_input)
                > forgotten_after.saturating_add(self.options.allowed_lateness);
        if group.is_idle() && !is_silence || is_gone {
            if group.phase.state == State::Firing {
                let resolved_at = Some(window.end);
                let episode = group.phase.fired_at.map(|fired_at| Episode { fired_at, resolved_at });
                self.tell(
                    key,
                    Change::Resolved,
                    State::Resolved,
                    window.end,
                    episode,
                    None,
                    "no data for more than a day: the group is forgotten".to_owned(),
                );
            }
            self.groups.groups.remove(key);
            self.changed.insert(Key::Group(self.groups.rule.name.clone(), key.clone()).to_bytes());
        }
    }

    fn late(&mut self, window: Window, added: &[PaneView<'_>]) {
        let Some(last) = self.groups.last else { return };
        let inputs = self.inputs_of_panes(added);
        if inputs.is_empty() {
            return;
        }
        self.changed.insert(Key::Rule(self.groups.rule.name.clone()).to_bytes());
        let until = last.saturating_add(self.groups.rule.width.micros());
        let closed_until = floor(until.saturating_sub(self.options.allowed_lateness), self.groups.rule.width.micros());
        if window.start > last || window.start < closed_until {
            self.groups.counts.ignored_late += inputs.len() as u64;
            return;
        }
        let history = |run: &Self, key: &GroupKey| {
            let group = run.groups.groups.get(key);
            group.map_or_else(History::default, |group| group.history(&run.groups.rule, until))
        };
        let before: Vec<History> = inputs.keys().map(|key| history(self, key)).collect();
        self.add(window, &inputs);
        for (key, before) in inputs.keys().zip(before) {
            let after = history(self, key);
            if let Some(group) = self.groups.groups.get_mut(key) {
                group.phase = after.phase;
                self.tell_corrections(key, &before, &after, until);
            }
        }
    }

    fn tell_step(&mut self, key: &GroupKey, step: &Step) {
        let change = match step.state {
            State::Inactive => Change::Inactive,
            State::Pending => Change::Pending,
            State::Firing => Change::Firing,
            State::Resolved => Change::Resolved,
        };
        let fired_at = self.groups.groups.get(key).and_then(|group| group.phase.fired_at);
        let episode = match step.state {
            State::Firing => Some(Episode { fired_at: step.window_end, resolved_at: None }),
            State::Resolved => fired_at.map(|fired_at| Episode { fired_at, resolved_at: Some(step.window_end) }),
            State::Inactive | State::Pending => None,
        };
        let reason = reason::of_verdict(&self.groups.rule, &step.verdict);
        self.tell(key, change, step.state, step.window_end, episode, step.verdict.value, reason);
    }

    /// Tells how what was told differs from what should have been.
    fn tell_corrections(&mut self, key: &GroupKey, before: &History, after: &History, until: i64) {
        let state = after.phase.state;
        let mut is_told = false;
        for old in before.episodes.iter().filter(|old| !after.episodes.iter().any(|new| overlap(old, new))) {
            is_told = true;
            let reason = "late data: it should not have fired".to_owned();
            self.tell(key, Change::Retracted, state, old.fired_at, Some(*old), self.value_at(key, old), reason);
        }
        for new in after.episodes.iter().filter(|new| !before.episodes.contains(new)) {
            is_told = true;
            let reason = match before.episodes.iter().any(|old| overlap(old, new)) {
                true => "late data: it should have begun or ended at another time",
                false => "late data: it should have fired",
            };
            self.tell(
                key,
                Change::Corrected,
                state,
                new.fired_at,
                Some(*new),
                self.value_at(key, new),
                reason.to_owned(),
            );
        }
        if !is_told && state != before.phase.state {
            let change = if state == State::Pending { Change::Pending } else { Change::Inactive };
            self.tell(key, change, state, until, None, None, "late data".to_owned());
        }
    }

    /// The value in the window in which an episode begins.
    fn value_at(&self, key: &GroupKey, episode: &Episode) -> Option<f64> {
        let start = episode.fired_at.saturating_sub(self.groups.rule.width.micros());
        let group = self.groups.groups.get(key).filter(|group| start >= group.base_next)?;
        judge(&self.groups.rule, &group.inputs, start).value
    }

    #[expect(clippy::too_many_arguments, reason = "what an event says, each once")]
    fn tell(
        &mut self,
        key: &GroupKey,
        change: Change,
        state: State,
        at: i64,
        episode: Option<Episode>,
        value: Option<f64>,
        reason: String,
    ) {
        let now = self.groups.last.unwrap_or(at).saturating_add(self.groups.rule.width.micros());
        let RuleGroups { rule, groups, .. } = &mut *self.groups;
        let Some(group) = groups.get_mut(key) else { return };
        // By the time, so that a group that was forgotten and comes back goes on with larger numbers.
        group.sequence = group.sequence.saturating_add(1).max(u64::try_from(now / 1_000).unwrap_or(0));
        self.changed.insert(Key::Group(rule.name.clone(), key.clone()).to_bytes());
        self.events.push(AlertEvent {
            rule: rule.name.clone(),
            severity: rule.severity,
            group: named(rule, key),
            sequence: group.sequence,
            change,
            state,
            at,
            fired_at: episode.map(|episode| episode.fired_at),
            resolved_at: episode.and_then(|episode| episode.resolved_at),
            value,
            threshold: rule.limit(),
            reason,
            labels: rule.labels.clone(),
            description: rule.description.clone(),
        });
    }
}

fn add_input(inputs: &mut BTreeMap<GroupKey, Input>, key: GroupKey, input: Input) {
    match inputs.get_mut(&key) {
        Some(mine) => mine.merge(&input),
        None => _ = inputs.insert(key, input),
    }
}

fn overlap(one: &Episode, other: &Episode) -> bool {
    let end = |episode: &Episode| episode.resolved_at.unwrap_or(i64::MAX);
    one.fired_at < end(other) && other.fired_at < end(one)
}

/// Names a part of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Rule(String),
    Group(String, GroupKey),
    Input(String, GroupKey, i64),
}

impl Key {
    const fn order(&self) -> u8 {
        match self {
            Self::Rule(_) => 0,
            Self::Group(..) => 1,
            Self::Input(..) => 2,
        }
    }

    fn rule(&self) -> &str {
        match self {
            Self::Rule(name) | Self::Group(name, _) | Self::Input(name, ..) => name,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![self.order()];
        write_text(&mut out, Some(self.rule()));
        if let Self::Group(_, group) | Self::Input(_, group, _) = self {
            varint::write(&mut out, group.len() as u64);
            group.iter().for_each(|part| write_text(&mut out, part.as_deref()));
        }
        if let Self::Input(_, _, start) = self {
            varint::write_signed(&mut out, *start);
        }
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&order, mut rest) = bytes.split_first()?;
        let rest = &mut rest;
        let name = read_text(rest)??;
        let mut group = GroupKey::new();
        if order > 0 {
            for _ in 0..varint::read(rest)? {
                group.push(read_text(rest)?);
            }
        }
        let key = match order {
            0 => Self::Rule(name),
            1 => Self::Group(name, group),
            2 => Self::Input(name, group, varint::read_signed(rest)?),
            _ => return None,
        };
        rest.is_empty().then_some(key)
    }
}
