//! Statements and queries by BigQuery's REST API.

use std::sync::Arc;

use google_cloud_bigquery::client::BigQuery;
use google_cloud_bigquery::error::{QueryError as ServiceError, RowError};
use google_cloud_gax::retry_policy::NeverRetry;
use serde_json::Value;

use super::job_error::is_passing;
use super::{BigQueryOptions, Statement};
use crate::answer::cause;
use crate::call::{CallCounts, CallError, CallFailed, Caller, Failed};

/// Why a statement did not run.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No client could be made.
    #[error("BigQuery cannot be reached: {0}")]
    Client(String),
    /// BigQuery refused it or failed, however often it was tried.
    #[error("{what}: {source}")]
    Call {
        /// What was to be done.
        what: String,
        /// What BigQuery said.
        #[source]
        source: CallFailed,
    },
}

/// Runs statements in a project.
#[derive(Clone, Debug)]
pub struct BigQueryClient {
    inner: BigQuery,
    caller: Arc<Caller>,
}

impl BigQueryClient {
    /// A client with the credentials of `options.access`.
    ///
    /// # Errors
    /// When there are no credentials.
    pub async fn new(options: &BigQueryOptions) -> Result<Self, QueryError> {
        // Repeats are made here, where they are counted and end.
        let mut builder = BigQuery::builder().with_project_id(&options.project).with_retry_policy(NeverRetry);
        if let Some(endpoint) = &options.access.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(credentials) = options.access.credentials() {
            builder = builder.with_credentials(credentials);
        }
        let inner = builder.build().await.map_err(|error| QueryError::Client(error.to_string()))?;
        Ok(Self { inner, caller: Arc::new(Caller::new("BigQuery", options.retry.clone())) })
    }

    /// Tries since the start.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        self.caller.counts()
    }

    /// Runs a statement for what it does. It may run more than once: an answer may be lost.
    ///
    /// # Errors
    /// When BigQuery cannot be reached, refuses it or takes too long.
    pub async fn run(&self, statement: &Statement) -> Result<(), QueryError> {
        self.rows(&statement.sql, &statement.makes, 0).await.map(drop)
    }

    /// The first `columns` values of each row of a query.
    ///
    /// # Errors
    /// As [`BigQueryClient::run`].
    pub async fn rows(&self, sql: &str, what: &str, columns: usize) -> Result<Vec<Vec<Value>>, QueryError> {
        let mut tries = self.caller.begin("Query");
        loop {
            match tries.run(self.rows_once(sql, columns)).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => {
                    let waited = tries.wait(failure).await;
                    waited.map_err(|source| QueryError::Call { what: what.to_owned(), source })?;
                }
            }
        }
    }

    async fn rows_once(&self, sql: &str, columns: usize) -> Result<Vec<Vec<Value>>, Failed> {
        let done = self.inner.query(sql).until_done().await?;
        let mut rows = done.read();
        let mut found = Vec::new();
        while let Some(row) = rows.next().await {
            let row = row?;
            let values: Result<Vec<Value>, RowError> = (0..columns).map(|index| row.get(index)).collect();
            found.push(values?);
        }
        Ok(found)
    }
}

impl Failed {
    /// By the answer of the service that caused an error; what no answer caused will not pass.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let cause = cause(error);
        let (code, is_retryable) = cause.map_or(("UNKNOWN", false), |cause| (cause.code(), cause.is_retryable()));
        Self { code, problem: error.to_string(), is_retryable, retry_after: None }
    }
}

impl From<ServiceError> for Failed {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::JobFailed { errors, .. } => Self {
                code: "JOB_FAILED",
                problem: errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>().join("; "),
                is_retryable: errors.iter().any(|error| is_passing(&error.reason)),
                retry_after: None,
            },
            other => Self::of(&other),
        }
    }
}

impl From<RowError> for Failed {
    fn from(error: RowError) -> Self {
        Self::of(&error)
    }
}
