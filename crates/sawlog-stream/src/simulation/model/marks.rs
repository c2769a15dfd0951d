//! The watermark, recounted from the rules in docs/concepts/windows.md.

use std::collections::BTreeMap;

use sawlog_core::watermark::WatermarkOptions;

#[derive(Debug)]
pub(super) struct Marks {
    options: WatermarkOptions,
    /// Watermark of each source and when it last sent something.
    sources: BTreeMap<String, (i64, i64)>,
    now: i64,
    /// When history was last loaded.
    last_history: i64,
    pub(super) combined: i64,
    /// Since when the clock lies more than ten minutes behind.
    behind_since: Option<i64>,
}

impl Marks {
    pub(super) fn new(options: WatermarkOptions) -> Self {
        Self {
            options,
            sources: BTreeMap::new(),
            now: i64::MIN,
            last_history: i64::MIN,
            combined: i64::MIN,
            behind_since: None,
        }
    }

    pub(super) const fn is_behind(&self, receive_time: i64) -> bool {
        self.now != i64::MIN && self.now - receive_time > 600_000_000
    }

    /// A clock that is set back by more than ten minutes for a minute begins anew. Returns whether it was.
    pub(super) fn set_back(&mut self, receive_time: i64) -> bool {
        if !self.is_behind(receive_time) {
            self.behind_since = None;
            return false;
        }
        let since = self.behind_since.unwrap_or(receive_time).min(receive_time);
        self.behind_since = Some(since);
        let is_set_back = receive_time - since >= 60_000_000;
        if is_set_back {
            let quiet = receive_time - self.options.idle_timeout - self.options.out_of_orderness;
            let combined = self.combined.min(quiet);
            *self = Self { now: receive_time, combined, ..Self::new(self.options) };
        }
        is_set_back
    }

    pub(super) fn observe(&mut self, source: &str, receive_time: i64, newest: i64) {
        let mark = self.sources.entry(source.to_owned()).or_insert((i64::MIN, receive_time));
        mark.1 = mark.1.max(receive_time);
        mark.0 = mark.0.max(newest.min(receive_time) - self.options.out_of_orderness);
        self.pass_to(receive_time);
    }

    /// History holds nobody up and moves nothing; while some is loaded time alone completes nothing either.
    pub(super) fn observe_history(&mut self, receive_time: i64) {
        self.last_history = self.last_history.max(receive_time);
        self.pass_to(receive_time);
    }

    pub(super) fn pass_to(&mut self, receive_time: i64) {
        self.combined = self.at(receive_time);
        self.now = self.now.max(receive_time);
    }

    /// The watermark if nothing came until then.
    pub(super) fn at(&self, receive_time: i64) -> i64 {
        let idle_since = self.now.max(receive_time) - self.options.idle_timeout;
        let mut least = None;
        for &(watermark, last_seen) in self.sources.values() {
            if last_seen > idle_since {
                least = Some(least.map_or(watermark, |least: i64| least.min(watermark)));
            }
        }
        let quiet = if self.last_history > idle_since { i64::MIN } else { idle_since - self.options.out_of_orderness };
        self.combined.max(least.unwrap_or(quiet))
    }
}
