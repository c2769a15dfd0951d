//! Anomalies in a series of numbers, one value at a time.
//!
//! For: how surprising a value is, given only those before it; no training phase, no unit, one configuration for every
//! series, bounded memory, bytes from which it goes on exactly. Not for: which series to watch, or what
//! an alert does with a score.
//!
//! Six *views* of the series each give a residual: the value against the median of the last few; the mean of a short and
//! of a longer stretch against the slow level; the value, and a stretch of values, against what this time of day saw; how
//! much neighbouring values differ. A residual is divided by its own robust scale, and the result is ranked among those of
//! the past (a fading histogram over octaves, so that nothing is assumed about the distribution; after the p-values of
//! 'Conformalized density- and distance-based anomaly detection in time-series data', Burnaev and Ishimtsev, 2016). What
//! exceeds everything seen counts more by how far it exceeds it. The largest of the six, with a share of the others, is
//! ranked once more among its own past, so that what recurs surprises less each time, and what was just reported is not
//! reported again at once. Measured by the Numenta Anomaly Benchmark: docs/performance.md.
//!
//! Rules: a value that is not finite changes nothing and scores 0; one beyond ±10³⁰ counts as ±10³⁰. The first values score
//! low, since little is known.

use std::sync::LazyLock;

use super::bytes::{self, Floats};
use super::ranks::{Fading, Ranks, Scale, rate_at, rate_of};
use crate::varint;

const VERSION: u8 = 1;

/// Half-life of the slow level and of the scales, values.
const LEVEL_HALF_LIFE: f64 = 616.0;
/// Values whose median is the fast level.
const MEDIAN_VALUES: usize = 11;
/// Values of the short and of the long stretch.
const SHORT_VALUES: usize = 20;
const LONG_VALUES: usize = 63;
/// How quickly a time of day takes on what it sees.
const SEASON_RATE: f64 = 0.41;
/// Times of day that count as the same, seconds to either side.
const SEASON_TOLERANCE: i64 = 776;
/// Weights of the views, in the order of [`View`].
const WEIGHTS: [f64; VIEWS] = [1.105, 2.148, 1.12, 1.637, 2.383, 0.359];
/// Surprise for each doubling of the largest value seen, in powers of ten.
const BEYOND: f64 = 0.197;
/// Share of the views besides the most surprised one.
const OTHERS: f64 = 2.427;
/// How much of the distance to the slow level is in the first view.
const SLOW_SHARE: f64 = 0.228;
/// Half-life of the ranks, values.
const RANK_HALF_LIFE: f64 = 667.0;
/// Half-life and surprise of the second ranking, and its share.
const RECURRENCE_HALF_LIFE: f64 = 7_891.0;
const RECURRENCE_BEYOND: f64 = 0.384;
const RECURRENCE_SHARE: f64 = 0.606;
/// What was just reported: half-lives in values, and shares that are taken off.
const RECENT: [(f64, f64); 2] = [(295.3, 0.8), (3_594.0, 0.019)];
/// Values until scores have their full height.
const WARM_UP: f64 = 182.0;

const VALUE_MAX: f64 = 1e30;
const VIEWS: usize = 6;
const DAY: i64 = 86_400;
const SLOT_SECONDS: i64 = 300;
const SLOTS: usize = (DAY / SLOT_SECONDS) as usize;
/// Days until a time of day is known.
const DAYS_UNTIL_SEASON: i64 = 2;
/// Values from which the step of the series is read.
const STEP_VALUES: u64 = 20;
/// Scales of the expected band.
const BAND_SCALES: f64 = 5.0;
/// Values that are kept: the long stretch and the one before it.
const KEPT: usize = LONG_VALUES + 1;

/// Rates of the half-lives above, which take long to compute.
struct Rates {
    level: f64,
    season_scale: f64,
    ranks: Fading,
    recurrence: Fading,
    reported: [f64; RECENT.len()],
}

static RATES: LazyLock<Rates> = LazyLock::new(|| Rates {
    level: rate_of(LEVEL_HALF_LIFE),
    season_scale: rate_of(LEVEL_HALF_LIFE * 3.0),
    ranks: Fading::new(RANK_HALF_LIFE),
    recurrence: Fading::new(RECURRENCE_HALF_LIFE),
    reported: RECENT.map(|(half_life, _)| 0.5f64.powf(1.0 / half_life)),
});

/// What about a value is surprising.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The value itself.
    Value,
    /// The mean of the last values.
    ShortLevel,
    /// The mean of more of them.
    LongLevel,
    /// The value, for this time of day.
    TimeOfDay,
    /// The last values, for this time of day.
    TimeOfDayLevel,
    /// How much values differ from one to the next.
    Spread,
}

impl View {
    const ALL: [Self; VIEWS] =
        [Self::Value, Self::ShortLevel, Self::LongLevel, Self::TimeOfDay, Self::TimeOfDayLevel, Self::Spread];

    /// Over how many values it looks.
    pub(super) const fn values(self) -> usize {
        match self {
            Self::Value | Self::TimeOfDay => 1,
            Self::ShortLevel | Self::TimeOfDayLevel | Self::Spread => SHORT_VALUES,
            Self::LongLevel => LONG_VALUES,
        }
    }

    /// The reason in words.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Value => "far from its neighbours",
            Self::ShortLevel => "the level has changed",
            Self::LongLevel => "the level has drifted",
            Self::TimeOfDay => "unusual for this time of day",
            Self::TimeOfDayLevel => "the level is unusual for this time of day",
            Self::Spread => "values differ more, or less, than they did",
        }
    }
}

/// What a detector says of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// How surprising it is, 0 to 1.
    pub score: f64,
    /// Least expected value.
    pub low: f64,
    /// Largest expected value.
    pub high: f64,
    /// What is most surprising about it; `None` while nothing is known.
    pub view: Option<View>,
}

/// A verdict, and what a watch needs besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct FullVerdict {
    pub(super) verdict: Verdict,
    /// By how much what is most surprising is off, in the unit of the values.
    pub(super) deviation: f64,
    /// The score without regard to what was just reported: of something that goes on it stays high.
    pub(super) sustained: f64,
}

/// The score of a surprise, which is in powers of ten.
fn score_of(surprise: f64) -> f64 {
    1.0 - 10f64.powf(-surprise / 2.0)
}

/// Bytes that are no detector.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no detector of version {VERSION}")]
pub struct DetectorError;

/// Watches one series.
#[derive(Clone, Debug)]
pub struct Detector {
    count: u64,
    first_time: i64,
    last_time: i64,
    /// Seconds between two values, at most a day.
    step: i64,
    extremes: (f64, f64),
    slow: f64,
    slow_difference: f64,
    /// The last values, round robin; the first came to place 0.
    values: [f64; KEPT],
    short_sum: f64,
    long_sum: f64,
    difference_sum: f64,
    /// How far the last values were outside of what their time of day saw, round robin.
    outsides: [f64; SHORT_VALUES],
    outside_count: u64,
    outside_sum: f64,
    /// What each time of day saw; NaN where nothing.
    season: [f32; SLOTS],
    scales: [Scale; VIEWS],
    ranks: [Ranks; VIEWS],
    recurrence: Ranks,
    reported: [f64; RECENT.len()],
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            count: 0,
            first_time: 0,
            last_time: 0,
            step: SLOT_SECONDS,
            extremes: (f64::INFINITY, f64::NEG_INFINITY),
            slow: 0.0,
            slow_difference: 0.0,
            values: [0.0; KEPT],
            short_sum: 0.0,
            long_sum: 0.0,
            difference_sum: 0.0,
            outsides: [0.0; SHORT_VALUES],
            outside_count: 0,
            outside_sum: 0.0,
            season: [f32::NAN; SLOTS],
            scales: [Scale::default(); VIEWS],
            ranks: std::array::from_fn(|_| Ranks::default()),
            recurrence: Ranks::default(),
            reported: [0.0; RECENT.len()],
        }
    }
}

impl Detector {
    /// Takes in the value at a time (seconds since the epoch) and says how surprising it is.
    pub fn step(&mut self, time: i64, value: f64) -> Verdict {
        self.step_in_full(time, value).verdict
    }

    /// As [`Self::step`], with what a watch needs besides.
    pub(super) fn step_in_full(&mut self, time: i64, value: f64) -> FullVerdict {
        if !value.is_finite() {
            let verdict = Verdict { score: 0.0, low: f64::NAN, high: f64::NAN, view: None };
            return FullVerdict { verdict, deviation: 0.0, sustained: 0.0 };
        }
        let value = value.clamp(-VALUE_MAX, VALUE_MAX);
        self.note_time(time, value);
        let resolution = self.resolution();
        let median = self.median(value);
        let expected = self.expected_now(time);
        let last = if self.count > 1 { self.back(1) } else { value };
        let residuals = self.residuals(value, last, median, expected, resolution);
        let (low, high) = self.band(median, expected, resolution);
        let (surprise, view) = self.surprise(&residuals, resolution);
        let deviation = match view {
            Some(View::Spread) => self.difference_sum / self.stretch(SHORT_VALUES) - self.slow_difference,
            Some(view) => residuals[view as usize].unwrap_or(0.0),
            None => 0.0,
        };
        self.learn(time, value, last);
        let verdict = Verdict { score: self.score(surprise), low, high, view };
        FullVerdict { verdict, deviation: deviation.abs(), sustained: score_of(surprise) }
    }

    fn note_time(&mut self, time: i64, value: f64) {
        if self.count == 0 {
            (self.first_time, self.slow) = (time, value);
        } else if self.count < STEP_VALUES && time > self.last_time {
            self.step = time.saturating_sub(self.last_time).min(DAY);
        }
        self.last_time = time;
        self.count = self.count.saturating_add(1);
    }

    /// The value that came so many before the one at hand.
    const fn back(&self, places: u64) -> f64 {
        self.values[((self.count - 1 - places) % KEPT as u64) as usize]
    }

    /// Number of values in a stretch of at most `len_max`.
    fn stretch(&self, len_max: usize) -> f64 {
        self.count.min(len_max as u64) as f64
    }

    /// Differences below it say nothing.
    fn resolution(&self) -> f64 {
        let range = self.extremes.1 - self.extremes.0;
        if range.is_finite() { range * 0.002 } else { 0.0 }
    }

    /// Median of the values before the one at hand, which it is itself when it is the first.
    fn median(&self, value: f64) -> f64 {
        let mut sorted = [value; MEDIAN_VALUES];
        let count = (self.count - 1).min(MEDIAN_VALUES as u64) as usize;
        for place in 0..count {
            let found = self.back(place as u64 + 1);
            let mut at = place;
            while at > 0 && sorted[at - 1].total_cmp(&found).is_gt() {
                sorted[at] = sorted[at - 1];
                at -= 1;
            }
            sorted[at] = found;
        }
        sorted[count / 2]
    }

    /// Slots of a day that one value fills.
    const fn slot_width(&self) -> i64 {
        let slots = (self.step + SLOT_SECONDS / 2) / SLOT_SECONDS;
        if slots < 1 { 1 } else { slots }
    }

    fn slot_of(time: i64) -> i64 {
        time.rem_euclid(DAY) / SLOT_SECONDS
    }

    /// Least and largest value that this time of day has taken on; `None` while too little was seen.
    fn expected_now(&self, time: i64) -> Option<(f64, f64)> {
        if time.saturating_sub(self.first_time) < DAYS_UNTIL_SEASON * DAY {
            return None;
        }
        let reach = (SEASON_TOLERANCE / SLOT_SECONDS).max(self.slot_width());
        let slots = (-reach..=reach).map(|away| (Self::slot_of(time) + away).rem_euclid(SLOTS as i64) as usize);
        let known = slots.map(|slot| f64::from(self.season[slot])).filter(|value| !value.is_nan());
        known.fold(None, |bounds, value| match bounds {
            None => Some((value, value)),
            Some((low, high)) => Some((value.min(low), value.max(high))),
        })
    }

    fn residuals(
        &mut self,
        value: f64,
        last: f64,
        median: f64,
        expected: Option<(f64, f64)>,
        resolution: f64,
    ) -> [Option<f64>; VIEWS] {
        let outside = expected.map(|(low, high)| (value - high).max(0.0) + (value - low).min(0.0));
        let spread = self.push_difference(value, last);
        let short = self.push_short(value);
        let long = self.push_long(value);
        [
            Some((value - median) * (1.0 - SLOW_SHARE) + (value - self.slow) * SLOW_SHARE),
            Some(short - self.slow),
            Some(long - self.slow),
            outside,
            outside.map(|outside| self.push_outside(outside)),
            // Before any difference both are zero.
            Some(((spread + resolution) / (self.slow_difference + resolution)).ln()).filter(|ratio| ratio.is_finite()),
        ]
    }

    fn push_short(&mut self, value: f64) -> f64 {
        self.short_sum += value;
        if self.count > SHORT_VALUES as u64 {
            self.short_sum -= self.back(SHORT_VALUES as u64);
        }
        self.short_sum / self.stretch(SHORT_VALUES)
    }

    fn push_long(&mut self, value: f64) -> f64 {
        self.long_sum += value;
        if self.count > LONG_VALUES as u64 {
            self.long_sum -= self.back(LONG_VALUES as u64);
        }
        self.long_sum / self.stretch(LONG_VALUES)
    }

    fn push_difference(&mut self, value: f64, last: f64) -> f64 {
        self.difference_sum += (value - last).abs();
        // The first value differs from none: what it would take off is zero.
        if self.count > SHORT_VALUES as u64 + 1 {
            self.difference_sum -= (self.back(SHORT_VALUES as u64) - self.back(SHORT_VALUES as u64 + 1)).abs();
        }
        self.difference_sum / self.stretch(SHORT_VALUES)
    }

    fn push_outside(&mut self, outside: f64) -> f64 {
        let place = &mut self.outsides[(self.outside_count % SHORT_VALUES as u64) as usize];
        self.outside_sum += outside;
        if self.outside_count >= SHORT_VALUES as u64 {
            self.outside_sum -= *place;
        }
        *place = outside;
        self.outside_count = self.outside_count.saturating_add(1);
        self.outside_sum / self.outside_count.min(SHORT_VALUES as u64) as f64
    }

    fn band(&self, median: f64, expected: Option<(f64, f64)>, resolution: f64) -> (f64, f64) {
        let near = BAND_SCALES * (self.scales[View::Value as usize].mean + resolution);
        let by_season = expected.map(|(low, high)| {
            let far = BAND_SCALES * (self.scales[View::TimeOfDay as usize].mean + resolution);
            (low - far, high + far)
        });
        // The narrower of the two: a series without a season is not bounded by the times of day.
        match by_season {
            Some((low, high)) if high - low < 2.0 * near => (low, high),
            _ => (median - near, median + near),
        }
    }

    fn surprise(&mut self, residuals: &[Option<f64>; VIEWS], resolution: f64) -> (f64, Option<View>) {
        let rates = &*RATES;
        let (mut most, mut sum, mut view) = (0.0, 0.0, None);
        for (index, residual) in residuals.iter().enumerate() {
            let Some(residual) = *residual else { continue };
            let is_ratio = index == View::Spread as usize;
            let relative = self.scales[index].relative(residual, if is_ratio { 0.05 } else { resolution });
            let surprise = self.ranks[index].surprise(relative, BEYOND) * WEIGHTS[index];
            sum += surprise;
            if surprise > most {
                (most, view) = (surprise, Some(View::ALL[index]));
            }
            self.ranks[index].add(relative, &rates.ranks);
            let is_seasonal = index == View::TimeOfDay as usize || index == View::TimeOfDayLevel as usize;
            self.scales[index].add(residual, if is_seasonal { rates.season_scale } else { rates.level });
        }
        let warm = ((self.count - 1) as f64 / WARM_UP).min(1.0);
        let raw = (most + OTHERS * (sum - most) / (VIEWS as f64 - 1.0)) * warm;
        let recurring = self.recurrence.surprise(raw, RECURRENCE_BEYOND) * warm;
        self.recurrence.add(raw, &rates.recurrence);
        (raw * (2.0 - RECURRENCE_SHARE) / 2.0 + recurring * RECURRENCE_SHARE, view)
    }

    fn learn(&mut self, time: i64, value: f64, last: f64) {
        let rate = rate_at(RATES.level, self.count as f64);
        self.slow += rate * (value - self.slow);
        self.slow_difference += rate * ((value - last).abs() - self.slow_difference);
        for away in 0..self.slot_width().min(SLOTS as i64) {
            let slot = &mut self.season[((Self::slot_of(time) + away) as usize) % SLOTS];
            let known = if slot.is_nan() { value } else { f64::from(*slot) };
            *slot = (known + SEASON_RATE * (value - known)) as f32;
        }
        if self.count > 1 {
            self.extremes = (self.extremes.0.min(value), self.extremes.1.max(value));
        }
        self.values[((self.count - 1) % KEPT as u64) as usize] = value;
    }

    /// The score of a surprise, less what was just reported.
    fn score(&mut self, surprise: f64) -> f64 {
        let taken_off: f64 = self.reported.iter().zip(RECENT).map(|(reported, (_, share))| reported * share).sum();
        for (reported, kept) in self.reported.iter_mut().zip(RATES.reported) {
            *reported = (*reported * kept).max(surprise);
        }
        score_of((surprise - taken_off).max(0.0))
    }

    /// The slow level: a mean whose half-life is 616 values; `None` before the first value.
    #[must_use]
    pub fn level(&self) -> Option<f64> {
        (self.count > 0).then_some(self.slow)
    }

    /// The detector as bytes, about 2 kB: version, counts and times as varints, sums and means as they are, the last
    /// values, times of day as steps between neighbours, then scales and ranks.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2_500);
        self.write_to(&mut out);
        out
    }

    /// Appends [`Self::to_bytes`].
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        varint::write(out, self.count);
        varint::write_signed(out, self.first_time);
        varint::write_signed(out, self.last_time);
        varint::write_signed(out, self.step);
        varint::write(out, self.outside_count);
        if self.count > 1 {
            Floats(&[self.extremes.0, self.extremes.1]).write_to(out);
        }
        Floats(&[self.slow, self.slow_difference, self.short_sum, self.long_sum, self.difference_sum]).write_to(out);
        Floats(&[self.outside_sum, self.reported[0], self.reported[1]]).write_to(out);
        bytes::write_values(out, self.values[..self.stretch(KEPT) as usize].iter().copied());
        bytes::write_values(out, self.outsides.iter().copied());
        bytes::write_steps(out, &self.season);
        self.scales.iter().for_each(|scale| scale.write_to(out));
        self.ranks.iter().chain([&self.recurrence]).for_each(|ranks| ranks.write_to(out));
    }

    /// Reads a detector; its scores go on as if it had never been bytes.
    ///
    /// # Errors
    /// When the bytes are no detector.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, DetectorError> {
        let found = Self::read_from(&mut bytes)?;
        if bytes.is_empty() { Ok(found) } else { Err(DetectorError) }
    }

    /// Reads a detector from the front of `bytes` and moves past it.
    ///
    /// # Errors
    /// When the bytes are no detector.
    pub fn read_from(bytes: &mut &[u8]) -> Result<Self, DetectorError> {
        Self::read(bytes).ok_or(DetectorError)
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        *bytes = bytes.strip_prefix(&[VERSION])?;
        let mut found = Self { count: varint::read(bytes)?, ..Self::default() };
        found.first_time = varint::read_signed(bytes)?;
        found.last_time = varint::read_signed(bytes)?;
        found.step = varint::read_signed(bytes).filter(|step| (1..=DAY).contains(step))?;
        found.outside_count = varint::read(bytes)?;
        if found.count > 1 {
            let [least, most] = Floats::read_from(bytes)?;
            found.extremes = (least, most);
        }
        [found.slow, found.slow_difference, found.short_sum, found.long_sum, found.difference_sum] =
            Floats::read_from(bytes)?;
        [found.outside_sum, found.reported[0], found.reported[1]] = Floats::read_from(bytes)?;
        let kept = found.stretch(KEPT) as usize;
        bytes::read_values(bytes, &mut found.values[..kept])?;
        bytes::read_values(bytes, &mut found.outsides)?;
        bytes::read_steps(bytes, &mut found.season)?;
        for scale in &mut found.scales {
            *scale = Scale::read_from(bytes)?;
        }
        for ranks in found.ranks.iter_mut().chain([&mut found.recurrence]) {
            *ranks = Ranks::read_from(bytes)?;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A wave of a day with some noise, at steps of five minutes.
    fn wave(index: i64) -> f64 {
        let phase = (index % 288) as f64 / 288.0 * std::f64::consts::TAU;
        let noise = ((index * 7_919) % 101) as f64 / 101.0 - 0.5;
        100.0 + 40.0 * phase.sin() + 4.0 * noise
    }

    fn run(values: impl IntoIterator<Item = f64>) -> Vec<Verdict> {
        let mut detector = Detector::default();
        values.into_iter().enumerate().map(|(index, value)| detector.step(index as i64 * 300, value)).collect()
    }

    #[test]
    fn a_spike_stands_out_and_says_why() {
        let verdicts = run((0..3_000).map(|index| if index == 2_500 { 400.0 } else { wave(index) }));
        let usual = verdicts[1_000..2_500].iter().map(|verdict| verdict.score).fold(0.0, f64::max);
        let spike = verdicts[2_500];
        assert!(spike.score > 0.95 && spike.score > usual, "{spike:?}, usual {usual}");
        assert!(spike.view.is_some() && spike.high < 400.0 && spike.low < wave(2_500));
    }

    #[test]
    fn a_flat_stretch_of_a_daily_wave_is_unusual_for_the_time_of_day() {
        let verdicts = run((0..4_000).map(|index| if index >= 3_500 { 100.0 } else { wave(index) }));
        let usual = verdicts[1_500..3_500].iter().map(|verdict| verdict.score).fold(0.0, f64::max);
        assert!(verdicts[3_500..3_700].iter().any(|verdict| verdict.score > usual));
    }

    #[test]
    fn the_unit_does_not_matter() {
        let scores = |factor: f64| -> Vec<f64> {
            run((0..1_000).map(|index| if index == 900 { 300.0 } else { wave(index) } * factor))
                .iter()
                .map(|verdict| verdict.score)
                .collect()
        };
        let (one, other) = (scores(1.0), scores(1_024.0));
        assert!(one.iter().zip(&other).all(|(one, other)| (one - other).abs() < 1e-6));
    }

    #[test]
    fn odd_values_score_within_bounds_and_change_nothing() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let with_odd = run((0..500).flat_map(|index| [wave(index)].into_iter().chain(odd)).take(2_000));
        assert!(with_odd.iter().all(|verdict| (0.0..=1.0).contains(&verdict.score)));
        let extreme = run([0.0, f64::MAX, f64::MIN, 0.0, 1e-300, f64::MAX, 5.0].into_iter().cycle().take(500));
        assert!(extreme.iter().all(|verdict| (0.0..=1.0).contains(&verdict.score)), "{extreme:?}");
        assert!(run([7.0; 2_000]).iter().all(|verdict| verdict.score < 0.9), "a flat line is no anomaly");
    }

    #[test]
    fn bytes_stay_small_whatever_the_values() {
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        let mut detector = Detector::default();
        for index in 0..6_000 {
            let value = wave(index) * (1.0 + 0.3 * random()) + if random() < 0.01 { 300.0 * random() } else { 0.0 };
            detector.step(index * 60, f64::from(value as f32));
        }
        let size = detector.to_bytes().len();
        assert!(size < 2_560, "{size} bytes");
    }

    fn series() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            8 => -100.0f64..100.0,
            2 => Just(5.0),
            1 => Just(f64::MAX),
            1 => Just(f64::NAN),
            1 => -1e-9f64..1e-9
        ];
        proptest::collection::vec(value, 0..700)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn scores_after_a_round_trip_are_those_without(values in series(), cut in 0usize..700, step in prop_oneof![Just(60i64), Just(900), 1i64..200_000]) {
            let mut kept = Detector::default();
            let mut stored = Detector::default();
            for (index, value) in values.iter().enumerate() {
                if index == cut || index % 97 == 0 {
                    stored = Detector::from_bytes(&stored.to_bytes()).expect("its own bytes");
                }
                let (one, other) = (kept.step(index as i64 * step, *value), stored.step(index as i64 * step, *value));
                prop_assert_eq!((one.score, one.view), (other.score, other.view));
                prop_assert!(one.low == other.low || one.low.is_nan() && other.low.is_nan());
            }
            prop_assert_eq!(kept.to_bytes(), stored.to_bytes());
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in Just(run_bytes()), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12), time in any::<i64>(), value in any::<f64>()) {
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Ok(mut found) = Detector::from_bytes(&bytes) {
                let verdict = found.step(time, value);
                prop_assert!((0.0..=1.0).contains(&verdict.score), "{verdict:?}");
            }
        }

        #[test]
        fn any_short_bytes_are_read_or_refused(rest in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Detector::from_bytes(&[&[VERSION], rest.as_slice()].concat());
        }
    }

    fn run_bytes() -> Vec<u8> {
        let mut detector = Detector::default();
        (0..1_000).for_each(|index| {
            detector.step(index * 300, wave(index));
        });
        detector.to_bytes()
    }
}
