//! A subscription, from its stream into the pipeline.
//!
//! For: one event-log append for many messages, and the order of steps: durable first, acknowledged then. Invariants: a
//! message is acknowledged only after its records are in the synced event log; what is under way is bounded by the
//! subscription's flow control, in messages and bytes. Not for: repeats, which dedup recognizes by the message id.
//!
//! Where the subscription delivers exactly once, the service confirms each acknowledgement. Nothing waits for that but the end
//! of a stream: a confirmation that fails means that its message comes again, which dedup recognizes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::subscriber::handler::{ExactlyOnce, Handler};
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_seams::SystemClock;
use sawlog_stream::Pipeline;
use sawlog_telemetry::Metrics;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::backlog::{Backlog, HeldBatch};
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
/// How long a message may wait here, as long as the service keeps messages at most. Given up earlier, it would come again
/// and be stored twice when the dedup window has moved on.
const LEASE_MAX: Duration = Duration::from_secs(31 * 86_400);
/// Between two tries to open a stream; it doubles up to its limit.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How long the end of a stream waits for confirmations.
const CONFIRMATION_MAX: Duration = Duration::from_secs(2);

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
pub async fn serve(options: PubsubOptions, state: PubsubState, stopped: watch::Receiver<bool>) {
    let backlog = Backlog::default();
    tokio::join!(
        streams(&options, &state, &backlog, stopped.clone()),
        backlog.report(&options.source, &state.metrics, stopped),
    );
    backlog.show(&options.source, &state.metrics, &SystemClock::new());
}

async fn streams(options: &PubsubOptions, state: &PubsubState, backlog: &Backlog, mut stopped: watch::Receiver<bool>) {
    let mut delay = RETRY;
    while !*stopped.borrow() {
        // What cannot be stored here is left with the service, and with other workers.
        if state.pipeline.refusal().is_some() {
            tokio::select! {
                () = sleep(RETRY_MAX) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            continue;
        }
        let started = Instant::now();
        let ended = stream(options, state, backlog, &mut stopped).await;
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
struct Batch {
    messages: Vec<Ready>,
    handlers: Vec<Handler>,
    bytes: usize,
    held: HeldBatch,
}

impl Batch {
    fn new(backlog: &Backlog) -> Self {
        Self { messages: Vec::new(), handlers: Vec::new(), bytes: 0, held: backlog.begin() }
    }

    fn add(&mut self, message: Ready, handler: Handler) {
        self.bytes += message.len();
        self.held.add(message.len(), message.published());
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
    backlog: &Backlog,
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
        .set_max_lease(LEASE_MAX)
        .set_max_lease_extension(LEASE)
        .build();
    let shutdown = messages.shutdown_token();
    let (mut storing, mut confirming) = (JoinSet::new(), JoinSet::new());
    let (mut batch, mut full_at) = (Batch::new(backlog), Instant::now());
    let ended = loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break Ok(()),
            Some(stored) = storing.join_next() => {
                if !confirm(stored, options, state, &mut confirming) {
                    break Ok(());
                }
                continue;
            }
            () = sleep_until(full_at), if !batch.messages.is_empty() && storing.len() < BATCHES_AT_ONCE => {}
            next = messages.next(), if storing.len() < BATCHES_AT_ONCE => match next {
                Some(Ok((message, handler))) => {
                    if batch.messages.is_empty() {
                        full_at = Instant::now() + BATCH_AGE;
                    }
                    if handler.delivery_attempt().is_some_and(|attempt| attempt > 1) {
                        state.metrics.add_pubsub_redelivery(&options.source);
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
        let full = std::mem::replace(&mut batch, Batch::new(backlog));
        storing.spawn(store(options.clone(), state.clone(), full, stopped.clone()));
    };
    if !batch.messages.is_empty() {
        storing.spawn(store(options.clone(), state.clone(), batch, stopped.clone()));
    }
    while let Some(stored) = storing.join_next().await {
        confirm(stored, options, state, &mut confirming);
    }
    // An acknowledgement that is under way is as good as lost when the client ends first.
    let confirmed = async { while confirming.join_next().await.is_some() {} };
    drop(timeout(CONFIRMATION_MAX, confirmed).await);
    shutdown.shutdown().await;
    ended
}

/// Messages whose acknowledgement the service confirms.
struct Unconfirmed {
    handlers: Vec<ExactlyOnce>,
    held: HeldBatch,
}

/// Messages were given back.
struct GivenBack;

/// Waits for confirmations beside the stream. Those that fail are counted. Returns whether the batch was stored.
fn confirm(
    stored: Result<Result<Option<Unconfirmed>, GivenBack>, JoinError>,
    options: &PubsubOptions,
    state: &PubsubState,
    confirming: &mut JoinSet<()>,
) -> bool {
    while confirming.try_join_next().is_some() {}
    let Ok(Ok(stored)) = stored else { return false };
    let Some(Unconfirmed { handlers, held }) = stored else { return true };
    let (source, metrics) = (options.source.clone(), Arc::clone(&state.metrics));
    confirming.spawn(async move {
        let mut failed = 0;
        let outcomes = join_all(handlers.into_iter().map(ExactlyOnce::confirmed_ack)).await;
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            tracing::debug!(source, %error, "an acknowledgement is not confirmed; its message comes again");
            failed += 1;
        }
        metrics.add_pubsub_confirmations(&source, outcomes.len() as u64 - failed, failed);
        drop(held);
    });
    true
}

/// Stores a batch, however often that takes, and acknowledges its messages; what is left is to be confirmed. At a stop what is
/// not stored goes back to the service.
async fn store(
    options: PubsubOptions,
    state: PubsubState,
    batch: Batch,
    mut stopped: watch::Receiver<bool>,
) -> Result<Option<Unconfirmed>, GivenBack> {
    let body = Body {
        source: options.source,
        format: Format::Pubsub,
        age: options.age,
        bytes: Bytes::from(body(&batch.messages)),
        idempotency_key: None,
    };
    let source = body.source.clone();
    match submit(body, &state.pipeline, &state.metrics, &mut stopped).await {
        Ok(_) => {
            let mut unconfirmed = Vec::new();
            for handler in batch.handlers {
                match handler {
                    Handler::ExactlyOnce(handler) => unconfirmed.push(handler),
                    handler => handler.ack(),
                }
            }
            Ok((!unconfirmed.is_empty()).then_some(Unconfirmed { handlers: unconfirmed, held: batch.held }))
        }
        Err(error) => {
            tracing::error!(%error, source, "messages were given back to the subscription");
            batch.handlers.into_iter().for_each(Handler::nack);
            Err(GivenBack)
        }
    }
}
