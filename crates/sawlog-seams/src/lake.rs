//! The raw lake: records as received, in immutable objects.
//!
//! For: storing objects once and reading them back for replay. Not for: tables of typed rows ([`crate::warehouse`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object is new.
    Stored,
    /// An object of that key with the same bytes was there: an earlier try had succeeded.
    AlreadyThere,
}

/// Why the lake could not serve a call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LakeError {
    /// Another object has the key; objects never change.
    #[error("object {key:?} is there already with other content")]
    Conflict {
        /// The key.
        key: String,
    },
    /// No object has the key.
    #[error("there is no object {key:?}")]
    NotFound {
        /// The key.
        key: String,
    },
    /// Space ran out.
    #[error("disk is full while writing object {key:?}")]
    DiskFull {
        /// The key.
        key: String,
    },
    /// The back end is away or overloaded, or a spool before it is full: the same call may succeed later. A put may have
    /// been done all the same.
    #[error("object {key:?} cannot be reached for now: {problem}")]
    Unavailable {
        /// The key.
        key: String,
        /// What the back end said, or what is full.
        problem: String,
    },
    /// The back end failed.
    #[error("object {key:?} cannot be reached: {problem}")]
    Backend {
        /// The key.
        key: String,
        /// What the back end said.
        problem: String,
    },
}

/// Immutable objects under keys such as `raw/receive_date=2026-11-24/receive_hour=03/….parquet`. Contract test:
/// [`crate::contract::lake`].
///
/// Once: a put to a key that is taken never changes it; with equal bytes it succeeds, so that a retry recognises its
/// own success. Whole: a put that fails or is cut short by a crash leaves no object. Durable: an object survives a
/// crash once `put` returns.
#[async_trait]
pub trait Lake: Send + Sync {
    /// Stores an object unless the key is taken.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Put, LakeError>;
    /// Content of an object.
    async fn get(&self, key: &str) -> Result<Bytes, LakeError>;
    /// Keys below the folder `prefix` (whole path parts; empty for all), sorted. A folder that is not there has none.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, LakeError>;
    /// Removes an object; one that is not there is no error. Only retention does this.
    async fn delete(&self, key: &str) -> Result<(), LakeError>;
}

/// A lake in memory.
#[derive(Debug, Default)]
pub struct MemoryLake {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

#[async_trait]
impl Lake for MemoryLake {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Put, LakeError> {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        match objects.get(key) {
            Some(existing) if *existing == bytes => Ok(Put::AlreadyThere),
            Some(_) => Err(LakeError::Conflict { key: key.to_owned() }),
            None => {
                objects.insert(key.to_owned(), bytes);
                Ok(Put::Stored)
            }
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes, LakeError> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.get(key).cloned().ok_or_else(|| LakeError::NotFound { key: key.to_owned() })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let is_below = |key: &&String| match key.strip_prefix(prefix.trim_end_matches('/')) {
            Some(rest) => prefix.is_empty() || rest.starts_with('/'),
            None => false,
        };
        Ok(objects.keys().filter(is_below).cloned().collect())
    }

    async fn delete(&self, key: &str) -> Result<(), LakeError> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Fixture(Arc<MemoryLake>);

    impl crate::contract::lake::Fixture for Fixture {
        fn open(&self) -> Arc<dyn Lake> {
            Arc::clone(&self.0) as Arc<dyn Lake>
        }
    }

    crate::lake_contract!(Fixture(Arc::default()));
}
