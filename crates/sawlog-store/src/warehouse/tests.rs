//! Delta tables: the contract of every warehouse, and what only files can show.

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sawlog_core::schema::PARTITION_COLUMN;
use sawlog_seams::stored_rows::StoredRows;

use super::*;

struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }
}

#[async_trait]
impl sawlog_seams::contract::warehouse::Fixture for Fixture {
    async fn open(&self) -> Arc<dyn Warehouse> {
        Arc::new(DeltaWarehouse::open(self.0.path()).await.expect("a warehouse"))
    }

    async fn rows(&self, stored: &StoredTable) -> Vec<RecordBatch> {
        read(stored)
    }
}

sawlog_seams::warehouse_contract!(Fixture::new());

/// All rows of a table, file by file, with the partition column where the schema has it.
pub(super) fn read(stored: &StoredTable) -> Vec<RecordBatch> {
    let root = stored.root.as_ref().expect("tables are folders");
    let mut batches = Vec::new();
    for file in &stored.files {
        let reader = std::fs::File::open(root.join(&file.path)).expect("a file of the table is there");
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(reader).expect("a Parquet file").build().expect("a reader");
        for batch in reader {
            batches.push(with_partition(stored, &batch.expect("a batch"), file.partition_days));
        }
    }
    batches
}

fn with_partition(stored: &StoredTable, batch: &RecordBatch, days: Option<i32>) -> RecordBatch {
    let columns = stored.spec.schema.fields().iter().map(|field| match (field.name().as_str(), days) {
        (PARTITION_COLUMN, Some(days)) => {
            Arc::new(arrow::array::Date32Array::from(vec![days; batch.num_rows()])) as arrow::array::ArrayRef
        }
        (name, _) => {
            let found = batch.column_by_name(name).expect("a column of the table");
            arrow::compute::cast(found, field.data_type()).expect("the type of the table")
        }
    });
    RecordBatch::try_new(stored.spec.schema.clone(), columns.collect()).expect("rows of the table")
}

fn logs(days: impl Iterator<Item = i32>) -> Vec<RecordBatch> {
    let values: Vec<_> = days.map(|day| (format!("day {day}"), day)).collect();
    vec![sawlog_seams::contract::warehouse::rows("logs", &values)]
}

fn row_count(warehouse: &DeltaWarehouse) -> u64 {
    warehouse.stored("logs").expect("the table is there").files.iter().map(|file| file.rows).sum()
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_repeated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let warehouse = DeltaWarehouse::open(folder.path()).await.expect("a warehouse");
    let table = warehouse.table("logs").expect("the table is there");
    // What a failed sync of the log's folder leaves: the entry is there, and nobody heard of it.
    let other = DeltaWarehouse::open(folder.path()).await.expect("a warehouse");
    other.append("logs", logs(0..3), Position(5)).await.expect("appended");
    table.is_unsure.store(true, Ordering::Release);
    warehouse.append("logs", logs(0..3), Position(5)).await.expect("recognised");
    assert_eq!((warehouse.committed("logs"), row_count(&warehouse)), (Position(5), 3));
    assert!(!table.is_unsure.load(Ordering::Acquire));
}

#[tokio::test]
async fn a_table_of_an_earlier_build_gets_the_columns_that_it_lacks() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats/tables-v1/logs");
    for path in ["_delta_log/00000000000000000000.json", "_delta_log/00000000000000000001.json"]
        .into_iter()
        .chain(["event_date=2026-11-20/part-00000000000000000446.zstd.parquet"])
    {
        let target = folder.path().join("logs").join(path);
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("made");
        std::fs::copy(fixture.join(path), target).expect("copied");
    }
    for _ in 0..2 {
        let warehouse = DeltaWarehouse::open(folder.path()).await.expect("a warehouse");
        let table = warehouse.table("logs").expect("the table is there").delta.lock().await;
        assert_eq!(table.version(), Some(2), "the columns are added once");
        let schema = table.snapshot().expect("loaded").schema();
        for name in ["signature", "user_segment", "country"] {
            assert!(schema.field(name).is_some_and(|field| field.nullable), "{name}");
        }
    }
    let warehouse = DeltaWarehouse::open(folder.path()).await.expect("a warehouse");
    warehouse.append("logs", logs(0..3), Position(500)).await.expect("appended");
    assert_eq!((warehouse.committed("logs"), row_count(&warehouse)), (Position(500), 4));
    let rows = whole(&warehouse, "logs");
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
    let absent = rows.iter().map(|rows| rows.column_by_name("country").expect("a column").null_count());
    assert_eq!(absent.sum::<usize>(), 1, "the row of the earlier build has no country");
}

/// All rows of a table by [`StoredRows`].
fn whole(warehouse: &DeltaWarehouse, table: &str) -> Vec<RecordBatch> {
    let stored = warehouse.stored(table).expect("the table is there");
    let of_file = |file| warehouse.rows_of(&stored, file).expect("a file of the table");
    (0..stored.files.len()).flat_map(of_file).map(|rows| rows.expect("rows")).collect()
}

#[tokio::test]
async fn files_are_read_whole_with_their_partition() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let warehouse = DeltaWarehouse::open(folder.path()).await.expect("a warehouse");
    for spec in TableSpec::all() {
        let values: Vec<_> = (0..3).map(|day| (format!("day {day}"), 20_000 + day)).collect();
        let rows = sawlog_seams::contract::warehouse::rows(spec.name, &values);
        warehouse.append(spec.name, vec![rows], Position(1)).await.expect("appended");
        let stored = warehouse.stored(spec.name).expect("the table is there");
        assert_eq!(whole(&warehouse, spec.name), read(&stored), "{}", spec.name);
        assert!(warehouse.rows_of(&stored, stored.files.len()).is_err());
    }
}

#[tokio::test]
async fn an_append_over_many_days_makes_one_file_a_day_in_order() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let warehouse = DeltaWarehouse::open(folder.path()).await.expect("a warehouse");
    warehouse.append("logs", logs((0..100).chain(0..100).rev()), Position(1)).await.expect("appended");
    let stored = warehouse.stored("logs").expect("the table is there");
    let mut days: Vec<_> = stored.files.iter().map(|file| (file.partition_days, file.rows)).collect();
    days.sort_unstable();
    assert_eq!(days, (0..100).map(|day| (Some(day), 2)).collect::<Vec<_>>());
    assert_eq!(read(&stored).iter().map(RecordBatch::num_rows).sum::<usize>(), 200);
}

#[tokio::test]
async fn an_append_that_cannot_write_one_of_its_files_adds_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let warehouse = DeltaWarehouse::open(folder.path()).await.expect("a warehouse");
    let blocked = folder.path().join("logs").join("event_date=1970-02-01");
    std::fs::write(&blocked, "no folder").expect("a file in the way");
    let failed = warehouse.append("logs", logs(0..60), Position(1)).await;
    assert!(matches!(failed, Err(WarehouseError::Backend { action: "written", .. })), "{failed:?}");
    assert_eq!((warehouse.committed("logs"), row_count(&warehouse)), (Position::default(), 0));
    std::fs::remove_file(&blocked).expect("the file is removed");
    warehouse.append("logs", logs(0..60), Position(1)).await.expect("appended on the second try");
    assert_eq!(row_count(&warehouse), 60);
}
