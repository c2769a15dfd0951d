//! Reading rows of files again.
//!
//! For: some columns of the rows of a day within a range of event times, a chunk at a time. Not for: queries, which have
//! a planner (`sawlog-query`), or merging ([`super::merge`]).

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use sawlog_seams::upkeep::{RowRange, VisitRows};
use sawlog_seams::warehouse::StoredTable;

use super::files::WriteError;
use super::merge::conform;

const EVENT_TIME: &str = "event_time";
/// Rows that are decoded at a time.
const CHUNK_ROWS: usize = 8 * 1024;

/// Visits the rows; see [`sawlog_seams::upkeep::TableUpkeep::read`].
pub(super) fn read(
    stored: &StoredTable,
    root: &Path,
    rows: &RowRange<'_>,
    visit: &mut VisitRows<'_>,
) -> Result<(), WriteError> {
    let wanted = |name: &str| name == EVENT_TIME || rows.columns.contains(&name);
    let fields: Vec<_> = stored.spec.schema.fields().iter().filter(|field| wanted(field.name())).cloned().collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    for file in stored.files.iter().filter(|file| file.partition_days == Some(rows.day)) {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(root.join(&file.path))?)?;
        let mask = ProjectionMask::columns(
            builder.parquet_schema(),
            schema.fields().iter().map(|field| field.name().as_str()),
        );
        let groups = groups_within(builder.metadata(), &rows.times);
        for batch in builder.with_row_groups(groups).with_projection(mask).with_batch_size(CHUNK_ROWS).build()? {
            let within = within(&conform(&batch?, &schema)?, &rows.times)?;
            if within.num_rows() > 0 && visit(&within).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn within(batch: &RecordBatch, times: &Range<i64>) -> Result<RecordBatch, arrow::error::ArrowError> {
    let column = batch.column_by_name(EVENT_TIME);
    let Some(column) = column.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>()) else {
        return Ok(batch.slice(0, 0));
    };
    let chosen: BooleanArray = column.values().iter().map(|time| Some(times.contains(time))).collect();
    filter_record_batch(batch, &chosen)
}

/// Row groups that may hold such times, by the statistics of the file.
fn groups_within(metadata: &ParquetMetaData, times: &Range<i64>) -> Vec<usize> {
    let may_hold = |group: &RowGroupMetaData| {
        let column = group.columns().iter().find(|column| column.column_path().string() == EVENT_TIME);
        match column.and_then(|column| column.statistics()) {
            Some(Statistics::Int64(range)) => {
                range.min_opt().is_none_or(|min| *min < times.end)
                    && range.max_opt().is_none_or(|max| *max >= times.start)
            }
            _ => true,
        }
    };
    let groups = metadata.row_groups().iter().enumerate();
    groups.filter(|(_, group)| may_hold(group)).map(|(index, _)| index).collect()
}
