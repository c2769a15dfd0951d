//! Errors as clients see them: a status, a code for programs, a message and a hint for people.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sawlog_query::QueryError;
use sawlog_seams::remote::RemoteFailure;
use sawlog_seams::{AppendError, Disposition};
use sawlog_stream::SubmitError;
use serde_json::json;

/// An error answer.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: String,
    pub(crate) retry_after: Option<Duration>,
    /// Characters of the request's text that the mistake is in: the first, and the one after the last.
    pub(crate) place: Option<(usize, usize)>,
}

impl ApiError {
    /// An error with a code for programs, a message and a hint for people.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: hint.into(), retry_after: None, place: None }
    }

    /// Says when to send the request again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    pub(crate) fn at(mut self, place: (usize, usize)) -> Self {
        self.place = Some(place);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut error = json!({"code": self.code, "message": self.message, "hint": self.hint});
        if let Some((start, end)) = self.place {
            error["position"] = json!({"start": start, "end": end});
        }
        let body = json!({"error": error});
        let mut response = (self.status, Json(body)).into_response();
        if let Some(after) = self.retry_after {
            let seconds = HeaderValue::from(after.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

const OVERLOAD_RETRY: Duration = Duration::from_secs(1);
/// Space does not come back at once.
pub(crate) const DISK_RETRY: Duration = Duration::from_secs(5);

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::Unreadable(_) => {
                Self::new(StatusCode::BAD_REQUEST, "body_unreadable", message, "send the format that the path takes")
            }
            SubmitError::Overloaded => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                message,
                "send again after the time in Retry-After",
            )
            .retry_after(OVERLOAD_RETRY),
            SubmitError::DiskShort { .. } => {
                let hint = "free space on the disk of the data folder; until then send again after Retry-After";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "disk_full", message, hint).retry_after(DISK_RETRY)
            }
            SubmitError::Stopped => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message, "send again when the server is back")
                    .retry_after(OVERLOAD_RETRY)
            }
            SubmitError::Log(error) => log_error(&error),
        }
    }
}

fn log_error(error: &AppendError) -> ApiError {
    let message = error.to_string();
    let code = match error {
        AppendError::DiskFull { .. } => "disk_full",
        AppendError::Overloaded { .. } => "overloaded",
        AppendError::FrameTooLarge { .. } => "body_too_large",
        AppendError::Closed => "stopping",
        _ => "log_failed",
    };
    match error.disposition() {
        Disposition::RetryAfter(after) => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message, error.hint()).retry_after(after)
        }
        Disposition::Stop => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message, error.hint()),
        Disposition::Refuse => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, code, message, error.hint()),
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let status = match &error {
            QueryError::Timeout(_) => StatusCode::REQUEST_TIMEOUT,
            QueryError::Memory(_) => StatusCode::UNPROCESSABLE_ENTITY,
            QueryError::Stopped | QueryError::Remote { kind: RemoteFailure::Unavailable, .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            QueryError::Remote { kind: RemoteFailure::TooExpensive, .. } => StatusCode::UNPROCESSABLE_ENTITY,
            QueryError::Remote { .. } => StatusCode::BAD_GATEWAY,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.code(), error.to_string(), error.hint())
    }
}
