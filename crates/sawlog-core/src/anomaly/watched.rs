//! One series that is watched: its detector and what else is known of it.
//!
//! For: what of a reading goes to the detector, and what of its score is worth telling. Not for: which series there are.
//!
//! - **Few records say little**: the detector gets (errors + m·b) / (records + m) as error ratio, where b is the usual
//!   ratio and m the usual number of records of a window (half-life a day of minutes), at least 20: the mean of the
//!   posterior of a beta distribution with the weight of one usual window. So an error of two records at night is hardly
//!   a change. Value and expected band are told as plain ratios again.
//! - **Small changes do not matter**: a score is multiplied by the size of the change over the least that matters, if
//!   that is below 1: a percentage point of errors, a fifth of a rate or a latency, a millisecond, a twentieth of a metric;
//!   and for counted things three standard errors of a count by chance (Poisson).
//! - **Many errors at once are told at once**: a ratio above the expected band and three times the usual one scores at least
//!   1 − e^(−x/2.5), where x = n·KL(ratio ‖ usual) bounds the probability of so many errors by chance (Chernoff: e^(−x)),
//!   from x = 20 on and after an hour of minutes. The detector alone needs several windows: it knows no counts.
//! - **What goes on stays an anomaly**: the score is the larger of the detector's, which is low for what was just reported,
//!   and of the least of the last three without regard to that. Noise is rarely surprising three times in a row.

use super::bytes::Floats;
use super::detector::{Detector, FullVerdict, Verdict, View};
use super::signal::{Reading, Signal};
use super::silence::Presence;
use crate::rollup::Sample;
use crate::varint;
use crate::window::Window;

const VERSION: u8 = 1;
/// Half-life of the usual error ratio and number of records, windows.
const USUAL_HALF_LIFE: f64 = 1_440.0;
/// Least records by which an error ratio is pulled to the usual one.
const PRIOR_RECORDS: f64 = 20.0;
/// Larger numbers of either sign are as good as these.
const VALUE_MAX: f64 = 1e30;
const STANDARD_ERRORS: f64 = 3.0;
/// Windows after which the usual ratio is known.
const USUAL_KNOWN_AFTER: f64 = 60.0;
/// How far a ratio must be above the usual one to be told at once, and the least evidence for it.
const AT_ONCE_FACTOR: f64 = 3.0;
const EVIDENCE_MIN: f64 = 20.0;
const EVIDENCE_SCALE: f64 = 2.5;
/// Readings in a row for which something must be surprising to stay an anomaly.
const PERSISTENT: usize = 3;

/// A reading as the detector judges it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    /// The value as it is told.
    pub(super) value: f64,
    pub(super) expected: (f64, f64),
    pub(super) score: f64,
    pub(super) view: Option<View>,
}

#[derive(Clone, Debug)]
pub(super) struct Watched {
    /// Start of the last window with data.
    pub(super) last_seen: i64,
    pub(super) presence: Presence,
    /// Start of the first and of the last window of the last episode.
    pub(super) episode: Option<(i64, i64)>,
    usual: UsualRatio,
    /// Sustained scores of the last readings, the newest last.
    recent: [f64; PERSISTENT - 1],
    /// Last value of a counter.
    sample: Option<Sample>,
    detector: Box<Detector>,
}

#[derive(Clone, Copy, Debug, Default)]
struct UsualRatio {
    errors: f64,
    records: f64,
    windows: f64,
}

/// A ratio in both forms: as it is, and pulled to the usual.
#[derive(Clone, Copy, Debug)]
struct Pulled {
    records: f64,
    prior: f64,
    usual: f64,
    value: f64,
}

impl UsualRatio {
    fn pull(&self, errors: f64, records: f64) -> Pulled {
        let per_window = if self.windows > 0.0 { self.records / self.windows } else { 0.0 };
        let prior = per_window.max(PRIOR_RECORDS);
        let usual = if self.records > 0.0 { self.errors / self.records } else { errors / records };
        Pulled { records, prior, usual, value: (errors + prior * usual) / (records + prior) }
    }

    fn add(&mut self, errors: f64, records: f64) {
        let kept = 0.5f64.powf(1.0 / USUAL_HALF_LIFE);
        self.errors = self.errors * kept + errors;
        self.records = self.records * kept + records;
        self.windows = self.windows * kept + 1.0;
    }
}

impl Pulled {
    /// The plain ratio that gives a pulled one.
    fn plain(&self, pulled: f64) -> f64 {
        ((pulled * (self.records + self.prior) - self.prior * self.usual) / self.records).clamp(0.0, 1.0)
    }

    /// How much so many errors speak against chance: the negative logarithm of a bound on their probability. 0 unless the
    /// ratio is far above the usual one.
    fn evidence(&self, ratio: f64) -> f64 {
        let usual = self.usual.clamp(1.0 / (self.prior + self.records), 1.0);
        if ratio <= AT_ONCE_FACTOR * usual {
            return 0.0;
        }
        let part = |share: f64, usual: f64| if share > 0.0 { share * (share / usual).ln() } else { 0.0 };
        self.records * (part(ratio, usual) + part(1.0 - ratio, 1.0 - usual))
    }

    /// Standard error of the pulled ratio by chance.
    fn standard_error(&self) -> f64 {
        // Where no error was ever seen one may still come by chance.
        let usual = self.usual.clamp(1.0 / (self.prior + self.records), 1.0);
        (usual * (1.0 - usual) * self.records).max(0.0).sqrt() / (self.records + self.prior)
    }
}

impl Watched {
    pub(super) fn new(window: Window) -> Self {
        Self {
            last_seen: window.start,
            presence: Presence::default(),
            episode: None,
            usual: UsualRatio::default(),
            recent: [0.0; PERSISTENT - 1],
            sample: None,
            detector: Box::default(),
        }
    }

    /// Forgets when it was heard of after a window that starts then. Returns whether it was.
    pub(super) fn set_back(&mut self, start: i64) -> bool {
        let is_later = self.last_seen > start;
        if is_later {
            self.last_seen = start;
            (self.episode, self.sample) = (None, None);
        }
        is_later
    }

    /// Takes in a reading after so many windows without one; `None` when it has no value.
    pub(super) fn judge(&mut self, signal: Signal, reading: Reading, gap: u64, window: Window) -> Option<Judged> {
        self.presence.seen(gap);
        self.last_seen = window.start;
        match reading {
            Reading::Value(value) => self.judge_value(signal, value, window),
            Reading::Counter { first, last } => {
                let before = self.sample.replace(last).unwrap_or(first);
                let seconds = last.time.saturating_sub(before.time) as f64 / 1e6;
                // A counter that went back was started again: all that it has counted is new.
                let increase = if last.value >= before.value { last.value - before.value } else { last.value };
                if seconds > 0.0 { self.judge_value(signal, increase / seconds, window) } else { None }
            }
            Reading::Ratio { errors, records } => {
                let (errors, records) = (errors as f64, records as f64);
                let pulled = self.usual.pull(errors, records);
                let is_known = self.usual.windows >= USUAL_KNOWN_AFTER;
                self.usual.add(errors, records);
                let (verdict, mut score) = self.step(signal, pulled.value, window, pulled.standard_error())?;
                let expected = (pulled.plain(verdict.low), pulled.plain(verdict.high));
                let value = errors / records;
                let evidence = pulled.evidence(value);
                if is_known && evidence >= EVIDENCE_MIN && value > expected.1 {
                    score = score.max(1.0 - (-evidence / EVIDENCE_SCALE).exp());
                }
                Some(Judged { value, expected, score, view: verdict.view })
            }
        }
    }

    fn judge_value(&mut self, signal: Signal, value: f64, window: Window) -> Option<Judged> {
        let seconds = window.end.saturating_sub(window.start) as f64 / 1e6;
        let standard_error = match signal {
            Signal::RequestRate | Signal::RecordRate | Signal::EventRate => {
                let usual_count = (self.detector.level().unwrap_or(value) * seconds).max(1.0);
                usual_count.sqrt() / seconds
            }
            _ => 0.0,
        };
        let (verdict, score) = self.step(signal, value, window, standard_error)?;
        let is_above_zero = !matches!(signal, Signal::MetricAverage | Signal::MetricP99);
        let least = if is_above_zero { 0.0 } else { f64::NEG_INFINITY };
        let expected = (verdict.low.max(least), verdict.high.max(least));
        Some(Judged { value, expected, score, view: verdict.view })
    }

    /// Verdict and what of its score matters. `standard_error` is that of a single value by chance.
    fn step(&mut self, signal: Signal, value: f64, window: Window, standard_error: f64) -> Option<(Verdict, f64)> {
        if !value.is_finite() {
            return None;
        }
        let level = self.detector.level().unwrap_or(value).abs();
        // What the detector keeps is four bytes a value.
        let rounded = f64::from(value.clamp(-VALUE_MAX, VALUE_MAX) as f32);
        let FullVerdict { verdict, deviation, sustained } =
            self.detector.step_in_full(window.start.div_euclid(1_000_000), rounded);
        let least = match signal {
            Signal::ErrorRatio => 0.01,
            Signal::RequestRate | Signal::RecordRate | Signal::EventRate => 0.2 * level,
            Signal::LatencyP50 | Signal::LatencyP99 => (0.2 * level).max(1_000.0),
            Signal::MetricAverage | Signal::MetricRate | Signal::MetricP99 => 0.05 * level,
        };
        let values = verdict.view.map_or(1, View::values) as f64;
        let least = least.max(STANDARD_ERRORS * standard_error / values.sqrt());
        let weight = if least > 0.0 { (deviation / least).min(1.0) } else { 1.0 };
        let sustained = sustained * weight;
        let least = self.recent.iter().fold(sustained, |least, score| score.min(least));
        self.recent.rotate_left(1);
        self.recent[PERSISTENT - 2] = sustained;
        Some((verdict, least.max(verdict.score * weight)))
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        varint::write_signed(out, self.last_seen);
        self.presence.write_to(out);
        Floats(&[self.usual.errors, self.usual.records, self.usual.windows]).write_to(out);
        Floats(&self.recent).write_to(out);
        out.push(u8::from(self.episode.is_some()) | u8::from(self.sample.is_some()) << 1);
        if let Some((start, last)) = self.episode {
            varint::write_signed(out, start);
            varint::write_signed(out, last);
        }
        if let Some(sample) = self.sample {
            varint::write_signed(out, sample.time);
            out.extend_from_slice(&sample.value.to_le_bytes());
        }
        self.detector.write_to(out);
    }

    pub(super) fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        *bytes = bytes.strip_prefix(&[VERSION])?;
        let last_seen = varint::read_signed(bytes)?;
        let presence = Presence::read_from(bytes)?;
        let [errors, records, windows] = Floats::read_from(bytes)?;
        let usual = UsualRatio { errors, records, windows };
        let recent = Floats::read_from(bytes)?;
        let is_score = |score: &f64| (0.0..=1.0).contains(score);
        if !(recent.iter().all(is_score) && [errors, records, windows].iter().all(|number| *number >= 0.0)) {
            return None;
        }
        let (&flags, rest) = bytes.split_first()?;
        *bytes = rest;
        let (mut episode, mut sample) = (None, None);
        if flags & 1 == 1 {
            episode = Some((varint::read_signed(bytes)?, varint::read_signed(bytes)?));
        }
        if flags & 2 == 2 {
            let time = varint::read_signed(bytes)?;
            let (value, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            sample = Some(Sample { time, value: f64::from_le_bytes(*value) }).filter(|sample| sample.value.is_finite());
        }
        let detector = Box::new(Detector::read_from(bytes).ok()?);
        Some(Self { last_seen, presence, episode, usual, recent, sample, detector })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn window(index: i64) -> Window {
        Window { start: index * MINUTE, end: (index + 1) * MINUTE }
    }

    #[test]
    fn one_error_of_two_records_is_no_anomaly_and_many_are() {
        let mut watched = Watched::new(window(0));
        for index in 0..1_000i64 {
            // A quiet service: by night two records a minute, by day two hundred, of which one in a hundred fails.
            let (errors, records) = if index % 400 < 200 { (1 + index.unsigned_abs() % 3, 200) } else { (0, 2) };
            watched.judge(Signal::ErrorRatio, Reading::Ratio { errors, records }, 0, window(index));
        }
        let judge = |errors, records| {
            let reading = Reading::Ratio { errors, records };
            watched.clone().judge(Signal::ErrorRatio, reading, 0, window(1_000)).expect("a value")
        };
        let (one, many) = (judge(1, 2), judge(80, 200));
        assert!(one.score < 0.9 && many.score > 0.97, "{one:?} {many:?}");
        assert_eq!((one.value, many.value), (0.5, 0.4));
        assert!(one.expected.1 > 0.3 && many.expected.1 < 0.03, "few records leave much open: {one:?} {many:?}");
    }

    #[test]
    fn many_errors_at_once_are_told_in_their_first_window() {
        let mut watched = Watched::new(window(0));
        for index in 0..300i64 {
            let reading = Reading::Ratio { errors: u64::from(index % 3 == 0) + u64::from(index % 7 == 0), records: 60 };
            watched.judge(Signal::ErrorRatio, reading, 0, window(index));
        }
        let score = |errors| {
            let reading = Reading::Ratio { errors, records: 60 };
            watched.clone().judge(Signal::ErrorRatio, reading, 0, window(300)).map(|judged| judged.score)
        };
        assert!(score(15) > Some(0.999) && score(4) < Some(0.97), "{:?} {:?}", score(15), score(4));
    }

    #[test]
    fn a_counter_grows_across_windows_and_starts_again() {
        let mut watched = Watched::new(window(0));
        let mut rate = |index: i64, value: f64| {
            let sample = Sample { time: index * MINUTE, value };
            let reading = Reading::Counter { first: sample, last: sample };
            watched.judge(Signal::MetricRate, reading, 0, window(index)).map(|judged| judged.value)
        };
        assert_eq!(
            [rate(0, 600.0), rate(1, 1_200.0), rate(3, 2_400.0), rate(4, 60.0)],
            [None, Some(10.0), Some(10.0), Some(1.0)]
        );
    }
}
