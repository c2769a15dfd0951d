//! What goes wrong with queries of BigQuery, and what to do about it.

use sawlog_seams::remote::RemoteFailure;

use crate::call::CallFailed;

/// The service's words for what is wrong that are told apart.
pub(super) const REASONS: [&str; 11] = [
    "invalidQuery",
    "invalid",
    "notFound",
    "accessDenied",
    "bytesBilledLimitExceeded",
    "quotaExceeded",
    "rateLimitExceeded",
    "jobRateLimitExceeded",
    "backendError",
    "jobBackendError",
    "internalError",
];
/// Those after which the same job may go well (Google's "Error messages" of BigQuery).
const PASSING_REASONS: [&str; 6] = [
    "backendError",
    "internalError",
    "rateLimitExceeded",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
];
/// How a message says which columns lack a condition.
const NEEDS_FILTER: &str = "without a filter over column(s)";

/// Whether the same job may go well after a failure for this reason.
pub(super) fn is_passing(reason: &str) -> bool {
    PASSING_REASONS.contains(&reason)
}

/// What goes wrong with a query of BigQuery.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JobError {
    /// No client could be made.
    #[error("BigQuery cannot be reached: {0}")]
    Client(String),
    /// A call did not go well, however often it was tried.
    #[error(transparent)]
    Call(#[from] CallFailed),
    /// The query failed.
    #[error("{problem}")]
    Failed {
        /// The service's word for why.
        reason: String,
        /// What the service said.
        problem: String,
    },
    /// The answer is not what was asked for.
    #[error("BigQuery answered what cannot be read: {0}")]
    Unreadable(String),
}

impl JobError {
    /// The service's word for why, or a code.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Client(_) => "UNAVAILABLE",
            Self::Call(failed) => failed.code,
            Self::Failed { reason, .. } => reason,
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// What happened, in the service's words where it spoke.
    #[must_use]
    pub fn problem(&self) -> String {
        match self {
            Self::Call(failed) if REASONS.contains(&failed.code) => failed.problem.clone(),
            other => other.to_string(),
        }
    }

    /// Whether the query has ended for the service as well.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Failed { .. } => true,
            Self::Call(failed) => matches!(failed.code, "invalidQuery" | "invalid" | "notFound" | "accessDenied"),
            _ => false,
        }
    }

    /// What its user can do about it.
    #[must_use]
    pub fn kind(&self) -> RemoteFailure {
        match self.reason() {
            "bytesBilledLimitExceeded" => RemoteFailure::TooExpensive,
            "accessDenied" | "PERMISSION_DENIED" | "UNAUTHENTICATED" => RemoteFailure::Denied,
            "invalidQuery" | "invalid" | "notFound" | "NOT_FOUND" | "INVALID_ARGUMENT" | "unreadable" => {
                RemoteFailure::Other
            }
            _ => RemoteFailure::Unavailable,
        }
    }

    /// Line and column (both from 1) of the mistake in the query, where they are known.
    #[must_use]
    pub fn place(&self) -> Option<(usize, usize)> {
        let problem = self.problem();
        let (_, place) = problem.rsplit_once(" at [")?;
        let (line, column) = place.split_once(']')?.0.split_once(':')?;
        Some((line.parse().ok()?, column.parse().ok()?))
    }

    /// What to do now.
    #[must_use]
    pub fn hint(&self) -> String {
        let problem = self.problem();
        if let Some((_, columns)) = problem.split_once(NEEDS_FILTER) {
            let columns: Vec<&str> = columns.split('\'').skip(1).step_by(2).collect();
            let column = columns.first().copied().unwrap_or("event_time");
            return format!(
                "add a condition on {column}, by which the table is partitioned: \
                 WHERE {column} >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 DAY)"
            );
        }
        let hint = match self.reason() {
            "bytesBilledLimitExceeded" => {
                "narrow the range of time or name fewer columns, or raise `gcp.bigquery.query-bytes-max` (once: --bytes-max)"
            }
            "notFound" | "NOT_FOUND" => {
                "SELECT table_name FROM INFORMATION_SCHEMA.TABLES lists the tables; `gcp.bigquery` has dataset and location"
            }
            "accessDenied" | "PERMISSION_DENIED" | "UNAUTHENTICATED" => {
                "give the account roles/bigquery.jobUser on the project and roles/bigquery.dataViewer on the dataset"
            }
            "quotaExceeded" => "a quota of the project is used up; the message names it",
            "invalidQuery" | "invalid" | "INVALID_ARGUMENT" => {
                "the dialect is GoogleSQL; the views of the dataset have the names and columns of Sawlog's tables"
            }
            _ => "try again; the service or the way to it is disturbed",
        };
        hint.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(reason: &str, problem: &str) -> JobError {
        JobError::Failed { reason: reason.to_owned(), problem: problem.to_owned() }
    }

    #[test]
    fn a_missing_condition_on_the_partitions_is_named() {
        let error = failed(
            "invalidQuery",
            "Cannot query over table 'p.sawlog.logs_rows' without a filter over column(s) 'event_time' that can be used \
             for partition elimination",
        );
        assert!(error.hint().contains("WHERE event_time >= TIMESTAMP_SUB("), "{}", error.hint());
        assert!(failed("invalidQuery", "Syntax error").hint().contains("GoogleSQL"));
    }

    #[test]
    fn the_place_of_a_mistake_is_read() {
        assert_eq!(failed("invalidQuery", "Unrecognized name: x at [3:14]").place(), Some((3, 14)));
        assert_eq!(failed("invalidQuery", "Unrecognized name: x").place(), None);
    }

    #[test]
    fn what_can_be_done_is_told_apart() {
        assert_eq!(failed("bytesBilledLimitExceeded", "").kind(), RemoteFailure::TooExpensive);
        assert_eq!(failed("accessDenied", "").kind(), RemoteFailure::Denied);
        assert_eq!(failed("backendError", "").kind(), RemoteFailure::Unavailable);
        assert_eq!(failed("invalidQuery", "").kind(), RemoteFailure::Other);
    }
}
