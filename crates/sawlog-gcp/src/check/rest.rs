//! Asking services in JSON over HTTP.
//!
//! For: answers as values, failures told apart by what they say about the resource, and the time by the service's clock.
//! Not for: repeats: who checks can check again.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use google_cloud_auth::credentials::{Builder, CacheableResource, Credentials};
use http::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue};
use http::{Extensions, Method, StatusCode};
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, ReqwestConnector};
use sawlog_seams::Clock;
use serde_json::Value;
use tokio::time::timeout;

use crate::access::Access;
use crate::call::deepest;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Longest text of an error that is kept, characters.
const ERROR_CHARS_MAX: usize = 300;

/// What all checks share.
pub(super) struct Context<'a> {
    pub(super) project: &'a str,
    pub(super) deadline: Duration,
    pub(super) clock: &'a dyn Clock,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// There is no such resource.
    Missing,
    /// The caller may not; what the service said.
    Denied(String),
    /// The service refused the call as such.
    Refused(String),
    /// The service did not answer, or not now.
    Away(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => formatter.write_str("it is not there"),
            Self::Denied(problem) | Self::Refused(problem) | Self::Away(problem) => formatter.write_str(problem),
        }
    }
}

/// One service.
pub(super) struct Rest<'a> {
    context: &'a Context<'a>,
    base: String,
    client: HttpClient,
    credentials: Credentials,
}

/// An answer, and by how many seconds the service's clock is ahead of this machine's, where it says its time.
pub(super) struct Answer {
    pub(super) value: Value,
    pub(super) ahead_seconds: Option<i64>,
}

impl<'a> Rest<'a> {
    /// A service at its own host, unless the access names an endpoint.
    pub(super) fn new(context: &'a Context<'a>, access: &Access, host: &str) -> Result<Self, Failed> {
        let credentials = match access.credentials() {
            Some(credentials) => credentials,
            None => Builder::default()
                .with_scopes([SCOPE])
                .build()
                .map_err(|_| Failed::Away("there are no credentials to ask with".to_owned()))?,
        };
        let base = access.endpoint.clone().unwrap_or_else(|| format!("https://{host}"));
        let options = ClientOptions::new()
            .with_allow_http(base.starts_with("http://"))
            .with_connect_timeout(context.deadline)
            .with_timeout(context.deadline);
        let client = ReqwestConnector::default().connect(&options);
        let client = client.map_err(|error| Failed::Away(error.to_string()))?;
        Ok(Self { context, base: base.trim_end_matches('/').to_owned(), client, credentials })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, Failed> {
        self.call(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer, Failed> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// The permissions of a list that the caller has on a resource, by the call of most services.
    pub(super) async fn test_permissions(&self, path: &str, permissions: &[&str]) -> Result<Vec<String>, Failed> {
        let body = serde_json::json!({ "permissions": permissions });
        let answer = self.post(&format!("{path}:testIamPermissions"), &body).await?;
        Ok(texts(&answer.value["permissions"]))
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failed> {
        let limit = self.context.deadline;
        match timeout(limit, self.call_once(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failed::Away(format!("no answer within {limit:?}"))),
        }
    }

    async fn call_once(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failed> {
        let away = |error: &(dyn std::error::Error + 'static)| Failed::Away(deepest(error));
        let mut request = HttpRequest::new(body.map_or_else(String::new, Value::to_string).into());
        *request.method_mut() = method;
        let uri = format!("{}{path}", self.base).parse();
        *request.uri_mut() = uri.map_err(|error: http::uri::InvalidUri| Failed::Refused(error.to_string()))?;
        if body.is_some() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let headers = self.credentials.headers(Extensions::new()).await;
        if let CacheableResource::New { data, .. } = headers.map_err(|error| away(&error))? {
            request.headers_mut().extend(data);
        }
        let (parts, body) = self.client.execute(request).await.map_err(|error| away(&error))?.into_parts();
        let ahead_seconds = ahead(&parts.headers, self.context.clock);
        let body = body.bytes().await.map_err(|error| away(&error))?;
        match parts.status {
            status if status.is_success() => match serde_json::from_slice(&body) {
                Ok(value) => Ok(Answer { value, ahead_seconds }),
                Err(error) => Err(Failed::Away(format!("the answer is no JSON: {error}"))),
            },
            status => Err(refusal(status, &body)),
        }
    }
}

/// What an answer that is no success says about the resource.
fn refusal(status: StatusCode, body: &[u8]) -> Failed {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = String::from_utf8_lossy(body);
    let message = value["error"]["message"].as_str().unwrap_or(text.trim());
    let said: String = message.chars().take(ERROR_CHARS_MAX).collect();
    let problem = format!("HTTP {}: {said}", status.as_u16());
    match status {
        StatusCode::NOT_FOUND => Failed::Missing,
        // A service that is not enabled answers in the words of one that denies.
        StatusCode::FORBIDDEN if said.contains("has not been used") || said.contains("is disabled") => {
            Failed::Refused(problem)
        }
        StatusCode::FORBIDDEN => Failed::Denied(problem),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Failed::Away(problem),
        status if status.is_server_error() => Failed::Away(problem),
        _ => Failed::Refused(problem),
    }
}

/// By how many seconds the sender of an answer is ahead (RFC 9110, section 6.6.1: `Date`).
fn ahead(headers: &HeaderMap, clock: &dyn Clock) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let there = i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    Some(there - clock.now_micros().div_euclid(1_000_000))
}

/// The texts of a list; none of what is no list.
pub(super) fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use sawlog_seams::ManualClock;

    use super::*;

    #[test]
    fn what_is_missing_denied_wrong_and_away_is_told_apart() {
        let of = |status: u16, body: &str| refusal(StatusCode::from_u16(status).expect("a status"), body.as_bytes());
        let said = |message: &str| format!(r#"{{"error":{{"message":"{message}"}}}}"#);
        assert_eq!(of(404, ""), Failed::Missing);
        assert_eq!(of(403, &said("no")), Failed::Denied("HTTP 403: no".to_owned()));
        let disabled = of(403, &said("Cloud Pub/Sub API has not been used in project p before or it is disabled"));
        assert!(matches!(disabled, Failed::Refused(_)), "{disabled:?}");
        assert!(matches!(of(400, "bad"), Failed::Refused(_)));
        for status in [408, 429, 500, 503] {
            assert!(matches!(of(status, "later"), Failed::Away(_)), "{status}");
        }
    }

    #[test]
    fn the_services_clock_is_compared_with_this_one() {
        let clock = ManualClock::at_micros(784_111_777_900_000);
        let mut headers = HeaderMap::new();
        assert_eq!(ahead(&headers, &clock), None);
        // The example of RFC 9110, section 5.6.7.
        headers.insert(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:50:37 GMT"));
        assert_eq!(ahead(&headers, &clock), Some(60));
    }
}
