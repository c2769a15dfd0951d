//! What a group has in a window, reduced to what its rule needs.
//!
//! For: making it of cells and scores, merging, bytes. Not for: whether the rule's condition holds ([`super::verdict`]).

use std::collections::BTreeMap;

use super::rule::{Condition, Rule};
use crate::anomaly::Scored;
use crate::rollup::{Cell, PaneView, Rollup};
use crate::state_cell::{read_text, write_text};
use crate::varint;

/// What a group has in a window; late data is merged onto it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    /// Of thresholds: the part of the cell that the number is made of.
    Cell(Rollup, Cell),
    /// Of ratios and burn rates: what is bad, and everything.
    Counts(u64, u64),
    /// Of anomalies: the highest score, and its reason.
    Score(f64, String),
    /// Of silences: that there is something.
    Seen,
}

/// Windows of a group by their start.
pub(super) type Inputs = BTreeMap<i64, Input>;

impl Input {
    pub(super) fn of_pane(rule: &Rule, pane: &PaneView<'_>) -> Self {
        match &rule.condition {
            Condition::Threshold { .. } => Self::Cell(pane.rollup, pane.cell.reduced_to(rule.part())),
            Condition::Ratio { share, .. } | Condition::BurnRate { share, .. } => {
                // Counts are whole and not below zero.
                let [bad, all] =
                    [share.numerator, share.denominator].map(|column| column.value(pane.cell).unwrap_or(0.0) as u64);
                Self::Counts(bad, all)
            }
            Condition::Silence | Condition::Anomaly { .. } => Self::Seen,
        }
    }

    pub(super) fn of_series(scored: &Scored) -> Self {
        Self::Score(scored.score, scored.reason.clone().unwrap_or_default())
    }

    pub(super) fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Cell(_, mine), Self::Cell(_, theirs)) => mine.merge(theirs),
            (Self::Counts(bad, all), Self::Counts(more_bad, more)) => {
                (*bad, *all) = (bad.saturating_add(*more_bad), all.saturating_add(*more));
            }
            (Self::Score(mine, reason), Self::Score(theirs, why)) if theirs > mine => {
                (*mine, *reason) = (*theirs, why.clone());
            }
            _ => {}
        }
    }

    /// The input without what its rule has no need of: earlier versions kept whole cells.
    pub(super) fn reduced(self, rule: &Rule) -> Self {
        match self {
            Self::Cell(rollup, cell) => Self::Cell(rollup, cell.reduced_to(rule.part())),
            other => other,
        }
    }

    /// Memory of the input as one of a group's, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let beside = match self {
            Self::Cell(_, cell) => cell.memory_bytes(),
            Self::Score(_, reason) => reason.capacity(),
            Self::Counts(..) | Self::Seen => 0,
        };
        size_of::<(i64, Self)>() + beside
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Cell(rollup, cell) => {
                out.extend_from_slice(&[0, rollup.byte()]);
                cell.write_to(out);
            }
            Self::Counts(bad, all) => {
                out.push(1);
                varint::write(out, *bad);
                varint::write(out, *all);
            }
            Self::Score(score, reason) => {
                out.push(2);
                out.extend_from_slice(&score.to_le_bytes());
                write_text(out, Some(reason));
            }
            Self::Seen => out.push(3),
        }
    }

    /// Reads an input, which ends with the bytes.
    pub(super) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        bytes = rest;
        let found = match kind {
            0 => {
                let (&rollup, cell) = bytes.split_first()?;
                let rollup = Rollup::of_byte(rollup)?;
                return Some(Self::Cell(rollup, Cell::from_bytes(rollup, cell).ok()?));
            }
            1 => Self::Counts(varint::read(&mut bytes)?, varint::read(&mut bytes)?),
            2 => {
                let (score, rest) = bytes.split_first_chunk::<8>()?;
                bytes = rest;
                Self::Score(f64::from_le_bytes(*score), read_text(&mut bytes)??)
            }
            3 => Self::Seen,
            _ => return None,
        };
        bytes.is_empty().then_some(found)
    }
}
