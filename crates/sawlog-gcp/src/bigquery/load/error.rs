//! Why a load stopped, and what to do about it.

use sawlog_seams::lake::LakeError;
use sawlog_seams::warehouse::WarehouseError;

use super::super::job_error::is_passing;
use super::super::{DdlError, JobError, PositionsError, QueryError};

/// Why a load stopped.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A note in the data folder cannot be used.
    #[error(transparent)]
    Note(#[from] PositionsError),
    /// A table of the data folder cannot be read.
    #[error(transparent)]
    Table(#[from] WarehouseError),
    /// Rows have no form in BigQuery.
    #[error("rows cannot be written as Parquet: {0}")]
    Encode(String),
    /// A column has no type of BigQuery.
    #[error(transparent)]
    Ddl(#[from] DdlError),
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] LakeError),
    /// A statement failed.
    #[error(transparent)]
    Statement(#[from] QueryError),
    /// A job failed.
    #[error("{what}: {problem}")]
    Job {
        /// What it was to do.
        what: String,
        /// Why it did not.
        problem: JobError,
    },
    /// BigQuery has another number of rows than were written.
    #[error("{what}: BigQuery counts {found} rows, and {written} were written")]
    Count {
        /// What was done.
        what: String,
        /// Rows that were written.
        written: u64,
        /// Rows that BigQuery counts.
        found: u64,
    },
    /// There is no such table.
    #[error("there is no table {table:?}; there are {known}")]
    UnknownTable {
        /// The name.
        table: String,
        /// All names.
        known: String,
    },
    /// The note is of a load into another dataset.
    #[error("this data folder was loaded into dataset {noted}, and {given} is configured")]
    OtherDataset {
        /// Dataset of the note.
        noted: String,
        /// The one that is configured.
        given: String,
    },
    /// The note is of a load of other days.
    #[error("this data folder is loaded for {noted}, and now {given} are asked for")]
    OtherDays {
        /// Days of the note.
        noted: String,
        /// Days of this call.
        given: String,
    },
    /// The worker of the folder has written rows to the dataset.
    #[error(
        "table {table}: the worker of this data folder has written rows of it to the dataset, which a load would repeat"
    )]
    Appended {
        /// The table.
        table: String,
    },
    /// The table got rows that neither the load nor the worker brings to the dataset.
    #[error(
        "table {table}: it has rows up to position {now} now, and up to {then} when it was loaded; the rows in between are \
         not in the dataset"
    )]
    Grown {
        /// The table.
        table: String,
        /// Position that was loaded up to.
        then: u64,
        /// Position of today.
        now: u64,
    },
    /// There are no random numbers for names.
    #[error("there are no random numbers: {0}")]
    Random(String),
}

impl LoadError {
    /// What to do now.
    #[must_use]
    pub fn hint(&self) -> String {
        const AGAIN: &str = "run `sawlog gcp load` again, which goes on where this one stopped";
        match self {
            Self::Job { problem, .. } => match problem.reason() {
                "accessDenied" | "PERMISSION_DENIED" => format!(
                    "give the account roles/bigquery.dataEditor on the dataset, roles/bigquery.jobUser on the project and \
                     roles/storage.objectUser on the bucket; then {AGAIN}"
                ),
                "quotaExceeded" => format!("wait for the quota that the message names; then {AGAIN}"),
                _ => AGAIN.to_owned(),
            },
            Self::Count { .. } => {
                "take the load back with `sawlog gcp load --undo`, and load again; report it, for this is not to happen".to_owned()
            }
            Self::Note(_) | Self::UnknownTable { .. } | Self::Ddl(_) => "correct what is named".to_owned(),
            Self::OtherDataset { noted, .. } => format!(
                "configure {noted}, or take its load back with `sawlog gcp load --undo` before another dataset is loaded"
            ),
            Self::OtherDays { .. } => {
                "give the same days, or take the load back with `sawlog gcp load --undo` first".to_owned()
            }
            Self::Appended { .. } => {
                "load before the worker starts with [gcp.bigquery]; `--table` loads other tables alone".to_owned()
            }
            Self::Grown { .. } => {
                "`sawlog gcp load --undo` takes the load back, and another load brings all rows; rows that a worker wrote \
                 since stay, and then the missing ones are in this data folder only"
                    .to_owned()
            }
            _ => AGAIN.to_owned(),
        }
    }

    /// Whether another attempt may go well.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Job { problem: JobError::Failed { reason, .. }, .. } if is_passing(reason))
    }
}

impl From<arrow::error::ArrowError> for LoadError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Encode(error.to_string())
    }
}

impl From<parquet::errors::ParquetError> for LoadError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::Encode(error.to_string())
    }
}
