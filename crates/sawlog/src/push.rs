//! Pushes of Pub/Sub, from the server to their receiver.
//!
//! For: joining the two, which do not know each other. Not for: tokens or messages (`sawlog_gcp::pubsub::push`).

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::StatusCode;
use bytes::Bytes;
use futures::future::BoxFuture;
use sawlog_gcp::pubsub::PubsubState;
use sawlog_gcp::pubsub::push::{self, PushOptions, PushRefusal};
use sawlog_seams::SystemClock;
use sawlog_server::receive::push::{PushError, PushReceiver};

use crate::config::{Config, PubsubMode};
use crate::wiring::{Node, age_limits};

struct Receiver(push::PushReceiver);

/// What takes the pushes of the subscriptions that are configured; nothing where none pushes.
pub(crate) fn receiver(config: &Config, node: &Node) -> anyhow::Result<Option<Arc<dyn PushReceiver>>> {
    let mut options = Vec::new();
    for one in &config.pubsub {
        if let PubsubMode::Push(push) = &one.mode {
            options.push(PushOptions {
                subscription: one.subscription.clone(),
                source: one.source.clone(),
                audience: push.audience.clone(),
                service_account: push.service_account.clone(),
                keys_url: push.keys_url.clone(),
                messages_max: one.messages_max,
                bytes_max: one.bytes_max,
                age: age_limits(&config.sources.pubsub),
            });
        }
    }
    if options.is_empty() {
        return Ok(None);
    }
    let state = PubsubState { pipeline: Arc::clone(&node.pipeline), metrics: Arc::clone(&node.metrics) };
    let receiver = push::PushReceiver::new(options, &state, Arc::new(SystemClock::new()))?;
    Ok(Some(Arc::new(Receiver(receiver))))
}

#[async_trait]
impl PushReceiver for Receiver {
    async fn receive(
        &self,
        authorization: Option<&str>,
        body: BoxFuture<'_, Result<Bytes, PushError>>,
    ) -> Result<(), PushError> {
        let pusher = self.0.admit(authorization).await.map_err(answer)?;
        let body = body.await?;
        self.0.take(&pusher, &body).await.map_err(answer)
    }
}

fn answer(refusal: PushRefusal) -> PushError {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let error = PushError::new(status, refusal.code, refusal.message, refusal.hint);
    match refusal.retry_after {
        Some(after) => error.retry_after(after),
        None => error,
    }
}
