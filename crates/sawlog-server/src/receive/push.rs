//! `POST /v1/pubsub/push`: messages that Pub/Sub pushes.
//!
//! For: the request and its answer: who pushes is asked before the body is read, 204 says that the message is in the synced
//! event log. Not for: tokens and messages, which the [`PushReceiver`] knows; API keys, which Pub/Sub cannot send.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::error::ApiError;
use crate::receive::body::{self, BodyError};
use crate::receive::events::body_error;
use crate::state::ServerState;

pub use crate::error::ApiError as PushError;

/// A message of 10 MB in base64, with its attributes.
const BODY_BYTES_MAX: usize = 14 << 20;

/// Knows who may push, and stores what is pushed.
#[async_trait]
pub trait PushReceiver: Send + Sync {
    /// Checks the value of the `Authorization` header, then awaits the body and stores its message in the synced event log.
    ///
    /// # Errors
    /// When it is not stored. Whoever pushes sends it again.
    async fn receive(
        &self,
        authorization: Option<&str>,
        body: BoxFuture<'_, Result<Bytes, PushError>>,
    ) -> Result<(), PushError>;
}

pub(crate) async fn post_push(State(state): State<Arc<ServerState>>, headers: HeaderMap, body: Body) -> Response {
    match take(&state, &headers, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}

async fn take(state: &ServerState, headers: &HeaderMap, body: Body) -> Result<(), ApiError> {
    let Some(receiver) = &state.push else {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "push_off",
            "no subscription pushes here",
            "add a [[pubsub]] with mode = \"push\" to the configuration",
        ));
    };
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let read = async {
        // A place is held for reading alone: many messages must be able to wait for one sync.
        let _turn = state.bodies.acquire().await.map_err(|_| body_error(&BodyError::Stopping))?;
        body::read(headers, body, BODY_BYTES_MAX).await.map_err(|error| body_error(&error))
    };
    receiver.receive(authorization, Box::pin(read)).await
}
