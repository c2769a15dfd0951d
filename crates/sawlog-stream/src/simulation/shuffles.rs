//! One input in many orders: what is in time is counted alike, whenever it comes.
//!
//! For: the promise that panes do not depend on the order of arrival, on how events are cut into batches, or on when they
//! are flushed.

use std::collections::BTreeMap;

use sawlog_core::batch::AgeLimits;
use sawlog_core::rollup::{PaneTiming, Rollup};
use sawlog_seams::SeededRng;
use sawlog_seams::serving::ServingStore;

use super::check;
use super::history::{MIDNIGHT, finish, flush_all};
use super::input::{Activity, Batch, Event, Log, Metric, What};
use super::model::WindowKey;
use super::options::{DAY, HOUR, MINUTE, Options, SECOND};
use super::world::World;
use crate::stream_state::StreamOptions;

const SHUFFLES: u64 = 100;
const EVENTS: u64 = 300;

/// Events of the half hour before midnight, of more users than a list of frequent values has counters.
fn input(rng: &mut SeededRng) -> Vec<Event> {
    let mut events = Vec::new();
    for number in 0..EVENTS {
        let time = MIDNIGHT - rng.below(30 * MINUTE as u64) as i64;
        let user = format!("u{}", if rng.one_in(3) { rng.below(3) } else { rng.below(400) });
        let service = Some(format!("s{}", rng.below(3)));
        let what = match number % 3 {
            0 => What::Log(Log {
                service,
                level: "error",
                message: "payment failed",
                path: Some("/cart"),
                user: Some(user),
                duration_ms: Some(rng.below(4_000) as i64),
                ..Log::default()
            }),
            1 => {
                let value = rng.below(4_000) as f64 / 4.0;
                What::Metric(Metric { name: "cpu".to_owned(), service, host: None, core: None, value })
            }
            _ => What::Activity(Activity { name: "view".to_owned(), service, user, page: Some("/home") }),
        };
        events.push(Event { time, insert_id: Some(format!("id-{number}")), what });
    }
    events
}

fn shuffle<T>(rng: &mut SeededRng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, rng.below_usize(last + 1));
    }
}

/// The final panes of the events in this order, as bytes.
fn final_panes(rng: &mut SeededRng, mut events: Vec<Event>) -> BTreeMap<WindowKey, Vec<u8>> {
    let options = Options {
        stream: StreamOptions { allowed_lateness: HOUR, ..StreamOptions::default() },
        dedup_window: DAY,
        dedup_keys_max: u64::MAX,
        cells_at_once: 10_000,
    };
    let mut world = World::new(options, MIDNIGHT, None).expect("opens");
    let mut number = 0;
    while !events.is_empty() {
        let part = events.split_off(events.len() - (1 + rng.below_usize(40)).min(events.len()));
        let (id, source) = (format!("batch-{number}"), format!("source-{}", rng.below(3)));
        number += 1;
        let (receive_time, age) = (world.now(), AgeLimits::default());
        world.accept(Batch {
            id,
            source,
            receive_time,
            age,
            idempotency_key: None,
            rejected: 0,
            is_otlp: false,
            events: part,
        });
        world.clock.set_micros(receive_time + rng.below(30 * SECOND as u64) as i64);
        world.apply(rng.below_usize(3)).expect("as recounted");
        if rng.one_in(5) {
            flush_all(&mut world).expect("as recounted");
        }
        if rng.one_in(12) {
            let disk = world.disk.kill();
            world.restart(disk).expect("opens");
        }
    }
    finish(&mut world).expect("as recounted");
    let late: u64 = world.model.ledger.values().map(|counts| counts.late).sum();
    assert_eq!(late, 0, "all events are within the lateness");
    let panes = check::stored_panes(world.stores.serving.snapshot().as_ref()).expect("panes");
    let bytes = |key: &WindowKey, pane: sawlog_core::rollup::PaneCell| {
        assert_ne!(pane.timing, PaneTiming::Early, "{key:?}");
        let mut bytes = Vec::new();
        // What a full list of frequent values has given up depends on the order; its bounds were checked above.
        if key.rollup != Rollup::Top {
            pane.cell.write_to(&mut bytes);
        }
        bytes
    };
    panes.into_iter().map(|(key, pane)| (key.clone(), bytes(&key, pane))).collect()
}

#[test]
fn a_hundred_shuffles_of_one_input_give_the_same_final_panes() {
    let mut rng = SeededRng::new(1);
    let mut events = input(&mut rng);
    let first = final_panes(&mut rng, events.clone());
    assert!(first.len() > 500, "{} windows", first.len());
    for number in 0..SHUFFLES {
        shuffle(&mut rng, &mut events);
        let panes = final_panes(&mut rng, events.clone());
        let odd = panes.iter().find(|(key, pane)| first.get(key) != Some(pane));
        assert!(odd.is_none() && panes.len() == first.len(), "shuffle {number}: {odd:?}");
    }
}
