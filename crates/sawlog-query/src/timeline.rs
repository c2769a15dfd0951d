//! One user's timeline: what they did, newest first, with what is known of them.
//!
//! For: reads by user from the serving store and memory, in milliseconds. Not for: SQL, or users in general.

use std::fmt;
use std::ops::ControlFlow;

use sawlog_core::schema::Table;
use sawlog_core::session::SessionRow;
use sawlog_core::timeline::{self, Chunk, Entry, Profile, UserRows};
use sawlog_seams::serving::{Family, ServingError};
use sawlog_seams::view::View;

use crate::sessions::LiveSessions;

/// Most entries of one answer.
pub const LIMIT_MAX: usize = 1_000;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineRequest {
    /// The user.
    pub user: String,
    /// Earliest event time, UTC microseconds.
    pub from: i64,
    /// Entries before this place only: that of the last entry of the page before, or a time.
    pub before: Place,
    /// Most entries, 1 to [`LIMIT_MAX`].
    pub limit: usize,
}

/// Place of an entry in the order of a timeline: event time, then batch and place in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    time: i64,
    batch_id: String,
    record_index: u32,
}

impl Place {
    /// Before all entries at a time, UTC microseconds.
    #[must_use]
    pub const fn at(time: i64) -> Self {
        Self { time, batch_id: String::new(), record_index: 0 }
    }

    /// Reads a place as it is written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let (time, index, batch) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { time: time.parse().ok()?, record_index: index.parse().ok()?, batch_id: batch.to_owned() })
    }

    fn of(entry: &Entry) -> Self {
        Self { time: entry.time, batch_id: entry.batch_id.to_string(), record_index: entry.record_index }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.time, self.record_index, self.batch_id)
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserTimeline {
    /// What is known of the user; `None` where nobody keeps profiles, as the pipeline on Dataflow does not.
    pub profile: Option<Profile>,
    /// Sessions that are open or may still change, newest first; older ones are in the table `sessions`.
    pub sessions: Vec<SessionRow>,
    /// Entries, newest first.
    pub entries: Vec<Entry>,
    /// Entries that were left out, since the user had too many at once; of two pages the one that has the entry just after
    /// them counts them.
    pub omitted_count: u64,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Place>,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TimelineError {
    /// The serving store failed.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// What is stored cannot be read.
    #[error("the timeline cannot be read: {0}")]
    Damaged(String),
}

/// Whether anything that a user did is stored.
fn has_chunks(view: &View, user: &str) -> Result<bool, ServingError> {
    let (start, end) = timeline::range_of(user, i64::MAX);
    let mut is_any = false;
    view.serving.scan_each(Family::Timeline, &start, Some(&end), &mut |_, _| {
        is_any = true;
        ControlFlow::Break(())
    })?;
    Ok(is_any)
}

/// Reads the timeline of a user; `None` for one that nothing is known of.
///
/// # Errors
/// When the serving store fails or holds something else.
pub fn user_timeline(view: &View, request: &TimelineRequest) -> Result<Option<UserTimeline>, TimelineError> {
    let damaged = |error: &dyn fmt::Display| TimelineError::Damaged(error.to_string());
    let hot_tables = [Table::Logs, Table::Activity].map(|table| (table, view.tables.get(table.name())));
    let hot = hot_tables.iter().filter_map(|(table, rows)| Some((*table, (*rows)?)));
    let hot = hot.flat_map(|(table, rows)| rows.hot.iter().map(move |batch| (table, batch)));
    let rows = UserRows::of(hot, Some(&request.user));
    let stored = view.serving.get(Family::Profile, &timeline::profile_key(&request.user))?;
    let mut profile = stored.map(|bytes| Profile::from_bytes(&bytes)).transpose().map_err(|error| damaged(&error))?;
    let mut found: Vec<Entry> = Vec::new();
    for (_, part) in rows.users() {
        profile.get_or_insert_default().merge(&part.profile());
        found.extend(part.entries());
    }
    if profile.is_none() && !has_chunks(view, &request.user)? {
        return Ok(None);
    }
    let limit = request.limit.clamp(1, LIMIT_MAX);
    // The last entry of each chunk that is wanted, and how many were left out before it.
    let mut omitted: Vec<(Place, u64)> = Vec::new();
    let is_wanted = |entry: &Entry| entry.time >= request.from && Place::of(entry) < request.before;
    found.retain(is_wanted);
    let (start, end) = timeline::range_of(&request.user, request.before.time);
    let (mut failure, mut is_cut) = (None, false);
    view.serving.scan_each(Family::Timeline, &start, Some(&end), &mut |key, value| {
        let newest = timeline::time_of(key).unwrap_or(i64::MAX).saturating_add(999_999);
        let is_past = newest < request.from;
        if is_past || (found.len() > limit && is_after(&mut found, limit, newest)) {
            is_cut |= !is_past;
            return ControlFlow::Break(());
        }
        match Chunk::from_bytes(value) {
            Ok(chunk) => {
                let last = chunk.entries.last().filter(|last| chunk.omitted_count > 0 && is_wanted(last));
                omitted.extend(last.map(|last| (Place::of(last), chunk.omitted_count)));
                found.extend(chunk.entries.into_iter().filter(is_wanted));
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failure {
        return Err(damaged(&error));
    }
    found.sort_unstable_by_key(|entry| std::cmp::Reverse(Place::of(entry)));
    is_cut |= found.len() > limit;
    found.truncate(limit);
    let last = found.last().map(Place::of);
    let is_on_page = |place: &Place| last.as_ref().is_some_and(|last| place >= last);
    let omitted_count = omitted.iter().filter(|(place, _)| is_on_page(place)).map(|(_, count)| count).sum();
    let next = last.filter(|_| is_cut);
    let mut sessions = LiveSessions::of(view).of_user(&request.user).map_err(|error| damaged(&error))?;
    sessions.sort_by_key(|row| std::cmp::Reverse(row.session.first()));
    Ok(Some(UserTimeline { profile, sessions, entries: found, omitted_count, next }))
}

/// Whether the page is full with entries after a time.
fn is_after(found: &mut [Entry], limit: usize, time: i64) -> bool {
    let (_, last, _) = found.select_nth_unstable_by_key(limit - 1, |entry| std::cmp::Reverse(entry.time));
    last.time > time
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use sawlog_core::timeline::EntryKind;
    use sawlog_seams::Position;
    use sawlog_seams::serving::{MemoryServing, Mutation, ServingStore};
    use sawlog_seams::view::SessionRules;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn entry(second: i64) -> Entry {
        Entry {
            time: second * SECOND,
            kind: EntryKind::Activity,
            status: None,
            duration: None,
            batch_id: "b".into(),
            record_index: 0,
            name: None,
            service: None,
            route: None,
            severity: None,
        }
    }

    /// Chunks of a user as (seconds of the entries, newest first; entries left out).
    fn view_of(chunks: &[(&[i64], u64)]) -> View {
        let chunk = |(position, (seconds, omitted_count)): (usize, &(&[i64], u64))| {
            let key = timeline::key("u", seconds[0] * SECOND, position as u64, 0);
            let entries = seconds.iter().map(|second| entry(*second)).collect();
            let chunk = Chunk { entries, omitted_count: *omitted_count };
            Mutation { family: Family::Timeline, key, value: Some(chunk.to_bytes()) }
        };
        let serving = MemoryServing::default();
        serving.apply(chunks.iter().enumerate().map(chunk).collect(), Position(1)).expect("applied");
        View {
            remote: Vec::new(),
            tables: HashMap::new(),
            hot_rollups: Vec::new(),
            hot_sessions: Vec::new(),
            session_rules: SessionRules::default(),
            serving: serving.snapshot(),
            watermark: i64::MIN,
        }
    }

    /// Entries and left-out entries of each page.
    fn pages_of(view: &View, from: i64, limit: usize) -> Vec<(usize, u64)> {
        let (mut pages, mut next) = (Vec::new(), Some(Place::at(i64::MAX)));
        while let Some(before) = next {
            let request = TimelineRequest { user: "u".to_owned(), from: from * SECOND, before, limit };
            let page = user_timeline(view, &request).expect("readable").expect("a user");
            pages.push((page.entries.len(), page.omitted_count));
            next = page.next;
        }
        pages
    }

    #[test]
    fn a_user_without_a_profile_is_known_by_what_they_did() {
        let request = |from: i64| TimelineRequest {
            user: "u".to_owned(),
            from: from * SECOND,
            before: Place::at(i64::MAX),
            limit: 10,
        };
        assert_eq!(user_timeline(&view_of(&[]), &request(0)).expect("readable"), None);
        let view = view_of(&[(&[109, 107], 0)]);
        for (from, count) in [(0, 2), (200, 0)] {
            let found = user_timeline(&view, &request(from)).expect("readable").expect("a user");
            assert_eq!((found.profile, found.entries.len()), (None, count));
        }
    }

    #[test]
    fn what_was_left_out_is_counted_by_one_page_only() {
        // The second chunk is of another flush and lies within the first.
        let view = view_of(&[(&[109, 107, 105, 103, 101], 250), (&[106, 104], 30)]);
        assert_eq!(pages_of(&view, 0, 10), [(7, 280)]);
        assert_eq!(pages_of(&view, 0, 2), [(2, 0), (2, 0), (2, 30), (1, 250)]);
        assert_eq!(pages_of(&view, 0, 1).iter().map(|(_, omitted)| omitted).sum::<u64>(), 280);
        assert_eq!(pages_of(&view, 104, 10), [(5, 30)], "before the time asked for");
    }
}
