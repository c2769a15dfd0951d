//! Google Cloud behind the seams.
//!
//! For: the Google Cloud implementations of what the embedded binary does with local means. Not for: what becomes of
//! records (`sawlog-core`) or when something is stored (`sawlog-stream`).

mod access;
mod answer;
mod background;
pub mod bigquery;
pub mod bigtable;
pub mod call;
pub mod check;
pub mod dataflow;
mod grpc;
pub mod logging;
pub mod pubsub;
pub mod storage;
mod submit;

pub use access::{Access, AccessError};
pub use grpc::GrpcError;
