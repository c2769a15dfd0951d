//! Statements and queries by BigQuery's REST API.

use std::time::Duration;

use google_cloud_bigquery::client::BigQuery;
use google_cloud_bigquery::error::QueryError as ServiceError;
use serde_json::Value;
use tokio::time::timeout;

use super::{BigQueryOptions, Statement};

/// Time that a statement may take.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(120);

/// Why a statement did not run.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No client could be made.
    #[error("BigQuery cannot be reached: {0}")]
    Client(String),
    /// It took too long.
    #[error("BigQuery did not answer within {} s: {what}", STATEMENT_TIME_MAX.as_secs())]
    Timeout {
        /// What was to be done.
        what: String,
    },
    /// BigQuery refused it or failed.
    #[error("BigQuery: {what}: {problem}")]
    Refused {
        /// What was to be done.
        what: String,
        /// What BigQuery said.
        problem: String,
    },
}

/// Runs statements in a project.
#[derive(Clone, Debug)]
pub struct BigQueryClient {
    inner: BigQuery,
}

impl BigQueryClient {
    /// A client with the credentials of `options.access`.
    ///
    /// # Errors
    /// When there are no credentials.
    pub async fn new(options: &BigQueryOptions) -> Result<Self, QueryError> {
        let mut builder = BigQuery::builder().with_project_id(&options.project);
        if let Some(endpoint) = &options.access.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(credentials) = options.access.credentials() {
            builder = builder.with_credentials(credentials);
        }
        let inner = builder.build().await.map_err(|error| QueryError::Client(error.to_string()))?;
        Ok(Self { inner })
    }

    /// Runs a statement for what it does.
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
        let refused = |problem: String| QueryError::Refused { what: what.to_owned(), problem };
        let running = async {
            let done = self.inner.query(sql).until_done().await.map_err(|error| refused(explain(&error)))?;
            let mut rows = done.read();
            let mut found = Vec::new();
            while let Some(row) = rows.next().await {
                let row = row.map_err(|error| refused(error.to_string()))?;
                let values: Result<Vec<Value>, _> = (0..columns).map(|index| row.get(index)).collect();
                found.push(values.map_err(|error| refused(error.to_string()))?);
            }
            Ok(found)
        };
        let late = |_| QueryError::Timeout { what: what.to_owned() };
        timeout(STATEMENT_TIME_MAX, running).await.map_err(late)?
    }
}

fn explain(error: &ServiceError) -> String {
    match error {
        ServiceError::JobFailed { errors, .. } => {
            errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}
