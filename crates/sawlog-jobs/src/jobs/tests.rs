//! Jobs over tables that are only lists of files.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use sawlog_core::rollup::{Cell as RollupCell, Expired, PaneCell, PaneTiming, Rollup, Width};
use sawlog_core::rowkey;
use sawlog_core::timeline::Profile;
use sawlog_seams::lake::MemoryLake;
use sawlog_seams::serving::{Cell, Family, MemoryServing, Mutation, ServingError, ServingSnapshot};
use sawlog_seams::upkeep::{RowRange, VisitRows};
use sawlog_seams::warehouse::{StoredFile, Warehouse};
use sawlog_seams::{ManualClock, Position, SimDisk};

use super::*;

/// The files of `logs`, and those taken out of it with the time since when.
struct Lists {
    files: Mutex<Vec<StoredFile>>,
    removed: Mutex<BTreeMap<String, Duration>>,
    is_full: AtomicBool,
    is_too_large: AtomicBool,
    rewrites: AtomicUsize,
}

impl Lists {
    fn with(count: usize) -> Self {
        let file = |index: usize| StoredFile {
            path: format!("f{index}"),
            bytes: 1_000,
            rows: 10,
            written_at: 0,
            partition_days: Some(1),
        };
        let files = Mutex::new((0..count).map(file).collect());
        let (removed, flag) = (Mutex::default(), || AtomicBool::new(false));
        Self { files, removed, is_full: flag(), is_too_large: flag(), rewrites: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl Warehouse for Lists {
    async fn append(&self, _: &str, _: Vec<RecordBatch>, _: Position) -> Result<(), WarehouseError> {
        Ok(())
    }
    fn committed(&self, _: &str) -> Position {
        Position(0)
    }
    fn stored(&self, table: &str) -> Result<Arc<StoredTable>, WarehouseError> {
        let spec = TableSpec::all().into_iter().find(|spec| spec.name == table).expect("a table");
        let files = if table == "logs" { self.files.lock().unwrap().clone() } else { Vec::new() };
        Ok(Arc::new(StoredTable { spec, root: None, files, rows: Vec::new() }))
    }
}

#[async_trait]
impl TableUpkeep for Lists {
    async fn rewrite(&self, table: &str, paths: &[String], _: u64, at: Moment) -> Result<Rewritten, WarehouseError> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(WarehouseError::DiskFull { table: table.to_owned() });
        }
        self.rewrites.fetch_add(1, Ordering::SeqCst);
        if self.is_too_large.load(Ordering::SeqCst) {
            return Ok(Rewritten::default());
        }
        let mut files = self.files.lock().unwrap();
        let (taken, kept): (Vec<_>, Vec<_>) = files.drain(..).partition(|file| paths.contains(&file.path));
        let bytes = taken.iter().map(|file| file.bytes).sum();
        let rows = taken.iter().map(|file| file.rows).sum();
        *files = kept;
        files.push(StoredFile { path: format!("merged{}", taken[0].path), bytes, rows, ..taken[0].clone() });
        self.removed.lock().unwrap().extend(taken.iter().map(|file| (file.path.clone(), at.monotonic)));
        Ok(Rewritten { files_in: taken.len() as u64, bytes_in: bytes, files_out: 1, bytes_out: bytes, rows })
    }
    async fn remove(&self, table: &str, paths: &[String], _: Moment) -> Result<u64, WarehouseError> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(WarehouseError::DiskFull { table: table.to_owned() });
        }
        let mut files = self.files.lock().unwrap();
        let before = files.len();
        files.retain(|file| !paths.contains(&file.path));
        Ok((before - files.len()) as u64)
    }
    async fn sweep(&self, table: &str, grace: Duration, at: Moment) -> Result<Swept, WarehouseError> {
        let mut removed = self.removed.lock().unwrap();
        let before = removed.len();
        if table == "logs" {
            removed.retain(|_, since| at.monotonic - *since < grace);
        }
        Ok(Swept { files: (before - removed.len()) as u64, ..Swept::default() })
    }
    fn read(&self, _: &str, _: &RowRange<'_>, _: &mut VisitRows<'_>) -> Result<(), WarehouseError> {
        Ok(())
    }
}

/// Queries that can be kept from seeing changes, as by a flush that is half done.
#[derive(Default)]
struct Views {
    is_stuck: AtomicBool,
    shown: AtomicBool,
}

#[async_trait]
impl StoreRefresh for Views {
    async fn refresh_stored(&self) -> bool {
        let is_shown = !self.is_stuck.load(Ordering::SeqCst);
        self.shown.fetch_or(is_shown, Ordering::SeqCst);
        is_shown
    }
}

struct World {
    disk: SimDisk,
    tables: Arc<Lists>,
    lake: Arc<MemoryLake>,
    serving: Arc<MemoryServing>,
    views: Arc<Views>,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    jobs: Jobs,
}

const HOUR: Duration = Duration::from_secs(3_600);

impl World {
    fn new(files: usize) -> Self {
        let tables = Arc::new(Lists::with(files));
        let disk = SimDisk::new(1);
        let (lake, serving) = (Arc::new(MemoryLake::default()), Arc::new(MemoryServing::default()));
        let (views, metrics) = (Arc::new(Views::default()), Arc::new(Metrics::default()));
        let clock = Arc::new(ManualClock::at_micros(10 * HOUR.as_micros() as i64));
        let stores = Stores {
            tables: Arc::clone(&tables) as Arc<dyn TableUpkeep>,
            lake: Some(Arc::clone(&lake) as Arc<dyn Lake>),
            serving: Arc::clone(&serving) as Arc<dyn ServingStore>,
            views: Arc::clone(&views) as Arc<dyn StoreRefresh>,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            metrics: Arc::clone(&metrics),
            disk: Arc::new(disk.clone()),
            folder: "/".into(),
        };
        let jobs = Jobs::new(stores, CompactionOptions::default());
        Self { disk, tables, lake, serving, views, clock, metrics, jobs }
    }

    fn waiting(&self) -> usize {
        self.tables.removed.lock().unwrap().len()
    }
}

#[tokio::test]
async fn small_files_become_one_queries_see_it_and_the_old_ones_go_after_the_grace() {
    let world = World::new(20);
    let report = world.jobs.compact().await;
    assert_eq!((report.merged.files_in, report.merged.files_out, report.merged.rows), (20, 1, 200));
    assert!(world.views.shown.load(Ordering::SeqCst));
    world.clock.advance(HOUR - Duration::from_secs(1));
    assert_eq!(world.jobs.compact().await, CompactionReport::default());
    assert_eq!(world.waiting(), 20);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.jobs.compact().await.swept.files, 20);
    let text = world.metrics.to_text();
    for line in
        ["sawlog_compaction_files_in_total 20", "sawlog_compaction_files_out_total 1", "sawlog_compaction_runs_total 3"]
    {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn a_jump_of_the_wall_clock_deletes_nothing_early() {
    let world = World::new(20);
    world.jobs.compact().await;
    world.clock.set_micros(i64::MAX / 2);
    assert_eq!(world.jobs.compact().await.swept, Swept::default());
    assert_eq!(world.waiting(), 20);
}

#[tokio::test]
async fn while_queries_cannot_see_a_merge_its_old_files_stay_and_wait_the_whole_grace_again() {
    let world = World::new(20);
    world.views.is_stuck.store(true, Ordering::SeqCst);
    world.jobs.compact().await;
    world.clock.advance(5 * HOUR);
    assert_eq!(world.jobs.compact().await.swept, Swept::default());
    world.views.is_stuck.store(false, Ordering::SeqCst);
    world.jobs.compact().await;
    world.clock.advance(HOUR / 2);
    world.jobs.compact().await;
    assert_eq!(world.waiting(), 20, "a query may have begun just before it was shown the merge");
    world.clock.advance(HOUR / 2);
    world.jobs.compact().await;
    assert_eq!(world.waiting(), 0);
}

#[tokio::test]
async fn a_failure_is_counted_and_the_next_run_tries_again() {
    let world = World::new(20);
    world.tables.is_full.store(true, Ordering::SeqCst);
    let report = world.jobs.compact().await;
    assert_eq!((report.failures, report.merged.files_in), (1, 0));
    assert!(world.metrics.to_text().contains("sawlog_compaction_failures_total 1"));
    world.tables.is_full.store(false, Ordering::SeqCst);
    assert_eq!(world.jobs.compact().await.merged.files_in, 20);
}

#[tokio::test]
async fn a_group_that_does_not_fit_into_memory_is_not_read_again_and_again() {
    let world = World::new(20);
    world.tables.is_too_large.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(world.jobs.compact().await.merged, Rewritten::default());
    }
    assert_eq!(world.tables.rewrites.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn on_a_nearly_full_disk_nothing_is_merged_and_old_files_are_still_deleted() {
    let world = World::new(20);
    world.jobs.compact().await;
    world.tables.files.lock().unwrap().extend(Lists::with(20).files.into_inner().unwrap());
    world.disk.set_capacity(300 << 20);
    world.clock.advance(HOUR);
    let report = world.jobs.compact().await;
    assert_eq!((report.merged.files_in, report.swept.files, report.failures), (0, 20, 0));
    world.disk.set_capacity(u64::MAX);
    assert_eq!(world.jobs.compact().await.merged.files_in, 21, "the file that the first run made is small, too");
}

#[tokio::test]
async fn a_person_may_merge_before_files_are_old_enough() {
    let world = World::new(2);
    world.clock.set_micros(0);
    assert_eq!(world.jobs.compact().await.merged.files_in, 0);
    assert_eq!(world.jobs.compact_all().await.merged.files_in, 2);
}

#[tokio::test]
async fn the_loop_ends_when_told() {
    let world = World::new(0);
    let (stop, stopped) = watch::channel(false);
    stop.send_replace(true);
    let schedule = Schedule { compaction: Some(HOUR), retention: Some((HOUR, RetentionOptions::default())) };
    world.jobs.run(schedule, stopped.clone()).await;
    world.jobs.run(Schedule::default(), stopped).await;
}

const DAY: i64 = 86_400_000_000;

/// A world on day 100 with one file, one raw object and one rollup cell for each of the days 90 to 99.
async fn ten_days() -> World {
    let world = World::new(10);
    world.clock.set_micros(100 * DAY);
    let mut cells = Vec::new();
    for (index, day) in (90..100).enumerate() {
        world.tables.files.lock().unwrap()[index].partition_days = Some(day);
        let key = format!("raw/receive_date={}/receive_hour=01/a.parquet", crate::date(day));
        world.lake.put(&key, "x".into()).await.expect("stored");
        let mut key = Vec::new();
        rowkey::encode(&mut key, b'q', &[Some("shop"), None, None], i64::from(day) * DAY);
        let cell = RollupCell::new(Rollup::Requests);
        let pane = PaneCell { index: day as u32 % 7, timing: PaneTiming::OnTime, cell };
        cells.push(Mutation { family: Family::Rollup1m, key, value: Some(pane.to_bytes()) });
    }
    world.serving.apply(cells, Position(1)).expect("applied");
    world
}

impl World {
    async fn left(&self) -> (usize, usize, usize) {
        let cells = self.serving.snapshot().scan(Family::Rollup1m, b"", None).expect("cells").len();
        let objects = self.lake.list("raw").await.expect("keys").len();
        (self.tables.files.lock().unwrap().len(), objects, cells)
    }
}

fn keep(days: u32) -> RetentionOptions {
    RetentionOptions {
        tables: vec![("logs", days), ("metrics", 0)],
        lake_days: days,
        cells: vec![(Family::Rollup1m, days)],
        ..RetentionOptions::default()
    }
}

fn outcomes(reports: &[crate::RetentionReport]) -> Vec<(&'static str, crate::RetentionOutcome)> {
    reports.iter().map(|report| (report.subject, report.outcome.clone())).collect()
}

#[tokio::test]
async fn old_days_go_from_tables_lake_and_rollups_and_are_counted() {
    use crate::RetentionOutcome::{Deleted, Nothing, Planned};
    let world = ten_days().await;
    let subjects = |outcome: crate::RetentionOutcome| {
        ["logs", "lake", "rollup_1m"].map(|subject| (subject, outcome.clone())).to_vec()
    };
    // The newest data is of day 99: kept are the days 94 to 99.
    assert_eq!(outcomes(&world.jobs.expire(&keep(5), RetentionMode::DryRun).await), subjects(Planned));
    assert_eq!(world.left().await, (10, 10, 10));
    assert_eq!(outcomes(&world.jobs.expire(&keep(5), RetentionMode::Careful).await), subjects(Deleted));
    assert_eq!(world.left().await, (6, 6, 6));
    // Day 90 had come to pane 6: further panes of the deleted days begin with 7.
    let noted = world.serving.snapshot().get(Family::StreamState, &Expired::key(Width::Minute)).expect("read");
    assert_eq!(noted, Some(Expired { before: 94 * DAY, next_index: 7 }.to_bytes()));
    assert!(world.views.shown.load(Ordering::SeqCst));
    assert_eq!(outcomes(&world.jobs.expire(&keep(5), RetentionMode::Careful).await), subjects(Nothing));
    let text = world.metrics.to_text();
    assert!(text.contains("sawlog_retention_deleted_rows_total{subject=\"logs\"} 40"), "{text}");
    assert!(text.contains("sawlog_retention_deleted_items_total{subject=\"rollup_1m\"} 4"), "{text}");
}

#[tokio::test]
async fn cells_are_looked_at_once_a_day() {
    let world = ten_days().await;
    // The newest data is of day 99.
    world.clock.set_micros(99 * DAY);
    let options = RetentionOptions { tables: Vec::new(), lake_days: 0, ..keep(5) };
    let left = async || {
        let reports = world.jobs.expire(&options, RetentionMode::Careful).await;
        (outcomes(&reports), world.left().await.2)
    };
    assert_eq!(left().await, (vec![("rollup_1m", crate::RetentionOutcome::Deleted)], 6));
    let mut key = Vec::new();
    rowkey::encode(&mut key, b'q', &[Some("shop"), None, None], 50 * DAY);
    let cell = RollupCell::new(Rollup::Requests);
    let pane = PaneCell { index: 0, timing: PaneTiming::OnTime, cell }.to_bytes();
    let old = Mutation { family: Family::Rollup1m, key, value: Some(pane) };
    world.serving.apply(vec![old], Position(2)).expect("applied");
    assert_eq!(left().await, (vec![("rollup_1m", crate::RetentionOutcome::Nothing)], 7));
    world.clock.set_micros(world.clock.now_micros() + DAY);
    assert_eq!(left().await, (vec![("rollup_1m", crate::RetentionOutcome::Deleted)], 6));
}

#[tokio::test]
async fn too_much_at_once_is_refused_until_a_person_forces_it() {
    use crate::RetentionOutcome::{Deleted, Refused};
    let world = ten_days().await;
    let reports = world.jobs.expire(&keep(1), RetentionMode::Careful).await;
    assert!(reports.iter().all(|report| report.outcome == Refused), "{reports:?}");
    assert_eq!(world.left().await, (10, 10, 10));
    assert!(
        world.metrics.to_text().contains("sawlog_retention_problems_total{subject=\"logs\",problem=\"refused\"} 1")
    );
    let reports = world.jobs.expire(&keep(1), RetentionMode::Force).await;
    assert!(reports.iter().all(|report| report.outcome == Deleted), "{reports:?}");
    assert_eq!(world.left().await, (2, 2, 2));
}

#[tokio::test]
async fn a_clock_that_jumps_in_either_direction_deletes_nothing() {
    for now in [100_000 * DAY, -100_000 * DAY, i64::MAX, i64::MIN] {
        let world = ten_days().await;
        world.clock.set_micros(now);
        world.jobs.expire(&keep(20), RetentionMode::Force).await;
        assert_eq!(world.left().await, (10, 10, 10), "{now}");
    }
}

#[tokio::test]
async fn nothing_is_deleted_by_default_and_a_failure_is_reported() {
    let world = ten_days().await;
    assert!(world.jobs.expire(&RetentionOptions::default(), RetentionMode::Force).await.is_empty());
    world.tables.is_full.store(true, Ordering::SeqCst);
    let reports = world.jobs.expire(&keep(5), RetentionMode::Careful).await;
    assert!(
        matches!(&reports[0].outcome, crate::RetentionOutcome::Failed(problem) if problem.contains("disk is full"))
    );
    assert_eq!(world.left().await, (10, 6, 6));
}

/// A serving store to which something comes in while cells are deleted.
struct Busy {
    inner: MemoryServing,
    /// Arrives before the first deletion.
    arrives: Mutex<Vec<Mutation>>,
    parts: Mutex<Vec<usize>>,
}

impl Busy {
    fn begin(&self, cells: usize) {
        self.parts.lock().unwrap().push(cells);
        let position = Position(self.inner.applied().0 + 1);
        self.inner.apply(std::mem::take(&mut self.arrives.lock().unwrap()), position).expect("applied");
    }
}

impl ServingStore for Busy {
    fn apply(&self, mutations: Vec<Mutation>, position: Position) -> Result<(), ServingError> {
        self.inner.apply(mutations, position)
    }
    fn applied(&self) -> Position {
        self.inner.applied()
    }
    fn snapshot(&self) -> Arc<dyn ServingSnapshot> {
        self.inner.snapshot()
    }
    fn delete_unchanged(&self, family: Family, cells: Vec<Cell>) -> Result<(), ServingError> {
        self.begin(cells.len());
        self.inner.delete_unchanged(family, cells)
    }
    fn note(&self, family: Family, cell: Cell) -> Result<(), ServingError> {
        self.begin(1);
        self.inner.note(family, cell)
    }
}

#[tokio::test]
async fn a_profile_that_is_renewed_while_old_ones_are_deleted_stays() {
    const COUNT: u32 = 25_000;
    let profile = |user: u32, day: i64| {
        let profile = Profile { first_seen: DAY, last_seen: day * DAY, event_count: 1, ..Profile::default() };
        Mutation { family: Family::Profile, key: user.to_be_bytes().to_vec(), value: Some(profile.to_bytes()) }
    };
    let busy = Arc::new(Busy { inner: MemoryServing::default(), arrives: Mutex::default(), parts: Mutex::default() });
    // The last user was seen today, the others long ago; the one in the middle comes again.
    let stored = (0..=COUNT).map(|user| profile(user, if user == COUNT { 100 } else { 50 }));
    busy.apply(stored.collect(), Position(1)).expect("applied");
    *busy.arrives.lock().unwrap() = vec![profile(COUNT / 2, 100)];
    let mut world = ten_days().await;
    world.jobs.stores.serving = Arc::clone(&busy) as Arc<dyn ServingStore>;
    let options = RetentionOptions { cells: vec![(Family::Profile, 20)], ..RetentionOptions::default() };
    let reports = world.jobs.expire(&options, RetentionMode::Force).await;
    assert_eq!(outcomes(&reports), [("profile", crate::RetentionOutcome::Deleted)]);
    assert_eq!(reports[0].old.items, u64::from(COUNT));
    assert_eq!(*busy.parts.lock().unwrap(), [10_000, 10_000, 5_000]);
    let left = busy.snapshot().scan(Family::Profile, b"", None).expect("cells");
    let left: Vec<Vec<u8>> = left.into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, [COUNT / 2, COUNT].map(|user| user.to_be_bytes().to_vec()));
}
