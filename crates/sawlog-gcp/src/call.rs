//! Calls of Google's services: tried again where that helps, for a bounded time, and counted.
//!
//! For: one policy for every service: exponential back-off with jitter ("Exponential Backoff and Jitter", AWS Architecture
//! Blog, 2015, its "equal jitter"), a limit on all tries together, and a circuit breaker (Nygard, "Release It!", 2007), so
//! that a service that is down is left in peace and callers hear at once. Not for: connections ([`crate::grpc`]), or which
//! calls may be repeated: each caller sees to that.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sawlog_seams::SeededRng;
use tokio::time::{Instant, sleep, timeout};

/// Failures in a row from which on the breaker may open.
const BREAKER_FAILURES: u32 = 10;
/// Code of a try without an answer.
pub(crate) const TIMED_OUT: &str = "TIMED_OUT";
const BREAKER_OPEN: &str = "BREAKER_OPEN";

/// How often and how long calls are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Pause before the second try; each later one is twice as long. Between half of it and all of it is waited.
    pub delay_first: Duration,
    /// Longest pause.
    pub delay_max: Duration,
    /// Longest time of one try.
    pub try_max: Duration,
    /// Longest time of all tries and pauses of a call.
    pub total_max: Duration,
    /// The breaker opens when nothing but failures has come for so long.
    pub breaker_after: Duration,
    /// While it is open, one try is made each time so much has passed; others fail at once.
    pub breaker_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            delay_first: Duration::from_millis(100),
            delay_max: Duration::from_secs(5),
            try_max: Duration::from_secs(30),
            total_max: Duration::from_secs(120),
            breaker_after: Duration::from_secs(20),
            breaker_pause: Duration::from_secs(5),
        }
    }
}

/// An error that a service answers with.
pub trait CallError {
    /// Its code, one of few: `UNAVAILABLE`.
    fn code(&self) -> &'static str;
    /// What went wrong, for people, without the code.
    fn problem(&self) -> String;
    /// Whether the same call may go well later.
    fn is_retryable(&self) -> bool;
    /// How long the service wants to be left alone, if it says so.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// How one try ended, if not well, as a service that has no errors of its own kind says it. Services make theirs where they are.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct Failed {
    pub(crate) code: &'static str,
    pub(crate) problem: String,
    pub(crate) is_retryable: bool,
    pub(crate) retry_after: Option<Duration>,
}

impl CallError for Failed {
    fn code(&self) -> &'static str {
        self.code
    }

    fn problem(&self) -> String {
        self.problem.clone()
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Calls with one outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallCount {
    /// How many tries ended so.
    pub calls: u64,
    /// How long they took together, seconds.
    pub seconds: f64,
}

/// Why a call did not go well, however often it was tried.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{service} {call}: {code}: {problem} (tries: {tries})")]
pub struct CallFailed {
    /// The service.
    pub service: &'static str,
    /// Name of the call.
    pub call: &'static str,
    /// Code of the last answer; `TIMED_OUT` when there was none, `BREAKER_OPEN` when it was not made.
    pub code: &'static str,
    /// What the last try met.
    pub problem: String,
    /// How often it was tried.
    pub tries: u32,
}

/// Tries by call and outcome (`OK` or a code).
pub type CallCounts = BTreeMap<(&'static str, &'static str), CallCount>;

/// How one try ended, if not well, for callers that decide by the error itself.
#[derive(Debug)]
pub enum TryError<E> {
    /// The service said so.
    Answered(E),
    /// There was no answer in time.
    TimedOut,
    /// It was not made: the service has been failing.
    BreakerOpen,
}

impl<E: CallError> TryError<E> {
    fn code(&self) -> &'static str {
        match self {
            Self::Answered(error) => error.code(),
            Self::TimedOut => TIMED_OUT,
            Self::BreakerOpen => BREAKER_OPEN,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            Self::Answered(error) => error.is_retryable(),
            Self::TimedOut => true,
            Self::BreakerOpen => false,
        }
    }
}

/// How one try ended, if not well.
#[derive(Debug)]
pub enum Failure {
    /// The service said so.
    Answered {
        /// Its code.
        code: &'static str,
        /// What it said.
        problem: String,
        /// Whether the same call may go well later.
        is_retryable: bool,
        /// How long the service wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// There was no answer in time.
    TimedOut,
    /// It was not made: the service has been failing.
    BreakerOpen,
}

impl<E: CallError> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Answered {
            code: error.code(),
            problem: error.problem(),
            is_retryable: error.is_retryable(),
            retry_after: error.retry_after(),
        }
    }
}

impl Failure {
    fn of<E: CallError>(error: TryError<E>) -> Self {
        match error {
            TryError::Answered(error) => error.into(),
            TryError::TimedOut => Self::TimedOut,
            TryError::BreakerOpen => Self::BreakerOpen,
        }
    }
}

impl Failure {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Answered { code, .. } => code,
            Self::TimedOut => TIMED_OUT,
            Self::BreakerOpen => BREAKER_OPEN,
        }
    }

    fn retry_after(&self) -> Duration {
        match self {
            Self::Answered { retry_after, .. } => retry_after.unwrap_or_default(),
            Self::TimedOut | Self::BreakerOpen => Duration::ZERO,
        }
    }

    const fn is_retryable(&self) -> bool {
        match self {
            Self::Answered { is_retryable, .. } => *is_retryable,
            Self::TimedOut => true,
            Self::BreakerOpen => false,
        }
    }
}

#[derive(Debug)]
struct State {
    counts: CallCounts,
    /// Failures since the last call that went well, and when the first of them was.
    failures: u32,
    failing_since: Option<Instant>,
    /// While the breaker is open: when the next try is made.
    next_try: Option<Instant>,
    jitter: SeededRng,
}

/// What the calls of one service share.
#[derive(Debug)]
pub struct Caller {
    service: &'static str,
    policy: RetryPolicy,
    state: Mutex<State>,
}

impl Caller {
    /// For the calls of a service.
    #[must_use]
    pub fn new(service: &'static str, policy: RetryPolicy) -> Self {
        // Each process has keys of its own, so that processes do not try again in step.
        let jitter = SeededRng::new(RandomState::new().build_hasher().finish());
        let state = State { counts: BTreeMap::new(), failures: 0, failing_since: None, next_try: None, jitter };
        Self { service, policy, state: Mutex::new(state) }
    }

    /// Longest time of one try.
    #[must_use]
    pub fn try_max(&self) -> Duration {
        self.policy.try_max
    }

    /// Tries since the start.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        self.state().counts.clone()
    }

    /// Begins a call: run it, and wait after a failure until it is to be run again.
    ///
    /// ```
    /// # use sawlog_gcp::call::{CallError, CallFailed, Caller};
    /// # async fn read<E: CallError>(caller: &Caller, once: impl AsyncFn() -> Result<u64, E>) -> Result<u64, CallFailed> {
    /// let mut tries = caller.begin("GetTable");
    /// loop {
    ///     match tries.run(once()).await {
    ///         Ok(answer) => return Ok(answer),
    ///         Err(failure) => tries.wait(failure).await?,
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn begin(&self, call: &'static str) -> Tries<'_> {
        Tries { caller: self, call, started: Instant::now(), count: 0, pauses: 0 }
    }

    /// One try, for a caller that repeats calls itself. Dropping the future gives it up.
    ///
    /// # Errors
    /// The service's own, or that there was no answer in time, or that the breaker is open.
    pub async fn once<T, E: CallError>(
        &self,
        call: &'static str,
        attempt: impl Future<Output = Result<T, E>>,
    ) -> Result<T, TryError<E>> {
        if !self.admits() {
            return Err(TryError::BreakerOpen);
        }
        let started = Instant::now();
        let answer = match timeout(self.policy.try_max, attempt).await {
            Ok(answer) => answer.map_err(TryError::Answered),
            Err(_) => Err(TryError::TimedOut),
        };
        let failure = answer.as_ref().err();
        let (code, is_passing) = (failure.map_or("OK", TryError::code), failure.is_some_and(TryError::is_retryable));
        self.note(call, started.elapsed(), code, is_passing);
        answer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a try may be made.
    fn admits(&self) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        match state.next_try {
            Some(next) if now < next => false,
            Some(_) => {
                state.next_try = Some(now + self.policy.breaker_pause);
                true
            }
            None => true,
        }
    }

    /// Notes how a try ended. An answer that is no passing failure shows that the service is there.
    fn note(&self, call: &'static str, took: Duration, code: &'static str, is_passing: bool) {
        let mut state = self.state();
        let count = state.counts.entry((call, code)).or_default();
        count.calls += 1;
        count.seconds += took.as_secs_f64();
        if !is_passing {
            (state.failures, state.failing_since, state.next_try) = (0, None, None);
            return;
        }
        let now = Instant::now();
        state.failures = state.failures.saturating_add(1);
        let since = *state.failing_since.get_or_insert(now);
        let is_down = state.failures >= BREAKER_FAILURES && now - since >= self.policy.breaker_after;
        if is_down && state.next_try.is_none() {
            tracing::warn!(service = self.service, failures = state.failures, "the service does not answer");
            state.next_try = Some(now + self.policy.breaker_pause);
        }
    }
}

/// The tries of one call.
#[derive(Debug)]
pub struct Tries<'a> {
    caller: &'a Caller,
    call: &'static str,
    started: Instant,
    count: u32,
    /// Pauses since the call last got further.
    pauses: u32,
}

impl Tries<'_> {
    /// One try. Dropping the future gives it up.
    ///
    /// # Errors
    /// What [`Tries::wait`] decides on.
    pub async fn run<T, E: CallError>(&mut self, attempt: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
        let answer = self.caller.once(self.call, attempt).await.map_err(Failure::of);
        self.count += u32::from(!matches!(answer, Err(Failure::BreakerOpen)));
        answer
    }

    /// Counts a failure that came after the try: a stream that broke off, a part that failed.
    pub fn broke(&self, failure: Failure) -> Failure {
        self.caller.note(self.call, Duration::ZERO, failure.code(), failure.is_retryable());
        failure
    }

    /// Notes that the call got further: what fails from now on is tried as long as if it had just begun.
    pub fn progress(&mut self) {
        (self.started, self.pauses) = (Instant::now(), 0);
    }

    /// Waits until the next try, at least as long as the service asks for.
    ///
    /// # Errors
    /// When there is none: trying again does not help, or has been done for long enough.
    pub async fn wait(&mut self, failure: Failure) -> Result<(), CallFailed> {
        let policy = &self.caller.policy;
        let delay = policy.delay_first.saturating_mul(1 << self.pauses.min(20)).min(policy.delay_max);
        let half = delay / 2;
        let jitter = self.caller.state().jitter.below(u64::try_from(half.as_micros()).unwrap_or(u64::MAX));
        let delay = (half + Duration::from_micros(jitter)).max(failure.retry_after());
        if !failure.is_retryable() || self.started.elapsed() + delay > policy.total_max {
            return Err(self.failed(failure));
        }
        self.pauses += 1;
        sleep(delay).await;
        Ok(())
    }

    /// The error of a call that is not tried again.
    pub(crate) fn failed(&self, failure: Failure) -> CallFailed {
        let code = failure.code();
        let problem = match failure {
            Failure::Answered { problem, .. } => problem,
            Failure::TimedOut => format!("no answer within {:?}", self.caller.policy.try_max),
            Failure::BreakerOpen => "it was not tried, since the service has not answered for some time".to_owned(),
        };
        CallFailed { service: self.caller.service, call: self.call, code, problem, tries: self.count }
    }
}

/// The innermost cause of an error in words: the outer ones of a request repeat its URL.
pub(crate) fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct No(bool);

    impl CallError for No {
        fn code(&self) -> &'static str {
            if self.0 { "UNAVAILABLE" } else { "NOT_FOUND" }
        }
        fn problem(&self) -> String {
            "no".to_owned()
        }
        fn is_retryable(&self) -> bool {
            self.0
        }
    }

    /// Calls until an answer that is the first in so many tries.
    async fn call(caller: &Caller, failures: u32, is_retryable: bool) -> Result<u32, CallFailed> {
        let mut tries = caller.begin("Call");
        let mut count = 0;
        loop {
            count += 1;
            let answer = async { if count > failures { Ok(count) } else { Err(No(is_retryable)) } };
            match tries.run(answer).await {
                Ok(count) => return Ok(count),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    const fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Short times, in the proportions of the default ones.
    fn policy() -> RetryPolicy {
        RetryPolicy {
            delay_first: millis(1),
            delay_max: millis(5),
            try_max: millis(200),
            total_max: millis(300),
            breaker_after: millis(50),
            breaker_pause: millis(200),
        }
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_all_tries_are_counted() {
        let caller = Caller::new("Service", policy());
        assert_eq!(call(&caller, 3, true).await.expect("in the end"), 4);
        let counts = caller.counts();
        assert_eq!((counts[&("Call", "UNAVAILABLE")].calls, counts[&("Call", "OK")].calls), (3, 1));
        let failed = call(&caller, 3, false).await.expect_err("final");
        assert_eq!((failed.code, failed.tries), ("NOT_FOUND", 1));
        assert_eq!(failed.to_string(), "Service Call: NOT_FOUND: no (tries: 1)");
    }

    #[tokio::test]
    async fn all_tries_together_end_in_time() {
        let policy = RetryPolicy { breaker_after: millis(60_000), ..policy() };
        let started = Instant::now();
        let failed = call(&Caller::new("Service", policy.clone()), u32::MAX, true).await.expect_err("never");
        assert_eq!(failed.code, "UNAVAILABLE");
        assert!(failed.tries > 20 && started.elapsed() + policy.delay_max > policy.total_max);
    }

    #[tokio::test]
    async fn a_service_without_answers_is_left_in_peace_and_tried_now_and_then() {
        let policy = policy();
        let caller = Caller::new("Service", policy.clone());
        let failed = call(&caller, u32::MAX, true).await.expect_err("never");
        assert_eq!(failed.code, "BREAKER_OPEN");
        let tried = failed.tries;
        let failed = call(&caller, 0, true).await.expect_err("the breaker is open");
        assert_eq!((failed.code, failed.tries), ("BREAKER_OPEN", 0));
        sleep(policy.breaker_pause).await;
        assert!(tried >= BREAKER_FAILURES && call(&caller, 0, true).await.is_ok());
        assert!(call(&caller, 0, true).await.is_ok(), "one that goes well closes it");
    }

    #[tokio::test]
    async fn a_try_without_an_answer_ends() {
        let caller = Caller::new("Service", policy());
        let mut tries = caller.begin("Call");
        let failure = tries.run(std::future::pending::<Result<(), No>>()).await.expect_err("no answer");
        tries.wait(failure).await.expect("there is time for another try");
        let failure = tries.run(std::future::pending::<Result<(), No>>()).await.expect_err("no answer");
        assert_eq!(tries.wait(failure).await.expect_err("too late").code, "TIMED_OUT");
    }
}
