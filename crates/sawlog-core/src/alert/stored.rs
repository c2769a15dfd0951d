//! The part of the state that is about a rule as a whole.
//!
//! For: its bytes, of this version and of the one before. Not for: groups ([`super::group`]).

use super::alerts::AlertCounts;
use super::facts::RuleFacts;
use super::run::RuleGroups;
use crate::varint;

const VERSION: u8 = 2;
/// Without `sequence`, `first` and `facts`.
const VERSION_BEFORE: u8 = 1;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredRule {
    pub(super) fingerprint: u64,
    /// Start of the last complete window.
    pub(super) last: Option<i64>,
    pub(super) counts: AlertCounts,
    /// Start of the first window since the rule began; before all time where the state does not say.
    pub(super) first: Option<i64>,
    /// Largest number of an event; 0 where the state does not say.
    pub(super) sequence: u64,
    /// `None` where the state does not say.
    pub(super) facts: Option<RuleFacts>,
}

impl StoredRule {
    /// The bytes of this version.
    pub(super) fn bytes_of(groups: &RuleGroups) -> Vec<u8> {
        let RuleGroups { rule, last, first, counts, sequence, .. } = groups;
        let mut out = vec![VERSION];
        varint::write(&mut out, rule.fingerprint);
        varint::write(&mut out, u64::from(last.is_some()));
        varint::write_signed(&mut out, last.unwrap_or_default());
        let counts = [counts.refused_values, counts.ignored_windows, counts.ignored_late];
        counts.into_iter().for_each(|count| varint::write(&mut out, count));
        varint::write(&mut out, *sequence);
        varint::write_signed(&mut out, first.unwrap_or(i64::MAX));
        RuleFacts::of(rule).write_to(&mut out);
        out
    }

    /// Reads the part of either version, which ends with the bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first()?;
        let rest = &mut rest;
        let fingerprint = varint::read(rest)?;
        let (has_window, last) = (varint::read(rest)? == 1, varint::read_signed(rest)?);
        let counts = AlertCounts {
            groups: 0,
            refused_values: varint::read(rest)?,
            ignored_windows: varint::read(rest)?,
            ignored_late: varint::read(rest)?,
        };
        let last = has_window.then_some(last);
        let (sequence, first, facts) = match version {
            VERSION_BEFORE => (0, last.map(|_| i64::MIN), None),
            VERSION => {
                let (sequence, first) = (varint::read(rest)?, varint::read_signed(rest)?);
                (sequence, Some(first).filter(|first| *first != i64::MAX), Some(RuleFacts::read_from(rest)?))
            }
            _ => return None,
        };
        rest.is_empty().then_some(Self { fingerprint, last, counts, first, sequence, facts })
    }
}
