//! Days in memory: what is compared, what is left alone, and in how much memory.

use std::sync::Arc;

use async_trait::async_trait;
use sawlog_core::batch::{AgeLimits, Format, RawBatch};
use sawlog_core::rollup::Admission;
use sawlog_core::rules::Rules;
use sawlog_core::transform::transform;
use sawlog_seams::serving::{MemoryServing, Mutation, ServingStore};
use sawlog_seams::view::StoreRefresh;
use sawlog_seams::warehouse::{MemoryWarehouse, Warehouse};
use sawlog_seams::{ManualClock, Position, SimDisk};
use sawlog_telemetry::Metrics;

use super::*;
use crate::jobs::Stores;
use crate::plan::CompactionOptions;

const TODAY: i32 = 20_783;

struct Views;

#[async_trait]
impl StoreRefresh for Views {
    async fn refresh_stored(&self) -> bool {
        true
    }
}

struct World {
    tables: Arc<MemoryWarehouse>,
    serving: Arc<MemoryServing>,
    jobs: Jobs,
    position: u64,
}

impl World {
    fn new() -> Self {
        let (tables, serving) = (Arc::new(MemoryWarehouse::default()), Arc::new(MemoryServing::default()));
        let stores = Stores {
            tables: Arc::clone(&tables) as Arc<dyn TableUpkeep>,
            lake: None,
            serving: Arc::clone(&serving) as Arc<dyn ServingStore>,
            views: Arc::new(Views),
            clock: Arc::new(ManualClock::at_micros(i64::from(TODAY) * DAY)),
            metrics: Arc::new(Metrics::default()),
            disk: Arc::new(SimDisk::new(1)),
            folder: "/".into(),
        };
        Self { tables, serving, jobs: Jobs::new(stores, CompactionOptions::default()), position: 0 }
    }

    /// Stores rows, and with `is_in_time` their cells as the stream does.
    async fn add(&mut self, body: &str, is_in_time: bool) {
        let batch = RawBatch {
            batch_id: "b",
            source: "test",
            file: None,
            format: Format::Json,
            is_declared: true,
            receive_time: i64::from(TODAY) * DAY,
            age: AgeLimits::any_past(),
            body: body.as_bytes(),
        };
        let rows = transform(&batch, &Rules::none()).expect("a batch");
        let (mut deltas, mut admission) = (Deltas::default(), Admission::default());
        self.position += 1;
        let position = Position(self.position);
        for (table, _) in TABLES {
            let rows = &rows.tables[table as usize];
            deltas.add(table, rows, 0, &RollupOptions::default(), &mut admission);
            self.tables.append(table.name(), vec![rows.clone()], position).await.expect("appended");
        }
        let mut mutations = Vec::new();
        for width in Width::ALL.into_iter().filter(|_| is_in_time) {
            for (series, start, cell) in deltas.cells(width) {
                let pane = PaneCell { index: 0, timing: PaneTiming::OnTime, cell };
                let (family, key) = (Family::of_width(width), rollup::with_time(series, start));
                mutations.push(Mutation { family, key, value: Some(pane.to_bytes()) });
            }
        }
        self.serving.apply(mutations, position).expect("applied");
    }

    /// Deletes all cells of a width, as retention does.
    fn forget(&self, width: Width) {
        let family = Family::of_width(width);
        let cells = self.serving.snapshot().scan(family, b"", None).expect("cells");
        self.serving.delete_unchanged(family, cells).expect("deleted");
    }

    /// Counts again; returns corrections by stretch, and what was found by rollup.
    fn recount(&self, options: &RecountOptions) -> (Vec<Vec<Correction>>, Vec<RecountReport>) {
        let mut recount = self.jobs.recount(TODAY - 1, options).expect("begun");
        let mut stretches = Vec::new();
        while let Some(corrections) = recount.next_stretch().expect("counted") {
            stretches.push(corrections);
        }
        (stretches, recount.into_reports())
    }
}

fn options() -> RecountOptions {
    RecountOptions {
        rollup: RollupOptions::default(),
        retention: RetentionOptions::default(),
        complete_until: i64::from(TODAY) * DAY,
        memory_bytes_max: usize::MAX,
    }
}

/// One log record in each hour of yesterday.
fn logs(service: &str) -> String {
    let line = |hour: i64| {
        let seconds = i64::from(TODAY - 1) * 86_400 + hour * 3_600 + 59;
        format!("{{\"ts\":{seconds},\"service\":\"{service}\",\"path\":\"/p\",\"user_id\":\"u{hour}\"}}\n")
    };
    (0..24).map(line).collect()
}

fn activity() -> String {
    format!("{{\"ts\":{},\"event\":\"buy\",\"user_id\":\"a\"}}\n", i64::from(TODAY - 1) * 86_400 + 7)
}

fn report(reports: &[RecountReport], rollup: Rollup) -> &RecountReport {
    reports.iter().find(|report| report.rollup == rollup).expect("every rollup is reported")
}

#[tokio::test]
async fn little_memory_makes_shorter_stretches_with_the_same_corrections() {
    let mut world = World::new();
    world.add(&logs("shop"), true).await;
    assert!(world.recount(&options()).0.iter().all(Vec::is_empty), "nothing came too late");
    world.add(&logs("late"), false).await;
    assert_eq!(world.jobs.recountable_days().expect("days").into_iter().collect::<Vec<_>>(), [TODAY - 1]);
    let (whole, found) = world.recount(&options());
    let requests = report(&found, Rollup::Requests);
    assert_eq!((whole.len(), requests.windows, requests.differing), (1, 2 * 3 * 24, 3 * 24));
    assert_eq!((requests.events_added, requests.differences.len()), (Some(24), DIFFERENCES_MAX));
    assert_eq!(report(&found, Rollup::Users).events_added, None);
    let (stretches, by_hour) = world.recount(&RecountOptions { memory_bytes_max: 1, ..options() });
    assert_eq!(stretches.len(), 24);
    let sorted = |stretches: Vec<Vec<Correction>>| {
        let mut all = stretches.concat();
        all.sort_by(|a, b| (a.width, &a.key).cmp(&(b.width, &b.key)));
        all
    };
    assert_eq!((sorted(stretches), by_hour), (sorted(whole), found));
}

#[tokio::test]
async fn what_retention_has_deleted_is_not_made_again() {
    let mut world = World::new();
    world.add(&logs("shop"), true).await;
    world.forget(Width::TenSeconds);
    world.add(&logs("late"), false).await;
    let widths = |options: &RecountOptions| {
        let mut found: Vec<Width> = world.recount(options).0.concat().iter().map(|one| one.width).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    assert_eq!(widths(&options()), [Width::Minute, Width::Hour]);
    let mut minutes_gone = options();
    minutes_gone.retention.cells = vec![(Family::Rollup1m, 0), (Family::Rollup1h, 7)];
    assert_eq!(widths(&minutes_gone), [Width::Minute, Width::Hour], "0 days keep for ever");
    world.forget(Width::Minute);
    world.forget(Width::Hour);
    assert_eq!(widths(&options()), Width::ALL, "a day of which nothing came in time");
    minutes_gone.complete_until = i64::from(TODAY - 1) * DAY + HOUR;
    assert!(world.recount(&minutes_gone).0.concat().iter().all(|one| {
        rollup::decode(&one.key).is_some_and(|(_, key)| key.time + one.width.micros() <= minutes_gone.complete_until)
    }));
}

#[tokio::test]
async fn rollups_of_a_table_whose_rows_were_deleted_are_left_alone() {
    let mut world = World::new();
    world.add(&[logs("shop"), activity()].concat(), true).await;
    world.add(&logs("late"), false).await;
    let mut old = options();
    old.retention.tables = vec![(Table::Activity.name(), 1)];
    assert_eq!(report(&world.recount(&old).1, Rollup::Users).deleted, None, "yesterday is kept");
    let stored = world.tables.stored(Table::Activity.name()).expect("the table");
    let files: Vec<String> = stored.files.iter().map(|file| file.path.clone()).collect();
    let at = sawlog_seams::upkeep::Moment { wall: 0, monotonic: std::time::Duration::ZERO };
    world.tables.remove(Table::Activity.name(), &files, at).await.expect("removed");
    let (_, found) = world.recount(&options());
    for rollup in [Rollup::Activity, Rollup::Users, Rollup::Top] {
        let report = report(&found, rollup);
        assert_eq!((report.deleted, report.windows, report.differing), (Some(Table::Activity), 0, 0), "{rollup:?}");
    }
    assert_eq!(report(&found, Rollup::Requests).events_added, Some(24), "logs are all there");
}
