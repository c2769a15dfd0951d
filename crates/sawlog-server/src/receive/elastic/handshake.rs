//! What clients ask before they send: who is there, in which version, under which licence.
//!
//! For: `GET /`, `HEAD /`, `GET /_license`, `GET /_xpack` and `GET /_cluster/health`. Not for: the page, which has the
//! same address: programs that ask for JSON or say that they are Elasticsearch clients get the handshake.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{as_elasticsearch, refuse};
use crate::auth::Scope;
use crate::serve::{authorize, page};
use crate::state::ServerState;

/// Version whose bulk protocol is spoken. Beats and Logstash refuse versions that are much older than their own.
const VERSION: &str = "8.19.0";
/// Words in `User-Agent` of clients that may not ask for JSON in so many words.
const CLIENTS: [&str; 4] = ["elasticsearch", "elastic-", "logstash", "vector/"];

/// `GET /` and `HEAD /`.
pub(crate) async fn root(State(state): State<Arc<ServerState>>, headers: HeaderMap, uri: Uri) -> Response {
    if !is_client(&headers) {
        return page(uri).await;
    }
    answer(
        &state,
        &headers,
        json!({
            "name": "sawlog",
            "cluster_name": "sawlog",
            "cluster_uuid": "sawlog",
            "version": {
                "number": VERSION,
                "build_flavor": "default",
                "build_type": "sawlog",
                "build_hash": env!("CARGO_PKG_VERSION"),
                "minimum_wire_compatibility_version": "7.17.0",
                "minimum_index_compatibility_version": "7.0.0",
            },
            "tagline": "You Know, for Search",
        }),
    )
}

/// `GET /_license`.
pub(crate) async fn license(State(state): State<Arc<ServerState>>, headers: HeaderMap) -> Response {
    let license = json!({"status": "active", "uid": "sawlog", "type": "basic", "issued_to": "sawlog"});
    answer(&state, &headers, json!({"license": license}))
}

/// `GET /_xpack`.
pub(crate) async fn xpack(State(state): State<Arc<ServerState>>, headers: HeaderMap) -> Response {
    let license = json!({"uid": "sawlog", "type": "basic", "mode": "basic", "status": "active"});
    answer(&state, &headers, json!({"license": license, "features": {}}))
}

/// `GET /_cluster/health`.
pub(crate) async fn health(State(state): State<Arc<ServerState>>, headers: HeaderMap) -> Response {
    let status = if state.readiness.get() { "green" } else { "red" };
    answer(&state, &headers, json!({"cluster_name": "sawlog", "status": status, "number_of_nodes": 1}))
}

fn is_client(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_ascii_lowercase();
    let (accept, agent) = (text(header::ACCEPT), text(header::USER_AGENT));
    let is_marked = headers.keys().any(|name| name.as_str().starts_with("x-elastic-"));
    !accept.contains("text/html")
        && (is_marked || accept.contains("json") || CLIENTS.iter().any(|client| agent.contains(client)))
}

fn answer(state: &ServerState, headers: &HeaderMap, body: Value) -> Response {
    as_elasticsearch(match authorize(state, headers, Scope::Ingest) {
        Ok(()) => Json(body).into_response(),
        Err(error) => refuse(error),
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn clients_are_told_from_browsers() {
        let headers = |pairs: &[(&'static str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")))
                .collect::<HeaderMap>()
        };
        for client in [
            &[("accept", "application/vnd.elasticsearch+json; compatible-with=9")][..],
            &[("accept", "application/json"), ("user-agent", "Elastic-filebeat/8.19.0")],
            &[("x-elastic-product-origin", "logstash-output-elasticsearch")],
            &[("accept", "*/*"), ("user-agent", "Vector/0.40.0")],
        ] {
            assert!(is_client(&headers(client)), "{client:?}");
        }
        for other in [
            &[][..],
            &[("accept", "*/*"), ("user-agent", "curl/8.5.0")],
            &[("accept", "text/html,application/xhtml+xml,*/*;q=0.8"), ("user-agent", "Mozilla/5.0")],
        ] {
            assert!(!is_client(&headers(other)), "{other:?}");
        }
    }
}
