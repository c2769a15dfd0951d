//! Row keys of rollup cells.
//!
//! For: keys of a rollup, of which [`crate::rowkey`] makes the bytes. A series is a key without its time: all its windows
//! stand together, newest first. Not for: the window's length, which is the column family's.

use crate::rollup::Rollup;
use crate::rowkey::{self, RowKey};

/// Length of the time at the end of a key.
const TIME_BYTES: usize = 8;

/// The key of a series: a row key without its time.
#[must_use]
pub fn prefix_of(key: &[u8]) -> &[u8] {
    &key[..key.len().saturating_sub(TIME_BYTES)]
}

/// The row key of a series at a window start, UTC microseconds.
#[must_use]
pub fn with_time(prefix: &[u8], window_start: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + TIME_BYTES);
    key.extend_from_slice(prefix);
    rowkey::append_time(&mut key, window_start);
    key
}

/// Appends the key of a series.
pub(super) fn write_prefix(out: &mut Vec<u8>, rollup: Rollup, parts: &[Option<&str>]) {
    debug_assert_eq!(parts.len(), rollup.parts().len(), "a key of {rollup:?} has its parts");
    rowkey::append_parts(out, rollup.byte(), parts);
}

/// Reads a row key: rollup, parts and window start.
#[must_use]
pub fn decode(key: &[u8]) -> Option<(Rollup, RowKey)> {
    let rollup = Rollup::of_byte(*key.first()?)?;
    Some((rollup, rowkey::decode(key, rollup.byte(), rollup.parts().len())?))
}
