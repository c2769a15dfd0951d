//! Stopping within a time.
//!
//! For: sharing the time of a stop among its steps, each with a limit and a line in the log, so that a supervisor's
//! patience is never tried. Not for: what the steps do. A step that is cut off loses nothing: what was acknowledged is in
//! the event log.

use std::time::Duration;

use tokio::time::Instant;

/// Time of all steps. Less than the ten seconds that a stop may take, for ending the process on a busy machine.
const STEPS_TIME_MAX: Duration = Duration::from_millis(8_500);
/// Time for open requests, merges and whatever else runs; the rest is for the last flush.
pub(crate) const REQUESTS_TIME_MAX: Duration = Duration::from_secs(4);
/// Time for threads that were cut off at the end of the process.
pub(crate) const THREADS_TIME_MAX: Duration = Duration::from_millis(500);

/// A stop under way.
#[derive(Debug)]
pub(crate) struct Stop {
    started: Instant,
    time_max: Duration,
}

impl Stop {
    /// Begins a stop of a server.
    pub(crate) fn begin() -> Self {
        Self::within(STEPS_TIME_MAX)
    }

    fn within(time_max: Duration) -> Self {
        Self { started: Instant::now(), time_max }
    }

    /// What is left of the time.
    pub(crate) fn rest(&self) -> Duration {
        self.time_max.saturating_sub(self.started.elapsed())
    }

    /// Waits for a step, for `time_max` at most and within the time of the stop; `None` when it was cut off.
    pub(crate) async fn step<T>(&self, name: &str, time_max: Duration, work: impl Future<Output = T>) -> Option<T> {
        let (begun, time_max) = (Instant::now(), time_max.min(self.rest()));
        tracing::info!(step = name, seconds_max = time_max.as_secs_f64(), "stopping");
        let done = tokio::time::timeout(time_max, work).await.ok();
        let seconds = begun.elapsed().as_secs_f64();
        match done {
            Some(_) => tracing::info!(step = name, seconds, "done"),
            None => tracing::warn!(step = name, seconds, "cut off, since the time is over"),
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn steps_end_within_their_limits_and_all_of_them_within_the_stop() {
        let stop = Stop::within(Duration::from_millis(300));
        assert_eq!(stop.step("quick", Duration::from_secs(60), async { 7 }).await, Some(7));
        assert_eq!(stop.step::<()>("stuck", Duration::from_millis(100), std::future::pending()).await, None);
        assert!(stop.rest() > Duration::ZERO, "a stuck step leaves time to the others");
        assert_eq!(stop.step::<()>("stuck too", Duration::from_secs(60), std::future::pending()).await, None);
        assert_eq!(stop.rest(), Duration::ZERO);
        assert!(stop.started.elapsed() < Duration::from_secs(5));
    }
}
