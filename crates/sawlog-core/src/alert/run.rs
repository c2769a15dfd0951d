//! One rule at work: a complete window, or late cells of some.
//!
//! For: which groups there are, what is told of them, and which are given up. Not for: what a single group does
//! ([`super::group`]).

use std::collections::{BTreeMap, BTreeSet};

use super::alerts::{Added, AlertCounts, AlertOptions};
use super::event::{AlertEvent, Change};
use super::facts::{RuleFacts, Told};
use super::group::{Group, History, Step};
use super::groups::Groups;
use super::input::Input;
use super::key::{GroupKey, Key};
use super::reason;
use super::rule::{Condition, Rule};
use super::timeline::{Episode, State};
use super::verdict::Verdicts;
use crate::anomaly::Scored;
use crate::rollup::PaneView;
use crate::window::{Window, floor};

const DAY: i64 = 86_400_000_000;

/// A rule and its groups.
#[derive(Clone, Debug)]
pub(super) struct RuleGroups {
    pub(super) rule: Rule,
    /// Start of the last complete window.
    pub(super) last: Option<i64>,
    /// Start of the first one since the rule began: of what was before nothing is known.
    pub(super) first: Option<i64>,
    pub(super) groups: Groups,
    /// Largest number of an event. Groups begin with it: one that comes again has told smaller numbers.
    pub(super) sequence: u64,
    pub(super) counts: AlertCounts,
}

/// A rule in a window.
pub(super) struct Run<'a> {
    pub(super) options: AlertOptions,
    pub(super) groups: &'a mut RuleGroups,
    /// Keys of the parts of the state that change.
    pub(super) changed: &'a mut BTreeSet<Vec<u8>>,
    pub(super) events: &'a mut Vec<AlertEvent>,
}

impl Run<'_> {
    pub(super) fn complete(&mut self, window: Window, panes: &[PaneView<'_>], scored: &[Scored]) {
        self.changed.insert(Key::Rule(self.groups.rule.name.clone()).to_bytes());
        let last = self.groups.last;
        if last.is_some_and(|last| window.start <= last) {
            self.groups.counts.ignored_windows += 1;
            return;
        }
        self.groups.last = Some(window.start);
        if self.groups.first.is_none() {
            self.groups.first = Some(window.start);
            self.groups
                .groups
                .keys()
                .iter()
                .for_each(|key| _ = self.groups.groups.change(key, |group| group.begin(window.start)));
        }
        let mut inputs = self.inputs_of_panes(panes);
        for found in scored {
            if let Some(key) = self.groups.rule.group_of_series(&found.series) {
                let input = Input::of_series(found);
                match inputs.get_mut(&key) {
                    Some(mine) => mine.merge(&input),
                    None => _ = inputs.insert(key, input),
                }
            }
        }
        self.add(window, &inputs);
        // Without dimensions all that matches is one group, also before anything does.
        let whole = GroupKey::new();
        if self.groups.rule.group_by.is_empty() && !self.groups.groups.contains(&whole) {
            self.changed.insert(Key::Group(self.groups.rule.name.clone(), whole.clone()).to_bytes());
            self.groups.groups.insert(whole, Group::new(window.start, self.groups.sequence));
        }
        let from = last.map_or(window.start, |last| last.saturating_add(self.groups.rule.width.micros()));
        for key in self.groups.groups.keys() {
            self.go_on(&key, from, window);
        }
    }

    fn inputs_of_panes(&self, panes: &[PaneView<'_>]) -> BTreeMap<GroupKey, Input> {
        let rule = &self.groups.rule;
        let mut inputs: BTreeMap<GroupKey, Input> = BTreeMap::new();
        for pane in panes {
            let Some(key) = rule.group_of_pane(pane) else { continue };
            match inputs.get_mut(&key) {
                Some(mine) => mine.merge(&Input::of_pane(rule, pane)),
                None => _ = inputs.insert(key, Input::of_pane(rule, pane)),
            }
        }
        inputs
    }

    /// Adds what groups have in a window, as far as there is room for them.
    fn add(&mut self, window: Window, inputs: &BTreeMap<GroupKey, Input>) {
        let name = &self.groups.rule.name;
        for (key, input) in inputs {
            let is_known = self.groups.groups.contains(key);
            if !is_known && self.groups.groups.len() >= self.groups.rule.groups_max {
                self.groups.counts.refused_values += 1;
                continue;
            }
            self.changed.insert(Key::Group(name.clone(), key.clone()).to_bytes());
            self.changed.insert(Key::Input(name.clone(), key.clone(), window.start).to_bytes());
            if !is_known {
                self.groups.groups.insert(key.clone(), Group::new(window.start, self.groups.sequence));
            }
            self.groups.groups.change(key, |group| group.add(window.start, input));
        }
    }

    /// Goes on with a group over the windows since the last one, and closes those that take no more.
    fn go_on(&mut self, key: &GroupKey, from: i64, window: Window) {
        let RuleGroups { rule, groups, .. } = &mut *self.groups;
        let closed_until = floor(window.end.saturating_sub(self.options.allowed_lateness), rule.width.micros());
        let gone_on = groups.change(key, |group| {
            let before = (group.phase, group.base_next);
            // A group that is new has no state before this window.
            let steps = group.go_on(rule, from.max(group.base_next), window.end);
            let dropped = group.close(rule, closed_until);
            (steps, dropped, before != (group.phase, group.base_next))
        });
        let Some((steps, dropped, is_changed)) = gone_on else { return };
        let name = rule.name.clone();
        self.changed.extend(dropped.into_iter().map(|start| Key::Input(name.clone(), key.clone(), start).to_bytes()));
        if is_changed {
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
                    Told {
                        change: Change::Resolved,
                        state: State::Resolved,
                        at: window.end,
                        episode,
                        value: None,
                        reason: "no data for more than a day: the group is forgotten".to_owned(),
                    },
                );
            }
            self.groups.groups.remove(key);
            self.changed.insert(Key::Group(self.groups.rule.name.clone(), key.clone()).to_bytes());
        }
    }

    pub(super) fn late(&mut self, added: &[&Added<'_>]) {
        let (Some(last), Some(first)) = (self.groups.last, self.groups.first) else { return };
        let until = last.saturating_add(self.groups.rule.width.micros());
        let closed_until = floor(until.saturating_sub(self.options.allowed_lateness), self.groups.rule.width.micros());
        let mut windows = Vec::new();
        for (window, panes) in added {
            let inputs = self.inputs_of_panes(panes);
            if inputs.is_empty() {
                continue;
            }
            self.changed.insert(Key::Rule(self.groups.rule.name.clone()).to_bytes());
            if window.start > last || window.start < closed_until.max(first) {
                self.groups.counts.ignored_late += inputs.len() as u64;
            } else {
                windows.push((*window, inputs));
            }
        }
        let keys: BTreeSet<GroupKey> = windows.iter().flat_map(|(_, inputs)| inputs.keys().cloned()).collect();
        let before: Vec<History> = keys.iter().map(|key| self.history(key, until)).collect();
        for (window, inputs) in &windows {
            self.add(*window, inputs);
        }
        for (key, before) in keys.iter().zip(before) {
            let after = self.history(key, until);
            self.groups.groups.change(key, |group| group.phase = after.phase);
            self.tell_corrections(key, &before, &after, until);
        }
    }

    /// What there is to tell of a group up to the window that starts then.
    fn history(&self, key: &GroupKey, until: i64) -> History {
        let group = self.groups.groups.get(key);
        group.map_or_else(History::default, |group| group.history(&self.groups.rule, until))
    }

    fn tell_step(&mut self, key: &GroupKey, step: &Step) {
        let change = match step.state {
            State::Inactive => Change::Inactive,
            State::Pending => Change::Pending,
            State::Firing => Change::Firing,
            State::Resolved => Change::Resolved,
        };
        let episode = match step.state {
            State::Firing => step.fired_at.map(|fired_at| Episode { fired_at, resolved_at: None }),
            State::Resolved => step.fired_at.map(|fired_at| Episode { fired_at, resolved_at: Some(step.window_end) }),
            State::Inactive | State::Pending => None,
        };
        let reason = reason::of_verdict(&self.groups.rule, &step.verdict);
        let (state, at, value) = (step.state, step.window_end, step.verdict.value);
        self.tell(key, Told { change, state, at, episode, value, reason });
    }

    /// Tells how what was told differs from what should have been.
    fn tell_corrections(&mut self, key: &GroupKey, before: &History, after: &History, until: i64) {
        let state = after.phase.state;
        let mut is_told = false;
        for old in before.episodes.iter().filter(|old| !after.episodes.iter().any(|new| overlap(old, new))) {
            is_told = true;
            let reason = "late data: it should not have fired".to_owned();
            let (change, at, value) = (Change::Retracted, old.fired_at, self.value_at(key, old));
            self.tell(key, Told { change, state, at, episode: Some(*old), value, reason });
        }
        for new in after.episodes.iter().filter(|new| !before.episodes.contains(new)) {
            is_told = true;
            let reason = match before.episodes.iter().any(|old| overlap(old, new)) {
                true => "late data: it should have begun or ended at another time",
                false => "late data: it should have fired",
            };
            let (change, at, value) = (Change::Corrected, new.fired_at, self.value_at(key, new));
            self.tell(key, Told { change, state, at, episode: Some(*new), value, reason: reason.to_owned() });
        }
        if !is_told && state != before.phase.state {
            let change = if state == State::Pending { Change::Pending } else { Change::Inactive };
            let reason = "late data".to_owned();
            self.tell(key, Told { change, state, at: until, episode: None, value: None, reason });
        }
    }

    /// The value in the window in which an episode begins.
    fn value_at(&self, key: &GroupKey, episode: &Episode) -> Option<f64> {
        let start = episode.fired_at.saturating_sub(self.groups.rule.width.micros());
        let group = self.groups.groups.get(key).filter(|group| start >= group.base_next)?;
        Verdicts::new(&self.groups.rule, group.inputs()).at(start).value
    }

    fn tell(&mut self, key: &GroupKey, told: Told) {
        let now = self.groups.last.unwrap_or(told.at).saturating_add(self.groups.rule.width.micros());
        let RuleGroups { rule, groups, sequence, .. } = &mut *self.groups;
        let next = groups.change(key, |group| {
            group.sequence = group.next_sequence(now);
            group.sequence
        });
        let Some(next) = next else { return };
        *sequence = next.max(*sequence);
        self.changed.insert(Key::Group(rule.name.clone(), key.clone()).to_bytes());
        self.events.push(RuleFacts::of(rule).event(&rule.name, key, next, told));
    }
}

fn overlap(one: &Episode, other: &Episode) -> bool {
    let end = |episode: &Episode| episode.resolved_at.unwrap_or(i64::MAX);
    one.fired_at < end(other) && other.fired_at < end(one)
}

/// Dimensions and values of a group.
pub(super) fn named(rule: &Rule, key: &GroupKey) -> Vec<(&'static str, Option<String>)> {
    rule.group_by.iter().copied().zip(key.iter().cloned()).collect()
}
