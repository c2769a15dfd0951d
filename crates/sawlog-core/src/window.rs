//! Windows of event time.
//!
//! For: which windows an event belongs to, when a window is complete, and when it is closed for good. Source: Akidau et
//! al., 'The Dataflow Model' (VLDB 2015); the rules are Apache Beam's, so that both give the same panes. Not for: where
//! the watermark comes from ([`crate::watermark`]) or what is counted ([`crate::rollup`]).
//! Invariants: a window is [start, end); an event at its end belongs to the next one. All arithmetic saturates: times at
//! the ends of the range get windows, not panics.

/// How event time is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windowing {
    /// Windows of one size, side by side, counted from the epoch.
    Tumbling {
        /// Length, microseconds, above 0.
        size: i64,
    },
    /// Windows of one size that start every `period`: an event is in several when they overlap, in none in a gap.
    Sliding {
        /// Length, microseconds, above 0.
        size: i64,
        /// Time between two starts, microseconds, above 0.
        period: i64,
    },
    /// Windows by key that end when nothing came for `gap`. An event alone makes [time, time + gap); windows that
    /// overlap are merged.
    Session {
        /// Silence that ends a session, microseconds, above 0.
        gap: i64,
    },
}

/// A stretch of event time, microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// First microsecond in it.
    pub start: i64,
    /// First microsecond behind it.
    pub end: i64,
}

impl Windowing {
    /// The windows that an event is in, earliest first.
    pub fn assign(self, event_time: i64) -> impl Iterator<Item = Window> {
        let (last, size, period) = match self {
            Self::Tumbling { size } => (floor(event_time, size), size, size),
            Self::Sliding { size, period } => (floor(event_time, period), size, period),
            // One window, which starts at the event.
            Self::Session { gap } => (event_time, gap, gap),
        };
        let count = match self {
            Self::Sliding { .. } => (event_time.saturating_sub(last)..size).step_by(period.max(1) as usize).count(),
            _ => 1,
        };
        (0..count as i64).rev().map(move |back| {
            let start = last.saturating_sub(period.saturating_mul(back));
            Window { start, end: start.saturating_add(size) }
        })
    }
}

/// Start of the stretch of length `size` that a time is in, counted from the epoch.
#[must_use]
pub const fn floor(time: i64, size: i64) -> i64 {
    time.saturating_sub(time.rem_euclid(size))
}

impl Window {
    /// Whether nothing more is expected for it: the watermark has passed its end.
    #[must_use]
    pub const fn is_complete(self, watermark: i64) -> bool {
        self.end <= watermark
    }

    /// Whether it takes no more events: the watermark has passed its end by the allowed lateness.
    #[must_use]
    pub const fn is_expired(self, allowed_lateness: i64, watermark: i64) -> bool {
        self.end.saturating_add(allowed_lateness) <= watermark
    }

    /// Whether two session windows are one.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The window that covers both.
    #[must_use]
    pub fn span(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    #[track_caller]
    fn check(windowing: Windowing, seconds: i64, windows: &[(i64, i64)]) {
        let found: Vec<_> =
            windowing.assign(seconds * SECOND).map(|window| (window.start / SECOND, window.end / SECOND)).collect();
        assert_eq!(found, windows);
    }

    #[test]
    fn an_event_at_the_end_of_a_window_belongs_to_the_next() {
        let minute = Windowing::Tumbling { size: 60 * SECOND };
        check(minute, 59, &[(0, 60)]);
        check(minute, 60, &[(60, 120)]);
        check(minute, -1, &[(-60, 0)]);
    }

    #[test]
    fn sliding_windows_overlap_or_leave_gaps() {
        let overlapping = Windowing::Sliding { size: 60 * SECOND, period: 20 * SECOND };
        check(overlapping, 65, &[(20, 80), (40, 100), (60, 120)]);
        check(overlapping, 60, &[(20, 80), (40, 100), (60, 120)]);
        let apart = Windowing::Sliding { size: 10 * SECOND, period: 60 * SECOND };
        check(apart, 65, &[(60, 70)]);
        check(apart, 75, &[]);
        let uneven = Windowing::Sliding { size: 50 * SECOND, period: 20 * SECOND };
        check(uneven, 65, &[(20, 70), (40, 90), (60, 110)]);
        check(uneven, 75, &[(40, 90), (60, 110)]);
    }

    #[test]
    fn a_window_takes_events_until_the_watermark_is_past_the_lateness() {
        let window = Window { start: 0, end: 60 };
        assert!(!window.is_complete(59) && window.is_complete(60));
        assert!(!window.is_expired(30, 89) && window.is_expired(30, 90));
        assert!(!Window { start: 0, end: i64::MAX }.is_expired(i64::MAX, i64::MAX - 1));
    }

    #[test]
    fn sessions_that_touch_are_two_and_those_that_overlap_are_one() {
        let windows: Vec<_> =
            [0, 10, 19].into_iter().flat_map(|time| Windowing::Session { gap: 10 }.assign(time)).collect();
        assert!(!windows[0].overlaps(windows[1]) && windows[1].overlaps(windows[2]));
        assert_eq!(windows[1].span(windows[2]), Window { start: 10, end: 29 });
    }

    proptest! {
        #[test]
        fn every_window_holds_the_event_and_none_is_missing(time in any::<i32>(), size in 1i64..500, period in 1i64..500) {
            let time = i64::from(time);
            let found: Vec<_> = Windowing::Sliding { size, period }.assign(time).collect();
            let naive: Vec<_> = (time - 1_000..=time)
                .filter(|start| start.rem_euclid(period) == 0 && start + size > time)
                .map(|start| Window { start, end: start + size })
                .collect();
            prop_assert_eq!(found, naive);
        }

        #[test]
        fn times_at_the_ends_of_the_range_have_windows(time in prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()], size in 1i64..i64::MAX) {
            prop_assert_eq!(Windowing::Tumbling { size }.assign(time).count(), 1);
            prop_assert_eq!(Windowing::Session { gap: size }.assign(time).count(), 1);
        }
    }
}
