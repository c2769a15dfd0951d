//! A subscription, from its stream into the pipeline.
//!
//! For: one event-log append for many messages, and the order of steps: durable first, acknowledged then. Invariants: a
//! message is acknowledged only after its records are in the synced event log; what is under way is bounded by the
//! subscription's flow control, in messages and bytes. Not for: repeats, which dedup recognizes by the message id.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::subscriber::handler::Handler;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_stream::Pipeline;
use sawlog_telemetry::Metrics;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::batch::{Ready, body};
use crate::access::Access;
use crate::answer::code_of;
use crate::submit::{Body, submit};

/// Bytes at which a batch is stored.
const BATCH_BYTES: usize = 4 << 20;
/// Messages at which a batch is stored.
const BATCH_MESSAGES: usize = 5_000;
/// Age at which it is stored even if it is small.
const BATCH_AGE: Duration = Duration::from_millis(50);
/// Batches that are stored at the same time.
const BATCHES_AT_ONCE: usize = 4;
/// How long the service waits for this process before it gives its messages to another one.
const LEASE: Duration = Duration::from_secs(20);
/// Between two tries to open a stream; it doubles up to its limit.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Settings of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubsubOptions {
    /// Its name, `projects/PROJECT/subscriptions/NAME`.
    pub subscription: String,
    /// Name of the source in the ledger and the tables.
    pub source: String,
    /// Where the service is.
    pub access: Access,
    /// Most messages that are taken and not acknowledged.
    pub messages_max: u32,
    /// Most bytes of such messages.
    pub bytes_max: u64,
    /// Accepted event times.
    pub age: AgeLimits,
}

/// What subscriptions share.
#[derive(Clone)]
pub struct PubsubState {
    /// Takes the messages.
    pub pipeline: Arc<Pipeline>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Takes messages of a subscription until a stop. A stream that ends is opened again for as long as it takes; the log says
/// why it ended.
pub async fn serve(options: PubsubOptions, state: PubsubState, mut stopped: watch::Receiver<bool>) {
    let mut delay = RETRY;
    while !*stopped.borrow() {
        let started = Instant::now();
        let ended = stream(&options, &state, &mut stopped).await;
        let outcome = ended.as_ref().err().map_or("OK", |error| code_of(error.as_ref()));
        state.metrics.add_cloud_call("pubsub", "StreamingPull", outcome, started.elapsed().as_secs_f64());
        match ended {
            Ok(()) => {}
            Err(error) => {
                let subscription = &options.subscription;
                tracing::warn!(subscription, %error, "the subscription cannot be read; it is tried again");
            }
        }
        delay = if started.elapsed() > RETRY_MAX { RETRY } else { (delay * 2).min(RETRY_MAX) };
        tokio::select! {
            () = sleep(delay) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }
}

/// Messages with what acknowledges them.
#[derive(Default)]
struct Batch {
    messages: Vec<Ready>,
    handlers: Vec<Handler>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, message: Ready, handler: Handler) {
        self.bytes += message.len();
        self.messages.push(message);
        self.handlers.push(handler);
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.messages.len() >= BATCH_MESSAGES
    }
}

/// One stream, until it ends or a stop. All that was taken is stored, or given back to the service.
async fn stream(
    options: &PubsubOptions,
    state: &PubsubState,
    stopped: &mut watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut builder = Subscriber::builder();
    if let Some(endpoint) = &options.access.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(credentials) = options.access.credentials() {
        builder = builder.with_credentials(credentials);
    }
    let subscriber = builder.build().await?;
    let mut messages = subscriber
        .subscribe(&options.subscription)
        .set_max_outstanding_messages(i64::from(options.messages_max))
        .set_max_outstanding_bytes(i64::try_from(options.bytes_max).unwrap_or(i64::MAX))
        .set_max_lease_extension(LEASE)
        .build();
    let shutdown = messages.shutdown_token();
    let mut storing = JoinSet::new();
    let (mut batch, mut full_at) = (Batch::default(), Instant::now());
    let ended = loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break Ok(()),
            Some(_) = storing.join_next(), if storing.len() >= BATCHES_AT_ONCE => continue,
            () = sleep_until(full_at), if !batch.messages.is_empty() => {}
            next = messages.next(), if storing.len() < BATCHES_AT_ONCE => match next {
                Some(Ok((message, handler))) => {
                    if batch.messages.is_empty() {
                        full_at = Instant::now() + BATCH_AGE;
                    }
                    batch.add(Ready::new(message), handler);
                    if !batch.is_full() {
                        continue;
                    }
                }
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(()),
            },
        }
        let full = std::mem::take(&mut batch);
        storing.spawn(store(options.clone(), state.clone(), full, stopped.clone()));
    };
    if !batch.messages.is_empty() {
        storing.spawn(store(options.clone(), state.clone(), batch, stopped.clone()));
    }
    while storing.join_next().await.is_some() {}
    shutdown.shutdown().await;
    ended
}

/// Stores a batch, however often that takes, and acknowledges its messages. At a stop what is not stored goes back to the
/// service.
async fn store(options: PubsubOptions, state: PubsubState, batch: Batch, mut stopped: watch::Receiver<bool>) {
    let body = Body {
        source: options.source,
        format: Format::Pubsub,
        age: options.age,
        bytes: Bytes::from(body(&batch.messages)),
        idempotency_key: None,
    };
    let source = body.source.clone();
    match submit(body, &state.pipeline, &state.metrics, &mut stopped).await {
        Ok(_) => batch.handlers.into_iter().for_each(Handler::ack),
        Err(error) => {
            tracing::error!(%error, source, "messages were given back to the subscription");
            batch.handlers.into_iter().for_each(Handler::nack);
        }
    }
}
