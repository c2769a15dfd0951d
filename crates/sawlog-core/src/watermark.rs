//! Watermarks: up to which event time everything has arrived, as far as can be known.
//!
//! For: one watermark for each source and one for all. Not for: what windows do with it ([`crate::window`]). Rules:
//! - A source is expected to be out of order by at most a bound: its watermark is its latest event time less that bound.
//! - An event time ahead of its receive time counts as the receive time: a clock that runs ahead must not close windows
//!   for all others.
//! - A source from which nothing came for the idle timeout holds nobody up. With no source left the watermark follows
//!   receive time, less the idle timeout and the bound.
//! - Sources that load history (files with no lower bound of age) neither advance it nor hold up others. While some is
//!   loaded and no other source is active it stays: what is loaded is complete when loading has paused for the idle timeout.
//! - A watermark never goes back. Time is the receive time of the log, never a clock: a replay gives the same watermarks.
//! - The one exception: receive times that lie more than [`SET_BACK_MIN`] before the latest one for [`SET_BACK_AFTER`] say that
//!   a clock which ran ahead was set right. What it led to is forgotten, for otherwise everything would be late until that time
//!   has come.

use std::collections::BTreeMap;

use crate::varint;

const VERSION: u8 = 3;
/// Sources that are told apart. Beyond that a new one takes the place of the one that has been idle longest; while none is
/// idle it shares a watermark with others under [`OTHER_SOURCES`].
pub const SOURCES_MAX: usize = 1_000;
/// So much before the latest receive time, microseconds, a receive time says that the clock was set back. Less is waited out.
pub const SET_BACK_MIN: i64 = 600_000_000;
/// For so long, microseconds by the clock itself, receive times must lie there before it counts as set back: a clock that is
/// wrong just after a start is not believed.
pub const SET_BACK_AFTER: i64 = 60_000_000;
/// Name that further sources share.
pub const OTHER_SOURCES: &str = "__other__";

/// Settings of watermarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatermarkOptions {
    /// How far out of order a source's events may be, microseconds.
    pub out_of_orderness: i64,
    /// How long a source may be silent before it holds nobody up, microseconds of receive time.
    pub idle_timeout: i64,
}

impl Default for WatermarkOptions {
    /// 5 seconds out of order, idle after 30 seconds.
    fn default() -> Self {
        Self { out_of_orderness: 5_000_000, idle_timeout: 30_000_000 }
    }
}

/// The watermarks of all sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermarks {
    options: WatermarkOptions,
    sources: BTreeMap<String, SourceMark>,
    /// Latest receive time.
    now: i64,
    combined: i64,
    /// Receive time of the last batch of history.
    last_history: i64,
    /// Receive time since which all lie so far before the latest one that the clock may have been set back.
    behind_since: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SourceMark {
    watermark: i64,
    /// Receive time of its last batch.
    last_seen: i64,
}

/// One source's watermark, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceWatermark {
    /// Name of the source.
    pub source: String,
    /// Its watermark, UTC microseconds.
    pub watermark: i64,
    /// Receive time of its last batch, UTC microseconds.
    pub last_seen: i64,
    /// Whether it was silent for so long that it holds nobody up.
    pub is_idle: bool,
}

/// Bytes that are no watermarks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no watermarks of version {VERSION}")]
pub struct WatermarksError;

impl Watermarks {
    /// Watermarks before any event.
    #[must_use]
    pub const fn new(options: WatermarkOptions) -> Self {
        Self {
            options,
            sources: BTreeMap::new(),
            now: i64::MIN,
            combined: i64::MIN,
            last_history: i64::MIN,
            behind_since: None,
        }
    }

    /// The watermark of all sources together; `i64::MIN` before the first event.
    #[must_use]
    pub const fn combined(&self) -> i64 {
        self.combined
    }

    /// Takes in a batch of a source: its receive time and its latest event time, if it has any event. Returns the
    /// watermark of all sources.
    pub fn observe(&mut self, source: &str, receive_time: i64, newest_event: Option<i64>) -> i64 {
        let name = if self.has_place_for(source, receive_time) { source } else { OTHER_SOURCES };
        if !self.sources.contains_key(name) {
            self.sources.insert(name.to_owned(), SourceMark { watermark: i64::MIN, last_seen: receive_time });
        }
        if let Some(mark) = self.sources.get_mut(name) {
            mark.last_seen = mark.last_seen.max(receive_time);
            if let Some(newest) = newest_event {
                let candidate = newest.min(receive_time).saturating_sub(self.options.out_of_orderness);
                mark.watermark = mark.watermark.max(candidate);
            }
        }
        self.advance(receive_time)
    }

    /// Whether a source is told apart from others: it is known, there is room, or one that is idle has given its place.
    fn has_place_for(&mut self, source: &str, receive_time: i64) -> bool {
        let shared = usize::from(self.sources.contains_key(OTHER_SOURCES));
        if self.sources.contains_key(source) || self.sources.len() - shared < SOURCES_MAX {
            return true;
        }
        let idle_before = self.now.max(receive_time).saturating_sub(self.options.idle_timeout);
        let named = self.sources.iter().filter(|(name, _)| *name != OTHER_SOURCES);
        let idle = named.filter(|(_, mark)| mark.last_seen <= idle_before);
        // Of those that fell silent at once the first by name: a replay must choose the same.
        let longest = idle.min_by_key(|(name, mark)| (mark.last_seen, *name)).map(|(name, _)| name.clone());
        longest.is_some_and(|name| self.sources.remove(&name).is_some())
    }

    /// Takes in a batch of history. Returns the watermark of all sources.
    pub fn observe_history(&mut self, receive_time: i64) -> i64 {
        self.last_history = self.last_history.max(receive_time);
        self.advance(receive_time)
    }

    /// Whether a receive time lies so far before the latest one that the clock may have been set back.
    #[must_use]
    pub const fn is_behind(&self, receive_time: i64) -> bool {
        self.now != i64::MIN && receive_time < self.now.saturating_sub(SET_BACK_MIN)
    }

    /// Begins anew if the clock was set back: no source is known, and the watermark is what it would be without any. Returns
    /// whether it did. To be asked with each receive time before it is taken in.
    pub fn set_back(&mut self, receive_time: i64) -> bool {
        if !self.is_behind(receive_time) {
            self.behind_since = None;
            return false;
        }
        // One that is earlier still begins the wait anew.
        let since = self.behind_since.map_or(receive_time, |since| since.min(receive_time));
        self.behind_since = Some(since);
        let is_set_back = receive_time.saturating_sub(since) >= SET_BACK_AFTER;
        if is_set_back {
            let WatermarkOptions { out_of_orderness, idle_timeout } = self.options;
            let quiet = receive_time.saturating_sub(idle_timeout).saturating_sub(out_of_orderness);
            let combined = self.combined.min(quiet);
            *self = Self { now: receive_time, combined, ..Self::new(self.options) };
        }
        is_set_back
    }

    /// Gives every source its idle timeout anew: what was not listened to cannot be called silent.
    pub fn restart(&mut self, receive_time: i64) {
        for mark in self.sources.values_mut() {
            mark.last_seen = mark.last_seen.max(receive_time);
        }
    }

    /// Lets receive time go on without a batch. Returns the watermark of all sources.
    pub fn advance(&mut self, receive_time: i64) -> i64 {
        self.combined = self.at(receive_time);
        self.now = self.now.max(receive_time);
        self.combined
    }

    /// What the watermark of all sources would be at a receive time if nothing came until then.
    #[must_use]
    pub fn at(&self, receive_time: i64) -> i64 {
        let WatermarkOptions { out_of_orderness, idle_timeout } = self.options;
        let idle_before = self.now.max(receive_time).saturating_sub(idle_timeout);
        let active = self.sources.values().filter(|mark| mark.last_seen > idle_before).map(|mark| mark.watermark).min();
        let quiet =
            if self.last_history > idle_before { i64::MIN } else { idle_before.saturating_sub(out_of_orderness) };
        let candidate = active.unwrap_or(quiet);
        self.combined.max(candidate)
    }

    /// Each source's watermark.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceWatermark> {
        let idle_before = self.now.saturating_sub(self.options.idle_timeout);
        let one = |(source, mark): (&String, &SourceMark)| SourceWatermark {
            source: source.clone(),
            watermark: mark.watermark,
            last_seen: mark.last_seen,
            is_idle: mark.last_seen <= idle_before,
        };
        self.sources.iter().map(one).collect()
    }

    /// The watermarks as bytes: version, receive time, combined watermark, number of sources, each with its name and times,
    /// then the time of the last history and that since which receive times lie behind.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint::write_signed(&mut out, self.now);
        varint::write_signed(&mut out, self.combined);
        varint::write(&mut out, self.sources.len() as u64);
        for (source, mark) in &self.sources {
            varint::write(&mut out, source.len() as u64);
            out.extend_from_slice(source.as_bytes());
            varint::write_signed(&mut out, mark.watermark);
            varint::write_signed(&mut out, mark.last_seen);
        }
        varint::write_signed(&mut out, self.last_history);
        varint::write_signed(&mut out, self.behind_since.unwrap_or(i64::MAX));
        out
    }

    /// Reads watermarks; the options are those of now.
    ///
    /// # Errors
    /// When the bytes are no watermarks.
    pub fn from_bytes(options: WatermarkOptions, bytes: &[u8]) -> Result<Self, WatermarksError> {
        Self::read(options, bytes).ok_or(WatermarksError)
    }

    fn read(options: WatermarkOptions, bytes: &[u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first()?;
        if !(1..=VERSION).contains(&version) {
            return None;
        }
        let (now, combined) = (varint::read_signed(&mut rest)?, varint::read_signed(&mut rest)?);
        let count = varint::read(&mut rest)?;
        let mut sources = BTreeMap::new();
        for _ in 0..count {
            let len = usize::try_from(varint::read(&mut rest)?).ok()?;
            let (name, tail) = rest.split_at_checked(len)?;
            rest = tail;
            let name = std::str::from_utf8(name).ok()?.to_owned();
            let mark =
                SourceMark { watermark: varint::read_signed(&mut rest)?, last_seen: varint::read_signed(&mut rest)? };
            sources.insert(name, mark);
        }
        // Version 1 did not know of history.
        let last_history = if version == 1 { i64::MIN } else { varint::read_signed(&mut rest)? };
        // Nor version 2 of clocks that are set back.
        let behind_since = if version < 3 { i64::MAX } else { varint::read_signed(&mut rest)? };
        let behind_since = Some(behind_since).filter(|since| *since != i64::MAX);
        rest.is_empty().then_some(Self { options, sources, now, combined, last_history, behind_since })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;
    const OPTIONS: WatermarkOptions = WatermarkOptions { out_of_orderness: 5 * SECOND, idle_timeout: 30 * SECOND };

    /// Batches as (source, receive second, newest event second); gives the watermark's second after each.
    fn run(batches: &[(&str, i64, i64)]) -> Vec<i64> {
        let mut watermarks = Watermarks::new(OPTIONS);
        let one = |&(source, receive, event): &(&str, i64, i64)| {
            watermarks.observe(source, receive * SECOND, Some(event * SECOND)) / SECOND
        };
        batches.iter().map(one).collect()
    }

    #[test]
    fn the_slowest_source_holds_the_watermark_until_it_is_idle() {
        assert_eq!(run(&[("a", 100, 100), ("b", 100, 80), ("a", 110, 110)]), [95, 95, 95]);
        assert_eq!(run(&[("b", 100, 80), ("a", 110, 110), ("a", 129, 129), ("a", 130, 130)]), [75, 75, 75, 125]);
    }

    #[test]
    fn a_clock_that_runs_ahead_counts_as_the_time_of_receipt() {
        assert_eq!(run(&[("a", 100, 100_000), ("a", 101, 90)]), [95, 96 - 1]);
    }

    #[test]
    fn without_an_active_source_the_watermark_follows_receive_time() {
        let mut watermarks = Watermarks::new(OPTIONS);
        watermarks.observe("a", 100 * SECOND, Some(100 * SECOND));
        assert_eq!(watermarks.advance(129 * SECOND), 95 * SECOND);
        assert_eq!(watermarks.advance(200 * SECOND), 165 * SECOND);
        assert!(watermarks.sources()[0].is_idle);
        assert_eq!(watermarks.observe("a", 201 * SECOND, Some(150 * SECOND)), 165 * SECOND, "it never goes back");
    }

    #[test]
    fn what_is_loaded_is_complete_when_loading_has_paused() {
        let mut watermarks = Watermarks::new(OPTIONS);
        assert_eq!(watermarks.observe_history(100 * SECOND), i64::MIN);
        assert_eq!(watermarks.advance(129 * SECOND), i64::MIN);
        assert_eq!(watermarks.advance(130 * SECOND), 95 * SECOND);
        assert_eq!(watermarks.observe_history(200 * SECOND), 95 * SECOND, "it stays");
        assert_eq!(watermarks.observe("a", 201 * SECOND, Some(201 * SECOND)), 196 * SECOND, "and holds up nobody");
        let bytes = watermarks.to_bytes();
        assert_eq!(Watermarks::from_bytes(OPTIONS, &bytes), Ok(watermarks));
    }

    #[test]
    fn after_a_restart_no_source_is_silent_before_its_time() {
        let mut watermarks = Watermarks::new(OPTIONS);
        watermarks.observe("a", 100 * SECOND, Some(100 * SECOND));
        watermarks.restart(500 * SECOND);
        assert_eq!(watermarks.advance(529 * SECOND), 95 * SECOND);
        assert_eq!(watermarks.observe("a", 529 * SECOND, Some(120 * SECOND)), 115 * SECOND, "it delivers what it kept");
        assert_eq!(watermarks.advance(559 * SECOND), 524 * SECOND);
    }

    #[test]
    fn a_clock_that_was_ahead_and_is_set_right_begins_anew() {
        let year = 365 * 86_400;
        let mut watermarks = Watermarks::new(OPTIONS);
        watermarks.observe("a", 100 * SECOND, Some(100 * SECOND));
        watermarks.observe("b", (year + 160) * SECOND, Some((year + 160) * SECOND));
        assert_eq!(watermarks.combined(), (year + 155) * SECOND);
        assert!(!watermarks.set_back((year + 160) * SECOND - SET_BACK_MIN), "that little is waited out");
        assert!(
            watermarks.is_behind(160 * SECOND)
                && !watermarks.set_back(160 * SECOND)
                && !watermarks.set_back(219 * SECOND)
        );
        let bytes = watermarks.to_bytes();
        let mut watermarks = Watermarks::from_bytes(OPTIONS, &bytes).expect("its own bytes");
        assert!(watermarks.set_back(220 * SECOND));
        assert_eq!((watermarks.combined(), watermarks.sources().len()), (185 * SECOND, 0));
        assert!(!watermarks.set_back(220 * SECOND));
        assert_eq!(watermarks.observe("a", 220 * SECOND, Some(219 * SECOND)), 214 * SECOND);
        let mut early = Watermarks::new(OPTIONS);
        early.observe("a", year * SECOND, Some(100 * SECOND));
        assert!(!early.set_back(440 * SECOND) && early.set_back(500 * SECOND));
        assert_eq!(early.combined(), 95 * SECOND, "one that lies before is kept");
    }

    #[test]
    fn a_clock_that_is_behind_for_a_moment_is_not_believed() {
        let mut watermarks = Watermarks::new(OPTIONS);
        watermarks.observe("a", 10_000 * SECOND, Some(10_000 * SECOND));
        for receive in [0, 59, 10_020, 30, 80, 10_050, 40] {
            assert!(!watermarks.set_back(receive * SECOND), "{receive}");
            watermarks.advance(receive * SECOND);
        }
        assert_eq!(watermarks.combined(), 10_015 * SECOND);
    }

    #[test]
    fn bytes_of_earlier_versions_are_read() {
        let mut bytes = Watermarks::new(OPTIONS).to_bytes();
        for version in [2, 1] {
            bytes.truncate(bytes.len() - 10);
            bytes[0] = version;
            assert_eq!(Watermarks::from_bytes(OPTIONS, &bytes), Ok(Watermarks::new(OPTIONS)));
        }
    }

    #[test]
    fn a_batch_without_events_keeps_its_source_active_and_unknown() {
        let mut watermarks = Watermarks::new(OPTIONS);
        watermarks.observe("a", 100 * SECOND, None);
        assert_eq!(watermarks.combined(), i64::MIN);
    }

    #[test]
    fn more_sources_than_are_told_apart_share_one() {
        let mut watermarks = Watermarks::new(OPTIONS);
        for index in 0..SOURCES_MAX as i64 + 50 {
            watermarks.observe(&format!("s{index}"), 100 * SECOND, Some(100 * SECOND));
        }
        let sources = watermarks.sources();
        assert_eq!(sources.len(), SOURCES_MAX + 1);
        assert!(sources.iter().any(|source| source.source == OTHER_SOURCES));
    }

    #[test]
    fn a_new_source_takes_the_place_of_the_one_that_has_been_idle_longest() {
        let mut watermarks = Watermarks::new(OPTIONS);
        let observe = |watermarks: &mut Watermarks, name: &str, second: i64| {
            watermarks.observe(name, second * SECOND, Some(second * SECOND));
        };
        let has = |watermarks: &Watermarks, name: &str| watermarks.sources().iter().any(|mark| mark.source == name);
        for index in 0..SOURCES_MAX {
            observe(&mut watermarks, &format!("s{index:03}"), if index == 7 { 99 } else { 100 });
        }
        observe(&mut watermarks, "early", 128);
        assert!(!has(&watermarks, "early") && has(&watermarks, OTHER_SOURCES), "slow is not idle");
        for (second, name, gone) in [(129, "a", "s007"), (130, "b", "s000"), (130, "c", "s001")] {
            observe(&mut watermarks, name, second);
            assert!(has(&watermarks, name) && !has(&watermarks, gone), "{name} in the place of {gone}");
        }
        observe(&mut watermarks, "s002", 131);
        observe(&mut watermarks, "d", 131);
        assert!(has(&watermarks, "s002") && !has(&watermarks, "s003"), "one that came again is not idle");
        assert_eq!(watermarks.sources().len(), SOURCES_MAX + 1, "what is shared takes nobody's place");
        let bytes = watermarks.to_bytes();
        assert_eq!(Watermarks::from_bytes(OPTIONS, &bytes), Ok(watermarks));
    }

    proptest! {
        #[test]
        fn it_never_goes_back_nor_past_receive_time(batches in proptest::collection::vec((0u8..4, 0i64..500, 0i64..600), 1..60)) {
            let mut watermarks = Watermarks::new(OPTIONS);
            let (mut last, mut now) = (i64::MIN, i64::MIN);
            for (source, receive, event) in batches {
                let found = watermarks.observe(&source.to_string(), receive * SECOND, Some(event * SECOND));
                now = now.max(receive * SECOND);
                prop_assert!(found >= last && found <= now);
                last = found;
                let bytes = watermarks.to_bytes();
                prop_assert_eq!(Watermarks::from_bytes(OPTIONS, &bytes), Ok(watermarks.clone()));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Watermarks::from_bytes(OPTIONS, &bytes);
        }
    }
}
