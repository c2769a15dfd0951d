//! One query for a person, with its whole answer.
//!
//! For: SQL of BigQuery's dialect that only reads, its rows as Arrow. Not for: scans of Sawlog's tables.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::answer;
use super::job_error::JobError;
use super::jobs::{JobReport, JobSettings, Jobs};

/// The answer to a query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Columns.
    pub schema: SchemaRef,
    /// Rows.
    pub batches: Vec<RecordBatch>,
    /// Whether there are more rows than were wanted.
    pub is_cut: bool,
    /// What the query did.
    pub report: JobReport,
}

/// Runs a query and takes so many rows of its answer. Dropping the future cancels it with the service.
///
/// # Errors
/// When it cannot be run, would cost too much, fails, or the service cannot be asked.
pub async fn query(jobs: &Arc<Jobs>, sql: &str, settings: &JobSettings, rows_max: usize) -> Result<Answer, JobError> {
    let mut running = jobs.start(sql, settings).await?;
    let mut schema: SchemaRef = Arc::new(Schema::empty());
    let (mut batches, mut rows_left) = (Vec::new(), rows_max);
    while let Some(page) = running.page().await? {
        schema = answer::schema(&page.fields);
        let batch = answer::batch(&schema, &page.rows)?;
        let is_over = batch.num_rows() > rows_left;
        batches.push(batch.slice(0, batch.num_rows().min(rows_left)));
        if is_over {
            let report = running.report().await?;
            return Ok(Answer { schema, batches, is_cut: true, report });
        }
        rows_left -= batch.num_rows();
    }
    let report = running.report().await?;
    Ok(Answer { schema, batches, is_cut: false, report })
}
