//! Deleting ids and batch keys from the serving store once they are too old.
//!
//! For: a bounded part at each flush, so that no flush reads or deletes more than it adds a few times over, and all of
//! it in the end. Not for: deciding which ids are known ([`crate::dedup`]): what is too old is not looked at, deleted or
//! not.

use std::ops::{ControlFlow, Range};

use sawlog_seams::Position;
use sawlog_seams::serving::{Family, Mutation, ServingError, ServingSnapshot};
use xxhash_rust::xxh3::xxh3_128;

use crate::applier::{BATCH_KEY_AGE, decode_batch_key};
use crate::generation::Generation;

/// Ids that a flush deletes at most, and twice as many as it adds come on top: deleting keeps ahead of storing.
const IDS_DELETED: usize = 100_000;
/// Batch keys that a flush looks at, and twice as many as it adds come on top. Keys are in no order of time: a pass
/// over all of them takes as long as it takes to add half as many.
const BATCH_KEYS_READ: usize = 10_000;
/// A key is deleted so much after it is no longer looked at, microseconds: a clock that was set back by less finds it
/// ignored in any case.
const BATCH_KEY_SLACK: i64 = 3_600_000_000;

/// How far deleting has got. A restart begins anew, which costs reads and nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forgetting {
    /// Ids before this key are deleted.
    ids_from: Vec<u8>,
    /// Batch key to look at next. They are hashes: a first place that differs from run to run visits all of them even
    /// if each run is short.
    batch_keys_from: Option<Vec<u8>>,
}

impl Forgetting {
    /// Deletions for the flush of a generation, and how far they get: to be kept once they are applied.
    pub(crate) fn part(
        &self,
        snapshot: &dyn ServingSnapshot,
        generation: &Generation,
        floor: u32,
    ) -> Result<(Vec<Mutation>, Self), ServingError> {
        let mut deletions = Vec::new();
        let mut next = self.clone();
        let Range { start, end } = generation.slots_given_up;
        if start < end {
            // Ids before the floor are to be deleted, and it went back.
            next.ids_from = Vec::new();
            delete_ids(snapshot, &start.to_be_bytes(), end, usize::MAX, &mut deletions)?;
        }
        let ids_max = IDS_DELETED + 2 * generation.ids.len();
        next.ids_from = delete_ids(snapshot, &next.ids_from, floor, ids_max, &mut deletions)?;
        if let Some(receive_time) = generation.receive_time_min {
            let from = self.batch_keys_from.clone().unwrap_or_else(|| some_key(generation.end));
            let oldest = receive_time.saturating_sub(BATCH_KEY_AGE + BATCH_KEY_SLACK);
            let keys_max = BATCH_KEYS_READ + 2 * generation.batch_keys.len();
            next.batch_keys_from = Some(delete_batch_keys(snapshot, &from, oldest, keys_max, &mut deletions)?);
        }
        Ok((deletions, next))
    }
}

fn some_key(position: Position) -> Vec<u8> {
    xxh3_128(&position.0.to_be_bytes()).to_be_bytes().to_vec()
}

fn deletion(family: Family, key: &[u8]) -> Mutation {
    Mutation { family, key: key.to_vec(), value: None }
}

/// Deletes ids of slots before `floor`; returns where to go on.
fn delete_ids(
    snapshot: &dyn ServingSnapshot,
    from: &[u8],
    floor: u32,
    ids_max: usize,
    deletions: &mut Vec<Mutation>,
) -> Result<Vec<u8>, ServingError> {
    let end = floor.to_be_bytes();
    let mut next = end.to_vec();
    let mut count = 0;
    snapshot.scan_each(Family::EventId, from, Some(&end), &mut |key, _| {
        if count == ids_max {
            next = key.to_vec();
            return ControlFlow::Break(());
        }
        count += 1;
        deletions.push(deletion(Family::EventId, key));
        ControlFlow::Continue(())
    })?;
    Ok(next)
}

/// Deletes batch keys that were received before `oldest` among the next ones; returns where to go on.
fn delete_batch_keys(
    snapshot: &dyn ServingSnapshot,
    from: &[u8],
    oldest: i64,
    keys_max: usize,
    deletions: &mut Vec<Mutation>,
) -> Result<Vec<u8>, ServingError> {
    let mut next = Vec::new(); // after the last one comes the first one
    let mut count = 0;
    snapshot.scan_each(Family::BatchKey, from, None, &mut |key, value| {
        if count == keys_max {
            next = key.to_vec();
            return ControlFlow::Break(());
        }
        count += 1;
        if decode_batch_key(value).is_none_or(|(receive_time, _)| receive_time < oldest) {
            deletions.push(deletion(Family::BatchKey, key));
        }
        ControlFlow::Continue(())
    })?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use sawlog_seams::serving::{MemoryServing, ServingStore};

    use super::*;
    use crate::applier::encode_batch_key;
    use crate::dedup::id_key;

    const HOUR: i64 = 3_600_000_000;

    fn cells(store: &MemoryServing, family: Family) -> usize {
        store.snapshot().scan(family, b"", None).expect("cells").len()
    }

    #[test]
    fn ids_go_part_by_part_until_none_is_left_before_the_floor() {
        let store = MemoryServing::default();
        let ids = IDS_DELETED as u128 * 5 / 2;
        let id = |id: u128| Mutation { family: Family::EventId, key: id_key((id % 3) as u32, id), value: Some(vec![]) };
        store.apply((0..ids).map(id).collect(), Position(1)).expect("applied");
        let (generation, mut forgetting) = (Generation::default(), Forgetting::default());
        let mut parts = Vec::new();
        for position in 2..5 {
            let (deletions, next) = forgetting.part(store.snapshot().as_ref(), &generation, 2).expect("read");
            parts.push(deletions.len());
            store.apply(deletions, Position(position)).expect("applied");
            forgetting = next;
        }
        let before_floor = ids as usize - cells(&store, Family::EventId);
        assert_eq!(parts, [IDS_DELETED, before_floor - IDS_DELETED, 0]);
        assert_eq!(cells(&store, Family::EventId), ids as usize / 3);
        let (deletions, _) = forgetting.part(store.snapshot().as_ref(), &generation, 3).expect("read");
        assert_eq!(deletions.len(), ids as usize / 3, "the next slot, when its time comes");
    }

    #[test]
    fn batch_keys_go_a_day_after_their_receipt_a_part_at_a_time() {
        let store = MemoryServing::default();
        let keys = BATCH_KEYS_READ as u64 * 5 / 2;
        let key = |number: u64| Mutation {
            family: Family::BatchKey,
            key: xxh3_128(&number.to_be_bytes()).to_be_bytes().to_vec(),
            value: Some(encode_batch_key(if number.is_multiple_of(2) { 0 } else { 3 * HOUR }, number)),
        };
        store.apply((0..keys).map(key).collect(), Position(1)).expect("applied");
        let mut forgetting = Forgetting::default();
        let mut pass = |receive_time, first| {
            for position in first..first + 4 {
                let mut generation = Generation::starting_at(Position(position), 0);
                generation.receive_time_min = Some(receive_time);
                let (deletions, next) = forgetting.part(store.snapshot().as_ref(), &generation, 0).expect("read");
                assert!(deletions.len() <= BATCH_KEYS_READ);
                store.apply(deletions, Position(position)).expect("applied");
                forgetting = next;
            }
            cells(&store, Family::BatchKey) as u64
        };
        assert_eq!(pass(BATCH_KEY_AGE, 10), keys, "they may still be asked for");
        assert_eq!(pass(BATCH_KEY_AGE + 2 * HOUR, 20), keys / 2);
        assert_eq!(pass(BATCH_KEY_AGE + 5 * HOUR, 30), 0);
    }
}
