//! `GET /v1/deploys`: when services got another version, newest first.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sawlog_query::{DeploysQuery, OutputFormat, json_rows};
use serde::Deserialize;

use crate::auth::Scope;
use crate::error::ApiError;
use crate::serve::authorize;
use crate::serve::search::{bad, time};
use crate::state::ServerState;

/// Deploys of one answer.
const DEPLOYS_MAX: usize = 1_000;
/// Reach of a request that says nothing of it.
const REACH_MICROS: i64 = 30 * 86_400_000_000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DeploysRequest {
    from: Option<String>,
    to: Option<String>,
    service: Option<String>,
}

pub(crate) async fn get_deploys(
    State(state): State<Arc<ServerState>>,
    query: Result<Query<DeploysRequest>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    answer(&state, query, &headers).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(
    state: &ServerState,
    query: Result<Query<DeploysRequest>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    authorize(state, headers, Scope::Query)?;
    let Query(request) = query.map_err(|error| bad(error.body_text(), "known are from, to and service"))?;
    let query = query_of(request, state.backend.now_micros())?;
    let result = state.queries.deploys(query).await?;
    state.metrics.observe_query(result.elapsed.as_secs_f64());
    let encoded = tokio::task::spawn_blocking(move || json_rows(&result, "deploys")).await;
    let bytes = encoded.map_err(|error| error.to_string()).and_then(|bytes| bytes.map_err(|error| error.to_string()));
    let bytes = bytes.map_err(|message| {
        let hint = "ask for the table deploys in SQL";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "encoding", message, hint)
    })?;
    Ok(([(header::CONTENT_TYPE, OutputFormat::Json.content_type())], bytes).into_response())
}

fn query_of(request: DeploysRequest, now: i64) -> Result<DeploysQuery, ApiError> {
    let to = time("to", request.to.as_deref(), now)?;
    let from = time("from", request.from.as_deref(), now)?;
    let from = from.unwrap_or_else(|| to.unwrap_or(now).saturating_sub(REACH_MICROS));
    if to.is_some_and(|to| to <= from) {
        return Err(bad("to: it is not after from", "give a range of time from the older to the newer moment"));
    }
    Ok(DeploysQuery { from: Some(from), to, service: request.service, limit: DEPLOYS_MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn query(from: Option<&str>, to: Option<&str>) -> Result<(Option<i64>, Option<i64>), String> {
        let request = DeploysRequest { from: from.map(str::to_owned), to: to.map(str::to_owned), service: None };
        let query = query_of(request, 100 * DAY).map_err(|error| error.message)?;
        Ok((query.from, query.to))
    }

    #[test]
    fn a_request_reaches_back_thirty_days_unless_it_says_otherwise() {
        assert_eq!(query(None, None), Ok((Some(70 * DAY), None)));
        assert_eq!(query(None, Some("-1d")), Ok((Some(69 * DAY), Some(99 * DAY))));
        assert_eq!(query(Some("-2d"), Some("-1d")), Ok((Some(98 * DAY), Some(99 * DAY))));
        assert_eq!(query(Some("-1d"), Some("-2d")), Err("to: it is not after from".to_owned()));
        assert_eq!(query(Some("soon"), None), Err("from: \"soon\" is no time".to_owned()));
    }
}
