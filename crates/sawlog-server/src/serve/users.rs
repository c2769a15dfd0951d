//! `GET /v1/users/{id}/timeline`: what one user did.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sawlog_core::rollup::PaneTiming;
use sawlog_core::session::{SessionRow, session_key};
use sawlog_core::time::to_rfc3339;
use sawlog_core::timeline::{Entry, Profile};
use sawlog_query::timeline::{LIMIT_MAX, Place, TimelineError, TimelineRequest, UserTimeline, user_timeline};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::auth::Scope;
use crate::error::ApiError;
use crate::serve::authorize;
use crate::serve::search::{bad, time};
use crate::state::ServerState;

const LIMIT: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TimelineQuery {
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(crate) async fn get_timeline(
    State(state): State<Arc<ServerState>>,
    user: Result<Path<String>, PathRejection>,
    query: Result<Query<TimelineQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    answer(&state, user, query, &headers).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(
    state: &ServerState,
    user: Result<Path<String>, PathRejection>,
    query: Result<Query<TimelineQuery>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    authorize(state, headers, Scope::Query)?;
    let hint = "known are from, to, limit and cursor";
    let Query(query) = query.map_err(|error| bad(error.body_text(), hint))?;
    let hint = "write the id in UTF-8, percent-encoded";
    let Path(user) = user.map_err(|error| bad(format!("the user's id: {}", error.body_text()), hint))?;
    let request = request_of(user, &query, state.backend.now_micros())?;
    let (view, user) = (state.backend.view(), request.user.clone());
    let read = tokio::task::spawn_blocking(move || user_timeline(&view, &request)).await;
    let failed = |message: String| {
        let hint = "try again; the server's log says more";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "timeline_failed", message, hint)
    };
    let read = read.map_err(|error| failed(error.to_string()))?;
    let found = read.map_err(|error: TimelineError| failed(error.to_string()))?;
    let found = found.ok_or_else(|| {
        let message = format!("nothing is known of user {user:.100?}");
        ApiError::new(StatusCode::NOT_FOUND, "user_unknown", message, "give the id as events name it in user_id")
    })?;
    Ok(Json(document(&user, &found)).into_response())
}

fn request_of(user: String, query: &TimelineQuery, now: i64) -> Result<TimelineRequest, ApiError> {
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(bad(format!("limit: {limit} is out of range"), format!("give from 1 to {LIMIT_MAX}")));
    }
    let (from, to) = (time("from", query.from.as_deref(), now)?, time("to", query.to.as_deref(), now)?);
    let cursor = query.cursor.as_deref().map(|text| {
        Place::parse(text)
            .ok_or_else(|| bad(format!("cursor: {text:.50?} is none"), "send `next` of the page before, as it is"))
    });
    let until = Place::at(to.unwrap_or(i64::MAX));
    let before = cursor.transpose()?.map_or(until.clone(), |cursor| cursor.min(until));
    Ok(TimelineRequest { user, from: from.unwrap_or(i64::MIN), before, limit })
}

fn document(user: &str, found: &UserTimeline) -> Value {
    json!({
        "user_id": user,
        "profile": found.profile.as_ref().map(profile),
        "sessions": found.sessions.iter().map(session).collect::<Vec<_>>(),
        "entries": found.entries.iter().map(entry).collect::<Vec<_>>(),
        "omitted_count": found.omitted_count,
        "next": found.next.as_ref().map(ToString::to_string),
    })
}

fn profile(profile: &Profile) -> Value {
    let latest = Profile::NAMES.iter().zip(&profile.latest).map(|(name, value)| {
        let value = value.as_ref().map(|(time, text)| json!({"value": text, "time": to_rfc3339(*time)}));
        ((*name).to_owned(), value.unwrap_or(Value::Null))
    });
    json!({
        "first_seen": to_rfc3339(profile.first_seen),
        "last_seen": to_rfc3339(profile.last_seen),
        "event_count": profile.event_count,
        "error_count": profile.error_count,
        "latest": latest.collect::<Map<_, _>>(),
    })
}

fn session(row: &SessionRow) -> Value {
    let session = &row.session;
    json!({
        "session_key": session_key(&row.user, session.first()),
        "session_start": to_rfc3339(session.first()),
        "session_end": to_rfc3339(session.last()),
        "is_open": row.timing == PaneTiming::Early,
        "event_count": session.event_count(),
        "error_count": session.error_count(),
        "path": session.path().collect::<Vec<_>>(),
    })
}

fn entry(entry: &Entry) -> Value {
    json!({
        "event_time": to_rfc3339(entry.time),
        "table": entry.kind.table(),
        "name": entry.name,
        "service": entry.service,
        "route": entry.route,
        "http_status": entry.status,
        "duration_us": entry.duration,
        "severity_class": entry.severity,
        "batch_id": entry.batch_id,
        "record_index": entry.record_index,
    })
}
