//! Which records and batches are repeats, by the rules that the docs state.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::simulation::input::{Batch, Event, What};

const SLOT: i64 = 600_000_000;
const DAY: i64 = 86_400_000_000;

/// What an `insert_id` is unique within: source and kind of record.
type Id = (String, u8, String);

#[derive(Debug)]
pub(super) struct Dedup {
    window: i64,
    ids_max: u64,
    /// Latest event time of records with an id, at most their receive time.
    newest: i64,
    /// First slot whose ids are remembered.
    floor: i64,
    /// Ids of finished generations, by slot.
    stored: BTreeMap<i64, BTreeSet<Id>>,
    /// Ids of this generation.
    current: BTreeMap<Id, i64>,
    /// Latest slot of each id.
    slots: BTreeMap<Id, i64>,
    /// When a batch with this key was first received.
    keys: BTreeMap<String, i64>,
    /// Whether the clock was set back in this generation.
    is_set_back: bool,
}

pub(super) fn kind_of(event: &Event) -> Option<u8> {
    match event.what {
        What::Log(_) => Some(0),
        What::Metric(_) => Some(1),
        What::Activity(_) => Some(2),
        What::Broken => None,
    }
}

fn slot_of(time: i64) -> i64 {
    time.div_euclid(SLOT).max(0)
}

impl Dedup {
    pub(super) fn new(window: i64, ids_max: u64) -> Self {
        Self {
            window,
            ids_max,
            newest: i64::MIN,
            floor: 0,
            stored: BTreeMap::new(),
            current: BTreeMap::new(),
            slots: BTreeMap::new(),
            keys: BTreeMap::new(),
            is_set_back: false,
        }
    }

    /// Event times of a clock that was more than ten minutes ahead count as now. Returns whether there were any.
    pub(super) fn set_back(&mut self, receive_time: i64) -> bool {
        let is_ahead = self.newest != i64::MIN && self.newest - receive_time > 600_000_000;
        if is_ahead {
            self.newest = receive_time;
            self.is_set_back = true;
        }
        is_ahead
    }

    /// Whether the batch is one that came within a day; else it is remembered.
    pub(super) fn is_repeated_batch(&mut self, batch: &Batch) -> bool {
        let Some(key) = &batch.idempotency_key else { return false };
        if self.keys.get(key).is_some_and(|first| batch.receive_time - first < DAY) {
            return true;
        }
        self.keys.insert(key.clone(), batch.receive_time);
        false
    }

    /// Which of the events that would be stored are repeats, by their place in the batch; the others are remembered.
    pub(super) fn repeats(&mut self, batch: &Batch, stored: &[usize]) -> BTreeSet<usize> {
        let mut repeats = BTreeSet::new();
        // Within a batch the smaller hash wins, then the earlier record.
        let mut winners: BTreeMap<Id, (u64, usize)> = BTreeMap::new();
        for &at in stored {
            let event = &batch.events[at];
            let (Some(kind), Some(insert_id)) = (kind_of(event), &event.insert_id) else { continue };
            let id = (batch.source.clone(), kind, insert_id.clone());
            let mine = (xxh3_64(event.line().as_bytes()), at);
            match winners.get(&id).copied() {
                Some(winner) if winner < mine => {
                    repeats.insert(at);
                }
                other => {
                    repeats.extend(other.map(|(_, loser)| loser));
                    winners.insert(id, mine);
                }
            }
        }
        let oldest = self.newest.saturating_sub(self.window);
        let oldest_slot = slot_of(oldest).max(self.floor);
        let mut newest = self.newest;
        for (id, (_, at)) in winners {
            let time = batch.events[at].time;
            if time < oldest {
                continue;
            }
            if self.slots.get(&id).is_some_and(|slot| *slot >= oldest_slot) {
                repeats.insert(at);
                continue;
            }
            if slot_of(time) >= self.floor {
                self.slots.insert(id.clone(), slot_of(time));
                self.current.insert(id, slot_of(time));
            }
            newest = newest.max(time.min(batch.receive_time));
        }
        self.newest = newest;
        repeats
    }

    /// A generation ends: slots before the window are given up, then the oldest while there are too many ids.
    pub(super) fn end_generation(&mut self) {
        if std::mem::take(&mut self.is_set_back) {
            // What was given up while the clock was ahead stays given up.
            let floor = self.floor.min(slot_of(self.newest) + 1);
            self.slots.retain(|id, slot| *slot < floor || self.current.contains_key(id));
            drop(self.stored.split_off(&floor));
            self.floor = floor;
        }
        self.floor = self.floor.max(slot_of(self.newest.saturating_sub(self.window)));
        self.stored = self.stored.split_off(&self.floor);
        while self.stored.values().map(|ids| ids.len() as u64).sum::<u64>() + self.current.len() as u64 > self.ids_max
            && let Some((slot, _)) = self.stored.pop_first()
        {
            self.floor = slot + 1;
        }
        for (id, slot) in std::mem::take(&mut self.current) {
            if slot >= self.floor {
                self.stored.entry(slot).or_default().insert(id);
            }
        }
    }
}
