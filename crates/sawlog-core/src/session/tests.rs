//! Sessions against a naive grouping of all events.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use proptest::prelude::*;

use super::deltas::join;
use super::*;
use crate::rollup::PaneTiming;

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 86_400_000_000;
const OPTIONS: SessionOptions = SessionOptions { gap: 30 * MINUTE, length_max: DAY };

fn chains_of(minutes: &[i64]) -> Vec<Chain> {
    let mut chains = Vec::new();
    for minute in minutes {
        let step = format!("p{minute}");
        chains.push(Chain::of(&Event { time: minute * MINUTE, step: Some(&step), ..Event::default() }));
        join(&mut chains, &OPTIONS);
    }
    chains.sort_by_key(Chain::first);
    chains
}

#[track_caller]
fn check(minutes: &[i64], sessions: &[(i64, i64)]) {
    let found: Vec<_> =
        chains_of(minutes).iter().map(|chain| (chain.first() / MINUTE, chain.last() / MINUTE)).collect();
    assert_eq!(found, sessions);
}

#[test]
fn a_pause_as_long_as_the_gap_ends_a_session() {
    check(&[0, 29, 58], &[(0, 58)]);
    check(&[0, 30], &[(0, 0), (30, 30)]);
}

#[test]
fn a_late_event_bridges_two_sessions() {
    check(&[0, 50, 25], &[(0, 50)]);
    check(&[50, 0, 75, 25], &[(0, 75)]);
}

#[test]
fn a_session_longer_than_a_day_is_cut_at_midnight() {
    let minutes: Vec<i64> = (0..200).map(|step| 12 * 60 + step * 20).collect();
    let chains = chains_of(&minutes);
    assert_eq!(chains.len(), 1);
    let advanced = advance("u", Vec::new(), &chains, 100 * DAY, 0, &OPTIONS);
    let rows = session_rows(&advanced.emitted).expect("rows");
    assert_eq!(rows.num_rows(), 4);
    assert!(rows.column_by_name("is_cut").expect("flags").as_boolean().iter().all(|flag| flag == Some(true)));
    let events = rows.column_by_name("event_count").expect("counts");
    assert_eq!(events.as_primitive::<arrow_array::types::Int64Type>().values().iter().sum::<i64>(), 200);
}

#[test]
fn a_million_events_of_one_user_take_bounded_memory() {
    let mut deltas = SessionDeltas::default();
    for index in 0..1_000_000i64 {
        let step = format!("/page/{index}");
        deltas.add_event("u", &Event { time: index * 1_000, step: Some(&step), ..Event::default() }, &OPTIONS);
    }
    let chains = deltas.of("u");
    assert!(deltas.memory_bytes() < 32 * 1024, "{}", deltas.memory_bytes());
    assert!(chains.len() == 1 && chains[0].memory_bytes() < 16 * 1024, "{}", chains[0].memory_bytes());
    assert!(chains[0].to_bytes().len() < 8 * 1024);
}

#[test]
fn events_in_the_opposite_order_are_measured_alike() {
    let mut deltas = SessionDeltas::default();
    for index in (0..10_000i64).rev() {
        let step = format!("/page/{index}");
        deltas.add_event("u", &Event { time: index * 1_000, step: Some(&step), ..Event::default() }, &OPTIONS);
    }
    let (counted, measured) = (deltas.memory_bytes(), deltas.of("u")[0].memory_bytes());
    assert!(counted.abs_diff(measured) < measured / 2, "{counted} bytes counted, {measured} measured");
}

/// The store and the pane table of one user.
#[derive(Default)]
struct Store {
    chains: Vec<StoredChain>,
    /// By start: newest pane.
    panes: BTreeMap<i64, SessionRow>,
    emitted: Vec<SessionRow>,
}

const LATENESS: i64 = 60 * MINUTE;

impl Store {
    fn advance(&mut self, minutes: &[i64], watermark: i64) {
        let mut deltas = SessionDeltas::default();
        for minute in minutes {
            let step = format!("p{minute}");
            deltas.add_event("u", &Event { time: minute * MINUTE, step: Some(&step), ..Event::default() }, &OPTIONS);
        }
        let stored = std::mem::take(&mut self.chains);
        let advanced = advance("u", stored.clone(), deltas.of("u"), watermark * MINUTE, LATENESS, &OPTIONS);
        assert_eq!(advanced.replaced.len() + advanced.unchanged.len(), stored.len());
        self.chains = [advanced.unchanged, advanced.changed].concat();
        self.chains.sort_by_key(|stored| stored.chain.first());
        for row in &advanced.emitted {
            let older = self.panes.insert(row.session.first, row.clone());
            assert!(older.is_none_or(|older| older.index < row.index), "{row:?}");
        }
        self.emitted.extend(advanced.emitted);
        let user = UserChains { listed: watermark, chains: std::mem::take(&mut self.chains) };
        self.chains = UserChains::from_bytes(&user.to_bytes()).expect("chains").chains;
    }

    fn sessions(&self) -> Vec<(i64, i64, u64)> {
        let kept = self.panes.values().filter(|row| !row.is_retracted);
        kept.map(|row| (row.session.first / MINUTE, row.session.last / MINUTE, row.session.event_count)).collect()
    }

    fn timings(&self) -> Vec<(i64, PaneTiming, bool)> {
        self.emitted.iter().map(|row| (row.session.first / MINUTE, row.timing, row.is_retracted)).collect()
    }
}

#[test]
fn a_session_is_emitted_once_it_is_complete_and_forgotten_when_nothing_can_touch_it() {
    let mut store = Store::default();
    store.advance(&[0, 10], 39);
    assert!(store.emitted.is_empty() && store.chains[0].open_rows("u", 39 * MINUTE, &OPTIONS).count() == 1);
    store.advance(&[], 40);
    store.advance(&[], 41);
    assert_eq!(store.timings(), [(0, PaneTiming::OnTime, false)]);
    store.advance(&[], 99);
    assert_eq!(store.chains.len(), 1);
    store.advance(&[], 100);
    assert_eq!((store.chains.len(), store.emitted.len()), (0, 1));
}

#[test]
fn a_late_event_that_bridges_two_emitted_sessions_takes_the_second_back() {
    use PaneTiming::{Late, OnTime};
    let mut store = Store::default();
    store.advance(&[0, 50], 90);
    assert_eq!(store.timings(), [(0, OnTime, false), (50, OnTime, false)]);
    store.advance(&[25], 91);
    assert_eq!(store.timings()[2..], [(0, Late, false), (50, Late, true)]);
    assert_eq!(store.sessions(), [(0, 50, 3)]);
}

#[test]
fn a_session_that_opens_again_is_emitted_again_when_it_is_complete() {
    use PaneTiming::{Late, OnTime};
    let mut store = Store::default();
    store.advance(&[0], 30);
    store.advance(&[29], 31);
    assert_eq!(store.timings(), [(0, OnTime, false)]);
    store.advance(&[], 59);
    assert_eq!(store.timings()[1..], [(0, Late, false)]);
    store.advance(&[], 60);
    assert_eq!(store.sessions(), [(0, 29, 2)]);
    store.advance(&[-5], 60);
    assert_eq!(store.timings()[2..], [(-5, OnTime, false), (0, Late, true)], "one that begins earlier is another");
}

#[test]
fn a_user_who_never_pauses_has_a_row_for_each_day_and_takes_no_more_memory() {
    let mut store = Store::default();
    let mut bytes = Vec::new();
    for day in 0..40 {
        let minutes: Vec<i64> = (0..144).map(|step| day * 1_440 + step * 10).collect();
        store.advance(&minutes, day * 1_440 + 1_430);
        bytes.push(store.chains[0].to_bytes().len());
    }
    assert_eq!(store.sessions().len(), 39, "the last day is open");
    assert!(store.panes.values().all(|row| row.is_cut && row.session.event_count == 144));
    assert!(bytes[39] < bytes[3] * 2, "{bytes:?}");
    store.advance(&[5 * 1_440 + 5], 40 * 1_440 - 5);
    assert_eq!(store.sessions().len(), 39, "history in a settled day changes nothing");
    store.advance(&[], 42 * 1_440);
    assert_eq!(store.sessions().len(), 40);
}

#[test]
fn a_session_that_turns_out_to_be_a_day_of_a_longer_one_is_emitted_again_with_the_mark() {
    let mut store = Store::default();
    store.advance(&[1_425], 1_455);
    let row = |store: &Store| store.emitted.iter().map(|row| (row.timing, row.is_cut)).collect::<Vec<_>>();
    assert_eq!(row(&store), [(PaneTiming::OnTime, false)]);
    let day_and_more: Vec<i64> = (0..80).map(|step| 1_445 + step * 20).collect();
    store.advance(&day_and_more, 1_456);
    assert_eq!(row(&store)[1..], [(PaneTiming::Late, true)], "its events are the same");
}

#[test]
fn chains_of_version_1_are_read() {
    let mut errors = crate::top_k::TopK::new(16);
    errors.add(b"no stock", 2);
    errors.add(b"timed out", 3);
    let event = Event { time: MINUTE, is_error: true, ..Event::default() };
    let mut bytes = Chain::of(&event).to_bytes();
    assert_eq!(bytes.pop(), Some(0), "no kind of error");
    bytes[0] = 1;
    errors.write_to(&mut bytes);
    let chain = Chain::from_bytes(&bytes).expect("a chain");
    let rows = session_rows(&advance("u", Vec::new(), &[chain], DAY, 0, &OPTIONS).emitted).expect("rows");
    assert_eq!(rows.column_by_name("top_error").expect("texts").as_string::<i32>().value(0), "timed out");
}

#[test]
fn a_key_names_its_user() {
    for user in ["ab", "a", "abc", "ab\u{0}", "ab\u{1}", "ab "] {
        assert_eq!(user_of(&key(user)).as_deref(), Some(user));
    }
    assert_eq!(user_of(&[key("ab"), vec![0]].concat()), None);
}

proptest! {
    #[test]
    fn in_whatever_steps_events_arrive_the_newest_panes_are_the_sessions_of_all_events(
        steps in proptest::collection::vec((proptest::collection::vec(-89i64..1, 0..6), 0i64..40), 1..60),
    ) {
        let (mut store, mut watermark, mut all) = (Store::default(), 0, Vec::new());
        for (ages, passed) in steps {
            watermark += passed;
            // In time: the watermark is less than the lateness past the event.
            let minutes: Vec<i64> = ages.iter().map(|age| watermark + age + 30).collect();
            store.advance(&minutes, watermark);
            all.extend(minutes);
            // Once more without anything changes nothing.
            let (chains, emitted) = (store.chains.clone(), store.emitted.len());
            store.advance(&[], watermark);
            prop_assert_eq!(&store.chains, &chains);
            prop_assert_eq!(store.emitted.len(), emitted);
        }
        store.advance(&[], watermark + 1_000_000);
        store.advance(&[], watermark + 2_000_000);
        prop_assert!(store.chains.is_empty());
        let whole = chains_of(&all);
        let expected: Vec<_> = whole
            .iter()
            .flat_map(|chain| chain.sessions(&OPTIONS))
            .map(|(session, _)| (session.first / MINUTE, session.last / MINUTE, session.event_count))
            .collect();
        prop_assert_eq!(store.sessions(), expected);
    }

    #[test]
    fn any_order_and_split_gives_the_sessions_of_all_events(minutes in proptest::collection::vec(0i64..4_000, 1..120), cut in 0usize..120) {
        let mut sorted = minutes.clone();
        sorted.sort_unstable();
        let mut naive: Vec<(i64, i64, u64)> = Vec::new();
        for &minute in &sorted {
            match naive.last_mut() {
                Some((_, last, count)) if minute - *last < 30 => { *last = minute; *count += 1; }
                _ => naive.push((minute, minute, 1)),
            }
        }
        let (front, back) = minutes.split_at(cut.min(minutes.len()));
        let mut chains = chains_of(back);
        chains.extend(chains_of(front));
        join(&mut chains, &OPTIONS);
        let whole = SessionOptions { length_max: i64::MAX, ..OPTIONS };
        let found: Vec<_> = chains
            .iter()
            .map(|chain| (chain.first() / MINUTE, chain.last() / MINUTE, chain.sessions(&whole)[0].0.event_count))
            .collect();
        prop_assert_eq!(found, naive);
        prop_assert_eq!(&chains, &chains_of(&sorted), "paths, entries and exits too");
        for chain in &chains {
            prop_assert_eq!(Chain::from_bytes(&chain.to_bytes()), Ok(chain.clone()));
        }
    }

    #[test]
    fn more_kinds_of_errors_than_are_counted_give_equal_rows_in_any_order(
        (errors, shuffled) in proptest::collection::vec((0i64..600, 0u16..150), 150..300)
            .prop_flat_map(|errors| (Just(errors.clone()), Just(errors).prop_shuffle())),
    ) {
        let rows_of = |errors: &[(i64, u16)]| {
            let mut deltas = SessionDeltas::default();
            for (minute, kind) in errors {
                let error = format!("error {kind}");
                let event = Event { time: minute * MINUTE, is_error: true, error: Some(&error), ..Event::default() };
                deltas.add_event("u", &event, &OPTIONS);
            }
            session_rows(&advance("u", Vec::new(), deltas.of("u"), 100 * DAY, 0, &OPTIONS).emitted).expect("rows")
        };
        prop_assert_eq!(rows_of(&errors), rows_of(&shuffled));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Chain::from_bytes(&[&[2], bytes.as_slice()].concat());
    }
}
