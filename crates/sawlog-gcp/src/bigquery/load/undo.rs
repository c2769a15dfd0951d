//! Taking a load back.
//!
//! For: beginning anew, or staying on one machine: deletes the rows that a load inserted, and its note. Not for: rows that a
//! worker wrote.

use std::path::Path;
use std::sync::Arc;

use sawlog_seams::Disk;
use sawlog_seams::lake::Lake;
use sawlog_seams::warehouse::TableSpec;

use super::super::{BigQueryClient, Jobs};
use super::error::LoadError;
use super::note::{NoteFile, Stage};
use super::run::{Names, drop_staging, retry_policy, sweep};
use super::{LoadOptions, drawn, statements};

/// Deletes the rows that the load of a data folder inserted, and its note. Returns how many tables it looked at; `None` when
/// nothing was loaded. A stop in the middle is repeated by another call.
///
/// # Errors
/// When a service fails for longer than it is tried again, or the note is of another dataset.
pub async fn undo(
    options: &LoadOptions,
    lake: &dyn Lake,
    disk: Arc<dyn Disk>,
    folder: &Path,
) -> Result<Option<usize>, LoadError> {
    let file = NoteFile::new(disk, folder);
    let Some(content) = file.read()? else { return Ok(None) };
    if content.dataset != options.dataset() {
        return Err(LoadError::OtherDataset { noted: content.dataset, given: options.dataset() });
    }
    let client = BigQueryClient::new(&options.bigquery).await?;
    let jobs = Jobs::connect(&options.bigquery, retry_policy(&options.bigquery)).await;
    let jobs = jobs.map_err(|problem| problem.while_doing("reaching BigQuery"))?;
    let mut tables = 0;
    for spec in TableSpec::all() {
        let Some(progress) = content.tables.get(spec.name) else { continue };
        let what = format!("deleting rows of {}", spec.name);
        if let Some(pending) = &progress.pending {
            let names = Names::new(&content.run, spec.name, progress.groups_done, pending.attempt);
            // Without its staging table a statement that is still on its way fails; one that runs is waited for.
            drop_staging(&client, &options.bigquery, &names.staging).await;
            if matches!(pending.stage, Stage::Inserting { .. })
                && let Err(problem) = jobs.wait_noted(&names.insert_job).await
                && !problem.is_final()
            {
                return Err(problem.while_doing(&what));
            }
        }
        let sql = statements::delete(&options.bigquery, &spec, &content.writer());
        let id = format!("sawlog_undo_{}_{}", content.run, drawn()?);
        jobs.run_noted(&id, jobs.changing(&sql)).await.map_err(|problem| problem.while_doing(&what))?;
        tables += 1;
    }
    sweep(lake, &content).await;
    file.remove()?;
    Ok(Some(tables))
}
