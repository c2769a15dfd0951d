//! Subscriptions of Pub/Sub, as configured.
//!
//! For: running those that are pulled, watching what the service holds, and handing pushes from the server to their receiver,
//! which do not know each other. Not for: tokens or messages (`sawlog_gcp::pubsub`).

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::StatusCode;
use bytes::Bytes;
use futures::future::BoxFuture;
use sawlog_gcp::pubsub::push::{self, PushOptions, PushRefusal};
use sawlog_gcp::pubsub::service_backlog::{self, BacklogOptions};
use sawlog_gcp::pubsub::{self, PubsubOptions, PubsubState};
use sawlog_seams::SystemClock;
use sawlog_server::receive::push::{PushError, PushReceiver};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, PubsubMode};
use crate::wiring::{Node, age_limits};

/// Takes the messages of subscriptions that are pulled, and watches all of them where Cloud Monitoring may be asked.
pub(crate) fn spawn(
    config: &Config,
    node: &Node,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    for one in config.pubsub.iter().filter(|one| one.mode == PubsubMode::Pull) {
        let options = PubsubOptions {
            subscription: one.subscription.clone(),
            source: one.source.clone(),
            access: one.access.clone(),
            messages_max: one.messages_max,
            bytes_max: one.bytes_max,
            age: age_limits(&config.sources.pubsub),
        };
        let (state, stopped) = (state(node), stopped.clone());
        tasks.spawn(async move {
            pubsub::serve(options, state, stopped).await;
            Ok(())
        });
    }
    let Some(access) = config.gcp.as_ref().and_then(|gcp| gcp.backlog_metrics.clone()) else { return };
    for one in &config.pubsub {
        let (subscription, source) = (one.subscription.clone(), one.source.clone());
        let options = BacklogOptions { subscription, source, access: access.clone() };
        let (metrics, stopped) = (Arc::clone(&node.metrics), stopped.clone());
        tasks.spawn(async move {
            service_backlog::watch(options, &metrics, stopped).await;
            Ok(())
        });
    }
}

fn state(node: &Node) -> PubsubState {
    PubsubState { pipeline: Arc::clone(&node.pipeline), metrics: Arc::clone(&node.metrics) }
}

struct Receiver(push::PushReceiver);

/// What takes the pushes of the subscriptions that are configured; nothing where none pushes.
pub(crate) fn push_receiver(config: &Config, node: &Node) -> anyhow::Result<Option<Arc<dyn PushReceiver>>> {
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
    let receiver = push::PushReceiver::new(options, &state(node), Arc::new(SystemClock::new()))?;
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
