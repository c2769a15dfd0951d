//! One caller at a time for each key.
//!
//! For: steps that look at both lakes and then change one. Not for: reading.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Locks of the keys that are in use.
#[derive(Debug, Default)]
pub(super) struct KeyLocks {
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Keeps a key until it is dropped.
#[derive(Debug)]
pub(super) struct KeyGuard {
    locks: Arc<KeyLocks>,
    held: Option<OwnedMutexGuard<()>>,
}

impl KeyLocks {
    /// Waits for a key; in turn, if others wait.
    pub(super) async fn lock(self: &Arc<Self>, key: &str) -> KeyGuard {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(key.to_owned()).or_default())
        };
        KeyGuard { locks: Arc::clone(self), held: Some(lock.lock_owned().await) }
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        self.held = None;
        let mut locks = self.locks.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds or waits for; few are in use at any time.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_has_one_holder_and_leaves_nothing_behind() {
        let locks: Arc<KeyLocks> = Arc::default();
        let first = locks.lock("a").await;
        let other = locks.lock("b").await;
        let mut second = Box::pin(locks.lock("a"));
        assert!(futures::poll!(second.as_mut()).is_pending());
        drop(first);
        let second = second.await;
        drop((second, other));
        assert!(locks.locks.lock().expect("no panic").is_empty());
    }
}
