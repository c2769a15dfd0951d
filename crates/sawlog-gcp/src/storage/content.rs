//! Whether an object that is there is the one that was to be put.
//!
//! For: telling a lost answer (the object is this call's own) from an earlier call with the same content, and both from
//! other content. Not for: writing.

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{Attribute, Attributes, GetOptions, ObjectStore};
use sawlog_seams::lake::Put;

use super::errors::Failure;
use super::retry::Deadlines;
use super::transport::{STORED_CRC32C, crc32c_text};

/// Metadata that names the call which wrote an object.
const PUT_ID: &str = "sawlog-put-id";

/// Content with what tells it from other content.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) bytes: Bytes,
    pub(super) crc32c: u32,
    /// Random, of one call and all its tries.
    put_id: String,
}

impl Content {
    pub(super) async fn new(bytes: Bytes) -> Result<Self, Failure> {
        let random =
            || getrandom::u64().map_err(|error| Failure::Final(format!("there are no random numbers: {error}")));
        let put_id = format!("{:016x}{:016x}", random()?, random()?);
        let crc32c = checksum(bytes.clone()).await?;
        Ok(Self { bytes, crc32c, put_id })
    }

    pub(super) fn put_id(&self) -> &str {
        &self.put_id
    }

    /// What is written beside the content.
    pub(super) fn attributes(&self) -> Attributes {
        Attributes::from_iter([(Attribute::Metadata(PUT_ID.into()), self.put_id.clone())])
    }

    /// What a put of this content comes to, as another object may have the name: `None` if there is none after all. Size
    /// and checksum tell most of other content; only what may be the same is read.
    ///
    /// # Errors
    /// [`Failure::Taken`] when the object has other content.
    pub(super) async fn compare(
        &self,
        store: &dyn ObjectStore,
        path: &Path,
        deadlines: &Deadlines,
    ) -> Result<Option<Put>, Failure> {
        let found = match deadlines.until_done(|| Stored::head(store, path, deadlines)).await {
            Err(Failure::NotFound) => return Ok(None),
            found => found?,
        };
        if found.put_id.as_ref() == Some(&self.put_id) {
            return Ok(Some(Put::Stored));
        }
        if !found.may_be(self) {
            return Err(Failure::Taken);
        }
        match deadlines.until_done(|| self.is_stored_at(store, path, deadlines)).await {
            Ok(true) => Ok(Some(Put::AlreadyThere)),
            Ok(false) => Err(Failure::Taken),
            Err(Failure::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn is_stored_at(&self, store: &dyn ObjectStore, path: &Path, deadlines: &Deadlines) -> Result<bool, Failure> {
        let found = deadlines.one_try(0, store.get_opts(path, GetOptions::default())).await?;
        let mut chunks = found.into_stream();
        let mut rest = &self.bytes[..];
        while let Some(chunk) = deadlines.one_try(0, async { chunks.next().await.transpose() }).await? {
            match rest.strip_prefix(&chunk[..]) {
                Some(after) => rest = after,
                None => return Ok(false),
            }
        }
        Ok(rest.is_empty())
    }
}

/// What the service says of an object.
#[derive(Debug)]
pub(super) struct Stored {
    size: u64,
    crc32c: Option<String>,
    put_id: Option<String>,
}

impl Stored {
    /// Asks for an object, once.
    pub(super) async fn head(store: &dyn ObjectStore, path: &Path, deadlines: &Deadlines) -> Result<Self, Failure> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = deadlines.one_try(0, store.get_opts(path, options)).await?;
        let attribute = |name| metadata(&found.attributes, name);
        Ok(Self { size: found.meta.size, crc32c: attribute(STORED_CRC32C), put_id: attribute(PUT_ID) })
    }

    /// Whether size and checksum are those of the content.
    pub(super) fn may_be(&self, content: &Content) -> bool {
        self.size == content.bytes.len() as u64
            && self.crc32c.as_ref().is_none_or(|stored| *stored == crc32c_text(content.crc32c))
    }
}

/// Reads an object whole, once, and checks it against the service's checksum.
pub(super) async fn read(store: &dyn ObjectStore, path: &Path, deadlines: &Deadlines) -> Result<Bytes, Failure> {
    let found = deadlines.one_try(0, store.get_opts(path, GetOptions::default())).await?;
    let stored = metadata(&found.attributes, STORED_CRC32C);
    let size = usize::try_from(found.meta.size).map_err(|error| Failure::Final(error.to_string()))?;
    let bytes = deadlines.one_try(size, found.bytes()).await?;
    match stored {
        Some(stored) if crc32c_text(checksum(bytes.clone()).await?) != stored => {
            Err(Failure::Temporary("its content was damaged on the way: the checksum is another one".to_owned()))
        }
        _ => Ok(bytes),
    }
}

fn metadata(attributes: &Attributes, name: &'static str) -> Option<String> {
    attributes.get(&Attribute::Metadata(name.into())).map(|value| value.to_string())
}

/// CRC32C, off the threads that wait for the network.
async fn checksum(bytes: Bytes) -> Result<u32, Failure> {
    let summed = tokio::task::spawn_blocking(move || crc32c::crc32c(&bytes)).await;
    summed.map_err(|error| Failure::Temporary(format!("a worker stopped: {error}")))
}
