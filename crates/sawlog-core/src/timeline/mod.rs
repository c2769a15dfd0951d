//! Timelines: what each user did, event by event, and the last values that are known of them.
//!
//! For: answers about one user in milliseconds, from cells under the user's name. Not for: sums over users
//! ([`crate::rollup`]), or everything that a row holds: an entry names the row's batch and place in it.
//!
//! A flush makes chunks of the rows of each user, newest entry first, and merges what they say into the user's profile. A
//! user's chunks lie next to each other, newest first; those of two flushes may overlap in time, since events come late.

mod chunk;
mod profile;
mod user_rows;

#[cfg(test)]
mod tests;

pub use chunk::{Chunk, ChunkError, Entry, EntryKind, merged};
pub use profile::{Profile, ProfileError};
pub use user_rows::{PartOfUser, UserRows};

use crate::rowkey;
use crate::window::floor;

/// No chunk crosses a multiple of it, so that a reader knows how far back one reaches. Microseconds.
const CHUNK_SPAN: i64 = 600_000_000;

/// First byte of the row keys of timelines.
pub const KEY_BYTE: u8 = b'l';
/// First byte of the row keys of profiles.
pub const PROFILE_KEY_BYTE: u8 = b'p';

/// Row key of a chunk: user, reversed second of its newest entry, then where in the log and the how-manieth, so that no
/// two chunks share a key.
#[must_use]
pub fn key(user: &str, newest: i64, position: u64, number: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(user.len() + 24);
    rowkey::encode(&mut key, KEY_BYTE, &[Some(user)], newest);
    key.extend_from_slice(&position.to_be_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Time of the newest entry of a chunk by its key, UTC microseconds, a whole second.
#[must_use]
pub fn time_of(key: &[u8]) -> Option<i64> {
    rowkey::time_of(key.get(..key.len().checked_sub(12)?)?)
}

/// The keys of a user's chunks that may have entries up to `until` (UTC microseconds), newest first: first key and the
/// first key after all of them. Some chunks may have newer entries only.
#[must_use]
pub fn range_of(user: &str, until: i64) -> (Vec<u8>, Vec<u8>) {
    let (mut start, end) = rowkey::range_with(KEY_BYTE, &[Some(user)]);
    rowkey::append_time(&mut start, floor(until, CHUNK_SPAN).saturating_add(CHUNK_SPAN - 1));
    (start, end)
}

/// Row key of a user's profile.
#[must_use]
pub fn profile_key(user: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(user.len() + 4);
    rowkey::append_parts(&mut key, PROFILE_KEY_BYTE, &[Some(user)]);
    key
}
