//! Delta tables: the contract of every warehouse, and what only files can show.

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sawlog_core::schema::PARTITION_COLUMN;

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
fn read(stored: &StoredTable) -> Vec<RecordBatch> {
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
