//! Upkeep of Delta tables: no row is lost or doubled, whatever runs beside it and wherever it is cut off.

use arrow::array::{AsArray, StringArray};
use sawlog_seams::contract::warehouse::rows;

use super::super::tests::read;
use super::*;

struct Fixture(tempfile::TempDir);

#[async_trait]
impl sawlog_seams::contract::upkeep::Fixture for Fixture {
    async fn open(&self) -> std::sync::Arc<dyn TableUpkeep> {
        std::sync::Arc::new(open(self.0.path()).await)
    }

    async fn rows(&self, stored: &StoredTable) -> Vec<RecordBatch> {
        read(stored)
    }
}

sawlog_seams::upkeep_contract!(Fixture(tempfile::tempdir().expect("a temporary folder")));

const LOGS: &str = "logs";
const PLENTY: u64 = 1 << 30;
const HOUR: Duration = Duration::from_secs(3_600);

/// A moment so far ahead of now that every grace is over for files of other runs and orphans.
fn later(monotonic: Duration) -> Moment {
    Moment { wall: 4_000_000_000_000_000, monotonic }
}

fn start() -> Moment {
    Moment { wall: 1_795_489_200_000_000, monotonic: Duration::from_secs(100) }
}

async fn open(folder: &Path) -> DeltaWarehouse {
    DeltaWarehouse::open(folder).await.expect("a warehouse")
}

/// Appends one file for each name and day.
async fn fill(warehouse: &DeltaWarehouse, names: &[(&str, i32)]) {
    for (name, day) in names {
        let position = Position(warehouse.committed(LOGS).0 + 1);
        let values = [((*name).to_owned(), *day), (format!("{name}'"), *day)];
        warehouse.append(LOGS, vec![rows(LOGS, &values)], position).await.expect("appended");
    }
}

fn paths(warehouse: &DeltaWarehouse) -> Vec<String> {
    warehouse.stored(LOGS).expect("the table").files.iter().map(|file| file.path.clone()).collect()
}

fn names_of(stored: &StoredTable) -> Vec<String> {
    let batches = read(stored);
    let column = |batch: &RecordBatch| -> StringArray {
        batch.column_by_name("service").expect("a column").as_string::<i32>().clone()
    };
    batches.iter().flat_map(|batch| column(batch).iter().flatten().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn sorted_names(warehouse: &DeltaWarehouse) -> Vec<String> {
    let mut names = names_of(&warehouse.stored(LOGS).expect("the table"));
    names.sort_unstable();
    names
}

fn files_on_disk(folder: &Path) -> usize {
    files_below(&folder.join(LOGS)).expect("the folder").len()
}

#[tokio::test]
async fn merged_rows_are_the_same_sorted_and_the_position_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = open(folder.path()).await;
    fill(&warehouse, &[("d", 1), ("b", 1), ("a", 1), ("c", 1)]).await;
    let before = sorted_names(&warehouse);
    let done = warehouse.rewrite(LOGS, &paths(&warehouse), PLENTY, start()).await.expect("merged");
    assert_eq!((done.files_in, done.files_out, done.rows), (4, 1, 8));
    let stored = warehouse.stored(LOGS).expect("the table");
    assert_eq!(names_of(&stored), before, "one file, in the order of the clustering");
    assert_eq!((stored.files.len(), stored.files[0].rows, stored.files[0].partition_days), (1, 8, Some(1)));
    assert_eq!(warehouse.committed(LOGS), Position(4));
    drop(warehouse);
    let reopened = open(folder.path()).await;
    assert_eq!((sorted_names(&reopened), reopened.committed(LOGS)), (before, Position(4)));
}

#[tokio::test]
async fn memory_limits_a_merge_and_files_of_two_days_or_that_are_gone_change_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = open(folder.path()).await;
    fill(&warehouse, &[("a", 1), ("b", 1), ("c", 1), ("x", 2)]).await;
    let days = |day: i32| -> Vec<String> {
        let stored = warehouse.stored(LOGS).expect("the table");
        stored.files.iter().filter(|file| file.partition_days == Some(day)).map(|file| file.path.clone()).collect()
    };
    let all = paths(&warehouse);
    assert_eq!(warehouse.rewrite(LOGS, &all, PLENTY, start()).await.expect("refused"), Rewritten::default());
    assert_eq!(warehouse.rewrite(LOGS, &days(1), 1, start()).await.expect("too large"), Rewritten::default());
    assert_eq!(warehouse.rewrite(LOGS, &days(2), PLENTY, start()).await.expect("alone"), Rewritten::default());
    let gone = [days(1), vec!["event_date=1970-01-02/none.parquet".to_owned()]].concat();
    assert_eq!(warehouse.rewrite(LOGS, &gone, PLENTY, start()).await.expect("gone"), Rewritten::default());
    assert_eq!(paths(&warehouse), all);
    let two = warehouse.rewrite(LOGS, &days(1), 60_000, start()).await.expect("merged");
    assert!(two.files_in >= 2, "{two:?}");
    assert_eq!(sorted_names(&warehouse), ["a", "a'", "b", "b'", "c", "c'", "x", "x'"]);
}

#[tokio::test]
async fn who_reads_an_older_table_keeps_its_files_for_the_grace_by_the_clock_that_cannot_jump() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = open(folder.path()).await;
    fill(&warehouse, &[("a", 1), ("b", 1)]).await;
    let old = warehouse.stored(LOGS).expect("the table");
    warehouse.rewrite(LOGS, &paths(&warehouse), PLENTY, start()).await.expect("merged");
    let early = later(start().monotonic + HOUR - Duration::from_secs(1));
    assert_eq!(warehouse.sweep(LOGS, HOUR, early).await.expect("swept").files, 0);
    assert_eq!(names_of(&old).len(), 4);
    let swept = warehouse.sweep(LOGS, HOUR, later(start().monotonic + HOUR)).await.expect("swept");
    assert_eq!((swept.files, swept.orphans), (2, 0));
    assert_eq!(files_on_disk(folder.path()), 1);
    assert_eq!(sorted_names(&warehouse), ["a", "a'", "b", "b'"]);
}

#[tokio::test]
async fn what_an_earlier_run_took_out_waits_by_the_wall_clock() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = open(folder.path()).await;
    fill(&warehouse, &[("a", 1), ("b", 1)]).await;
    warehouse.rewrite(LOGS, &paths(&warehouse), PLENTY, start()).await.expect("merged");
    drop(warehouse);
    let warehouse = open(folder.path()).await;
    let after = |hours: u32| Moment { wall: start().wall + (HOUR * hours).as_micros() as i64 + 1, monotonic: HOUR * 9 };
    assert_eq!(warehouse.sweep(LOGS, HOUR * 2, after(1)).await.expect("swept").files, 0);
    assert_eq!(warehouse.sweep(LOGS, HOUR * 2, after(2)).await.expect("swept").files, 2);
    assert_eq!(sorted_names(&warehouse), ["a", "a'", "b", "b'"]);
}

#[tokio::test]
async fn a_merge_cut_off_before_its_commit_leaves_an_orphan_that_is_counted_and_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = open(folder.path()).await;
    fill(&warehouse, &[("a", 1), ("b", 1)]).await;
    let table = warehouse.table(LOGS).expect("the table");
    let files = table.present(&paths(&warehouse));
    merge::merge(&table.spec, &table.root, &files, PLENTY).expect("written").expect("merged");
    std::fs::write(table.root.join("_delta_log/00000000000000000009.json#1"), "torn").expect("a leftover");
    drop(warehouse);
    let warehouse = open(folder.path()).await;
    assert_eq!(sorted_names(&warehouse), ["a", "a'", "b", "b'"]);
    let now = Moment { wall: 0, monotonic: HOUR };
    assert_eq!(warehouse.sweep(LOGS, HOUR, now).await.expect("swept").orphans, 0, "it may be in the making");
    assert_eq!(warehouse.sweep(LOGS, HOUR, later(HOUR)).await.expect("swept").orphans, 2);
    assert_eq!(files_on_disk(folder.path()), 2);
    assert_eq!(warehouse.rewrite(LOGS, &paths(&warehouse), PLENTY, start()).await.expect("merged").files_in, 2);
}

#[tokio::test]
async fn a_merge_whose_answer_was_lost_is_not_repeated() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = open(folder.path()).await;
    fill(&warehouse, &[("a", 1), ("b", 1)]).await;
    let stale = open(folder.path()).await;
    warehouse.rewrite(LOGS, &paths(&warehouse), PLENTY, start()).await.expect("merged");
    stale.table(LOGS).expect("the table").is_unsure.store(true, Ordering::Release);
    fill(&stale, &[("c", 1)]).await;
    assert_eq!(sorted_names(&stale), ["a", "a'", "b", "b'", "c", "c'"]);
}

#[tokio::test]
async fn another_writer_that_took_a_file_out_wins() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = open(folder.path()).await;
    fill(&warehouse, &[("a", 1), ("b", 1)]).await;
    let stale = open(folder.path()).await;
    let both = paths(&warehouse);
    assert_eq!(warehouse.remove(LOGS, &both[..1], start()).await.expect("removed"), 1);
    let done = stale.rewrite(LOGS, &both, PLENTY, start()).await;
    assert!(matches!(&done, Ok(report) if report.files_in == 0) || done.is_err(), "{done:?}");
    let reopened = open(folder.path()).await;
    assert_eq!(sorted_names(&reopened).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_merges_and_sweeps_at_the_same_time_keep_every_row_once() {
    const APPENDS: u64 = 60;
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = Arc::new(open(folder.path()).await);
    let appending = Arc::clone(&warehouse);
    let writer = tokio::spawn(async move {
        for position in 1..=APPENDS {
            let values = [(format!("{position:03}"), position as i32 % 2), (format!("{position:03}"), 7)];
            appending.append(LOGS, vec![rows(LOGS, &values)], Position(position)).await.expect("appended");
        }
    });
    let mut at = start();
    while !writer.is_finished() {
        for day in [0, 1, 7] {
            let stored = warehouse.stored(LOGS).expect("the table");
            let of_day = stored.files.iter().filter(|file| file.partition_days == Some(day));
            let group: Vec<String> = of_day.map(|file| file.path.clone()).collect();
            warehouse.rewrite(LOGS, &group, PLENTY, at).await.expect("merged");
        }
        at.monotonic += HOUR;
        warehouse.sweep(LOGS, Duration::ZERO, at).await.expect("swept");
        let names = sorted_names(&warehouse);
        assert!(names.len().is_multiple_of(2) && names.chunks(2).all(|pair| pair[0] == pair[1]), "{names:?}");
    }
    writer.await.expect("the writer ends well");
    let reopened = open(folder.path()).await;
    let expected: Vec<String> = (1..=APPENDS).flat_map(|position| vec![format!("{position:03}"); 2]).collect();
    assert_eq!((sorted_names(&reopened), reopened.committed(LOGS)), (expected, Position(APPENDS)));
}

#[tokio::test]
async fn log_entries_before_a_checkpoint_go_and_the_table_opens_as_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = open(folder.path()).await;
    for _ in 0..CHECKPOINT_COMMITS + 5 {
        fill(&warehouse, &[("a", 1)]).await;
    }
    let before = sorted_names(&warehouse);
    let swept = warehouse.sweep(LOGS, HOUR, later(HOUR)).await.expect("swept");
    assert!(swept.log_entries >= CHECKPOINT_COMMITS - 1, "{swept:?}");
    fill(&warehouse, &[("b", 1)]).await;
    drop(warehouse);
    let reopened = open(folder.path()).await;
    assert_eq!(sorted_names(&reopened).len(), before.len() + 2);
    assert_eq!(reopened.committed(LOGS), Position(CHECKPOINT_COMMITS + 6));
}

#[tokio::test]
async fn taking_files_out_takes_their_rows_and_an_empty_folder_goes_with_the_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = open(folder.path()).await;
    fill(&warehouse, &[("a", 1), ("b", 2)]).await;
    let first: Vec<String> = paths(&warehouse).into_iter().filter(|path| path.contains("1970-01-02")).collect();
    assert_eq!(warehouse.remove(LOGS, &first, start()).await.expect("removed"), 1);
    assert_eq!(warehouse.remove(LOGS, &first, start()).await.expect("nothing to do"), 0);
    assert_eq!(sorted_names(&warehouse), ["b", "b'"]);
    warehouse.sweep(LOGS, HOUR, later(HOUR * 3)).await.expect("swept");
    assert!(!folder.path().join("logs/event_date=1970-01-02").exists());
    fill(&warehouse, &[("c", 1)]).await;
    assert_eq!(sorted_names(&warehouse), ["b", "b'", "c", "c'"]);
}
