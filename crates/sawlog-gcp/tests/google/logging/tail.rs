//! Entries as they are written: streams that break, what they do not show, restarts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sawlog_gcp::logging::{LoggingState, TailOptions, tail};
use sawlog_stream::Pipeline;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{LoggingDouble, entry, now, state, wait_for};
use crate::world::{World, folder, texts};

pub(super) const QUICK: u32 = 60_000;

pub(super) fn options(double: &LoggingDouble) -> TailOptions {
    TailOptions {
        buffer_window: Duration::from_millis(20),
        settle: Duration::from_millis(300),
        ..TailOptions::new(double.query(), folder().join("tail.json"))
    }
}

/// A tail that runs.
pub(super) struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    state: LoggingState,
}

impl Running {
    pub(super) fn start(world: &World, pipeline: &Arc<Pipeline>, options: TailOptions) -> Self {
        Self::start_at(world, pipeline, options, QUICK)
    }

    pub(super) fn start_at(
        world: &World,
        pipeline: &Arc<Pipeline>,
        options: TailOptions,
        reads_per_minute: u32,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let state = state(world, pipeline, reads_per_minute);
        Self { stop, task: tokio::spawn(tail(options, state.clone(), stopped)), state }
    }

    pub(super) async fn end(self) {
        self.stop.send(true).expect("it runs");
        self.task.await.expect("no panic");
    }

    /// Ends it wherever it is.
    pub(super) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()), "it ran");
    }
}

fn write(double: &LoggingDouble, numbers: Range<usize>) {
    double.write("orders", &numbers.map(|number| entry(number, now())).collect::<Vec<_>>());
}

fn orders(numbers: Range<usize>) -> BTreeMap<String, usize> {
    numbers.map(|number| (format!("order {number}"), 1)).collect()
}

/// Waits for all entries, and sees that each is there once.
async fn wait_for_orders(pipeline: &Pipeline, numbers: Range<usize>) {
    let wanted = orders(numbers);
    wait_for("all entries came", || texts(pipeline, "message").len() >= wanted.len()).await;
    assert_eq!(texts(pipeline, "message"), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_come_as_they_are_written_and_streams_that_break_lose_none() {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    // The first stream is refused, the second breaks after a message, the third is cut.
    double.fail(json!({"call": "TailLogEntries", "status": "UNAVAILABLE"}));
    double.fail(json!({"call": "TailLogEntries", "status": "INTERNAL", "after": true, "skip": 1}));
    double.fail(json!({"call": "TailLogEntries", "reset": true, "after": true, "skip": 1}));
    let running = Running::start(&world, &pipeline, options(&double));
    for step in 0..20 {
        write(&double, step * 10..step * 10 + 10);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wait_for_orders(&pipeline, 0..200).await;
    assert!(double.calls("TailLogEntries") >= 4, "{} streams", double.calls("TailLogEntries"));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_fills_the_time_in_between() {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    let running = Running::start(&world, &pipeline, options(&double));
    wait_for("the stream is open", || double.calls("TailLogEntries") == 1).await;
    write(&double, 0..50);
    wait_for_orders(&pipeline, 0..50).await;
    running.end().await;
    write(&double, 50..120);
    let world = world.after_kill();
    let pipeline = world.open().await;
    let running = Running::start(&world, &pipeline, options(&double));
    wait_for_orders(&pipeline, 0..120).await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_left_out_is_counted_and_listed() {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    let running = Running::start(&world, &pipeline, options(&double));
    wait_for("the stream is open and its gap filled", || double.calls("ListLogEntries") == 1).await;
    double.control(json!({"suppressed": 5, "reason": 1}));
    wait_for("the gap is listed", || double.calls("ListLogEntries") == 2).await;
    let shown = running.state.metrics.to_text();
    let line = "sawlog_logging_suppressed_total{source=\"logging\",reason=\"rate_limit\"} 5";
    assert!(shown.contains(line), "{shown}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_leaves_out_while_a_gap_is_listed_is_listed_after_it() {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    double.fail(json!({"call": "ListLogEntries", "delay_ms": 600}));
    let running = Running::start(&world, &pipeline, options(&double));
    wait_for("the first list has begun", || double.calls("ListLogEntries") == 1).await;
    double.control(json!({"suppressed": 1, "reason": 2}));
    wait_for("another one follows", || double.calls("ListLogEntries") == 2).await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_cannot_be_asked_for_yet_are_asked_for_again() {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    let running = Running::start(&world, &pipeline, options(&double));
    wait_for("the gap of the beginning is filled", || double.calls("ListLogEntries") == 1).await;
    // The list is behind the stream, and shows nothing at first.
    double.control(json!({"list_delay_ms": 800}));
    let mut audit = entry(0, now());
    audit.as_object_mut().expect("fields").remove("jsonPayload");
    audit["protoPayload"] = json!({"@type": "type.googleapis.com/google.cloud.audit.AuditLog", "methodName": "late"});
    double.write("cloudaudit.googleapis.com%2Factivity", &[audit]);
    wait_for("it came", || texts(&pipeline, "event_name").len() == 1).await;
    assert!(double.calls("ListLogEntries") >= 3, "by its id, and again");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_that_a_stream_does_not_carry_are_asked_for() {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    let mut options = options(&double);
    // No gap is listed while this test runs: what comes comes by its id.
    options.settle = Duration::from_secs(3600);
    let running = Running::start(&world, &pipeline, options);
    wait_for("the stream is open", || double.calls("TailLogEntries") == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let audit = |number: usize| {
        let mut entry = entry(number, now());
        entry.as_object_mut().expect("fields").remove("jsonPayload");
        entry["protoPayload"] = json!({
            "@type": "type.googleapis.com/google.cloud.audit.AuditLog", "methodName": format!("method {number}"),
        });
        entry
    };
    double.write("cloudaudit.googleapis.com%2Factivity", &(0..150).map(audit).collect::<Vec<_>>());
    wait_for("all came", || texts(&pipeline, "event_name").len() == 150).await;
    assert!(texts(&pipeline, "event_name").values().all(|count| *count == 1));
    assert_eq!(double.calls("ListLogEntries"), 2, "up to 100 ids at once");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_entries_are_filtered() {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    let running = Running::start(&world, &pipeline, options(&double));
    wait_for("the stream is open", || double.calls("TailLogEntries") == 1).await;
    double.write("sawlog", &[entry(0, now())]);
    write(&double, 1..2);
    wait_for("both are counted", || crate::world::ledger(&pipeline).received >= 2).await;
    assert_eq!(texts(&pipeline, "message"), orders(1..2));
    assert!(crate::world::ledger(&pipeline).filtered >= 1);
    running.end().await;
}
