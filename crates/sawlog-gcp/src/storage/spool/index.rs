//! What is in the spool, by age and by key.
//!
//! For: the names of spooled objects in the local lake, which say all there is to know, the quota, and the order in which
//! they leave. Not for: their content. Names: `pending/FOLDERS/SEQUENCE-MICROS-BYTES-NAME` for the key `FOLDERS/NAME`, with
//! the sequence number in 20 digits and the time of spooling in microseconds since the Unix epoch; `conflicting/…` the same
//! for those set aside. Objects share the folders of their keys, since an emptied spool of files keeps its folders.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::SpoolStats;

const PENDING: &str = "pending";
const CONFLICTING: &str = "conflicting";

/// A spooled object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    sequence: u64,
    /// Wall clock when it was spooled, UTC microseconds.
    spooled_at: i64,
    pub(super) bytes: u64,
    pub(super) key: String,
}

impl Entry {
    /// Key in the local lake while it waits.
    pub(super) fn pending_key(&self) -> String {
        self.local_key(PENDING)
    }

    /// Key in the local lake once it is set aside.
    pub(super) fn conflicting_key(&self) -> String {
        self.local_key(CONFLICTING)
    }

    fn local_key(&self, folder: &str) -> String {
        let (folders, name) = split_name(&self.key);
        format!("{folder}/{folders}{:020}-{}-{}-{name}", self.sequence, self.spooled_at, self.bytes)
    }

    /// The folder and the entry that a key in the local lake names.
    fn parse(local_key: &str) -> Option<(&str, Self)> {
        let (folder, rest) = local_key.split_once('/')?;
        let (folders, name) = split_name(rest);
        let mut parts = name.splitn(4, '-');
        let sequence = parts.next()?.parse().ok()?;
        let spooled_at = parts.next()?.parse().ok()?;
        let bytes = parts.next()?.parse().ok()?;
        let key = format!("{folders}{}", parts.next()?);
        Some((folder, Self { sequence, spooled_at, bytes, key }))
    }
}

/// The folders of a key, with their last slash, and the rest.
fn split_name(key: &str) -> (&str, &str) {
    key.split_at(key.rfind('/').map_or(0, |slash| slash + 1))
}

/// An entry that waits.
#[derive(Debug)]
struct Waiting {
    entry: Entry,
    /// It is being brought to the remote lake.
    is_claimed: bool,
    /// It is left alone until then.
    not_before: Option<Instant>,
}

/// All entries.
#[derive(Debug, Default)]
pub(super) struct Index {
    waiting: BTreeMap<u64, Waiting>,
    by_key: HashMap<String, u64>,
    next_sequence: u64,
    /// Of all entries, of those being written, and of those set aside.
    bytes: u64,
    conflicting: usize,
}

impl Index {
    /// The index of a spool whose local lake has these keys. The error is a key that is none of a spool.
    pub(super) fn read(keys: &[String]) -> Result<Self, String> {
        let mut index = Self::default();
        for key in keys {
            let (folder, entry) = Entry::parse(key).ok_or_else(|| key.clone())?;
            index.next_sequence = index.next_sequence.max(entry.sequence.saturating_add(1));
            index.bytes += entry.bytes;
            match folder {
                PENDING => index.add(entry),
                CONFLICTING => index.conflicting += 1,
                _ => return Err(key.clone()),
            }
        }
        Ok(index)
    }

    /// Takes room for an object that is to be written; `None` when there is not enough.
    pub(super) fn reserve(&mut self, key: &str, bytes: u64, bytes_max: u64, now: i64) -> Option<Entry> {
        if self.bytes.saturating_add(bytes) > bytes_max {
            return None;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.bytes += bytes;
        // A sign would not fit into the name; a clock that is before 1970 is wrong anyway.
        Some(Entry { sequence, spooled_at: now.max(0), bytes, key: key.to_owned() })
    }

    /// Gives room back that was reserved.
    pub(super) fn give_back(&mut self, entry: &Entry) {
        self.bytes -= entry.bytes;
    }

    /// Adds an object that was written.
    pub(super) fn add(&mut self, entry: Entry) {
        self.by_key.insert(entry.key.clone(), entry.sequence);
        self.waiting.insert(entry.sequence, Waiting { entry, is_claimed: false, not_before: None });
    }

    pub(super) fn find(&self, key: &str) -> Option<Entry> {
        let sequence = self.by_key.get(key)?;
        self.waiting.get(sequence).map(|waiting| waiting.entry.clone())
    }

    /// Whether this very entry still waits.
    pub(super) fn contains(&self, entry: &Entry) -> bool {
        self.waiting.contains_key(&entry.sequence)
    }

    /// Keys below a folder (whole path parts; empty for all).
    pub(super) fn keys_below(&self, prefix: &str) -> Vec<String> {
        let folder = prefix.trim_end_matches('/');
        let is_below =
            |key: &&String| folder.is_empty() || key.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        self.by_key.keys().filter(is_below).cloned().collect()
    }

    /// The oldest entry that may leave now.
    pub(super) fn oldest(&self, now: Instant) -> Option<&Entry> {
        let may_leave = |waiting: &&Waiting| !waiting.is_claimed && waiting.not_before.is_none_or(|until| until <= now);
        self.waiting.values().find(may_leave).map(|waiting| &waiting.entry)
    }

    /// When the first of the entries that may not leave now may do so.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.values().filter(|waiting| !waiting.is_claimed).filter_map(|waiting| waiting.not_before).min()
    }

    /// Keeps an entry from being taken twice.
    pub(super) fn claim(&mut self, entry: &Entry) {
        if let Some(waiting) = self.waiting.get_mut(&entry.sequence) {
            waiting.is_claimed = true;
        }
    }

    /// Lets an entry wait on.
    pub(super) fn release(&mut self, entry: &Entry, not_before: Option<Instant>) {
        if let Some(waiting) = self.waiting.get_mut(&entry.sequence) {
            waiting.is_claimed = false;
            waiting.not_before = not_before;
        }
    }

    /// Forgets an entry whose object has left the spool.
    pub(super) fn remove(&mut self, entry: &Entry) {
        if self.forget(entry) {
            self.bytes -= entry.bytes;
        }
    }

    /// Forgets an entry whose object was set aside, where it still takes room.
    pub(super) fn set_aside(&mut self, entry: &Entry) {
        if self.forget(entry) {
            self.conflicting += 1;
        }
    }

    fn forget(&mut self, entry: &Entry) -> bool {
        let Some(waiting) = self.waiting.remove(&entry.sequence) else { return false };
        if self.by_key.get(&waiting.entry.key) == Some(&entry.sequence) {
            self.by_key.remove(&waiting.entry.key);
        }
        true
    }

    pub(super) fn stats(&self, now: i64, is_remote_away: bool) -> SpoolStats {
        let oldest = self.waiting.values().next().map(|waiting| waiting.entry.spooled_at);
        SpoolStats {
            objects: self.waiting.len(),
            bytes: self.bytes,
            oldest_age: oldest.map(|at| Duration::from_micros(u64::try_from(now.saturating_sub(at)).unwrap_or(0))),
            conflicting: self.conflicting,
            is_remote_away,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_all_there_is_to_know() {
        let mut index = Index::default();
        let entry = index.reserve("raw/a=1/b-c.parquet", 7, 10, 1_000_000).expect("room");
        assert_eq!(entry.pending_key(), "pending/raw/a=1/00000000000000000000-1000000-7-b-c.parquet");
        assert!(index.reserve("raw/other", 4, 10, 0).is_none(), "over the quota");
        index.add(entry.clone());
        let again = Index::read(&[entry.pending_key(), "conflicting/00000000000000000004-5-2-x".to_owned()]);
        let mut again = again.expect("an index");
        assert_eq!(again.find(&entry.key), Some(entry));
        let stats = again.stats(3_000_000, false);
        assert_eq!((stats.objects, stats.bytes, stats.conflicting), (1, 9, 1));
        assert_eq!(stats.oldest_age, Some(Duration::from_secs(2)));
        assert_eq!(again.reserve("raw/new", 1, 10, 0).expect("room").sequence, 5);
    }

    #[test]
    fn a_name_of_something_else_is_an_error() {
        for key in ["raw/a.parquet", "other/raw/00000000000000000000-1-7-a", "pending/raw/x-1-7-a", "pending/1-1", "a"]
        {
            assert_eq!(Index::read(&[key.to_owned()]).expect_err("foreign"), key);
        }
    }

    #[test]
    fn entries_leave_in_the_order_in_which_they_came() {
        let (mut index, now) = (Index::default(), Instant::now());
        let entries = ["b", "a", "c"].map(|key| index.reserve(key, 1, 10, 0).expect("room"));
        entries.iter().for_each(|entry| index.add(entry.clone()));
        assert_eq!(index.oldest(now), Some(&entries[0]));
        index.claim(&entries[0]);
        assert_eq!(index.oldest(now), Some(&entries[1]));
        index.release(&entries[0], Some(now + Duration::from_secs(1)));
        assert_eq!((index.oldest(now), index.next_due()), (Some(&entries[1]), Some(now + Duration::from_secs(1))));
        index.remove(&entries[1]);
        index.set_aside(&entries[2]);
        assert_eq!(index.oldest(now), None);
        assert_eq!(index.oldest(now + Duration::from_secs(1)), Some(&entries[0]));
        assert_eq!(index.stats(0, false).bytes, 2, "what is set aside takes room");
    }
}
