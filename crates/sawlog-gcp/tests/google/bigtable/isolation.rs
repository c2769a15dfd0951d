//! What other processes see while the worker writes.

use sawlog_seams::serving::{Family, ServingSnapshot, ServingStore};

use super::world::{World, apply, cells, remove, set};

const FAMILIES: [Family; 3] = [Family::Session, Family::Rollup1m, Family::EventId];

#[test]
fn a_reader_keeps_seeing_its_position_while_flushes_end_and_is_told_when_it_is_too_old() {
    let world = World::new();
    let store = world.open();
    apply(&store, FAMILIES.map(|family| [set(family, "a", "1"), set(family, "b", "1")]).concat(), 10);
    let reader = world.reader();
    for family in FAMILIES {
        assert_eq!(cells(&reader, family), ["a=1", "b=1"]);
    }
    // Four versions: two flushes may end, and their deletions are not carried out.
    let change = |value: &str| {
        FAMILIES.map(|family| [set(family, "a", value), remove(family, "b"), set(family, "c", value)]).concat()
    };
    for (value, position) in [("2", 100), ("3", 101)] {
        apply(&store, change(value), position);
        for family in FAMILIES {
            assert_eq!(cells(&reader, family), ["a=1", "b=1"]);
            assert_eq!(reader.get(family, b"b").expect("read"), Some(b"1".to_vec()));
            assert_eq!(reader.get(family, b"c").expect("read"), None);
        }
    }
    apply(&store, change("4"), 102);
    let outdated = reader.scan(Family::Session, b"", None).expect_err("too old").to_string();
    assert!(outdated.contains("ask again"), "{outdated}");
    assert!(reader.get(Family::Session, b"c").is_err());
    assert_eq!(reader.get(Family::Session, b"a").expect("what is there is right"), Some(b"1".to_vec()));
    assert_eq!(cells(&world.reader(), Family::Session), ["a=4", "c=4"]);
}

#[test]
fn what_a_flush_has_written_is_seen_when_it_ends_and_not_before() {
    let world = World::new();
    let store = world.open();
    apply(&store, FAMILIES.map(|family| set(family, "a", "1")).to_vec(), 10);
    world.fail(r#"{"method":"CheckAndMutateRow","times":1,"when":"before","code":"PERMISSION_DENIED"}"#);
    let changes = || FAMILIES.map(|family| [remove(family, "a"), set(family, "b", "2")]).concat();
    store.apply(changes(), sawlog_seams::Position(11)).expect_err("the position row is not written");
    assert_eq!(store.applied(), sawlog_seams::Position(10));
    for family in FAMILIES {
        assert_eq!(cells(&world.reader(), family), ["a=1"]);
        assert_eq!(cells(store.snapshot().as_ref(), family), ["a=1"]);
    }
    apply(&store, changes(), 11);
    for family in FAMILIES {
        assert_eq!(cells(&world.reader(), family), ["b=2"]);
    }
}

#[test]
fn marks_of_deletions_go_when_no_snapshot_needs_them() {
    let world = World::new();
    let store = world.open();
    apply(&store, vec![set(Family::EventId, "a", "1"), set(Family::Session, "b", "1")], 10);
    apply(&store, vec![remove(Family::EventId, "a"), remove(Family::Session, "b")], 11);
    assert_eq!(store.sweep().expect("swept"), 2, "snapshots before them may be read still");
    drop(store);
    let store = world.open();
    apply(&store, Vec::new(), 12);
    assert_eq!(store.sweep().expect("swept"), 2, "those of a process that ended stay until they are looked for");
    apply(&store, Vec::new(), 13);
    apply(&store, Vec::new(), 14);
    assert_eq!(store.sweep().expect("swept"), 0);
}
