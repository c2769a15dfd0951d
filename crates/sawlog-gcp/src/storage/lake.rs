//! A folder of a bucket as the lake.
//!
//! For: objects that are written once, under conditions that the service checks. Not for: what to do while the service is
//! away ([`super::spool`]). Invariants: a name is given by one conditional request, so that two workers cannot both have
//! it; a put that is repeated after a lost answer recognizes its own object by a random id in the metadata, without reading
//! it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use google_cloud_auth::credentials::Builder as CredentialsBuilder;
use http::Extensions;
use object_store::client::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectMeta, ObjectStore, PutMode, PutOptions, PutPayload, RetryConfig,
};
use sawlog_seams::lake::{Lake, LakeError, Put};

use super::content::{Content, read};
use super::counts::Counts;
use super::errors::Failure;
use super::retry::{Deadlines, transfer};
use super::transport::{Connector, ContentCrc32c};
use super::upload::{PART_BYTES, REQUEST_BYTES_MAX, UPLOADS};
use crate::access::Access;
use crate::call::CallCounts;

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a part is sent before the upload fails.
const PART_REPEATS_MAX: usize = 5;
/// How often a put starts anew when the object that had its name is gone.
const PUT_ROUNDS_MAX: usize = 3;

/// Settings of a lake in Cloud Storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcsLakeOptions {
    /// Name of the bucket, without `gs://`.
    pub bucket: String,
    /// Folder in the bucket that has all objects, such as `logs/prod`; empty for the bucket itself.
    pub prefix: String,
    /// Where the service is.
    pub access: Access,
    /// How long one try may take, beside a second for each 4 MiB of content. Ten seconds suit Google's own network.
    pub try_deadline: Duration,
    /// After which a call is not tried again; its last try may end later.
    pub call_deadline: Duration,
}

/// Why a lake in Cloud Storage cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLakeError {
    /// No bucket can have the name.
    #[error("{bucket:?} is no name of a bucket; write it without gs:// and slashes, as in \"my-logs\"")]
    Bucket {
        /// The name.
        bucket: String,
    },
    /// No folder can have the name.
    #[error("prefix {prefix:?} is no folder of a bucket: {problem}; write it as in \"logs/prod\"")]
    Prefix {
        /// The folder.
        prefix: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There are no credentials.
    #[error(
        "no credentials of Google are found ({problem}); run this worker as a service account of Google Cloud, or let \
         GOOGLE_APPLICATION_CREDENTIALS name a file with the credentials of one"
    )]
    Credentials {
        /// What Google's library said.
        problem: String,
    },
    /// The client cannot be made.
    #[error("a client of Cloud Storage cannot be made: {problem}")]
    Client {
        /// What is wrong.
        problem: String,
    },
}

/// Objects below a folder of a bucket.
pub struct GcsLake {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The same bucket for uploads in parts, whose requests are repeated by `object_store`.
    pub(super) parts: Arc<dyn ObjectStore>,
    pub(super) deadlines: Deadlines,
    bucket: String,
    prefix: String,
    counts: Arc<Counts>,
}

impl fmt::Debug for GcsLake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GcsLake")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl GcsLake {
    /// A lake in a bucket, which must be there. Nothing is sent yet. The caller is within a Tokio runtime, where
    /// credentials are renewed.
    ///
    /// # Errors
    /// When a name is wrong, or no credentials are found.
    pub fn open(options: GcsLakeOptions) -> Result<Self, OpenLakeError> {
        let GcsLakeOptions { bucket, prefix, access, try_deadline, call_deadline } = options;
        if bucket.is_empty() || bucket.contains(['/', ':']) {
            return Err(OpenLakeError::Bucket { bucket });
        }
        let deadlines = Deadlines { one_try: try_deadline, call: call_deadline };
        let credentials = match access.credentials() {
            Some(credentials) => credentials,
            None => CredentialsBuilder::default()
                .build()
                .map_err(|error| OpenLakeError::Credentials { problem: error.to_string() })?,
        };
        let endpoint = access.endpoint.as_deref();
        let counts = Arc::<Counts>::default();
        let build = |repeats: usize, request_limit: Option<Duration>| {
            let client = ClientOptions::new()
                .with_allow_http(endpoint.is_some_and(|url| url.starts_with("http://")))
                .with_connect_timeout(CONNECT.min(try_deadline));
            let client = match request_limit {
                Some(limit) => client.with_timeout(limit),
                // Each try has a deadline of its own.
                None => client.with_timeout_disabled(),
            };
            let retry =
                RetryConfig { backoff: BackoffConfig::default(), max_retries: repeats, retry_timeout: call_deadline };
            let no_credentials = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
            let mut builder = GoogleCloudStorageBuilder::new()
                .with_bucket_name(&bucket)
                .with_credentials(Arc::new(no_credentials))
                .with_http_connector(Connector { credentials: credentials.clone(), counts: Arc::clone(&counts) })
                .with_client_options(client)
                .with_retry(retry);
            if let Some(endpoint) = endpoint {
                builder = builder.with_base_url(endpoint.trim_end_matches('/'));
            }
            let store = builder.build().map_err(|error| OpenLakeError::Client { problem: error.to_string() })?;
            Ok::<Arc<dyn ObjectStore>, OpenLakeError>(Arc::new(store))
        };
        let store = build(0, None)?;
        let parts = build(PART_REPEATS_MAX, Some(try_deadline + transfer(PART_BYTES)))?;
        Ok(Self { counts, ..Self::over(store, parts, deadlines, bucket, prefix)? })
    }

    /// Requests by what they are and how they ended, since the start.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        self.counts.all()
    }

    fn over(
        store: Arc<dyn ObjectStore>,
        parts: Arc<dyn ObjectStore>,
        deadlines: Deadlines,
        bucket: String,
        prefix: String,
    ) -> Result<Self, OpenLakeError> {
        let prefix = prefix.trim_end_matches('/').to_owned();
        if !prefix.is_empty()
            && let Err(problem) = parse_key(&prefix)
        {
            return Err(OpenLakeError::Prefix { prefix, problem });
        }
        Ok(Self { store, parts, deadlines, bucket, prefix, counts: Arc::default() })
    }

    /// Name of an object in the bucket.
    pub(super) fn path_of(&self, key: &str) -> Result<Path, Failure> {
        let name = if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) };
        parse_key(&name).map_err(Failure::Final)
    }

    /// Name of an object of the lake, as opposed to a temporary one.
    fn path_of_object(&self, key: &str) -> Result<Path, Failure> {
        parse_key(key).map_err(Failure::Final)?;
        match key.split('/').next() {
            Some(UPLOADS) => Err(Failure::Final(format!("{UPLOADS}/ is for unfinished uploads; take another folder"))),
            _ => self.path_of(key),
        }
    }

    pub(super) fn explain(&self, key: &str, failure: Failure) -> LakeError {
        let folder = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        failure.about(key, &format!("gs://{}/{folder}{key}", self.bucket))
    }

    async fn put_object(&self, key: &str, bytes: Bytes) -> Result<Put, Failure> {
        let path = self.path_of_object(key)?;
        let content = Content::new(bytes).await?;
        if content.bytes.len() > REQUEST_BYTES_MAX {
            return self.put_in_parts(&path, &content).await;
        }
        for _ in 0..PUT_ROUNDS_MAX {
            match self.deadlines.until_done(|| self.put_at_once(&path, &content)).await {
                Ok(()) => return Ok(Put::Stored),
                Err(Failure::Taken) => {}
                // No answer to a put; a proxy's, perhaps.
                Err(Failure::NotFound) => return Err(Failure::Temporary("a put was answered with 404".to_owned())),
                Err(failure) => return Err(failure),
            }
            if let Some(put) = content.compare(self.store.as_ref(), &path, &self.deadlines).await? {
                return Ok(put);
            }
        }
        Err(Failure::Temporary("another writer puts and removes the object again and again".to_owned()))
    }

    async fn put_at_once(&self, path: &Path, content: &Content) -> Result<(), Failure> {
        let mut extensions = Extensions::new();
        extensions.insert(ContentCrc32c(content.crc32c));
        let attributes = content.attributes();
        let options = PutOptions { mode: PutMode::Create, attributes, extensions, ..PutOptions::default() };
        let payload = PutPayload::from_bytes(content.bytes.clone());
        self.deadlines.one_try(content.bytes.len(), self.store.put_opts(path, payload, options)).await.map(drop)
    }

    /// All objects below a folder, in the order of their names. What has arrived is not asked for again, and the deadline
    /// starts anew with it: a long list may outlast many failures.
    pub(super) async fn objects(&self, folder: &Path) -> Result<Vec<ObjectMeta>, Failure> {
        let mut objects: Vec<ObjectMeta> = Vec::new();
        loop {
            let after = objects.last().map(|object| object.location.clone());
            let arriving = || self.arriving(folder, after.as_ref());
            let (arrived, is_end) = self.deadlines.until_done(arriving).await?;
            objects.extend(arrived);
            if is_end {
                return Ok(objects);
            }
        }
    }

    /// The objects after a name up to the first failure, and whether there was none.
    async fn arriving(&self, folder: &Path, after: Option<&Path>) -> Result<(Vec<ObjectMeta>, bool), Failure> {
        let mut listed = match after {
            Some(after) => self.store.list_with_offset(Some(folder), after),
            None => self.store.list(Some(folder)),
        };
        let mut objects = Vec::new();
        loop {
            match self.deadlines.one_try(0, async { listed.next().await.transpose() }).await {
                Ok(Some(object)) => objects.push(object),
                Ok(None) => return Ok((objects, true)),
                Err(Failure::Temporary(_)) if !objects.is_empty() => return Ok((objects, false)),
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let prefix = prefix.trim_end_matches('/');
        let folder = match (prefix, self.prefix.as_str()) {
            ("", "") => Path::default(),
            ("", own) => parse_key(own).map_err(Failure::Final)?,
            (prefix, _) => self.path_of(prefix)?,
        };
        let objects = self.objects(&folder).await?;
        let own = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let keys = objects.iter().filter_map(|object| object.location.as_ref().strip_prefix(&own));
        let mut keys: Vec<String> =
            keys.filter(|key| key.split('/').next() != Some(UPLOADS)).map(str::to_owned).collect();
        keys.sort_unstable();
        Ok(keys)
    }
}

/// A name of parts that are not empty, between single slashes, none of which is `.` or `..`.
fn parse_key(key: &str) -> Result<Path, String> {
    let path = Path::parse(key).map_err(|error| error.to_string())?;
    match !key.is_empty() && path.as_ref() == key {
        true => Ok(path),
        false => Err("a key has parts that are not empty, between single slashes".to_owned()),
    }
}

#[async_trait]
impl Lake for GcsLake {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Put, LakeError> {
        self.put_object(key, bytes).await.map_err(|failure| self.explain(key, failure))
    }

    async fn get(&self, key: &str) -> Result<Bytes, LakeError> {
        let read = async {
            let path = self.path_of_object(key)?;
            self.deadlines.until_done(|| read(self.store.as_ref(), &path, &self.deadlines)).await
        };
        read.await.map_err(|failure| self.explain(key, failure))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        self.keys(prefix).await.map_err(|failure| self.explain(prefix, failure))
    }

    async fn delete(&self, key: &str) -> Result<(), LakeError> {
        let removed = async { self.remove(&self.path_of_object(key)?).await };
        removed.await.map_err(|failure| self.explain(key, failure))
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    const DEADLINES: Deadlines = Deadlines { one_try: Duration::from_secs(5), call: Duration::from_secs(5) };

    /// The lake over object_store's own store in memory, by which its rules are checked apart from the protocol.
    struct Fixture(Arc<InMemory>);

    impl sawlog_seams::contract::lake::Fixture for Fixture {
        fn open(&self) -> Arc<dyn Lake> {
            Arc::new(lake(&self.0, "logs/prod"))
        }
    }

    fn lake(store: &Arc<InMemory>, prefix: &str) -> GcsLake {
        let store = Arc::clone(store) as Arc<dyn ObjectStore>;
        GcsLake::over(Arc::clone(&store), store, DEADLINES, "lake".to_owned(), prefix.to_owned()).expect("names")
    }

    sawlog_seams::lake_contract!(Fixture(Arc::default()));

    #[tokio::test]
    async fn lakes_of_one_bucket_do_not_see_each_other() {
        let store = Arc::default();
        let (one, other, all) = (lake(&store, "a"), lake(&store, "ab/"), lake(&store, ""));
        one.put("raw/1", Bytes::from_static(b"x")).await.expect("stored");
        other.put("raw/2", Bytes::from_static(b"x")).await.expect("stored");
        assert_eq!(one.list("").await.expect("keys"), ["raw/1"]);
        assert_eq!(other.list("raw").await.expect("keys"), ["raw/2"]);
        assert_eq!(all.list("").await.expect("keys"), ["a/raw/1", "ab/raw/2"]);
    }

    #[tokio::test]
    async fn a_key_that_leaves_the_folder_or_is_for_uploads_is_refused() {
        let lake = lake(&Arc::default(), "logs");
        for key in ["", "../outside", "a/../../outside", "a//b", "/a", "a/", "_uploads/x"] {
            for failed in
                [lake.put(key, Bytes::new()).await.map(drop), lake.get(key).await.map(drop), lake.delete(key).await]
            {
                assert!(matches!(&failed, Err(LakeError::Backend { .. })), "{key:?}: {failed:?}");
            }
        }
    }

    #[tokio::test]
    async fn names_that_cannot_be_are_refused_with_a_remedy() {
        let open = |bucket: &str, prefix: &str| {
            GcsLake::open(GcsLakeOptions {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
                access: Access::new(Some("http://127.0.0.1:1".to_owned())).expect("a URL"),
                try_deadline: Duration::from_secs(1),
                call_deadline: Duration::from_secs(1),
            })
        };
        for (bucket, prefix) in [("", ""), ("gs://logs", ""), ("logs/prod", ""), ("logs", "a//b"), ("logs", "../a")] {
            let problem = open(bucket, prefix).expect_err("a wrong name").to_string();
            assert!(problem.contains("as in"), "{problem}");
        }
        open("logs", "prod/eu/").expect("a slash at the end is none of the name");
    }
}
