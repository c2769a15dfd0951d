//! Jobs of Dataflow: launched from a Flex Template, replaced, drained, cancelled and looked at.
//!
//! For: the service's calls (v1b3, JSON over HTTP), what a replacement may change, and what a job tells of itself. Not for: the
//! pipeline that a job runs (python/sawlog/beam), or which parameters a configuration makes (the binary).

mod client;
mod error;
mod health;
mod job;
mod launch;
mod replace;

use crate::access::Access;
use crate::call::RetryPolicy;

pub use client::Dataflow;
pub use error::DataflowError;
pub use health::{Counter, Health, Message};
pub use job::{Job, JobState};
pub use launch::{Launch, Workers};
pub use replace::{Change, Verdict, changes, unknown_steps};

/// Where jobs run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataflowOptions {
    /// The project.
    pub project: String,
    /// The region.
    pub region: String,
    /// Where the service is.
    pub access: Access,
    /// How often and how long calls are tried.
    pub retry: RetryPolicy,
}
