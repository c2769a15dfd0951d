//! The groups of a rule, and how much memory they take.
//!
//! For: finding and changing groups while the sum of their memory goes with them, since it is asked for with every batch.
//! Not for: what a group does ([`super::group`]).

use std::collections::BTreeMap;

use super::group::Group;
use super::key::GroupKey;

/// Groups by the values of their dimensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<GroupKey, Group>,
    bytes: usize,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn get(&self, key: &GroupKey) -> Option<&Group> {
        self.groups.get(key)
    }

    pub(super) fn contains(&self, key: &GroupKey) -> bool {
        self.groups.contains_key(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&GroupKey, &Group)> {
        self.groups.iter()
    }

    pub(super) fn keys(&self) -> Vec<GroupKey> {
        self.groups.keys().cloned().collect()
    }

    pub(super) fn insert(&mut self, key: GroupKey, group: Group) {
        self.remove(&key);
        self.bytes += memory_bytes(&key, &group);
        self.groups.insert(key, group);
    }

    pub(super) fn remove(&mut self, key: &GroupKey) {
        self.bytes -= self.groups.remove(key).map_or(0, |group| memory_bytes(key, &group));
    }

    /// Lets a group be changed; `None` when there is none.
    pub(super) fn change<T>(&mut self, key: &GroupKey, work: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let group = self.groups.get_mut(key)?;
        let before = group.memory_bytes();
        let done = work(group);
        self.bytes = self.bytes - before + group.memory_bytes();
        Some(done)
    }

    /// Memory of all groups with their keys, bytes.
    pub(super) const fn memory_bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn counted_anew(&self) -> usize {
        let anew = |(key, group): (&GroupKey, &Group)| {
            let inputs: usize = group.inputs().values().map(super::input::Input::memory_bytes).sum();
            memory_bytes(key, group) - group.memory_bytes() + size_of::<Group>() + inputs
        };
        self.groups.iter().map(anew).sum()
    }
}

fn memory_bytes(key: &GroupKey, group: &Group) -> usize {
    let values: usize = key.iter().map(|value| size_of_val(value) + value.as_ref().map_or(0, String::len)).sum();
    size_of::<GroupKey>() + values + group.memory_bytes()
}
