//! How often and when a service is asked.
//!
//! For: keeping below a quota of requests a minute, and waiting longer after each failure. Not for: which failures are worth
//! another try ([`super::client`]).

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sawlog_seams::SeededRng;
use tokio::time::{Instant, sleep_until};

const MINUTE: Duration = Duration::from_secs(60);
/// Part of a minute's requests that may be made at once.
const BURST_PART: u32 = 10;

/// Requests a minute, shared by all who ask one project: a token bucket that holds a tenth of a minute's requests, so that no
/// minute has more than eleven tenths of the quota.
#[derive(Debug)]
pub struct Pace {
    between: Duration,
    burst: u32,
    /// When the bucket would be full.
    full_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most so many requests a minute.
    #[must_use]
    pub fn new(per_minute: NonZeroU32) -> Self {
        let burst = (per_minute.get() / BURST_PART).max(1);
        Self { between: MINUTE / per_minute.get(), burst, full_at: Mutex::new(None) }
    }

    /// Waits until a request may be made. Cancelled, its place is lost and the next waits longer.
    pub(crate) async fn turn(&self) {
        sleep_until(self.next_turn(Instant::now())).await;
    }

    fn next_turn(&self, now: Instant) -> Instant {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full = full_at.unwrap_or(now).max(now) + self.between;
        *full_at = Some(full);
        full.checked_sub(self.between * self.burst).map_or(now, |turn| turn.max(now))
    }
}

/// How long to wait after failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first one.
    pub first: Duration,
    /// At most; each wait is up to twice the one before.
    pub max: Duration,
}

impl Default for Backoff {
    /// One second, up to a minute: the span of Cloud Logging's quotas.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), max: MINUTE }
    }
}

/// Failures in a row, and what to wait after each.
#[derive(Debug)]
pub(crate) struct Waits {
    backoff: Backoff,
    next: Duration,
    rng: SeededRng,
}

impl Waits {
    /// `seed` should differ between processes, so that they do not ask again at the same moment.
    pub(crate) fn new(backoff: Backoff, seed: u64) -> Self {
        Self { backoff, next: backoff.first, rng: SeededRng::new(seed) }
    }

    /// The wait after another failure: between half of the step and all of it.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.backoff.max);
        let half = step / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.rng.below(micros + 1))
    }

    /// Begins anew after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.backoff.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_at_most_the_quota_and_its_burst() {
        let pace = Pace::new(NonZeroU32::new(60).expect("not zero"));
        let start = Instant::now();
        let turns: Vec<_> = (0..120).map(|_| pace.next_turn(start) - start).collect();
        assert_eq!(turns[..6], [Duration::ZERO; 6], "a tenth of them at once");
        assert_eq!(turns[6], Duration::from_secs(1));
        let within_a_minute = turns.iter().filter(|turn| **turn < MINUTE).count();
        assert_eq!(within_a_minute, 65);
        assert!(turns.is_sorted());
    }

    #[test]
    fn who_asks_seldom_never_waits() {
        let pace = Pace::new(NonZeroU32::new(1).expect("not zero"));
        let start = Instant::now();
        for minute in 0..5 {
            let now = start + MINUTE * minute;
            assert_eq!(pace.next_turn(now), now);
        }
    }

    #[test]
    fn waits_double_to_their_limit_with_jitter_and_begin_anew() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(5) };
        let mut waits = Waits::new(backoff, 7);
        for step in [1, 2, 4, 5, 5].map(Duration::from_secs) {
            let wait = waits.after_failure();
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
        }
        waits.reset();
        assert!(waits.after_failure() <= backoff.first);
        let of = |seed| Waits::new(backoff, seed).after_failure();
        assert_ne!(of(1), of(2));
    }
}
