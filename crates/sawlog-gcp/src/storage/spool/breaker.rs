//! When a lake that was away is asked again.
//!
//! For: sparing callers the wait for a service that has just not answered, and the service the crowd when it comes back.
//! Not for: repeats of one call. Method: a circuit breaker (M. Nygard, *Release It!*, 2007) that lets one attempt pass
//! when its wait is over.

use std::time::Duration;

use tokio::time::Instant;

use crate::storage::retry::jittered;

/// Closed while the lake answers; open, so that nobody asks, for a while after it did not.
#[derive(Debug)]
pub(super) struct Breaker {
    wait_first: Duration,
    wait_max: Duration,
    /// The next wait.
    wait: Duration,
    open_until: Option<Instant>,
}

/// A call that the breaker lets pass.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Whether it is the one that finds out.
    is_probe: bool,
}

impl Breaker {
    pub(super) fn new(wait_first: Duration, wait_max: Duration) -> Self {
        Self { wait_first, wait_max, wait: wait_first, open_until: None }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open_until.is_some()
    }

    /// When the next attempt passes, if the breaker is open.
    pub(super) fn open_until(&self) -> Option<Instant> {
        self.open_until
    }

    /// Whether a call may be made now. The one that finds out keeps the others waiting; if nothing is heard of it, another
    /// follows.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Attempt> {
        match self.open_until {
            None => Some(Attempt { is_probe: false }),
            Some(until) if now < until => None,
            Some(_) => {
                self.open_until = Some(now + self.wait);
                Some(Attempt { is_probe: true })
            }
        }
    }

    /// The lake answered, whatever it said. Returns whether the breaker was open.
    pub(super) fn answered(&mut self) -> bool {
        self.wait = self.wait_first;
        self.open_until.take().is_some()
    }

    /// The lake did not answer. Of calls that were under way together the first one counts.
    pub(super) fn failed(&mut self, attempt: &Attempt, now: Instant) {
        if attempt.is_probe || self.open_until.is_none() {
            self.open_until = Some(now + jittered(self.wait));
            self.wait = (self.wait * 2).min(self.wait_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_call_finds_out_and_the_others_wait_for_it() {
        let (mut breaker, start) = (Breaker::new(SECOND, 4 * SECOND), Instant::now());
        let (first, second) = (breaker.begin(start).expect("closed"), breaker.begin(start).expect("closed"));
        breaker.failed(&first, start);
        breaker.failed(&second, start);
        assert!(breaker.begin(start).is_none());
        let later = start + SECOND;
        let probe = breaker.begin(later).expect("the wait is over, counted once");
        assert!(breaker.begin(later).is_none());
        breaker.failed(&probe, later);
        assert!(breaker.begin(later + SECOND / 2).is_none(), "the wait has doubled, and is at least half of that");
        assert!(breaker.begin(later + 2 * SECOND).is_some());
        assert!(breaker.answered() && !breaker.answered());
        assert!(!breaker.is_open() && breaker.begin(later).is_some() && breaker.begin(later).is_some());
    }

    #[test]
    fn a_call_that_is_never_heard_of_does_not_keep_the_breaker_open() {
        let (mut breaker, start) = (Breaker::new(SECOND, SECOND), Instant::now());
        let first = breaker.begin(start).expect("closed");
        breaker.failed(&first, start);
        assert!(breaker.begin(start + SECOND).is_some(), "a probe");
        assert!(breaker.begin(start + 2 * SECOND).is_some());
    }
}
