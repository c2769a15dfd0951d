//! Parts of a state, so that a store rewrites only those that changed.
//!
//! For: what keeps much state of many small parts: series that are watched, groups that are alerted on. Not for: where
//! the parts are stored.

use crate::varint;

/// One part of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateCell {
    /// Names the part within its state.
    pub key: Vec<u8>,
    /// Its versioned bytes; `None` when the part is no more.
    pub value: Option<Vec<u8>>,
}

/// Appends a text that may be absent: its length and one, then its bytes; 0 when absent.
pub(crate) fn write_text(out: &mut Vec<u8>, text: Option<&str>) {
    varint::write(out, text.map_or(0, |text| text.len() as u64 + 1));
    out.extend_from_slice(text.unwrap_or_default().as_bytes());
}

/// Reads what [`write_text`] wrote. The outer option is whether the bytes made sense.
pub(crate) fn read_text(bytes: &mut &[u8]) -> Option<Option<String>> {
    let len = usize::try_from(varint::read(bytes)?).ok()?;
    let Some(len) = len.checked_sub(1) else { return Some(None) };
    let (text, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(Some(std::str::from_utf8(text).ok()?.to_owned()))
}
