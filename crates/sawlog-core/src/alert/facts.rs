//! What events say of a rule, whatever became of the rule.
//!
//! For: making events, and being stored with the state of a rule, so that what fires can be ended when the rule is no
//! more. Not for: what happens in a group ([`super::run`]).

use std::collections::BTreeMap;

use super::event::{AlertEvent, Change};
use super::key::GroupKey;
use super::rule::{ANOMALY_DIMENSIONS, Rule, Severity};
use super::timeline::{Episode, State};
use crate::rollup::{Rollup, Width};
use crate::state_cell::{read_text, write_text};
use crate::varint;

/// Names of dimensions where the state does not say.
const UNNAMED: [&str; 7] =
    ["dimension_1", "dimension_2", "dimension_3", "dimension_4", "dimension_5", "dimension_6", "dimension_7"];

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RuleFacts {
    severity: Severity,
    group_by: Vec<&'static str>,
    width: Width,
    /// What values are compared with.
    limit: f64,
    labels: BTreeMap<String, String>,
    description: Option<String>,
}

/// What an event says beside its rule, group and number.
pub(super) struct Told {
    pub(super) change: Change,
    pub(super) state: State,
    /// End of the window in which the change happened.
    pub(super) at: i64,
    pub(super) episode: Option<Episode>,
    pub(super) value: Option<f64>,
    pub(super) reason: String,
}

impl RuleFacts {
    pub(super) fn of(rule: &Rule) -> Self {
        Self {
            severity: rule.severity,
            group_by: rule.group_by.clone(),
            width: rule.width,
            limit: rule.limit(),
            labels: rule.labels.clone(),
            description: rule.description.clone(),
        }
    }

    /// What can be known of a rule whose state says nothing of it (version 1): what the rule of its name says now, and the
    /// dimensions if there are as many.
    pub(super) fn assumed(now: Option<&Rule>, dimensions: usize) -> Self {
        let unnamed = || UNNAMED.into_iter().take(dimensions).collect();
        match now.map(Self::of) {
            Some(facts) if facts.group_by.len() == dimensions => facts,
            Some(facts) => Self { group_by: unnamed(), ..facts },
            None => Self {
                severity: Severity::default(),
                group_by: unnamed(),
                width: Width::Minute,
                limit: 0.0,
                labels: BTreeMap::new(),
                description: None,
            },
        }
    }

    pub(super) const fn width(&self) -> Width {
        self.width
    }

    pub(super) fn event(&self, rule: &str, group: &GroupKey, sequence: u64, told: Told) -> AlertEvent {
        AlertEvent {
            rule: rule.to_owned(),
            severity: self.severity,
            group: self.group_by.iter().copied().zip(group.iter().cloned()).collect(),
            sequence,
            change: told.change,
            state: told.state,
            at: told.at,
            fired_at: told.episode.map(|episode| episode.fired_at),
            resolved_at: told.episode.and_then(|episode| episode.resolved_at),
            value: told.value,
            threshold: self.limit,
            reason: told.reason,
            labels: self.labels.clone(),
            description: self.description.clone(),
        }
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.severity as u8, self.width as u8]);
        out.extend_from_slice(&self.limit.to_le_bytes());
        varint::write(out, self.group_by.len() as u64);
        self.group_by.iter().for_each(|name| write_text(out, Some(name)));
        varint::write(out, self.labels.len() as u64);
        for (name, value) in &self.labels {
            write_text(out, Some(name));
            write_text(out, Some(value));
        }
        write_text(out, self.description.as_deref());
    }

    pub(super) fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        let (&[severity, width], rest) = bytes.split_first_chunk::<2>()?;
        let (limit, rest) = rest.split_first_chunk::<8>()?;
        *bytes = rest;
        let severities = [Severity::Info, Severity::Warning, Severity::Critical];
        let mut group_by = Vec::new();
        for _ in 0..varint::read(bytes)? {
            group_by.push(dimension(&read_text(bytes)??)?);
        }
        let mut labels = BTreeMap::new();
        for _ in 0..varint::read(bytes)? {
            labels.insert(read_text(bytes)??, read_text(bytes)??);
        }
        Some(Self {
            severity: severities.into_iter().find(|one| *one as u8 == severity)?,
            group_by,
            width: Width::ALL.into_iter().find(|one| *one as u8 == width)?,
            limit: f64::from_le_bytes(*limit),
            labels,
            description: read_text(bytes)?,
        })
    }
}

/// The dimension of a name; `None` when no rule can group by it.
fn dimension(name: &str) -> Option<&'static str> {
    let all = Rollup::ALL.into_iter().flat_map(|rollup| rollup.parts().iter().copied()).chain(ANOMALY_DIMENSIONS);
    all.into_iter().find(|known| *known == name)
}
