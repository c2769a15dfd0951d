//! The warehouse over a double of BigQuery.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch, make_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use base64::Engine;
use sawlog_gcp::Access;
use sawlog_gcp::bigquery::{
    BigQueryClient, BigQueryOptions, BigQueryWarehouse, Delivery, Partition, prepare, statements,
};
use sawlog_seams::contract::warehouse::{Fixture, rows};
use sawlog_seams::remote::{Comparison, Condition, OrderBy, RemoteScan, RemoteTable, Value};
use sawlog_seams::warehouse::{MemoryWarehouse, StoredTable, TableSpec, Warehouse, WarehouseError};
use sawlog_seams::{Position, RealDisk};
use sawlog_telemetry::Metrics;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::bigquery_read::table;
use crate::double::Double;

mod load;
mod reconciled;

/// One double for all tests: it takes seconds to start. Each test has a dataset of its own.
static DOUBLE: LazyLock<Double> = LazyLock::new(|| running(&["-with-input"]));

fn running(arguments: &[&str]) -> Double {
    let double = Double::start("bigquery", arguments, 2);
    let started = Instant::now();
    while double.addresses.iter().any(|address| std::net::TcpStream::connect(address).is_err()) {
        assert!(started.elapsed() < Duration::from_secs(60), "the double of BigQuery does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    double
}

fn options(double: &Double, dataset: &str, delivery: Delivery, day: i32) -> BigQueryOptions {
    let access = |address: &str| Access::new(Some(format!("http://{address}"))).expect("a URL");
    BigQueryOptions {
        project: "sawlog-test".to_owned(),
        dataset: dataset.to_owned(),
        location: "US".to_owned(),
        access: access(&double.addresses[0]),
        storage: access(&double.addresses[1]),
        writer: format!("test-{day}"),
        delivery,
        partition: Partition::Day,
        expiration_days: [("logs".to_owned(), 30)].into(),
        retry: BigQueryOptions::retry(),
        append: BigQueryOptions::append(),
        labels: [("app".to_owned(), "sawlog".to_owned())].into(),
    }
}

/// A worker's tables and folder, over which the warehouse can be opened again and again.
pub(crate) struct Storage {
    local: Arc<MemoryWarehouse>,
    folder: tempfile::TempDir,
    pub(crate) options: BigQueryOptions,
    /// Day of the test's rows, since the epoch.
    day: i32,
    /// The double stands still when connections append while others query: tests take turns.
    _turn: Option<MutexGuard<'static, ()>>,
}

static TURN: Mutex<()> = Mutex::const_new(());

impl Storage {
    /// Storage in the dataset that most tests share: making its tables and views takes the double seconds. Each test has
    /// rows of another day.
    pub(crate) async fn on_day(day: i32) -> Self {
        static PREPARED: OnceCell<()> = OnceCell::const_new();
        let turn = TURN.lock().await;
        let shared = || Self::on(&DOUBLE, "shared", Delivery::ExactlyOnce, day);
        let prepare = || async {
            shared().open().append("logs", batch("logs", &["first"], 1), Position(1)).await.expect("appended");
        };
        PREPARED.get_or_init(prepare).await;
        Self { _turn: Some(turn), ..shared() }
    }

    fn on(double: &Double, dataset: &str, delivery: Delivery, day: i32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { _turn: None, local: Arc::default(), folder, day, options: options(double, dataset, delivery, day) }
    }

    pub(crate) fn open(&self) -> Arc<dyn Warehouse> {
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

impl Storage {
    /// Appends logs, one with each name as its source.
    async fn append(
        &self,
        warehouse: &Arc<dyn Warehouse>,
        names: &[&str],
        position: u64,
    ) -> Result<(), WarehouseError> {
        warehouse.append("logs", batch("logs", names, self.day), Position(position)).await
    }

    /// The sources of the rows of a table, sorted.
    async fn sources(&self, table: &str) -> Vec<String> {
        let day = format!("DATE_ADD(DATE '1970-01-01', INTERVAL {} DAY)", self.day);
        let sql = format!("SELECT source FROM `{{}}.{table}` WHERE DATE(event_time) = {day} ORDER BY source");
        self.values(&sql).await.into_iter().flatten().collect()
    }
}

#[async_trait]
impl Fixture for Storage {
    async fn open(&self) -> Arc<dyn Warehouse> {
        Storage::open(self)
    }

    /// The rows in BigQuery: those of all flushes that made the worker's own rows, so that a row too many is seen.
    async fn rows(&self, stored: &StoredTable) -> Vec<RecordBatch> {
        let count = stored.rows.iter().map(RecordBatch::num_rows).sum::<usize>();
        if count == 0 {
            return Vec::new();
        }
        let sent = rows_of_writer(&self.options, &stored.spec).await;
        let positions = sent.column_by_name("flush_position").expect("a column").as_primitive::<Int64Type>();
        assert!(positions.len() >= count, "{}: {} rows of {count}", stored.spec.name, positions.len());
        let until = positions.value(count - 1);
        let kept = positions.values().partition_point(|position| *position <= until);
        vec![without_missing_lists(&sent.slice(0, kept), &stored.spec.schema)]
    }
}

/// All rows of a table that a worker sent, in their order, with what says which flush they came by.
async fn rows_of_writer(options: &BigQueryOptions, spec: &TableSpec) -> RecordBatch {
    let flush = [("flush_writer", DataType::Utf8), ("flush_position", DataType::Int64), ("flush_row", DataType::Int64)];
    let mut fields: Vec<Field> = spec.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    let [writer, position, row] = [0, 1, 2].map(|place| place + fields.len());
    fields.extend(flush.map(|(name, data_type)| Field::new(name, data_type, true)));
    let name: &'static str = format!("{}_rows", spec.name).leak();
    let sent = TableSpec { name, schema: Arc::new(Schema::new(fields)), ..spec.clone() };
    let is_writer = Condition::Compare {
        column: writer,
        comparison: Comparison::Equal,
        value: Value::Text(options.writer.clone()),
    };
    let ascending = |column| OrderBy { column, is_descending: false, has_nulls_first: false };
    let scan = RemoteScan {
        columns: (0..=row).collect(),
        conditions: vec![is_writer],
        order: vec![ascending(position), ascending(row)],
        limit: None,
    };
    let schema = Arc::clone(&sent.schema);
    let mut found = table(options, sent).await.scan(scan).await.expect("a scan");
    let mut batches = Vec::new();
    while let Some(rows) = found.next().await {
        batches.push(rows.expect("rows"));
    }
    concat_batches(&schema, &batches).expect("rows of one schema")
}

/// The first columns, those of `schema`, with an empty list for each missing one: BigQuery knows no other missing list.
fn without_missing_lists(rows: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    let columns = rows.columns().iter().zip(schema.fields()).map(|(column, field)| {
        let is_list = matches!(field.data_type(), DataType::List(_) | DataType::Map(..));
        let present = column.to_data().into_builder().nulls(None);
        if is_list { make_array(present.build().expect("lists")) } else { Arc::clone(column) }
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).expect("columns of the table")
}

fn batch(table: &str, names: &[&str], day: i32) -> Vec<RecordBatch> {
    vec![rows(table, &names.iter().map(|name| ((*name).to_owned(), day)).collect::<Vec<_>>())]
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_in_bigquery_once_however_often_a_flush_is_repeated() {
    let storage = Storage::on_day(20000).await;
    let warehouse = storage.open();
    storage.append(&warehouse, &["a", "b"], 10).await.expect("appended");
    storage.append(&warehouse, &["c"], 20).await.expect("appended");
    // The worker's own tables did not get the flush that BigQuery has, and neither did the note of it.
    let note = storage.folder.path().join("bigquery.json");
    let before = std::fs::read_to_string(&note).expect("a note");
    storage.append(&warehouse, &["d", "e"], 30).await.expect("appended");
    let after: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&note).expect("a note")).expect("JSON");
    assert_eq!(after["tables"]["logs"]["offset"], 5, "{after}");
    drop(warehouse);
    std::fs::write(&note, before).expect("written");
    let storage = Storage { local: Arc::default(), ..storage };
    let warehouse = storage.open();
    storage.append(&warehouse, &["d", "e"], 30).await.expect("recognized");
    storage.append(&warehouse, &["f"], 40).await.expect("appended");
    assert_eq!(storage.sources("logs").await, ["a", "b", "c", "d", "e", "f"]);
}

/// Faults of one double, in the order in which requests meet them.
struct Faults {
    file: tempfile::NamedTempFile,
    double: Double,
}

impl Faults {
    fn new() -> Self {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let path = file.path().display().to_string();
        Self { double: running(&["-with-input", "-faults", &path]), file }
    }

    fn set(&self, faults: &[&str]) {
        std::fs::write(self.file.path(), faults.join("\n")).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_repeats_no_row() {
    let faults = Faults::new();
    let exact = Storage::on(&faults.double, "exact", Delivery::ExactlyOnce, 20_000);
    let warehouse = exact.open();
    faults.set(&["unavailable", "lost", "lost"]);
    while let Err(error) = exact.append(&warehouse, &["a", "b"], 10).await {
        assert!(error.to_string().contains("test asked for"), "{error}");
    }
    exact.append(&warehouse, &["c"], 20).await.expect("appended");
    assert_eq!(exact.sources("logs_rows").await, ["a", "b", "c"]);
    // A row is refused, then no answer arrives for longer than one append waits: the next one knows of the row.
    faults.set(&["", "lost", "lost", "lost", "lost", "lost", "unavailable"]);
    let mut failures = 0;
    while exact.append(&warehouse, &["d", "refuse", "e"], 30).await.is_err() {
        failures += 1;
    }
    assert!(failures > 0, "the faults outlast the repeats of an append");
    assert_eq!(exact.sources("logs_rows").await, ["a", "b", "c", "d", "e"]);
    let letters = exact.values("SELECT COUNT(*) FROM `{}.dead_letters` WHERE receive_time > '2000-01-01'").await;
    assert_eq!(letters, [["1"]]);

    let least = Storage::on(&faults.double, "least", Delivery::AtLeastOnce, 20_000);
    let warehouse = least.open();
    faults.set(&["lost"]);
    while let Err(error) = least.append(&warehouse, &["a", "b"], 10).await {
        assert!(error.to_string().contains("test asked for"), "{error}");
    }
    assert_eq!(least.sources("logs_rows").await, ["a", "a", "b", "b"], "the default stream repeats");
    assert_eq!(least.sources("logs").await, ["a", "b"], "the view does not");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_bigquery_refuses_are_dead_letters_and_the_others_are_there() {
    let storage = Storage::on_day(20002).await;
    let warehouse = storage.open();
    storage.append(&warehouse, &["a", "refuse", "b", "refuse"], 10).await.expect("appended");
    storage.append(&warehouse, &["c"], 20).await.expect("appended");
    assert_eq!(storage.sources("logs").await, ["a", "b", "c"]);
    let sql = "SELECT stage, reason, error, TO_BASE64(payload) FROM `{}.dead_letters` WHERE DATE(receive_time) = '2024-10-06'";
    let letters = storage.values(sql).await;
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert_eq!(letters[0][..3], ["bigquery", "row_refused", "table logs: a value is out of range"]);
    let row = |payload: &str| {
        let payload = base64::engine::general_purpose::STANDARD.decode(payload).expect("base64");
        serde_json::from_slice::<serde_json::Value>(&payload).expect("JSON")["flush_row"].as_u64()
    };
    let mut rows: Vec<Option<u64>> = letters.iter().map(|letter| row(&letter[3])).collect();
    rows.sort_unstable();
    assert_eq!(rows, [Some(1), Some(3)], "the payload is the row");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_no_request_can_carry_is_a_dead_letter() {
    let storage = Storage::on_day(20_004).await;
    let large = "x".repeat(500_000);
    storage.append(&storage.open(), &["a", &large, "b"], 10).await.expect("appended");
    assert_eq!(storage.sources("logs").await, ["a", "b"]);
    let sql = "SELECT error, LENGTH(payload) FROM `{}.dead_letters` WHERE DATE(receive_time) = '2024-10-08'";
    let letters = storage.values(sql).await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0][0].contains("more than a request may have"), "{letters:?}");
    assert_eq!(letters[0][1], "1048576", "what is kept of it has a limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_gone_is_replaced_and_what_it_took_is_not_repeated() {
    let storage = Storage::on_day(20003).await;
    let warehouse = storage.open();
    storage.append(&warehouse, &["a"], 10).await.expect("appended");
    let note = storage.folder.path().join("bigquery.json");
    let before: serde_json::Value = serde_json::from_slice(&std::fs::read(&note).expect("a note")).expect("JSON");
    storage.append(&warehouse, &["b", "c"], 20).await.expect("appended");
    drop(warehouse);
    // As after a crash between the requests and the note of them, with a stream that has been cleaned up since.
    let mut cut_off = before.clone();
    let table = &mut cut_off["tables"]["logs"];
    let stream = table["stream"].as_str().expect("a stream").rsplit_once('/').expect("a path").0.to_owned();
    table["stream"] = format!("{stream}/0123456789abcdef").into();
    table["pending"] = serde_json::json!({ "position": 20, "requests": [2] });
    std::fs::write(&note, cut_off.to_string()).expect("written");
    let storage = Storage { local: Arc::default(), ..storage };
    let warehouse = storage.open();
    storage.append(&warehouse, &["b", "c"], 20).await.expect("recognized");
    storage.append(&warehouse, &["d"], 30).await.expect("appended");
    assert_eq!(storage.sources("logs").await, ["a", "b", "c", "d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_of_an_older_version_gets_the_columns_that_it_lacks() {
    let double = running(&["-with-input"]);
    let storage = Storage::on(&double, "older", Delivery::ExactlyOnce, 20_000);
    let client = BigQueryClient::new(&storage.options).await.expect("a client");
    let statements = statements(&storage.options).expect("types");
    for (makes, column) in [("dataset older", ""), ("table logs_rows", "  `country` STRING,\n")] {
        let mut older = statements.iter().find(|one| one.makes == makes).expect("a statement").clone();
        assert!(older.sql.contains(column), "{}", older.sql);
        older.sql = older.sql.replace(column, if column.is_empty() { "" } else { "\n" });
        client.run(&older).await.expect("made");
    }
    prepare(&client, &storage.options, false).await.expect("prepared");
    // The double takes no rows with a column that was added and does not list it, but has it.
    let sql = "SELECT COUNT(country) FROM `{}.logs_rows` WHERE event_time > '2000-01-01'";
    assert_eq!(storage.values(sql).await, [["0"]]);
}

mod contract {
    use std::sync::atomic::{AtomicI32, Ordering};

    use super::Storage;

    /// A worker of its own for each test.
    async fn fresh() -> Storage {
        static NEXT: AtomicI32 = AtomicI32::new(0);
        Storage::on_day(NEXT.fetch_add(1, Ordering::Relaxed)).await
    }

    // Without large values and many rows, for which the double needs minutes.
    sawlog_seams::warehouse_contract! { @tests fresh().await;
        every_table_is_there_and_empty_at_first
        a_table_that_is_not_there_is_named
        rows_are_read_back_as_they_were_appended
        an_append_at_or_below_the_committed_position_changes_nothing
        an_append_without_rows_changes_nothing
        tables_have_positions_of_their_own
        rows_and_position_survive_reopening
        a_stored_table_is_not_changed_by_later_appends
        files_carry_the_day_of_their_rows
        readers_see_all_rows_of_an_append_or_none
    }
}
