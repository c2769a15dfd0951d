//! The messages as JSON, written by OTLP's rules.
//!
//! For: telling whether both encodings of the same content give the same rows. Not for: the rows (`main.rs`).

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, SummaryDataPoint, exemplar, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::{Value as Json, json};

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(*group.get(at).unwrap_or(&0)));
        for place in 0..4 {
            let letter = char::from(LETTERS[(bits >> (18 - 6 * place)) as usize & 63]);
            out.push(if place <= group.len() { letter } else { '=' });
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn double_json(value: f64) -> Json {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(value)
    }
}

fn value_json(value: &AnyValue) -> Json {
    match &value.value {
        None => json!({}),
        Some(Value::StringValue(text)) => json!({"stringValue": text}),
        Some(Value::BoolValue(value)) => json!({"boolValue": value}),
        Some(Value::IntValue(value)) => json!({"intValue": value.to_string()}),
        Some(Value::DoubleValue(value)) => json!({"doubleValue": double_json(*value)}),
        Some(Value::BytesValue(bytes)) => json!({"bytesValue": base64(bytes)}),
        Some(Value::ArrayValue(list)) => {
            json!({"arrayValue": {"values": list.values.iter().map(value_json).collect::<Vec<_>>()}})
        }
        Some(Value::KvlistValue(list)) => json!({"kvlistValue": {"values": pairs_json(&list.values)}}),
        Some(other) => unreachable!("no test makes {other:?}"),
    }
}

fn pairs_json(pairs: &[KeyValue]) -> Json {
    let one = |pair: &KeyValue| json!({"key": pair.key, "value": pair.value.as_ref().map(value_json)});
    pairs.iter().map(one).collect()
}

fn resource_json(resource: &Option<Resource>) -> Json {
    json!(resource.as_ref().map(|resource| json!({
        "attributes": pairs_json(&resource.attributes),
        "droppedAttributesCount": resource.dropped_attributes_count,
    })))
}

fn scope_json(scope: &Option<InstrumentationScope>) -> Json {
    json!(scope.as_ref().map(|scope| json!({
        "name": scope.name, "version": scope.version, "attributes": pairs_json(&scope.attributes),
    })))
}

fn record_json(record: &LogRecord) -> Json {
    json!({
        "timeUnixNano": record.time_unix_nano.to_string(),
        "observedTimeUnixNano": record.observed_time_unix_nano,
        "severityNumber": record.severity_number,
        "severityText": record.severity_text,
        "body": record.body.as_ref().map(value_json),
        "attributes": pairs_json(&record.attributes),
        "droppedAttributesCount": record.dropped_attributes_count,
        "flags": record.flags,
        "traceId": hex(&record.trace_id),
        "spanId": hex(&record.span_id),
        "eventName": record.event_name,
    })
}

pub(crate) fn logs_json(request: &ExportLogsServiceRequest) -> Json {
    let scope = |scope: &ScopeLogs| {
        json!({
            "scope": scope_json(&scope.scope), "schemaUrl": scope.schema_url,
            "logRecords": scope.log_records.iter().map(record_json).collect::<Vec<_>>(),
        })
    };
    let resource = |one: &ResourceLogs| {
        json!({
            "resource": resource_json(&one.resource), "schemaUrl": one.schema_url,
            "scopeLogs": one.scope_logs.iter().map(scope).collect::<Vec<_>>(),
        })
    };
    json!({"resourceLogs": request.resource_logs.iter().map(resource).collect::<Vec<_>>()})
}

fn exemplars_json(exemplars: &[Exemplar]) -> Json {
    let one = |exemplar: &Exemplar| {
        let mut json = json!({
            "filteredAttributes": pairs_json(&exemplar.filtered_attributes),
            "timeUnixNano": exemplar.time_unix_nano.to_string(),
            "spanId": hex(&exemplar.span_id), "traceId": hex(&exemplar.trace_id),
        });
        match exemplar.value {
            Some(exemplar::Value::AsDouble(value)) => json["asDouble"] = double_json(value),
            Some(exemplar::Value::AsInt(value)) => json["asInt"] = json!(value.to_string()),
            None => {}
        }
        json
    };
    exemplars.iter().map(one).collect()
}

fn number_json(point: &NumberDataPoint) -> Json {
    let mut json = json!({
        "attributes": pairs_json(&point.attributes),
        "startTimeUnixNano": point.start_time_unix_nano.to_string(),
        "timeUnixNano": point.time_unix_nano.to_string(),
        "exemplars": exemplars_json(&point.exemplars),
        "flags": point.flags,
    });
    match point.value {
        Some(number_data_point::Value::AsDouble(value)) => json["asDouble"] = double_json(value),
        Some(number_data_point::Value::AsInt(value)) => json["asInt"] = json!(value.to_string()),
        None => {}
    }
    json
}

fn data_json(data: &Data) -> (&'static str, Json) {
    let texts = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>();
    let buckets = |one: &Option<Buckets>| {
        one.as_ref().map(|one| json!({"offset": one.offset, "bucketCounts": texts(&one.bucket_counts)}))
    };
    match data {
        Data::Gauge(data) => {
            ("gauge", json!({"dataPoints": data.data_points.iter().map(number_json).collect::<Vec<_>>()}))
        }
        Data::Sum(data) => (
            "sum",
            json!({
                "dataPoints": data.data_points.iter().map(number_json).collect::<Vec<_>>(),
                "aggregationTemporality": data.aggregation_temporality, "isMonotonic": data.is_monotonic,
            }),
        ),
        Data::Histogram(data) => {
            let point = |point: &HistogramDataPoint| {
                json!({
                    "attributes": pairs_json(&point.attributes), "timeUnixNano": point.time_unix_nano.to_string(),
                    "startTimeUnixNano": point.start_time_unix_nano.to_string(),
                    "count": point.count.to_string(), "sum": point.sum.map(double_json),
                    "bucketCounts": texts(&point.bucket_counts),
                    "explicitBounds": point.explicit_bounds.iter().copied().map(double_json).collect::<Vec<_>>(),
                    "exemplars": exemplars_json(&point.exemplars), "flags": point.flags,
                    "min": point.min.map(double_json), "max": point.max.map(double_json),
                })
            };
            (
                "histogram",
                json!({
                    "dataPoints": data.data_points.iter().map(point).collect::<Vec<_>>(),
                    "aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE",
                }),
            )
        }
        Data::ExponentialHistogram(data) => {
            let point = |point: &ExponentialHistogramDataPoint| {
                json!({
                    "attributes": pairs_json(&point.attributes), "timeUnixNano": point.time_unix_nano.to_string(),
                    "startTimeUnixNano": point.start_time_unix_nano.to_string(),
                    "count": point.count, "sum": point.sum.map(double_json), "scale": point.scale,
                    "zeroCount": point.zero_count.to_string(), "positive": buckets(&point.positive),
                    "negative": buckets(&point.negative), "flags": point.flags,
                    "exemplars": exemplars_json(&point.exemplars), "min": point.min.map(double_json),
                    "max": point.max.map(double_json), "zeroThreshold": double_json(point.zero_threshold),
                })
            };
            (
                "exponentialHistogram",
                json!({
                    "dataPoints": data.data_points.iter().map(point).collect::<Vec<_>>(),
                    "aggregationTemporality": 2,
                }),
            )
        }
        Data::Summary(data) => {
            let point = |point: &SummaryDataPoint| {
                json!({
                    "attributes": pairs_json(&point.attributes), "timeUnixNano": point.time_unix_nano.to_string(),
                    "startTimeUnixNano": point.start_time_unix_nano.to_string(),
                    "count": point.count.to_string(), "sum": double_json(point.sum), "flags": point.flags,
                    "quantileValues": point.quantile_values.iter().map(|one| json!({
                        "quantile": double_json(one.quantile), "value": double_json(one.value),
                    })).collect::<Vec<_>>(),
                })
            };
            ("summary", json!({"dataPoints": data.data_points.iter().map(point).collect::<Vec<_>>()}))
        }
    }
}

pub(crate) fn metrics_json(request: &ExportMetricsServiceRequest) -> Json {
    let metric = |metric: &Metric| {
        let mut json = json!({
            "name": metric.name, "description": metric.description, "unit": metric.unit,
            "metadata": pairs_json(&metric.metadata),
        });
        if let Some((name, data)) = metric.data.as_ref().map(data_json) {
            json[name] = data;
        }
        json
    };
    let scope = |scope: &ScopeMetrics| {
        json!({
            "scope": scope_json(&scope.scope), "schemaUrl": scope.schema_url,
            "metrics": scope.metrics.iter().map(metric).collect::<Vec<_>>(),
        })
    };
    let resource = |one: &ResourceMetrics| {
        json!({
            "resource": resource_json(&one.resource), "schemaUrl": one.schema_url,
            "scopeMetrics": one.scope_metrics.iter().map(scope).collect::<Vec<_>>(),
        })
    };
    json!({"resourceMetrics": request.resource_metrics.iter().map(resource).collect::<Vec<_>>()})
}
