//! Any bytes as a body of Elasticsearch's bulk protocol: refused as a whole, or one record for each document.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sawlog_core::batch::{self, Format};

#[path = "../../crates/sawlog-server/src/receive/elastic/bulk.rs"]
mod bulk;

/// Stands for the server's type of the same name, which needs the server.
mod error {
    use axum::http::StatusCode;

    #[derive(Debug)]
    pub(crate) struct ApiError;

    impl ApiError {
        pub(crate) fn new(_: StatusCode, _: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
            assert!(!message.into().is_empty() && !hint.into().is_empty());
            Self
        }
    }
}

fuzz_target!(|input: (&[u8], Option<&str>)| {
    let (body, index) = input;
    let Ok(bulk) = bulk::parse(body, index) else { return };
    let documents = bulk.items.iter().filter(|item| matches!(item, bulk::Item::Document(_))).count();
    assert!(!bulk.items.is_empty());
    let records = batch::split(Format::Json, &bulk.body).expect("lines can always be split");
    assert_eq!(records.len(), documents, "the n-th document is the n-th record");
});
