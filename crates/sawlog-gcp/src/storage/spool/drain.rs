//! Bringing spooled objects to the remote lake.
//!
//! For: oldest first, several at once, so that a spool empties much faster than it fills. Not for: what is put while the
//! remote lake answers, which goes there directly. Invariant: an object leaves the spool only after the remote lake has it.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use sawlog_seams::lake::{LakeError, Put};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::index::Entry;

/// Most bytes in memory at once, unless a single object has more.
const DRAIN_BYTES_MAX: u64 = 256 << 20;

/// Empties the spool again and again until a stop. Calls that are under way then are dropped: their objects are in the
/// spool until the remote lake has confirmed them.
pub(super) async fn run(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let (mut running, mut running_bytes) = (FuturesUnordered::new(), 0);
    loop {
        // One time for both: between two the lake's pause could end, and nobody would wake.
        let now = Instant::now();
        while running.len() < shared.options.drains_at_once.max(1)
            && let Some(entry) = shared.take_oldest(now, running.len(), running_bytes)
        {
            running_bytes += entry.bytes;
            running.push(shared.drain(entry));
        }
        let due = shared.next_due(now);
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            Some(bytes) = running.next(), if !running.is_empty() => running_bytes -= bytes,
            () = shared.wake.notified() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

impl Shared {
    /// The oldest entry, if the remote lake may be asked and there is memory for it beside those under way. One alone finds
    /// out whether a lake is back that was away.
    fn take_oldest(&self, now: Instant, running: usize, running_bytes: u64) -> Option<Entry> {
        if self.breaker().open_until().is_some_and(|until| now < until || running > 0) {
            return None;
        }
        let mut index = self.index();
        let entry = index.oldest(now)?.clone();
        if running_bytes > 0 && running_bytes + entry.bytes > DRAIN_BYTES_MAX {
            return None;
        }
        index.claim(&entry);
        Some(entry)
    }

    /// When there may be something to do without anybody's waking.
    fn next_due(&self, now: Instant) -> Option<Instant> {
        let open_until = self.breaker().open_until();
        let index = self.index();
        match (open_until.filter(|until| *until > now), index.oldest(now)) {
            (Some(until), Some(_)) => Some(until),
            // Enough are under way; the next that ends makes room.
            (None, Some(_)) => None,
            (open_until, None) => index.next_due().map(|due| open_until.map_or(due, |until| due.max(until))),
        }
    }

    /// Brings one object to the remote lake. Returns its bytes.
    async fn drain(&self, entry: Entry) -> u64 {
        let _guard = self.locks.lock(&entry.key).await;
        // A delete may have been quicker.
        if self.index().contains(&entry)
            && let Err(error) = self.bring(&entry).await
        {
            let is_away = matches!(error, LakeError::Unavailable { .. });
            if is_away {
                tracing::debug!(key = entry.key, %error, "an object waits in the spool");
            } else {
                tracing::error!(key = entry.key, %error, "an object stays in the spool and is tried again");
            }
            let not_before = (!is_away).then(|| Instant::now() + self.options.retry_max);
            self.index().release(&entry, not_before);
        }
        entry.bytes
    }

    async fn bring(&self, entry: &Entry) -> Result<(), LakeError> {
        let Some(bytes) = self.read_spooled(entry).await? else {
            tracing::error!(key = entry.key, "an object is gone from the spool's folder before the remote lake had it");
            self.index().remove(entry);
            return Ok(());
        };
        match self.put_remote(&entry.key, bytes.clone()).await {
            Err(LakeError::Conflict { .. }) => return self.set_aside(entry, bytes).await,
            put => put?,
        };
        self.local.delete(&entry.pending_key()).await?;
        self.index().remove(entry);
        Ok(())
    }

    /// Keeps an object whose key the remote lake has with other content.
    async fn set_aside(&self, entry: &Entry, bytes: Bytes) -> Result<(), LakeError> {
        let kept = entry.conflicting_key();
        let _: Put = self.local.put(&kept, bytes).await?;
        self.local.delete(&entry.pending_key()).await?;
        self.index().set_aside(entry);
        tracing::error!(
            key = entry.key,
            kept,
            "the remote lake has other content under the key of a spooled object, which is kept in the spool's folder: \
             compare the two, and remove the spooled one if it is not needed"
        );
        Ok(())
    }
}
