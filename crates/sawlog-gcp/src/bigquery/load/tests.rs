//! What a load takes in, refuses, or leaves alone.

use sawlog_seams::contract::warehouse::rows;
use sawlog_seams::warehouse::{MemoryWarehouse, TableSpec, Warehouse};
use sawlog_seams::{Position, SimDisk};

use super::super::schema::tests_support::options;
use super::*;

/// A data folder with rows of some tables.
struct World {
    tables: Arc<MemoryWarehouse>,
    disk: SimDisk,
}

impl World {
    async fn new() -> Self {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/data")).expect("a folder");
        let world = Self { tables: Arc::default(), disk };
        world.append("logs", 5).await;
        world.append("metrics", 5).await;
        world
    }

    async fn append(&self, table: &str, position: u64) {
        let rows = vec![rows(table, &[("a".to_owned(), 20_000), ("b".to_owned(), 20_001)])];
        self.tables.append(table, rows, Position(position)).await.expect("appended");
    }

    fn open(&self, dataset: &str, selection: &Selection) -> Result<Load, LoadError> {
        let mut bigquery = options();
        bigquery.dataset = dataset.to_owned();
        let options = LoadOptions { bigquery, bucket: "b".to_owned(), prefix: "p/".to_owned(), group_bytes: 1 };
        let disk = Arc::new(self.disk.clone());
        Load::open(options, selection, Arc::clone(&self.tables) as Arc<dyn StoredRows>, disk, Path::new("/data"))
    }

    fn all(&self) -> Result<Load, LoadError> {
        self.open("sawlog", &Selection::default())
    }

    fn write_positions(&self, table: &str, position: u64) {
        let text =
            format!(r#"{{"version": 1, "dataset": "p.sawlog", "tables": {{"{table}": {{"position": {position}}}}}}}"#);
        let path = Path::new("/data/bigquery.json");
        sawlog_seams::disk::write_atomic(&self.disk, path, text.as_bytes()).expect("written");
    }

    fn under_way(&self) -> Option<String> {
        under_way(Arc::new(self.disk.clone()), Path::new("/data")).expect("readable")
    }
}

/// Notes that the tables of a load are done.
fn finish(load: &mut Load) {
    for progress in load.content.tables.values_mut() {
        progress.files_done = progress.files;
        progress.rows_done = progress.file_rows;
    }
    load.file.write(&load.content).expect("written");
}

fn refused(load: Result<Load, LoadError>) -> LoadError {
    load.map(drop).expect_err("refused")
}

#[tokio::test]
async fn a_load_takes_every_table_and_ends_with_nothing_left() {
    let world = World::new().await;
    let mut load = world.all().expect("a load");
    let plan = load.plan();
    assert_eq!(plan.len(), TableSpec::all().len());
    let logs = plan.iter().find(|plan| plan.table == "logs").expect("a table");
    assert_eq!((logs.files, logs.rows, logs.rows_done), (2, 2, 0));
    assert_eq!(world.under_way(), None, "opening one changes nothing");
    load.file.write(&load.content).expect("written");
    assert_eq!(world.under_way().as_deref(), Some("p.sawlog"));
    finish(&mut load);
    assert_eq!(world.under_way(), None);
    assert_eq!(world.all().expect("a load").plan(), []);
}

#[tokio::test]
async fn rows_that_the_worker_wrote_are_not_loaded_again() {
    let world = World::new().await;
    world.write_positions("logs", 5);
    let error = refused(world.all());
    assert!(matches!(&error, LoadError::Appended { table } if table == "logs"), "{error}");
    let others = Selection { tables: vec!["metrics".to_owned()], ..Selection::default() };
    assert_eq!(world.open("sawlog", &others).expect("a load").plan().len(), 1);
}

#[tokio::test]
async fn rows_between_a_load_and_the_worker_are_not_passed_over_in_silence() {
    let world = World::new().await;
    finish(&mut world.all().expect("a load"));
    world.append("logs", 9).await;
    let error = refused(world.all());
    assert!(matches!(&error, LoadError::Grown { then: 5, now: 9, .. }), "{error}");
    world.write_positions("logs", 9);
    assert_eq!(world.all().expect("the worker has brought them").plan(), []);
}

#[tokio::test]
async fn a_load_goes_on_with_the_same_dataset_days_and_files_only() {
    let world = World::new().await;
    let load = world.all().expect("a load");
    load.file.write(&load.content).expect("written");
    assert!(matches!(refused(world.open("other", &Selection::default())), LoadError::OtherDataset { .. }));
    let days = Selection { from: Some(20_001), ..Selection::default() };
    let error = refused(world.open("sawlog", &days)).to_string();
    assert!(error.contains("all days") && error.contains("from 2024-10-05"), "{error}");
    world.append("metrics", 6).await;
    assert!(matches!(refused(world.all()), LoadError::Grown { .. }));
}

#[tokio::test]
async fn days_are_chosen_by_partition() {
    let world = World::new().await;
    let days = Selection { from: Some(20_001), until: Some(20_002), tables: vec!["logs".to_owned()] };
    let plan = world.open("sawlog", &days).expect("a load").plan();
    assert_eq!((plan[0].files, plan[0].rows), (1, 1));
}

#[test]
fn objects_are_named_by_bucket_and_prefix() {
    let options = |prefix: &str| LoadOptions {
        bigquery: options(),
        bucket: "b".to_owned(),
        prefix: prefix.to_owned(),
        group_bytes: 1,
    };
    assert_eq!(options("p/q/").uri("x"), "gs://b/p/q/x");
    assert_eq!(options("").uri("x"), "gs://b/x");
}
