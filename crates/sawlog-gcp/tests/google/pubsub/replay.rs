//! Seeking, which only our double does: pstest has no snapshots and loses the data of what comes again.

use google_cloud_pubsub::subscriber::handler::Handler;
use sawlog_gcp::pubsub::{SeekError, SeekTarget, Seeker};
use sawlog_seams::{Clock, SystemClock};
use serde_json::json;

use super::source::subscriber;
use super::{PubsubDouble, Running, TOPIC, wait_for};
use crate::world::{World, ledger, texts};

const COUNT: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn replayed_messages_are_duplicates() {
    let double = PubsubDouble::start("pubsub");
    let subscription = double.subscribe("orders", TOPIC, json!({"retainAckedMessages": true}));
    let seeker = Seeker::connect(&subscription, &double.access()).await.expect("a client");
    let world = World::new();
    let pipeline = world.open().await;
    let running = Running::start(&double, &subscription, &pipeline);
    let before = SystemClock::new().now_micros();
    double.publish(0..COUNT).await;
    wait_for("all are there", || texts(&pipeline, "message").len() == COUNT).await;
    let plan = seeker.plan(&SeekTarget::Time(before)).await.expect("a plan");
    assert!(plan.retains_acknowledged && plan.topic == TOPIC, "{plan:?}");
    seeker.seek(&SeekTarget::Time(before)).await.expect("sought");
    wait_for("all came again", || ledger(&pipeline).duplicate >= COUNT as u64).await;
    running.stop().await;
    assert!(texts(&pipeline, "message").values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_brings_back_what_was_not_acknowledged_in_it() {
    let double = PubsubDouble::start("pubsub");
    let subscription = double.subscribe("orders", TOPIC, json!({}));
    let seeker = Seeker::connect(&subscription, &double.access()).await.expect("a client");
    let world = World::new();
    let pipeline = world.open().await;
    let running = Running::start(&double, &subscription, &pipeline);
    double.publish(0..COUNT).await;
    wait_for("all are there", || texts(&pipeline, "message").len() == COUNT).await;
    running.stop().await;
    let snapshot = "projects/sawlog-test/snapshots/later".to_owned();
    double.publish(COUNT..2 * COUNT).await;
    double.0.put(&format!("/v1/{snapshot}"), &json!({"subscription": subscription}));
    let running = Running::start(&double, &subscription, &pipeline);
    wait_for("more are there", || texts(&pipeline, "message").len() == 2 * COUNT).await;
    assert_eq!(ledger(&pipeline).duplicate, 0);
    let target = SeekTarget::Snapshot(snapshot);
    assert!(seeker.plan(&target).await.expect("a plan").snapshot_expires.is_some());
    seeker.seek(&target).await.expect("sought");
    wait_for("they came again", || ledger(&pipeline).duplicate == COUNT as u64).await;
    running.stop().await;
    assert_eq!(ledger(&pipeline).duplicate, COUNT as u64, "those before it did not");
    let none = SeekTarget::Snapshot("projects/sawlog-test/snapshots/none".to_owned());
    assert!(matches!(seeker.plan(&none).await, Err(SeekError::Missing { name }) if name.ends_with("/none")));
    let nobody = Seeker::connect("projects/sawlog-test/subscriptions/none", &double.access()).await.expect("a client");
    assert!(matches!(nobody.plan(&SeekTarget::Time(0)).await, Err(SeekError::Missing { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retention_a_time_brings_back_nothing_that_was_acknowledged() {
    let double = PubsubDouble::start("pubsub");
    let subscription = double.subscribe("orders", TOPIC, json!({}));
    let seeker = Seeker::connect(&subscription, &double.access()).await.expect("a client");
    let world = World::new();
    let pipeline = world.open().await;
    let before = SystemClock::new().now_micros();
    let running = Running::start(&double, &subscription, &pipeline);
    double.publish(0..COUNT).await;
    wait_for("all are there", || texts(&pipeline, "message").len() == COUNT).await;
    running.stop().await;
    assert!(!seeker.plan(&SeekTarget::Time(before)).await.expect("a plan").retains_acknowledged);
    seeker.seek(&SeekTarget::Time(before)).await.expect("sought");
    assert_eq!(double.left(&subscription), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_whose_delivery_is_over_confirms_nothing() {
    let double = PubsubDouble::start("pubsub");
    let subscription = double.subscribe("orders", TOPIC, json!({"enableExactlyOnceDelivery": true}));
    double.publish(0..1).await;
    let mut messages = subscriber(&double).await.subscribe(&subscription).build();
    let (_, first) = messages.next().await.expect("a stream").expect("a message");
    let Handler::ExactlyOnce(first) = first else { panic!("the subscription delivers exactly once") };
    let seeker = Seeker::connect(&subscription, &double.access()).await.expect("a client");
    seeker.seek(&SeekTarget::Time(0)).await.expect("sought");
    let refused = first.confirmed_ack().await.expect_err("the delivery is over").to_string();
    assert!(refused.contains("invalid"), "{refused}");
    let (_, again) = messages.next().await.expect("a stream").expect("it comes again");
    let Handler::ExactlyOnce(again) = again else { panic!("the subscription delivers exactly once") };
    again.confirmed_ack().await.expect("confirmed");
    assert_eq!(double.left(&subscription), 0);
}
