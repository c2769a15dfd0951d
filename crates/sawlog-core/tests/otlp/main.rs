//! OTLP through the whole transform: real messages in, rows out.

mod json;
mod random;

use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message;
use sawlog_core::batch::{self, AgeLimits, Format, RawBatch};
use sawlog_core::lake;
use sawlog_core::rollup::{Admission, Cell, Deltas, RollupOptions, Width};
use sawlog_core::rules::Rules;
use sawlog_core::schema::Table;
use sawlog_core::transform::{TransformError, Transformed, transform};
use serde_json::Value as Json;

use crate::json::{logs_json, metrics_json};
use crate::random::{any_logs, any_metrics};

const NOW: i64 = 1_795_489_200_000_000;
const NOW_NANOS: u64 = NOW as u64 * 1000;

fn raw(format: Format, body: &[u8]) -> RawBatch<'_> {
    RawBatch {
        batch_id: "b",
        source: "otlp-grpc",
        file: None,
        format,
        is_declared: true,
        receive_time: NOW,
        age: AgeLimits::default(),
        body,
    }
}

/// The rows of a body, which are those of its rows in the lake too.
fn run(format: Format, body: &[u8]) -> Result<Transformed, TransformError> {
    let rows = transform(&raw(format, body), &Rules::none())?;
    assert!(rows.counts.closes());
    let stored = lake::rows(&[raw(format, body)]).expect("the body can be split");
    let again = lake::transform(&stored, AgeLimits::default(), &Rules::none()).expect("rows of the lake");
    assert_eq!((&again.tables, &again.ids, again.counts), (&rows.tables, &rows.ids, rows.counts));
    Ok(rows)
}

fn table(rows: &Transformed, table: Table) -> &RecordBatch {
    &rows.tables[table as usize]
}

fn text(batch: &RecordBatch, column: &str, row: usize) -> Option<String> {
    let column = batch.column_by_name(column).expect("a column").as_string::<i32>();
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn int(batch: &RecordBatch, column: &str, row: usize) -> Option<i64> {
    let array = batch.column_by_name(column).expect("a column");
    array.is_valid(row).then(|| match array.as_primitive_opt::<Int64Type>() {
        Some(wide) => wide.value(row),
        None => match array.as_primitive_opt::<Int32Type>() {
            Some(narrow) => i64::from(narrow.value(row)),
            None => array.as_primitive::<TimestampMicrosecondType>().value(row),
        },
    })
}

fn float(batch: &RecordBatch, column: &str, row: usize) -> Option<f64> {
    let array = batch.column_by_name(column).expect("a column").as_primitive::<Float64Type>();
    array.is_valid(row).then(|| array.value(row))
}

/// The entries of a map column with their type letters: `key=letter:value`.
fn map(batch: &RecordBatch, column: &str, types: &str, row: usize) -> Vec<String> {
    let array = batch.column_by_name(column).expect("a column").as_map();
    if array.is_null(row) {
        return Vec::new();
    }
    let letters = text(batch, types, row).expect("letters").into_bytes();
    let entries = array.value(row);
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    let show = |index: usize| {
        let value = if values.is_valid(index) { values.value(index) } else { "∅" };
        format!("{}={}:{value}", keys.value(index), char::from(letters[index]))
    };
    assert_eq!(letters.len(), entries.len());
    (0..entries.len()).map(show).collect()
}

fn attributes(batch: &RecordBatch, row: usize) -> Vec<String> {
    map(batch, "attributes", "attribute_types", row)
}

fn of(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn string(text: &str) -> AnyValue {
    of(Value::StringValue(text.to_owned()))
}

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn kvlist(values: Vec<KeyValue>) -> AnyValue {
    of(Value::KvlistValue(KeyValueList { values }))
}

fn array(values: Vec<AnyValue>) -> AnyValue {
    of(Value::ArrayValue(ArrayValue { values }))
}

fn resource() -> Resource {
    Resource {
        attributes: vec![
            pair("service.name", string("checkout")),
            pair("service.version", string("1.2")),
            pair("deployment.environment.name", string("prod")),
            pair("host.name", string("h1")),
            pair("cloud.region", string("eu")),
            pair("process.pid", of(Value::IntValue(7))),
        ],
        dropped_attributes_count: 3,
        entity_refs: Vec::new(),
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "my.logger".to_owned(),
        version: "0.1".to_owned(),
        attributes: vec![pair("service.name", string("none of the service's business"))],
        dropped_attributes_count: 0,
    }
}

fn logs(records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let scope_logs = vec![ScopeLogs { scope: Some(scope()), log_records: records, schema_url: "urn:s".to_owned() }];
    let resource_logs = vec![ResourceLogs { resource: Some(resource()), scope_logs, schema_url: "urn:r".to_owned() }];
    ExportLogsServiceRequest { resource_logs }
}

fn metrics(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, schema_url: String::new() }];
    let one = ResourceMetrics { resource: Some(resource()), scope_metrics, schema_url: String::new() };
    ExportMetricsServiceRequest { resource_metrics: vec![one] }
}

fn metric(name: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        description: "what it is".to_owned(),
        unit: "By".to_owned(),
        metadata: vec![pair("m", string("1"))],
        data: Some(data),
    }
}

fn full_record() -> LogRecord {
    LogRecord {
        time_unix_nano: NOW_NANOS + 1_234,
        observed_time_unix_nano: NOW_NANOS + 2_000,
        severity_number: 17,
        severity_text: "Error".to_owned(),
        body: Some(string("payment failed")),
        attributes: vec![
            pair("http.request.method", string("POST")),
            pair("http.response.status_code", of(Value::IntValue(502))),
            pair("url.path", string("/pay/123")),
            pair("log.record.uid", string("uid-1")),
            pair("event_id", of(Value::IntValue(4624))),
            pair("kind", string("metric")),
            pair("time", string("not a time")),
            pair("big", of(Value::IntValue(i64::MAX))),
            pair("ratio", of(Value::DoubleValue(0.1))),
            pair("nan", of(Value::DoubleValue(f64::NAN))),
            pair("ok", of(Value::BoolValue(true))),
            pair("raw", of(Value::BytesValue(vec![0xfb, 0xff]))),
            pair("word", string("none")),
            pair("nothing", AnyValue { value: None }),
            pair("nested", kvlist(vec![pair("a", kvlist(vec![pair("b", of(Value::IntValue(1)))]))])),
            pair(
                "list",
                array(vec![string("x\"\n\u{1}"), of(Value::DoubleValue(1.0)), kvlist(vec![pair("k", string("v"))])]),
            ),
        ],
        dropped_attributes_count: 2,
        flags: 0x101,
        trace_id: vec![0xab; 16],
        span_id: vec![0xcd; 8],
        event_name: "pay".to_owned(),
    }
}

#[test]
fn a_log_record_keeps_everything_it_says() {
    let rows = run(Format::OtlpLogs, &logs(vec![full_record()]).encode_to_vec()).expect("rows");
    let row = table(&rows, Table::Logs);
    assert_eq!(row.num_rows(), 1);
    for (column, wanted) in [
        ("severity_text", "Error"),
        ("severity_class", "error"),
        ("service", "checkout"),
        ("service_version", "1.2"),
        ("environment", "prod"),
        ("region", "eu"),
        ("host", "h1"),
        ("logger", "my.logger"),
        ("message", "payment failed"),
        ("event_name", "pay"),
        ("trace_id", "abababababababababababababababab"),
        ("span_id", "cdcdcdcdcdcdcdcd"),
        ("http_method", "POST"),
        ("http_path", "/pay/123"),
        ("insert_id", "uid-1"),
    ] {
        assert_eq!(text(row, column, 0).as_deref(), Some(wanted), "{column}");
    }
    assert_eq!(int(row, "event_time", 0), Some(NOW + 1));
    assert_eq!(int(row, "event_time_nanos", 0), Some(234));
    assert_eq!(int(row, "observed_time", 0), Some(NOW + 2));
    assert_eq!(int(row, "severity_number", 0), Some(17));
    assert_eq!(int(row, "trace_flags", 0), Some(1));
    assert_eq!(int(row, "http_status", 0), Some(502));
    assert_eq!(
        attributes(row, 0),
        [
            "otel.scope.version=s:0.1",
            "otel.scope.service.name=s:none of the service's business",
            "event_id=i:4624",
            "kind=s:metric",
            "time=s:not a time",
            "big=i:9223372036854775807",
            "ratio=d:0.1",
            "nan=d:NaN",
            "ok=b:true",
            "raw=x:+/8=",
            "word=s:none",
            "nothing=n:∅",
            "nested.a.b=i:1",
            "list=j:[\"x\\\"\\n\\u0001\",1.0,{\"k\":\"v\"}]",
            "otel.dropped_attributes_count=i:2",
            "otel.flags=i:257",
        ]
    );
    assert_eq!(
        map(row, "resource", "resource_types", 0),
        [
            "process.pid=i:7",
            "otel.dropped_attributes_count=i:3",
            "otel.resource.schema_url=s:urn:r",
            "otel.scope.schema_url=s:urn:s",
        ]
    );
}

#[test]
fn a_body_of_any_type_is_the_message() {
    let bodies = [
        (string(""), "", None),
        (of(Value::IntValue(-5)), "-5", Some("i")),
        (of(Value::DoubleValue(2.5)), "2.5", Some("d")),
        (of(Value::BoolValue(false)), "false", Some("b")),
        (of(Value::BytesValue(b"abc".to_vec())), "YWJj", Some("x")),
        (kvlist(vec![pair("a", array(vec![]))]), "{\"a\":[]}", Some("j")),
    ];
    let records = bodies.iter().map(|(body, ..)| LogRecord { body: Some(body.clone()), ..LogRecord::default() });
    let rows = run(Format::OtlpLogs, &logs(records.collect()).encode_to_vec()).expect("rows");
    for (row, (_, message, letter)) in bodies.iter().enumerate() {
        assert_eq!(text(table(&rows, Table::Logs), "message", row).as_deref(), Some(*message));
        assert_eq!(text(table(&rows, Table::Logs), "message_type", row).as_deref(), *letter);
    }
}

#[test]
fn a_record_without_time_was_when_it_was_observed() {
    let observed = LogRecord { observed_time_unix_nano: NOW_NANOS - 5_000, ..LogRecord::default() };
    let rows = run(Format::OtlpLogs, &logs(vec![observed, LogRecord::default()]).encode_to_vec()).expect("rows");
    let row = table(&rows, Table::Logs);
    assert_eq!(int(row, "event_time", 0), Some(NOW - 5));
    assert_eq!(int(row, "event_time", 1), Some(NOW));
}

#[test]
fn a_severity_comes_from_number_text_or_attribute() {
    let records = vec![
        LogRecord { severity_text: "warn".to_owned(), ..LogRecord::default() },
        LogRecord { attributes: vec![pair("level", string("fatal"))], ..LogRecord::default() },
        LogRecord { severity_number: 99, ..LogRecord::default() },
    ];
    let rows = run(Format::OtlpLogs, &logs(records).encode_to_vec()).expect("rows");
    let row = table(&rows, Table::Logs);
    assert_eq!(int(row, "severity_number", 0), Some(13));
    assert_eq!(int(row, "severity_number", 1), Some(21));
    assert_eq!(int(row, "severity_number", 2), None);
    assert!(attributes(row, 2).contains(&"otel.severity_number=i:99".to_owned()));
}

fn number(value: Option<number_data_point::Value>, flags: u32) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![pair("http.route", string("/pay")), pair("service.name", string("other"))],
        start_time_unix_nano: NOW_NANOS - 60_000_000_001,
        time_unix_nano: NOW_NANOS,
        exemplars: Vec::new(),
        flags,
        value,
    }
}

fn all_metrics() -> Vec<Metric> {
    let exemplar = Exemplar {
        filtered_attributes: vec![pair("user", string("u"))],
        time_unix_nano: NOW_NANOS,
        span_id: vec![1; 8],
        trace_id: vec![2; 16],
        value: Some(exemplar::Value::AsDouble(1.5)),
    };
    let int = number(Some(number_data_point::Value::AsInt(i64::MAX)), 0);
    let double = NumberDataPoint {
        exemplars: vec![exemplar.clone(), Exemplar::default()],
        ..number(Some(number_data_point::Value::AsDouble(-0.5)), 0)
    };
    let histogram = HistogramDataPoint {
        time_unix_nano: NOW_NANOS,
        count: 3,
        sum: Some(4.5),
        min: Some(0.5),
        max: Some(f64::INFINITY),
        bucket_counts: vec![1, 2, 0],
        explicit_bounds: vec![1.0, 2.0],
        exemplars: vec![exemplar],
        ..HistogramDataPoint::default()
    };
    let exponential = ExponentialHistogramDataPoint {
        time_unix_nano: NOW_NANOS,
        count: 4,
        scale: -3,
        zero_count: 1,
        positive: Some(Buckets { offset: -2, bucket_counts: vec![1, 300] }),
        negative: Some(Buckets { offset: 0, bucket_counts: vec![u64::MAX] }),
        zero_threshold: 0.25,
        ..ExponentialHistogramDataPoint::default()
    };
    let summary = SummaryDataPoint {
        time_unix_nano: NOW_NANOS,
        count: 2,
        sum: 3.0,
        quantile_values: vec![
            ValueAtQuantile { quantile: 0.5, value: 1.0 },
            ValueAtQuantile { quantile: 0.99, value: f64::NAN },
        ],
        ..SummaryDataPoint::default()
    };
    vec![
        metric("g", Data::Gauge(Gauge { data_points: vec![int, double] })),
        metric(
            "s",
            Data::Sum(Sum {
                data_points: vec![number(Some(number_data_point::Value::AsInt(2)), 0)],
                aggregation_temporality: 1,
                is_monotonic: true,
            }),
        ),
        metric("h", Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 2 })),
        metric(
            "e",
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential],
                aggregation_temporality: 2,
            }),
        ),
        metric("q", Data::Summary(Summary { data_points: vec![summary] })),
    ]
}

#[test]
fn every_kind_of_metric_keeps_its_numbers() {
    let rows = run(Format::OtlpMetrics, &metrics(all_metrics()).encode_to_vec()).expect("rows");
    let row = table(&rows, Table::Metrics);
    let types: Vec<_> = (0..row.num_rows()).map(|at| text(row, "metric_type", at).expect("a type")).collect();
    assert_eq!(types, ["gauge", "gauge", "sum", "histogram", "exponential_histogram", "summary"]);
    assert_eq!((int(row, "value_int", 0), float(row, "value", 0)), (Some(i64::MAX), Some(i64::MAX as f64)));
    assert_eq!((int(row, "value_int", 1), float(row, "value", 1)), (None, Some(-0.5)));
    assert_eq!(
        text(row, "exemplars", 1).as_deref(),
        Some(
            "[{\"time_unix_nano\":1795489200000000000,\"value\":1.5,\"trace_id\":\"02020202020202020202020202020202\",\"span_id\":\"0101010101010101\",\"attributes\":{\"user\":\"u\"}},{\"time_unix_nano\":0}]"
        )
    );
    assert_eq!(text(row, "unit", 0).as_deref(), Some("By"));
    assert_eq!(text(row, "service", 0).as_deref(), Some("checkout"));
    assert_eq!(int(row, "start_time", 0), Some(NOW - 60_000_001));
    let kept = attributes(row, 0);
    for wanted in ["otel.metric.metadata.m=s:1", "http.route=s:/pay", "service.name=s:other"] {
        assert!(kept.contains(&wanted.to_owned()), "{wanted} in {kept:?}");
    }
    assert_eq!(text(row, "temporality", 2).as_deref(), Some("delta"));
    assert!(row.column_by_name("is_monotonic").expect("a column").as_boolean().value(2));
    assert_eq!((int(row, "count", 3), float(row, "sum", 3), float(row, "max", 3)), (Some(3), Some(4.5), None));
    assert!(attributes(row, 3).contains(&"otel.max=d:Infinity".to_owned()));
    let list =
        |name: &str, at: usize| format!("{:?}", row.column_by_name(name).expect("a column").as_list::<i32>().value(at));
    assert!(list("bucket_counts", 3).contains("1,\n  2,\n  0"));
    assert_eq!((int(row, "scale", 4), int(row, "positive_offset", 4)), (Some(-3), Some(-2)));
    assert!(list("positive_counts", 4).contains("1,\n  300"));
    assert!(attributes(row, 4).contains(&"otel.negative_counts=j:[18446744073709551615]".to_owned()));
    assert!(list("quantiles", 5).contains("0.5,\n  0.99"));
    assert!(list("quantile_values", 5).contains("1.0,\n  NaN"));
}

#[test]
fn a_point_without_a_finite_value_is_a_row_and_adds_nothing_to_its_rollup() {
    use number_data_point::Value::{AsDouble, AsInt};
    let points = vec![
        number(Some(AsDouble(f64::NAN)), 0),
        number(Some(AsDouble(f64::NEG_INFINITY)), 0),
        number(None, 1),
        number(Some(AsInt(0)), 1),
        number(None, 0),
    ];
    let body = metrics(vec![metric("g", Data::Gauge(Gauge { data_points: points }))]).encode_to_vec();
    let rows = run(Format::OtlpMetrics, &body).expect("rows");
    let row = table(&rows, Table::Metrics);
    assert_eq!((rows.counts.stored, rows.counts.dead_lettered), (4, 1));
    assert_eq!(text(table(&rows, Table::DeadLetters), "reason", 0).as_deref(), Some("metric_without_value"));
    for (at, wanted) in [(0, Some("d:NaN")), (1, Some("d:-Infinity")), (2, None), (3, Some("i:0"))] {
        assert_eq!(float(row, "value", at), None);
        let found = attributes(row, at).into_iter().find_map(|one| one.strip_prefix("otel.value=").map(str::to_owned));
        assert_eq!(found.as_deref(), wanted);
    }
    assert_eq!(int(row, "flags", 2), Some(1));
    let mut deltas = Deltas::default();
    deltas.add(Table::Metrics, row, NOW, &RollupOptions::default(), &mut Admission::default());
    let cells: Vec<Cell> = deltas.cells(Width::Hour).map(|(.., cell)| cell).collect();
    let [Cell::Metric(cell)] = cells.as_slice() else { panic!("one series: {cells:?}") };
    assert_eq!((cell.count, cell.not_finite_count, cell.last, cell.sum.value()), (4, 4, None, 0.0));
}

/// A length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encode_length_delimiter(bytes.len(), &mut out).expect("a vector grows");
    out.extend_from_slice(bytes);
    out
}

#[test]
fn one_bad_record_leaves_its_neighbours() {
    let good = field(2, &LogRecord { body: Some(string("fine")), ..LogRecord::default() }.encode_to_vec());
    for (bad, reason) in [
        (&b"\x2a\x05ab"[..], "protobuf_syntax"),
        (b"\x0b\x0c", "protobuf_syntax"),
        (b"\x08\x01", "protobuf_syntax"),
        (b"\x2a\x03\x0a\x01\xff", "invalid_utf8"),
    ] {
        let scope = [&good[..], &field(2, bad), &good].concat();
        let body = field(1, &field(2, &scope));
        let rows = run(Format::OtlpLogs, &body).expect("rows");
        assert_eq!((rows.counts.stored, rows.counts.dead_lettered), (2, 1), "{bad:x?}");
        let dead = table(&rows, Table::DeadLetters);
        assert_eq!(text(dead, "reason", 0).as_deref(), Some(reason));
        assert_eq!(int(dead, "record_index", 0), Some(1));
        assert_eq!(dead.column_by_name("payload").expect("a column").as_binary::<i32>().value(0), bad);
    }
    let body = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"fine"}},{"timeUnixNano":true},{"body":}, {}]}]}]}"#;
    let rows = run(Format::OtlpLogsJson, body).expect("rows");
    assert_eq!((rows.counts.stored, rows.counts.dead_lettered), (2, 2));
}

#[test]
fn a_bad_resource_makes_its_records_dead_letters_and_no_others() {
    let mut request = logs(vec![LogRecord::default()]);
    request.resource_logs.push(ResourceLogs {
        scope_logs: vec![ScopeLogs { log_records: vec![LogRecord::default(); 2], ..ScopeLogs::default() }],
        ..ResourceLogs::default()
    });
    let mut body = request.encode_to_vec();
    let at = body.windows(8).position(|bytes| bytes == b"checkout").expect("the service");
    body[at] = 0xff;
    let rows = run(Format::OtlpLogs, &body).expect("rows");
    assert_eq!((rows.counts.stored, rows.counts.dead_lettered), (2, 1));
    assert_eq!(text(table(&rows, Table::DeadLetters), "field", 0).as_deref(), Some("resource"));
}

/// `LogRecord` whose body nests arrays, as protobuf.
fn nested_body(levels: usize) -> Vec<u8> {
    // Built from the inside, back to front, so that it takes linear time.
    let mut reversed: Vec<u8> = Vec::new();
    let mut wrap = |number: u8| {
        let mut head = vec![number << 3 | 2];
        prost::encode_length_delimiter(reversed.len(), &mut head).expect("a vector grows");
        reversed.extend(head.iter().rev());
    };
    for _ in 0..levels {
        wrap(1); // values
        wrap(5); // array_value
    }
    wrap(5); // body
    reversed.reverse();
    field(1, &field(2, &field(2, &reversed)))
}

#[test]
fn nesting_ends_at_its_limit_in_bounded_time_and_stack() {
    assert_eq!(run(Format::OtlpLogs, &nested_body(60)).expect("rows").counts.stored, 1);
    let json = |levels: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(levels);
        let close = "]}}".repeat(levels);
        format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{open}{{}}{close}}}]}}]}}]}}"#)
    };
    assert_eq!(run(Format::OtlpLogsJson, json(60).as_bytes()).expect("rows").counts.stored, 1);
    let start = Instant::now();
    for (format, body) in [(Format::OtlpLogs, nested_body(200_000)), (Format::OtlpLogsJson, json(200_000).into_bytes())]
    {
        let rows = run(format, &body).expect("rows");
        assert_eq!(rows.counts.dead_lettered, 1);
        let dead = table(&rows, Table::DeadLetters);
        assert_eq!(text(dead, "reason", 0).as_deref(), Some("nesting_too_deep"));
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn contexts_that_would_fill_the_memory_are_refused() {
    let large = Resource { attributes: vec![pair("a", string(&"x".repeat(1 << 20)))], ..Resource::default() };
    let scope_logs = vec![ScopeLogs { log_records: vec![LogRecord::default(); 300], ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource: Some(large), scope_logs, ..ResourceLogs::default() }];
    let body = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
    assert!(matches!(run(Format::OtlpLogs, &body), Err(TransformError::Split(_))));
}

#[test]
fn chosen_records_make_a_request_of_their_own() {
    let records = (0..4).map(|at| LogRecord { body: Some(of(Value::IntValue(at))), ..LogRecord::default() });
    let mut request = logs(records.collect());
    request.resource_logs.push(request.resource_logs[0].clone());
    let metrics = metrics(all_metrics());
    for (format, body) in [
        (Format::OtlpLogs, request.encode_to_vec()),
        (Format::OtlpLogsJson, logs_json(&request).to_string().into_bytes()),
        (Format::OtlpMetrics, metrics.encode_to_vec()),
        (Format::OtlpMetricsJson, metrics_json(&metrics).to_string().into_bytes()),
    ] {
        let mut spans = batch::split(format, &body).expect("a request");
        let all = run(format, &batch::body_of(format, &body, &spans)).expect("rows");
        assert_eq!(all.tables, run(format, &body).expect("rows").tables);
        spans.remove(1);
        let chosen = batch::body_of(format, &body, &spans);
        let again = batch::split(format, &chosen).expect("a request");
        let texts = |body: &[u8], spans: &[batch::RecordSpan]| -> Vec<Vec<u8>> {
            spans.iter().map(|span| body[span.record.clone()].to_vec()).collect()
        };
        assert_eq!(texts(&chosen, &again), texts(&body, &spans));
        let context = |body: &[u8], row: usize| {
            let rows = lake::rows(&[raw(format, body)]).expect("the body can be split");
            rows.column_by_name("context").expect("a column").as_binary::<i32>().value(row).to_vec()
        };
        assert_eq!(context(&chosen, 0), context(&body, 0));
    }
}

#[test]
fn json_is_taken_in_snake_case_and_with_enum_names() {
    let body = br#"{"resource_logs":[{"resource":{"attributes":[{"key":"service.name","value":{"string_value":"a"}}]},
        "scope_logs":[{"log_records":[{"time_unix_nano":1795489200000000000,"severity_number":"SEVERITY_NUMBER_WARN2",
        "trace_id":"ABABABABABABABABABABABABABABABAB","unknown":{"x":[1]},"body":{"string_value":"h\u00e9"}}]}]}]}"#;
    let rows = run(Format::OtlpLogsJson, body).expect("rows");
    let row = table(&rows, Table::Logs);
    assert_eq!(int(row, "severity_number", 0), Some(14));
    assert_eq!(int(row, "event_time", 0), Some(NOW));
    assert_eq!(text(row, "message", 0).as_deref(), Some("hé"));
    assert_eq!(text(row, "trace_id", 0).as_deref(), Some("abababababababababababababababab"));
}

#[test]
fn a_broken_request_is_refused_as_a_whole() {
    for (format, body) in [
        (Format::OtlpLogs, &b"hello"[..]),
        (Format::OtlpMetrics, b"\x0a\x7f"),
        (Format::OtlpLogsJson, b""),
        (Format::OtlpLogsJson, b"[]"),
        (Format::OtlpLogsJson, b"{\"resourceLogs\":{}}"),
        (Format::OtlpMetricsJson, b"{\"resourceMetrics\":[{]}"),
    ] {
        assert!(matches!(run(format, body), Err(TransformError::Split(_))), "{}", String::from_utf8_lossy(body));
    }
    for (format, body) in [(Format::OtlpLogs, &b""[..]), (Format::OtlpLogsJson, b" {} ")] {
        assert_eq!(run(format, body).expect("an empty request").counts.received, 0);
    }
}

/// The rows of both encodings, which differ in the format's name alone.
#[track_caller]
fn check_same(protobuf: (Format, Vec<u8>), json: (Format, Json)) {
    let one = run(protobuf.0, &protobuf.1).expect("rows");
    let other = run(json.0, json.1.to_string().as_bytes()).expect("rows");
    assert_eq!(one.counts, other.counts);
    for table in [Table::Logs, Table::Metrics, Table::Activity] {
        let (one, other) = (&one.tables[table as usize], &other.tables[table as usize]);
        for column in table.columns().iter().filter(|column| column.name != "format") {
            let show = |batch: &RecordBatch| format!("{:?}", batch.column_by_name(column.name));
            // Compared as text, since NaN equals nothing.
            assert_eq!(show(one), show(other), "{}", column.name);
        }
    }
}

#[test]
fn known_messages_give_the_same_rows_in_both_encodings() {
    let request = logs(vec![full_record(), LogRecord::default()]);
    check_same((Format::OtlpLogs, request.encode_to_vec()), (Format::OtlpLogsJson, logs_json(&request)));
    let request = metrics(all_metrics());
    check_same((Format::OtlpMetrics, request.encode_to_vec()), (Format::OtlpMetricsJson, metrics_json(&request)));
}

const ALL: [Format; 4] = [Format::OtlpLogs, Format::OtlpMetrics, Format::OtlpLogsJson, Format::OtlpMetricsJson];

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_logs_give_the_same_rows_in_both_encodings(request in any_logs()) {
        let count: usize = request.resource_logs.iter().flat_map(|one| &one.scope_logs).map(|one| one.log_records.len()).sum();
        let rows = run(Format::OtlpLogs, &request.encode_to_vec()).expect("rows");
        prop_assert_eq!(rows.counts.received as usize, count);
        prop_assert_eq!(rows.counts.dead_lettered, 0);
        check_same((Format::OtlpLogs, request.encode_to_vec()), (Format::OtlpLogsJson, logs_json(&request)));
    }

    #[test]
    fn random_metrics_give_the_same_rows_in_both_encodings(request in any_metrics()) {
        check_same((Format::OtlpMetrics, request.encode_to_vec()), (Format::OtlpMetricsJson, metrics_json(&request)));
    }

    #[test]
    fn any_bytes_are_rows_or_an_error(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for format in ALL {
            let _ = run(format, &body);
        }
    }

    #[test]
    fn a_changed_byte_never_panics(request in any_logs(), at in any::<usize>(), byte in any::<u8>()) {
        for (format, mut body) in [
            (Format::OtlpLogs, request.encode_to_vec()),
            (Format::OtlpLogsJson, logs_json(&request).to_string().into_bytes()),
        ] {
            let len = body.len();
            body[at % len] = byte;
            if let Ok(spans) = batch::split(format, &body) {
                prop_assert!(spans.iter().all(|span| span.record.end <= len));
                prop_assert_eq!(&spans, &batch::split(format, &body).expect("the same again"));
            }
            let _ = run(format, &body);
        }
    }
}

#[test]
fn every_cut_of_a_body_is_split_or_refused() {
    let (logs, metrics) = (logs(vec![full_record(); 2]), metrics(all_metrics()));
    for (format, body) in [
        (Format::OtlpLogs, logs.encode_to_vec()),
        (Format::OtlpMetrics, metrics.encode_to_vec()),
        (Format::OtlpLogsJson, logs_json(&logs).to_string().into_bytes()),
        (Format::OtlpMetricsJson, metrics_json(&metrics).to_string().into_bytes()),
    ] {
        for end in 0..body.len() {
            let _ = run(format, &body[..end]);
        }
        // One resource: whatever is cut off leaves its length, or its brackets, open.
        assert!((1..body.len()).all(|end| batch::split(format, &body[..end]).is_err()), "{}", format.name());
    }
}
