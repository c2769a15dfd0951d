//! `GET /v1/alerts`: the alert rules, and their groups that are pending or firing.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use sawlog_core::alert::GroupState;
use sawlog_core::time::to_rfc3339;
use serde_json::{Map, Value, json};

use crate::auth::Scope;
use crate::serve::authorize;
use crate::state::ServerState;

pub(crate) async fn get_alerts(State(state): State<Arc<ServerState>>, headers: HeaderMap) -> Response {
    if let Err(error) = authorize(&state, &headers, Scope::Query) {
        return error.into_response();
    }
    let pipeline = match state.backend.pipeline() {
        Ok(pipeline) => pipeline,
        Err(error) => return error.into_response(),
    };
    let (_, groups) = pipeline.judge_stats();
    let alerts = groups.iter().map(document).collect::<Vec<_>>();
    Json(json!({"rules": pipeline.alert_rules(), "alerts": alerts})).into_response()
}

fn document(group: &GroupState) -> Value {
    let dimensions = group.group.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
    json!({
        "rule": group.rule,
        "group": dimensions.collect::<Map<_, _>>(),
        "state": group.state.name(),
        "fired_at": group.fired_at.map(to_rfc3339),
    })
}
