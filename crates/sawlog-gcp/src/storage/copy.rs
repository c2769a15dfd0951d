//! Copying the objects of one lake to another.
//!
//! For: moving in from one machine. Objects never change: what is there is not copied again, and a copy that stopped goes on
//! with what is missing. Not for: the spool, which moves its objects ([`super::spool`]).

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt};
use sawlog_seams::lake::{Lake, LakeError};

/// Objects that are copied at the same time, each of which is in memory.
const AT_ONCE: usize = 4;

/// What a copy has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Objects of the first lake.
    pub objects: usize,
    /// Those that were in the other one before.
    pub there: usize,
    /// Those that were copied.
    pub copied: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Copies the objects below a folder that another lake lacks, telling how far it is after each.
///
/// # Errors
/// When an object cannot be read or put, or the other lake has another object of the same key. What is copied stays.
pub async fn copy(
    from: &dyn Lake,
    to: &dyn Lake,
    folder: &str,
    tell: &(dyn Fn(&Copied) + Send + Sync),
) -> Result<Copied, LakeError> {
    let keys = from.list(folder).await?;
    let there: HashSet<String> =
        if keys.is_empty() { HashSet::new() } else { to.list(folder).await?.into_iter().collect() };
    let missing: Vec<&String> = keys.iter().filter(|key| !there.contains(*key)).collect();
    let mut done = Copied { objects: keys.len(), there: keys.len() - missing.len(), ..Copied::default() };
    let copying = missing.into_iter().map(|key| async move {
        let bytes = from.get(key).await?;
        let size = bytes.len() as u64;
        to.put(key, bytes).await?;
        Ok::<u64, LakeError>(size)
    });
    let mut copying = futures::stream::iter(copying).buffer_unordered(AT_ONCE);
    while let Some(size) = copying.try_next().await? {
        (done.copied, done.bytes) = (done.copied + 1, done.bytes + size);
        tell(&done);
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sawlog_seams::lake::MemoryLake;

    use super::*;

    #[tokio::test]
    async fn what_is_missing_is_copied_and_the_rest_left_alone() {
        let (from, to) = (MemoryLake::default(), MemoryLake::default());
        for key in ["raw/1", "raw/2", "raw/3", "other/1"] {
            from.put(key, Bytes::from(key)).await.expect("stored");
        }
        to.put("raw/2", Bytes::from_static(b"raw/2")).await.expect("stored");
        let expected = Copied { objects: 3, there: 1, copied: 2, bytes: 10 };
        assert_eq!(copy(&from, &to, "raw", &|_| {}).await.expect("copied"), expected);
        assert_eq!(to.list("").await.expect("keys"), ["raw/1", "raw/2", "raw/3"]);
        assert_eq!(to.get("raw/3").await.expect("an object"), Bytes::from_static(b"raw/3"));
        let again = copy(&from, &to, "raw", &|_| panic!("nothing is left")).await.expect("copied");
        assert_eq!((again.there, again.copied), (3, 0));
    }
}
