//! Jobs whose ids are noted before they begin: loads of files, and statements that change rows.
//!
//! For: at most one job of an id, whose end is found out by whoever knows the id. Not for: queries, whose rows somebody waits
//! for.

use std::time::Duration;

use google_cloud_bigquery_v2::model::{JobConfigurationLoad, ParquetOptions, TableReference};

use super::*;

/// Between two looks at a job: the first pause, and the longest.
const LOOK_FIRST: Duration = Duration::from_millis(200);
const LOOK_MAX: Duration = Duration::from_secs(5);
/// Longest run of a job; the service ends it earlier.
const JOB_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Problems of a failed job that are told.
const PROBLEMS_MAX: usize = 3;

/// What a job did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Done {
    /// Rows that it loaded or changed, where the service says so.
    pub(in super::super) rows: Option<u64>,
}

impl Jobs {
    /// A load of Parquet files into an empty table that is there.
    pub(in super::super) fn loading(&self, uris: Vec<String>, table: &str) -> JobConfiguration {
        let table =
            TableReference::new().set_project_id(&self.project).set_dataset_id(&self.dataset).set_table_id(table);
        let load = JobConfigurationLoad::new()
            .set_source_uris(uris)
            .set_source_format("PARQUET")
            .set_destination_table(table)
            .set_create_disposition("CREATE_NEVER")
            .set_write_disposition("WRITE_EMPTY")
            .set_parquet_options(ParquetOptions::new().set_enable_list_inference(true));
        JobConfiguration::new().set_load(load).set_labels(self.labels("load"))
    }

    /// A statement.
    pub(in super::super) fn changing(&self, sql: &str) -> JobConfiguration {
        let query = self.query(sql).set_use_query_cache(false);
        JobConfiguration::new().set_query(query).set_labels(self.labels("load"))
    }

    /// Begins a job under an id, unless it was begun before, and waits for its end.
    ///
    /// # Errors
    /// When it fails, or the service cannot be asked: then its end is open, and the same call finds it out.
    pub(in super::super) async fn run_noted(
        &self,
        id: &str,
        configuration: JobConfiguration,
    ) -> Result<Done, JobError> {
        let reference =
            JobReference::new().set_project_id(&self.project).set_job_id(id).set_location(self.location.as_str());
        let job = Job::new().set_job_reference(reference.clone()).set_configuration(configuration);
        let mut tries = self.caller.begin("InsertJob");
        loop {
            let insert = self.service.insert_job().set_project_id(&self.project).set_job(job.clone());
            let sending = async { insert.with_idempotency(false).send().await.map_err(Answer) };
            match tries.run(sending).await {
                Ok(_) => break,
                Err(failure) if failure.code() == "ALREADY_EXISTS" => break,
                Err(failure) => tries.wait(failure).await?,
            }
        }
        self.end_of(&reference).await
    }

    /// Waits for the end of a job that may have been begun; `None` when there is none of the id.
    ///
    /// # Errors
    /// When it failed, or the service cannot be asked.
    pub(in super::super) async fn wait_noted(&self, id: &str) -> Result<Option<Done>, JobError> {
        let reference =
            JobReference::new().set_project_id(&self.project).set_job_id(id).set_location(self.location.as_str());
        match self.end_of(&reference).await {
            Ok(done) => Ok(Some(done)),
            Err(JobError::Call(failed)) if matches!(failed.code, "NOT_FOUND" | "notFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn end_of(&self, reference: &JobReference) -> Result<Done, JobError> {
        let (mut pause, mut waited) = (LOOK_FIRST, Duration::ZERO);
        loop {
            let job = self.look(reference).await?;
            let status = job.status.unwrap_or_default();
            if status.state == "DONE" {
                let Some(error) = status.error_result else { return Ok(done(&job.statistics.unwrap_or_default())) };
                return Err(failed_with(&error, &status.errors));
            }
            if waited > JOB_MAX {
                let problem = format!("job {} has run for {JOB_MAX:?} without an end", reference.job_id);
                return Err(JobError::Unreadable(problem));
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(LOOK_MAX);
        }
    }
}

fn done(statistics: &google_cloud_bigquery_v2::model::JobStatistics) -> Done {
    let loaded = statistics.load.as_ref().and_then(|load| load.output_rows);
    let changed = statistics.query.as_ref().and_then(|query| query.num_dml_affected_rows);
    Done { rows: loaded.or(changed).map(i64::unsigned_abs) }
}

/// The error of a job, with the files that the service names.
fn failed_with(error: &ErrorProto, more: &[ErrorProto]) -> JobError {
    let mut problems: Vec<String> = Vec::new();
    for error in std::iter::once(error).chain(more) {
        let problem = match error.location.as_str() {
            "" => error.message.clone(),
            location if error.message.contains(location) => error.message.clone(),
            location => format!("{} ({location})", error.message),
        };
        if problems.len() < PROBLEMS_MAX && !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    JobError::Failed { reason: error.reason.clone(), problem: problems.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_load_names_the_files_and_says_each_thing_once() {
        let error = |message: &str, location: &str| ErrorProto::new().set_message(message).set_location(location);
        let first = error("Error while reading data", "gs://b/1.parquet").set_reason("invalid");
        let failed = failed_with(&first, &[first.clone(), error("no column gs://b/2.parquet", "gs://b/2.parquet")]);
        assert_eq!(failed.reason(), "invalid");
        let told = "Error while reading data (gs://b/1.parquet); no column gs://b/2.parquet";
        assert_eq!(failed.to_string(), told);
    }
}
