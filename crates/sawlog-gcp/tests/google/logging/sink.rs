//! Sawlog's own log: written once each over faults, never waited for, and never taken in again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_core::schema::Table;
use sawlog_gcp::logging::sink::{DeadLetterOptions, SinkLayer, SinkOptions, SinkWriter, sink, summarize_dead_letters};
use sawlog_gcp::logging::{Backoff, TailOptions, tail};
use sawlog_seams::ManualClock;
use sawlog_stream::{AckLevel, Submission};
use sawlog_telemetry::Metrics;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing_subscriber::layer::SubscriberExt;

use super::{LoggingDouble, now, state, wait_for};
use crate::world::{World, folder, ledger, texts};

const LOG: &str = "logName=\"projects/sawlog-test/logs/sawlog\"";

/// A sink of which the layer takes the events of [`Sink::log`].
struct Sink {
    dispatch: tracing::Dispatch,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn options(double: &LoggingDouble) -> SinkOptions {
    SinkOptions {
        access: double.access(),
        batch_age: Duration::from_millis(20),
        answer_max: Duration::from_millis(500),
        backoff: Backoff { first: Duration::from_millis(10), max: Duration::from_millis(50) },
        ..SinkOptions::new("sawlog-test", "worker-1", "0.1.0")
    }
}

/// The ends of a sink whose clock is right.
fn ends(options: SinkOptions) -> (SinkLayer, SinkWriter, Arc<ManualClock>, Arc<Metrics>) {
    let (clock, metrics) = (Arc::new(ManualClock::at_micros(now())), Arc::new(Metrics::default()));
    let (layer, writer) = sink(options, clock.clone(), metrics.clone()).expect("options");
    (layer, writer, clock, metrics)
}

impl Sink {
    fn start(options: SinkOptions) -> Self {
        let (layer, writer, clock, metrics) = ends(options);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(writer.run(stopped));
        let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
        Self { dispatch, clock, metrics, stop, task }
    }

    /// Makes an event of Sawlog's.
    fn log(&self, number: usize) {
        tracing::dispatcher::with_default(&self.dispatch, || {
            tracing::info!(target: "sawlog_stream::flush", number, "flush {number}");
        });
    }

    fn counted(&self, outcome: &str) -> u64 {
        let start = format!("sawlog_logging_entries_total{{outcome=\"{outcome}\"}} ");
        let text = self.metrics.to_text();
        text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |count| count.parse().expect("a count"))
    }

    async fn end(self) {
        self.stop.send(true).expect("it runs");
        self.task.await.expect("no panic");
    }
}

fn numbers(entries: &[Value]) -> Vec<u64> {
    entries.iter().filter_map(|entry| entry["jsonPayload"]["number"].as_f64()).map(|number| number as u64).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_is_read_back_once_each_whatever_fails() {
    let double = LoggingDouble::start();
    for fault in [
        json!({"call": "WriteLogEntries", "status": "UNAVAILABLE"}),
        // Written, but the answer is lost.
        json!({"call": "WriteLogEntries", "reset": true, "after": true}),
        json!({"call": "WriteLogEntries", "status": "INTERNAL", "after": true}),
        json!({"call": "WriteLogEntries", "status": "RESOURCE_EXHAUSTED", "skip": 1}),
        json!({"call": "WriteLogEntries", "hang": true, "skip": 1}),
    ] {
        double.fail(fault);
    }
    let sink = Sink::start(SinkOptions { batch_entries: 50, ..options(&double) });
    for number in 0..200 {
        sink.clock.advance(Duration::from_micros(1));
        sink.log(number);
    }
    wait_for("all are written", || sink.counted("written") == 200).await;
    let found = double.list(LOG);
    assert_eq!(numbers(&found), (0..200).collect::<Vec<_>>());
    let first = &found[0];
    assert_eq!(first["severity"], 200);
    assert_eq!(first["jsonPayload"]["message"], "flush 0");
    assert_eq!(first["jsonPayload"]["logger"], "sawlog_stream::flush");
    assert_eq!(first["labels"], json!({"sawlog_instance": "worker-1", "sawlog_version": "0.1.0"}));
    assert_eq!(first["resource"], json!({"type": "global", "labels": {"project_id": "sawlog-test"}}));
    assert!(double.calls("WriteLogEntries") >= 9, "each fault was met");
    sink.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_refuses_is_counted_and_holds_nothing_up() {
    let double = LoggingDouble::start();
    let sink = Sink::start(options(&double));
    sink.log(0);
    sink.clock.advance(Duration::from_secs(48 * 3600));
    sink.log(1); // two days ahead
    sink.clock.set_micros(now());
    sink.log(2);
    wait_for("the batch is done", || sink.counted("written") == 2).await;
    assert_eq!((sink.counted("refused"), numbers(&double.list(LOG))), (1, vec![0, 2]));
    double.fail(json!({"call": "WriteLogEntries", "status": "INVALID_ARGUMENT"}));
    sink.log(3);
    wait_for("the write is given up", || sink.counted("refused") == 2).await;
    sink.log(4);
    wait_for("the next one is written", || sink.counted("written") == 3).await;
    sink.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_makes_nobody_wait_and_what_is_dropped_is_told() {
    let double = LoggingDouble::start();
    double.fail(json!({"call": "WriteLogEntries", "status": "UNAVAILABLE", "count": 1_000_000}));
    let sink = Sink::start(SinkOptions { queue_entries: 100, batch_entries: 10, ..options(&double) });
    let started = std::time::Instant::now();
    for number in 0..10_000 {
        sink.log(number);
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    double.0.delete("/_faults");
    wait_for("what waited is written", || sink.counted("written") >= 100).await;
    wait_for("the rest is counted", || sink.counted("dropped") > 9_000).await;
    let told = |entry: &Value| entry["jsonPayload"]["dropped"].as_f64().unwrap_or_default() as u64;
    wait_for("the log says so", || double.list(LOG).iter().map(told).sum::<u64>() == sink.counted("dropped")).await;
    let all = || numbers(&double.list(LOG)).len() as u64 + sink.counted("dropped");
    wait_for("each was written or dropped", || all() == 10_000).await;
    sink.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_writes_what_waits() {
    let double = LoggingDouble::start();
    let sink = Sink::start(SinkOptions { batch_age: Duration::from_secs(3600), ..options(&double) });
    (0..30).for_each(|number| sink.log(number));
    assert_eq!(double.list(LOG).len(), 0);
    sink.end().await;
    assert_eq!(numbers(&double.list(LOG)).len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_summed_up_without_secrets() {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    let (layer, writer, ..) = ends(options(&double));
    let (stop, stopped) = watch::channel(false);
    let writing = tokio::spawn(writer.run(stopped.clone()));
    let period = DeadLetterOptions { period: Duration::from_millis(100), redact: Vec::new() };
    let tap = pipeline.tap(Table::DeadLetters);
    let summing = tokio::spawn(summarize_dead_letters(period, tap, layer.entries(), stopped));
    let body = "{\"mail\": \"ann@example.com\", broken\n{\"message\":\"good\"}\n{\"mail\": broken";
    pipeline
        .submit(Submission {
            source: "orders".to_owned(),
            file: None,
            format: Format::Json,
            is_declared: true,
            age: AgeLimits::default(),
            body: Bytes::from(body),
            idempotency_key: None,
            ack: AckLevel::Disk,
        })
        .await
        .expect("taken");
    wait_for("the summary is written", || double.list(LOG).len() == 1).await;
    let found = &double.list(LOG)[0]["jsonPayload"];
    assert_eq!((found["source"].as_str(), found["reason"].as_str()), (Some("orders"), Some("json_syntax")));
    assert_eq!(found["count"].as_f64(), Some(2.0));
    let sample = found["sample"].as_str().expect("a sample");
    assert!(sample.contains("[email]") && !sample.contains("ann@"), "{sample}");
    stop.send(true).expect("they run");
    summing.await.expect("no panic").expect("redactions");
    writing.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn own_entries_that_come_back_are_filtered_and_make_no_loop() {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    // A log of another id is recognized by its label.
    let sink = Sink::start(SinkOptions { log_id: "elsewhere".to_owned(), ..options(&double) });
    let (stop, stopped) = watch::channel(false);
    let options = TailOptions {
        buffer_window: Duration::from_millis(20),
        settle: Duration::from_millis(200),
        ..TailOptions::new(double.query(), folder().join("tail.json"))
    };
    let tailing = tokio::spawn(tail(options, state(&world, &pipeline, 60_000), stopped));
    wait_for("the stream is open", || double.calls("TailLogEntries") == 1).await;
    (0..10).for_each(|number| sink.log(number));
    wait_for("they came back", || ledger(&pipeline).filtered >= 10).await;
    assert_eq!((ledger(&pipeline).stored, texts(&pipeline, "message").len()), (0, 0));
    assert!(ledger(&pipeline).closes());
    assert_eq!(double.list("").len(), 10, "nothing was written about them");
    stop.send(true).expect("it runs");
    tailing.await.expect("no panic");
    sink.end().await;
}
