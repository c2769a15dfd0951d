//! Counts of requests to Cloud Storage.
//!
//! For: each request by what it is and how it ended, until the head of its answer is there. Not for: repeats
//! ([`super::retry`]), each of which is a request here.

use std::sync::{Mutex, PoisonError};

use http::Method;
use object_store::client::HttpRequest;
use tokio::time::Instant;

use crate::call::{CallCounts, TIMED_OUT};

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<CallCounts>);

impl Counts {
    /// Requests since the start.
    pub(super) fn all(&self) -> CallCounts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a request. One that is given up before it ends was so for the time that it took.
    pub(super) fn begin(&self, call: &'static str) -> Counting<'_> {
        Counting { counts: self, call, outcome: TIMED_OUT, started: Instant::now() }
    }
}

/// A request under way, counted when this value goes.
pub(super) struct Counting<'a> {
    counts: &'a Counts,
    call: &'static str,
    outcome: &'static str,
    started: Instant,
}

impl Counting<'_> {
    pub(super) fn end(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((self.call, self.outcome)).or_default();
        count.calls += 1;
        count.seconds += self.started.elapsed().as_secs_f64();
    }
}

/// What a request of the XML API is, in the words of the JSON API.
pub(super) fn name_of(request: &HttpRequest) -> &'static str {
    let has = |name: &str| {
        let query = request.uri().query().unwrap_or_default();
        query.split('&').any(|pair| pair.split('=').next() == Some(name))
    };
    let is_copy = request.headers().contains_key("x-goog-copy-source");
    match *request.method() {
        Method::GET if has("list-type") || has("prefix") => "ListObjects",
        Method::GET | Method::HEAD => "GetObject",
        Method::PUT if is_copy => "CopyObject",
        Method::PUT if has("partNumber") => "UploadPart",
        Method::PUT => "InsertObject",
        Method::POST if has("uploads") => "InitiateUpload",
        Method::POST => "CompleteUpload",
        Method::DELETE if has("uploadId") => "AbortUpload",
        Method::DELETE => "DeleteObject",
        _ => "Other",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::client::HttpRequestBody;

    use super::*;

    #[test]
    fn requests_are_named_by_what_they_do() {
        let name = |method: Method, uri: &str| {
            let mut request = HttpRequest::new(HttpRequestBody::empty());
            *request.method_mut() = method;
            *request.uri_mut() = uri.parse().expect("a URI");
            name_of(&request)
        };
        assert_eq!(name(Method::GET, "http://h/lake?list-type=2&prefix=raw"), "ListObjects");
        assert_eq!(name(Method::GET, "http://h/lake/uploads"), "GetObject");
        assert_eq!(name(Method::PUT, "http://h/lake/a"), "InsertObject");
        assert_eq!(name(Method::PUT, "http://h/lake/a?partNumber=1&uploadId=x"), "UploadPart");
        assert_eq!(name(Method::POST, "http://h/lake/a?uploads"), "InitiateUpload");
        assert_eq!(name(Method::DELETE, "http://h/lake/a?uploadId=x"), "AbortUpload");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_is_counted_with_its_time() {
        let counts = Counts::default();
        counts.begin("GetObject").end("OK");
        let given_up = counts.begin("GetObject");
        tokio::time::advance(Duration::from_secs(3)).await;
        drop(given_up);
        let all = counts.all();
        assert_eq!(all[&("GetObject", "OK")].calls, 1);
        assert_eq!((all[&("GetObject", TIMED_OUT)].calls, all[&("GetObject", TIMED_OUT)].seconds), (1, 3.0));
    }
}
