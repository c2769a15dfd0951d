//! Tables, column families and the rules by which cells are deleted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sawlog_core::bigtable::BigtableTable;
use sawlog_core::rollup::Rollup;
use sawlog_core::rowkey;
use sawlog_gcp::bigtable::{Bigtable, TableChange};
use sawlog_seams::serving::{Family, Mutation, ServingSnapshot};

use super::world::{World, apply, cells, set};

#[test]
fn a_plan_shows_what_is_missing_and_is_empty_once_it_is_carried_out() {
    let mut world = World::new();
    assert_eq!(world.connect().plan_tables().expect("a plan"), []);
    world.options.rollup_age[0] = Some(Duration::from_secs(86_400));
    let plan = |bigtable: Arc<Bigtable>| bigtable.plan_tables().expect("a plan");
    let text: Vec<String> = plan(world.connect()).iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        ["change family rollup_10s of table sawlog: delete all but 4 versions or what is older than 86400 s, not all \
          but 4 versions"]
    );
    assert_eq!(plan(world.connect()).len(), 1, "a plan changes nothing");
    assert_eq!(world.connect().ensure_tables().expect("changed").len(), 1);
    assert_eq!(plan(world.connect()), []);
    world.options.table = "fresh".to_owned();
    let created = |table: &str, tablets| TableChange::CreateTable { table: table.to_owned(), tablets };
    let splits = [BigtableTable::Served, BigtableTable::State].map(|table| table.split_keys().len());
    assert_eq!(plan(world.connect()), [created("fresh", splits[0] + 1), created("fresh_state", splits[1] + 1)]);
    world.connect().ensure_tables().expect("created");
    assert_eq!(world.splits(), [("fresh".to_owned(), splits[0]), ("fresh_state".to_owned(), splits[1])]);
    assert_eq!(plan(world.connect()), []);
}

#[test]
fn administration_is_tried_again_too() {
    let mut world = World::new();
    world.options.table = "fresh".to_owned();
    world.fail(r#"{"method":"CreateTable","times":2,"when":"after","code":"UNAVAILABLE"}"#);
    world.connect().ensure_tables().expect("created");
    assert_eq!(world.connect().plan_tables().expect("a plan"), []);
}

#[test]
fn old_cells_and_old_versions_go_by_themselves() {
    let mut world = World::new();
    world.options.rollup_age[1] = Some(Duration::from_secs(3_600));
    world.connect().ensure_tables().expect("changed");
    let store = world.open();
    let pane = |start: i64| {
        let mut key = Vec::new();
        rowkey::encode(&mut key, Rollup::Users.byte(), &[Some("shop")], start);
        Mutation { family: Family::Rollup1m, key, value: Some(vec![1, 0, 0]) }
    };
    let far_ahead = 4_000_000_000_000_000;
    apply(&store, vec![pane(0), pane(far_ahead), set(Family::Session, "a", "0")], 1);
    for position in 2..20 {
        apply(&store, vec![set(Family::Session, "a", &position.to_string())], position);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.reader().scan(Family::Rollup1m, b"", None).expect("cells").len() > 1 {
        assert!(Instant::now() < deadline, "the double deletes about every second");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(world.reader().get(Family::Rollup1m, &pane(far_ahead).key).expect("read"), Some(vec![1, 0, 0]));
    // Versions went in the same pass, and what counts is there.
    assert_eq!(cells(&world.reader(), Family::Session), ["a=19"]);
}
