//! Contract of [`TableUpkeep`]: one function per sentence of the trait's documentation.
//!
//! For: every implementation, through [`upkeep_contract!`](crate::upkeep_contract). Not for: files that crashes left,
//! disk faults, and other writers of the same tables.

use std::future::poll_fn;
use std::ops::{ControlFlow, Range};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow_array::{Array, RecordBatch, StringArray};
use async_trait::async_trait;

use super::warehouse::rows;
use crate::event_log::Position;
use crate::upkeep::{Moment, Rewritten, RowRange, Swept, TableUpkeep};
use crate::warehouse::{StoredTable, WarehouseError};

/// One storage, on which a warehouse can be opened again and again.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Opens a warehouse on the storage. The warehouse opened before has been dropped.
    async fn open(&self) -> Arc<dyn TableUpkeep>;
    /// All rows of a table as of `stored`, file by file, in the order that they have in it.
    async fn rows(&self, stored: &StoredTable) -> Vec<RecordBatch>;
}

/// Makes one test per function of the contract; the expression gives a [`Fixture`] with fresh storage. The caller's
/// crate needs Tokio with macros.
#[macro_export]
macro_rules! upkeep_contract {
    ($fixture:expr) => {
        $crate::upkeep_contract! { @tests $fixture;
            a_table_without_that_name_is_named
            one_file_takes_the_place_of_many_with_their_rows_in_order
            the_position_stays_and_appends_go_on
            fewer_than_two_files_change_nothing
            files_of_which_one_is_gone_change_nothing
            files_of_two_partitions_change_nothing
            files_are_taken_in_their_order_as_far_as_memory_allows
            files_taken_out_take_their_rows_along
            who_reads_an_older_table_loses_nothing_within_the_grace
            what_was_swept_is_not_swept_again
            upkeep_survives_reopening
            rows_are_read_again_by_day_and_time_with_the_columns_asked_for
            reading_ends_when_the_visitor_has_enough
            appends_and_upkeep_run_at_the_same_time
        }
    };
    (@tests $fixture:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $crate::contract::upkeep::$name(&$fixture).await;
            }
        )*
    };
}

const LOGS: &str = "logs";
const PLENTY: u64 = 1 << 30;
const GRACE: Duration = Duration::from_secs(3_600);

/// A moment so long after the start of the process; the wall clock stands still.
fn after(monotonic: Duration) -> Moment {
    Moment { wall: 1_795_489_200_000_000, monotonic }
}

fn start() -> Moment {
    after(Duration::from_secs(100))
}

/// Appends one file with one row for each name and day.
async fn fill(warehouse: &dyn TableUpkeep, names: &[(&str, i32)]) {
    for (name, day) in names {
        let position = Position(warehouse.committed(LOGS).0 + 1);
        let batch = rows(LOGS, &[((*name).to_owned(), *day)]);
        warehouse.append(LOGS, vec![batch], position).await.expect("appended");
    }
}

fn stored(warehouse: &dyn TableUpkeep) -> Arc<StoredTable> {
    warehouse.stored(LOGS).expect("the table is there")
}

/// Paths of the files of a day, oldest first.
fn paths_of(warehouse: &dyn TableUpkeep, day: i32) -> Vec<String> {
    let stored = stored(warehouse);
    let mut files: Vec<_> = stored.files.iter().filter(|file| file.partition_days == Some(day)).collect();
    files.sort_by_key(|file| &file.path);
    files.into_iter().map(|file| file.path.clone()).collect()
}

/// Values of the first column of the clustering, in the order of files and rows.
async fn services(fixture: &dyn Fixture, stored: &StoredTable) -> Vec<String> {
    let mut found = Vec::new();
    for batch in fixture.rows(stored).await {
        let index = batch.schema().index_of("service").expect("a column of the table");
        let values = batch.column(index).as_any().downcast_ref::<StringArray>().expect("a text column");
        found.extend(values.iter().flatten().map(str::to_owned));
    }
    found
}

async fn sorted_services(fixture: &dyn Fixture, warehouse: &dyn TableUpkeep) -> Vec<String> {
    let mut found = services(fixture, &stored(warehouse)).await;
    found.sort_unstable();
    found
}

async fn rewrite(warehouse: &dyn TableUpkeep, files: &[String], memory_bytes_max: u64) -> Rewritten {
    warehouse.rewrite(LOGS, files, memory_bytes_max, start()).await.expect("a healthy warehouse merges files")
}

/// "No table of that name."
pub async fn a_table_without_that_name_is_named(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    let is_named = |error: WarehouseError| matches!(error, WarehouseError::UnknownTable { table } if table == "none");
    assert!(is_named(warehouse.rewrite("none", &[], PLENTY, start()).await.expect_err("refused")));
    assert!(is_named(warehouse.remove("none", &[], start()).await.expect_err("refused")));
    assert!(is_named(warehouse.sweep("none", GRACE, start()).await.expect_err("refused")));
}

/// "Replaces files of one partition by one file with the same rows, sorted by the table's clustering."
pub async fn one_file_takes_the_place_of_many_with_their_rows_in_order(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    fill(warehouse.as_ref(), &[("d", 1), ("b", 1), ("x", 2), ("a", 1), ("c", 1)]).await;
    let files = paths_of(warehouse.as_ref(), 1);
    let done = rewrite(warehouse.as_ref(), &files, PLENTY).await;
    assert_eq!((done.files_in, done.files_out, done.rows), (4, 1, 4));
    assert!(done.bytes_in > 0 && done.bytes_out > 0, "{done:?}");
    let merged = paths_of(warehouse.as_ref(), 1);
    assert!(merged.len() == 1 && !files.contains(&merged[0]), "{merged:?}");
    let table = stored(warehouse.as_ref());
    let file = table.files.iter().find(|file| file.path == merged[0]).expect("the merged file");
    assert_eq!((file.rows, file.partition_days), (4, Some(1)));
    let names = services(fixture, &table).await;
    let of_day: Vec<_> = names.iter().filter(|name| *name != "x").collect();
    assert_eq!(of_day, ["a", "b", "c", "d"]);
    assert_eq!(sorted_services(fixture, warehouse.as_ref()).await, ["a", "b", "c", "d", "x"]);
}

/// "The position stays."
pub async fn the_position_stays_and_appends_go_on(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    fill(warehouse.as_ref(), &[("a", 1), ("b", 1), ("c", 2)]).await;
    rewrite(warehouse.as_ref(), &paths_of(warehouse.as_ref(), 1), PLENTY).await;
    warehouse.remove(LOGS, &paths_of(warehouse.as_ref(), 2), start()).await.expect("removed");
    assert_eq!(warehouse.committed(LOGS), Position(3));
    warehouse.append(LOGS, vec![rows(LOGS, &[("again".to_owned(), 1)])], Position(3)).await.expect("recognised");
    fill(warehouse.as_ref(), &[("d", 1)]).await;
    assert_eq!(sorted_services(fixture, warehouse.as_ref()).await, ["a", "b", "d"]);
}

/// "Fewer than two change nothing."
pub async fn fewer_than_two_files_change_nothing(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    fill(warehouse.as_ref(), &[("a", 1), ("b", 2)]).await;
    let before = stored(warehouse.as_ref());
    for files in [paths_of(warehouse.as_ref(), 1), Vec::new()] {
        assert_eq!(rewrite(warehouse.as_ref(), &files, PLENTY).await, Rewritten::default());
    }
    assert_eq!(stored(warehouse.as_ref()).files, before.files);
}

/// "And so do files of which one is no part of the table any more."
pub async fn files_of_which_one_is_gone_change_nothing(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    fill(warehouse.as_ref(), &[("a", 1), ("b", 1), ("c", 1)]).await;
    let files = paths_of(warehouse.as_ref(), 1);
    warehouse.remove(LOGS, &files[..1], start()).await.expect("removed");
    assert_eq!(rewrite(warehouse.as_ref(), &files, PLENTY).await, Rewritten::default());
    assert_eq!(paths_of(warehouse.as_ref(), 1), files[1..]);
}

/// "Files of one partition."
pub async fn files_of_two_partitions_change_nothing(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    fill(warehouse.as_ref(), &[("a", 1), ("b", 1), ("c", 2)]).await;
    let files = [paths_of(warehouse.as_ref(), 1), paths_of(warehouse.as_ref(), 2)].concat();
    assert_eq!(rewrite(warehouse.as_ref(), &files, PLENTY).await, Rewritten::default());
    assert_eq!(stored(warehouse.as_ref()).files.len(), 3);
}

/// "Takes the files in the given order for as long as their rows fit into `memory_bytes_max`."
pub async fn files_are_taken_in_their_order_as_far_as_memory_allows(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    fill(warehouse.as_ref(), &[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]).await;
    let mut files = paths_of(warehouse.as_ref(), 1);
    files.reverse();
    assert_eq!(rewrite(warehouse.as_ref(), &files, 1).await, Rewritten::default());
    let mut memory = 1;
    let done = loop {
        memory += 256;
        let done = rewrite(warehouse.as_ref(), &files, memory).await;
        if done.files_in > 0 {
            break done;
        }
        assert!(memory < PLENTY, "nothing ever fits");
    };
    let taken = usize::try_from(done.files_in).expect("few");
    assert!(taken >= 2, "{done:?}");
    let left = paths_of(warehouse.as_ref(), 1);
    assert!(files[..taken].iter().all(|file| !left.contains(file)), "{left:?}");
    assert!(files[taken..].iter().all(|file| left.contains(file)), "{left:?}");
    assert_eq!(sorted_services(fixture, warehouse.as_ref()).await, ["a", "b", "c", "d", "e"]);
}

/// "Takes files and their rows out of the table in one step; files that are no part of it are skipped."
pub async fn files_taken_out_take_their_rows_along(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    fill(warehouse.as_ref(), &[("a", 1), ("b", 2), ("c", 1)]).await;
    let first = [paths_of(warehouse.as_ref(), 1), vec!["none".to_owned()]].concat();
    assert_eq!(warehouse.remove(LOGS, &first, start()).await.expect("removed"), 2);
    assert_eq!(warehouse.remove(LOGS, &first, start()).await.expect("nothing to do"), 0);
    assert_eq!(sorted_services(fixture, warehouse.as_ref()).await, ["b"]);
}

/// "Who reads an older `stored` loses nothing within that time."
pub async fn who_reads_an_older_table_loses_nothing_within_the_grace(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    fill(warehouse.as_ref(), &[("a", 1), ("b", 1), ("c", 2)]).await;
    let older = stored(warehouse.as_ref());
    rewrite(warehouse.as_ref(), &paths_of(warehouse.as_ref(), 1), PLENTY).await;
    warehouse.remove(LOGS, &paths_of(warehouse.as_ref(), 2), start()).await.expect("removed");
    let almost = after(start().monotonic + GRACE - Duration::from_secs(1));
    assert_eq!(warehouse.sweep(LOGS, GRACE, almost).await.expect("swept"), Swept::default());
    assert_eq!(services(fixture, &older).await.len(), 3);
    assert_eq!(sorted_services(fixture, warehouse.as_ref()).await, ["a", "b"]);
}

/// "Deletes files that have been no part of the table for `grace`": all of them once, and no others.
pub async fn what_was_swept_is_not_swept_again(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    fill(warehouse.as_ref(), &[("a", 1), ("b", 1), ("c", 2)]).await;
    rewrite(warehouse.as_ref(), &paths_of(warehouse.as_ref(), 1), PLENTY).await;
    let over = after(start().monotonic + GRACE);
    let swept = warehouse.sweep(LOGS, GRACE, over).await.expect("swept");
    assert_eq!((swept.files, swept.orphans), (2, 0));
    assert!(swept.bytes > 0);
    assert_eq!(warehouse.sweep(LOGS, GRACE, over).await.expect("swept").files, 0);
    assert_eq!(sorted_services(fixture, warehouse.as_ref()).await, ["a", "b", "c"]);
}

/// "Calls `visit` with the rows of a table in a range of event times: those of its files as of now."
pub async fn rows_are_read_again_by_day_and_time_with_the_columns_asked_for(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    fill(warehouse.as_ref(), &[("a", 1), ("b", 1), ("c", 2), ("d", 1)]).await;
    rewrite(warehouse.as_ref(), &paths_of(warehouse.as_ref(), 1), PLENTY).await;
    fill(warehouse.as_ref(), &[("e", 1)]).await;
    let read = |day: i32, times: Range<i64>| {
        let mut found: Vec<String> = Vec::new();
        let columns = ["event_time", "service"];
        warehouse
            .read(LOGS, &RowRange { day, times, columns: &columns }, &mut |batch| {
                let services = batch.column_by_name("service").and_then(|column| column.as_any().downcast_ref());
                let services: &StringArray = services.expect("a column that was asked for");
                assert!(batch.column_by_name("event_time").is_some());
                found.extend(services.iter().flatten().map(str::to_owned));
                ControlFlow::Continue(())
            })
            .expect("read");
        found.sort_unstable();
        found
    };
    // The contract's rows are a microsecond after midnight.
    let at = |day: i64| day * 86_400_000_000 + 1;
    assert_eq!(read(1, i64::MIN..i64::MAX), ["a", "b", "d", "e"]);
    assert_eq!(read(1, at(1)..at(1) + 1), ["a", "b", "d", "e"]);
    assert_eq!(read(2, at(2)..at(3)), ["c"]);
    assert!(
        read(1, at(1) + 1..i64::MAX).is_empty() && read(1, i64::MIN..at(1)).is_empty() && read(3, 0..at(9)).is_empty()
    );
    let none = RowRange { day: 1, times: 0..1, columns: &[] };
    let refused = warehouse.read("none", &none, &mut |_| ControlFlow::Continue(())).expect_err("refused");
    assert!(matches!(refused, WarehouseError::UnknownTable { table } if table == "none"));
}

/// "Until it breaks."
pub async fn reading_ends_when_the_visitor_has_enough(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    fill(warehouse.as_ref(), &[("a", 1), ("b", 1), ("c", 1)]).await;
    let (mut calls, all) = (0, RowRange { day: 1, times: i64::MIN..i64::MAX, columns: &["event_time"] });
    let mut visit = |_: &RecordBatch| {
        calls += 1;
        ControlFlow::Break(())
    };
    warehouse.read(LOGS, &all, &mut visit).expect("read");
    assert_eq!(calls, 1);
}

/// "A call that fails changed nothing or all", and one that succeeds changed it for good.
pub async fn upkeep_survives_reopening(fixture: &dyn Fixture) {
    let warehouse = fixture.open().await;
    fill(warehouse.as_ref(), &[("a", 1), ("b", 1), ("c", 2)]).await;
    rewrite(warehouse.as_ref(), &paths_of(warehouse.as_ref(), 1), PLENTY).await;
    warehouse.remove(LOGS, &paths_of(warehouse.as_ref(), 2), start()).await.expect("removed");
    drop(warehouse);
    let reopened = fixture.open().await;
    assert_eq!(stored(reopened.as_ref()).files.len(), 1);
    assert_eq!(sorted_services(fixture, reopened.as_ref()).await, ["a", "b"]);
    assert_eq!(reopened.committed(LOGS), Position(3));
}

/// "Appends and upkeep of a table may run at the same time", and "a row that is stored is in exactly one file of every
/// `stored`".
pub async fn appends_and_upkeep_run_at_the_same_time(fixture: &dyn Fixture) {
    const ROUNDS: u64 = 12;
    let warehouse = fixture.open().await;
    let mut at = start();
    for round in 0..ROUNDS {
        let values: Vec<_> = (0..3).map(|day| (format!("{round:02}"), day)).collect();
        let append = warehouse.append(LOGS, vec![rows(LOGS, &values)], Position(round + 1));
        let tidy = async {
            for day in 0..3 {
                rewrite(warehouse.as_ref(), &paths_of(warehouse.as_ref(), day), PLENTY).await;
            }
            warehouse.sweep(LOGS, Duration::ZERO, at).await.expect("swept");
        };
        both(async { append.await.expect("appended") }, tidy).await;
        at.monotonic += GRACE;
        let expected: Vec<_> = (0..=round).flat_map(|round| vec![format!("{round:02}"); 3]).collect();
        assert_eq!(sorted_services(fixture, warehouse.as_ref()).await, expected, "round {round}");
    }
    drop(warehouse);
    assert_eq!(fixture.open().await.committed(LOGS), Position(ROUNDS));
}

/// Waits for both at the same time.
async fn both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut one_is_done, mut other_is_done) = (false, false);
    poll_fn(|context| {
        one_is_done = one_is_done || one.as_mut().poll(context).is_ready();
        other_is_done = other_is_done || other.as_mut().poll(context).is_ready();
        if one_is_done && other_is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
