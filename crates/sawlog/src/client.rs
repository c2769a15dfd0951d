//! A small HTTP client for the commands that talk to a running server.
//!
//! For: posting a body and trying again while the server is busy. Not for: TLS; a server behind TLS is reached through
//! its own tools.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, header};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// How often a busy server is asked again.
const TRIES_MAX: u32 = 30;
const WAIT_DEFAULT: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No connection, or it broke.
    #[error("{url} cannot be reached: {problem}; is `sawlog serve` running there?")]
    Unreachable {
        /// The server.
        url: String,
        /// What happened.
        problem: String,
    },
    /// The server refused.
    #[error("{message}")]
    Refused {
        /// The server's status.
        status: u16,
        /// The server's words.
        message: String,
        /// The whole answer.
        body: Bytes,
    },
}

/// A client of one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    inner: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
    base: String,
    authorization: Option<String>,
}

impl Client {
    pub(crate) fn new(url: &str, key: Option<&str>) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/').to_owned();
        let parsed: hyper::Uri = base.parse().with_context(|| format!("{url:?} is no URL"))?;
        anyhow::ensure!(
            parsed.scheme_str() == Some("http") && parsed.authority().is_some(),
            "{url:?} is no address of a server; write http://HOST:PORT"
        );
        let inner = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { inner, base, authorization: key.map(|key| format!("Bearer {key}")) })
    }

    /// Posts a body; waits and repeats while the server says that it is busy.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Bytes, ClientError> {
        Ok(self.post_for_headers(path, headers, body).await?.1)
    }

    /// As [`Self::post`], with the headers of the answer.
    pub(crate) async fn post_for_headers(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(HeaderMap, Bytes), ClientError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.post_once(path, headers, body.clone()).await? {
                Answer::Done(headers, bytes) => return Ok((headers, bytes)),
                Answer::Busy { wait, .. } if tries < TRIES_MAX => tokio::time::sleep(wait).await,
                Answer::Busy { status, message, body, .. } => {
                    return Err(ClientError::Refused { status, message, body });
                }
            }
        }
    }

    /// Asks for lines that go on until the server ends them.
    pub(crate) async fn get_lines(
        &self,
        path: &str,
        accept: &str,
        line_bytes_max: usize,
    ) -> Result<Lines, ClientError> {
        let unreachable = |problem: String| ClientError::Unreachable { url: self.base.clone(), problem };
        let mut request = Request::builder().uri(format!("{}{path}", self.base)).header(header::ACCEPT, accept);
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Full::default()).map_err(|error| unreachable(error.to_string()))?;
        let response = self.inner.request(request).await.map_err(|error| unreachable(root_cause(&error)))?;
        let status = response.status();
        if !status.is_success() {
            let bytes =
                response.into_body().collect().await.map_err(|error| unreachable(error.to_string()))?.to_bytes();
            let message = error_message(status, &bytes);
            return Err(ClientError::Refused { status: status.as_u16(), message, body: bytes });
        }
        let (url, buffer) = (self.base.clone(), Vec::new());
        Ok(Lines { body: response.into_body(), buffer, searched: 0, line_bytes_max, url })
    }

    async fn post_once(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Answer, ClientError> {
        let unreachable = |problem: String| ClientError::Unreachable { url: self.base.clone(), problem };
        let mut request = Request::builder().method(Method::POST).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| unreachable(error.to_string()))?;
        let response = self.inner.request(request).await.map_err(|error| unreachable(root_cause(&error)))?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map_or(WAIT_DEFAULT, Duration::from_secs);
        let answer_headers = response.headers().clone();
        let bytes = response.into_body().collect().await.map_err(|error| unreachable(error.to_string()))?.to_bytes();
        if status.is_success() {
            return Ok(Answer::Done(answer_headers, bytes));
        }
        let message = error_message(status, &bytes);
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return Ok(Answer::Busy { wait: retry_after.min(WAIT_MAX), status: status.as_u16(), message, body: bytes });
        }
        Err(ClientError::Refused { status: status.as_u16(), message, body: bytes })
    }
}

/// Lines of an answer as they come.
#[derive(Debug)]
pub(crate) struct Lines {
    body: hyper::body::Incoming,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold no line break.
    searched: usize,
    line_bytes_max: usize,
    url: String,
}

impl Lines {
    /// The next line without its break; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + length + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            let broken = |problem: String| ClientError::Unreachable { url: self.url.clone(), problem };
            if self.buffer.len() > self.line_bytes_max {
                return Err(broken(format!("a line is longer than {} bytes", self.line_bytes_max)));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data.as_ref())),
                Some(Err(error)) => return Err(broken(root_cause(&error))),
            }
        }
    }
}

enum Answer {
    Done(HeaderMap, Bytes),
    Busy { wait: Duration, status: u16, message: String, body: Bytes },
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

/// The server's own words where it sent some.
fn error_message(status: StatusCode, body: &[u8]) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let error = parsed.as_ref().and_then(|value| value.get("error"));
    let text = |name: &str| error.and_then(|error| error.get(name)).and_then(serde_json::Value::as_str);
    match (text("message"), text("hint")) {
        (Some(message), Some(hint)) => format!("{message}\n  hint: {hint}"),
        (Some(message), None) => message.to_owned(),
        _ => format!("the server answered {status}"),
    }
}
