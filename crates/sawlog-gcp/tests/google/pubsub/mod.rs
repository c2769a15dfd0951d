//! Pub/Sub: what subscribers see, on our double and on Google's own (pstest), and what only one of them has.

mod replay;
mod service_backlog;
mod source;

use std::sync::Arc;
use std::time::Duration;

use sawlog_core::batch::AgeLimits;
use sawlog_gcp::Access;
use sawlog_gcp::pubsub::{self, Outgoing, PubsubOptions, PubsubState, TopicPublisher};
use sawlog_stream::Pipeline;
use sawlog_telemetry::Metrics;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::double::Double;

const TOPIC: &str = "projects/sawlog-test/topics/orders";

/// Both doubles: whether they agree is what the tests of `source.rs` are about.
const DOUBLES: [&str; 2] = ["pubsub", "pstest"];

/// A double with a topic.
struct PubsubDouble(Double);

impl PubsubDouble {
    fn start(service: &str) -> Self {
        let double = Self(Double::start(service, &[], 1));
        double.create_topic(TOPIC);
        double
    }

    fn create_topic(&self, name: &str) {
        self.0.put(&format!("/v1/{name}"), &json!({}));
    }

    /// A subscription of a topic, with more settings.
    fn subscribe(&self, name: &str, topic: &str, settings: Value) -> String {
        let path = format!("projects/sawlog-test/subscriptions/{name}");
        let mut subscription = json!({"topic": topic, "ackDeadlineSeconds": 10});
        for (key, value) in settings.as_object().into_iter().flatten() {
            subscription[key] = value.clone();
        }
        self.0.put(&format!("/v1/{path}"), &subscription);
        path
    }

    fn access(&self) -> Access {
        Access::new(Some(self.0.url())).expect("a URL")
    }

    /// Publishes messages of these numbers, of four ordering keys.
    async fn publish(&self, numbers: std::ops::Range<usize>) {
        let mut publisher = TopicPublisher::connect(TOPIC, &self.access()).await.expect("a publisher");
        for number in numbers {
            let data = json!({"message": format!("order {number}")}).to_string().into();
            let ordering_key = format!("key-{}", number % 4);
            publisher.publish(Outgoing { data, attributes: Vec::new(), ordering_key }).await.expect("published");
        }
        publisher.finish().await.expect("published");
    }

    /// Messages that may be delivered now, which then are out.
    fn left(&self, subscription: &str) -> usize {
        let path = format!("/v1/{subscription}:pull");
        let answer = self.0.post(&path, &json!({"maxMessages": 1000, "returnImmediately": true}));
        answer["receivedMessages"].as_array().map_or(0, Vec::len)
    }
}

/// A source that runs.
struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    metrics: Arc<Metrics>,
}

impl Running {
    fn start(double: &PubsubDouble, subscription: &str, pipeline: &Arc<Pipeline>) -> Self {
        let options = PubsubOptions {
            subscription: subscription.to_owned(),
            source: "orders".to_owned(),
            access: double.access(),
            messages_max: 1_000,
            bytes_max: 1 << 20,
            age: AgeLimits::default(),
        };
        let metrics = Arc::new(Metrics::default());
        let state = PubsubState { pipeline: Arc::clone(pipeline), metrics: Arc::clone(&metrics) };
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(pubsub::serve(options, state, stopped)), metrics }
    }

    async fn stop(self) -> Arc<Metrics> {
        self.stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("in time").expect("no panic");
        self.metrics
    }
}

/// Value of a metric of the source, with more labels.
fn metric(metrics: &Metrics, name: &str, more: &str) -> Option<f64> {
    let text = metrics.to_text();
    let start = format!("sawlog_{name}{{source=\"orders\"{more}}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
}

/// Waits until something holds.
async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..800 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("after twenty seconds it does not hold that {what}");
}
