//! Errors of Google's own clients in the terms of this crate's calls.
//!
//! For: one code for each, the same that a service without such a client gives, and whether the same call may go well later.
//! Not for: what a caller does about it.

use std::time::Duration;

use google_cloud_gax::error::Error;
use google_cloud_gax::error::rpc::{Code, StatusDetails};

use crate::call::{CallError, TIMED_OUT};
use crate::grpc::{code_name, is_passing};

impl CallError for Error {
    fn code(&self) -> &'static str {
        match (known_status(self), self.http_status_code()) {
            (Some(code), _) => code_name(code),
            (None, Some(status)) => name_of_http(status),
            (None, None) if self.is_timeout() => TIMED_OUT,
            // It did not come to an answer.
            (None, None) => "UNAVAILABLE",
        }
    }

    fn problem(&self) -> String {
        self.to_string()
    }

    fn retry_after(&self) -> Option<Duration> {
        let delay = self.status()?.details.iter().find_map(|detail| match detail {
            StatusDetails::RetryInfo(info) => info.retry_delay,
            _ => None,
        });
        Duration::try_from(delay?).ok()
    }

    fn is_retryable(&self) -> bool {
        match (known_status(self), self.http_status_code()) {
            (Some(code), _) => is_passing(code),
            (None, Some(status)) => matches!(status, 408 | 429 | 500 | 502..=599),
            (None, None) => !(self.is_serialization() || self.is_binding() || self.is_authentication()),
        }
    }
}

/// The error of one of Google's clients that caused an error.
pub(crate) fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(error) = error.downcast_ref::<Error>() {
            return Some(error);
        }
        current = error.source();
    }
    None
}

/// Code of an error that one of Google's clients may have caused.
pub(crate) fn code_of(error: &(dyn std::error::Error + 'static)) -> &'static str {
    cause(error).map_or("UNAVAILABLE", CallError::code)
}

/// The code that an answer names; answers in JSON may leave it to the status of HTTP.
fn known_status(error: &Error) -> Option<tonic::Code> {
    let code = error.status()?.code;
    (code != Code::Unknown || error.http_status_code().is_none()).then(|| tonic::Code::from_i32(code as i32))
}

/// Name of a status of HTTP among the codes of gRPC (google/rpc/code.proto has the pairs).
pub(crate) const fn name_of_http(status: u16) -> &'static str {
    match status {
        200..=299 => "OK",
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        408 | 504 => "DEADLINE_EXCEEDED",
        409 => "ABORTED",
        412 => "FAILED_PRECONDITION",
        416 => "OUT_OF_RANGE",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        501 => "UNIMPLEMENTED",
        502 | 503 => "UNAVAILABLE",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use google_cloud_gax::error::rpc::Status;

    use super::*;

    #[test]
    fn errors_of_googles_clients_have_the_codes_of_the_others() {
        let of_status = |code| Error::service(Status::default().set_code(code));
        let of_http = |code| Error::http(code, Default::default(), Default::default());
        for (error, code, is_retryable) in [
            (of_status(Code::ResourceExhausted), "RESOURCE_EXHAUSTED", true),
            (of_status(Code::NotFound), "NOT_FOUND", false),
            (of_http(503), "UNAVAILABLE", true),
            (of_http(403), "PERMISSION_DENIED", false),
            (Error::timeout("late"), "TIMED_OUT", true),
            (Error::io("reset"), "UNAVAILABLE", true),
            (Error::ser("no JSON"), "UNAVAILABLE", false),
        ] {
            assert_eq!((error.code(), error.is_retryable()), (code, is_retryable), "{error}");
        }
    }
}
