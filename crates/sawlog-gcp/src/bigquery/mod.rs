//! BigQuery behind the warehouse seam.
//!
//! For: the tables of Sawlog as tables of a dataset, made from the one schema, and every flush as appends of the Storage
//! Write API; queries for people, and tables for a process that has none of its own. Not for: the recent tables that a worker
//! queries itself, which stay where they are (`sawlog-store`).

mod answer;
mod client;
mod job_error;
mod jobs;
pub mod load;
mod positions;
mod query;
mod read;
mod rows;
mod schema;
mod views;
mod warehouse;
mod writer;

use std::collections::BTreeMap;
use std::time::Duration;

pub use client::{BigQueryClient, QueryError};
pub use job_error::JobError;
pub use jobs::{Estimate, JobReport, JobSettings, Jobs};
pub use positions::PositionsError;
pub use query::{Answer, query};
pub use read::BigQueryTable;
use sawlog_seams::warehouse::TableSpec;
pub use schema::{DdlError, Statement};
pub use warehouse::{BigQueryWarehouse, prepare, statements};

use crate::access::Access;
use crate::call::RetryPolicy;

/// How rows are appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Each row once, by a stream of its own for each table and the offsets of its rows. Views read tables as they are.
    #[default]
    ExactlyOnce,
    /// By the default stream of each table, which costs no stream and may repeat rows after a failure. Views leave
    /// repeats out.
    AtLeastOnce,
}

/// What one partition of the tables of events spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partition {
    /// A day (UTC).
    #[default]
    Day,
    /// An hour.
    Hour,
}

/// Settings of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BigQueryOptions {
    /// Project of the dataset, which also pays for queries.
    pub project: String,
    /// Name of the dataset.
    pub dataset: String,
    /// Where the dataset is made, `US`, `europe-west1`, …
    pub location: String,
    /// Where the REST API is.
    pub access: Access,
    /// Where the Storage API is.
    pub storage: Access,
    /// Name of this worker in the rows that it appends. Two workers of one dataset have different names.
    pub writer: String,
    /// How rows are appended.
    pub delivery: Delivery,
    /// Partitions of the tables of events.
    pub partition: Partition,
    /// Days after which partitions expire, by table; those that are not named stay.
    pub expiration_days: BTreeMap<String, u32>,
    /// Labels of tables and dataset.
    pub labels: BTreeMap<String, String>,
    /// How statements and queries are tried.
    pub retry: RetryPolicy,
    /// How long one request that appends may take, and when appends are left off for a while. A flush repeats them.
    pub append: RetryPolicy,
}

/// Time that one statement, or one request that appends, may take by default.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(120);
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

impl BigQueryOptions {
    /// How statements are tried by default.
    #[must_use]
    pub fn retry() -> RetryPolicy {
        RetryPolicy { try_max: STATEMENT_TIME_MAX, ..RetryPolicy::default() }
    }

    /// How appends are tried by default.
    #[must_use]
    pub fn append() -> RetryPolicy {
        RetryPolicy { try_max: REQUEST_TIME_MAX, ..RetryPolicy::default() }
    }
}

impl BigQueryOptions {
    /// Names of all tables with rows, and of the one that notes versions.
    pub(crate) fn table_names(&self) -> Vec<String> {
        let rows = TableSpec::all().into_iter().map(|spec| schema::rows_table(spec.name));
        rows.chain([schema::NOTE_TABLE.to_owned()]).collect()
    }

    /// The path of a table in the Storage API.
    pub(crate) fn table_path(&self, table: &str) -> String {
        format!("projects/{}/datasets/{}/tables/{table}", self.project, self.dataset)
    }
}
