//! What Cloud Monitoring says of a subscription.

use std::sync::Arc;

use sawlog_core::time::to_rfc3339;
use sawlog_gcp::Access;
use sawlog_gcp::pubsub::service_backlog::{BacklogOptions, watch};
use sawlog_seams::{Clock, SystemClock};
use sawlog_telemetry::Metrics;
use serde_json::json;

use super::{metric, wait_for};
use crate::double::Double;

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_values_of_the_own_subscription_are_shown() {
    let double = Double::start("logging", &[], 1);
    let now = SystemClock::new().now_micros();
    let write = |metric: &str, subscription: &str, seconds_ago: i64, value: u64| {
        let end = to_rfc3339(now - seconds_ago * 1_000_000);
        let series = json!({
            "metric": {"type": format!("pubsub.googleapis.com/subscription/{metric}")},
            "resource": {"type": "pubsub_subscription", "labels": {"subscription_id": subscription}},
            "points": [{"interval": {"endTime": end}, "value": {"int64Value": value.to_string()}}],
        });
        double.post("/v3/projects/sawlog-test/timeSeries", &json!({"timeSeries": [series]}));
    };
    write("num_undelivered_messages", "orders", 120, 7);
    write("num_undelivered_messages", "orders", 60, 1_234);
    write("num_undelivered_messages", "other", 30, 9);
    write("oldest_unacked_message_age", "orders", 60, 99);
    let options = BacklogOptions {
        subscription: "projects/sawlog-test/subscriptions/orders".to_owned(),
        source: "orders".to_owned(),
        access: Access::new(Some(double.url())).expect("a URL"),
    };
    let metrics = Arc::new(Metrics::default());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let shown = Arc::clone(&metrics);
    let watching = tokio::spawn(async move { watch(options, &shown, stopped).await });
    wait_for("both are there", || metric(&metrics, "pubsub_undelivered_oldest_seconds", "") == Some(99.0)).await;
    assert_eq!(metric(&metrics, "pubsub_undelivered_messages", ""), Some(1_234.0));
    stop.send_replace(true);
    watching.await.expect("it ends with the stop");
}
