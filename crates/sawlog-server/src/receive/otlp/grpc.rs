//! The gRPC services `LogsService` and `MetricsService`.
//!
//! For: taking export calls without decoding their messages: the codec hands over the bytes, which the core reads once.
//! Not for: ports, TLS and limits on connections, which belong to the server that these services are added to.

use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::http::{Request, Response, header};
use bytes::{Buf, BufMut, Bytes};
use sawlog_core::batch::Format;
use tonic::body::Body;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Body as HttpBody, Service, StdError};
use tonic::metadata::MetadataValue;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Status};

use super::answer::{self, Encoding};
use super::{ACK, GRPC_SOURCE, OtlpState, Refusal, Signal, ack_level, ingest};
use crate::receive::reject;

/// `opentelemetry.proto.collector.logs.v1.LogsService`.
pub type LogsServer = ExportServer<Logs>;
/// `opentelemetry.proto.collector.metrics.v1.MetricsService`.
pub type MetricsServer = ExportServer<Metrics>;

/// Marks the service for logs.
#[derive(Clone, Copy, Debug)]
pub struct Logs;
/// Marks the service for metrics.
#[derive(Clone, Copy, Debug)]
pub struct Metrics;

/// What tells the two services apart.
pub trait Export: Send + Sync + 'static {
    /// Full name of the service.
    const NAME: &'static str;
    /// Path of its one method.
    const PATH: &'static str;
    /// Format of its messages.
    const FORMAT: Format;
}

impl Export for Logs {
    const NAME: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
    const PATH: &'static str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    const FORMAT: Format = Format::OtlpLogs;
}

impl Export for Metrics {
    const NAME: &'static str = "opentelemetry.proto.collector.metrics.v1.MetricsService";
    const PATH: &'static str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    const FORMAT: Format = Format::OtlpMetrics;
}

/// A service with one method, `Export`.
pub struct ExportServer<E> {
    state: Arc<OtlpState>,
    export: PhantomData<E>,
}

impl<E> ExportServer<E> {
    /// The service over a pipeline.
    #[must_use]
    pub fn new(state: Arc<OtlpState>) -> Self {
        Self { state, export: PhantomData }
    }
}

impl<E> Clone for ExportServer<E> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.state))
    }
}

impl<E: Export> NamedService for ExportServer<E> {
    const NAME: &'static str = E::NAME;
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<E, B> Service<Request<B>> for ExportServer<E>
where
    E: Export,
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let state = Arc::clone(&self.state);
        Box::pin(async move {
            if request.uri().path() != E::PATH {
                return Ok(Status::unimplemented("the service has one method, Export").into_http());
            }
            // Before anything is read or decompressed.
            if let Err(refusal) = state.authorize(GRPC_SOURCE, request.headers().get(header::AUTHORIZATION)) {
                return Ok(Status::from(refusal).into_http());
            }
            let Ok(_turn) = Arc::clone(&state.bodies).acquire_owned().await else {
                return Ok(Status::from(Refusal::from(sawlog_stream::SubmitError::Stopped)).into_http());
            };
            let mut grpc = Grpc::new(BytesCodec)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .max_decoding_message_size(state.body_bytes_max);
            let is_read = Arc::new(AtomicBool::new(false));
            let method = Method { state: Arc::clone(&state), format: E::FORMAT, is_read: Arc::clone(&is_read) };
            let response = grpc.unary(method, request).await;
            if !is_read.load(Ordering::Acquire) {
                // Too large, undecodable or cut short: how many records it held cannot be known.
                reject(&state.pipeline, &state.metrics, GRPC_SOURCE, 1);
            }
            Ok(response)
        })
    }
}

/// One call.
struct Method {
    state: Arc<OtlpState>,
    format: Format,
    /// Set once the message is there whole.
    is_read: Arc<AtomicBool>,
}

impl UnaryService<Bytes> for Method {
    type Response = Bytes;
    type Future = BoxFuture<Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        self.is_read.store(true, Ordering::Release);
        let (state, format) = (Arc::clone(&self.state), self.format);
        Box::pin(async move {
            let wanted = request.metadata().get(ACK).map(MetadataValue::as_encoded_bytes);
            let ack = ack_level(wanted).ok_or_else(Refusal::unknown_ack)?;
            let receipt =
                ingest(&state, GRPC_SOURCE, format, request.into_inner(), ack).await.map_err(Refusal::from)?;
            let signal = if format == Format::OtlpLogs { Signal::Logs } else { Signal::Metrics };
            let mut response = tonic::Response::new(answer::exported(signal, Encoding::Protobuf, &receipt));
            response.metadata_mut().insert(ACK, MetadataValue::from_static(receipt.ack.name()));
            Ok(response)
        })
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let details = match refusal.code {
            Code::Unauthenticated | Code::PermissionDenied => Bytes::new(),
            _ => answer::status(Encoding::Protobuf, &refusal),
        };
        Self::with_details(refusal.code, refusal.message, details)
    }
}

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Debug, Default)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
