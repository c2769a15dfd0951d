//! Cells of the serving store as cells of Bigtable: table, row key and time.
//!
//! For: what every writer of the tables agrees on, the binary and Beam alike. Not for: calls (`sawlog-gcp`). Layout and
//! reasons: docs/formats/bigtable.md. Invariants: row keys of a family are in the order of its keys, or in that order
//! within each salt; of two values of a cell the later one has the later time, never the same.

#[cfg(test)]
mod spread;

use xxhash_rust::xxh3::xxh3_64;

use crate::family::Family;
use crate::rollup::{PaneCell, Rollup, Width};
use crate::{rowkey, timeline};

/// Column with a cell's value, the bytes of the embedded store.
pub const VALUE_COLUMN: &[u8] = b"v";
/// Column with the log position that wrote the value of the same time, 8 bytes, big endian. Values without one, of other
/// writers, count at once; others count when the position row has come so far.
pub const POSITION_COLUMN: &[u8] = b"p";
/// Column that marks the value of the same time, which is empty, as a deletion.
pub const DELETED_COLUMN: &[u8] = b"d";
/// Row of the served table that tells how far the worker has come. No key of a cell begins like it.
pub const POSITION_ROW: &[u8] = b"!position";
/// Column family of [`POSITION_ROW`].
pub const META_FAMILY: &str = "meta";

/// A table of the serving store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BigtableTable {
    /// What is asked for: rollups and users.
    Served,
    /// What only the worker reads.
    State,
}

impl BigtableTable {
    /// Both tables.
    pub const ALL: [Self; 2] = [Self::Served, Self::State];

    /// The table of a family.
    #[must_use]
    pub const fn of(family: Family) -> Self {
        match family {
            Family::Rollup10s
            | Family::Rollup1m
            | Family::Rollup1h
            | Family::Session
            | Family::Timeline
            | Family::Profile => Self::Served,
            _ => Self::State,
        }
    }
}

/// Tablets that a new table has for a family whose keys have salts: as many as a large cluster's nodes for ids, of which each
/// event may have one, and fewer for what only windows and sessions have.
const ID_TABLETS: u8 = 16;
const DUE_TABLETS: u8 = 4;

impl BigtableTable {
    /// Row keys at which a new table is cut into tablets, so that the first hour of writes goes to many nodes: the service
    /// cuts and joins tablets by load later. Where keys have salts they are cut by these, elsewhere by kind.
    #[must_use]
    pub fn split_keys(self) -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = match self {
            Self::Served => Rollup::ALL.into_iter().map(|rollup| vec![rollup.byte()]).collect(),
            Self::State => Family::ALL.into_iter().filter(|family| Self::of(*family) == self).flat_map(cuts).collect(),
        };
        keys.sort_unstable();
        keys
    }
}

/// Where the rows of a family begin, and where they are cut.
fn cuts(family: Family) -> Vec<Vec<u8>> {
    match layout_of(family) {
        Layout::Same | Layout::Width(_) => Vec::new(),
        Layout::Coded(code) => vec![vec![code]],
        Layout::Salted(code, _) => {
            let tablets = if family == Family::EventId { ID_TABLETS } else { DUE_TABLETS };
            (0..tablets).map(|part| vec![code, part * (u8::MAX / tablets + 1)]).collect()
        }
    }
}

/// Row keys from the first one up to the second, which is not among them and is absent where they have no end.
pub type RowRange = (Vec<u8>, Option<Vec<u8>>);

/// How a family's keys become row keys.
#[derive(Clone, Copy)]
enum Layout {
    /// As they are: their first byte tells what they are about.
    Same,
    /// With a byte for the width between series and time, so that a series' windows of one width stand together.
    Width(Width),
    /// Behind a byte for the family.
    Coded(u8),
    /// Behind a byte for the family and one for the hash of what follows the time: keys begin with a time, of so many
    /// bytes, and all that is written now would go to one place.
    Salted(u8, usize),
}

const fn layout_of(family: Family) -> Layout {
    match family {
        Family::Rollup10s => Layout::Width(Width::TenSeconds),
        Family::Rollup1m => Layout::Width(Width::Minute),
        Family::Rollup1h => Layout::Width(Width::Hour),
        Family::Session | Family::Timeline | Family::Profile => Layout::Same,
        Family::Deadline => Layout::Salted(b'd', 8),
        Family::SessionDue => Layout::Salted(b'e', 8),
        Family::EventId => Layout::Salted(b'i', 4),
        Family::BatchKey => Layout::Coded(b'b'),
        Family::Watch => Layout::Coded(b'w'),
        Family::Alert => Layout::Coded(b'a'),
        Family::StreamState => Layout::Coded(b's'),
    }
}

const fn code_of(width: Width) -> u8 {
    match width {
        Width::TenSeconds => b's',
        Width::Minute => b'm',
        Width::Hour => b'h',
    }
}

/// Row key of a cell.
#[must_use]
pub fn row_key(family: Family, key: &[u8]) -> Vec<u8> {
    match layout_of(family) {
        Layout::Same => key.to_vec(),
        Layout::Width(width) => match series_len(key) {
            Some(len) => [&key[..len], &[code_of(width)], &key[len..]].concat(),
            None => key.to_vec(),
        },
        Layout::Coded(code) => [&[code], key].concat(),
        Layout::Salted(code, skipped) => [&[code, salt(key, skipped)], key].concat(),
    }
}

/// Key of a cell by its row key; `None` when no row of the family has such a key.
#[must_use]
pub fn key_of_row(family: Family, row: &[u8]) -> Option<Vec<u8>> {
    match layout_of(family) {
        Layout::Same => Some(row.to_vec()),
        Layout::Width(width) => match series_len(row) {
            Some(len) => {
                let time = row[len..].strip_prefix(&[code_of(width)])?;
                Some([&row[..len], time].concat())
            }
            None => Some(row.to_vec()),
        },
        Layout::Coded(code) => row.strip_prefix(&[code]).map(<[u8]>::to_vec),
        Layout::Salted(code, skipped) => {
            let (&found, key) = row.strip_prefix(&[code])?.split_first()?;
            (found == salt(key, skipped)).then(|| key.to_vec())
        }
    }
}

/// Where the keys from `start` up to `end` are. Each range is in the order of keys; a family with salts has one for each
/// of them, which a reader merges.
#[must_use]
pub fn row_ranges(family: Family, start: &[u8], end: Option<&[u8]>) -> Vec<RowRange> {
    let behind = |prefix: &[u8], end: Option<&[u8]>| match end {
        Some(end) => Some([prefix, end].concat()),
        None => after_prefix(prefix),
    };
    match layout_of(family) {
        Layout::Same | Layout::Width(_) => vec![(row_key(family, start), end.map(|end| row_key(family, end)))],
        Layout::Coded(code) => vec![([&[code], start].concat(), behind(&[code], end))],
        Layout::Salted(code, _) => {
            (0..=u8::MAX).map(|salt| ([&[code, salt], start].concat(), behind(&[code, salt], end))).collect()
        }
    }
}

/// The first key after all that begin with a prefix; `None` when there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

/// Bytes of a rollup key before its time; `None` when it is none. No series' key begins with another one's, so that a byte
/// behind it leaves keys in order.
fn series_len(key: &[u8]) -> Option<usize> {
    let part_count = Rollup::of_byte(*key.first()?)?.parts().len();
    let mut ends = key.iter().enumerate().skip(2).filter(|(_, byte)| **byte == 0);
    ends.nth(part_count - 1).map(|(last, _)| last + 1)
}

fn salt(key: &[u8], skipped: usize) -> u8 {
    xxh3_64(&key[skipped.min(key.len())..]).to_be_bytes()[0]
}

/// Time of a cell's value, UTC microseconds in whole milliseconds: of rollups the window's end and two milliseconds for
/// each pane before it, of timelines that of the newest entry. What else is rewritten has no number of its own: its
/// time is the log position that it comes from, one millisecond a byte, which outlasts 9 PB of log.
#[must_use]
pub fn cell_time(family: Family, key: &[u8], value: &[u8], position: u64) -> i64 {
    own_time(family, key, value).unwrap_or_else(|| micros(i64::try_from(position).unwrap_or(i64::MAX)))
}

/// Time of the mark that a cell is deleted: behind that of the value, if there is one, and before that of the next.
#[must_use]
pub fn deletion_time(family: Family, key: &[u8], value: Option<&[u8]>, position: u64) -> i64 {
    match value.and_then(|value| own_time(family, key, value)) {
        Some(time) => time.saturating_add(MILLISECOND),
        None => micros(i64::try_from(position).unwrap_or(i64::MAX)),
    }
}

const MILLISECOND: i64 = 1_000;

fn own_time(family: Family, key: &[u8], value: &[u8]) -> Option<i64> {
    let pane_time = |width: Width| {
        series_len(key)?;
        let index = PaneCell::index_of(value)?;
        let end = rowkey::time_of(key)?.saturating_add(width.micros());
        Some(micros((end / MILLISECOND).max(0).saturating_add(2 * i64::from(index))))
    };
    match family {
        Family::Rollup10s => pane_time(Width::TenSeconds),
        Family::Rollup1m => pane_time(Width::Minute),
        Family::Rollup1h => pane_time(Width::Hour),
        Family::Timeline => timeline::time_of(key).map(|time| micros(time / MILLISECOND)),
        _ => None,
    }
}

/// Milliseconds as microseconds, within what Bigtable takes.
fn micros(millis: i64) -> i64 {
    millis.clamp(0, i64::MAX / MILLISECOND - 1) * MILLISECOND
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rollup;

    /// Bytes that often look like a key of a rollup.
    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(b'q'), Just(b't'), Just(b's'), Just(1), Just(255), any::<u8>()];
        proptest::collection::vec(byte, 0..14)
    }

    fn any_family() -> impl Strategy<Value = Family> {
        (0..Family::ALL.len()).prop_map(|index| Family::ALL[index])
    }

    fn rollup_key(service: &str, start: i64) -> Vec<u8> {
        let mut key = Vec::new();
        rowkey::encode(&mut key, Rollup::Users.byte(), &[Some(service)], start);
        key
    }

    #[test]
    fn widths_of_a_series_stand_apart_and_series_together() {
        let (minute, hour) = (Family::Rollup1m, Family::Rollup1h);
        let rows = [
            row_key(hour, &rollup_key("a", 0)),
            row_key(minute, &rollup_key("a", 60_000_000)),
            row_key(minute, &rollup_key("a", 0)),
            row_key(hour, &rollup_key("b", 0)),
        ];
        assert!(rows.is_sorted());
        assert_eq!(key_of_row(hour, &rows[1]), None);
        assert_eq!(key_of_row(minute, &rows[1]), Some(rollup_key("a", 60_000_000)));
    }

    #[test]
    fn a_later_value_or_deletion_of_a_cell_has_a_later_time() {
        let (key, pane) = (rollup_key("a", 0), |index: u8| vec![1, 0, index]);
        assert_eq!(PaneCell::index_of(&pane(5)), Some(5));
        let time = |index| cell_time(Family::Rollup1m, &key, &pane(index), 77);
        assert_eq!([time(0), time(1)], [60_000_000, 60_002_000]);
        let deleted = deletion_time(Family::Rollup1m, &key, Some(&pane(0)), 78);
        assert!(time(0) < deleted && deleted < time(1));
        let chunk = timeline::key("ann", 5_000_000, 9, 0);
        assert_eq!(cell_time(Family::Timeline, &chunk, b"", 77), 5_000_000);
        for family in [Family::Session, Family::Profile, Family::EventId, Family::Rollup1m] {
            assert_eq!(cell_time(family, b"key", b"value", 77), 77_000);
            assert_eq!(deletion_time(family, b"key", Some(b"value"), 78), 78_000);
            assert!(cell_time(family, b"key", b"value", u64::MAX) > 0);
        }
        let early = rollup::with_time(rollup::prefix_of(&key), i64::MIN);
        assert!(cell_time(Family::Rollup1m, &early, &pane(1), 1) >= 0);
    }

    proptest! {
        #[test]
        fn keys_are_read_back(family in any_family(), key in any_key()) {
            prop_assert_eq!(key_of_row(family, &row_key(family, &key)), Some(key));
        }

        #[test]
        fn a_row_is_in_one_range_if_its_key_is_among_the_keys(family in any_family(), key in any_key(), start in any_key(), end in proptest::option::of(any_key())) {
            let row = row_key(family, &key);
            let ranges = row_ranges(family, &start, end.as_deref());
            let holds = |(first, behind): &&RowRange| *first <= row && behind.as_ref().is_none_or(|behind| row < *behind);
            let is_among = start <= key && end.as_ref().is_none_or(|end| key < *end);
            prop_assert_eq!(ranges.iter().filter(holds).count(), usize::from(is_among));
        }

        #[test]
        fn rows_without_salts_are_in_the_order_of_keys(family in any_family(), one in any_key(), other in any_key()) {
            if row_ranges(family, b"", None).len() == 1 {
                prop_assert_eq!(row_key(family, &one).cmp(&row_key(family, &other)), one.cmp(&other));
            }
        }
    }
}
