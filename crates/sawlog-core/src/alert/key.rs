//! Names of the parts of the state of alerts.

use crate::state_cell::{read_text, write_text};
use crate::varint;

/// Values of a group's dimensions.
pub(super) type GroupKey = Vec<Option<String>>;

/// Names a part of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Rule(String),
    Group(String, GroupKey),
    Input(String, GroupKey, i64),
}

impl Key {
    pub(super) const fn order(&self) -> u8 {
        match self {
            Self::Rule(_) => 0,
            Self::Group(..) => 1,
            Self::Input(..) => 2,
        }
    }

    pub(super) fn rule(&self) -> &str {
        match self {
            Self::Rule(name) | Self::Group(name, _) | Self::Input(name, ..) => name,
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
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

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
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
