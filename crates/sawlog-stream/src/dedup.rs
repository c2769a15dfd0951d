//! Which event ids were stored within the dedup window.
//!
//! For: telling a new id from a repeated one, exactly, with bounded memory: ids since the last flush are in memory,
//! older ones in the serving store behind a filter that answers most "never seen" questions without a read. Not for:
//! ids older than the window, which batch jobs find. Keys in the store start with the event-time slot, so that a
//! window's end is a range delete.

use std::collections::BTreeMap;

use sawlog_seams::serving::{Family, Mutation, ServingError, ServingSnapshot};

/// Length of the slots in which ids expire, microseconds.
const SLOT: i64 = 600_000_000;

/// Slot of an event time.
pub(crate) fn slot_of(event_time: i64) -> u32 {
    u32::try_from(event_time.div_euclid(SLOT).max(0)).unwrap_or(u32::MAX)
}

/// Key of an id in the serving store.
pub(crate) fn id_key(slot: u32, id: u128) -> Vec<u8> {
    [&slot.to_be_bytes()[..], &id.to_be_bytes()].concat()
}

/// Ids in the serving store, by slot.
#[derive(Debug, Default)]
pub(crate) struct StoredIds {
    slots: BTreeMap<u32, Filter>,
}

impl StoredIds {
    /// Rebuilds the filter from the store.
    pub(crate) fn load(snapshot: &dyn ServingSnapshot) -> Result<Self, ServingError> {
        let mut stored = Self::default();
        for (key, _) in snapshot.scan(Family::EventId, &[], None)? {
            if let Some((slot, id)) = split_key(&key) {
                stored.insert(slot, id);
            }
        }
        Ok(stored)
    }

    pub(crate) fn insert(&mut self, slot: u32, id: u128) {
        self.slots.entry(slot).or_default().insert(id);
    }

    /// Log position of the batch that stored the id, if one did.
    pub(crate) fn find(&self, snapshot: &dyn ServingSnapshot, id: u128) -> Result<Option<u64>, ServingError> {
        for (&slot, filter) in self.slots.iter().rev() {
            if filter.may_contain(id)
                && let Some(value) = snapshot.get(Family::EventId, &id_key(slot, id))?
            {
                return Ok(value.try_into().ok().map(u64::from_be_bytes));
            }
        }
        Ok(None)
    }

    /// Forgets the slots before `slot` and returns the deletions that make the store forget them too.
    pub(crate) fn expire(&mut self, snapshot: &dyn ServingSnapshot, slot: u32) -> Result<Vec<Mutation>, ServingError> {
        if self.slots.keys().next().is_none_or(|&oldest| oldest >= slot) {
            return Ok(Vec::new());
        }
        self.slots = self.slots.split_off(&slot);
        let expired = snapshot.scan(Family::EventId, &[], Some(&slot.to_be_bytes()))?;
        Ok(expired.into_iter().map(|(key, _)| Mutation { family: Family::EventId, key, value: None }).collect())
    }
}

fn split_key(key: &[u8]) -> Option<(u32, u128)> {
    let (slot, id) = key.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*slot), u128::from_be_bytes(id.try_into().ok()?)))
}

/// A Bloom filter that grows: layers of doubling size, each sized for a false-positive rate of about 1 %.
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

    fn may_contain(&self, id: u128) -> bool {
        self.layers
            .iter()
            .any(|layer| bits_of(id, layer.bits.len() * 64).all(|bit| layer.bits[bit / 64] >> (bit % 64) & 1 == 1))
    }
}

/// Double hashing (Kirsch, Mitzenmacher 2006): the id is a hash already, its halves are two hash values.
fn bits_of(id: u128, bit_count: usize) -> impl Iterator<Item = usize> {
    let (first, second) = (id as u64, (id >> 64) as u64 | 1);
    (0..PROBES).map(move |probe| {
        let hash = first.wrapping_add(u64::from(probe).wrapping_mul(second));
        ((u128::from(hash) * bit_count as u128) >> 64) as usize
    })
}

#[cfg(test)]
mod tests {
    use sawlog_seams::Position;
    use sawlog_seams::serving::{MemoryServing, ServingStore};

    use super::*;

    fn id(number: u64) -> u128 {
        u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64
            | u128::from(number.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
    }

    #[test]
    fn the_filter_knows_every_id_and_few_others() {
        let mut filter = Filter::default();
        (0..50_000).for_each(|number| filter.insert(id(number)));
        assert!((0..50_000).all(|number| filter.may_contain(id(number))));
        let wrong = (50_000..150_000).filter(|&number| filter.may_contain(id(number))).count();
        assert!(wrong < 6_000, "{wrong} of 100,000 unknown ids passed");
    }

    #[test]
    fn expired_slots_are_forgotten_in_memory_and_in_the_store() {
        let store = MemoryServing::default();
        let cell = |slot, number| Mutation {
            family: Family::EventId,
            key: id_key(slot, id(number)),
            value: Some(number.to_be_bytes().to_vec()),
        };
        store.apply(vec![cell(1, 1), cell(2, 2)], Position(1)).expect("applied");
        let mut stored = StoredIds::load(store.snapshot().as_ref()).expect("loaded");
        assert_eq!(stored.find(store.snapshot().as_ref(), id(1)).expect("read"), Some(1));
        let deletions = stored.expire(store.snapshot().as_ref(), 2).expect("read");
        store.apply(deletions, Position(2)).expect("applied");
        assert_eq!(stored.find(store.snapshot().as_ref(), id(1)).expect("read"), None);
        assert_eq!(stored.find(store.snapshot().as_ref(), id(2)).expect("read"), Some(2));
    }
}
