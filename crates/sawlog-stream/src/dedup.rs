//! Which event ids were stored within the dedup window.
//!
//! For: telling a new id from a repeated one, exactly, with bounded memory: ids since the last flush are in memory,
//! older ones in the serving store behind a filter that answers most "never seen" questions without a read. Not for:
//! ids older than the window, which batch jobs find, and not for deleting cells ([`crate::forget`]). Keys in the store
//! start with the event-time slot, so that a window's end is a range delete.
//! Invariant: whether an id counts as known depends on the log alone. Slots before the window are not looked at,
//! whether or not their cells are deleted yet; slots that were given up for want of room lie before a floor, which
//! changes only where a generation ends and is stored with the ids of that generation. The floor goes back with the clock:
//! ids of a clock that ran ahead are given up, and remembering begins anew with the slot after that of the right time.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use sawlog_seams::serving::{Family, Mutation, ServingError, ServingSnapshot};

/// Length of the slots in which ids expire, microseconds.
const SLOT: i64 = 600_000_000;
/// Cell that keeps the floor. Shorter than an id's key, so that it is never taken for one.
const FLOOR_KEY: &[u8] = b"floor";
/// Cell that keeps the latest event time.
const NEWEST_KEY: &[u8] = b"newest";

/// Slot of an event time.
pub(crate) fn slot_of(event_time: i64) -> u32 {
    u32::try_from(event_time.div_euclid(SLOT).max(0)).unwrap_or(u32::MAX)
}

/// Key of an id in the serving store.
pub(crate) fn id_key(slot: u32, id: u128) -> Vec<u8> {
    [&slot.to_be_bytes()[..], &id.to_be_bytes()].concat()
}

/// The change that keeps the latest event time, UTC microseconds, where the ids up to it are.
pub(crate) fn newest_cell(newest_event: i64) -> Mutation {
    let value = Some(newest_event.to_be_bytes().to_vec());
    Mutation { family: Family::EventId, key: NEWEST_KEY.to_vec(), value }
}

/// The latest event time that the store keeps; `None` if an earlier build wrote it, which kept none.
pub(crate) fn stored_newest(snapshot: &dyn ServingSnapshot) -> Result<Option<i64>, ServingError> {
    let value = snapshot.get(Family::EventId, NEWEST_KEY)?;
    Ok(value.and_then(|value| value.try_into().ok()).map(i64::from_be_bytes))
}

/// How many ids are remembered in the serving store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DedupStats {
    /// Ids within the window.
    pub ids: u64,
    /// Memory of the filter before them, bytes.
    pub filter_bytes: u64,
    /// Ids given up before the window's end since the start, because there were too many.
    pub evicted_ids: u64,
}

/// Ids in the serving store, by slot.
#[derive(Debug)]
pub(crate) struct StoredIds {
    slots: BTreeMap<u32, Filter>,
    /// Slots before it are not looked at.
    floor: u32,
    ids_max: u64,
    evicted_ids: u64,
}

impl StoredIds {
    /// Rebuilds the filter from the ids in the store, one after the other; older ones than `oldest` are passed over.
    pub(crate) fn load(snapshot: &dyn ServingSnapshot, oldest: u32, ids_max: u64) -> Result<Self, ServingError> {
        let floor = snapshot.get(Family::EventId, FLOOR_KEY)?.and_then(|value| value.try_into().ok());
        let floor = floor.map_or(0, u32::from_be_bytes);
        let mut stored = Self { slots: BTreeMap::new(), floor, ids_max, evicted_ids: 0 };
        let start = floor.max(oldest).to_be_bytes();
        snapshot.scan_each(Family::EventId, &start, None, &mut |key, _| {
            if let Some((slot, id)) = split_key(key) {
                stored.insert(slot, id);
            }
            ControlFlow::Continue(())
        })?;
        Ok(stored)
    }

    /// Notes an id that is in the store now.
    pub(crate) fn insert(&mut self, slot: u32, id: u128) {
        if slot >= self.floor {
            self.slots.entry(slot).or_default().insert(id);
        }
    }

    /// Log position of the batch that stored the id in this slot or a later one, if one did.
    pub(crate) fn find(
        &self,
        snapshot: &dyn ServingSnapshot,
        id: u128,
        oldest: u32,
    ) -> Result<Option<u64>, ServingError> {
        for (&slot, filter) in self.slots.range(oldest.max(self.floor)..).rev() {
            if filter.may_contain(id)
                && let Some(value) = snapshot.get(Family::EventId, &id_key(slot, id))?
            {
                return Ok(value.try_into().ok().map(u64::from_be_bytes));
            }
        }
        Ok(None)
    }

    /// First slot whose ids are remembered.
    pub(crate) fn floor(&self) -> u32 {
        self.floor
    }

    /// The change that keeps the floor.
    pub(crate) fn floor_cell(&self) -> Mutation {
        Mutation { family: Family::EventId, key: FLOOR_KEY.to_vec(), value: Some(self.floor.to_be_bytes().to_vec()) }
    }

    /// Lowers the floor after a clock was set back; returns the slots that it must not find again, to be deleted: ids of the time
    /// that the clock was ahead would be the last to go when there are too many. Only where a generation ends, before the
    /// floor is raised.
    pub(crate) fn set_back(&mut self, newest: u32) -> Range<u32> {
        self.floor = self.floor.min(newest.saturating_add(1));
        drop(self.slots.split_off(&self.floor));
        self.floor..u32::MAX
    }

    /// Forgets slots before `oldest`, and the oldest ones while there is no room for so many new ids. Only where a
    /// generation ends: the next one begins with another floor.
    pub(crate) fn raise_floor(&mut self, oldest: u32, new_ids: u64) {
        self.floor = self.floor.max(oldest);
        self.slots = self.slots.split_off(&self.floor);
        let before = self.evicted_ids;
        while self.id_count() + new_ids > self.ids_max
            && let Some((slot, filter)) = self.slots.pop_first()
        {
            self.evicted_ids += filter.id_count();
            self.floor = slot.saturating_add(1);
        }
        if self.evicted_ids > before {
            let (ids, ids_max) = (self.evicted_ids - before, self.ids_max);
            tracing::warn!(ids, ids_max, "more ids than pipeline.dedup-keys-max: the oldest are no longer recognized");
        }
    }

    pub(crate) fn stats(&self) -> DedupStats {
        let filter_bytes = self.slots.values().map(Filter::bytes).sum();
        DedupStats { ids: self.id_count(), filter_bytes, evicted_ids: self.evicted_ids }
    }

    fn id_count(&self) -> u64 {
        self.slots.values().map(Filter::id_count).sum()
    }
}

fn split_key(key: &[u8]) -> Option<(u32, u128)> {
    let (slot, id) = key.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*slot), u128::from_be_bytes(id.try_into().ok()?)))
}

/// A Bloom filter that grows: layers of doubling size, each sized for a false-positive rate of about 1 %. It takes 10
/// bits an id when its layers are full, and at most 20 just after one was added.
#[derive(Debug, Default)]
struct Filter {
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    bits: Vec<u64>,
    ids: usize,
    capacity: usize,
}

/// Ids that the first layer holds.
const FIRST_CAPACITY: usize = 4096;
const BITS_PER_ID: usize = 10;
const PROBES: u32 = 7;

impl Filter {
    fn insert(&mut self, id: u128) {
        if self.may_contain(id) {
            return; // known, or passed already: more bits would not change the answer
        }
        if self.layers.last().is_none_or(|layer| layer.ids >= layer.capacity) {
            let capacity = FIRST_CAPACITY << self.layers.len();
            let words = (capacity * BITS_PER_ID).div_ceil(64);
            self.layers.push(Layer { bits: vec![0; words], ids: 0, capacity });
        }
        if let Some(layer) = self.layers.last_mut() {
            layer.ids += 1;
            for bit in bits_of(id, layer.bits.len() * 64) {
                layer.bits[bit / 64] |= 1 << (bit % 64);
            }
        }
    }

    fn id_count(&self) -> u64 {
        self.layers.iter().map(|layer| layer.ids as u64).sum()
    }

    fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bits.len() as u64 * 8).sum()
    }

    fn may_contain(&self, id: u128) -> bool {
        self.layers
            .iter()
            .any(|layer| bits_of(id, layer.bits.len() * 64).all(|bit| layer.bits[bit / 64] >> (bit % 64) & 1 == 1))
    }
}

/// Double hashing (Kirsch, Mitzenmacher 2006): the id is a hash already, its halves are two hash values. The ids of one
/// `insert_id` in two tables differ in their last bits only; a factor (2⁶⁴ over the golden ratio) carries those to the top.
fn bits_of(id: u128, bit_count: usize) -> impl Iterator<Item = usize> {
    let (first, second) = ((id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), (id >> 64) as u64 | 1);
    (0..PROBES).map(move |probe| {
        let hash = first.wrapping_add(u64::from(probe).wrapping_mul(second));
        ((u128::from(hash) * bit_count as u128) >> 64) as usize
    })
}

#[cfg(test)]
mod tests {
    use sawlog_seams::Position;
    use sawlog_seams::serving::{MemoryServing, ServingStore, VisitCell};

    use super::*;

    fn id(number: u64) -> u128 {
        u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64
            | u128::from(number.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
    }

    fn cell(slot: u32, number: u64) -> Mutation {
        Mutation { family: Family::EventId, key: id_key(slot, id(number)), value: Some(number.to_be_bytes().to_vec()) }
    }

    /// A store that makes its cells while it is read: so many ids in each of some slots.
    struct Endless {
        slots: std::ops::Range<u32>,
        ids_in_slot: u64,
    }

    impl ServingSnapshot for Endless {
        fn get(&self, _: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ServingError> {
            Ok(split_key(key).map(|_| 7u64.to_be_bytes().to_vec()))
        }
        fn scan_each(
            &self,
            _: Family,
            start: &[u8],
            _: Option<&[u8]>,
            visit: &mut VisitCell<'_>,
        ) -> Result<(), ServingError> {
            for slot in self.slots.clone().filter(|slot| slot.to_be_bytes()[..] >= *start) {
                for number in 0..self.ids_in_slot {
                    if visit(&id_key(slot, id(u64::from(slot) << 32 | number)), &[]).is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        }
        fn scan(
            &self,
            _: Family,
            _: &[u8],
            _: Option<&[u8]>,
        ) -> Result<Vec<sawlog_seams::serving::Cell>, ServingError> {
            panic!("ids are read one after the other")
        }
    }

    #[test]
    fn the_filter_knows_every_id_and_few_others() {
        let mut filter = Filter::default();
        (0..50_000).for_each(|number| filter.insert(id(number)));
        assert!((0..50_000).all(|number| filter.may_contain(id(number))));
        let wrong = (50_000..150_000).filter(|&number| filter.may_contain(id(number))).count();
        assert!(wrong < 6_000, "{wrong} of 100,000 unknown ids passed");
    }

    /// An `insert_id` is told apart in each table: its ids differ in their last bits.
    #[test]
    fn the_filter_tells_ids_apart_that_are_neighbours() {
        let mut filter = Filter::default();
        (0..1_000).for_each(|number| filter.insert(id(number)));
        let wrong = (0..1_000).flat_map(|number| [1, 2, 3].map(|table| id(number) ^ table));
        assert!(wrong.filter(|id| filter.may_contain(*id)).count() < 100);
    }

    #[test]
    fn a_million_ids_take_less_than_three_bytes_each_in_memory() {
        const IDS: u64 = 1_000_000;
        let store = Endless { slots: 10..17, ids_in_slot: IDS / 5 };
        let stored = StoredIds::load(&store, 12, u64::MAX).expect("loaded");
        let stats = stored.stats();
        // An id that the filter takes for known by mistake needs no bits and is not counted.
        assert!((IDS * 9 / 10..=IDS).contains(&stats.ids), "{stats:?}");
        assert!(stats.filter_bytes < 3 * IDS, "{stats:?}");
        let known = |slot: u64| stored.find(&store, id(slot << 32 | 5), 0).expect("read");
        assert_eq!((known(11), known(12), known(16)), (None, Some(7), Some(7)));
    }

    #[test]
    fn an_id_is_known_within_the_window_whatever_is_deleted_already() {
        let store = MemoryServing::default();
        store.apply(vec![cell(1, 1), cell(2, 2)], Position(1)).expect("applied");
        let snapshot = store.snapshot();
        let stored = StoredIds::load(snapshot.as_ref(), 0, 10).expect("loaded");
        let find = |number, oldest| stored.find(snapshot.as_ref(), id(number), oldest).expect("read");
        assert_eq!((find(1, 1), find(1, 2)), (Some(1), None));
        assert_eq!((find(2, 2), find(2, 3)), (Some(2), None));
    }

    #[test]
    fn the_oldest_slots_go_when_there_are_too_many_ids_and_stay_away_after_a_restart() {
        let store = MemoryServing::default();
        let cells = (0..30).map(|number| cell(1 + number as u32 / 10, number)).collect();
        store.apply(cells, Position(1)).expect("applied");
        let mut stored = StoredIds::load(store.snapshot().as_ref(), 0, 25).expect("loaded");
        stored.raise_floor(0, 5);
        assert_eq!((stored.floor(), stored.stats().ids, stored.stats().evicted_ids), (2, 20, 10));
        store.apply(vec![stored.floor_cell()], Position(2)).expect("applied");
        let mut again = StoredIds::load(store.snapshot().as_ref(), 0, 25).expect("loaded");
        assert_eq!((again.floor(), again.stats().ids), (2, 20));
        assert_eq!(again.find(store.snapshot().as_ref(), id(3), 0).expect("read"), None);
        again.raise_floor(0, 1_000);
        assert_eq!((again.floor(), again.stats().ids), (4, 0), "the bound holds, whatever is given up for it");
    }
}
