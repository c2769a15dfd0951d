//! Choosing files to merge.
//!
//! For: a plan from a table's files and the time, without touching anything. Invariants: a file is in at most one
//! group; a group has files of one partition only; what is large already, or still young, is left alone.

use std::collections::BTreeMap;
use std::time::Duration;

use sawlog_seams::warehouse::{StoredFile, StoredTable};

/// Files of one merge at most, whatever their size.
const GROUP_FILES_MAX: usize = 256;

/// When and how far files are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionOptions {
    /// Size that merged files should have, bytes. Files of at least half of it are left alone.
    pub file_bytes: u64,
    /// So many small files of a partition are merged while it still grows.
    pub files_min: usize,
    /// Younger files are left alone.
    pub age_min: Duration,
    /// A partition whose files are all older is at rest: two small files are enough to merge them.
    pub quiet: Duration,
    /// Memory for the rows of one merge, bytes.
    pub memory_bytes_max: u64,
    /// How long files stay on the disk after they were taken out of a table.
    pub grace: Duration,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            files_min: 8,
            age_min: Duration::from_secs(60),
            quiet: Duration::from_secs(3_600),
            memory_bytes_max: 256 << 20,
            grace: Duration::from_secs(3_600),
        }
    }
}

/// Groups of paths, each to be merged into one file; partitions with the most files to merge first.
pub(crate) fn groups(table: &StoredTable, options: &CompactionOptions, now: i64) -> Vec<Vec<String>> {
    let mut partitions: BTreeMap<Option<i32>, Vec<&StoredFile>> = BTreeMap::new();
    for file in &table.files {
        partitions.entry(file.partition_days).or_default().push(file);
    }
    let mut groups: Vec<Vec<String>> =
        partitions.into_values().flat_map(|files| of_partition(files, options, now)).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    groups
}

fn of_partition(mut files: Vec<&StoredFile>, options: &CompactionOptions, now: i64) -> Vec<Vec<String>> {
    let is_older = |file: &&StoredFile, age: Duration| now.saturating_sub(file.written_at) >= age.as_micros() as i64;
    let is_quiet = files.iter().all(|file| is_older(file, options.quiet));
    files.retain(|file| file.bytes < options.file_bytes / 2 && is_older(file, options.age_min));
    files.sort_unstable_by_key(|file| (file.bytes, file.path.clone()));
    let mut groups = Vec::new();
    let mut rest = files.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |file: &&&StoredFile| {
            bytes += file.bytes;
            bytes <= options.file_bytes
        };
        let count = rest.iter().take(GROUP_FILES_MAX).take_while(fits).count().max(1);
        let (group, later) = rest.split_at(count);
        let group = if is_quiet { group } else { worthwhile(group) };
        if group.len() >= if is_quiet { 2 } else { options.files_min.max(2) } {
            groups.push(group.iter().map(|file| file.path.clone()).collect());
        }
        rest = later;
    }
    groups
}

/// Leaves out the largest files while they are larger than all others together: each byte is then written again only
/// when the file that it is in at least doubles, so a growing partition costs a logarithm of rewrites.
fn worthwhile<'a, 'b>(group: &'a [&'b StoredFile]) -> &'a [&'b StoredFile] {
    let mut group = group;
    while let [others @ .., largest] = group {
        if largest.bytes <= others.iter().map(|file| file.bytes).sum() {
            break;
        }
        group = others;
    }
    group
}

#[cfg(test)]
mod tests {
    use sawlog_seams::warehouse::TableSpec;

    use super::*;

    const MINUTE: i64 = 60_000_000;
    const NOW: i64 = 1_000 * MINUTE;

    /// Files of sizes in KiB, by day; each is so many minutes old.
    fn table(files: &[(i32, u64, i64)]) -> StoredTable {
        let file = |(index, (day, size, age)): (usize, &(i32, u64, i64))| StoredFile {
            path: format!("{day}/{index}"),
            bytes: size << 10,
            rows: 1,
            written_at: NOW - age * MINUTE,
            partition_days: Some(*day),
        };
        let spec = TableSpec::all().remove(0);
        StoredTable { spec, root: None, files: files.iter().enumerate().map(file).collect(), rows: Vec::new() }
    }

    fn check(files: &[(i32, u64, i64)], expected: &[&[&str]]) {
        let options = CompactionOptions { file_bytes: 1 << 20, files_min: 4, ..CompactionOptions::default() };
        let found = groups(&table(files), &options, NOW);
        let expected: Vec<Vec<String>> =
            expected.iter().map(|group| group.iter().map(|path| (*path).to_owned()).collect()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_growing_partition_waits_for_enough_files() {
        check(&[(1, 10, 5), (1, 10, 4), (1, 10, 3)], &[]);
        check(&[(1, 10, 5), (1, 10, 4), (1, 10, 3), (1, 10, 2)], &[&["1/0", "1/1", "1/2", "1/3"]]);
    }

    #[test]
    fn young_files_are_left_alone() {
        check(&[(1, 10, 5), (1, 10, 4), (1, 10, 3), (1, 10, 0)], &[]);
    }

    #[test]
    fn partitions_are_never_mixed_and_the_fullest_comes_first() {
        check(
            &[(1, 10, 90), (2, 10, 90), (1, 10, 90), (2, 10, 90), (2, 10, 90)],
            &[&["2/1", "2/3", "2/4"], &["1/0", "1/2"]],
        );
    }

    #[test]
    fn a_quiet_partition_needs_two_files_and_one_is_enough_for_none() {
        check(&[(1, 10, 90), (1, 20, 90)], &[&["1/0", "1/1"]]);
        check(&[(1, 10, 90), (1, 20, 5)], &[]);
        check(&[(1, 10, 90)], &[]);
    }

    #[test]
    fn large_files_are_left_alone_and_groups_stay_below_the_target() {
        check(&[(1, 512, 90), (1, 10, 90)], &[]);
        check(&[(1, 400, 90), (1, 400, 90), (1, 400, 90), (1, 400, 90)], &[&["1/0", "1/1"], &["1/2", "1/3"]]);
    }

    #[test]
    fn a_merged_file_is_not_rewritten_for_a_few_small_ones() {
        let small = [(1, 10, 5); 4];
        check(&[&[(1, 300, 5)], &small[..]].concat(), &[&["1/1", "1/2", "1/3", "1/4"]]);
        check(&[&[(1, 40, 5)], &small[..]].concat(), &[&["1/1", "1/2", "1/3", "1/4", "1/0"]]);
    }

    #[test]
    fn a_clock_that_went_back_merges_nothing_and_does_not_overflow() {
        let options = CompactionOptions::default();
        assert!(groups(&table(&[(1, 10, 0); 20]), &options, i64::MIN).is_empty());
    }

    #[test]
    fn every_byte_is_rewritten_a_logarithm_of_times_while_a_day_grows() {
        let options = CompactionOptions { file_bytes: 64 << 20, files_min: 8, ..CompactionOptions::default() };
        let mut state = table(&[]);
        let (mut written, mut added) = (0, 0);
        for index in 0..1_440 {
            let mut next = table(&[(1, 20, 5)]).files.remove(0);
            next.path = format!("new{index}");
            added += next.bytes;
            state.files.push(next);
            for group in groups(&state, &options, NOW) {
                let (taken, kept): (Vec<_>, Vec<_>) =
                    state.files.into_iter().partition(|file| group.contains(&file.path));
                let bytes: u64 = taken.iter().map(|file| file.bytes).sum();
                written += bytes;
                let merged = StoredFile { path: format!("merged{index}"), bytes, ..taken[0].clone() };
                state.files = kept;
                state.files.push(merged);
            }
        }
        assert!(written < 6 * added, "rewritten {} times", written / added);
        assert!(state.files.len() < 24, "{} files are left of a day", state.files.len());
    }
}
