//! What no stream shows: gaps longer than the dedup window, lists that outlast their stream, floods of lost payloads.

use std::collections::BTreeMap;
use std::time::Duration;

use sawlog_gcp::logging::{BackfillOptions, TailOptions, backfill};
use sawlog_seams::SeededRng;
use sawlog_seams::disk::write_atomic;
use sawlog_stream::Pipeline;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::tail::{QUICK, Running, options};
use super::{LoggingDouble, entry, now, state, wait_for};
use crate::world::{World, folder, store_one_of_now, texts};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;

/// The file of a tail that ended at that time, microseconds.
fn ended_at(world: &World, time: i64) {
    let file = json!({"version": 1, "complete_until": time * 1_000}).to_string();
    write_atomic(world.disk.as_ref(), &folder().join("tail.json"), file.as_bytes()).expect("written");
}

fn is_once_each(found: &BTreeMap<String, usize>, count: usize) -> bool {
    found.len() == count && found.values().all(|count| *count == 1)
}

fn check_once_each(pipeline: &Pipeline, count: usize) {
    let found = texts(pipeline, "message");
    let twice: Vec<_> = found.iter().filter(|(_, count)| **count != 1).take(3).collect();
    assert!(is_once_each(&found, count), "{} of {count}; {twice:?}", found.len());
}

/// Waits until nothing is listed any more.
async fn wait_for_silence(double: &LoggingDouble) {
    let mut calls = u64::MAX;
    while calls != double.calls("ListLogEntries") {
        calls = double.calls("ListLogEntries");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn audit(number: usize) -> Value {
    let mut audit = entry(number, now());
    audit.as_object_mut().expect("fields").remove("jsonPayload");
    audit["protoPayload"] = json!({
        "@type": "type.googleapis.com/google.cloud.audit.AuditLog", "methodName": format!("method {number}"),
    });
    audit
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_longer_than_the_dedup_window_repeats_nothing() {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    let end = now() - 3 * HOUR;
    // The last entries before the end of the last run are stored; those of its very last time too.
    let stored = |number: usize| entry(number, end - 30 * SECOND + number as i64 * SECOND / 2);
    double.write("orders", &(0..50).map(stored).collect::<Vec<_>>());
    let range = BackfillOptions {
        query: double.query(),
        from: end - 60 * SECOND,
        until: end,
        progress_file: folder().join("backfill.json"),
    };
    let (_stop, stopped) = watch::channel(false);
    let report = backfill(range, state(&world, &pipeline, QUICK), stopped).await.expect("loaded");
    assert_eq!(report.counts.stored, 50);
    ended_at(&world, end);
    let missed = |number: usize| entry(number, end + (number - 50) as i64 * HOUR / 100);
    double.write("orders", &(50..350).map(missed).collect::<Vec<_>>());
    store_one_of_now(&pipeline).await;
    let running = Running::start(&world, &pipeline, options(&double));
    wait_for("all entries came", || texts(&pipeline, "message").len() >= 350).await;
    wait_for_silence(&double).await;
    check_once_each(&pipeline, 350);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_gap_whose_fill_is_killed_again_and_again_comes_once() {
    const COUNT: usize = 3_000;
    let double = LoggingDouble::start();
    let (mut world, mut rng) = (World::new(), SeededRng::new(11));
    let end = now() - 5 * HOUR;
    ended_at(&world, end);
    // Five share a time.
    let missed = |number: usize| entry(number, end + (number / 5) as i64 * 20 * SECOND);
    double.write("orders", &(0..COUNT).map(missed).collect::<Vec<_>>());
    let mut options = options(&double);
    options.query.page_entries = 25;
    options.settle = Duration::from_millis(20);
    let mut kills = 0;
    loop {
        let pipeline = world.open().await;
        store_one_of_now(&pipeline).await;
        let running = Running::start(&world, &pipeline, options.clone());
        // By calls, not by time: a quick machine is done before a time is over.
        let last_call = double.calls("ListLogEntries") + 3 + rng.below(6);
        let mut found = 0;
        while found < COUNT && double.calls("ListLogEntries") < last_call {
            tokio::time::sleep(Duration::from_millis(2)).await;
            found = texts(&pipeline, "message").len();
        }
        if found >= COUNT {
            wait_for_silence(&double).await;
            check_once_each(&pipeline, COUNT);
            running.end().await;
            break;
        }
        kills += 1;
        assert!(kills < 300, "it gets nowhere: {found} of {COUNT}");
        running.kill().await;
        world = world.after_kill();
    }
    assert!(kills > 2, "it was killed {kills} times");
}

/// Entries of some time ago that take many pages come although streams end all the time.
async fn check_fill_over_streams(age: i64) {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    let end = now() - age;
    ended_at(&world, end);
    let missed = |number: usize| entry(number, end + number as i64 * SECOND);
    double.write("orders", &(0..400).map(missed).collect::<Vec<_>>());
    double.fail(json!({"call": "TailLogEntries", "status": "UNAVAILABLE", "delay_ms": 300, "count": 10_000}));
    double.fail(json!({"call": "ListLogEntries", "delay_ms": 30, "count": 10_000}));
    let mut options = options(&double);
    options.query.page_entries = 10;
    options.settle = Duration::from_millis(20);
    let running = Running::start(&world, &pipeline, options);
    wait_for("all entries came", || texts(&pipeline, "message").len() >= 400).await;
    assert!(double.calls("TailLogEntries") > 3, "{} streams", double.calls("TailLogEntries"));
    check_once_each(&pipeline, 400);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_gap_whose_list_outlasts_its_stream_is_filled() {
    check_fill_over_streams(600 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_gap_whose_list_outlasts_its_stream_is_filled() {
    check_fill_over_streams(4 * HOUR).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_lost_payloads_is_listed_as_a_gap() {
    const COUNT: usize = 5_000;
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    // The project's own quota: six requests at once, then one a second.
    let running = Running::start_at(&world, &pipeline, options(&double), 60);
    wait_for("the gap of the beginning is filled", || double.calls("ListLogEntries") == 1).await;
    double.write("cloudaudit.googleapis.com%2Factivity", &(0..COUNT).map(audit).collect::<Vec<_>>());
    wait_for("all came", || texts(&pipeline, "event_name").len() == COUNT).await;
    assert!(is_once_each(&texts(&pipeline, "event_name"), COUNT));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_notes_its_beginning_before_it_asks_for_anything() {
    let double = LoggingDouble::start();
    let world = World::new();
    let pipeline = world.open().await;
    double.fail(json!({"call": "TailLogEntries", "hang": true, "count": 10_000}));
    double.fail(json!({"call": "ListLogEntries", "hang": true, "count": 10_000}));
    let running = Running::start(&world, &pipeline, options(&double));
    wait_for("the stream was asked for", || double.calls("TailLogEntries") == 1).await;
    let called = now();
    running.kill().await;
    // The time in between belongs to the tail that is started next.
    double.fail_no_more();
    double.write("orders", &[entry(0, called)]);
    let world = world.after_kill();
    let pipeline = world.open().await;
    let options = TailOptions { overlap: Duration::ZERO, ..options(&double) };
    let running = Running::start(&world, &pipeline, options);
    wait_for("the entry came", || texts(&pipeline, "message").len() == 1).await;
    running.end().await;
}
