//! A service that fails in passing.

use std::time::{Duration, Instant};

use sawlog_gcp::bigtable::Bigtable;
use sawlog_seams::Position;
use sawlog_seams::serving::{Family, Mutation, ServingSnapshot, ServingStore};

use super::world::{World, apply, cells, set};

fn numbered(count: u32) -> Vec<Mutation> {
    (0..count).map(|number| set(Family::Session, &format!("{number:05}"), "value")).collect()
}

#[test]
fn calls_that_fail_in_passing_are_made_again_until_they_go_well() {
    for (method, when) in [
        ("MutateRows", "before"),
        ("MutateRows", "after"),
        ("MutateRows", "partly"),
        ("MutateRows", "reset"),
        ("CheckAndMutateRow", "before"),
        ("CheckAndMutateRow", "after"),
        ("CheckAndMutateRow", "reset"),
        ("ReadRows", "before"),
        ("ReadRows", "amid"),
    ] {
        for code in ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED"] {
            let world = World::new();
            let store = world.open();
            apply(&store, numbered(10), 10);
            world.fail(&format!(r#"{{"method":"{method}","times":3,"when":"{when}","code":"{code}"}}"#));
            apply(&store, numbered(100), 20);
            let expected = cells(store.snapshot().as_ref(), Family::Session);
            assert_eq!(expected.len(), 100);
            assert_eq!(cells(&world.reader(), Family::Session), expected, "{method} {when} {code}");
            assert!(world.calls(method) > 3, "the faults were met");
        }
    }
}

#[test]
fn flushes_go_on_by_themselves_after_an_outage_that_opened_the_breaker() {
    let mut world = World::new();
    world.options.retry.breaker_after = Duration::from_millis(50);
    world.options.retry.breaker_pause = Duration::from_millis(20);
    world.options.retry.total_max = Duration::from_millis(200);
    let store = world.open();
    // Of two tables, so that one request is let through and the other is not.
    let changes = || vec![set(Family::Session, "a", "1"), set(Family::EventId, "b", "1")];
    world.fail(r#"{"method":"MutateRows","times":1000000,"when":"before","code":"UNAVAILABLE"}"#);
    for _ in 0..3 {
        store.apply(changes(), Position(10)).expect_err("the service is away");
    }
    world.fail(r#"{"method":"MutateRows","times":0}"#);
    let flushed = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        store.apply(changes(), Position(10)).is_ok()
    });
    assert!(flushed, "the breaker stays open though the service is back");
    assert_eq!(cells(&world.reader(), Family::Session), ["a=1"]);
}

#[test]
fn only_rows_that_failed_are_sent_again() {
    let world = World::new();
    let store = world.open();
    let before = world.calls("MutateRows");
    // Every second row fails, again and again: 64, 32, 16, … rows are sent.
    world.fail(r#"{"method":"MutateRows","times":5,"when":"partly","code":"UNAVAILABLE"}"#);
    apply(&store, numbered(64), 10);
    assert_eq!(world.calls("MutateRows") - before, 6);
    assert_eq!(cells(&world.reader(), Family::Session).len(), 64);
}

#[test]
fn a_stream_that_breaks_off_goes_on_behind_the_last_row() {
    let world = World::new();
    let store = world.open();
    apply(&store, numbered(5_000), 10);
    let reader = world.reader();
    world.fail(r#"{"method":"ReadRows","times":20,"when":"amid","answers":100,"code":"UNAVAILABLE"}"#);
    let expected = cells(store.snapshot().as_ref(), Family::Session);
    assert_eq!(cells(&reader, Family::Session), expected, "each row once, in order");
    world.fail(r#"{"method":"ReadRows","times":3,"when":"amid","answers":7,"code":"UNAVAILABLE"}"#);
    assert_eq!(reader.scan(Family::Session, b"00010", Some(b"00050")).expect("read").len(), 40);
}

#[test]
fn what_does_not_pass_ends_the_call_at_once_and_names_the_row() {
    let world = World::new();
    let store = world.open();
    world.fail(r#"{"method":"MutateRows","times":1,"when":"partly","code":"INVALID_ARGUMENT"}"#);
    let error = store.apply(numbered(2), Position(10)).expect_err("refused").to_string();
    assert!(error.contains("refused row 0… of 5 bytes") && error.contains("INVALID_ARGUMENT"), "{error}");
    world.fail(r#"{"method":"MutateRows","times":1,"when":"before","code":"PERMISSION_DENIED"}"#);
    let error = store.apply(numbered(2), Position(10)).expect_err("refused").to_string();
    assert!(error.contains("Bigtable MutateRows") && error.contains("(tries: 1)"), "{error}");
    apply(&store, numbered(2), 10);
}

#[test]
fn a_service_that_hangs_or_is_away_holds_nobody_up_for_longer_than_is_set() {
    let mut world = World::new();
    let store = world.open();
    apply(&store, numbered(1), 1);
    world.fail(r#"{"method":"MutateRows","times":1,"when":"hang"}"#);
    let started = Instant::now();
    apply(&store, numbered(10), 10);
    assert!(started.elapsed() >= world.options.retry.try_max, "the first try hung");
    drop(store);
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    world.options.access = sawlog_gcp::Access::new(Some(format!("http://{gone}"))).expect("a URL");
    world.options.retry.total_max = Duration::from_millis(300);
    let started = Instant::now();
    let error = world.connect().snapshot().map(drop).expect_err("nobody is there").to_string();
    assert!(error.contains("Bigtable ReadRows") && started.elapsed() < Duration::from_secs(3), "{error}");
}

#[test]
fn a_service_that_asks_for_a_pause_gets_it() {
    let world = World::new();
    let store = world.open();
    let places = [("MutateRows", "before"), ("MutateRows", "partly"), ("CheckAndMutateRow", "before")];
    for ((method, when), position) in places.into_iter().zip(1..) {
        let fault =
            format!(r#"{{"method":"{method}","times":1,"when":"{when}","code":"RESOURCE_EXHAUSTED","retry_ms":600}}"#);
        world.fail(&fault);
        let started = Instant::now();
        apply(&store, numbered(10), position);
        assert!(started.elapsed() >= Duration::from_millis(600), "{method} {when}: {:?}", started.elapsed());
    }
}

#[test]
fn calls_are_counted_by_outcome() {
    let world = World::new();
    let bigtable = world.connect();
    world.fail(r#"{"method":"ReadRows","times":2,"when":"before","code":"UNAVAILABLE"}"#);
    bigtable.snapshot().expect("in the end");
    let counts = bigtable.counts();
    let calls = |outcome| counts.get(&("ReadRows", outcome)).map_or(0, |count| count.calls);
    assert_eq!((calls("UNAVAILABLE"), calls("OK")), (2, 1));
}

#[test]
fn a_large_flush_goes_in_many_requests_at_once() {
    let mut world = World::new();
    (world.options.request_bytes_max, world.options.requests_max) = (16 << 10, 4);
    let store = world.open();
    let started = world.calls("CheckAndMutateRow");
    apply(&store, numbered(20_000), 10);
    assert!(world.calls("MutateRows") > 100);
    assert_eq!(world.calls("CheckAndMutateRow") - started, 1);
    let mut count = 0;
    let counted = world.reader().scan_each(Family::Session, b"", None, &mut |_, _| {
        count += 1;
        std::ops::ControlFlow::Continue(())
    });
    counted.expect("read");
    assert_eq!(count, 20_000);
}

#[test]
fn requests_that_are_given_up_leave_room_for_others() {
    let mut world = World::new();
    (world.options.request_mutations_max, world.options.requests_max) = (3, 4);
    let store = world.open();
    for _ in 0..5 {
        world.fail(r#"{"method":"MutateRows","times":1,"when":"before","code":"PERMISSION_DENIED"}"#);
        store.apply(numbered(50), Position(10)).expect_err("refused");
    }
    apply(&store, numbered(50), 10);
}

#[test]
fn tables_that_are_missing_are_an_error_that_says_so() {
    let mut world = World::new();
    world.options.table = "other".to_owned();
    let bigtable: std::sync::Arc<Bigtable> = world.connect();
    let error = bigtable.snapshot().map(drop).expect_err("no table").to_string();
    assert!(error.contains("tables/other\" not found") && error.contains("tries: 1"), "{error}");
}
