//! Versions of cells: which one counts, and the mutations that write and remove them.
//!
//! For: what columns `v`, `p` and `d` say together. Not for: calls. Invariant: a version counts once the position row has
//! come to the position that wrote it; the newest one that counts is the cell.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::mutation::{
    DeleteFromColumn, DeleteFromFamily, Mutation as Change, SetCell,
};
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::{Mutation, TimestampRange};
use sawlog_core::bigtable::{
    BigtableTable, DELETED_COLUMN, POSITION_COLUMN, VALUE_COLUMN, cell_time, deletion_time, row_key,
};
use sawlog_core::family::Family;
use xxhash_rust::xxh3::xxh3_64;

use super::error::BigtableError;
use super::rows::Row;

/// Longest row key of the service, bytes.
const KEY_BYTES_MAX: usize = 4 << 10;
/// Largest value of the service, bytes.
const VALUE_BYTES_MAX: usize = 100 << 20;
/// Unit of times, microseconds.
const TICK: i64 = 1_000;

/// What becomes of a row, in one step.
#[derive(Clone, Debug)]
pub(super) struct RowChange {
    pub(super) table: BigtableTable,
    pub(super) row: Bytes,
    pub(super) mutations: Vec<Mutation>,
    /// Bytes of key and values, and some for each mutation.
    pub(super) bytes: usize,
}

/// A mark that a cell is deleted, to be removed with what is before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tombstone {
    pub(super) family: Family,
    pub(super) row: Bytes,
    /// UTC microseconds.
    pub(super) time: i64,
}

/// The cell of a family in a row, as of a position of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) value: Option<Bytes>,
    /// Time of the mark that the cell is deleted, if that is why there is no value.
    pub(super) deleted: Option<i64>,
    /// Times of versions that do not count yet.
    pub(super) hidden: Vec<i64>,
}

/// Looks at the versions of each family in a row. Families that are not ours are passed over.
pub(super) fn seen(row: &Row, position: u64) -> Result<BTreeMap<Family, Seen>, BigtableError> {
    #[derive(Default)]
    struct Parts {
        value: Option<Bytes>,
        position: Option<u64>,
        is_deleted: bool,
    }
    let mut parts: BTreeMap<(Family, Reverse<i64>), Parts> = BTreeMap::new();
    for version in &row.versions {
        let Some(family) = Family::ALL.into_iter().find(|family| family.name() == version.family) else { continue };
        let parts = parts.entry((family, Reverse(version.time))).or_default();
        match &*version.column {
            VALUE_COLUMN => parts.value = Some(version.value.clone()),
            POSITION_COLUMN => {
                let position = <[u8; 8]>::try_from(&*version.value);
                let damaged = |_| BigtableError::Damaged(format!("row {} has no position", shown(&row.key)));
                parts.position = Some(u64::from_be_bytes(position.map_err(damaged)?));
            }
            DELETED_COLUMN => parts.is_deleted = true,
            _ => {}
        }
    }
    let mut families: BTreeMap<Family, Seen> = BTreeMap::new();
    for ((family, Reverse(time)), parts) in parts {
        let seen = families.entry(family).or_default();
        if parts.position.is_some_and(|written| written > position) {
            seen.hidden.push(time);
        } else if seen.value.is_none() && seen.deleted.is_none() {
            match parts.is_deleted {
                true => seen.deleted = Some(time),
                false => seen.value = parts.value,
            }
        }
    }
    Ok(families)
}

/// Writes a value of the log up to a position, or the mark that the cell is deleted, behind what was there before.
pub(super) fn write(
    family: Family,
    key: &[u8],
    value: Option<Vec<u8>>,
    before: Option<&[u8]>,
    position: u64,
) -> Result<(RowChange, Option<Tombstone>), BigtableError> {
    let row = checked_row(family, key, value.as_deref())?;
    let time = match &value {
        Some(value) => cell_time(family, key, value, position),
        None => deletion_time(family, key, before, position),
    };
    let tombstone = value.is_none().then(|| Tombstone { family, row: row.clone(), time });
    let position = Bytes::copy_from_slice(&position.to_be_bytes());
    let mut mutations = vec![
        set(family.name(), VALUE_COLUMN, time, value.unwrap_or_default().into()),
        set(family.name(), POSITION_COLUMN, time, position),
    ];
    mutations.push(match &tombstone {
        Some(_) => set(family.name(), DELETED_COLUMN, time, Bytes::new()),
        // A repeated flush may not leave the mark of another one.
        None => remove_between(family, DELETED_COLUMN, time, time + TICK),
    });
    Ok((change(family, row, mutations), tombstone))
}

/// Sets a cell whatever was there before, also what does not count yet.
pub(super) fn overwrite(family: Family, key: &[u8], value: Vec<u8>, position: u64) -> Result<RowChange, BigtableError> {
    let row = checked_row(family, key, Some(&value))?;
    let time = cell_time(family, key, &value, position);
    let position = Bytes::copy_from_slice(&position.to_be_bytes());
    let mutations = vec![
        remove_family(family),
        set(family.name(), VALUE_COLUMN, time, value.into()),
        set(family.name(), POSITION_COLUMN, time, position),
    ];
    Ok(change(family, row, mutations))
}

/// Removes a cell with all its versions.
pub(super) fn erase(family: Family, key: &[u8]) -> RowChange {
    change(family, row_key(family, key).into(), vec![remove_family(family)])
}

/// Removes the versions of a cell up to the mark that it is deleted; later ones stay.
pub(super) fn purge(tombstone: &Tombstone) -> RowChange {
    remove_versions(tombstone.family, tombstone.row.clone(), 0, tombstone.time + TICK)
}

/// Removes one version of a cell.
pub(super) fn remove_version(family: Family, row: Bytes, time: i64) -> RowChange {
    remove_versions(family, row, time, time + TICK)
}

fn remove_versions(family: Family, row: Bytes, from: i64, until: i64) -> RowChange {
    let columns = [VALUE_COLUMN, POSITION_COLUMN, DELETED_COLUMN];
    change(family, row, columns.map(|column| remove_between(family, column, from, until)).to_vec())
}

fn checked_row(family: Family, key: &[u8], value: Option<&[u8]>) -> Result<Bytes, BigtableError> {
    let row = row_key(family, key);
    let too_large =
        |what, bytes, max| BigtableError::TooLarge { family: family.name(), key: shown(key), what, bytes, max };
    match value.map_or(0, <[u8]>::len) {
        _ if row.len() > KEY_BYTES_MAX => Err(too_large("key", row.len(), KEY_BYTES_MAX)),
        bytes if bytes > VALUE_BYTES_MAX => Err(too_large("value", bytes, VALUE_BYTES_MAX)),
        _ => Ok(row.into()),
    }
}

fn change(family: Family, row: Bytes, mutations: Vec<Mutation>) -> RowChange {
    let value_bytes = mutations.iter().map(|mutation| match &mutation.mutation {
        Some(Change::SetCell(cell)) => cell.value.len(),
        _ => 0,
    });
    // A mutation without its value: names, time, and the lengths of all.
    let bytes = row.len() + value_bytes.sum::<usize>() + mutations.len() * 48;
    RowChange { table: BigtableTable::of(family), row, mutations, bytes }
}

/// Sets a cell at a time.
pub(super) fn set(family: &str, column: &'static [u8], time: i64, value: Bytes) -> Mutation {
    let column_qualifier = Bytes::from_static(column);
    let cell = SetCell { family_name: family.to_owned(), column_qualifier, timestamp_micros: time, value };
    Mutation { mutation: Some(Change::SetCell(cell)) }
}

fn remove_between(family: Family, column: &'static [u8], from: i64, until: i64) -> Mutation {
    let removed = DeleteFromColumn {
        family_name: family.name().to_owned(),
        column_qualifier: Bytes::from_static(column),
        time_range: Some(TimestampRange { start_timestamp_micros: from, end_timestamp_micros: until }),
    };
    Mutation { mutation: Some(Change::DeleteFromColumn(removed)) }
}

fn remove_family(family: Family) -> Mutation {
    let removed = DeleteFromFamily { family_name: family.name().to_owned() };
    Mutation { mutation: Some(Change::DeleteFromFamily(removed)) }
}

/// A key in messages: what it begins with tells what it is of, and the hash tells it from others. Keys may have names of users,
/// which do not belong in a log.
pub(super) fn shown(key: &[u8]) -> String {
    let first = key.get(..1).unwrap_or_default().escape_ascii();
    format!("{first}… of {} bytes, XXH3 {:016x}", key.len(), xxh3_64(key))
}

#[cfg(test)]
mod tests {
    use super::super::rows::Version;
    use super::*;

    /// A row of versions: time, position if any, value or deletion.
    fn row(versions: &[(i64, Option<u64>, Option<&'static str>)]) -> Row {
        let mut found = Vec::new();
        for (time, position, value) in versions {
            let mut push = |column: &[u8], value: Vec<u8>| {
                let family = Family::Session.name().to_owned();
                found.push(Version { family, column: column.to_vec(), time: *time, value: value.into() });
            };
            push(VALUE_COLUMN, value.unwrap_or_default().into());
            if let Some(position) = position {
                push(POSITION_COLUMN, position.to_be_bytes().to_vec());
            }
            if value.is_none() {
                push(DELETED_COLUMN, Vec::new());
            }
        }
        Row { key: Bytes::from_static(b"row"), versions: found }
    }

    #[track_caller]
    fn check(versions: &[(i64, Option<u64>, Option<&'static str>)], position: u64, expected: Option<&str>) {
        let seen = seen(&row(versions), position).expect("readable").remove(&Family::Session).unwrap_or_default();
        assert_eq!(seen.value.as_deref(), expected.map(str::as_bytes));
    }

    #[test]
    fn the_newest_version_up_to_the_position_counts() {
        let versions = [(3, Some(30), Some("three")), (2, Some(20), None), (1, Some(10), Some("one"))];
        for (position, expected) in [(9, None), (10, Some("one")), (20, None), (29, None), (30, Some("three"))] {
            check(&versions, position, expected);
        }
        check(&[], 10, None);
    }

    #[test]
    fn what_other_writers_wrote_counts_at_once() {
        check(&[(2, None, Some("theirs")), (1, Some(10), Some("ours"))], 10, Some("theirs"));
        check(&[(3, Some(20), Some("later")), (2, None, Some("theirs"))], 10, Some("theirs"));
        check(&[(2, Some(10), Some("ours")), (1, None, Some("theirs"))], 10, Some("ours"));
    }

    #[test]
    fn an_empty_value_is_a_value() {
        check(&[(1, Some(10), Some(""))], 10, Some(""));
    }

    #[test]
    fn cells_that_the_service_does_not_take_are_named() {
        let error = write(Family::Session, &[b'x'; 5_000], None, None, 1).expect_err("a long key").to_string();
        assert!(error.contains("family session") && error.contains("5000 B of key"), "{error}");
    }
}
