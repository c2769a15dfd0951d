//! `POST /v1/search` and `GET /v1/fields`: finding rows with a filter, and the fields to filter by.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sawlog_core::schema::Table;
use sawlog_query::filter::{self, parse_time};
use sawlog_query::search::{Order, Search, SearchError};
use sawlog_query::summary::FieldSummary;
use sawlog_query::{OutputFormat, encode, json_page};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::Scope;
use crate::error::ApiError;
use crate::serve::authorize;
use crate::serve::sql::output_format;
use crate::state::ServerState;

const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-sawlog-next-cursor");

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SearchRequest {
    filter: String,
    table: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    order: Option<String>,
    cursor: Option<String>,
    columns: Vec<String>,
}

/// What `GET /v1/fields` and `GET /v1/tail` are asked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FilterQuery {
    pub(crate) filter: String,
    pub(crate) table: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

pub(crate) fn bad(message: impl Into<String>, hint: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "request_invalid", message, hint)
}

/// The table that a request names; `logs` if it names none.
pub(crate) fn table(name: Option<&str>) -> Result<Table, ApiError> {
    let name = name.unwrap_or("logs");
    Table::ALL.into_iter().find(|table| table.name() == name).ok_or_else(|| {
        let hint = "search in logs, metrics, activity or dead_letters; all others are for SQL";
        bad(format!("table: {name:.50?} cannot be searched"), hint)
    })
}

/// A time of the request.
pub(crate) fn time(field: &str, text: Option<&str>, now: i64) -> Result<Option<i64>, ApiError> {
    let read = |text: &str| {
        parse_time(text, now)
            .ok_or_else(|| bad(format!("{field}: {text:.50?} is no time"), "write -15m, now, or 2026-03-01T10:00:00Z"))
    };
    text.map(read).transpose()
}

pub(crate) async fn post_search(State(state): State<Arc<ServerState>>, headers: HeaderMap, body: Bytes) -> Response {
    answer(&state, &headers, &body).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(state: &ServerState, headers: &HeaderMap, body: &[u8]) -> Result<Response, ApiError> {
    authorize(state, headers, Scope::Query)?;
    let hint = "send {\"filter\": \"service:shop error\", \"from\": \"-1h\", \"limit\": 100} as application/json";
    let request: SearchRequest = serde_json::from_slice(body).map_err(|error| bad(error.to_string(), hint))?;
    let format = output_format(headers)?;
    let search = search_of(request, state.backend.now_micros())?;
    let page = state.queries.search(&search).await?;
    state.metrics.observe_query(page.result.elapsed.as_secs_f64());
    let next = page.next.clone();
    let encoded = tokio::task::spawn_blocking(move || match format {
        OutputFormat::Json => json_page(&page.result, page.next.as_deref()),
        _ => encode(&page.result, format),
    });
    let failed = |message: String| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "encoding", message, "use SQL");
    let bytes = encoded.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], bytes).into_response();
    if let Some(value) = next.and_then(|next| HeaderValue::from_str(&next).ok()) {
        response.headers_mut().insert(NEXT_CURSOR, value);
    }
    Ok(response)
}

fn search_of(request: SearchRequest, now: i64) -> Result<Search, ApiError> {
    let mut search = Search::new(table(request.table.as_deref())?, filter::parse(&request.filter)?, now);
    search.from = time("from", request.from.as_deref(), now)?;
    search.to = time("to", request.to.as_deref(), now)?;
    search.limit = request.limit.unwrap_or(search.limit);
    search.order = match request.order.as_deref() {
        None | Some("newest") => Order::Newest,
        Some("oldest") => Order::Oldest,
        Some(other) => return Err(bad(format!("order: {other:.50?} is none"), "write newest or oldest")),
    };
    (search.cursor, search.columns) = (request.cursor, request.columns);
    Ok(search)
}

pub(crate) async fn get_fields(
    State(state): State<Arc<ServerState>>,
    query: Result<Query<FilterQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    fields(&state, query, &headers).await.unwrap_or_else(IntoResponse::into_response)
}

async fn fields(
    state: &ServerState,
    query: Result<Query<FilterQuery>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    authorize(state, headers, Scope::Query)?;
    let query = query_of(query)?;
    let now = state.backend.now_micros();
    let mut search = Search::new(table(query.table.as_deref())?, filter::parse(&query.filter)?, now);
    search.from = time("from", query.from.as_deref(), now)?;
    search.to = time("to", query.to.as_deref(), now)?;
    let summary = state.queries.fields(&search).await?;
    Ok(Json(document(&summary)).into_response())
}

/// The parameters of the address.
pub(crate) fn query_of(query: Result<Query<FilterQuery>, QueryRejection>) -> Result<FilterQuery, ApiError> {
    let hint = "known are filter, table, from and to";
    query.map(|Query(query)| query).map_err(|error| bad(error.body_text(), hint))
}

fn document(summary: &FieldSummary) -> Value {
    let fields = summary.fields.iter().map(|field| {
        let values = field.values.iter().map(|(value, rows)| json!({"value": value, "rows": rows}));
        json!({
            "name": field.name,
            "kind": if field.is_attribute { "attribute" } else { "column" },
            "types": field.types,
            "rows": field.row_count,
            "values": values.collect::<Vec<_>>(),
        })
    });
    json!({"rows": summary.row_count, "sample": summary.is_sample, "fields": fields.collect::<Vec<_>>()})
}

impl From<filter::FilterError> for ApiError {
    fn from(error: filter::FilterError) -> Self {
        let place = (error.span.start, error.span.end);
        Self::new(StatusCode::BAD_REQUEST, "filter_invalid", error.message, error.hint).at(place)
    }
}

impl From<SearchError> for ApiError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Filter(error) => error.into(),
            SearchError::Query(error) => error.into(),
            SearchError::Request { .. } => bad(error.to_string(), error.hint()),
        }
    }
}
