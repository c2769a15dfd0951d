//! gRPC to Google's services: connection, credentials and deadlines.
//!
//! For: services for which there is no client but the protocol's own types. Not for: trying again ([`crate::call`]), or
//! services with a client of Google's, such as Pub/Sub.

use std::time::Duration;

use bytes::Bytes;
use google_cloud_auth::credentials::{Builder, CacheableResource, Credentials};
use http::Extensions;
use prost::Message;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use crate::access::Access;
use crate::call::CallError;

const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A connection that does not answer a ping within this time is given up.
const PING: Duration = Duration::from_secs(30);
const PING_MAX: Duration = Duration::from_secs(10);
/// Bytes under way in one stream before the reader must have taken some.
const WINDOW: u32 = 4 << 20;

/// Why a service cannot be reached at all.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The endpoint is no URL, or TLS does not work.
    #[error("endpoint {endpoint}: {source}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What is wrong.
        #[source]
        source: tonic::transport::Error,
    },
    /// There are no credentials.
    #[error("no credentials for Google Cloud: {0}; set GOOGLE_APPLICATION_CREDENTIALS, or run with a service account")]
    Credentials(String),
}

/// A service: what its clients are made of. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Grpc {
    channel: Channel,
    /// None travel without TLS.
    credentials: Option<Credentials>,
}

impl Grpc {
    /// Access to a service at its own host (`bigtable.googleapis.com`) unless the access names an endpoint. Connects with the
    /// first call. Must be called within a runtime of tokio.
    ///
    /// # Errors
    /// When the endpoint makes no sense, or there are no credentials for one with TLS.
    pub(crate) fn connect(access: &Access, host: &str, scopes: &[&str]) -> Result<Self, GrpcError> {
        let url = access.endpoint.clone().unwrap_or_else(|| format!("https://{host}"));
        let failed = |source| GrpcError::Endpoint { endpoint: url.clone(), source };
        let mut endpoint = Endpoint::from_shared(url.clone())
            .and_then(|endpoint| endpoint.user_agent(concat!("sawlog/", env!("CARGO_PKG_VERSION"))))
            .map_err(failed)?
            .connect_timeout(CONNECT_MAX)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING_MAX)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW);
        if url.starts_with("https://") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(failed)?;
        }
        let credentials = match access.credentials() {
            Some(_) => None,
            None => {
                let built = Builder::default().with_scopes(scopes.iter().copied()).build();
                Some(built.map_err(|error| GrpcError::Credentials(error.to_string()))?)
            }
        };
        Ok(Self { channel: endpoint.connect_lazy(), credentials })
    }

    /// The connection, for a generated client.
    #[must_use]
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request with credentials, deadline, and what Google routes it by: pairs such as `table_name` and its value.
    ///
    /// # Errors
    /// When there is no token at the moment (`UNAUTHENTICATED`).
    pub(crate) async fn request<T>(
        &self,
        message: T,
        routing: &[(&str, &str)],
        deadline: Duration,
    ) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        let routed = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(routing).finish();
        let not_ascii = |_| Status::invalid_argument("a name is no ASCII text");
        request.metadata_mut().insert("x-goog-request-params", routed.parse().map_err(not_ascii)?);
        let Some(credentials) = &self.credentials else { return Ok(request) };
        let headers = credentials.headers(Extensions::new()).await;
        // Without a tag of an earlier answer there is always a new one.
        if let CacheableResource::New { data, .. } =
            headers.map_err(|error| Status::unauthenticated(error.to_string()))?
        {
            let metadata = tonic::metadata::MetadataMap::from_headers(data);
            for entry in metadata.iter() {
                if let tonic::metadata::KeyAndValueRef::Ascii(name, value) = entry {
                    request.metadata_mut().insert(name.clone(), value.clone());
                }
            }
        }
        Ok(request)
    }
}

/// Name of a status code, as Google writes it.
#[must_use]
pub(crate) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Whether a call that ended so may go well later, for calls that may be repeated. A connection that breaks amid an answer
/// shows as one of `CANCELLED`, `UNKNOWN` and `INTERNAL`; a token that expired under way is replaced by the next try.
#[must_use]
pub(crate) const fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::Unauthenticated
    )
}

impl CallError for Status {
    fn code(&self) -> &'static str {
        code_name(self.code())
    }

    fn problem(&self) -> String {
        self.message().to_owned()
    }

    fn is_retryable(&self) -> bool {
        is_passing(self.code())
    }

    fn retry_after(&self) -> Option<Duration> {
        let details = StatusDetails::decode(self.details()).ok()?.details;
        let info = details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
        RetryInfo::decode(&*info.value).ok()?.retry_delay?.try_into().ok()
    }
}

/// Of google/rpc/status.proto what comes with a status beside its code.
#[derive(Clone, PartialEq, Message)]
struct StatusDetails {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// Of google/rpc/error_details.proto.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

/// The details of a status within a message, as a status of gRPC has them.
pub(crate) fn details(details: Vec<prost_types::Any>) -> Bytes {
    StatusDetails { details }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_name_what_they_are_routed_by_and_when_they_end() {
        let access = Access::new(Some("http://127.0.0.1:1".to_owned())).expect("a URL");
        let grpc = Grpc::connect(&access, "bigtable.googleapis.com", &[]).expect("plain");
        let routing = [("table_name", "projects/p/tables/t"), ("app_profile_id", "one")];
        let request = grpc.request((), &routing, Duration::from_secs(5)).await.expect("a request");
        let routed = request.metadata().get("x-goog-request-params").expect("routing");
        assert_eq!(routed, "table_name=projects%2Fp%2Ftables%2Ft&app_profile_id=one");
        assert_eq!(request.metadata().get("grpc-timeout").expect("a deadline"), "5000000u");
        assert!(request.metadata().get("authorization").is_none());
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again() {
        for code in [Code::NotFound, Code::PermissionDenied, Code::InvalidArgument, Code::FailedPrecondition] {
            assert!(!is_passing(code), "{code:?}");
        }
        assert!(is_passing(Code::Unavailable) && is_passing(Code::ResourceExhausted));
    }
}
