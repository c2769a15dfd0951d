//! What each HTTP request to Cloud Storage carries beside what `object_store` writes, and what is taken from the answer.
//!
//! For: Google's credentials, checksums in both directions, the condition of a copy, and errors with the service's own
//! words. Not for: repeats ([`super::retry`]).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use http::{Extensions, StatusCode};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

use super::counts::{Counts, name_of};
use crate::answer::name_of_http;
use crate::call::deepest;

const HASH: &str = "x-goog-hash";
const COPY_SOURCE: &str = "x-goog-copy-source";
const GENERATION_MATCH: &str = "x-goog-if-generation-match";
/// Attribute with the service's checksum of the stored content. It travels as metadata, the only headers that
/// `object_store` hands over.
pub(super) const STORED_CRC32C: &str = "service-crc32c";
const STORED_CRC32C_HEADER: &str = "x-goog-meta-service-crc32c";
/// Longest text of an error that is kept, bytes.
const ERROR_BYTES_MAX: usize = 300;

/// Extension of a put: CRC32C of the content, against which the service checks what arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContentCrc32c(pub(super) u32);

/// The base64 form in which Google writes a CRC32C.
pub(super) fn crc32c_text(crc32c: u32) -> String {
    BASE64_STANDARD.encode(crc32c.to_be_bytes())
}

/// Makes HTTP clients that send credentials.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) credentials: Credentials,
    pub(super) counts: Arc<Counts>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { client, credentials: self.credentials.clone(), counts: Arc::clone(&self.counts) }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    credentials: Credentials,
    counts: Arc<Counts>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.authorize(request.headers_mut()).await?;
        complete(&mut request);
        let counting = self.counts.begin(name_of(&request));
        let answer = self.client.execute(request).await;
        counting.end(answer.as_ref().map_or("UNAVAILABLE", |response| name_of_http(response.status().as_u16())));
        let mut response = answer?;
        keep_checksum(response.headers_mut());
        match response.status() {
            status if status.is_success() => Ok(response),
            // What object_store tells apart itself.
            StatusCode::NOT_MODIFIED | StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Ok(response),
            status => refuse(status, response).await,
        }
    }
}

impl Service {
    /// Replaces object_store's credentials, which are empty here, by Google's.
    async fn authorize(&self, headers: &mut HeaderMap) -> Result<(), HttpError> {
        headers.remove(AUTHORIZATION);
        match self.credentials.headers(Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => headers.extend(data),
            // Only an answer to a caller that names an entity tag, which this one does not.
            Ok(CacheableResource::NotModified) => {}
            Err(error) => {
                let problem = deepest(&error);
                let refusal = match error.is_transient() {
                    true => Refusal::CredentialsAway { problem },
                    false => Refusal::NoCredentials { problem },
                };
                return Err(refusal.into_http());
            }
        }
        Ok(())
    }
}

/// Adds the checksum of a put, and to every copy the condition that its target is not there: the lake makes no other
/// copies, and `object_store` 0.13 confuses the two modes of a copy to Cloud Storage (its issue 712).
fn complete(request: &mut HttpRequest) {
    let crc32c = request.extensions().get::<ContentCrc32c>().copied();
    let headers = request.headers_mut();
    if headers.contains_key(COPY_SOURCE) {
        headers.insert(GENERATION_MATCH, HeaderValue::from_static("0"));
    }
    if let Some(ContentCrc32c(crc32c)) = crc32c
        && let Ok(value) = HeaderValue::from_str(&format!("crc32c={}", crc32c_text(crc32c)))
    {
        headers.insert(HASH, value);
    }
}

fn keep_checksum(headers: &mut HeaderMap) {
    headers.remove(STORED_CRC32C_HEADER);
    let hashes = headers.get_all(HASH).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let crc32c = hashes.filter_map(|hash| hash.trim().strip_prefix("crc32c=")).next();
    if let Some(value) = crc32c.and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(STORED_CRC32C_HEADER, value);
    }
}

/// Makes an error of an answer, with the service's words. That an object is not there is left to `object_store`.
async fn refuse(status: StatusCode, response: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (parts, body) = response.into_parts();
    let body = body.bytes().await?;
    let text = String::from_utf8_lossy(&body);
    let code = element(&text, "Code").unwrap_or_default();
    if status == StatusCode::NOT_FOUND && code != "NoSuchBucket" {
        return Ok(HttpResponse::from_parts(parts, body.into()));
    }
    let message = element(&text, "Message").unwrap_or(text.trim());
    let message = message.chars().take(ERROR_BYTES_MAX).collect();
    Err(Refusal::Answer { status, code: code.to_owned(), message }.into_http())
}

/// Content of the first XML element of that name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(content, _)| content)
}

/// An answer that is no success, or what kept a request from being sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The service answered.
    Answer { status: StatusCode, code: String, message: String },
    /// There are no credentials to send.
    NoCredentials { problem: String },
    /// Credentials cannot be fetched for now.
    CredentialsAway { problem: String },
}

impl Refusal {
    /// Whether the same request may succeed later.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            // The content was damaged on the way.
            Self::Answer { code, .. } if code == "BadDigest" => true,
            Self::Answer { status, .. } => match *status {
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => true,
                StatusCode::NOT_IMPLEMENTED => false,
                status => status.is_server_error(),
            },
            Self::NoCredentials { .. } => false,
            Self::CredentialsAway { .. } => true,
        }
    }

    /// As an error of `object_store`, which repeats a request by the kind where it is told to repeat any.
    fn into_http(self) -> HttpError {
        let kind = if self.is_temporary() { HttpErrorKind::Request } else { HttpErrorKind::Unknown };
        HttpError::new(kind, self)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { status, code, message } => {
                write!(formatter, "Cloud Storage answered {} {code}: {message}", status.as_u16())
            }
            Self::NoCredentials { problem } => write!(formatter, "there are no credentials of Google: {problem}"),
            Self::CredentialsAway { problem } => write!(formatter, "credentials cannot be fetched: {problem}"),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use object_store::client::HttpRequestBody;

    use super::*;

    #[test]
    fn every_copy_is_conditional_and_every_put_has_its_checksum() {
        let mut copy = HttpRequest::new(HttpRequestBody::empty());
        copy.headers_mut().insert(COPY_SOURCE, HeaderValue::from_static("lake/a"));
        complete(&mut copy);
        assert_eq!(copy.headers()[GENERATION_MATCH], "0");

        let mut put = HttpRequest::new(HttpRequestBody::empty());
        // Check value of CRC-32C in RFC 3720, appendix B.4: 32 bytes of zeros.
        put.extensions_mut().insert(ContentCrc32c(crc32c::crc32c(&[0; 32])));
        complete(&mut put);
        assert_eq!(put.headers()[HASH], "crc32c=ipE2qg==");
        assert!(!put.headers().contains_key(GENERATION_MATCH));
    }

    #[test]
    fn only_the_service_says_what_the_checksum_of_stored_content_is() {
        let mut headers = HeaderMap::new();
        headers.insert(STORED_CRC32C_HEADER, HeaderValue::from_static("forged"));
        keep_checksum(&mut headers);
        assert!(headers.is_empty());
        headers.append(HASH, HeaderValue::from_static("md5=x"));
        headers.append(HASH, HeaderValue::from_static("crc32c=yZRlqg=="));
        keep_checksum(&mut headers);
        assert_eq!(headers[STORED_CRC32C_HEADER], "yZRlqg==");
    }

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        let answer = |status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            Refusal::Answer { status, code: String::new(), message: String::new() }
        };
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(answer(status).is_temporary(), "{status}");
        }
        for status in [400, 401, 403, 404, 501] {
            assert!(!answer(status).is_temporary(), "{status}");
        }
    }
}
