//! The warehouse over a double of BigQuery.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use sawlog_gcp::Access;
use sawlog_gcp::bigquery::{BigQueryClient, BigQueryOptions, BigQueryWarehouse, Delivery, Partition};
use sawlog_seams::contract::warehouse::{Fixture, rows};
use sawlog_seams::warehouse::{MemoryWarehouse, StoredTable, Warehouse};
use sawlog_seams::{Position, RealDisk};
use sawlog_telemetry::Metrics;

use crate::double::Double;

/// One double for all tests: it takes seconds to start. Each test has a dataset of its own.
static DOUBLE: LazyLock<Double> = LazyLock::new(|| {
    let double = Double::start("bigquery", &["-with-input"], 2);
    let started = Instant::now();
    while double.addresses.iter().any(|address| std::net::TcpStream::connect(address).is_err()) {
        assert!(started.elapsed() < Duration::from_secs(60), "the double of BigQuery does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    double
});

fn options(dataset: &str, delivery: Delivery) -> BigQueryOptions {
    let access = |address: &str| Access::new(Some(format!("http://{address}"))).expect("a URL");
    BigQueryOptions {
        project: "sawlog-test".to_owned(),
        dataset: dataset.to_owned(),
        location: "US".to_owned(),
        access: access(&DOUBLE.addresses[0]),
        storage: access(&DOUBLE.addresses[1]),
        writer: "test".to_owned(),
        delivery,
        partition: Partition::Day,
        expiration_days: [("logs".to_owned(), 30)].into(),
        labels: [("app".to_owned(), "sawlog".to_owned())].into(),
    }
}

/// A worker's tables and folder, over which the warehouse can be opened again and again.
struct Storage {
    local: Arc<MemoryWarehouse>,
    folder: tempfile::TempDir,
    options: BigQueryOptions,
}

impl Storage {
    fn new(dataset: &str, delivery: Delivery) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { local: Arc::default(), folder, options: options(dataset, delivery) }
    }

    fn open(&self) -> Arc<dyn Warehouse> {
        let (local, metrics) = (Arc::clone(&self.local) as Arc<dyn Warehouse>, Arc::new(Metrics::default()));
        let disk = Arc::new(RealDisk);
        let opened = BigQueryWarehouse::open(self.options.clone(), local, disk, self.folder.path(), metrics);
        Arc::new(opened.expect("a warehouse"))
    }

    async fn values(&self, sql: &str) -> Vec<Vec<String>> {
        let client = BigQueryClient::new(&self.options).await.expect("a client");
        let columns = sql.split(" FROM ").next().expect("a list").split(", ").count();
        let sql = sql.replace("{}", &format!("sawlog-test.{}", self.options.dataset));
        let rows = client.rows(&sql, "the test's query", columns).await.expect("rows");
        let as_text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        rows.into_iter().map(|row| row.into_iter().map(as_text).collect()).collect()
    }
}

#[async_trait]
impl Fixture for Storage {
    async fn open(&self) -> Arc<dyn Warehouse> {
        Storage::open(self)
    }

    async fn rows(&self, stored: &StoredTable) -> Vec<RecordBatch> {
        stored.rows.clone()
    }
}

fn batch(table: &str, names: &[&str]) -> Vec<RecordBatch> {
    vec![rows(table, &names.iter().map(|name| ((*name).to_owned(), 20_781)).collect::<Vec<_>>())]
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_in_bigquery_once_however_often_a_flush_is_repeated() {
    let storage = Storage::new("once", Delivery::ExactlyOnce);
    let warehouse = storage.open();
    warehouse.append("logs", batch("logs", &["a", "b"]), Position(10)).await.expect("appended");
    warehouse.append("logs", batch("logs", &["c"]), Position(20)).await.expect("appended");
    // The worker's own tables did not get the flush that BigQuery has, and neither did the note of it.
    let note = storage.folder.path().join("bigquery.json");
    let before = std::fs::read_to_string(&note).expect("a note");
    warehouse.append("logs", batch("logs", &["d", "e"]), Position(30)).await.expect("appended");
    let after: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&note).expect("a note")).expect("JSON");
    assert_eq!(after["tables"]["logs"]["offset"], 5, "{after}");
    drop(warehouse);
    std::fs::write(&note, before).expect("written");
    let again = Storage { local: Arc::default(), ..storage };
    let warehouse = again.open();
    warehouse.append("logs", batch("logs", &["d", "e"]), Position(30)).await.expect("recognized");
    warehouse.append("logs", batch("logs", &["f"]), Position(40)).await.expect("appended");
    let found =
        again.values("SELECT source, attributes FROM `{}.logs` WHERE event_time > '2000-01-01' ORDER BY source").await;
    let sources: Vec<&str> = found.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(sources, ["a", "b", "c", "d", "e", "f"]);
}
