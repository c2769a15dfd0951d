//! Metrics of subscriptions of Pub/Sub, by the source that they are.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::Metrics;

type Count = Counter<u64, AtomicU64>;
type Level = Gauge<i64, AtomicI64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConfirmationLabels {
    source: String,
    outcome: &'static str,
}

/// What was taken, and what is still to come.
#[derive(Default)]
pub(crate) struct PubsubMetrics {
    outstanding_messages: Family<SourceLabels, Level>,
    outstanding_bytes: Family<SourceLabels, Level>,
    outstanding_age: Family<SourceLabels, Gauge<f64, AtomicU64>>,
    redeliveries: Family<SourceLabels, Count>,
    confirmations: Family<ConfirmationLabels, Count>,
    undelivered: Family<SourceLabels, Level>,
    undelivered_age: Family<SourceLabels, Level>,
}

impl PubsubMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let messages = self.outstanding_messages.clone();
        registry.register("pubsub_outstanding_messages", "Messages taken and not acknowledged", messages);
        registry.register("pubsub_outstanding_bytes", "Their bytes", self.outstanding_bytes.clone());
        let age = self.outstanding_age.clone();
        registry.register("pubsub_outstanding_oldest_seconds", "Since the oldest of them was published", age);
        let redeliveries = self.redeliveries.clone();
        registry.register(
            "pubsub_redeliveries",
            "Messages that came again, of dead-letter subscriptions",
            redeliveries,
        );
        let confirmations = self.confirmations.clone();
        registry.register(
            "pubsub_confirmations",
            "Acknowledgements of exactly-once delivery, by outcome",
            confirmations,
        );
        let undelivered = self.undelivered.clone();
        registry.register("pubsub_undelivered_messages", "Messages that the service holds, as it says", undelivered);
        let age = self.undelivered_age.clone();
        registry.register("pubsub_undelivered_oldest_seconds", "Age of the oldest of them, as the service says", age);
    }
}

fn labels(source: &str) -> SourceLabels {
    SourceLabels { source: source.to_owned() }
}

impl Metrics {
    /// Takes over what was taken from a subscription and is not acknowledged; age of the oldest in seconds.
    pub fn set_pubsub_outstanding(&self, source: &str, messages: u64, bytes: u64, oldest_age: f64) {
        let labels = labels(source);
        self.pubsub.outstanding_messages.get_or_create(&labels).set(messages as i64);
        self.pubsub.outstanding_bytes.get_or_create(&labels).set(bytes as i64);
        self.pubsub.outstanding_age.get_or_create(&labels).set(oldest_age);
    }

    /// Counts a message that the service says it sends again.
    pub fn add_pubsub_redelivery(&self, source: &str) {
        self.pubsub.redeliveries.get_or_create(&labels(source)).inc();
    }

    /// Counts acknowledgements that the service confirmed, and those that it did not.
    pub fn add_pubsub_confirmations(&self, source: &str, confirmed: u64, failed: u64) {
        for (outcome, count) in [("confirmed", confirmed), ("failed", failed)] {
            let labels = ConfirmationLabels { source: source.to_owned(), outcome };
            self.pubsub.confirmations.get_or_create(&labels).inc_by(count);
        }
    }

    /// Takes over how many messages the service holds for a subscription.
    pub fn set_pubsub_undelivered(&self, source: &str, messages: u64) {
        self.pubsub.undelivered.get_or_create(&labels(source)).set(messages as i64);
    }

    /// Takes over the age of the oldest message that the service holds, seconds.
    pub fn set_pubsub_undelivered_age(&self, source: &str, seconds: u64) {
        self.pubsub.undelivered_age.get_or_create(&labels(source)).set(seconds as i64);
    }
}
