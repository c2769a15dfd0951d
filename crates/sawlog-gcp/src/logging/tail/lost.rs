//! Entries whose payload a stream did not carry.
//!
//! For: gathering them and asking for them by their ids, one list at a time. Not for: more of them than such lists can give, which
//! are left to the list of their time ([`super::unsure`]): it gives ten times as many with a request.

use std::sync::PoisonError;
use std::time::Duration;

use google_cloud_logging_v2::client::LoggingServiceV2;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::super::entry::Nanos;
use super::super::pages::Range;
use super::{ListError, Tail};

/// Entries that one request asks for; an id has up to 150 bytes, a filter up to 20,000.
const IDS_MAX: usize = 100;
/// How long entries are gathered.
const IDS_AGE: Duration = Duration::from_millis(500);
/// Entries that wait at most: what the quota of a project gives in about 20 seconds.
const QUEUE_MAX: usize = 2_000;
/// How long after more than that their time is listed instead.
const FLOOD: Duration = Duration::from_secs(60);

/// An entry whose payload was lost.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) time: Nanos,
    pub(super) insert_id: String,
}

/// Entries that wait, and those that are being asked for.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Vec<Entry>,
    /// When the first of them came.
    since: Option<Instant>,
    asked: Option<Range>,
    flooded_until: Option<Instant>,
}

impl Queue {
    /// Adds entries. If they are too many, none is kept, and their first time is returned, from which on a list must be made.
    fn add(&mut self, entries: Vec<Entry>, now: Instant) -> Option<Nanos> {
        self.waiting.extend(entries);
        self.since.get_or_insert(now);
        if self.waiting.len() > QUEUE_MAX {
            self.flooded_until = Some(now + FLOOD);
        }
        self.flooded_until.filter(|until| now < *until)?;
        self.since = None;
        self.waiting.drain(..).map(|entry| entry.time).min()
    }

    /// When the next request may be made.
    fn due(&self) -> Option<Instant> {
        let since = self.since?;
        Some(if self.waiting.len() < IDS_MAX { since + IDS_AGE } else { since })
    }

    /// Takes the entries of the next request.
    fn take(&mut self) -> Option<(Range, Vec<String>)> {
        let rest = self.waiting.split_off(self.waiting.len().min(IDS_MAX));
        let taken = std::mem::replace(&mut self.waiting, rest);
        self.since = self.since.filter(|_| !self.waiting.is_empty());
        let range = range_of(&taken)?;
        self.asked = Some(range);
        Some((range, taken.into_iter().map(|entry| entry.insert_id).collect()))
    }

    /// The time of all that are not stored.
    pub(super) fn range(&self) -> Option<Range> {
        match (range_of(&self.waiting), self.asked) {
            (Some(one), Some(other)) => {
                Some(Range { from: one.from.min(other.from), until: one.until.max(other.until) })
            }
            (one, other) => one.or(other),
        }
    }
}

fn range_of(entries: &[Entry]) -> Option<Range> {
    let times = || entries.iter().map(|entry| entry.time);
    Some(Range { from: times().min()?, until: times().max()?.saturating_add(1) })
}

/// Notes entries whose payload was lost.
pub(super) fn add(tail: &Tail, entries: Vec<Entry>) {
    if entries.is_empty() {
        return;
    }
    let too_many = tail.lost.lock().unwrap_or_else(PoisonError::into_inner).add(entries, Instant::now());
    match too_many {
        Some(from) => tail.doubt(from),
        None => tail.lost_came.notify_one(),
    }
}

/// Asks for them until a stop.
pub(super) async fn run(tail: &Tail, mut stopped: watch::Receiver<bool>) {
    let Some(client) = tail.connected(&mut stopped).await else { return };
    loop {
        let due = tail.lost.lock().unwrap_or_else(PoisonError::into_inner).due();
        if due.is_none_or(|due| due > Instant::now()) {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = tail.lost_came.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            continue;
        }
        let taken = tail.lost.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((range, ids)) = taken else { continue };
        if !ask(tail, &client, range, &ids, &mut stopped).await {
            return;
        }
        tail.lost.lock().unwrap_or_else(PoisonError::into_inner).asked = None;
    }
}

/// Asks for some by their ids; false at a stop.
async fn ask(
    tail: &Tail,
    client: &LoggingServiceV2,
    range: Range,
    ids: &[String],
    stopped: &mut watch::Receiver<bool>,
) -> bool {
    match tail.list(client, range, &any_id(ids), |_| {}, stopped).await {
        Ok(found) if found >= ids.len() => {}
        // The others are not to be listed yet.
        Ok(_) => tail.doubt(range.from),
        Err(ListError::Stopped) => return false,
        Err(error) => {
            let source = &tail.options.query.source;
            tracing::warn!(%error, source, "entries could not be asked for; their time is listed");
            tail.doubt(range.from);
        }
    }
    true
}

/// A condition that one of the ids fulfils.
fn any_id(ids: &[String]) -> String {
    let quoted = ids.iter().map(|id| format!("\"{}\"", id.replace('\\', "\\\\").replace('"', "\\\"")));
    format!("insertId=({})", quoted.collect::<Vec<_>>().join(" OR "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(times: std::ops::Range<Nanos>) -> Vec<Entry> {
        times.map(|time| Entry { time, insert_id: format!("id {time}") }).collect()
    }

    #[test]
    fn ids_are_quoted_in_a_filter() {
        assert_eq!(any_id(&["a".to_owned(), "b\"\\".to_owned()]), r#"insertId=("a" OR "b\"\\")"#);
    }

    #[test]
    fn entries_are_gathered_for_a_moment_and_asked_for_a_hundred_at_a_time() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert_eq!((queue.due(), queue.range()), (None, None));
        assert_eq!(queue.add(entries(0..40), now), None);
        assert_eq!(queue.due(), Some(now + IDS_AGE));
        assert_eq!(queue.add(entries(40..150), now + IDS_AGE / 2), None);
        assert_eq!(queue.due(), Some(now));
        let (range, ids) = queue.take().expect("some");
        assert_eq!((range, ids.len()), (Range { from: 0, until: 100 }, 100));
        assert_eq!(queue.range(), Some(Range { from: 0, until: 150 }));
        assert_eq!(queue.take().expect("the rest").1.len(), 50);
        assert_eq!((queue.due(), queue.range()), (None, Some(Range { from: 100, until: 150 })));
    }

    #[test]
    fn too_many_are_left_to_a_list_for_a_while() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert_eq!(queue.add(entries(5..1_005), now), None);
        assert_eq!(queue.add(entries(2_000..4_000), now), Some(5));
        assert_eq!((queue.due(), queue.range()), (None, None));
        assert_eq!(queue.add(entries(4_000..4_001), now + FLOOD / 2), Some(4_000));
        assert_eq!(queue.add(entries(4_001..4_002), now + FLOOD), None);
        assert_eq!(queue.take().expect("one").1, ["id 4001"]);
    }
}
