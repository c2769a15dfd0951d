//! Tables of one view: rows in memory plus Parquet files.
//!
//! For: giving DataFusion the scan of a table as it was at one moment, reading only the files whose day can matter.
//! Not for: rollup cells ([`crate::rollup_table`]).

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Date32Array, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use sawlog_core::schema::PARTITION_COLUMN;
use sawlog_seams::view::TableView;
use sawlog_seams::warehouse::StoredFile;

/// A table at one moment.
#[derive(Debug)]
pub(crate) struct SnapshotTable {
    view: TableView,
    schema: SchemaRef,
}

impl SnapshotTable {
    pub(crate) fn new(view: TableView) -> Self {
        let schema = Arc::clone(&view.stored.spec.schema);
        Self { view, schema }
    }

    /// Files whose day may hold rows that the filters let through.
    fn files(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<&StoredFile>> {
        let files = &self.view.stored.files;
        let Some(filter) = conjunction(filters.to_vec()).filter(|_| self.view.stored.spec.partition.is_some()) else {
            return Ok(files.iter().collect());
        };
        let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        let predicate = state.create_physical_expr(filter, &schema)?;
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.schema));
        let Some(pruning) = builder.build(predicate) else {
            return Ok(files.iter().collect());
        };
        let may_match = pruning.prune(&Days { files })?;
        Ok(files.iter().zip(may_match).filter_map(|(file, may_match)| may_match.then_some(file)).collect())
    }

    fn scan_files(
        &self,
        state: &dyn Session,
        root: &Path,
        files: &[&StoredFile],
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partition = self.view.stored.spec.partition;
        let (in_files, by_path): (Vec<_>, Vec<_>) =
            self.schema.fields().iter().cloned().partition(|field| Some(field.name().as_str()) != partition);
        let file_schema = Arc::new(arrow::datatypes::Schema::new(in_files));
        let table_schema = TableSchema::builder(file_schema).with_table_partition_cols(by_path).build();
        let mut options = state.table_options().parquet.clone();
        options.global.pushdown_filters = true;
        options.global.reorder_filters = true;
        let mut source = ParquetSource::new(table_schema).with_table_parquet_options(options);
        if let Some(filter) = conjunction(filters.to_vec()) {
            let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
            source = source.with_predicate(state.create_physical_expr(filter, &schema)?);
        }
        let group_count = state.config().target_partitions().max(1);
        let mut groups: Vec<Vec<PartitionedFile>> = vec![Vec::new(); group_count.min(files.len()).max(1)];
        for (index, file) in files.iter().enumerate() {
            let path = root.join(&file.path);
            let path = object_store::path::Path::from_absolute_path(&path)
                .map_err(|error| DataFusionError::External(Box::new(error)))?;
            let mut part = PartitionedFile::new(path.to_string(), file.bytes);
            if partition.is_some() {
                part = part.with_partition_values(vec![ScalarValue::Date32(file.partition_days)]);
            }
            let group = index % groups.len();
            groups[group].push(part);
        }
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let stored = &self.view.stored;
        let mut in_memory = self.view.hot.clone();
        in_memory.extend(stored.rows.iter().cloned());
        let memory = MemorySourceConfig::try_new_exec(&[in_memory], Arc::clone(&self.schema), projection.cloned())?;
        let files = self.files(state, filters)?;
        match &stored.root {
            Some(root) if !files.is_empty() => {
                let scan = self.scan_files(state, root, &files, projection, filters, limit)?;
                UnionExec::try_new(vec![memory, scan])
            }
            _ => Ok(memory),
        }
    }
}

/// What a file's partition value says about its rows: the date itself, and the day within which the event time lies.
struct Days<'a> {
    files: &'a [StoredFile],
}

const DAY: i64 = 86_400_000_000;

impl Days<'_> {
    fn bound(&self, column: &Column, end_of_day: bool) -> Option<ArrayRef> {
        let days = self.files.iter().map(|file| file.partition_days);
        match column.name() {
            PARTITION_COLUMN => Some(Arc::new(Date32Array::from_iter(days))),
            "event_time" => {
                let bound = |day: i32| i64::from(day) * DAY + if end_of_day { DAY - 1 } else { 0 };
                let times = days.map(|day| day.map(bound));
                Some(Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC")))
            }
            _ => None,
        }
    }
}

impl PruningStatistics for Days<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, false)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(column, true)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
