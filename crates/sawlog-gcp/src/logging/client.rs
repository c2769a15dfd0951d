//! Reaching Cloud Logging, and what to do about its refusals.
//!
//! For: the client of every part of this module. Not for: waiting ([`super::pace`]).

use std::sync::Arc;
use std::time::Duration;

use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_logging_v2::Error;
use google_cloud_logging_v2::client::LoggingServiceV2;
use sawlog_seams::{Clock, Disk};
use sawlog_stream::Pipeline;
use sawlog_telemetry::Metrics;
use tokio::time::{Instant, timeout};

use super::pace::{Backoff, Pace};
use crate::access::Access;
use crate::call::CallError;

/// Which entries are wanted, whose name they get, and how they are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingQuery {
    /// Where they are: `projects/PROJECT`, `folders/ID`, `organizations/ID`, or a view of a bucket by its full name.
    pub resources: Vec<String>,
    /// Filter in Cloud Logging's language, without times; empty for all.
    pub filter: String,
    /// Name of the source in the ledger and the tables. Dedup works within it.
    pub source: String,
    /// Where the service is.
    pub access: Access,
    /// Entries of a page, 1 to 1,000. Each page is a request, of which a project has 60 a minute.
    pub page_entries: u16,
    /// Longest wait for an answer to a request.
    pub answer_max: Duration,
    /// Waits after failures.
    pub backoff: Backoff,
}

impl LoggingQuery {
    /// All entries of one resource, by the largest pages.
    #[must_use]
    pub fn new(resource: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            resources: vec![resource.into()],
            filter: String::new(),
            source: source.into(),
            access: Access::default(),
            page_entries: 1_000,
            answer_max: Duration::from_secs(60),
            backoff: Backoff::default(),
        }
    }
}

/// What the sources of Cloud Logging share.
#[derive(Clone)]
pub struct LoggingState {
    /// Takes the entries.
    pub pipeline: Arc<Pipeline>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Holds the files that say how far a source is.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Requests to the project; all sources of one project share it.
    pub pace: Arc<Pace>,
}

/// Connects. Each request is tried once: waits and repeats are up to the caller, who knows the quota.
pub(super) async fn connect(access: &Access) -> google_cloud_gax::client_builder::Result<LoggingServiceV2> {
    let mut builder = LoggingServiceV2::builder().with_retry_policy(NeverRetry);
    if let Some(endpoint) = &access.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(credentials) = access.credentials() {
        builder = builder.with_credentials(credentials);
    }
    builder.build().await
}

/// Makes a request once, within a time, and counts it.
pub(super) async fn counted<T>(
    metrics: &Metrics,
    call: &'static str,
    answer_max: Duration,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let started = Instant::now();
    let answer = timeout(answer_max, request).await.unwrap_or_else(|late| Err(Error::timeout(late)));
    let outcome = answer.as_ref().err().map_or("OK", CallError::code);
    metrics.add_cloud_call("logging", call, outcome, started.elapsed().as_secs_f64());
    answer
}

/// What to do about a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The same again, later.
    Retry,
    /// The request itself is wrong, or not allowed.
    GiveUp,
}

pub(super) fn remedy(error: &Error) -> Remedy {
    let code = error.status().map(|status| status.code);
    match code {
        Some(
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented,
        ) => Remedy::GiveUp,
        Some(_) => Remedy::Retry,
        // Without a status the request or its answer was lost on the way, or a proxy refused it.
        None => match error.http_status_code() {
            Some(400..=407 | 409..=428) => Remedy::GiveUp,
            _ if error.is_serialization() || error.is_binding() => Remedy::GiveUp,
            _ => Remedy::Retry,
        },
    }
}

/// Whether the service refused the arguments.
pub(super) fn is_invalid(error: &Error) -> bool {
    error.status().is_some_and(|status| status.code == Code::InvalidArgument)
}

#[cfg(test)]
mod tests {
    use google_cloud_gax::error::rpc::Status;

    use super::*;

    #[test]
    fn only_what_may_go_better_is_tried_again() {
        let of = |code| remedy(&Error::service(Status::default().set_code(code)));
        for code in [Code::ResourceExhausted, Code::Unavailable, Code::Internal, Code::DeadlineExceeded, Code::Aborted]
        {
            assert_eq!(of(code), Remedy::Retry, "{code:?}");
        }
        for code in [Code::InvalidArgument, Code::PermissionDenied, Code::NotFound, Code::Unauthenticated] {
            assert_eq!(of(code), Remedy::GiveUp, "{code:?}");
        }
        assert_eq!(remedy(&Error::io("the connection was reset")), Remedy::Retry);
        assert_eq!(remedy(&Error::timeout("no answer")), Remedy::Retry);
        let of_proxy = |code| remedy(&Error::http(code, Default::default(), Default::default()));
        assert_eq!((of_proxy(502), of_proxy(429), of_proxy(403)), (Remedy::Retry, Remedy::Retry, Remedy::GiveUp));
    }
}
