//! What is loaded: tables, days, files, and which files go together.
//!
//! For: the same order and the same groups whenever a load goes on. Not for: loading ([`super::run`]).

use std::ops::Range;
use std::sync::Arc;

use sawlog_core::time::civil_from_days;
use sawlog_seams::stored_rows::StoredRows;
use sawlog_seams::warehouse::{StoredTable, TableSpec};

use super::error::LoadError;

const DAY_MICROS: i64 = 86_400_000_000;
/// Days of a group at most: a statement changes 4,000 partitions at most, and a day may have 24.
const GROUP_DAYS_MAX: usize = 150;

/// What of a data folder is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names of tables; empty for all.
    pub tables: Vec<String>,
    /// First day, since the epoch (UTC); `None` for the first that there is.
    pub from: Option<i32>,
    /// The day behind the last one; `None` for all.
    pub until: Option<i32>,
}

impl Selection {
    /// The tables, in their order.
    pub(super) fn specs(&self) -> Result<Vec<TableSpec>, LoadError> {
        let all = TableSpec::all();
        if let Some(table) = self.tables.iter().find(|name| all.iter().all(|spec| spec.name != *name)) {
            let known = all.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ");
            return Err(LoadError::UnknownTable { table: table.clone(), known });
        }
        let is_chosen = |spec: &TableSpec| self.tables.is_empty() || self.tables.iter().any(|name| name == spec.name);
        Ok(all.into_iter().filter(is_chosen).collect())
    }

    fn has_day(&self, day: i32) -> bool {
        self.from.is_none_or(|from| day >= from) && self.until.is_none_or(|until| day < until)
    }

    /// Times of the days, UTC microseconds; `None` for all.
    fn times(&self) -> Option<Range<i64>> {
        let micros = |day: i32| i64::from(day) * DAY_MICROS;
        (self.from.is_some() || self.until.is_some())
            .then(|| self.from.map_or(i64::MIN, micros)..self.until.map_or(i64::MAX, micros))
    }
}

/// Days for people.
pub(super) fn days_text(from: Option<i32>, until: Option<i32>) -> String {
    let date = |day: i32| {
        let (year, month, day) = civil_from_days(i64::from(day));
        format!("{year:04}-{month:02}-{day:02}")
    };
    match (from, until) {
        (None, None) => "all days".to_owned(),
        (Some(from), None) => format!("the days from {}", date(from)),
        (None, Some(until)) => format!("the days before {}", date(until)),
        (Some(from), Some(until)) => format!("the days from {} until before {}", date(from), date(until)),
    }
}

/// A table that is loaded.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) stored: Arc<StoredTable>,
    /// Position of the table.
    pub(super) position: u64,
    /// Places of the files in the table, in the order of their names, and so of their days.
    pub(super) files: Vec<usize>,
    /// Times of the rows, where not all rows of the files are wanted.
    pub(super) times: Option<Range<i64>>,
}

impl Source {
    pub(super) fn of(tables: &dyn StoredRows, spec: &TableSpec, selection: &Selection) -> Result<Self, LoadError> {
        let stored = tables.stored(spec.name)?;
        let is_chosen = |place: &usize| stored.files[*place].partition_days.is_none_or(|day| selection.has_day(day));
        let mut files: Vec<usize> = (0..stored.files.len()).filter(is_chosen).collect();
        files.sort_by(|one, other| stored.files[*one].path.cmp(&stored.files[*other].path));
        let times = selection.times().filter(|_| spec.partition.is_none());
        Ok(Self { position: tables.committed(spec.name).0, stored, files, times })
    }

    pub(super) fn name(&self) -> &'static str {
        self.stored.spec.name
    }

    /// Rows of the files.
    pub(super) fn rows(&self) -> u64 {
        self.files.iter().map(|place| self.stored.files[*place].rows).sum()
    }

    /// Bytes of the files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|place| self.stored.files[*place].bytes).sum()
    }

    /// The files that go together after so many others: one at least, as long as they have no more than `bytes_max`.
    pub(super) fn group(&self, done: usize, bytes_max: u64) -> &[usize] {
        let left = &self.files[done.min(self.files.len())..];
        let (mut bytes, mut days, mut count) = (0, 0, 0);
        let mut last = None;
        for place in left {
            let file = &self.stored.files[*place];
            bytes += file.bytes;
            days += usize::from(last.replace(file.partition_days) != Some(file.partition_days));
            if count > 0 && (bytes > bytes_max || days > GROUP_DAYS_MAX) {
                break;
            }
            count += 1;
        }
        &left[..count]
    }
}

#[cfg(test)]
mod tests {
    use sawlog_seams::warehouse::StoredFile;

    use super::*;

    fn source(files: &[(u64, i32)]) -> Source {
        let spec = TableSpec::all().remove(0);
        let file = |(bytes, day): &(u64, i32)| StoredFile {
            path: format!("{day}/{bytes}"),
            bytes: *bytes,
            rows: 1,
            written_at: 0,
            partition_days: Some(*day),
        };
        let files: Vec<StoredFile> = files.iter().map(file).collect();
        let places = (0..files.len()).collect();
        let stored = Arc::new(StoredTable { spec, root: None, files, rows: Vec::new() });
        Source { stored, position: 1, files: places, times: None }
    }

    #[test]
    fn files_go_together_up_to_a_size_and_a_number_of_days() {
        let source_of_sizes = source(&[(6, 1), (4, 1), (1, 1), (20, 2), (1, 3)]);
        let (mut done, mut groups) = (0, Vec::new());
        while done < source_of_sizes.files.len() {
            let group = source_of_sizes.group(done, 10);
            groups.push(group.to_vec());
            done += group.len();
        }
        assert_eq!(groups, [vec![0, 1], vec![2], vec![3], vec![4]]);
        let days: Vec<(u64, i32)> = (0..400).map(|day| (1, day / 2)).collect();
        assert_eq!(source(&days).group(0, 1_000).len(), 2 * GROUP_DAYS_MAX);
        assert!(source(&[]).group(0, 10).is_empty());
    }

    #[test]
    fn an_unknown_table_is_answered_with_all_names() {
        let selection = Selection { tables: vec!["lgs".to_owned()], ..Selection::default() };
        let error = selection.specs().map(drop).expect_err("no such table").to_string();
        assert!(error.contains("\"lgs\"") && error.contains("logs, metrics"), "{error}");
    }

    #[test]
    fn days_are_told_as_they_are_given() {
        assert_eq!(days_text(Some(20_000), Some(20_001)), "the days from 2024-10-04 until before 2024-10-05");
        assert_eq!(days_text(None, None), "all days");
        let selection = Selection { from: Some(1), until: Some(3), ..Selection::default() };
        assert_eq!([0, 1, 2, 3].map(|day| selection.has_day(day)), [false, true, true, false]);
        assert_eq!(selection.times(), Some(DAY_MICROS..3 * DAY_MICROS));
    }
}
