//! How long a call to Cloud Storage may take, and when it is tried again.
//!
//! For: a deadline for each try and for all of them, and waits between tries that double and are spread by chance, so that
//! many workers do not come back at once. Not for: which failures may pass ([`super::errors`]).

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::errors::Failure;

/// Wait after the first try that failed; it doubles with every further one.
const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes for which a try may take a second longer. A slower connection counts as a broken one.
const BYTES_PER_SECOND_MIN: usize = 4 << 20;

/// How long calls may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// One try, beside the time for its content.
    pub(super) one_try: Duration,
    /// After which nothing is tried again.
    pub(super) call: Duration,
}

impl Deadlines {
    /// Limits a try that moves so many bytes.
    pub(super) async fn one_try<T>(
        &self,
        bytes: usize,
        call: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, Failure> {
        within(self.one_try + transfer(bytes), call).await
    }

    /// Tries until it succeeds, cannot succeed, or the call's deadline has passed.
    pub(super) async fn until_done<T, F>(&self, mut one_try: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let end = Instant::now() + self.call;
        let mut wait = WAIT_FIRST;
        loop {
            let failure = match one_try().await {
                Err(Failure::Temporary(problem)) => Failure::Temporary(problem),
                answer => return answer,
            };
            let wait_now = jittered(wait);
            if Instant::now() + wait_now >= end {
                return Err(failure);
            }
            sleep(wait_now).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }
}

/// Limits a call that is no single try.
pub(super) async fn within<T, E: Into<Failure>>(
    limit: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Failure::Temporary(format!("no answer within {limit:.1?}"))),
    }
}

/// How long moving so many bytes may take.
pub(super) fn transfer(bytes: usize) -> Duration {
    Duration::from_secs(bytes.div_ceil(BYTES_PER_SECOND_MIN) as u64)
}

/// Between half of the wait and all of it. Without random numbers it is all.
pub(super) fn jittered(wait: Duration) -> Duration {
    let part = getrandom::u32().unwrap_or(u32::MAX);
    wait / 2 + wait.mul_f64(f64::from(part) / f64::from(u32::MAX)) / 2
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const DEADLINES: Deadlines = Deadlines { one_try: Duration::from_secs(1), call: Duration::from_secs(10) };

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_until_the_deadline() {
        let (tries, started) = (Cell::new(0), Instant::now());
        let failed: Result<(), _> = DEADLINES
            .until_done(|| {
                tries.set(tries.get() + 1);
                async { Err(Failure::Temporary("away".to_owned())) }
            })
            .await;
        assert_eq!(failed, Err(Failure::Temporary("away".to_owned())));
        assert!((4..=9).contains(&tries.get()), "{} tries", tries.get());
        assert!(started.elapsed() <= DEADLINES.call);
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_pass_is_tried_once() {
        for failure in [Failure::Final("refused".to_owned()), Failure::NotFound, Failure::Taken] {
            let tries = Cell::new(0);
            let failed: Result<(), _> = DEADLINES
                .until_done(|| {
                    tries.set(tries.get() + 1);
                    async { Err(failure.clone()) }
                })
                .await;
            assert_eq!((failed, tries.get()), (Err(failure.clone()), 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_without_an_answer_ends_and_content_gives_it_time() {
        let (started, never) = (Instant::now(), std::future::pending::<Result<(), object_store::Error>>());
        let failed = DEADLINES.one_try(8 << 20, never).await;
        assert!(matches!(&failed, Err(Failure::Temporary(problem)) if problem.contains("3.0s")), "{failed:?}");
        assert_eq!(started.elapsed(), Duration::from_secs(3));
    }
}
