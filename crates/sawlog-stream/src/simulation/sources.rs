//! The simulated senders: whose clocks are off, who repeat themselves, who fall silent.
//!
//! For: choosing what the next batch holds. Not for: when it is sent ([`super::world`]).

use sawlog_core::batch::AgeLimits;
use sawlog_seams::SeededRng;

use super::input::{Activity, Batch, Event, FILTERED_PATH, Log, Metric, What};
use super::options::{DAY, HOUR, MINUTE, SECOND};

const YEAR: i64 = 365 * DAY;

#[derive(Debug)]
pub(super) struct Sources {
    sources: Vec<Source>,
    /// What was sent, for repeats.
    sent: Vec<Batch>,
    batch_count: u64,
    insert_id_count: u64,
}

#[derive(Debug)]
struct Source {
    name: String,
    /// By how much its clock is ahead, microseconds.
    skew: i64,
    /// How far out of order its events are.
    spread: i64,
    age: AgeLimits,
}

fn one_of<T: Clone>(rng: &mut SeededRng, values: &[T]) -> T {
    values[rng.below_usize(values.len())].clone()
}

impl Sources {
    pub(super) fn draw(rng: &mut SeededRng) -> Self {
        let wide = AgeLimits { past: Some(2 * YEAR), future: 2 * YEAR, is_history: false };
        let mut sources = Vec::new();
        for number in 0..1 + rng.below(4) {
            let spread = one_of(rng, &[0, 2 * SECOND, 20 * SECOND, 3 * MINUTE, 2 * HOUR]);
            let (skew, age) = match rng.below(10) {
                0 => (YEAR, wide),
                1 => (-YEAR, wide),
                2 => (YEAR, AgeLimits::default()),
                3 => (-one_of(rng, &[HOUR, 30 * DAY, YEAR]), AgeLimits::any_past()),
                4 => (7 * SECOND, AgeLimits::default()),
                5 => (-40 * SECOND, AgeLimits::default()),
                _ => (0, AgeLimits::default()),
            };
            sources.push(Source { name: format!("source-{number}"), skew, spread, age });
        }
        Self { sources, sent: Vec::new(), batch_count: 0, insert_id_count: 0 }
    }

    /// The next batch of some source.
    pub(super) fn batch(&mut self, rng: &mut SeededRng, now: i64) -> Batch {
        self.batch_count += 1;
        let id = format!("batch-{}", self.batch_count);
        let batch = if !self.sent.is_empty() && rng.one_in(5) {
            // A sender that heard no answer: the same records, with or without the key, perhaps cut elsewhere.
            let mut batch = one_of(rng, &self.sent);
            if rng.one_in(3) {
                batch.idempotency_key = None;
            }
            if rng.one_in(3) {
                batch.events.truncate(rng.below_usize(batch.events.len() + 1));
            }
            Batch { id, receive_time: now, ..batch }
        } else {
            self.fresh(rng, id, now)
        };
        if self.sent.len() < 40 {
            self.sent.push(batch.clone());
        }
        batch
    }

    fn fresh(&mut self, rng: &mut SeededRng, id: String, now: i64) -> Batch {
        let source = rng.below_usize(self.sources.len());
        let is_otlp = rng.one_in(8);
        let count = one_of(rng, &[0, 1, 1, 2, 3, 5, 9]);
        let events = (0..count).map(|_| self.event(rng, source, now, is_otlp)).collect();
        let source = &self.sources[source];
        Batch {
            id,
            source: source.name.clone(),
            receive_time: now,
            age: source.age,
            idempotency_key: rng.one_in(3).then(|| format!("key-{}", rng.below(20))),
            rejected: if rng.one_in(12) { rng.below(4) } else { 0 },
            is_otlp,
            events,
        }
    }

    fn event(&mut self, rng: &mut SeededRng, source: usize, now: i64, is_otlp: bool) -> Event {
        let Source { skew, spread, .. } = self.sources[source];
        let mut time = now + skew - rng.below(spread as u64 + 1) as i64;
        match rng.below(12) {
            0 => time -= one_of(rng, &[30 * SECOND, 5 * MINUTE, 2 * HOUR]),
            1 => {
                let size = one_of(rng, &[10 * SECOND, MINUTE, HOUR, DAY]);
                time -= time.rem_euclid(size) + i64::from(rng.one_in(2));
            }
            2 => time += rng.below(3 * SECOND as u64) as i64,
            3 | 4 => time = self.near_an_earlier_one(rng).unwrap_or(time),
            _ => {}
        }
        if is_otlp {
            return Event { time, insert_id: None, what: What::Metric(metric(rng, true)) };
        }
        let insert_id = match rng.below(4) {
            0 => None,
            1 => Some(format!("id-{}", rng.below(self.insert_id_count + 1))),
            _ => {
                self.insert_id_count += 1;
                Some(format!("id-{}", self.insert_id_count))
            }
        };
        let what = match rng.below(12) {
            0 => What::Broken,
            1..=6 => What::Log(log(rng)),
            7..=9 => What::Metric(metric(rng, false)),
            _ => What::Activity(activity(rng)),
        };
        Event { time, insert_id, what }
    }
}

impl Sources {
    /// A time around that of an event that was sent before: it comes late and may join what was apart.
    fn near_an_earlier_one(&self, rng: &mut SeededRng) -> Option<i64> {
        let batch = self.sent.get(rng.below_usize(self.sent.len()))?;
        let event = batch.events.get(rng.below_usize(batch.events.len()))?;
        Some(event.time + rng.below(2 * MINUTE as u64) as i64 - MINUTE)
    }
}

fn service(rng: &mut SeededRng) -> Option<String> {
    one_of(rng, &[None, Some("shop"), Some("shop"), Some("pay")]).map(str::to_owned)
}

fn user(rng: &mut SeededRng) -> String {
    format!("u{}", rng.below(6))
}

fn log(rng: &mut SeededRng) -> Log {
    Log {
        service: service(rng),
        version: one_of(rng, &[None, None, Some("v2")]).map(str::to_owned),
        level: one_of(rng, &["info", "info", "warn", "error", "debug"]),
        path: one_of(rng, &[None, Some("/home"), Some("/cart"), Some(FILTERED_PATH)]),
        user: rng.one_in(2).then(|| user(rng)),
        message: one_of(rng, &["payment failed", "all is well"]),
        duration_ms: rng.one_in(2).then(|| one_of(rng, &[0, 1, 499, 500, 501, 2_000, 2_001, 90_000])),
        bytes: rng.one_in(2).then(|| rng.below(5_000) as i64),
    }
}

fn metric(rng: &mut SeededRng, is_otlp: bool) -> Metric {
    let finite = rng.below(4_000) as f64 / 4.0 - 500.0;
    let value = match rng.below(6) {
        0 if is_otlp => f64::NAN,
        1 if is_otlp => f64::INFINITY,
        2 if is_otlp => f64::NEG_INFINITY,
        _ => finite,
    };
    Metric {
        name: one_of(rng, &["cpu", "memory"]).to_owned(),
        service: service(rng),
        host: one_of(rng, &[None, Some("h1")]),
        core: rng.one_in(3).then(|| rng.below(3)),
        value,
    }
}

fn activity(rng: &mut SeededRng) -> Activity {
    Activity {
        name: one_of(rng, &["view", "buy"]).to_owned(),
        service: service(rng),
        user: user(rng),
        page: one_of(rng, &[None, Some("/home"), Some("/cart")]),
    }
}
