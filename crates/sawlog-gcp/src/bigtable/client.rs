//! The connection to an instance, and what all its calls share.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2::bigtable_instance_admin_client::BigtableInstanceAdminClient;
use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2::bigtable_table_admin_client::BigtableTableAdminClient;
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::FeatureFlags;
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::bigtable_client::BigtableClient;
use prost::Message;
use sawlog_core::bigtable::BigtableTable;
use tokio::sync::Semaphore;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::error::BigtableError;
use super::options::BigtableOptions;
use crate::background::Background;
use crate::call::{CallCounts, Caller};
use crate::grpc::Grpc;

const DATA_HOST: &str = "bigtable.googleapis.com";
const ADMIN_HOST: &str = "bigtableadmin.googleapis.com";
const SCOPES: [&str; 1] = ["https://www.googleapis.com/auth/cloud-platform"];
/// Largest message that is taken: a row may have 256 MB.
const MESSAGE_BYTES_MAX: usize = 300 << 20;

/// An instance of Bigtable with the tables of one worker. Calls run on a thread of its own; who calls waits, on whatever
/// thread.
pub struct Bigtable {
    pub(super) background: Background,
    pub(super) client: Arc<Client>,
}

impl std::fmt::Debug for Bigtable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Bigtable").field(&self.client.options.table_name(BigtableTable::Served)).finish()
    }
}

/// What calls are made with.
pub(super) struct Client {
    pub(super) options: BigtableOptions,
    pub(super) caller: Caller,
    /// Bounds the requests that write.
    pub(super) writing: Arc<Semaphore>,
    data: Grpc,
    admin: Grpc,
    features: MetadataValue<Ascii>,
}

impl Bigtable {
    /// Access to an instance. Connects with the first call.
    ///
    /// # Errors
    /// When settings cannot be, or there are no credentials.
    pub fn connect(options: BigtableOptions) -> Result<Arc<Self>, BigtableError> {
        options.check()?;
        let background = Background::start("sawlog-bigtable")?;
        let entered = background.handle().enter();
        let data = Grpc::connect(&options.access, DATA_HOST, &SCOPES)?;
        let admin = Grpc::connect(&options.access, ADMIN_HOST, &SCOPES)?;
        drop(entered);
        let features = FeatureFlags { last_scanned_row_responses: true, ..FeatureFlags::default() };
        let features = URL_SAFE.encode(features.encode_to_vec());
        let client = Client {
            caller: Caller::new("Bigtable", options.retry.clone()),
            writing: Arc::new(Semaphore::new(options.requests_max)),
            features: features.parse().expect("base64 is ASCII"),
            options,
            data,
            admin,
        };
        Ok(Arc::new(Self { background, client: Arc::new(client) }))
    }

    /// Tries since the start.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        self.client.caller.counts()
    }

    /// Makes calls and waits for their outcome.
    pub(super) fn run<T: Send + 'static, F>(&self, calls: impl FnOnce(Arc<Client>) -> F) -> Result<T, BigtableError>
    where
        F: Future<Output = Result<T, BigtableError>> + Send + 'static,
    {
        self.background.run(calls(Arc::clone(&self.client))).unwrap_or(Err(BigtableError::Panicked))
    }
}

impl Client {
    pub(super) fn data(&self) -> BigtableClient<Channel> {
        BigtableClient::new(self.data.channel())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn admin(&self) -> BigtableTableAdminClient<Channel> {
        BigtableTableAdminClient::new(self.admin.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn instances(&self) -> BigtableInstanceAdminClient<Channel> {
        BigtableInstanceAdminClient::new(self.admin.channel())
    }

    /// A request on a table's data.
    pub(super) async fn data_request<T>(&self, table: &str, message: T) -> Result<Request<T>, Status> {
        let routing = [("table_name", table), ("app_profile_id", &*self.options.app_profile)];
        let mut request = self.data.request(message, &routing, self.caller.try_max()).await?;
        request.metadata_mut().insert("bigtable-features", self.features.clone());
        Ok(request)
    }

    /// A request on tables: `field` is what names the resource in the message.
    pub(super) async fn admin_request<T>(&self, field: &str, name: &str, message: T) -> Result<Request<T>, Status> {
        self.admin.request(message, &[(field, name)], self.caller.try_max()).await
    }
}
