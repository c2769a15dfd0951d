//! `POST /v1/sql`: a query as JSON (`{"query": "SELECT …"}`) or plain text; the answer in the form that Accept asks for.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sawlog_query::{OutputFormat, encode};
use serde::Deserialize;

use crate::auth::Scope;
use crate::error::ApiError;
use crate::serve::authorize;
use crate::state::ServerState;

/// Names the limit that cut the answer off: `rows` or `bytes`. Absent from a whole answer.
const CUT_HEADER: &str = "x-sawlog-cut-by";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    query: String,
}

pub(crate) async fn post_sql(State(state): State<Arc<ServerState>>, headers: HeaderMap, body: Bytes) -> Response {
    match answer(&state, &headers, &body).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn answer(state: &ServerState, headers: &HeaderMap, body: &[u8]) -> Result<Response, ApiError> {
    authorize(state, headers, Scope::Query)?;
    let sql = query_text(headers, body)?;
    let format = output_format(headers)?;
    let result = state.queries.run(&sql).await?;
    state.metrics.observe_query(result.elapsed.as_secs_f64());
    let cut = result.cut;
    let encoded = tokio::task::spawn_blocking(move || encode(&result, format)).await;
    let bytes = encoded.map_err(|error| error.to_string()).and_then(|bytes| bytes.map_err(|error| error.to_string()));
    let bytes = bytes.map_err(|message| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "encoding", message, "cast the column to text")
    })?;
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], bytes).into_response();
    if let Some(cut) = cut {
        // Rows in these forms cannot say that some are missing.
        response.headers_mut().insert(CUT_HEADER, HeaderValue::from_static(cut.name()));
    }
    Ok(response)
}

fn query_text(headers: &HeaderMap, body: &[u8]) -> Result<String, ApiError> {
    let bad = |message: String| {
        let hint = "send {\"query\": \"SELECT …\"} as application/json, or the SQL itself as text/plain";
        ApiError::new(StatusCode::BAD_REQUEST, "request_invalid", message, hint)
    };
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_json = content_type.contains("json")
        || (!content_type.starts_with("text/plain") && body.trim_ascii_start().first() == Some(&b'{'));
    if is_json {
        let request: SqlRequest = serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
        return Ok(request.query);
    }
    String::from_utf8(body.to_vec()).map_err(|_| bad("the query is not UTF-8".to_owned()))
}

pub(crate) fn output_format(headers: &HeaderMap) -> Result<OutputFormat, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    for wanted in accept.split(',') {
        match wanted.split(';').next().unwrap_or_default().trim() {
            "application/json" | "*/*" | "application/*" | "" => return Ok(OutputFormat::Json),
            "application/x-ndjson" | "application/ndjson" => return Ok(OutputFormat::Ndjson),
            "text/csv" => return Ok(OutputFormat::Csv),
            "application/vnd.apache.arrow.stream" => return Ok(OutputFormat::ArrowStream),
            _ => {}
        }
    }
    Err(ApiError::new(
        StatusCode::NOT_ACCEPTABLE,
        "format_unknown",
        format!("no format of Accept: {accept:.100} is known"),
        "use application/json, application/x-ndjson, text/csv or application/vnd.apache.arrow.stream",
    ))
}
