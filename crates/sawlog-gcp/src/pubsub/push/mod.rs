//! Messages that Pub/Sub pushes.
//!
//! For: who may push, and storing what is pushed before it is answered. Not for: HTTP itself, which the server does with
//! [`PushReceiver::admit`] before it reads a body and [`PushReceiver::take`] after it.
//!
//! Every push carries a token that Google signs for a service account. It must be of the account and for the audience that the
//! subscription's settings name, so that nobody else can push into it.

mod collector;
mod keys;
#[cfg(test)]
mod testing;
mod token;
mod wrapper;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sawlog_core::batch::AgeLimits;
use sawlog_seams::Clock;
use sawlog_telemetry::Metrics;

use self::collector::{Collector, CollectorOptions, Unstored};
use self::keys::{KeyError, KeySet};
use self::token::{Claims, Token, TokenError};
use super::batch::Ready;
use super::source::PubsubState;

/// Where Google serves the keys of its tokens.
pub const GOOGLE_KEYS_URL: &str = "https://www.googleapis.com/oauth2/v3/certs";
/// When to send again what may be taken later.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Between two lines of the log about refused pushes.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// A subscription that pushes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOptions {
    /// Its name, `projects/PROJECT/subscriptions/NAME`.
    pub subscription: String,
    /// Name of the source in the ledger and the tables.
    pub source: String,
    /// Audience of its tokens.
    pub audience: String,
    /// Address of the service account that its tokens are of.
    pub service_account: String,
    /// Where the keys of its tokens are; [`GOOGLE_KEYS_URL`] but in tests.
    pub keys_url: String,
    /// Most messages that wait to be stored; further ones are refused for now.
    pub messages_max: u32,
    /// Most bytes of such messages.
    pub bytes_max: u64,
    /// Accepted event times.
    pub age: AgeLimits,
}

/// Why a push is not taken, as HTTP says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PushRefusal {
    /// Status of the answer: 400, 401, 403, 429 or 503.
    pub status: u16,
    /// Code for programs.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: &'static str,
    /// When to send it again, where waiting helps.
    pub retry_after: Option<Duration>,
}

impl PushRefusal {
    fn new(status: u16, code: &'static str, message: impl ToString, hint: &'static str) -> Self {
        Self { status, code, message: message.to_string(), hint, retry_after: None }
    }

    fn later(mut self) -> Self {
        self.retry_after = Some(RETRY_AFTER);
        self
    }
}

impl From<TokenError> for PushRefusal {
    fn from(error: TokenError) -> Self {
        let hint = "the push subscription needs `--push-auth-service-account` and `--push-auth-token-audience` as \
                    `service-account` and `audience` of its [[pubsub]] say";
        let status = if error.is_of_wrong_account() { 403 } else { 401 };
        Self::new(status, error.code(), error, hint)
    }
}

impl From<KeyError> for PushRefusal {
    fn from(error: KeyError) -> Self {
        match &error {
            KeyError::Unknown => Self::new(401, "token_key_unknown", error, "the token must be one of Google's"),
            KeyError::Away(_) => {
                Self::new(503, "token_keys_away", error, "`keys-url` of [[pubsub]] must be reachable from here").later()
            }
        }
    }
}

impl From<Unstored> for PushRefusal {
    fn from(error: Unstored) -> Self {
        let hint = "nothing: Pub/Sub sends it again";
        match &error {
            Unstored::Full => Self::new(429, "overloaded", error, hint).later(),
            Unstored::Pipeline(cause) if matches!(**cause, sawlog_stream::SubmitError::Overloaded) => {
                Self::new(429, "overloaded", error, hint).later()
            }
            Unstored::Pipeline(_) | Unstored::Lost => Self::new(503, "not_stored", error, hint).later(),
        }
    }
}

/// Who pushes, by a token that was checked.
#[derive(Clone, Debug)]
pub struct Pusher(Claims);

/// Takes pushes of some subscriptions.
pub struct PushReceiver {
    subscriptions: Vec<Subscription>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    warned: Mutex<Option<Duration>>,
}

struct Subscription {
    options: PushOptions,
    keys: Arc<KeySet>,
    collector: Arc<Collector>,
}

impl PushReceiver {
    /// A receiver for some subscriptions. Keys are fetched with the first push.
    ///
    /// # Errors
    /// When there is no HTTP client to fetch keys with.
    pub fn new(options: Vec<PushOptions>, state: &PubsubState, clock: Arc<dyn Clock>) -> Result<Self, PushStartError> {
        let mut sets: HashMap<String, Arc<KeySet>> = HashMap::new();
        let mut subscriptions = Vec::new();
        for options in options {
            let keys = match sets.get(&options.keys_url) {
                Some(keys) => Arc::clone(keys),
                None => Arc::new(KeySet::new(&options.keys_url, Arc::clone(&clock))?),
            };
            sets.insert(options.keys_url.clone(), Arc::clone(&keys));
            let collecting = CollectorOptions {
                source: options.source.clone(),
                age: options.age,
                messages_max: options.messages_max,
                bytes_max: options.bytes_max,
            };
            let collector = Collector::new(collecting, state.clone());
            subscriptions.push(Subscription { options, keys, collector });
        }
        Ok(Self { subscriptions, metrics: Arc::clone(&state.metrics), clock, warned: Mutex::default() })
    }

    /// Checks the value of an `Authorization` header, before anything of the body is read.
    ///
    /// # Errors
    /// Unless it holds a token that one of the subscriptions may push with.
    pub async fn admit(&self, authorization: Option<&str>) -> Result<Pusher, PushRefusal> {
        self.admitted(authorization).await.inspect_err(|refusal| self.warn(refusal))
    }

    async fn admitted(&self, authorization: Option<&str>) -> Result<Pusher, PushRefusal> {
        let token = Token::of_header(authorization)?;
        let now = self.clock.now_micros().div_euclid(1_000_000);
        let mut refusal = PushRefusal::from(KeyError::Unknown);
        for set in self.key_sets() {
            let key = match set.key(&token.key_id).await {
                Ok(key) => key,
                Err(error) => {
                    refusal = error.into();
                    continue;
                }
            };
            let claims = token.claims(&key)?;
            claims.check_issue(now)?;
            let allowed = self.subscriptions.iter().filter(|one| Arc::ptr_eq(&one.keys, set));
            let checks = allowed.map(|one| claims.check_parties(&one.options.audience, &one.options.service_account));
            // Of several subscriptions that do not match, the one with the same audience says best what is wrong.
            let nearest = checks.reduce(|a, b| match (a, b) {
                (Ok(()), _) | (_, Ok(())) => Ok(()),
                (Err(TokenError::Audience), other) | (other, _) => other,
            });
            return match nearest {
                Some(Err(error)) => Err(error.into()),
                _ => Ok(Pusher(claims)),
            };
        }
        Err(refusal)
    }

    /// Each set of keys once.
    fn key_sets(&self) -> impl Iterator<Item = &Arc<KeySet>> {
        let is_first = |at: usize, keys: &Arc<KeySet>| {
            self.subscriptions.iter().position(|one| Arc::ptr_eq(&one.keys, keys)) == Some(at)
        };
        let sets = self.subscriptions.iter().map(|one| &one.keys).enumerate();
        sets.filter(move |(at, keys)| is_first(*at, keys)).map(|(_, keys)| keys)
    }

    /// Stores the message of a body, and returns once it is in the synced event log.
    ///
    /// # Errors
    /// When the body is no push, is of a subscription that this one may not push for, or is not stored now. The service sends
    /// it again in each case.
    pub async fn take(&self, pusher: &Pusher, body: &[u8]) -> Result<(), PushRefusal> {
        self.taken(pusher, body).await.inspect_err(|refusal| self.warn(refusal))
    }

    async fn taken(&self, Pusher(claims): &Pusher, body: &[u8]) -> Result<(), PushRefusal> {
        let malformed =
            "Pub/Sub sends it again until the subscription's dead-letter topic takes it; push with the wrapper";
        let pushed = wrapper::read(body).map_err(|error| PushRefusal::new(400, "push_malformed", error, malformed))?;
        let found = self.subscriptions.iter().find(|one| one.options.subscription == pushed.subscription);
        let found = found.ok_or_else(|| {
            let message = format!("{:?} is no subscription that pushes here", pushed.subscription);
            PushRefusal::new(403, "subscription_unknown", message, "add it as a [[pubsub]] with mode = \"push\"")
        })?;
        claims.check_parties(&found.options.audience, &found.options.service_account)?;
        if pushed.delivery_attempt.is_some_and(|attempt| attempt > 1) {
            self.metrics.add_pubsub_redelivery(&found.options.source);
        }
        Ok(found.collector.store(Ready::new(pushed.message)).await?)
    }

    /// Says in the log why pushes are refused, since nobody sees the answers.
    fn warn(&self, refusal: &PushRefusal) {
        let now = self.clock.monotonic();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| now >= at + WARN_INTERVAL) {
            *warned = Some(now);
            tracing::warn!(
                status = refusal.status,
                code = refusal.code,
                problem = refusal.message,
                "a push was refused"
            );
        }
    }
}

/// Why pushes cannot be taken at all.
#[derive(Debug, thiserror::Error)]
#[error("the keys of push tokens cannot be fetched from here: {0}")]
pub struct PushStartError(#[from] reqwest::Error);
