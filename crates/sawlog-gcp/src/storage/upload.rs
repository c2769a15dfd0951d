//! Objects that are too large for one request.
//!
//! For: uploading in parts under a temporary name, then copying to the object's name on the condition that it is free,
//! since an upload in parts cannot have a condition. Not for: uploads that no one finished and that have no name yet; a
//! rule of the bucket removes them (docs/gcp/storage.md). Invariant: a temporary object goes with the call that made it, or by
//! [`GcsLake::sweep`].

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{CopyMode, CopyOptions, ObjectStore, ObjectStoreExt, PutMultipartOptions};
use sawlog_seams::lake::{LakeError, Put};

use super::content::{Content, Stored};
use super::errors::Failure;
use super::lake::GcsLake;
use super::retry::{transfer, within};

/// Largest content of one request, bytes.
pub(super) const REQUEST_BYTES_MAX: usize = 64 << 20;
/// Size of a part, bytes; the service wants 5 MiB at least and 10,000 parts at most.
pub(super) const PART_BYTES: usize = 16 << 20;
const PARTS_AT_ONCE: usize = 4;
/// Folder of temporary objects below the lake's own. Readers of Hadoop's kind leave names with `_` out.
pub(super) const UPLOADS: &str = "_uploads";

impl GcsLake {
    /// Puts content that is larger than one request.
    pub(super) async fn put_in_parts(&self, path: &Path, content: &Content) -> Result<Put, Failure> {
        // A repeat after a restart is common, and comparing is cheaper than uploading.
        if let Some(put) = content.compare(self.store.as_ref(), path, &self.deadlines).await? {
            return Ok(put);
        }
        let temporary = self.path_of(&format!("{UPLOADS}/{}", content.put_id()))?;
        let put = match self.upload(&temporary, content).await {
            Ok(()) => self.copy(&temporary, path, content).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = self.remove(&temporary).await {
            tracing::warn!(object = %temporary, ?failure, "a temporary object stays until the next sweep");
        }
        put
    }

    /// Uploads to the temporary name. What counts is that the whole object is there then, not what the calls said.
    async fn upload(&self, temporary: &Path, content: &Content) -> Result<(), Failure> {
        let sent =
            within(self.deadlines.call + transfer(content.bytes.len()), self.send_parts(temporary, content)).await;
        let found = self.deadlines.until_done(|| Stored::head(self.store.as_ref(), temporary, &self.deadlines)).await;
        match (found, sent) {
            (Ok(found), _) if found.may_be(content) => Ok(()),
            (Ok(_), _) => {
                Err(Failure::Temporary("its content was damaged on the way: the checksum is another one".to_owned()))
            }
            (Err(Failure::NotFound), Err(failure)) => Err(failure),
            (Err(Failure::NotFound), Ok(())) => Err(Failure::Temporary("the finished upload is not there".to_owned())),
            (Err(failure), _) => Err(failure),
        }
    }

    async fn send_parts(&self, temporary: &Path, content: &Content) -> Result<(), Failure> {
        let options = PutMultipartOptions { attributes: content.attributes(), ..PutMultipartOptions::default() };
        let begin = || self.deadlines.one_try(0, self.parts.put_multipart_opts(temporary, options.clone()));
        let mut upload = self.deadlines.until_done(begin).await?;
        let chunks = (0..content.bytes.len()).step_by(PART_BYTES);
        let chunks = chunks.map(|start| content.bytes.slice(start..content.bytes.len().min(start + PART_BYTES)));
        let parts: Vec<_> = chunks.map(|chunk| upload.put_part(chunk.into())).collect();
        let sent = futures::stream::iter(parts).buffer_unordered(PARTS_AT_ONCE).try_collect::<()>().await;
        let finished = match sent {
            Ok(()) => upload.complete().await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = finished {
            // An upload that stays all the same is removed by the bucket's rule.
            let _ignored = self.deadlines.one_try(0, upload.abort()).await;
            return Err(error.into());
        }
        Ok(())
    }

    /// Gives the uploaded object its name, if that is free. The copy has the put id, so that a repeat after a lost answer
    /// recognizes it.
    async fn copy(&self, temporary: &Path, path: &Path, content: &Content) -> Result<Put, Failure> {
        let options = CopyOptions { mode: CopyMode::Create, ..CopyOptions::default() };
        let copied = self
            .deadlines
            .until_done(|| self.deadlines.one_try(0, self.store.copy_opts(temporary, path, options.clone())))
            .await;
        match copied {
            Ok(()) => Ok(Put::Stored),
            Err(Failure::Taken) => {
                let compared = content.compare(self.store.as_ref(), path, &self.deadlines).await?;
                compared.ok_or_else(|| Failure::Temporary("the object that had the name is gone".to_owned()))
            }
            Err(Failure::NotFound) => Err(Failure::Temporary("the finished upload is not there".to_owned())),
            Err(failure) => Err(failure),
        }
    }

    /// Removes temporary objects that a crash has left. Returns how many.
    ///
    /// `age` is how old one must be by the service's clock and `now` (microseconds since the Unix epoch, UTC): longer than
    /// any upload takes, such as a day.
    ///
    /// # Errors
    /// When they cannot be listed or removed; what is left is removed by the next sweep.
    pub async fn sweep(&self, now: i64, age: Duration) -> Result<usize, LakeError> {
        let explain = |failure: Failure| self.explain(UPLOADS, failure);
        let folder = self.path_of(UPLOADS).map_err(explain)?;
        let before = now.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        let objects = self.objects(&folder).await.map_err(explain)?;
        let old = objects.into_iter().filter(|object| object.last_modified.timestamp_micros() < before);
        let mut removed = 0;
        for object in old {
            self.remove(&object.location).await.map_err(explain)?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Removes an object; one that is not there is no failure.
    pub(super) async fn remove(&self, path: &Path) -> Result<(), Failure> {
        match self.deadlines.until_done(|| self.deadlines.one_try(0, self.store.delete(path))).await {
            Err(Failure::NotFound) => Ok(()),
            removed => removed,
        }
    }
}
