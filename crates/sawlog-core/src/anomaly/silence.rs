//! Silence: a series that had data in nearly all windows has none.
//!
//! For: how surprising it is that windows are empty. Not for: what an empty window's value would be: there is none.
//!
//! score = 1 − p², where p = 1 − r·(1 − s) is the chance of such a window: r is the share of recent windows (half-life 120)
//! that had data, with one added to their number since little is known at first, and s the share of all windows (half-life
//! a week of minutes) that lay in gaps at least as long as this one, by powers of two. So a series that is silent every
//! night is no surprise from the second night on, and one that has data in every other window never is.

use super::bytes::{self, Floats};

/// Half-life of the share of windows with data, windows.
const RECENT_HALF_LIFE: f64 = 120.0;
/// Half-life of what is known of gaps, windows.
const GAP_HALF_LIFE: f64 = 10_080.0;
/// Lengths of gaps that are told apart, in powers of two.
const OCTAVES: usize = 16;

/// Which windows of a series had data.
#[derive(Clone, Debug, Default)]
pub(super) struct Presence {
    /// Recent windows with data, and all recent windows.
    recent: (f64, f64),
    /// All windows.
    windows: f64,
    /// Windows in gaps, by the length of the gap.
    in_gaps: [f64; OCTAVES],
}

impl Presence {
    /// Notes a window with data after so many without.
    pub(super) fn seen(&mut self, gap: u64) {
        let gap_windows = gap as f64;
        let kept = 0.5f64.powf(1.0 / RECENT_HALF_LIFE);
        let kept_over_gap = kept.powf(gap_windows);
        let of_gap = (1.0 - kept_over_gap) / (1.0 - kept);
        self.recent.0 = self.recent.0 * kept_over_gap * kept + 1.0;
        self.recent.1 = (self.recent.1 * kept_over_gap + of_gap) * kept + 1.0;
        // A gap counts for no longer than what is remembered.
        let gap_windows = gap_windows.min(GAP_HALF_LIFE);
        let kept = 0.5f64.powf((gap_windows + 1.0) / GAP_HALF_LIFE);
        self.in_gaps.iter_mut().for_each(|windows| *windows *= kept);
        self.windows = self.windows * kept + gap_windows + 1.0;
        if let Some(octave) = octave(gap) {
            self.in_gaps[octave] += gap_windows;
        }
    }

    /// How surprising a silence of so many windows is, 0 to 1.
    pub(super) fn score(&self, gap: u64) -> f64 {
        let Some(octave) = octave(gap) else { return 0.0 };
        let as_long: f64 = self.in_gaps[octave..].iter().sum();
        let usual = self.recent.0 / (self.recent.1 + 1.0) * (1.0 - as_long / (self.windows + 1.0));
        1.0 - (1.0 - usual.clamp(0.0, 1.0)).powi(2)
    }

    /// Share of the recent windows before the silence that had data.
    pub(super) fn share(&self) -> f64 {
        self.recent.0 / self.recent.1.max(1.0)
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        Floats(&[self.recent.0, self.recent.1, self.windows]).write_to(out);
        bytes::write_values(out, self.in_gaps.iter().copied());
    }

    pub(super) fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        let [present, recent, windows] = Floats::read_from(bytes)?;
        let mut in_gaps = [0.0; OCTAVES];
        bytes::read_values(bytes, &mut in_gaps)?;
        let is_sound = [present, recent, windows].iter().chain(&in_gaps).all(|number| *number >= 0.0);
        is_sound.then_some(Self { recent: (present, recent), windows, in_gaps })
    }
}

/// Power of two of a gap's length; `None` without a gap.
fn octave(gap: u64) -> Option<usize> {
    Some((gap.checked_ilog2()? as usize).min(OCTAVES - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows with (true) and without data; gives the score after the last.
    fn score(windows: impl IntoIterator<Item = bool>) -> f64 {
        let (mut presence, mut gap) = (Presence::default(), 0);
        for has_data in windows {
            if has_data {
                presence.seen(gap);
                gap = 0;
            } else {
                gap += 1;
            }
        }
        presence.score(gap)
    }

    fn then_silent(before: impl Iterator<Item = bool>, windows: usize) -> f64 {
        score(before.chain(std::iter::repeat_n(false, windows)))
    }

    #[test]
    fn the_more_regular_the_more_surprising() {
        let every = |period: usize| then_silent((0..1_000).map(move |window| window % period == 0), 16);
        assert!(
            every(1) > 0.999 && every(1) > every(2) && every(2) > every(5),
            "{} {} {}",
            every(1),
            every(2),
            every(5)
        );
        let short = then_silent((0..10).map(|_| true), 3);
        assert!(short < 0.995 && short < then_silent((0..50).map(|_| true), 3), "little is known at first: {short}");
    }

    #[test]
    fn a_nightly_silence_surprises_once() {
        let day = |window: usize| window % 1_440 < 1_000;
        assert!(then_silent((0..1_000).map(day), 3) > 0.999);
        let second_night = then_silent((0..2_440).map(day), 3);
        assert!(second_night < 0.97, "{second_night}");
        let longer_than_ever = then_silent((0..2_440).map(day), 1_024);
        assert!(longer_than_ever > 0.999, "{longer_than_ever}");
    }

    #[test]
    fn one_short_gap_in_many_windows_stays_surprising() {
        assert!(then_silent((0..2_000).map(|window| window != 1_000), 3) > 0.999);
    }

    #[test]
    fn bytes_are_read_back() {
        let mut presence = Presence::default();
        for window in 0..500 {
            presence.seen(window % 7);
            let mut bytes = Vec::new();
            presence.write_to(&mut bytes);
            let read = Presence::read_from(&mut bytes.as_slice()).expect("its own bytes");
            assert_eq!((read.score(3), read.share()), (presence.score(3), presence.share()));
        }
    }
}
