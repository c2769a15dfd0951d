//! Ending what nobody judges any more.
//!
//! For: rules that were removed or changed, and clocks that were set back: what fires or pends is told to be over, so that
//! no event stands as the last one for ever. Not for: groups that a rule gives up by itself ([`super::run`]).

use std::collections::{BTreeMap, BTreeSet};

use super::event::{AlertEvent, Change};
use super::facts::{RuleFacts, Told};
use super::group::Group;
use super::key::GroupKey;
use super::rule::Rule;
use super::stored::StoredRule;
use super::timeline::{Episode, State};

/// What is to be told, and which parts of the state go with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Endings {
    pub(super) events: Vec<AlertEvent>,
    /// Keys of the parts of what is ended.
    pub(super) parts: BTreeSet<Vec<u8>>,
}

/// A rule as it was, with its groups.
#[derive(Debug)]
pub(super) struct FormerRule {
    pub(super) stored: StoredRule,
    pub(super) groups: BTreeMap<GroupKey, Group>,
}

impl FormerRule {
    /// Ends its groups. `now` is the rule that has its name now.
    pub(super) fn end(self, name: &str, now: Option<&Rule>) -> Vec<AlertEvent> {
        let dimensions = self.groups.keys().next().map_or(0, Vec::len);
        let facts = self.stored.facts.unwrap_or_else(|| RuleFacts::assumed(now, dimensions));
        let reason = if now.is_some() { "the rule was changed" } else { "the rule was removed" };
        let groups = self.groups.iter();
        groups.filter_map(|(key, group)| end_group(name, &facts, self.stored.last, key, group, reason)).collect()
    }
}

/// Ends what fires or pends in a group, by the end of the last window that the rule has judged.
pub(super) fn end_group(
    name: &str,
    facts: &RuleFacts,
    last: Option<i64>,
    key: &GroupKey,
    group: &Group,
    reason: &str,
) -> Option<AlertEvent> {
    let judged_until = last.map_or(group.base_next, |last| last.saturating_add(facts.width().micros()));
    let told = |change, state, at, episode| Told { change, state, at, episode, value: None, reason: reason.to_owned() };
    let told = match (group.phase.state, group.phase.fired_at) {
        (State::Pending, _) => told(Change::Inactive, State::Inactive, judged_until, None),
        (State::Firing, Some(fired_at)) => {
            let at = judged_until.max(fired_at);
            told(Change::Resolved, State::Resolved, at, Some(Episode { fired_at, resolved_at: Some(at) }))
        }
        _ => return None,
    };
    Some(facts.event(name, key, group.next_sequence(judged_until), told))
}
