//! The network side: receiving events and serving answers.
//!
//! For: HTTP and OTLP in, SQL, health, metrics and the web page out, with limits and keys. Not for: what happens to
//! events (`sawlog-stream`) or how queries run (`sawlog-query`).

pub mod auth;
mod backend;
mod error;
pub mod listen;
pub mod postgres;
pub mod receive;
mod serve;
mod state;

pub use backend::{Backend, Reader};
pub use serve::{TAILS_MAX, router};
pub use state::{Readiness, ServerState};
