//! Tables of a data folder into BigQuery, stopped at every step.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sawlog_gcp::bigquery::load::{Load, LoadError, LoadOptions, Selection, Step, undo};
use sawlog_gcp::storage::{GcsLake, GcsLakeOptions};
use sawlog_seams::contract::remote::logs;
use sawlog_seams::lake::Lake;
use sawlog_seams::stored_rows::StoredRows;
use tokio::sync::Notify;

use super::*;

const BUCKET: &str = "lake";

/// Whether a step is the one where a load is cut off.
type At = fn(&Step) -> bool;

/// A data folder with two files of logs and one of dead letters, and doubles of both services over one folder.
struct Place {
    storage: Storage,
    lake: GcsLake,
    prefix: String,
    tables: Arc<MemoryWarehouse>,
    /// One double of each for all tests: that of BigQuery reads the files of the other one.
    _doubles: &'static Doubles,
}

struct Doubles {
    bigquery: Double,
    bucket: Double,
    _root: tempfile::TempDir,
}

static DOUBLES: LazyLock<Doubles> = LazyLock::new(|| {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path().display().to_string();
    let bucket = Double::start("storage", &["-root", &path, "-bucket", BUCKET], 1);
    Doubles { bigquery: running(&["-with-input", "-root", &path]), bucket, _root: root }
});

impl Place {
    /// A place whose dataset has a name of its own.
    async fn new(dataset: &str) -> Self {
        let doubles = &*DOUBLES;
        let storage = Storage::on(&doubles.bigquery, dataset, Delivery::ExactlyOnce, 20_000);
        let prefix = format!("logs/{dataset}");
        let lake = GcsLake::open(GcsLakeOptions {
            bucket: BUCKET.to_owned(),
            prefix: prefix.clone(),
            access: Access::new(Some(doubles.bucket.url())).expect("a URL"),
            try_deadline: Duration::from_secs(10),
            call_deadline: Duration::from_secs(10),
        });
        let tables = Arc::new(MemoryWarehouse::default());
        for position in 1..=2 {
            tables.append("logs", vec![logs()], Position(position)).await.expect("appended");
        }
        let letters = batch("dead_letters", &["a", "b"], 20_000);
        tables.append("dead_letters", letters, Position(2)).await.expect("appended");
        Self { storage, lake: lake.expect("a lake"), prefix, tables, _doubles: doubles }
    }

    fn options(&self) -> LoadOptions {
        let (bigquery, prefix) = (self.storage.options.clone(), self.prefix.clone());
        LoadOptions { bigquery, bucket: BUCKET.to_owned(), prefix, group_bytes: 1 }
    }

    fn open(&self) -> Load {
        let selection = Selection { tables: vec!["logs".into(), "dead_letters".into()], ..Selection::default() };
        let (tables, folder) = (Arc::clone(&self.tables) as Arc<dyn StoredRows>, self.storage.folder.path());
        Load::open(self.options(), &selection, tables, Arc::new(RealDisk), folder).expect("a load")
    }

    /// Loads until a step is told so often, where it is cut off.
    async fn cut_off(&self, at: At, count: usize) {
        let (reached, seen) = (Notify::new(), AtomicUsize::new(0));
        let step = |step: Step| {
            if at(&step) && seen.fetch_add(1, Ordering::Relaxed) + 1 == count {
                reached.notify_one();
            }
        };
        let mut load = self.open();
        tokio::select! {
            biased;
            () = reached.notified() => {}
            ended = load.run(&self.lake, &step) => panic!("it ended before: {ended:?}"),
        }
    }

    async fn finish(&self) -> Result<u64, LoadError> {
        Ok(self.open().run(&self.lake, &|_| {}).await?.rows)
    }

    fn note(&self) -> PathBuf {
        self.storage.folder.path().join("bigquery-load.json")
    }

    /// Rows of logs, and how many are different.
    async fn logs(&self) -> Vec<String> {
        let sql = "SELECT COUNT(*), COUNT(DISTINCT CONCAT(CAST(flush_position AS STRING) || '/' || CAST(flush_row AS STRING))) \
                   FROM `{}.logs_rows` WHERE event_time > '2000-01-01'";
        self.storage.values(sql).await.remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_loaded_once_wherever_a_load_was_cut_off() {
    let place = Place::new("cut_off").await;
    let steps: [At; 6] = [
        |step| matches!(step, Step::Uploaded { .. }),
        |step| matches!(step, Step::Loaded { .. }),
        |step| matches!(step, Step::Inserting { .. }),
        |step| matches!(step, Step::Inserted { .. }),
        |step| matches!(step, Step::Table { table: "dead_letters", .. }),
        |step| matches!(step, Step::Inserted { table: "dead_letters", .. }),
    ];
    for at in steps {
        place.cut_off(at, 1).await;
    }
    place.finish().await.expect("loaded");
    assert_eq!(place.open().plan(), []);
    assert_eq!(place.logs().await, ["10", "10"]);
    let attributes = "SELECT COUNT(*), COUNT(DISTINCT flush_writer) FROM `{}.logs_rows` WHERE \
                      event_time > '2000-01-01' AND JSON_VALUE(attributes, '$.team') = 'it\\'s \"x\"'";
    assert_eq!(place.storage.values(attributes).await, [["2", "1"]]);
    let letters = "SELECT COUNT(*) FROM `{}.dead_letters` WHERE receive_time > '2000-01-01'";
    assert_eq!(place.storage.values(letters).await, [["2"]]);
    assert_eq!(place.lake.list("").await.expect("keys"), Vec::<String>::new(), "nothing in between is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staging_table_that_expired_is_made_again() {
    let place = Place::new("expired").await;
    place.cut_off(|step| matches!(step, Step::Uploaded { .. }), 1).await;
    let read = std::fs::read(place.note()).expect("a note");
    let mut note: serde_json::Value = serde_json::from_slice(&read).expect("JSON");
    assert_eq!(note["tables"]["logs"]["pending"]["stage"], "loading", "{note}");
    // As if another attempt had stopped right before the insert, days before: there is no staging table of it any more.
    note["tables"]["logs"]["pending"]["attempt"] = serde_json::json!(7);
    note["tables"]["logs"]["pending"]["stage"] = serde_json::json!({ "inserting": { "rows": 5 } });
    std::fs::write(place.note(), note.to_string()).expect("written");
    assert_eq!(place.finish().await.expect("loaded"), 12);
    assert_eq!(place.logs().await, ["10", "10"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_taken_back_and_made_again() {
    let place = Place::new("undone").await;
    place.cut_off(|step| matches!(step, Step::Inserted { .. }), 2).await;
    let options = place.options();
    let undone = undo(&options, &place.lake, Arc::new(RealDisk), place.storage.folder.path()).await;
    assert_eq!(undone.expect("undone"), Some(2));
    assert_eq!(place.logs().await, ["0", "0"]);
    assert!(!place.note().exists());
    assert_eq!(place.finish().await.expect("loaded"), 12);
    assert_eq!(place.logs().await, ["10", "10"]);
}
