//! Entries that wait to be written.
//!
//! For: a bound on their number and bytes that is kept by dropping, never by waiting, and the count of what was dropped. Not
//! for: what an entry says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sawlog_core::time::to_rfc3339;
use sawlog_seams::Clock;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

/// Where entries are put. Cloning it gives another way to the same queue.
#[derive(Clone)]
pub struct Entries {
    sender: mpsc::Sender<Entry>,
    shared: Arc<Shared>,
}

/// The other end.
pub(super) struct Waiting {
    receiver: mpsc::Receiver<Entry>,
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    /// Beginning of the ids of this run.
    run: String,
    sequence: AtomicU64,
    bytes: AtomicUsize,
    bytes_max: usize,
    dropped: AtomicU64,
}

/// An entry in the form of `LogEntry`.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) json: Value,
    pub(super) bytes: usize,
}

pub(super) fn queue(entries: usize, bytes_max: usize, run: String, clock: Arc<dyn Clock>) -> (Entries, Waiting) {
    let (sender, receiver) = mpsc::channel(entries);
    let (sequence, bytes, dropped) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicU64::new(0));
    let shared = Arc::new(Shared { clock, run, sequence, bytes, bytes_max, dropped });
    (Entries { sender, shared: Arc::clone(&shared) }, Waiting { receiver, shared })
}

impl Shared {
    fn entry(&self, severity: &'static str, payload: Map<String, Value>, more: Option<(&'static str, Value)>) -> Entry {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let mut json = json!({
            "timestamp": to_rfc3339(self.clock.now_micros()),
            "severity": severity,
            // Entries of one time are shown in the order of their ids.
            "insertId": format!("{}-{number:012x}", self.run),
            "jsonPayload": payload,
        });
        if let Some((name, value)) = more {
            json[name] = value;
        }
        let bytes = json.to_string().len();
        Entry { json, bytes }
    }
}

impl Entries {
    /// Puts an entry in, which happens now, unless there is no room. `more` is a further field of `LogEntry`.
    pub(super) fn put(&self, severity: &'static str, payload: Map<String, Value>, more: Option<(&'static str, Value)>) {
        let shared = &self.shared;
        let entry = shared.entry(severity, payload, more);
        let bytes = entry.bytes;
        let before = shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > shared.bytes_max || self.sender.try_send(entry).is_err() {
            shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Waiting {
    /// The next entry; `None` when nobody can put one in any more. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Entry> {
        let entry = self.receiver.recv().await?;
        self.shared.bytes.fetch_sub(entry.bytes, Ordering::Relaxed);
        Some(entry)
    }

    /// The next entry if one waits.
    pub(super) fn next_now(&mut self) -> Option<Entry> {
        let entry = self.receiver.try_recv().ok()?;
        self.shared.bytes.fetch_sub(entry.bytes, Ordering::Relaxed);
        Some(entry)
    }

    /// Entries dropped since the last call, and an entry that says so.
    pub(super) fn take_dropped(&self) -> Option<(u64, Entry)> {
        let dropped = self.shared.dropped.swap(0, Ordering::Relaxed);
        let payload = || {
            let message = "entries of Sawlog's log are missing here: too many waited to be written";
            Map::from_iter([("message".to_owned(), message.into()), ("dropped".to_owned(), dropped.into())])
        };
        (dropped > 0).then(|| (dropped, self.shared.entry("WARNING", payload(), None)))
    }
}

#[cfg(test)]
mod tests {
    use sawlog_seams::ManualClock;

    use super::*;

    fn put(entries: &Entries, message: &str) {
        entries.put("INFO", Map::from_iter([("message".to_owned(), message.into())]), None);
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let (entries, mut waiting) = queue(2, 1_000, "r".to_owned(), Arc::new(ManualClock::at_micros(0)));
        for message in ["a", "b", "c", "d"] {
            put(&entries, message);
        }
        let (dropped, entry) = waiting.take_dropped().expect("some");
        assert_eq!((dropped, &entry.json["jsonPayload"]["dropped"]), (2, &json!(2)));
        assert!(waiting.take_dropped().is_none());
        put(&entries, &"x".repeat(1_000));
        assert_eq!(waiting.take_dropped().expect("too many bytes").0, 1);
        let first = waiting.next_now().expect("one waits");
        assert_eq!(first.json["jsonPayload"]["message"], "a");
        assert_eq!(first.json["insertId"], "r-000000000000");
        assert_eq!(first.json["timestamp"], "1970-01-01T00:00:00.000000Z");
        put(&entries, "e");
        let rest: Vec<_> =
            std::iter::from_fn(|| waiting.next_now()).map(|entry| entry.json["insertId"].clone()).collect();
        assert_eq!(rest, ["r-000000000001", "r-000000000007"]);
        assert_eq!(entries.shared.bytes.load(Ordering::Relaxed), 0);
    }
}
