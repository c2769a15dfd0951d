//! The contract of the seam, by a worker that keeps its disk and by one that loses it each time, and as other processes see it.

use std::ops::ControlFlow;
use std::sync::Arc;

use sawlog_seams::serving::{Cell, Family, ServingSnapshot, ServingStore};

use super::world::{World, apply, cells, remove, set};

mod with_its_disk {
    use super::*;

    struct Fixture(World);

    impl sawlog_seams::contract::serving::Fixture for Fixture {
        fn open(&self) -> Arc<dyn ServingStore> {
            Arc::new(self.0.open())
        }
    }

    sawlog_seams::serving_contract!(Fixture(World::new()));
}

mod with_a_new_disk {
    use super::*;

    struct Fixture(World);

    impl sawlog_seams::contract::serving::Fixture for Fixture {
        fn open(&self) -> Arc<dyn ServingStore> {
            self.0.lose_disk();
            Arc::new(self.0.open())
        }
    }

    sawlog_seams::serving_contract!(Fixture(World::new()));
}

#[test]
fn another_process_reads_what_the_worker_wrote() {
    let world = World::new();
    let store = world.open();
    for family in Family::ALL {
        let mutations = (0..300).map(|number| set(family, &format!("key-{number:03}"), &format!("{number}")));
        apply(&store, mutations.chain([remove(family, "key-007")]).collect(), 10 + family as u64);
        store.note(family, (b"noted".to_vec(), b"1".to_vec())).expect("noted");
    }
    let (own, reader) = (store.snapshot(), world.reader());
    assert_eq!(reader.position(), store.applied());
    for family in Family::ALL {
        assert_eq!(cells(&reader, family), cells(own.as_ref(), family), "{family:?}");
        assert_eq!(cells(&reader, family).len(), 300);
        assert_eq!(reader.get(family, b"key-042").expect("read"), Some(b"42".to_vec()));
        assert_eq!(reader.get(family, b"key-007").expect("read"), None);
        let part = |snapshot: &dyn ServingSnapshot| snapshot.scan(family, b"key-01", Some(b"key-1")).expect("read");
        assert_eq!(part(&reader), part(own.as_ref()));
        let mut met: Vec<Cell> = Vec::new();
        let visited = reader.scan_each(family, b"key-1", None, &mut |key, value| {
            met.push((key.to_vec(), value.to_vec()));
            if met.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        visited.expect("read");
        assert_eq!(met, own.scan(family, b"key-100", Some(b"key-103")).expect("read"));
        assert!(reader.scan(family, b"z", Some(b"a")).expect("an empty range").is_empty());
    }
}
