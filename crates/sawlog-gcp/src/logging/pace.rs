//! How often and when a service is asked.
//!
//! For: keeping below a quota of requests a minute, and waiting longer after each failure. Not for: which failures are worth
//! another try ([`super::client`]).

use std::num::NonZeroU32;
use std::time::Duration;

use sawlog_seams::SeededRng;
use tokio::sync::Mutex;
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

    /// Waits until a request may be made; who came first goes first. Cancelled, it takes nothing.
    pub(crate) async fn turn(&self) {
        let mut full_at = self.full_at.lock().await;
        let now = Instant::now();
        let full = full_at.unwrap_or(now).max(now) + self.between;
        if let Some(turn) = full.checked_sub(self.between * self.burst) {
            sleep_until(turn).await;
        }
        *full_at = Some(full);
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

    fn pace(per_minute: u32) -> Pace {
        Pace::new(NonZeroU32::new(per_minute).expect("not zero"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_has_at_most_the_quota_and_its_burst() {
        let (pace, start) = (pace(60), Instant::now());
        let mut turns = Vec::new();
        for _ in 0..120 {
            pace.turn().await;
            turns.push(start.elapsed());
        }
        assert_eq!(turns[..6], [Duration::ZERO; 6], "a tenth of them at once");
        assert_eq!(turns[6].as_millis().div_ceil(10), 100, "{:?}", turns[6]);
        let within_a_minute = turns.iter().filter(|turn| **turn < MINUTE).count();
        assert!((64..=66).contains(&within_a_minute), "{within_a_minute}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_seldom_never_waits() {
        let pace = pace(1);
        for _ in 0..5 {
            let asked = Instant::now();
            pace.turn().await;
            assert_eq!(asked.elapsed(), Duration::ZERO);
            tokio::time::advance(MINUTE).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_takes_nothing_and_the_others_keep_their_order() {
        let (pace, start) = (pace(60), Instant::now());
        for _ in 0..6 {
            pace.turn().await;
        }
        let mut impatient: Vec<_> = (0..100).map(|_| Box::pin(pace.turn())).collect();
        for turn in &mut impatient {
            assert!(futures::poll!(turn).is_pending(), "the bucket is empty");
        }
        drop(impatient);
        let order = std::sync::Mutex::new(Vec::new());
        let one = async |number: u32| {
            pace.turn().await;
            order.lock().expect("no panic").push(number);
        };
        tokio::join!(one(1), one(2), one(3));
        assert_eq!(*order.lock().expect("no panic"), [1, 2, 3]);
        assert!(start.elapsed() < Duration::from_millis(3_100), "{:?}", start.elapsed());
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
