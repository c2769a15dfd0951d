//! Anomalies in a series of numbers, one value at a time.
//!
//! For: how surprising a value is, given only those before it; no training phase, no unit, one configuration for every
//! series, bounded memory. Not for: which series to watch, or what an alert does with a score.
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

use std::collections::VecDeque;

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

/// Watches one series.
#[derive(Clone, Debug)]
pub struct Detector {
    count: u64,
    first_time: i64,
    last_time: i64,
    /// Seconds between two values.
    step: i64,
    last: f64,
    extremes: (f64, f64),
    slow: f64,
    slow_difference: f64,
    recent_values: VecDeque<f64>,
    short: Stretch,
    long: Stretch,
    season_stretch: Stretch,
    differences: Stretch,
    season: Vec<Option<f32>>,
    scales: [Scale; VIEWS],
    ranks: [Ranks; VIEWS],
    recurrence: Ranks,
    reported: [f64; 2],
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            count: 0,
            first_time: 0,
            last_time: 0,
            step: SLOT_SECONDS,
            last: 0.0,
            extremes: (f64::INFINITY, f64::NEG_INFINITY),
            slow: 0.0,
            slow_difference: 0.0,
            recent_values: VecDeque::with_capacity(MEDIAN_VALUES + 1),
            short: Stretch::new(SHORT_VALUES),
            long: Stretch::new(LONG_VALUES),
            season_stretch: Stretch::new(SHORT_VALUES),
            differences: Stretch::new(SHORT_VALUES),
            season: vec![None; SLOTS],
            scales: [Scale::default(); VIEWS],
            ranks: std::array::from_fn(|_| Ranks::new(RANK_HALF_LIFE)),
            recurrence: Ranks::new(RECURRENCE_HALF_LIFE),
            reported: [0.0; 2],
        }
    }
}

impl Detector {
    /// Takes in the value at a time (seconds since the epoch) and says how surprising it is.
    pub fn step(&mut self, time: i64, value: f64) -> Verdict {
        if !value.is_finite() {
            return Verdict { score: 0.0, low: f64::NAN, high: f64::NAN, view: None };
        }
        let value = value.clamp(-VALUE_MAX, VALUE_MAX);
        self.note_time(time, value);
        let resolution = self.resolution();
        let median = self.median(value);
        let expected = self.expected_now(time);
        let residuals = self.residuals(value, median, expected, resolution);
        let (low, high) = self.band(median, expected, resolution);
        let (surprise, view) = self.surprise(&residuals, resolution);
        self.learn(time, value);
        Verdict { score: self.score(surprise), low, high, view }
    }

    fn note_time(&mut self, time: i64, value: f64) {
        if self.count == 0 {
            (self.first_time, self.slow, self.last) = (time, value, value);
        } else if self.count < STEP_VALUES && time > self.last_time {
            self.step = time - self.last_time;
        }
        self.last_time = time;
        self.count += 1;
    }

    /// Differences below it say nothing.
    fn resolution(&self) -> f64 {
        let range = self.extremes.1 - self.extremes.0;
        if range.is_finite() { range * 0.002 } else { 0.0 }
    }

    fn median(&self, value: f64) -> f64 {
        let mut sorted: Vec<f64> = self.recent_values.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(value)
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
        let known = slots.filter_map(|slot| self.season[slot].map(f64::from));
        known.fold(None, |bounds, value| match bounds {
            None => Some((value, value)),
            Some((low, high)) => Some((value.min(low), value.max(high))),
        })
    }

    fn residuals(
        &mut self,
        value: f64,
        median: f64,
        expected: Option<(f64, f64)>,
        resolution: f64,
    ) -> [Option<f64>; VIEWS] {
        let outside = expected.map(|(low, high)| (value - high).max(0.0) + (value - low).min(0.0));
        let spread = self.differences.push((value - self.last).abs());
        [
            Some((value - median) * (1.0 - SLOW_SHARE) + (value - self.slow) * SLOW_SHARE),
            Some(self.short.push(value) - self.slow),
            Some(self.long.push(value) - self.slow),
            outside,
            outside.map(|outside| self.season_stretch.push(outside)),
            // Before any difference both are zero.
            Some(((spread + resolution) / (self.slow_difference + resolution)).ln()).filter(|ratio| ratio.is_finite()),
        ]
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
            self.ranks[index].add(relative);
            let is_seasonal = index == View::TimeOfDay as usize || index == View::TimeOfDayLevel as usize;
            self.scales[index].add(residual, LEVEL_HALF_LIFE * if is_seasonal { 3.0 } else { 1.0 });
        }
        let warm = ((self.count - 1) as f64 / WARM_UP).min(1.0);
        let raw = (most + OTHERS * (sum - most) / (VIEWS as f64 - 1.0)) * warm;
        let recurring = self.recurrence.surprise(raw, RECURRENCE_BEYOND) * warm;
        self.recurrence.add(raw);
        (raw * (2.0 - RECURRENCE_SHARE) / 2.0 + recurring * RECURRENCE_SHARE, view)
    }

    fn learn(&mut self, time: i64, value: f64) {
        let rate = rate_of(LEVEL_HALF_LIFE, self.count as f64);
        self.slow += rate * (value - self.slow);
        self.slow_difference += rate * ((value - self.last).abs() - self.slow_difference);
        self.recent_values.push_back(value);
        if self.recent_values.len() > MEDIAN_VALUES {
            self.recent_values.pop_front();
        }
        for away in 0..self.slot_width().min(SLOTS as i64) {
            let slot = &mut self.season[((Self::slot_of(time) + away) as usize) % SLOTS];
            let known = slot.map_or(value, f64::from);
            *slot = Some((known + SEASON_RATE * (value - known)) as f32);
        }
        if self.count > 1 {
            self.extremes = (self.extremes.0.min(value), self.extremes.1.max(value));
        }
        self.last = value;
    }

    /// The score of a surprise, less what was just reported.
    fn score(&mut self, surprise: f64) -> f64 {
        let taken_off: f64 = self.reported.iter().zip(RECENT).map(|(reported, (_, share))| reported * share).sum();
        for (reported, (half_life, _)) in self.reported.iter_mut().zip(RECENT) {
            *reported = (*reported * 0.5f64.powf(1.0 / half_life)).max(surprise);
        }
        1.0 - 10f64.powf(-(surprise - taken_off).max(0.0) / 2.0)
    }
}

/// Rate of a mean that forgets, and that is the plain mean at first.
fn rate_of(half_life: f64, count: f64) -> f64 {
    (1.0 - 0.5f64.powf(1.0 / half_life)).max(1.0 / count)
}

/// Mean of the last values.
#[derive(Clone, Debug)]
struct Stretch {
    values: VecDeque<f64>,
    sum: f64,
    len_max: usize,
}

impl Stretch {
    fn new(len_max: usize) -> Self {
        Self { values: VecDeque::with_capacity(len_max + 1), sum: 0.0, len_max }
    }

    fn push(&mut self, value: f64) -> f64 {
        self.values.push_back(value);
        self.sum += value;
        if self.values.len() > self.len_max {
            self.sum -= self.values.pop_front().unwrap_or(0.0);
        }
        self.sum / self.values.len() as f64
    }
}

/// Mean size of residuals; a single one counts at most six times the mean.
#[derive(Clone, Copy, Debug, Default)]
struct Scale {
    mean: f64,
    count: f64,
}

impl Scale {
    fn relative(&self, residual: f64, resolution: f64) -> f64 {
        // While nothing is known the scale is zero: sizes end where the ranks do, whatever the unit.
        if residual == 0.0 { 0.0 } else { (residual.abs() / (self.mean + resolution)).min(RELATIVE_MAX) }
    }

    fn add(&mut self, residual: f64, half_life: f64) {
        const KNOWN: f64 = 20.0;
        const LARGEST: f64 = 6.0;
        let size = residual.abs();
        let size = if self.count > KNOWN && self.mean > 0.0 { size.min(LARGEST * self.mean) } else { size };
        self.mean += rate_of(half_life, self.count + 1.0) * (size - self.mean);
        self.count += 1.0;
    }
}

const BINS: usize = 96;
const BINS_PER_OCTAVE: f64 = 4.0;
/// The first bin begins at 2⁻¹².
const OCTAVES_BELOW_ONE: f64 = 12.0;

/// A size that is none.
const NOTHING: f64 = 1e-6;
/// Largest size that is told apart: where the last bin begins.
const RELATIVE_MAX: f64 = 4_096.0;

/// How often sizes came, in bins of a quarter octave, forgetting.
#[derive(Clone, Debug)]
struct Ranks {
    bins: Box<[f32; BINS]>,
    total: f64,
    largest: f64,
    /// What a new entry counts: it grows instead of all others shrinking.
    weight: f64,
    growth: f64,
    half_life: f64,
}

impl Ranks {
    fn new(half_life: f64) -> Self {
        let growth = 2f64.powf(1.0 / half_life);
        Self { bins: Box::new([0.0; BINS]), total: 0.0, largest: 0.0, weight: 1.0, growth, half_life }
    }

    fn bin(size: f64) -> usize {
        if size <= NOTHING {
            return 0;
        }
        (((size.log2() + OCTAVES_BELOW_ONE) * BINS_PER_OCTAVE).max(0.0) as usize).min(BINS - 1)
    }

    /// −log₁₀ of the share of sizes that were at least this one.
    fn surprise(&self, size: f64, beyond: f64) -> f64 {
        if size <= NOTHING {
            return 0.0;
        }
        let bin = Self::bin(size);
        let above: f64 = self.bins[bin + 1..].iter().map(|count| f64::from(*count)).sum();
        let share = ((above + f64::from(self.bins[bin]) * 0.5) / self.weight + 0.5) / (self.total / self.weight + 1.0);
        let is_record = size > self.largest && self.largest > 0.0;
        -share.log10() + if is_record { beyond * (size / self.largest).log2().min(6.0) } else { 0.0 }
    }

    fn add(&mut self, size: f64) {
        self.weight *= self.growth;
        self.bins[Self::bin(size)] += self.weight as f32;
        self.total += self.weight;
        self.largest = (self.largest * (1.0 - 0.1 / self.half_life)).max(size);
        if self.weight > 1e9 {
            let weight = self.weight;
            self.bins.iter_mut().for_each(|count| *count /= weight as f32);
            (self.total, self.weight) = (self.total / weight, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
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
}
