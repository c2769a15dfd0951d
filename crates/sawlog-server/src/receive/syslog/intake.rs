//! Between a listener and the pipeline: a bounded queue, and batches by size and time.
//!
//! For: one log append for many messages, and the choice between waiting (TCP) and dropping (UDP) when too many wait.
//! Not for: sockets. Invariants: what waits is bounded in messages and bytes; everything that is not stored is counted,
//! in the metrics at once and in the ledger within a second.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sawlog_core::batch::Format;
use sawlog_core::ledger::Counts;
use sawlog_stream::{AckLevel, Submission};
use sawlog_telemetry::SyslogRefusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::SyslogState;
use super::message::push_line;

/// Messages that wait.
const QUEUE_MESSAGES: usize = 16_384;
/// Bytes that wait, those of the batch that is being stored included.
const QUEUE_BYTES: u32 = 8 << 20;
/// What a waiting message costs beside its bytes.
const MESSAGE_OVERHEAD: u32 = 128;
/// Bytes at which a batch is stored.
const BATCH_BYTES: usize = 1 << 20;
/// Age at which it is stored even if it is small.
const BATCH_AGE: Duration = Duration::from_millis(100);
/// How often refused messages are noted in the ledger.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two tries to store a batch.
const RETRY: Duration = Duration::from_millis(250);
/// How long a batch that cannot be stored is kept after a stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

struct Queued {
    message: Vec<u8>,
    sender: IpAddr,
    room: OwnedSemaphorePermit,
}

/// Where a listener puts messages.
#[derive(Clone)]
pub(super) struct Intake {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    source: &'static str,
    state: Arc<SyslogState>,
    refused: Arc<AtomicU64>,
}

/// Takes messages out of the queue and stores them.
pub(super) struct Batcher {
    queue: mpsc::Receiver<Queued>,
    source: &'static str,
    state: Arc<SyslogState>,
    refused: Arc<AtomicU64>,
    stopped: watch::Receiver<bool>,
    /// When a stop ends all tries; `None` before the first that fails after it.
    give_up_at: Option<Instant>,
}

/// A queue and what empties it.
pub(super) fn queue(
    source: &'static str,
    state: &Arc<SyslogState>,
    stopped: watch::Receiver<bool>,
) -> (Intake, Batcher) {
    let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES);
    let refused = Arc::new(AtomicU64::new(0));
    let room = Arc::new(Semaphore::new(QUEUE_BYTES as usize));
    let state = Arc::clone(state);
    let batcher = Batcher {
        queue: receiver,
        source,
        state: Arc::clone(&state),
        refused: Arc::clone(&refused),
        stopped,
        give_up_at: None,
    };
    (Intake { queue: sender, room, source, state, refused }, batcher)
}

fn cost(message: &[u8]) -> u32 {
    u32::try_from(message.len()).unwrap_or(QUEUE_BYTES).saturating_add(MESSAGE_OVERHEAD).min(QUEUE_BYTES)
}

impl Intake {
    /// Puts a message into the queue, and waits for room.
    pub(super) async fn put(&self, message: Vec<u8>, sender: IpAddr) {
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(cost(&message)).await else { return };
        // The batcher goes only after all intakes.
        let _ = self.queue.send(Queued { message, sender, room }).await;
    }

    /// Puts a message into the queue if there is room; else it is dropped and counted.
    pub(super) fn offer(&self, message: &[u8], sender: IpAddr) {
        let room = Arc::clone(&self.room).try_acquire_many_owned(cost(message)).ok();
        let put =
            room.is_some_and(|room| self.queue.try_send(Queued { message: message.to_vec(), sender, room }).is_ok());
        if !put {
            self.refuse(SyslogRefusal::QueueFull);
        }
    }

    /// Counts a message that is not taken.
    pub(super) fn refuse(&self, reason: SyslogRefusal) {
        self.state.metrics.add_syslog_refusal(self.source, reason);
        self.state.metrics.add_records(self.source, &Counts::rejected(1));
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl Batcher {
    /// Stores batches until all intakes are gone and the queue is empty.
    pub(super) async fn run(mut self) {
        loop {
            // A timeout is no event but a reason to note what was refused.
            match timeout(NOTE_INTERVAL, self.queue.recv()).await {
                Ok(Some(first)) => self.batch(first).await,
                Ok(None) => break,
                Err(_) => {}
            }
            self.note_refused();
        }
        self.note_refused();
    }

    async fn batch(&mut self, first: Queued) {
        let full_at = Instant::now() + BATCH_AGE;
        let mut body = Vec::with_capacity(first.message.len() + 64);
        let mut messages = 0;
        let mut room = self.add(first, &mut body, &mut messages);
        while body.len() < BATCH_BYTES {
            tokio::select! {
                biased;
                next = self.queue.recv() => match next {
                    Some(next) => room.merge(self.add(next, &mut body, &mut messages)),
                    None => break,
                },
                () = sleep_until(full_at) => break,
            }
        }
        if messages > 0 {
            self.store(Bytes::from(body), messages).await;
        }
    }

    fn add(&self, queued: Queued, body: &mut Vec<u8>, messages: &mut u64) -> OwnedSemaphorePermit {
        *messages += u64::from(push_line(body, &queued.message, queued.sender, self.state.clock.now_micros()));
        queued.room
    }

    /// Stores a batch, however often that takes: the queue fills meanwhile, and senders wait or are counted.
    async fn store(&mut self, body: Bytes, messages: u64) {
        let submission = Submission {
            source: self.source.to_owned(),
            file: None,
            format: Format::Syslog,
            // Devices send much that no RFC allows: what is no syslog is text.
            is_declared: false,
            age: self.state.age,
            body,
            idempotency_key: None,
            ack: AckLevel::Disk,
        };
        let mut was_logged = false;
        loop {
            let started = Instant::now();
            let error = match self.state.pipeline.submit(submission.clone()).await {
                Ok(receipt) => {
                    self.state.metrics.observe_acknowledge(started.elapsed().as_secs_f64());
                    self.state.metrics.add_records(self.source, &receipt.counts);
                    return;
                }
                Err(error) => error,
            };
            if error.is_final() {
                tracing::error!(%error, messages, source = self.source, "a batch of syslog messages was refused");
                self.state.metrics.add_records(self.source, &Counts::rejected(messages));
                self.refused.fetch_add(messages, Ordering::Relaxed);
                return;
            }
            if !std::mem::replace(&mut was_logged, true) {
                tracing::warn!(%error, source = self.source, "syslog messages wait until they can be stored");
            }
            if *self.stopped.borrow()
                && *self.give_up_at.get_or_insert(Instant::now() + STOP_TIME_MAX) <= Instant::now()
            {
                tracing::error!(%error, messages, source = self.source, "syslog messages were lost at the stop");
                return;
            }
            sleep(RETRY).await;
        }
    }

    fn note_refused(&self) {
        let refused = self.refused.swap(0, Ordering::Relaxed);
        if refused > 0 {
            self.state.pipeline.note_rejected(self.source, refused);
            tracing::warn!(
                messages = refused,
                source = self.source,
                "syslog messages were refused; /metrics tells why"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use sawlog_core::batch::AgeLimits;
    use sawlog_seams::ManualClock;

    use super::*;
    use crate::receive::otlp::OtlpState;
    use crate::receive::otlp::tests::{row_count, state as receiver};

    const SENDER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const MESSAGE: &[u8] = b"<34>1 2026-11-24T03:00:00Z h a - - - hi";

    fn syslog(receiver: &OtlpState) -> Arc<SyslogState> {
        Arc::new(SyslogState {
            pipeline: Arc::clone(&receiver.pipeline),
            metrics: Arc::default(),
            clock: Arc::new(ManualClock::at_micros(1_795_489_200_000_000)),
            age: AgeLimits::default(),
            message_bytes_max: 1024,
            connections_max: 1,
        })
    }

    #[tokio::test]
    async fn what_was_put_is_stored_before_the_batcher_ends() {
        let receiver = receiver(usize::MAX).await;
        let (_stop, stopped) = watch::channel(false);
        let (intake, batcher) = queue("syslog-tcp", &syslog(&receiver), stopped);
        for _ in 0..100 {
            intake.put(MESSAGE.to_vec(), SENDER).await;
        }
        drop(intake);
        batcher.run().await;
        assert_eq!(row_count(&receiver, "logs"), 100);
    }

    #[tokio::test]
    async fn a_full_queue_makes_tcp_wait_and_drops_udp_with_a_count() {
        let receiver = receiver(0).await;
        let state = syslog(&receiver);
        let (_stop, stopped) = watch::channel(false);
        let (intake, _batcher) = queue("syslog-udp", &state, stopped);
        let offered = QUEUE_MESSAGES + 5;
        for _ in 0..offered {
            intake.offer(MESSAGE, SENDER);
        }
        assert_eq!(intake.refused.load(Ordering::Relaxed), 5);
        let text = state.metrics.to_text();
        assert!(text.contains("syslog_refused_total{source=\"syslog-udp\",reason=\"QueueFull\"} 5"), "{text}");
        let put = timeout(Duration::from_millis(50), intake.put(MESSAGE.to_vec(), SENDER)).await;
        assert!(put.is_err(), "it waits for room");
    }

    #[tokio::test]
    async fn bytes_are_bounded_as_well_as_messages() {
        let receiver = receiver(0).await;
        let (_stop, stopped) = watch::channel(false);
        let (intake, _batcher) = queue("syslog-udp", &syslog(&receiver), stopped);
        let large = vec![b'x'; 512 << 10];
        for _ in 0..20 {
            intake.offer(&large, SENDER);
        }
        assert_eq!(intake.refused.load(Ordering::Relaxed), 5);
    }
}
