//! Time: the wall clock and a clock that only moves forward.
//!
//! For: every reading of time outside this module. Not for: waiting or timers, and not for event
//! time, which comes from the producer.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Source of time.
pub trait Clock: Send + Sync {
    /// Wall clock in UTC microseconds since the Unix epoch. May jump, also backwards.
    fn now_micros(&self) -> i64;
    /// Time since some fixed instant. Never goes backwards; for measuring how long things take.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug, Clone)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic reading starts at zero now.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_micros(&self) -> i64 {
        // A machine set before 1970 gives a negative reading rather than a panic.
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        }
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Fake clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    reading: Mutex<Reading>,
}

#[derive(Debug)]
struct Reading {
    now_micros: i64,
    monotonic: Duration,
}

impl ManualClock {
    /// A clock standing at the given wall time, with a monotonic reading of zero.
    #[must_use]
    pub fn at_micros(now_micros: i64) -> Self {
        Self { reading: Mutex::new(Reading { now_micros, monotonic: Duration::ZERO }) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.now_micros = reading.now_micros.saturating_add(micros(by));
        reading.monotonic += by;
    }

    /// Makes the wall clock jump, as an operator or NTP might; the monotonic clock does not move.
    pub fn set_micros(&self, now_micros: i64) {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).now_micros = now_micros;
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).now_micros
    }

    fn monotonic(&self) -> Duration {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).monotonic
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_is_after_2020_and_does_not_run_backwards() {
        let clock = SystemClock::new();
        assert!(clock.now_micros() > 1_577_836_800_000_000);
        let before = clock.monotonic();
        assert!(clock.monotonic() >= before);
    }

    #[test]
    fn a_jump_of_the_wall_clock_leaves_the_monotonic_clock_alone() {
        let clock = ManualClock::at_micros(10);
        clock.advance(Duration::from_micros(5));
        clock.set_micros(3);
        assert_eq!((clock.now_micros(), clock.monotonic()), (3, Duration::from_micros(5)));
    }
}
