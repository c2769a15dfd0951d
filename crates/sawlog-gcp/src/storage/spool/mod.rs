//! A local spool before a lake that may be away.
//!
//! For: taking objects while the remote lake cannot be reached, and bringing them there afterwards. Not for: objects that
//! the remote lake refuses for good; whoever put them hears of it.
//!
//! Invariants: an object is in the spool or the remote lake from the moment a put returns, and leaves the spool only once
//! the remote lake has it; a key has one content across both, as far as the remote lake could be asked. A key that the
//! remote lake turns out to hold with other content keeps that content, and the spooled one is set aside and counted.

mod breaker;
mod drain;
mod index;
mod key_locks;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sawlog_seams::Clock;
use sawlog_seams::lake::{Lake, LakeError, Put};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use breaker::Breaker;
use index::{Entry, Index};
use key_locks::{KeyGuard, KeyLocks};

/// Settings of a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// Most bytes of objects in the spool, those set aside included.
    pub bytes_max: u64,
    /// Objects that are brought to the remote lake at the same time; at least one.
    pub drains_at_once: usize,
    /// How long the remote lake is left alone after it could not be reached; doubles up to `retry_max`.
    pub retry_first: Duration,
    /// Longest such time, and the time until an object is tried again that the remote lake refused.
    pub retry_max: Duration,
}

/// What is in a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolStats {
    /// Objects that wait for the remote lake.
    pub objects: usize,
    /// Bytes that count towards the quota: of these objects, and of those set aside.
    pub bytes: u64,
    /// How long the oldest object has waited.
    pub oldest_age: Option<Duration>,
    /// Objects that were set aside, since the remote lake has other content under their keys.
    pub conflicting: usize,
    /// Whether the remote lake is left alone for now.
    pub is_remote_away: bool,
}

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenSpoolError {
    /// The local lake cannot be listed.
    #[error("the spool cannot be listed: {0}")]
    Local(#[from] LakeError),
    /// The local lake holds something else.
    #[error("{key:?} in the spool's folder is no object of a spool; give the spool a folder of its own")]
    Foreign {
        /// The key in the local lake.
        key: String,
    },
}

/// A remote lake behind a local spool. Drop it, or better stop it, to end its background task.
pub struct SpooledLake {
    shared: Arc<Shared>,
    stopping: watch::Sender<bool>,
    draining: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    remote: Arc<dyn Lake>,
    local: Arc<dyn Lake>,
    options: SpoolOptions,
    clock: Arc<dyn Clock>,
    index: Mutex<Index>,
    breaker: Mutex<Breaker>,
    locks: Arc<KeyLocks>,
    /// Something was spooled, or the remote lake is back.
    wake: Notify,
}

impl fmt::Debug for SpooledLake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SpooledLake").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl SpooledLake {
    /// Opens the spool in a local lake that nothing else uses, and goes on with what an earlier run left there. A task on
    /// the current Tokio runtime brings it to the remote lake.
    ///
    /// # Errors
    /// When the local lake cannot be listed, or holds other objects.
    pub async fn open(
        remote: Arc<dyn Lake>,
        local: Arc<dyn Lake>,
        options: SpoolOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenSpoolError> {
        let keys = local.list("").await?;
        let index = Index::read(&keys).map_err(|key| OpenSpoolError::Foreign { key })?;
        let breaker = Mutex::new(Breaker::new(options.retry_first, options.retry_max));
        let (locks, wake) = (Arc::default(), Notify::new());
        let shared = Arc::new(Shared { remote, local, options, clock, index: Mutex::new(index), breaker, locks, wake });
        let (stopping, stopped) = watch::channel(false);
        let draining = tokio::spawn(drain::run(Arc::clone(&shared), stopped));
        Ok(Self { shared, stopping, draining: Mutex::new(Some(draining)) })
    }

    /// What is in the spool.
    #[must_use]
    pub fn stats(&self) -> SpoolStats {
        let now = self.shared.clock.now_micros();
        let is_remote_away = self.shared.breaker().is_open();
        self.shared.index().stats(now, is_remote_away)
    }

    /// Stops bringing objects to the remote lake, and returns when nothing is under way. What is in the spool stays there
    /// for the next run.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        let draining = self.draining.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(draining) = draining
            && let Err(error) = draining.await
        {
            tracing::error!(%error, "the task that empties the spool had stopped");
        }
    }
}

impl Drop for SpooledLake {
    fn drop(&mut self) {
        self.stopping.send_replace(true);
    }
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts to the remote lake unless it is left alone for now.
    async fn put_remote(&self, key: &str, bytes: Bytes) -> Result<Put, LakeError> {
        let Some(attempt) = self.breaker().begin(Instant::now()) else {
            return Err(unavailable(key, "it was away just now".to_owned()));
        };
        let put = self.remote.put(key, bytes).await;
        match &put {
            Err(LakeError::Unavailable { .. }) => self.breaker().failed(&attempt, Instant::now()),
            _ => {
                if self.breaker().answered() {
                    self.wake.notify_one();
                }
            }
        }
        put
    }

    /// Writes to the spool, while the caller keeps the key.
    async fn spool(
        self: Arc<Self>,
        key: String,
        bytes: Bytes,
        reason: String,
        _guard: KeyGuard,
    ) -> Result<Put, LakeError> {
        let (bytes_max, now) = (self.options.bytes_max, self.clock.now_micros());
        let reserved = self.index().reserve(&key, bytes.len() as u64, bytes_max, now);
        let Some(entry) = reserved else {
            let full = format!("the spool is full ({bytes_max} bytes), and the remote lake is away: {reason}");
            return Err(unavailable(&key, full));
        };
        match self.local.put(&entry.pending_key(), bytes).await {
            Ok(_) => {
                self.index().add(entry);
                self.wake.notify_one();
                Ok(Put::Stored)
            }
            Err(error) => {
                self.index().give_back(&entry);
                Err(rename(error, &key))
            }
        }
    }

    /// Content of a spooled object; `None` if it has just left the spool.
    async fn read_spooled(&self, entry: &Entry) -> Result<Option<Bytes>, LakeError> {
        match self.local.get(&entry.pending_key()).await {
            Err(LakeError::NotFound { .. }) => Ok(None),
            read => read.map(Some).map_err(|error| rename(error, &entry.key)),
        }
    }
}

#[async_trait]
impl Lake for SpooledLake {
    /// Puts to the remote lake, or into the spool while that is away: either way the object is durable. A future that is
    /// dropped leaves the object in one of them or in neither.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Put, LakeError> {
        let guard = self.shared.locks.lock(key).await;
        let spooled = self.shared.index().find(key);
        if let Some(entry) = spooled
            && let Some(existing) = self.shared.read_spooled(&entry).await?
        {
            return match existing == bytes {
                true => Ok(Put::AlreadyThere),
                false => Err(LakeError::Conflict { key: key.to_owned() }),
            };
        }
        let reason = match self.shared.put_remote(key, bytes.clone()).await {
            Err(LakeError::Unavailable { problem, .. }) => problem,
            answer => return answer,
        };
        // In a task of its own, so that a dropped future cannot leave an object that the index does not know.
        let spooling = tokio::spawn(Arc::clone(&self.shared).spool(key.to_owned(), bytes, reason, guard));
        spooling.await.unwrap_or_else(|error| Err(unavailable(key, format!("a worker stopped: {error}"))))
    }

    async fn get(&self, key: &str) -> Result<Bytes, LakeError> {
        let spooled = self.shared.index().find(key);
        if let Some(entry) = spooled
            && let Some(bytes) = self.shared.read_spooled(&entry).await?
        {
            return Ok(bytes);
        }
        self.shared.remote.get(key).await
    }

    /// Keys of both. Fails while the remote lake is away: a part of the keys would look like all of them.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        // The spool first: what leaves it in between is in the remote lake by then.
        let mut keys = self.shared.index().keys_below(prefix);
        keys.extend(self.shared.remote.list(prefix).await?);
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// Removes from both, the remote lake first: if that fails, nothing has changed.
    async fn delete(&self, key: &str) -> Result<(), LakeError> {
        let _guard = self.shared.locks.lock(key).await;
        self.shared.remote.delete(key).await?;
        let spooled = self.shared.index().find(key);
        if let Some(entry) = spooled {
            self.shared.local.delete(&entry.pending_key()).await.map_err(|error| rename(error, key))?;
            self.shared.index().remove(&entry);
        }
        Ok(())
    }
}

fn unavailable(key: &str, problem: String) -> LakeError {
    LakeError::Unavailable { key: key.to_owned(), problem }
}

/// An error of the local lake under the key that its caller knows.
fn rename(error: LakeError, key: &str) -> LakeError {
    let key = key.to_owned();
    match error {
        LakeError::DiskFull { .. } => LakeError::DiskFull { key },
        LakeError::Unavailable { problem, .. } => {
            LakeError::Unavailable { key, problem: format!("the spool: {problem}") }
        }
        LakeError::Backend { problem, .. } => LakeError::Backend { key, problem: format!("the spool: {problem}") },
        error @ (LakeError::Conflict { .. } | LakeError::NotFound { .. }) => {
            LakeError::Backend { key, problem: format!("the spool: {error}") }
        }
    }
}
