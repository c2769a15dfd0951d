//! Health and metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sawlog_core::alert::State as AlertState;
use sawlog_stream::Pipeline;
use sawlog_telemetry::Metrics;

use crate::auth::Scope;
use crate::backend::Backend;
use crate::serve::authorize;
use crate::state::ServerState;

/// Says that the process is alive.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Says whether the server takes events and answers queries.
pub(crate) async fn readyz(State(state): State<Arc<ServerState>>) -> Response {
    if !state.readiness.get() {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n").into_response();
    }
    if let Some(reason) = state.backend.refusal() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response();
    }
    "ready\n".into_response()
}

/// Sawlog's own metrics, in the OpenMetrics text format.
pub(crate) async fn metrics(State(state): State<Arc<ServerState>>, headers: HeaderMap) -> Response {
    if let Err(error) = authorize(&state, &headers, Scope::Query) {
        return error.into_response();
    }
    match &state.backend {
        Backend::Worker(pipeline) => note_pipeline(pipeline, &state.metrics),
        Backend::Reader(reader) => reader.count(&state.metrics),
    }
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], state.metrics.to_text()).into_response()
}

fn note_pipeline(pipeline: &Pipeline, metrics: &Metrics) {
    let log = pipeline.log().stats();
    metrics.set_log(log.appended_records, log.appended_bytes, log.syncs, log.segments as usize);
    metrics.set_hot_bytes(pipeline.memory_bytes());
    let dedup = pipeline.dedup_stats();
    metrics.set_dedup(dedup.ids, dedup.filter_bytes, dedup.evicted_ids);
    let stream = pipeline.stream_stats();
    if let Some(watermark) = stream.watermark {
        metrics.set_watermark(watermark.div_euclid(1_000_000));
    }
    for (rollup, series, other_events) in stream.rollups {
        metrics.set_rollup(rollup.name(), series, other_events);
    }
    let (watch, groups) = pipeline.judge_stats();
    let in_state = |state: AlertState| groups.iter().filter(|group| group.state == state).count();
    metrics.set_verdicts(
        watch.series,
        watch.refused_readings,
        in_state(AlertState::Pending),
        in_state(AlertState::Firing),
    );
    metrics.set_alert_state(pipeline.refused_by_alerts(), pipeline.alert_state_bytes());
    let delay = pipeline.on_time_delay();
    for (name, quantile) in [("0.5", 0.5), ("0.99", 0.99)] {
        if let Some(micros) = delay.quantile(quantile) {
            metrics.set_on_time_delay(name, micros / 1e6);
        }
    }
    for (table, counts) in pipeline.lookup_stats() {
        metrics.set_enrichment(&table, counts.matches, counts.misses);
    }
}
