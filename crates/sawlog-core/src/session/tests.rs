//! Sessions against a naive grouping of all events.

use arrow_array::cast::AsArray;
use proptest::prelude::*;

use super::deltas::insert;
use super::*;
use crate::rollup::PaneTiming;

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 86_400_000_000;
const OPTIONS: SessionOptions = SessionOptions { gap: 30 * MINUTE, length_max: DAY };

fn chains_of(minutes: &[i64]) -> Vec<Chain> {
    let mut chains = Vec::new();
    for minute in minutes {
        let step = format!("p{minute}");
        insert(
            &mut chains,
            Chain::of(&Event { time: minute * MINUTE, step: Some(&step), ..Event::default() }),
            &OPTIONS,
        );
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
    let row = SessionRow { user: "u", chain: &chains[0], index: 0, timing: PaneTiming::OnTime, is_retracted: false };
    let rows = session_rows([row], &OPTIONS).expect("rows");
    assert_eq!(rows.num_rows(), 4);
    assert!(rows.column_by_name("is_cut").expect("flags").as_boolean().iter().all(|flag| flag == Some(true)));
    let events = rows.column_by_name("event_count").expect("counts");
    assert_eq!(events.as_primitive::<arrow_array::types::Int64Type>().values().iter().sum::<i64>(), 200);
}

#[test]
fn a_million_events_of_one_user_take_bounded_memory() {
    let mut chains = Vec::new();
    for index in 0..1_000_000i64 {
        let step = format!("/page/{index}");
        insert(&mut chains, Chain::of(&Event { time: index * 1_000, step: Some(&step), ..Event::default() }), &OPTIONS);
    }
    assert!(chains.len() == 1 && chains[0].memory_bytes() < 16 * 1024, "{}", chains[0].memory_bytes());
    assert!(chains[0].to_bytes().len() < 8 * 1024);
}

proptest! {
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
        chains_of(front).into_iter().for_each(|chain| insert(&mut chains, chain, &OPTIONS));
        chains.sort_by_key(Chain::first);
        let whole = SessionOptions { length_max: i64::MAX, ..OPTIONS };
        let found: Vec<_> = chains
            .iter()
            .map(|chain| (chain.first() / MINUTE, chain.last() / MINUTE, chain.sessions(&whole)[0].event_count))
            .collect();
        prop_assert_eq!(found, naive);
        prop_assert_eq!(&chains, &chains_of(&sorted), "paths, entries and exits too");
        for chain in &chains {
            prop_assert_eq!(Chain::from_bytes(&chain.to_bytes()), Ok(chain.clone()));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Chain::from_bytes(&[&[1], bytes.as_slice()].concat());
    }
}
