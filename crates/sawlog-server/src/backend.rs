//! What a server stands before: a pipeline that takes events, or what workers have written.
//!
//! For: the one difference between a worker's server and a reader's. Not for: answers that are the same in both.

use std::sync::Arc;

use axum::http::StatusCode;
use sawlog_seams::view::{View, ViewSource};
use sawlog_stream::Pipeline;
use sawlog_telemetry::Metrics;

use crate::error::ApiError;

/// What a reader's server reads.
pub trait Reader: ViewSource {
    /// The time, UTC microseconds.
    fn now_micros(&self) -> i64;
    /// Why queries have no answer at the moment, for those that ask whether the server is ready.
    fn refusal(&self) -> Option<String>;
    /// Notes what calls of services were made since the start.
    fn count(&self, metrics: &Metrics);
}

/// What a server stands before.
#[derive(Clone)]
pub enum Backend {
    /// A pipeline, which takes events and shows them at once.
    Worker(Arc<Pipeline>),
    /// What workers have written.
    Reader(Arc<dyn Reader>),
}

impl Backend {
    /// The pipeline.
    ///
    /// # Errors
    /// When there is none; the error is the answer to a request that needs one.
    pub(crate) fn pipeline(&self) -> Result<&Arc<Pipeline>, ApiError> {
        match self {
            Self::Worker(pipeline) => Ok(pipeline),
            Self::Reader(_) => Err(ApiError::new(
                StatusCode::NOT_IMPLEMENTED,
                "reader_only",
                "this server is a reader: it takes no events and sees none arrive",
                "ask a worker: events, /v1/tail and /v1/alerts are there (docs/gcp/readers.md)",
            )),
        }
    }

    /// The time, UTC microseconds.
    pub(crate) fn now_micros(&self) -> i64 {
        match self {
            Self::Worker(pipeline) => pipeline.now_micros(),
            Self::Reader(reader) => reader.now_micros(),
        }
    }

    /// All data as of now.
    pub(crate) fn view(&self) -> View {
        match self {
            Self::Worker(pipeline) => pipeline.view(),
            Self::Reader(reader) => reader.view(),
        }
    }

    /// Why work is refused at the moment.
    pub(crate) fn refusal(&self) -> Option<String> {
        match self {
            Self::Worker(pipeline) => pipeline.refusal(),
            Self::Reader(reader) => reader.refusal(),
        }
    }
}
