//! Serving answers: SQL, health, metrics and the web page.

mod alerts;
mod deploys;
mod health;
mod search;
mod sql;
mod tail;
mod users;
mod web;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

pub use tail::TAILS_MAX;

use crate::auth::{AuthError, Scope};
use crate::error::ApiError;
use crate::receive::{elastic, events, push};
use crate::state::ServerState;

pub(crate) use web::asset as page;

/// The routes of the main port.
pub fn router(state: Arc<ServerState>) -> Router {
    Router::new()
        .route("/v1/events", post(events::post_events))
        .route("/v1/pubsub/push", post(push::post_push))
        .route("/v1/sql", post(sql::post_sql))
        .route("/v1/search", post(search::post_search))
        .route("/v1/tail", get(tail::get_tail))
        .route("/v1/deploys", get(deploys::get_deploys))
        .route("/v1/fields", get(search::get_fields))
        .route("/v1/users/{id}/timeline", get(users::get_timeline))
        .route("/v1/alerts", get(alerts::get_alerts))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/", get(elastic::root))
        .route("/_bulk", elastic::bulk_methods())
        .route("/{index}/_bulk", elastic::bulk_methods())
        .route("/{index}/{kind}/_bulk", elastic::bulk_methods())
        .route("/_license", get(elastic::license))
        .route("/_xpack", get(elastic::xpack))
        .route("/_cluster/health", get(elastic::health))
        .route("/v1/{*path}", axum::routing::any(unknown_path))
        .fallback(get(web::asset))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), guard))
        .with_state(state)
}

/// Counts the request and adds the headers that keep a browser from running what events say.
async fn guard(State(state): State<Arc<ServerState>>, request: Request, next: Next) -> Response {
    let route = match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        Some("/v1/events") => "/v1/events",
        Some("/v1/pubsub/push") => "/v1/pubsub/push",
        Some("/v1/sql") => "/v1/sql",
        Some("/_bulk" | "/{index}/_bulk" | "/{index}/{kind}/_bulk") => "/_bulk",
        Some("/v1/search") => "/v1/search",
        Some("/v1/tail") => "/v1/tail",
        Some("/v1/deploys") => "/v1/deploys",
        Some("/v1/fields") => "/v1/fields",
        Some("/v1/users/{id}/timeline") => "/v1/users/timeline",
        Some("/v1/alerts") => "/v1/alerts",
        Some("/healthz") => "/healthz",
        Some("/readyz") => "/readyz",
        Some("/metrics") => "/metrics",
        _ => "other",
    };
    let mut response = next.run(request).await;
    state.metrics.add_request(route, response.status().as_u16());
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn unknown_path() -> Response {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "path_unknown",
        "there is no such path",
        "events go to POST /v1/events, queries to POST /v1/sql, searches to POST /v1/search, OTLP to the ports 4317 and 4318",
    )
    .into_response()
}

/// Checks the request's key for a scope.
pub(crate) fn authorize(state: &ServerState, headers: &HeaderMap, scope: Scope) -> Result<(), ApiError> {
    let value = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or(""));
    match state.auth.check(value, scope) {
        Ok(_) => Ok(()),
        Err(AuthError::Scope { .. }) => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "key_lacks_scope",
            "the API key does not allow this",
            "make a key with the right scope: `sawlog key create --name NAME --scope SCOPE`",
        )),
        Err(error) => Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "key_needed",
            error.to_string(),
            "send `Authorization: Bearer KEY`; make a key with `sawlog key create`",
        )),
    }
}
