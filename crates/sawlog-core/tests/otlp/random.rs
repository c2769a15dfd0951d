//! Random messages.
//!
//! For: the properties in `main.rs`. Not for: known cases.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, NumberDataPoint, Sum,
    Summary, SummaryDataPoint, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;

use crate::{NOW_NANOS, array, kvlist, logs, metric, metrics, number, of, pair, string};

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z.]{0,8}", any::<String>(), Just("none".to_owned()), Just("service.name".to_owned())]
}

fn any_double() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), (-100i32..100).prop_map(f64::from)]
}

fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        any_text(),
        prop_oneof![
            Just("http.response.status_code"),
            Just("http.request.method"),
            Just("url.path"),
            Just("user_agent.original"),
            Just("client.address"),
            Just("log.record.uid"),
            Just("session.id"),
            Just("level"),
            Just("value"),
            Just("duration_ms"),
        ]
        .prop_map(str::to_owned)
    ]
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(AnyValue { value: None }),
        any_text().prop_map(|text| string(&text)),
        any::<bool>().prop_map(|value| of(Value::BoolValue(value))),
        any::<i64>().prop_map(|value| of(Value::IntValue(value))),
        any_double().prop_map(|value| of(Value::DoubleValue(value))),
        proptest::collection::vec(any::<u8>(), 0..6).prop_map(|bytes| of(Value::BytesValue(bytes))),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(array),
            proptest::collection::vec((any_key(), inner).prop_map(|(key, value)| pair(&key, value)), 0..4)
                .prop_map(kvlist),
        ]
    })
}

fn any_pairs() -> impl Strategy<Value = Vec<KeyValue>> {
    proptest::collection::vec((any_key(), any_value()).prop_map(|(key, value)| pair(&key, value)), 0..5)
}

prop_compose! {
    fn any_record()(
        time in prop_oneof![Just(0), NOW_NANOS - 1_000_000..NOW_NANOS],
        observed in prop_oneof![Just(0), NOW_NANOS - 1_000_000..NOW_NANOS],
        severity_number in prop_oneof![0..30i32, any::<i32>()],
        severity_text in any_text(),
        body in proptest::option::of(any_value()),
        attributes in any_pairs(),
        (dropped, flags) in any::<(u32, u32)>(),
        trace_id in proptest::collection::vec(any::<u8>(), 14..18),
        span_id in proptest::collection::vec(0u8..2, 8),
        event_name in any_text(),
    ) -> LogRecord {
        LogRecord {
            time_unix_nano: time, observed_time_unix_nano: observed, severity_number, severity_text, body, attributes,
            dropped_attributes_count: dropped, flags, trace_id, span_id, event_name,
        }
    }
}

prop_compose! {
    pub(crate) fn any_logs()(
        records in proptest::collection::vec(any_record(), 0..4),
        attributes in any_pairs(),
        is_bare in any::<bool>(),
    ) -> ExportLogsServiceRequest {
        let mut request = logs(records);
        request.resource_logs[0].resource = (!is_bare).then(|| Resource { attributes, ..Resource::default() });
        request
    }
}

prop_compose! {
    pub(crate) fn any_metrics()(
        values in proptest::collection::vec((any_double(), any::<i64>(), 0..3u8, 0..3u32), 0..4),
        attributes in any_pairs(),
        (count, flags) in any::<(u64, u32)>(),
        counts in proptest::collection::vec(any::<u64>(), 0..4),
        bounds in proptest::collection::vec(any_double(), 0..4),
        (scale, offset) in any::<(i32, i32)>(),
        (sum, min) in (proptest::option::of(any_double()), proptest::option::of(any_double())),
    ) -> ExportMetricsServiceRequest {
        use number_data_point::Value::{AsDouble, AsInt};
        let points = values.iter().map(|(double, int, which, flags)| {
            let value = [Some(AsDouble(*double)), Some(AsInt(*int)), None][usize::from(*which)];
            NumberDataPoint { attributes: attributes.clone(), ..number(value, *flags) }
        });
        let points: Vec<_> = points.collect();
        let histogram = HistogramDataPoint {
            attributes: attributes.clone(), count, sum, min, flags, bucket_counts: counts.clone(),
            explicit_bounds: bounds, ..HistogramDataPoint::default()
        };
        let buckets = Buckets { offset, bucket_counts: counts };
        let exponential = ExponentialHistogramDataPoint {
            count, sum, scale, zero_count: count, positive: Some(buckets), ..ExponentialHistogramDataPoint::default()
        };
        let summary = SummaryDataPoint { count, sum: min.unwrap_or(0.0) + 0.0, flags, ..SummaryDataPoint::default() };
        metrics(vec![
            metric("g", Data::Gauge(Gauge { data_points: points.clone() })),
            metric("s", Data::Sum(Sum { data_points: points, aggregation_temporality: 7, is_monotonic: false })),
            metric("h", Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 2 })),
            metric("e", Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential], aggregation_temporality: 2,
            })),
            metric("q", Data::Summary(Summary { data_points: vec![summary] })),
        ])
    }
}
