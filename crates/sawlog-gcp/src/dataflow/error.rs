//! What goes wrong between here and Dataflow.
//!
//! For: the service's answers in the terms of this crate's calls, and what to do about them. Not for: jobs that fail.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tonic::Code;

use crate::answer::name_of_http;
use crate::call::{CallFailed, Failed, deepest};
use crate::grpc::code_name;

/// Longest text of an error that is kept, characters.
const PROBLEM_CHARS_MAX: usize = 600;

/// Why a job cannot be launched, changed or looked at.
#[derive(Debug, thiserror::Error)]
pub enum DataflowError {
    /// No client could be made.
    #[error("Dataflow cannot be reached: {0}")]
    Client(String),
    /// Dataflow refused a call or failed, however often it was tried.
    #[error(transparent)]
    Call(#[from] CallFailed),
    /// Dataflow answered in a way that this version does not know.
    #[error("the answer of Dataflow to {call} has {problem}")]
    Answer {
        /// Name of the call.
        call: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl DataflowError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        let code = match self {
            Self::Client(_) => "UNAUTHENTICATED",
            Self::Call(failed) => failed.code,
            Self::Answer { .. } => return "is `endpoint` of [gcp.dataflow] Dataflow's? Look at the job in the console",
        };
        match code {
            "PERMISSION_DENIED" => {
                "the account needs roles/dataflow.developer on the project, and to launch or update also \
                 roles/iam.serviceAccountUser on the account of the workers and access to the template's bucket"
            }
            "UNAUTHENTICATED" => "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
            "NOT_FOUND" => {
                "check `project`, and `region` and `template` of [gcp.dataflow]; the Dataflow API must be enabled"
            }
            "INVALID_ARGUMENT" => "correct the setting that the service names; `--dry-run` shows the request",
            "ALREADY_EXISTS" | "ABORTED" => "`sawlog dataflow status` shows the job of this name",
            "FAILED_PRECONDITION" => "`sawlog dataflow status` shows the job's state, which does not allow this",
            "RESOURCE_EXHAUSTED" => "the project's quota is used up; try again later",
            _ => "try again; what was asked may have been done, which `sawlog dataflow status` shows",
        }
    }
}

impl Failed {
    /// There was no answer.
    pub(super) fn unreachable(error: &reqwest::Error) -> Self {
        let problem = deepest(error);
        Self { code: "UNAVAILABLE", problem, is_retryable: !error.is_builder(), retry_after: None }
    }

    /// There is no token to ask with.
    pub(super) fn unauthenticated(problem: String, is_retryable: bool) -> Self {
        Self { code: "UNAUTHENTICATED", problem, is_retryable, retry_after: None }
    }

    /// An answer that is no success, in the form of Google's JSON services: `{"error": {"status": …, "message": …}}`.
    pub(super) fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = &value["error"];
        let text = String::from_utf8_lossy(body);
        let said = error["message"].as_str().unwrap_or(text.trim());
        let named = error["status"].as_str().and_then(known_code);
        Self {
            code: named.unwrap_or_else(|| name_of_http(status.as_u16())),
            problem: format!("HTTP {}: {}", status.as_u16(), said.chars().take(PROBLEM_CHARS_MAX).collect::<String>()),
            is_retryable: matches!(status.as_u16(), 408 | 429 | 500 | 502..=599),
            retry_after: retry_after(headers, &error["details"]),
        }
    }
}

/// A code by the name that an answer gives it.
fn known_code(name: &str) -> Option<&'static str> {
    (0..=16).map(|number| code_name(Code::from_i32(number))).find(|known| *known == name)
}

/// How long the service wants to be left alone, by a header (RFC 9110, section 10.2.3) or `google.rpc.RetryInfo`.
fn retry_after(headers: &HeaderMap, details: &Value) -> Option<Duration> {
    let header = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let delays = details.as_array().into_iter().flatten().filter_map(|detail| detail["retryDelay"].as_str());
    let seconds = delays.filter_map(|delay| delay.strip_suffix('s')?.parse().ok());
    header.or_else(|| seconds.filter_map(|seconds| Duration::try_from_secs_f64(seconds).ok()).next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> Failed {
        Failed::refused(StatusCode::from_u16(status).expect("a status"), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn answers_have_the_code_that_they_name_or_that_of_their_status() {
        let named = refused(409, r#"{"error":{"code":409,"message":"There is one.","status":"ALREADY_EXISTS"}}"#);
        assert_eq!((named.code, named.problem.as_str()), ("ALREADY_EXISTS", "HTTP 409: There is one."));
        for (status, code, is_retryable) in [
            (400, "INVALID_ARGUMENT", false),
            (403, "PERMISSION_DENIED", false),
            (404, "NOT_FOUND", false),
            (429, "RESOURCE_EXHAUSTED", true),
            (503, "UNAVAILABLE", true),
        ] {
            let failed = refused(status, "<html>no</html>");
            assert_eq!((failed.code, failed.is_retryable), (code, is_retryable), "{status}");
            assert_eq!(failed.problem, format!("HTTP {status}: <html>no</html>"));
        }
        assert_eq!(refused(400, r#"{"error":{"status":"A_NEW_ONE"}}"#).code, "INVALID_ARGUMENT");
    }

    #[test]
    fn a_service_that_wants_a_pause_is_believed() {
        let info =
            r#"{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}]}}"#;
        assert_eq!(refused(429, info).retry_after, Some(Duration::from_millis(1_500)));
        assert_eq!(refused(429, r#"{"error":{"details":[{"retryDelay":"-1s"}]}}"#).retry_after, None);
        let headers = HeaderMap::from_iter([(RETRY_AFTER, http::HeaderValue::from_static("7"))]);
        let failed = Failed::refused(StatusCode::SERVICE_UNAVAILABLE, &headers, b"");
        assert_eq!(failed.retry_after, Some(Duration::from_secs(7)));
    }
}
