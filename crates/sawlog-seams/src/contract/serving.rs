//! Contract of [`ServingStore`]: one function per sentence of the trait's documentation.
//!
//! For: every implementation, through [`serving_contract!`](crate::serving_contract). Not for: power loss and disk
//! faults.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::event_log::Position;
use crate::serving::{Cell, Family, Mutation, ServingSnapshot, ServingStore};

/// One storage, on which a store can be opened again and again.
pub trait Fixture: Send + Sync {
    /// Opens a store on the storage. The store opened before has been dropped.
    fn open(&self) -> Arc<dyn ServingStore>;
}

/// Makes one `#[test]` per function of the contract; the expression gives a [`Fixture`] with fresh storage.
#[macro_export]
macro_rules! serving_contract {
    ($fixture:expr) => {
        $crate::serving_contract! { @tests $fixture;
            a_fresh_store_has_applied_nothing
            mutations_set_replace_and_remove_cells
            mutations_at_or_below_the_applied_position_change_nothing
            mutations_and_their_position_survive_reopening
            a_snapshot_is_not_changed_by_later_mutations
            a_scan_gives_the_cells_of_the_range_in_key_order
            a_scan_ends_when_its_visitor_breaks
            families_share_no_keys
            a_cell_whose_value_has_changed_is_not_deleted
            a_note_is_kept_without_a_position
            no_mutation_comes_between_looking_at_a_cell_and_deleting_it
            readers_see_all_mutations_of_a_call_or_none
        }
    };
    (@tests $fixture:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::contract::serving::$name(&$fixture);
            }
        )*
    };
}

/// A mutation that sets a rollup cell.
#[must_use]
pub fn set(key: &[u8], value: &[u8]) -> Mutation {
    Mutation { family: Family::Rollup1m, key: key.to_vec(), value: Some(value.to_vec()) }
}

fn remove(key: &[u8]) -> Mutation {
    Mutation { family: Family::Rollup1m, key: key.to_vec(), value: None }
}

fn apply(store: &dyn ServingStore, mutations: Vec<Mutation>, position: u64) {
    store.apply(mutations, Position(position)).expect("a healthy store applies mutations");
}

fn get(snapshot: &dyn ServingSnapshot, key: &[u8]) -> Option<Vec<u8>> {
    snapshot.get(Family::Rollup1m, key).expect("readable")
}

fn all(snapshot: &dyn ServingSnapshot) -> Vec<Cell> {
    snapshot.scan(Family::Rollup1m, b"", None).expect("readable")
}

/// "Position of the last mutations."
pub fn a_fresh_store_has_applied_nothing(fixture: &dyn Fixture) {
    let store = fixture.open();
    assert_eq!(store.applied(), Position(0));
    assert!(all(store.snapshot().as_ref()).is_empty());
}

/// "New value; `None` deletes the cell."
pub fn mutations_set_replace_and_remove_cells(fixture: &dyn Fixture) {
    let store = fixture.open();
    apply(store.as_ref(), vec![set(b"a", b"1"), set(b"b", b"2"), set(b"c", b"")], 10);
    apply(store.as_ref(), vec![set(b"a", b"3"), remove(b"b"), remove(b"never")], 20);
    assert_eq!(store.applied(), Position(20));
    assert_eq!(all(store.snapshot().as_ref()), [(b"a".to_vec(), b"3".to_vec()), (b"c".to_vec(), Vec::new())]);
    assert_eq!(get(store.snapshot().as_ref(), b"b"), None);
}

/// "Applying mutations of a position at or below `applied` changes nothing and succeeds."
pub fn mutations_at_or_below_the_applied_position_change_nothing(fixture: &dyn Fixture) {
    let store = fixture.open();
    apply(store.as_ref(), vec![set(b"a", b"1")], 10);
    for position in [10, 9, 0] {
        apply(store.as_ref(), vec![set(b"a", b"2"), set(b"b", b"2")], position);
        assert_eq!(store.applied(), Position(10));
        assert_eq!(all(store.snapshot().as_ref()), [(b"a".to_vec(), b"1".to_vec())]);
    }
}

/// "They survive a crash once `apply` returns": reopening is the part of it that all can test.
pub fn mutations_and_their_position_survive_reopening(fixture: &dyn Fixture) {
    apply(fixture.open().as_ref(), vec![set(b"a", b"1")], 10);
    // Mutations may be empty: the position counts all the same.
    apply(fixture.open().as_ref(), Vec::new(), 11);
    let store = fixture.open();
    assert_eq!(store.applied(), Position(11));
    assert_eq!(get(store.snapshot().as_ref(), b"a"), Some(b"1".to_vec()));
}

/// "The cells at one moment: later mutations do not change it."
pub fn a_snapshot_is_not_changed_by_later_mutations(fixture: &dyn Fixture) {
    let store = fixture.open();
    apply(store.as_ref(), vec![set(b"a", b"1"), set(b"b", b"1")], 10);
    let before = store.snapshot();
    apply(store.as_ref(), vec![set(b"a", b"2"), remove(b"b"), set(b"c", b"2")], 11);
    store.delete_unchanged(Family::Rollup1m, vec![(b"a".to_vec(), b"2".to_vec())]).expect("deleted");
    assert_eq!(all(before.as_ref()), [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"1".to_vec())]);
    assert_eq!(get(before.as_ref(), b"c"), None);
}

/// "Cells with `start <= key < end` in key order."
pub fn a_scan_gives_the_cells_of_the_range_in_key_order(fixture: &dyn Fixture) {
    let store = fixture.open();
    let keys: [&[u8]; 5] = [b"b", b"a", b"ab", b"\xff\xff", b"a\x00"];
    apply(store.as_ref(), keys.iter().map(|key| set(key, key)).collect(), 10);
    let snapshot = store.snapshot();
    let scan = |start: &[u8], end: Option<&[u8]>| {
        let cells = snapshot.scan(Family::Rollup1m, start, end).expect("readable");
        cells.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(scan(b"", None), [&b"a"[..], b"a\x00", b"ab", b"b", b"\xff\xff"]);
    assert_eq!(scan(b"a\x00", Some(b"b")), [&b"a\x00"[..], b"ab"]);
    assert!(scan(b"c", Some(b"d")).is_empty());
    assert!(scan(b"b", Some(b"a")).is_empty(), "a range that ends before it begins has no cells");
}

/// "In key order until it breaks."
pub fn a_scan_ends_when_its_visitor_breaks(fixture: &dyn Fixture) {
    let store = fixture.open();
    apply(store.as_ref(), (0..100u8).map(|key| set(&[key], &[key, 1])).collect(), 10);
    let snapshot = store.snapshot();
    for wanted in [1, 7] {
        let mut met = Vec::new();
        let visited = snapshot.scan_each(Family::Rollup1m, &[3], Some(&[90]), &mut |key, value| {
            met.push((key.to_vec(), value.to_vec()));
            if met.len() == wanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        visited.expect("readable");
        let expected: Vec<Cell> = (3u8..).take(wanted).map(|key| (vec![key], vec![key, 1])).collect();
        assert_eq!(met, expected);
    }
}

/// "Families share no keys."
pub fn families_share_no_keys(fixture: &dyn Fixture) {
    let store = fixture.open();
    let mutations = Family::ALL.map(|family| Mutation {
        family,
        key: b"same".to_vec(),
        value: Some(family.name().as_bytes().to_vec()),
    });
    apply(store.as_ref(), mutations.to_vec(), 10);
    let snapshot = store.snapshot();
    for family in Family::ALL {
        assert_eq!(snapshot.get(family, b"same").expect("readable"), Some(family.name().as_bytes().to_vec()));
        assert_eq!(snapshot.scan(family, b"", None).expect("readable").len(), 1);
    }
}

/// "Removes those of the cells whose value is still the given one; `applied` stays. Cells that are not there are no error."
pub fn a_cell_whose_value_has_changed_is_not_deleted(fixture: &dyn Fixture) {
    let store = fixture.open();
    apply(store.as_ref(), vec![set(b"a", b"1"), set(b"b", b"1"), set(b"c", b"")], 10);
    let seen = all(store.snapshot().as_ref());
    apply(store.as_ref(), vec![set(b"b", b"2"), remove(b"c")], 11);
    let never = (b"never".to_vec(), Vec::new());
    store.delete_unchanged(Family::EventId, seen.clone()).expect("nothing to delete");
    store.delete_unchanged(Family::Rollup1m, seen.into_iter().chain([never]).collect()).expect("deleted");
    assert_eq!(store.applied(), Position(11));
    assert_eq!(all(store.snapshot().as_ref()), [(b"b".to_vec(), b"2".to_vec())]);
    drop(store);
    assert_eq!(all(fixture.open().snapshot().as_ref()), [(b"b".to_vec(), b"2".to_vec())]);
}

/// "Sets a cell whatever its position; `applied` stays."
pub fn a_note_is_kept_without_a_position(fixture: &dyn Fixture) {
    let store = fixture.open();
    apply(store.as_ref(), vec![set(b"a", b"1")], 10);
    store.note(Family::Rollup1m, (b"b".to_vec(), b"2".to_vec())).expect("noted");
    store.note(Family::Rollup1m, (b"a".to_vec(), b"3".to_vec())).expect("noted");
    assert_eq!(store.applied(), Position(10));
    drop(store);
    let expected = [(b"a".to_vec(), b"3".to_vec()), (b"b".to_vec(), b"2".to_vec())];
    assert_eq!(all(fixture.open().snapshot().as_ref()), expected);
}

/// "No `apply` comes between looking and removing."
pub fn no_mutation_comes_between_looking_at_a_cell_and_deleting_it(fixture: &dyn Fixture) {
    const KEYS: u8 = 50;
    let store = fixture.open();
    let value_of = |round: u64| round.to_be_bytes().to_vec();
    let write = |round: u64| apply(store.as_ref(), (0..KEYS).map(|key| set(&[key], &value_of(round))).collect(), round);
    write(1);
    for round in 1..100 {
        let seen = (0..KEYS).map(|key| (vec![key], value_of(round))).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| write(round + 1));
            store.delete_unchanged(Family::Rollup1m, seen).expect("deleted");
        });
        let expected: Vec<Cell> = (0..KEYS).map(|key| (vec![key], value_of(round + 1))).collect();
        assert_eq!(all(store.snapshot().as_ref()), expected, "a new value was deleted in place of the old one");
    }
}

/// "The mutations of one call and their position appear together."
pub fn readers_see_all_mutations_of_a_call_or_none(fixture: &dyn Fixture) {
    const CALLS: u64 = 200;
    let store = fixture.open();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for call in 1..=CALLS {
                let value = call.to_be_bytes();
                apply(store.as_ref(), (0..10u8).map(|key| set(&[key], &value)).collect(), call);
            }
        });
        let mut last = Vec::new();
        while last != CALLS.to_be_bytes() {
            let cells = all(store.snapshot().as_ref());
            assert!(cells.is_empty() || cells.len() == 10);
            assert!(cells.windows(2).all(|pair| pair[0].1 == pair[1].1), "half a call is visible: {cells:?}");
            last = cells.into_iter().next().map(|(_, value)| value).unwrap_or_default();
        }
    });
}
