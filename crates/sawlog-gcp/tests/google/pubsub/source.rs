//! What a subscriber sees of the service: each test runs on both doubles at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use google_cloud_pubsub::client::Subscriber;
use serde_json::json;

use super::{DOUBLES, PubsubDouble, Running, TOPIC, metric, wait_for};
use crate::world::{World, ledger, texts};

const COUNT: usize = 200;

/// Google's client, for what the source does with it.
pub(super) async fn subscriber(double: &PubsubDouble) -> Subscriber {
    let credentials = google_cloud_auth::credentials::anonymous::Builder::new().build();
    let builder = Subscriber::builder().with_endpoint(double.0.url()).with_credentials(credentials);
    builder.build().await.expect("a subscriber")
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_stored_once_and_acknowledged() {
    let on = async |service: &str| {
        let double = PubsubDouble::start(service);
        let subscription = double.subscribe("orders", TOPIC, json!({"enableMessageOrdering": true}));
        let world = World::new();
        let pipeline = world.open().await;
        let running = Running::start(&double, &subscription, &pipeline);
        double.publish(0..COUNT).await;
        wait_for("all are there", || texts(&pipeline, "message").len() == COUNT).await;
        let metrics = running.stop().await;
        assert!(texts(&pipeline, "message").values().all(|times| *times == 1), "{service}");
        assert_eq!(metric(&metrics, "pubsub_outstanding_messages", ""), Some(0.0), "{service}");
        assert_eq!(double.left(&subscription), 0, "{service}");
    };
    tokio::join!(on(DOUBLES[0]), on(DOUBLES[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_stored_is_a_duplicate_when_it_comes_again() {
    let on = async |service: &str| {
        let double = PubsubDouble::start(service);
        let subscription = double.subscribe("orders", TOPIC, json!({}));
        let world = World::new();
        let pipeline = world.open().await;
        let running = Running::start(&double, &subscription, &pipeline);
        double.publish(0..COUNT).await;
        wait_for("some are there", || texts(&pipeline, "message").len() >= COUNT / 4).await;
        running.task.abort();
        let _ = running.task.await;
        let world = world.after_kill();
        let pipeline = world.open().await;
        let running = Running::start(&double, &subscription, &pipeline);
        wait_for("all are there", || texts(&pipeline, "message").len() == COUNT).await;
        running.stop().await;
        assert!(texts(&pipeline, "message").values().all(|times| *times == 1), "{service}");
        let counts = ledger(&pipeline);
        assert_eq!(counts.received, counts.stored + counts.duplicate, "{service}: {counts:?}");
    };
    tokio::join!(on(DOUBLES[0]), on(DOUBLES[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_of_exactly_once_delivery_are_confirmed() {
    let on = async |service: &str| {
        let double = PubsubDouble::start(service);
        let subscription = double.subscribe("orders", TOPIC, json!({"enableExactlyOnceDelivery": true}));
        let world = World::new();
        let pipeline = world.open().await;
        let running = Running::start(&double, &subscription, &pipeline);
        double.publish(0..COUNT).await;
        wait_for("all are confirmed", || {
            metric(&running.metrics, "pubsub_confirmations_total", ",outcome=\"confirmed\"") == Some(COUNT as f64)
        })
        .await;
        let metrics = running.stop().await;
        assert_eq!(metric(&metrics, "pubsub_confirmations_total", ",outcome=\"failed\""), Some(0.0), "{service}");
        assert_eq!(texts(&pipeline, "message").len(), COUNT, "{service}");
        assert_eq!(ledger(&pipeline).duplicate, 0, "{service}");
    };
    tokio::join!(on(DOUBLES[0]), on(DOUBLES[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_goes_to_the_dead_letter_topic_and_can_be_read_there() {
    let on = async |service: &str| {
        let double = PubsubDouble::start(service);
        let dead_topic = "projects/sawlog-test/topics/dead";
        double.create_topic(dead_topic);
        let dead = double.subscribe("dead", dead_topic, json!({}));
        let policy = json!({"deadLetterTopic": dead_topic, "maxDeliveryAttempts": 5});
        let subscription = double.subscribe("orders", TOPIC, json!({"deadLetterPolicy": policy}));
        double.publish(0..3).await;
        let subscriber = subscriber(&double).await;
        let refusing = tokio::spawn(async move {
            let mut messages = subscriber.subscribe(&subscription).build();
            let mut attempts = BTreeSet::new();
            while let Some(Ok((_, handler))) = messages.next().await {
                attempts.extend(handler.delivery_attempt());
                if attempts.len() == 5 {
                    handler.nack();
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    break;
                }
                handler.nack();
            }
            attempts
        });
        let world = World::new();
        let pipeline = world.open().await;
        let running = Running::start(&double, &dead, &pipeline);
        wait_for("one of them is dead", || !texts(&pipeline, "message").is_empty()).await;
        running.stop().await;
        let attempts = tokio::time::timeout(Duration::from_secs(10), refusing).await.expect("in time");
        assert_eq!(attempts.expect("no panic"), BTreeSet::from([1, 2, 3, 4, 5]), "{service}");
    };
    tokio::join!(on(DOUBLES[0]), on(DOUBLES[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_key_come_in_order() {
    let on = async |service: &str| {
        let double = PubsubDouble::start(service);
        let subscription = double.subscribe("orders", TOPIC, json!({"enableMessageOrdering": true}));
        double.publish(0..COUNT / 2).await;
        let mut messages = subscriber(&double).await.subscribe(&subscription).build();
        let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for _ in 0..COUNT / 2 {
            let next = tokio::time::timeout(Duration::from_secs(20), messages.next()).await.expect("in time");
            let (message, handler) = next.expect("a stream").expect("a message");
            found
                .entry(message.ordering_key)
                .or_default()
                .push(message.message_id.trim_start_matches('m').parse().expect("a number"));
            handler.ack();
        }
        assert_eq!(found.len(), 4, "{service}");
        assert!(found.values().all(|ids| ids.is_sorted()), "{service}: {found:?}");
    };
    tokio::join!(on(DOUBLES[0]), on(DOUBLES[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_extended_while_a_message_is_held() {
    let on = async |service: &str| {
        let double = PubsubDouble::start(service);
        let subscription = double.subscribe("orders", TOPIC, json!({}));
        double.publish(0..1).await;
        let subscriber = subscriber(&double).await;
        let mut messages = subscriber.subscribe(&subscription).set_max_lease_extension(Duration::from_secs(10)).build();
        let (_, handler) = messages.next().await.expect("a stream").expect("a message");
        let again = tokio::time::timeout(Duration::from_secs(13), messages.next()).await;
        assert!(again.is_err(), "{service}: it came again after its first lease");
        handler.ack();
        messages.shutdown_token().shutdown().await;
        assert_eq!(double.left(&subscription), 0, "{service}");
    };
    tokio::join!(on(DOUBLES[0]), on(DOUBLES[1]));
}
