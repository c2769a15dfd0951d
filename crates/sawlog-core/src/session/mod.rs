//! Sessions: what one user did without a longer pause.
//!
//! For: sessions that are the same whatever the order in which events arrive, in any runtime. Not for: when a session is
//! closed ([`crate::window`]: its window ends a gap after its last event) or where sessions are kept.
//!
//! A *chain* is all events of a user of which each follows the one before it within the gap. Chains merge: an event that
//! arrives late and bridges two makes them one. A chain that is longer than the longest session is cut at midnight UTC,
//! into one session for each day, so that where it is cut depends on its events alone; its days are emitted and settled as
//! they end, so that a user who never pauses takes no more memory each day. Invariants: merging is commutative
//! and associative; two chains of a user never overlap.

mod chain;
mod deltas;
mod error_kinds;
mod pane;
mod rows;

#[cfg(test)]
mod tests;

pub use chain::{Chain, ChainError, Event, Session, SessionOptions};
pub use deltas::{SessionDeltas, join};
pub use pane::{Advanced, StoredChain, UserChains, advance};
pub use rows::{CLUSTERING, PANE_TABLE, SessionRow, session_key, session_rows, session_schema};

use crate::rowkey;

/// First byte of the row keys of sessions.
pub const KEY_BYTE: u8 = b's';

/// Row key of a user's chains.
#[must_use]
pub fn key(user: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(user.len() + 4);
    rowkey::append_parts(&mut key, KEY_BYTE, &[Some(user)]);
    key
}

/// Reads the user of a row key.
#[must_use]
pub fn user_of(key: &[u8]) -> Option<String> {
    let (mut parts, rest) = rowkey::split_parts(key, KEY_BYTE, 1)?;
    parts.pop()?.filter(|_| rest.is_empty())
}
