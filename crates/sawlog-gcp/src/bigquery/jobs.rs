//! Query jobs: what a query would read, its rows page by page, and its end.
//!
//! For: queries with a limit of bytes, of which the service hears when nobody wants their rows any more. Not for: statements
//! that set up a dataset ([`super::client`]), or types of values ([`super::answer`]).
//!
//! A job's id is drawn here, so that a request whose answer was lost is repeated without a second job.

mod noted;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use google_cloud_bigquery_v2::Error;
use google_cloud_bigquery_v2::client::{DatasetService, JobService};
use google_cloud_bigquery_v2::model::{
    DataFormatOptions, DatasetReference, ErrorProto, GetQueryResultsResponse, Job, JobConfiguration,
    JobConfigurationQuery, JobReference, JobStatistics2, TableFieldSchema,
};
use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::retry_policy::NeverRetry;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::BigQueryOptions;
use super::job_error::{JobError, REASONS, is_passing};
use crate::call::{CallCount, CallError, Caller, RetryPolicy};

/// How long one request waits for a job to end.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Rows of a page at most; a page has 10 MB in any case.
const PAGE_ROWS: u32 = 10_000;
/// How long a cancellation is tried when nobody waits for it.
const CANCEL_MAX: Duration = Duration::from_secs(10);

/// How a query may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSettings {
    /// Most bytes that it may bill; with more it fails before it reads anything.
    pub bytes_max: u64,
    /// Longest run; the service ends it then.
    pub time_max: Duration,
    /// Whether an answer of the last day that is still right may be given again, for nothing.
    pub is_cached: bool,
    /// Value of the label `sawlog_purpose`.
    pub purpose: &'static str,
}

/// What a query would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes that it would read, before rounding and without the cache.
    pub bytes: u64,
    /// Kind of the statement, `SELECT` and others; empty where the service does not say.
    pub statement: String,
}

/// What a query did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobReport {
    /// Bytes that it read.
    pub bytes_processed: u64,
    /// Bytes that are paid for; `None` where the service does not say.
    pub bytes_billed: Option<u64>,
    /// Whether the answer is one of before.
    pub is_cache_hit: bool,
}

/// Rows of an answer.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// Its columns.
    pub(super) fields: Vec<TableFieldSchema>,
    /// Rows as the service writes them: `{"f": [{"v": …}, …]}`.
    pub(super) rows: Vec<Map<String, Value>>,
}

/// Runs queries in a dataset.
#[derive(Debug)]
pub struct Jobs {
    service: JobService,
    datasets: DatasetService,
    project: String,
    dataset: String,
    location: String,
    labels: BTreeMap<String, String>,
    caller: Caller,
    /// Cancellations under way.
    cancelling: Mutex<Vec<JoinHandle<()>>>,
}

impl Jobs {
    /// A client with the credentials of `options.access`.
    ///
    /// # Errors
    /// When there are no credentials.
    pub async fn connect(options: &BigQueryOptions, retry: RetryPolicy) -> Result<Arc<Self>, JobError> {
        let mut builder = JobService::builder().with_retry_policy(NeverRetry);
        let mut datasets = DatasetService::builder().with_retry_policy(NeverRetry);
        if let Some(endpoint) = &options.access.endpoint {
            builder = builder.with_endpoint(endpoint);
            datasets = datasets.with_endpoint(endpoint);
        }
        if let Some(credentials) = options.access.credentials() {
            builder = builder.with_credentials(credentials.clone());
            datasets = datasets.with_credentials(credentials);
        }
        let service = builder.build().await.map_err(|error| JobError::Client(error.to_string()))?;
        let datasets = datasets.build().await.map_err(|error| JobError::Client(error.to_string()))?;
        Ok(Arc::new(Self {
            service,
            datasets,
            project: options.project.clone(),
            dataset: options.dataset.clone(),
            location: options.location.clone(),
            labels: options.labels.clone(),
            caller: Caller::new("BigQuery", retry),
            cancelling: Mutex::default(),
        }))
    }

    /// Tries by call and outcome, since the start, for metrics.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(&'static str, &'static str), CallCount> {
        self.caller.counts()
    }

    /// Finds out whether the service answers and has the dataset, for nothing. It is tried once.
    ///
    /// # Errors
    /// When it does not.
    pub async fn probe(&self) -> Result<(), JobError> {
        let mut tries = self.caller.begin("GetDataset");
        let ask = self.datasets.get_dataset().set_project_id(&self.project).set_dataset_id(&self.dataset);
        match tries.run(async { ask.send().await.map_err(Answer) }).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(JobError::Call(tries.failed(failure))),
        }
    }

    /// Waits until queries that were dropped are cancelled.
    pub async fn settle(&self) {
        let all = std::mem::take(&mut *self.cancelling.lock().unwrap_or_else(PoisonError::into_inner));
        for one in all {
            // One that panicked has nothing to wait for.
            let _ = one.await;
        }
    }

    /// What a query would read. It is not run.
    ///
    /// # Errors
    /// When it cannot be run, or the service cannot be asked.
    pub async fn estimate(&self, sql: &str) -> Result<Estimate, JobError> {
        let query = self.query(sql).set_use_query_cache(false);
        let configuration =
            JobConfiguration::new().set_query(query).set_dry_run(true).set_labels(self.labels("dry-run"));
        let job = self.insert(Job::new().set_configuration(configuration)).await?;
        let statistics = job.statistics.unwrap_or_default();
        let query = statistics.query.unwrap_or_default();
        let bytes = query.total_bytes_processed.or(statistics.total_bytes_processed).unwrap_or_default();
        Ok(Estimate { bytes: bytes.unsigned_abs(), statement: query.statement_type })
    }

    /// Begins a query. What is dropped before its last page is cancelled.
    ///
    /// # Errors
    /// When it cannot be run, would cost too much, or the service cannot be asked.
    pub async fn start(self: &Arc<Self>, sql: &str, settings: &JobSettings) -> Result<RunningJob, JobError> {
        let bytes_max = i64::try_from(settings.bytes_max).unwrap_or(i64::MAX);
        let query = self.query(sql).set_maximum_bytes_billed(bytes_max).set_use_query_cache(settings.is_cached);
        let time_max = i64::try_from(settings.time_max.as_millis()).unwrap_or(i64::MAX);
        let configuration = JobConfiguration::new()
            .set_query(query)
            .set_job_timeout_ms(time_max)
            .set_labels(self.labels(settings.purpose));
        let drawn = getrandom::u64().and_then(|high| Ok((high, getrandom::u64()?)));
        let (high, low) = drawn.map_err(|error| JobError::Client(format!("there are no random numbers: {error}")))?;
        let reference = JobReference::new()
            .set_project_id(&self.project)
            .set_job_id(format!("sawlog_{high:016x}{low:016x}"))
            .set_location(self.location.as_str());
        let mut running = RunningJob {
            jobs: Arc::clone(self),
            reference: reference.clone(),
            next: Some(String::new()),
            handle: Handle::current(),
        };
        // From here on a future that is dropped cancels the job, whether or not it has begun.
        match self.insert(Job::new().set_job_reference(reference).set_configuration(configuration)).await {
            Ok(_) => Ok(running),
            Err(error) => {
                if error.is_final() {
                    running.next = None;
                }
                Err(error)
            }
        }
    }

    fn query(&self, sql: &str) -> JobConfigurationQuery {
        let dataset = DatasetReference::new().set_project_id(&self.project).set_dataset_id(&self.dataset);
        JobConfigurationQuery::new().set_query(sql).set_use_legacy_sql(false).set_default_dataset(dataset)
    }

    fn labels(&self, purpose: &str) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert("sawlog_purpose".to_owned(), purpose.to_owned());
        labels
    }

    async fn insert(&self, job: Job) -> Result<Job, JobError> {
        let mut tries = self.caller.begin("InsertJob");
        let mut is_repeated = false;
        loop {
            let insert = self.service.insert_job().set_project_id(&self.project).set_job(job.clone());
            let sending = async { insert.with_idempotency(false).send().await.map_err(Answer) };
            match tries.run(sending).await {
                Ok(job) => {
                    let failed = job.status.as_ref().and_then(|status| status.error_result.clone());
                    return failed.map_or(Ok(job), |error| Err(failed_job(&error)));
                }
                // An earlier try began it; its failures show with its rows.
                Err(failure) if is_repeated && failure.code() == "ALREADY_EXISTS" => return Ok(job),
                Err(failure) => tries.wait(failure).await?,
            }
            is_repeated = true;
        }
    }

    async fn results(&self, reference: &JobReference, page: &str) -> Result<GetQueryResultsResponse, JobError> {
        let mut tries = self.caller.begin("GetQueryResults");
        loop {
            let format = DataFormatOptions::new().set_use_int64_timestamp(true);
            let wait = u32::try_from(WAIT_MAX.as_millis()).unwrap_or(u32::MAX);
            let mut ask = self
                .service
                .get_query_results()
                .set_project_id(&reference.project_id)
                .set_job_id(&reference.job_id)
                .set_location(reference.location.clone().unwrap_or_default())
                .set_page_token(page)
                .set_timeout_ms(wait)
                .set_format_options(format);
            if page.is_empty() {
                ask = ask.set_max_results(PAGE_ROWS);
            }
            match tries.run(async { ask.send().await.map_err(Answer) }).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    async fn report(&self, reference: &JobReference) -> Result<JobReport, JobError> {
        let job = self.look(reference).await?;
        Ok(report(&job.statistics.unwrap_or_default().query.unwrap_or_default()))
    }

    /// A job as of now.
    async fn look(&self, reference: &JobReference) -> Result<Job, JobError> {
        let mut tries = self.caller.begin("GetJob");
        loop {
            let ask = self
                .service
                .get_job()
                .set_project_id(&reference.project_id)
                .set_job_id(&reference.job_id)
                .set_location(reference.location.clone().unwrap_or_default());
            match tries.run(async { ask.send().await.map_err(Answer) }).await {
                Ok(job) => return Ok(job),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    async fn cancel(&self, reference: &JobReference) {
        let cancel = self
            .service
            .cancel_job()
            .set_project_id(&reference.project_id)
            .set_job_id(&reference.job_id)
            .set_location(reference.location.clone().unwrap_or_default());
        let mut tries = self.caller.begin("CancelJob");
        let sending = async { cancel.send().await.map_err(Answer) };
        match tokio::time::timeout(CANCEL_MAX, tries.run(sending)).await {
            Ok(Ok(_)) => tracing::debug!(job = reference.job_id, "cancelled a query of BigQuery"),
            _ => tracing::debug!(job = reference.job_id, "a query of BigQuery ends by itself"),
        }
    }
}

/// A query under way.
#[derive(Debug)]
pub struct RunningJob {
    jobs: Arc<Jobs>,
    reference: JobReference,
    /// Token of the next page, empty for the first one; `None` when all are read.
    next: Option<String>,
    handle: Handle,
}

impl RunningJob {
    /// The next rows; `None` behind the last page. There is one page at least.
    pub(super) async fn page(&mut self) -> Result<Option<Page>, JobError> {
        let Some(token) = &self.next else { return Ok(None) };
        loop {
            let answer = match self.jobs.results(&self.reference, token).await {
                Ok(answer) => answer,
                Err(error) => {
                    if error.is_final() {
                        self.next = None;
                    }
                    return Err(error);
                }
            };
            if answer.job_complete != Some(true) {
                continue;
            }
            self.next = Some(answer.page_token).filter(|token| !token.is_empty());
            let fields = answer.schema.map(|schema| schema.fields).unwrap_or_default();
            return Ok(Some(Page { fields, rows: answer.rows }));
        }
    }

    /// What the query did, once a page of it was read.
    ///
    /// # Errors
    /// When the service cannot be asked.
    pub async fn report(&self) -> Result<JobReport, JobError> {
        self.jobs.report(&self.reference).await
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        if self.next.is_some() {
            let (jobs, reference) = (Arc::clone(&self.jobs), self.reference.clone());
            let cancelling = self.handle.spawn(async move { jobs.cancel(&reference).await });
            let mut all = self.jobs.cancelling.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|one| !one.is_finished());
            all.push(cancelling);
        }
    }
}

fn report(statistics: &JobStatistics2) -> JobReport {
    JobReport {
        bytes_processed: statistics.total_bytes_processed.unwrap_or_default().unsigned_abs(),
        bytes_billed: statistics.total_bytes_billed.map(i64::unsigned_abs),
        is_cache_hit: statistics.cache_hit.unwrap_or_default(),
    }
}

fn failed_job(error: &ErrorProto) -> JobError {
    JobError::Failed { reason: error.reason.clone(), problem: error.message.clone() }
}

/// An error that the service or the way to it answered with.
struct Answer(Error);

impl Answer {
    /// The service's own word for what is wrong, which says more than the code of the answer.
    fn reason(&self) -> Option<&'static str> {
        let body: Value = serde_json::from_slice(self.0.http_payload()?).ok()?;
        let reason = body.pointer("/error/errors/0/reason")?.as_str()?;
        REASONS.into_iter().find(|known| *known == reason)
    }
}

impl CallError for Answer {
    fn code(&self) -> &'static str {
        let of_status = || self.0.status().map(|status| status.code.name());
        let of_http = || match self.0.http_status_code()? {
            401 | 403 => Some("PERMISSION_DENIED"),
            404 => Some("NOT_FOUND"),
            429 => Some("RESOURCE_EXHAUSTED"),
            400..=499 => Some("INVALID_ARGUMENT"),
            _ => None,
        };
        let code = of_status().or_else(of_http).unwrap_or("UNAVAILABLE");
        // Answers of repeats are told by their code.
        if code == Code::AlreadyExists.name() { code } else { self.reason().unwrap_or(code) }
    }

    fn problem(&self) -> String {
        self.0.status().map_or_else(|| self.0.to_string(), |status| status.message.clone())
    }

    fn is_retryable(&self) -> bool {
        const PASSING: [&str; 6] =
            ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN", "ABORTED", "DEADLINE_EXCEEDED"];
        let code = self.code();
        is_passing(code) || PASSING.contains(&code)
    }
}
