//! The receivers over a pipeline in memory, spoken to as clients do.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point,
};
use prost::Message;
use sawlog_core::rules::Rules;
use sawlog_seams::lake::MemoryLake;
use sawlog_seams::serving::MemoryServing;
use sawlog_seams::view::ViewSource;
use sawlog_seams::warehouse::MemoryWarehouse;
use sawlog_seams::{Disk, ManualClock, MemoryEventLog, SimDisk};
use sawlog_stream::{JudgeOptions, MemoryRulesArchive, PipelineOptions, Stores, StreamOptions};
use tonic::codec::CompressionEncoding;
use tower::ServiceExt;

use super::*;
use crate::auth::KeyStore;

const NOW: i64 = 1_795_489_200_000_000;

pub(crate) async fn state(memory_bytes_max: usize) -> Arc<OtlpState> {
    let rules = Arc::new(Rules::none());
    let archive = MemoryRulesArchive::default();
    archive.insert(Arc::clone(&rules));
    let disk = SimDisk::new(1);
    let folder = PathBuf::from("/data");
    disk.create_dir_all(&folder).expect("a folder");
    let stores = Stores {
        log: Arc::new(MemoryEventLog::new()),
        lake: Some(Arc::new(MemoryLake::default())),
        warehouse: Arc::new(MemoryWarehouse::default()),
        serving: Arc::new(MemoryServing::default()),
        disk: Arc::new(disk),
        clock: Arc::new(ManualClock::at_micros(NOW)),
        archive: Arc::new(archive),
    };
    let options = PipelineOptions {
        folder,
        flush_bytes: usize::MAX,
        flush_interval: Duration::from_secs(3600),
        memory_bytes_max,
        workers: NonZeroUsize::MIN,
        dedup_window: Duration::from_secs(3600),
        stream: StreamOptions::default(),
        judge: JudgeOptions::default(),
        dedup_keys_max: u64::MAX,
        disk_free_min: 0,
    };
    let pipeline = Pipeline::open(options, stores, rules).await.expect("the pipeline opens").0;
    let keys =
        KeyStore::open(&std::env::temp_dir().join("sawlog-tests-without-keys.json")).expect("a store without keys");
    Arc::new(OtlpState {
        pipeline: Arc::new(pipeline),
        auth: Arc::new(AuthPolicy::new(keys, true)),
        metrics: Arc::default(),
        bodies: Arc::new(Semaphore::new(4)),
        body_bytes_max: 1 << 20,
        age: AgeLimits::default(),
    })
}

pub(crate) fn row_count(state: &OtlpState, table: &str) -> usize {
    let view = state.pipeline.view();
    view.tables[table].hot.iter().map(|batch| batch.num_rows()).sum()
}

fn logs(messages: &[&str]) -> ExportLogsServiceRequest {
    let record = |message: &&str| LogRecord {
        body: Some(AnyValue { value: Some(any_value::Value::StringValue((*message).to_owned())) }),
        ..LogRecord::default()
    };
    let log_records = messages.iter().map(record).collect();
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
}

/// Logs of which the second is too old.
fn with_dead_letter() -> ExportLogsServiceRequest {
    let mut request = logs(&["fine", "old"]);
    request.resource_logs[0].scope_logs[0].log_records[1].time_unix_nano = 1_000;
    request
}

async fn post(state: &Arc<OtlpState>, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response<Body> {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body)).expect("a request");
    router(Arc::clone(state)).oneshot(request).await.expect("an answer")
}

async fn body_of(response: Response<Body>) -> Vec<u8> {
    axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body").to_vec()
}

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

#[tokio::test]
async fn a_grpc_client_exports_in_every_compression() {
    let state = state(usize::MAX).await;
    for encoding in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let mut client = LogsServiceClient::new(LogsServer::new(Arc::clone(&state)));
        if let Some(encoding) = encoding {
            client = client.send_compressed(encoding);
        }
        let mut request = tonic::Request::new(logs(&["a", "b"]));
        request.metadata_mut().insert(ACK, "memory".parse().expect("a value"));
        let response = client.export(request).await.expect("taken");
        assert_eq!(response.metadata().get(ACK).expect("the level"), "memory");
        assert_eq!(response.into_inner().partial_success, None);
    }
    // At level `disk`, and behind the others in the log: when it is answered, all are applied.
    let value = Some(number_data_point::Value::AsInt(1));
    let data_points = vec![NumberDataPoint { value, ..NumberDataPoint::default() }];
    let data = Some(metric::Data::Gauge(Gauge { data_points }));
    let metrics = vec![Metric { name: "m".to_owned(), data, ..Metric::default() }];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    let mut client = MetricsServiceClient::new(MetricsServer::new(Arc::clone(&state)));
    let response = client.export(ExportMetricsServiceRequest { resource_metrics }).await.expect("taken");
    assert_eq!(response.metadata().get(ACK).expect("the level"), "disk");
    assert_eq!((row_count(&state, "logs"), row_count(&state, "metrics")), (6, 1));
}

#[tokio::test]
async fn a_dead_letter_is_spoken_of_but_not_rejected() {
    let state = state(usize::MAX).await;
    let mut client = LogsServiceClient::new(LogsServer::new(Arc::clone(&state)));
    let partial =
        client.export(with_dead_letter()).await.expect("taken").into_inner().partial_success.expect("a remark");
    assert_eq!(partial.rejected_log_records, 0);
    assert!(partial.error_message.starts_with("1 records are kept as dead letters"), "{}", partial.error_message);
    assert_eq!((row_count(&state, "logs"), row_count(&state, "dead_letters")), (1, 1));
}

#[tokio::test]
async fn an_overloaded_server_tells_grpc_clients_when_to_send_again() {
    let mut client = LogsServiceClient::new(LogsServer::new(state(0).await));
    let status = client.export(logs(&["a"])).await.expect_err("refused");
    assert_eq!(status.code(), Code::ResourceExhausted);
    // google.rpc.Status: code 8, message, and one detail whose value is RetryInfo{retry_delay{seconds: 1}}.
    assert_eq!(&status.details()[..2], [0x08, 8]);
    assert!(status.details().ends_with(b"type.googleapis.com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x01"));
}

#[tokio::test]
async fn grpc_refuses_strangers_and_bodies_past_the_limit() {
    let state = state(usize::MAX).await;
    let mut client = LogsServiceClient::new(LogsServer::new(Arc::clone(&state)));
    let mut request = tonic::Request::new(logs(&["a"]));
    request.metadata_mut().insert("authorization", "Bearer wrong".parse().expect("a value"));
    assert_eq!(client.export(request).await.expect_err("refused").code(), Code::Unauthenticated);
    let mut request = tonic::Request::new(logs(&["a"]));
    request.metadata_mut().insert(ACK, "paper".parse().expect("a value"));
    assert_eq!(client.export(request).await.expect_err("refused").code(), Code::InvalidArgument);
    let mut client = client.send_compressed(CompressionEncoding::Gzip);
    let bomb = logs(&[&"x".repeat(4 << 20)]);
    assert_eq!(client.export(bomb).await.expect_err("refused").code(), Code::ResourceExhausted);
    assert_eq!(row_count(&state, "logs"), 0);
    // The unknown level is a mistake of the call; the stranger and the bomb were refused what they sent.
    assert!(
        state.metrics.to_text().contains("source=\"otlp-grpc\",outcome=\"rejected\"} 2"),
        "{}",
        state.metrics.to_text()
    );
    let response = post(&state, "/v1/logs", &[PROTOBUF, ("authorization", "Bearer wrong")], Vec::new()).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(state.metrics.to_text().contains("source=\"otlp-http\",outcome=\"rejected\"} 1"));
    let rejected = |source: &str| {
        let lines = state.pipeline.hot_ledger();
        lines.iter().filter(|line| line.source == source).map(|line| line.counts.rejected).sum::<u64>()
    };
    // Notes are applied on the pipeline's own thread.
    let deadline = Instant::now() + Duration::from_secs(10);
    while (rejected("otlp-grpc"), rejected("otlp-http")) != (2, 1) {
        assert!(Instant::now() < deadline, "{:?}", state.pipeline.hot_ledger());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn http_takes_protobuf_and_json_and_answers_in_kind() {
    let state = state(usize::MAX).await;
    let protobuf = logs(&["a"]).encode_to_vec();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&protobuf).expect("in memory");
    let gzip = encoder.finish().expect("in memory");
    let zstd = zstd::bulk::compress(&protobuf, 1).expect("in memory");
    for (encoding, body) in [("identity", protobuf), ("gzip", gzip), ("zstd", zstd)] {
        let response = post(&state, "/v1/logs", &[PROTOBUF, ("content-encoding", encoding)], body).await;
        assert_eq!(response.status(), StatusCode::OK, "{encoding}");
        assert_eq!(response.headers()["content-type"], "application/x-protobuf");
        assert_eq!(response.headers()[ACK], "disk");
        assert_eq!(body_of(response).await, b"");
    }
    let json = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":"1"}]}}]}]}]}"#;
    let response = post(&state, "/v1/metrics", &[JSON], json.to_vec()).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(body_of(response).await, b"{}");
    assert_eq!((row_count(&state, "logs"), row_count(&state, "metrics")), (3, 1));
    let response = post(&state, "/v1/logs", &[PROTOBUF], with_dead_letter().encode_to_vec()).await;
    let answer = ExportLogsServiceResponse::decode(&body_of(response).await[..]).expect("an answer");
    assert_eq!(answer.partial_success.expect("a remark").rejected_log_records, 0);
}

#[tokio::test]
async fn http_refuses_with_a_status_that_says_whether_to_send_again() {
    let state = state(usize::MAX).await;
    let good = logs(&["a"]).encode_to_vec();
    let wrong = ("authorization", "Bearer wrong");
    for (path, headers, body, status) in [
        ("/v1/logs", vec![PROTOBUF], b"hello".to_vec(), StatusCode::BAD_REQUEST),
        ("/v1/logs", vec![JSON], b"hello".to_vec(), StatusCode::BAD_REQUEST),
        ("/v1/logs", vec![PROTOBUF, ("content-encoding", "gzip")], good.clone(), StatusCode::BAD_REQUEST),
        ("/v1/logs", vec![PROTOBUF, ("content-encoding", "br")], good.clone(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("/v1/logs", vec![("content-type", "text/plain")], good.clone(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("/v1/logs", vec![PROTOBUF], vec![0; (1 << 20) + 1], StatusCode::PAYLOAD_TOO_LARGE),
        ("/v1/logs", vec![PROTOBUF, wrong], good.clone(), StatusCode::UNAUTHORIZED),
        ("/v1/logs", vec![PROTOBUF, (ACK, "paper")], good.clone(), StatusCode::BAD_REQUEST),
        ("/v1/traces", vec![PROTOBUF], good.clone(), StatusCode::NOT_FOUND),
    ] {
        let response = post(&state, path, &headers, body).await;
        assert_eq!(response.status(), status, "{path} {headers:?}");
        assert!(!response.headers().contains_key("retry-after"));
    }
    let response = post(&state, "/v1/logs", &[JSON], b"hello".to_vec()).await;
    let error: serde_json::Value = serde_json::from_slice(&body_of(response).await).expect("JSON");
    assert_eq!(error["code"], 3);
    assert!(error["message"].as_str().expect("text").contains("otlp-logs-json"), "{error}");
    let overloaded = self::state(0).await;
    let response = post(&overloaded, "/v1/logs", &[JSON], b"{}".to_vec()).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "1");
    let error: serde_json::Value = serde_json::from_slice(&body_of(response).await).expect("JSON");
    assert_eq!(error["details"][0]["retryDelay"], "1.000000000s");
}
