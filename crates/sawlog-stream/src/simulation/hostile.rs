//! Input that is meant to hurt, with the rule of docs/concepts/windows.md that it runs into.
//!
//! For: one case each, by name. Not for: combinations, which the histories draw.

use sawlog_core::batch::AgeLimits;
use sawlog_core::rollup::{Cell, OTHER, PaneTiming, Rollup, RollupOptions, Width};
use sawlog_core::rules::Rules;
use sawlog_core::schema::Table;
use sawlog_seams::serving::{Family, ServingStore};
use sawlog_seams::view::HotRollups;
use sawlog_seams::warehouse::Warehouse;

use super::check::stored_panes;
use super::history::{MIDNIGHT, finish, flush_all};
use super::input::{Activity, Batch, Event, Log, Metric, What};
use super::options::{DAY, HOUR, MINUTE, Options, SECOND};
use super::world::World;
use crate::frame::BatchFrame;
use crate::generation::Generation;
use crate::prepare::{self, Prepared};
use crate::stream_state::{StreamOptions, StreamState};

const YEAR: i64 = 365 * DAY;
/// For clocks that are off by more than the usual limits of age.
const ANY_AGE: AgeLimits = AgeLimits { past: Some(2 * YEAR), future: 2 * YEAR, is_history: false };

fn world() -> World {
    let options = Options {
        stream: StreamOptions::default(),
        dedup_window: HOUR,
        dedup_keys_max: u64::MAX,
        cells_at_once: 10_000,
    };
    World::new(options, MIDNIGHT, None).expect("opens")
}

fn log_at(time: i64) -> Event {
    let service = Some("shop".to_owned());
    Event { time, insert_id: None, what: What::Log(Log { service, level: "info", message: "fine", ..Log::default() }) }
}

/// Sends events and applies them, a second after the batch before.
fn send(world: &mut World, source: &str, age: AgeLimits, events: Vec<Event>) {
    let receive_time = world.now() + SECOND;
    world.clock.set_micros(receive_time);
    let (id, source) = (format!("batch-{receive_time}"), source.to_owned());
    let batch = Batch { id, source, receive_time, age, idempotency_key: None, rejected: 0, is_otlp: false, events };
    world.accept(batch);
    world.apply(usize::MAX).expect("as recounted");
}

fn watermark(world: &World) -> i64 {
    world.process.recovered.hot.read().stream.watermark()
}

fn timings(world: &World, rollup: Rollup, width: Width) -> Vec<(i64, PaneTiming)> {
    let panes = stored_panes(world.stores.serving.snapshot().as_ref()).expect("panes");
    let of_kind = panes.into_iter().filter(|(key, _)| key.rollup == rollup && key.width == width);
    of_kind.map(|(key, pane)| (key.start, pane.timing)).collect()
}

#[test]
fn a_clock_a_year_ahead_counts_as_the_receive_time_and_its_windows_wait_for_their_year() {
    let mut world = world();
    send(&mut world, "ahead", AgeLimits::default(), vec![log_at(MIDNIGHT + YEAR)]);
    assert_eq!(world.model.ledger.values().map(|counts| counts.dead_lettered).sum::<u64>(), 1, "beyond future-max");
    send(&mut world, "ahead", ANY_AGE, vec![log_at(MIDNIGHT + YEAR)]);
    assert_eq!(watermark(&world), world.now() - 5 * SECOND);
    send(&mut world, "right", ANY_AGE, vec![log_at(MIDNIGHT)]);
    assert_eq!(watermark(&world), MIDNIGHT - 3 * SECOND, "the least of both, and not back");
    flush_all(&mut world).expect("as recounted");
    let all = timings(&world, Rollup::Requests, Width::TenSeconds);
    assert_eq!(all, [(MIDNIGHT, PaneTiming::Early), (MIDNIGHT + YEAR, PaneTiming::Early)]);
    finish(&mut world).expect("as recounted");
    let all = timings(&world, Rollup::Requests, Width::TenSeconds);
    assert_eq!(all, [(MIDNIGHT, PaneTiming::OnTime), (MIDNIGHT + YEAR, PaneTiming::OnTime)]);
}

#[test]
fn a_clock_a_year_behind_holds_nobody_up_once_its_events_are_late() {
    let mut world = world();
    send(&mut world, "right", ANY_AGE, vec![log_at(MIDNIGHT)]);
    for second in 0..60 {
        send(&mut world, "behind", ANY_AGE, vec![log_at(MIDNIGHT + second * SECOND - YEAR)]);
        let now = world.now();
        send(&mut world, "right", ANY_AGE, vec![log_at(now)]);
        assert_eq!(watermark(&world), now - 5 * SECOND);
    }
    assert_eq!(world.model.ledger.values().map(|counts| counts.late).sum::<u64>(), 60);
    finish(&mut world).expect("as recounted");
    assert!(
        timings(&world, Rollup::Requests, Width::Hour).iter().all(|(start, _)| *start >= MIDNIGHT),
        "none is rolled up"
    );
}

#[test]
fn a_clock_of_this_machine_that_was_a_year_ahead_and_is_set_right_makes_nothing_late() {
    let mut world = world();
    let event = |time, id: &str| Event { insert_id: Some(id.to_owned()), ..log_at(time) };
    send(&mut world, "shop", AgeLimits::default(), vec![event(MIDNIGHT, "a")]);
    world.clock.set_micros(MIDNIGHT + YEAR);
    send(&mut world, "shop", AgeLimits::default(), vec![event(MIDNIGHT + YEAR, "b")]);
    flush_all(&mut world).expect("as recounted");
    // It counts as set right when it has been so for a minute.
    for now in [MIDNIGHT + 20 * MINUTE, MIDNIGHT + 21 * MINUTE] {
        world.clock.set_micros(now);
        assert!(world.tick().expect("as recounted"));
        world.apply(usize::MAX).expect("as recounted");
    }
    let now = world.now();
    // The slot at hand is given up; from the next one on repeats are recognized again.
    send(&mut world, "shop", AgeLimits::default(), vec![event(now, "c")]);
    assert_eq!(watermark(&world), world.now() - 6 * SECOND);
    flush_all(&mut world).expect("as recounted");
    for _ in 0..2 {
        send(&mut world, "shop", AgeLimits::default(), vec![event(now + 11 * MINUTE, "d")]);
        flush_all(&mut world).expect("as recounted");
    }
    let sums = world.model.ledger.values().fold((0, 0, 0), |(late, duplicate, stored), counts| {
        (late + counts.late, duplicate + counts.duplicate, stored + counts.stored)
    });
    assert_eq!(sums, (0, 1, 4));
    world.clock.set_micros(world.now() + MINUTE);
    assert!(world.tick().expect("as recounted"), "windows are complete in their time again");
    finish(&mut world).expect("as recounted");
}

#[test]
fn windows_that_are_open_again_after_a_clock_was_set_right_are_waited_for() {
    for is_flushed in [false, true] {
        let mut world = world();
        send(&mut world, "shop", AgeLimits::default(), vec![log_at(MIDNIGHT + 50 * SECOND)]);
        if is_flushed {
            flush_all(&mut world).expect("as recounted");
        }
        for now in [MIDNIGHT + 20 * MINUTE, MIDNIGHT + 2 * SECOND, MIDNIGHT + 62 * SECOND] {
            world.clock.set_micros(now);
            assert!(world.tick().expect("as recounted"));
            world.apply(usize::MAX).expect("as recounted");
        }
        let is_due = |time: i64| world.process.recovered.hot.read().stream.is_due(time, None);
        assert!(!is_due(MIDNIGHT + 94 * SECOND) && is_due(MIDNIGHT + 96 * SECOND), "60 s, and no source for 35 s");
        world.clock.set_micros(MIDNIGHT + 96 * SECOND);
        assert!(world.tick().expect("as recounted"));
        finish(&mut world).expect("as recounted");
    }
}

#[test]
fn a_source_that_was_behind_from_the_start_holds_all_up_until_it_is_silent() {
    let mut world = world();
    send(&mut world, "behind", ANY_AGE, vec![log_at(MIDNIGHT - YEAR)]);
    send(&mut world, "right", ANY_AGE, vec![log_at(MIDNIGHT)]);
    assert_eq!(watermark(&world), MIDNIGHT - YEAR - 5 * SECOND);
    let idle = world.now() + 31 * SECOND;
    world.clock.set_micros(idle);
    send(&mut world, "right", ANY_AGE, vec![log_at(idle)]);
    assert_eq!(watermark(&world), idle - 5 * SECOND);
    finish(&mut world).expect("as recounted");
}

#[test]
fn batches_of_which_nothing_counts_hold_nobody_up() {
    let mut world = world();
    let broken = Event { time: MIDNIGHT, insert_id: None, what: What::Broken };
    send(&mut world, "broken", AgeLimits::default(), vec![broken.clone()]);
    assert_eq!(world.process.recovered.hot.read().stream.stats().watermark, Some(world.now() - 35 * SECOND));
    for _ in 0..60 {
        send(&mut world, "broken", AgeLimits::default(), vec![broken.clone()]);
        send(&mut world, "empty", AgeLimits::default(), Vec::new());
        let now = world.now();
        send(&mut world, "right", AgeLimits::default(), vec![log_at(now)]);
        assert_eq!(watermark(&world), now - 5 * SECOND);
    }
    finish(&mut world).expect("as recounted");
}

#[test]
fn windows_without_an_event_have_no_pane_no_deadline_and_no_tick() {
    let mut world = world();
    send(&mut world, "quiet", AgeLimits::default(), Vec::new());
    send(&mut world, "quiet", AgeLimits::default(), vec![log_at(MIDNIGHT)]);
    for _ in 0..3 {
        world.clock.set_micros(world.now() + 7 * HOUR);
        // The first one completes the window of the event; the others have nothing to complete.
        world.tick().expect("as recounted");
        world.apply(usize::MAX).expect("as recounted");
        flush_all(&mut world).expect("as recounted");
    }
    assert!(!world.tick().expect("as recounted"));
    let snapshot = world.stores.serving.snapshot();
    assert!(snapshot.scan(Family::Deadline, b"", None).expect("cells").is_empty());
    for width in Width::ALL {
        assert_eq!(timings(&world, Rollup::Requests, width), [(MIDNIGHT, PaneTiming::OnTime)]);
    }
}

#[test]
fn the_last_microsecond_of_a_day_and_the_first_of_the_next_are_in_two_windows_of_every_width() {
    let mut world = world();
    send(&mut world, "night", AgeLimits::default(), vec![log_at(MIDNIGHT - 1), log_at(MIDNIGHT)]);
    finish(&mut world).expect("as recounted");
    for width in Width::ALL {
        let starts: Vec<i64> = timings(&world, Rollup::Requests, width).into_iter().map(|(start, _)| start).collect();
        assert_eq!(starts, [MIDNIGHT - width.micros(), MIDNIGHT]);
    }
    let days = world.stores.warehouse.stored(Rollup::Requests.pane_table()).expect("a table");
    let mut days: Vec<_> = days.files.iter().filter_map(|file| file.partition_days).collect();
    days.sort_unstable();
    days.dedup();
    assert_eq!(days, [(MIDNIGHT / DAY) as i32 - 1, (MIDNIGHT / DAY) as i32]);
}

#[test]
fn numbers_that_are_not_finite_are_rows_and_are_counted_apart() {
    let mut world = world();
    let point = |value| {
        let what = Metric { name: "cpu".to_owned(), service: None, host: None, core: None, value };
        Event { time: MIDNIGHT, insert_id: None, what: What::Metric(what) }
    };
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2.0];
    let (receive_time, source) = (world.now(), "meter".to_owned());
    for (number, values) in [&values[..3], &values[..]].into_iter().enumerate() {
        world.accept(Batch {
            id: format!("batch-{number}"),
            source: source.clone(),
            receive_time,
            age: AgeLimits::default(),
            idempotency_key: None,
            rejected: 0,
            is_otlp: true,
            events: values.iter().map(|value| point(*value)).collect(),
        });
    }
    finish(&mut world).expect("as recounted");
    assert_eq!(world.model.rows.len(), 7);
    let panes = stored_panes(world.stores.serving.snapshot().as_ref()).expect("panes");
    for pane in panes.into_values() {
        let Cell::Metric(cell) = pane.cell else { panic!("only metrics were sent") };
        assert_eq!((cell.count, cell.not_finite_count, cell.sum.value()), (7, 6, 2.0));
        assert_eq!((cell.min, cell.max), (Some(2.0), Some(2.0)));
    }
}

/// The rows of a batch, and its frame.
fn prepared(id: String, source: &str, events: Vec<Event>) -> Prepared {
    let receive_time = MIDNIGHT;
    let batch = Batch {
        id: id.clone(),
        source: source.to_owned(),
        receive_time,
        age: AgeLimits::default(),
        idempotency_key: None,
        rejected: 0,
        is_otlp: false,
        events,
    };
    prepare::prepare(batch.submission(), id, receive_time, &Rules::none()).expect("the body can be split")
}

/// Counts rows as the applier does, without keeping them.
fn count(state: &mut StreamState, active: &Generation, frame: &BatchFrame, prepared: &Prepared) {
    let mut tables = prepared.transformed.tables.clone();
    assert_eq!(state.take_in(frame, &mut tables, active).expect("counted").late_count, 0);
}

/// Ten million with `SAWLOG_LONG`, as `make test-long` has it.
#[test]
fn more_keys_than_the_limit_take_no_more_memory_than_the_limit() {
    const SERIES_MAX: usize = 1_000;
    const BATCH: u64 = 5_000;
    let keys: u64 = if std::env::var_os("SAWLOG_LONG").is_some() { 10_000_000 } else { 200_000 };
    let rollup = RollupOptions { series_max: SERIES_MAX, ..RollupOptions::default() };
    let options = StreamOptions { rollup, ..StreamOptions::default() };
    let snapshot = sawlog_seams::serving::MemoryServing::default().snapshot();
    let mut state = StreamState::load(options, snapshot.as_ref()).expect("nothing is stored");
    let active = Generation::default();
    let deltas = &active.rollups;
    let mut bytes_of_limit = 0;
    for first in (0..keys).step_by(BATCH as usize) {
        let event = |key: u64| {
            let metric = Metric { name: format!("m{key}"), service: None, host: None, core: None, value: 1.0 };
            Event { time: MIDNIGHT, insert_id: None, what: What::Metric(metric) }
        };
        let batch = prepared(format!("batch-{first}"), "keys", (first..first + BATCH).map(event).collect());
        count(&mut state, &active, &batch.frame, &batch);
        let bytes = deltas.read().memory_bytes();
        if first == 0 {
            bytes_of_limit = bytes;
        }
        assert_eq!(bytes, bytes_of_limit, "after {first} keys");
    }
    assert!(bytes_of_limit < SERIES_MAX * 1_024, "{bytes_of_limit}");
    let stats = state.stats().rollups;
    assert!(stats.contains(&(Rollup::Metrics, SERIES_MAX, keys - SERIES_MAX as u64)), "{stats:?}");
    let other = Some(OTHER.to_owned());
    for width in Width::ALL {
        let mut counts = [0, 0];
        for (key, cell) in deltas.cells(Rollup::Metrics, width, i64::MIN..i64::MAX) {
            let (Some((_, key)), Cell::Metric(cell)) = (sawlog_core::rollup::decode(&key), cell) else {
                panic!("a key")
            };
            counts[usize::from(key.parts[0] == other)] += cell.count;
        }
        assert_eq!(counts, [SERIES_MAX as u64, keys - SERIES_MAX as u64], "nothing is lost, {width:?}");
    }
}

#[test]
fn a_user_with_a_million_events_is_one_user_of_little_memory() {
    const EVENTS: u64 = 1_000_000;
    const BATCH: u64 = 10_000;
    let snapshot = sawlog_seams::serving::MemoryServing::default().snapshot();
    let mut state = StreamState::load(StreamOptions::default(), snapshot.as_ref()).expect("nothing is stored");
    let active = Generation::default();
    let deltas = &active.rollups;
    let event = |number: u64| {
        let activity = Activity { name: "view".to_owned(), service: None, user: "bot".to_owned(), page: Some("/home") };
        let time = MIDNIGHT - (number * 30 * MINUTE as u64 / BATCH) as i64;
        Event { time, insert_id: None, what: What::Activity(activity) }
    };
    let batch = prepared("batch".to_owned(), "web", (0..BATCH).map(event).collect());
    for _ in 0..EVENTS / BATCH {
        count(&mut state, &active, &batch.frame, &batch);
    }
    let memory = (deltas.read().memory_bytes(), active.sessions.read().memory_bytes());
    assert!(memory.0 < 1 << 20 && memory.1 < 1 << 14, "{memory:?}");
    let chains = active.sessions.read().of("bot").to_vec();
    let options = &StreamOptions::default().session;
    let sessions: Vec<u64> =
        chains.iter().flat_map(|chain| chain.sessions(options)).map(|(session, _)| session.event_count()).collect();
    assert_eq!(sessions, [EVENTS], "one session");
    let (mut events, mut listed) = (0, 0);
    for (_, cell) in deltas.cells(Rollup::Activity, Width::Hour, i64::MIN..i64::MAX) {
        let Cell::Activity(cell) = cell else { panic!("a cell of activity") };
        events += cell.count;
        assert_eq!(cell.users.count(), 1);
    }
    for (_, cell) in deltas.cells(Rollup::Top, Width::Hour, i64::MIN..i64::MAX) {
        let Cell::Top(top) = cell else { panic!("a list") };
        listed += top.top(20).iter().filter(|value| value.value == b"bot").map(|value| value.count).sum::<u64>();
    }
    assert_eq!((events, listed), (EVENTS, EVENTS));
    assert_eq!(batch.transformed.tables[Table::Activity as usize].num_rows() as u64, BATCH);
}
