//! Workers that stop at any place, lose their disk, or begin with Bigtable.

use std::sync::Arc;

use sawlog_core::rollup::{Rollup, with_time};
use sawlog_core::rowkey;
use sawlog_gcp::bigtable::{BigtableError, BigtableServing};
use sawlog_seams::Position;
use sawlog_seams::serving::{Family, MemoryServing, Mutation, ServingSnapshot, ServingStore};

use super::world::{World, apply, cells, remove, set};

fn all(snapshot: &dyn ServingSnapshot) -> Vec<Vec<String>> {
    Family::ALL.map(|family| cells(snapshot, family)).to_vec()
}

/// A pane of a rollup, with a key and a number as real ones have.
fn pane(index: u8) -> Mutation {
    let mut key = Vec::new();
    rowkey::encode(&mut key, Rollup::Users.byte(), &[Some("shop")], 0);
    let key = with_time(sawlog_core::rollup::prefix_of(&key), 1_700_000_000_000_000);
    Mutation { family: Family::Rollup1m, key, value: Some(vec![1, 0, index]) }
}

fn first() -> Vec<Mutation> {
    Family::ALL.iter().flat_map(|family| [set(*family, "a", "1"), set(*family, "b", "1")]).chain([pane(0)]).collect()
}

fn second() -> Vec<Mutation> {
    let changed = |family: &Family| [set(*family, "a", "2"), remove(*family, "b"), set(*family, "c", "2")];
    Family::ALL.iter().flat_map(changed).chain([pane(1)]).collect()
}

/// Ends a flush at every place where one can end, and gives what is there afterwards to `check`.
fn at_every_crash(check: impl Fn(&World, &[Vec<String>], &[Vec<String>])) {
    // Each row is a request of its own; the position row comes after them.
    let faults = ["MutateRows", "CheckAndMutateRow"].into_iter().flat_map(|method| {
        let skips = if method == "MutateRows" { vec![0, 1, 20, 38] } else { vec![0] };
        skips.into_iter().flat_map(move |skip| ["before", "after"].map(|when| (method, skip, when)))
    });
    for (method, skip, when) in faults {
        let mut world = World::new();
        (world.options.request_mutations_max, world.options.requests_max) = (1, 1);
        let store = world.open();
        apply(&store, first(), 100);
        let before = all(store.snapshot().as_ref());
        let model = MemoryServing::default();
        model.apply(first(), Position(1)).expect("applied");
        model.apply(second(), Position(2)).expect("applied");
        world.fail(&format!(
            r#"{{"method":"{method}","skip":{skip},"times":1,"when":"{when}","code":"FAILED_PRECONDITION"}}"#
        ));
        store.apply(second(), Position(200)).expect_err("the process ends here");
        drop(store);
        check(&world, &before, &all(model.snapshot().as_ref()));
    }
}

#[test]
fn a_worker_that_stopped_within_a_flush_and_lost_its_disk_has_one_state_or_the_other() {
    at_every_crash(|world, before, after| {
        let seen = world.reader();
        let expected = if seen.position() == Position(100) { before } else { after };
        assert_eq!(all(&seen), expected);
        world.lose_disk();
        let store = world.open();
        assert_eq!(store.applied(), seen.position());
        assert_eq!(all(store.snapshot().as_ref()), expected);
        // Another history gets to the same positions: nothing of the flush that never ended comes back.
        apply(&store, vec![set(Family::Session, "z", "3")], 300);
        let later = all(store.snapshot().as_ref());
        assert_eq!(all(&world.reader()), later);
        world.lose_disk();
        assert_eq!(all(world.open().snapshot().as_ref()), later);
    });
}

#[test]
fn a_worker_that_stopped_within_a_flush_and_kept_its_disk_repeats_it() {
    at_every_crash(|world, before, after| {
        let counted = world.reader().position() == Position(200);
        let store = world.open();
        assert_eq!(all(store.snapshot().as_ref()), if counted { after } else { before });
        apply(&store, second(), 200);
        assert_eq!(all(store.snapshot().as_ref()), after);
        assert_eq!(all(&world.reader()), after);
        world.lose_disk();
        assert_eq!(all(world.open().snapshot().as_ref()), after);
    });
}

#[test]
fn a_copy_that_was_not_finished_is_made_anew() {
    let world = World::new();
    apply(&world.open(), first(), 100);
    apply(&world.open(), second(), 200);
    let expected = all(world.open().snapshot().as_ref());
    world.lose_disk();
    // Reading breaks off for good, after the restoring has begun.
    world.fail(r#"{"method":"ReadRows","skip":1,"times":1,"when":"amid","answers":2,"code":"PERMISSION_DENIED"}"#);
    let disk = Arc::clone(&world.disk.lock().expect("no panic"));
    let opened = BigtableServing::open(world.connect(), Arc::clone(&disk) as Arc<dyn ServingStore>);
    assert!(opened.is_err());
    disk.apply(vec![set(Family::Session, "half", "1")], Position(100)).expect("half of it");
    assert_eq!(all(world.open().snapshot().as_ref()), expected);
}

#[test]
fn a_worker_with_cells_of_its_own_gives_them_to_empty_tables() {
    let world = World::new();
    let disk = Arc::clone(&world.disk.lock().expect("no panic"));
    disk.apply(first(), Position(50)).expect("applied");
    disk.apply(second(), Position(60)).expect("applied");
    let expected = all(disk.snapshot().as_ref());
    let store = world.open();
    assert_eq!((store.applied(), world.reader().position()), (Position(60), Position(60)));
    assert_eq!(all(&world.reader()), expected);
    world.lose_disk();
    assert_eq!(all(world.open().snapshot().as_ref()), expected);
}

#[test]
fn tables_of_another_worker_are_refused() {
    let world = World::new();
    apply(&world.open(), first(), 100);
    let open = |disk: MemoryServing| BigtableServing::open(world.connect(), Arc::new(disk)).map(drop);
    let disk = MemoryServing::default();
    disk.apply(first(), Position(50)).expect("applied");
    let error = open(disk).expect_err("a disk that has never seen these tables");
    assert!(matches!(error, BigtableError::OtherWorker(_)), "{error}");
    assert!(error.to_string().contains("bigtable.table"), "{error}");
    let other = World::new();
    apply(&other.open(), first(), 10);
    let disk = Arc::clone(&other.disk.lock().expect("no panic"));
    let error = BigtableServing::open(world.connect(), disk).map(drop).expect_err("a worker of other tables");
    assert!(error.to_string().contains("this one is"), "{error}");
}

#[test]
fn of_two_workers_on_the_same_tables_one_is_stopped() {
    let world = World::new();
    let store = world.open();
    apply(&store, first(), 100);
    let old_disk = world.take_disk();
    let usurper = world.open();
    // The position is what it was: it must not count all the same, since the other has looked at the cells.
    let error = store.apply(second(), Position(150)).expect_err("the tables were taken over").to_string();
    assert!(error.contains("another process writes"), "{error}");
    apply(&usurper, second(), 200);
    assert_eq!(world.reader().position(), Position(200));
    drop((store, usurper));
    let new_disk = world.take_disk();
    world.insert_disk(old_disk);
    // It would take the cells of 200 for its own, and what its log has behind 100 would be in none.
    let error = BigtableServing::open(world.connect(), world.disk()).err().expect("refused").to_string();
    assert!(error.contains("another disk has taken them over"), "{error}");
    world.insert_disk(new_disk);
    assert_eq!(world.open().applied(), Position(200));
}

#[test]
fn a_disk_goes_on_whatever_moment_of_taking_over_it_was_stopped_at() {
    for (method, when) in [("CheckAndMutateRow", "before"), ("CheckAndMutateRow", "after"), ("ReadRows", "before")] {
        let world = World::new();
        apply(&world.open(), first(), 100);
        world.lose_disk();
        world.fail(&format!(
            r#"{{"method":"{method}","times":1,"skip":{},"when":"{when}","code":"PERMISSION_DENIED"}}"#,
            u8::from(method == "ReadRows")
        ));
        BigtableServing::open(world.connect(), world.disk()).err().expect("stopped");
        let store = world.open();
        apply(&store, second(), 200);
        assert_eq!(cells(&world.reader(), Family::Session), cells(store.snapshot().as_ref(), Family::Session));
    }
}
