//! What a tail has and what it lacks.
//!
//! For: times up to which everything is stored, and ranges before them in which entries may lack. Not for: filling those ranges
//! ([`super::unsure`], [`super::missing`]), or the file ([`super::file`]).
//!
//! Rules: a range is unsure when some of its entries may be stored; it is listed, and ids tell which are. Ids are known for a
//! while only, so that what is older when its list is to begin becomes missing: none of its entries is stored but those that are
//! noted, and it is filled as a back-fill is. What is noted are the entries of the last time, which is where a range begins, and
//! those that a stream shows of a missing range, which arrived late.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::entry::{Nanos, Place};
use super::super::pages::Range;
use super::TailOptions;

/// Unsure ranges at most; beyond it the two oldest become one.
const UNSURE_MAX: usize = 1_000;
/// Entries that are noted at most; the oldest are forgotten beyond it.
const STORED_MAX: usize = 10_000;

/// The options that marks follow, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    settle: Nanos,
    overlap: Nanos,
    ids_known: Nanos,
    gap_max: Nanos,
}

impl Limits {
    pub(super) fn new(options: &TailOptions) -> Self {
        Self {
            settle: nanos_of(options.settle),
            overlap: nanos_of(options.overlap),
            ids_known: nanos_of(options.ids_known),
            gap_max: nanos_of(options.gap_max),
        }
    }
}

fn nanos_of(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

/// A range some of whose entries may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unsure {
    range: Range,
    /// Where its list begins: earlier, for entries that arrived late; while it is listed, how far the list is.
    list_from: Nanos,
    /// When its list may begin.
    due: Nanos,
}

impl Unsure {
    fn touches(&self, other: &Self) -> bool {
        self.list_from <= other.range.until && other.list_from <= self.range.until
    }

    fn join(&mut self, other: &Self) {
        self.range.from = self.range.from.min(other.range.from);
        self.range.until = self.range.until.max(other.range.until);
        self.list_from = self.list_from.min(other.list_from);
        self.due = self.due.min(other.due);
    }

    /// What is not listed yet.
    fn rest(&self) -> Range {
        Range { from: self.range.from.max(self.list_from), until: self.range.until }
    }
}

/// What is to be done about a range that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// What is to be listed now, if anything.
    pub(super) list: Option<Range>,
    /// Whether something became missing.
    pub(super) is_missing: bool,
    /// What is too old to be filled.
    pub(super) given_up: Option<Range>,
}

/// What a tail has and what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// All entries before it are stored, but for the ranges.
    pub(super) seen: Nanos,
    unsure: Vec<Unsure>,
    listing: Option<Unsure>,
    missing: Vec<Range>,
    stored: BTreeSet<Place>,
}

impl Marks {
    pub(super) fn new(seen: Nanos) -> Self {
        Self { seen, unsure: Vec::new(), listing: None, missing: Vec::new(), stored: BTreeSet::new() }
    }

    /// As they were when the last run ended.
    pub(super) fn restored(seen: Nanos, unsure: &[Range], missing: Vec<Range>, stored: Vec<Place>) -> Self {
        let of = |range: &Range| Unsure { range: *range, list_from: range.from, due: range.until };
        let unsure = unsure.iter().map(of).collect();
        Self { seen, unsure, listing: None, missing, stored: stored.into_iter().collect() }
    }

    /// The unsure ranges, the one that is being listed included.
    pub(super) fn unsure(&self) -> Vec<Range> {
        self.unsure.iter().chain(&self.listing).map(Unsure::rest).collect()
    }

    pub(super) fn missing(&self) -> &[Range] {
        &self.missing
    }

    pub(super) fn stored(&self) -> impl Iterator<Item = &Place> {
        self.stored.iter()
    }

    /// Whether an entry is noted as stored.
    pub(super) fn has(&self, place: &Place) -> bool {
        self.stored.contains(place)
    }

    /// A stream that was opened at a time works: what came since the last one is unsure, and the beginning of this one.
    pub(super) fn open(&mut self, opened: Nanos, limits: &Limits) {
        self.doubt_last(opened, limits);
        self.seen = self.seen.max(opened);
        self.forget();
    }

    /// A stream left out entries since those that it showed last.
    pub(super) fn doubt_last(&mut self, now: Nanos, limits: &Limits) {
        self.add(self.seen, self.seen.saturating_sub(limits.overlap), now, limits);
    }

    /// Entries since a time are not stored, or only some.
    pub(super) fn doubt(&mut self, from: Nanos, now: Nanos, limits: &Limits) {
        self.add(from, from, now, limits);
    }

    fn add(&mut self, from: Nanos, list_from: Nanos, now: Nanos, limits: &Limits) {
        let until = now.saturating_add(limits.settle);
        let range = Range { from, until: until.max(from) };
        self.insert(Unsure { range, list_from, due: until });
    }

    fn insert(&mut self, mut new: Unsure) {
        self.unsure.retain(|old| {
            let is_other = !old.touches(&new);
            if !is_other {
                new.join(old);
            }
            is_other
        });
        self.unsure.push(new);
        self.unsure.sort_by_key(|unsure| unsure.list_from);
        if self.unsure.len() > UNSURE_MAX {
            let second = self.unsure.remove(1);
            self.unsure[0].join(&second);
        }
    }

    /// When the next list may begin.
    pub(super) fn next_due(&self) -> Option<Nanos> {
        self.unsure.iter().map(|unsure| unsure.due).min()
    }

    /// Takes the first range whose list may begin: what of it ids are known for is to be listed, the rest is missing.
    pub(super) fn take_due(&mut self, now: Nanos, limits: &Limits) -> Option<Due> {
        let index = self.unsure.iter().position(|unsure| unsure.due <= now)?;
        let mut taken = self.unsure.remove(index);
        let known_since = now.saturating_sub(limits.ids_known);
        let mut due = Due { list: None, is_missing: false, given_up: None };
        if taken.range.from < known_since {
            let old = Range { from: taken.range.from, until: taken.range.until.min(known_since) };
            let earliest = now.saturating_sub(limits.gap_max).min(old.until);
            due.given_up = (old.from < earliest).then_some(Range { from: old.from, until: earliest });
            let old = Range { from: old.from.max(earliest), until: old.until };
            due.is_missing = old.from < old.until;
            if due.is_missing {
                self.missing.push(old);
            }
            taken.range.from = old.until;
        }
        taken.list_from = taken.list_from.max(known_since);
        if taken.range.until > now {
            // What came in the meantime may not be listed yet.
            let range = Range { from: now.saturating_sub(limits.settle), until: taken.range.until };
            self.insert(Unsure { range, list_from: range.from, due: range.until });
            taken.range.until = now;
        }
        if taken.list_from < taken.range.until {
            due.list = Some(Range { from: taken.list_from, until: taken.range.until });
            self.listing = Some(taken);
        }
        self.forget();
        Some(due)
    }

    /// The list has given all entries before a time.
    pub(super) fn listed(&mut self, until: Nanos) {
        if let Some(listing) = &mut self.listing {
            listing.list_from = listing.list_from.max(until);
        }
    }

    /// The list is done.
    pub(super) fn end_list(&mut self) {
        self.listing = None;
        self.forget();
    }

    /// The list has ended early; the rest of it is due after the time to settle.
    pub(super) fn put_back(&mut self, now: Nanos, limits: &Limits) {
        if let Some(listing) = self.listing.take() {
            let due = now.saturating_add(limits.settle);
            self.insert(Unsure { range: listing.rest(), due, ..listing });
        }
    }

    /// A missing range is filled.
    pub(super) fn fill(&mut self, range: Range) {
        self.missing.retain(|missing| *missing != range);
        self.forget();
    }

    /// Entries that a stream showed are stored. A clock that runs ahead of `now` says nothing of what is still to come.
    pub(super) fn see(&mut self, places: impl Iterator<Item = Place> + Clone, now: Nanos) {
        let newest = places.clone().map(|place| place.time).max().unwrap_or(self.seen);
        self.seen = self.seen.max(newest.min(now));
        self.forget();
        let noted: Vec<_> = places.filter(|place| self.is_noted(place.time)).collect();
        self.stored.extend(noted);
        while self.stored.len() > STORED_MAX {
            self.stored.pop_first();
        }
    }

    fn is_noted(&self, time: Nanos) -> bool {
        let mut begins = self.unsure.iter().chain(&self.listing).map(|unsure| unsure.range.from);
        time >= self.seen || begins.any(|from| from == time) || self.missing.iter().any(|missing| missing.has(time))
    }

    fn forget(&mut self) {
        let mut stored = std::mem::take(&mut self.stored);
        stored.retain(|place| self.is_noted(place.time));
        self.stored = stored;
    }
}

#[cfg(test)]
#[path = "marks_tests.rs"]
mod tests;
