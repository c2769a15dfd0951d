//! Pushed messages of a subscription, together into the event log.
//!
//! For: one append for the messages that come within some milliseconds: a row group of each message alone would cost
//! memory and make queries slow. Invariants: who waits is answered after the records are in the synced event log; what waits
//! is bounded in messages and bytes, also when clients have gone. Not for: trying again, which the service does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_stream::SubmitError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::sleep;

use crate::pubsub::batch::{Ready, body};
use crate::pubsub::source::PubsubState;
use crate::submit::{Body, submit_once};

/// How long the first message of a batch waits for others.
const WINDOW: Duration = Duration::from_millis(10);
/// Bytes and messages at which a batch is stored before that.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_MESSAGES: usize = 5_000;

/// Why a message was not stored.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Unstored {
    /// Too many wait already.
    #[error("too many messages wait to be stored")]
    Full,
    /// The pipeline did not take its batch.
    #[error(transparent)]
    Pipeline(Arc<SubmitError>),
    /// Nobody knows: what was to store it has died.
    #[error("storing it was given up")]
    Lost,
}

/// Whose messages they are, and how many may wait.
#[derive(Clone, Debug)]
pub(super) struct CollectorOptions {
    /// Name of the source in the ledger.
    pub(super) source: String,
    pub(super) age: AgeLimits,
    pub(super) messages_max: u32,
    pub(super) bytes_max: u64,
}

/// Collects and stores.
pub(super) struct Collector {
    options: CollectorOptions,
    state: PubsubState,
    messages_free: Arc<Semaphore>,
    bytes_free: Arc<Semaphore>,
    waiting: Mutex<Batch>,
}

#[derive(Default)]
struct Batch {
    messages: Vec<Ready>,
    answers: Vec<oneshot::Sender<Result<(), Unstored>>>,
    /// Held until the batch is stored.
    room: Vec<[OwnedSemaphorePermit; 2]>,
    bytes: usize,
}

impl Collector {
    pub(super) fn new(options: CollectorOptions, state: PubsubState) -> Arc<Self> {
        let messages = options.messages_max as usize;
        let bytes = usize::try_from(options.bytes_max).unwrap_or(usize::MAX).min(u32::MAX as usize);
        Arc::new(Self {
            options,
            state,
            messages_free: Arc::new(Semaphore::new(messages)),
            bytes_free: Arc::new(Semaphore::new(bytes)),
            waiting: Mutex::default(),
        })
    }

    /// Stores a message, and returns once it is in the synced event log.
    pub(super) async fn store(self: &Arc<Self>, message: Ready) -> Result<(), Unstored> {
        let room = self.room(message.len())?;
        let (answer, answered) = oneshot::channel();
        let (is_first, full) = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let is_first = waiting.messages.is_empty();
            waiting.bytes += message.len();
            waiting.messages.push(message);
            waiting.answers.push(answer);
            waiting.room.push(room);
            let is_full = waiting.bytes >= BATCH_BYTES || waiting.messages.len() >= BATCH_MESSAGES;
            (is_first, is_full.then(|| std::mem::take(&mut *waiting)))
        };
        // Tasks of their own: a client that goes must not take the others' messages with it.
        match full {
            Some(batch) => drop(tokio::spawn(Arc::clone(self).store_batch(batch))),
            None if is_first => drop(tokio::spawn(Arc::clone(self).store_after_window())),
            None => {}
        }
        answered.await.unwrap_or(Err(Unstored::Lost))
    }

    fn room(&self, bytes: usize) -> Result<[OwnedSemaphorePermit; 2], Unstored> {
        // A message that alone is over the limit waits for all of it.
        let limit = u32::try_from(self.options.bytes_max).unwrap_or(u32::MAX);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(limit);
        let message = Arc::clone(&self.messages_free).try_acquire_owned();
        let bytes = Arc::clone(&self.bytes_free).try_acquire_many_owned(bytes);
        match (message, bytes) {
            (Ok(message), Ok(bytes)) => Ok([message, bytes]),
            _ => Err(Unstored::Full),
        }
    }

    async fn store_after_window(self: Arc<Self>) {
        sleep(WINDOW).await;
        let batch = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        // A batch that was full before its time is stored already.
        if !batch.messages.is_empty() {
            self.store_batch(batch).await;
        }
    }

    async fn store_batch(self: Arc<Self>, batch: Batch) {
        let body = Body {
            source: self.options.source.clone(),
            format: Format::Pubsub,
            age: self.options.age,
            bytes: Bytes::from(body(&batch.messages)),
            idempotency_key: None,
        };
        let stored = submit_once(body, &self.state.pipeline, &self.state.metrics).await;
        let stored = stored.map(|_| ()).map_err(|error| Unstored::Pipeline(Arc::new(error)));
        for answer in batch.answers {
            // A client that has gone gets its message again.
            let _ = answer.send(stored.clone());
        }
        drop(batch.room);
    }
}
