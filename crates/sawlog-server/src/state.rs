//! What all request handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sawlog_core::batch::AgeLimits;
use sawlog_query::QueryEngine;
use sawlog_telemetry::Metrics;
use tokio::sync::Semaphore;

use crate::auth::AuthPolicy;
use crate::backend::Backend;
use crate::receive::push::PushReceiver;

/// Whether the server takes work.
#[derive(Debug, Default)]
pub struct Readiness {
    is_ready: AtomicBool,
}

impl Readiness {
    /// Says whether the server takes work from now on.
    pub fn set(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Release);
    }

    /// Whether the server takes work.
    #[must_use]
    pub fn get(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }
}

/// What all request handlers share.
pub struct ServerState {
    /// Takes events, or reads what others took.
    pub backend: Backend,
    /// Answers queries.
    pub queries: Arc<QueryEngine>,
    /// Knows who may do what.
    pub auth: Arc<AuthPolicy>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Whether the server takes work.
    pub readiness: Arc<Readiness>,
    /// Largest body, compressed or not, bytes.
    pub body_bytes_max: usize,
    /// Accepted event times of pushed events.
    pub age: AgeLimits,
    /// Accepted event times of files that an administrator loads.
    pub files_age: AgeLimits,
    /// Bodies that may be in memory at the same time.
    pub bodies: Arc<Semaphore>,
    /// Takes what Pub/Sub pushes, where a subscription does.
    pub push: Option<Arc<dyn PushReceiver>>,
    /// Clients that may watch rows arrive at the same time.
    pub tails: Arc<Semaphore>,
}
