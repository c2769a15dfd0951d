//! Public keys that tokens are signed with, as their issuer serves them.
//!
//! For: a JSON Web Key Set (RFC 7517) fetched over HTTP, kept for as long as its `Cache-Control` says, fetched anew for a key
//! id that is not in it, and used on while it cannot be fetched. Not for: what a token says ([`super::token`]).
//!
//! Rules:
//! - Tries are at least 10 seconds apart, so that tokens with made-up key ids cannot make us ask the issuer more often.
//! - Only one request fetches; others with a known key go on with it. A known key counts for a day after the last answer.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::{AGE, CACHE_CONTROL, HeaderMap};
use sawlog_seams::Clock;
use serde::Deserialize;
use tokio::sync::Mutex;

/// Longest wait for the keys.
const FETCH_MAX: Duration = Duration::from_secs(5);
/// Between two tries.
const TRY_INTERVAL: Duration = Duration::from_secs(10);
/// How long an answer counts that does not say so, and the least and most that it may say.
const AGE_DEFAULT: Duration = Duration::from_secs(300);
const AGE_MIN: Duration = Duration::from_secs(60);
const AGE_MAX: Duration = Duration::from_secs(86_400);
/// How long keys are used after the last answer.
const KEPT_MAX: Duration = Duration::from_secs(86_400);
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    /// The issuer has no key of that id.
    #[error("the issuer has no key of this id")]
    Unknown,
    /// The issuer's keys are not known at the moment.
    #[error("the issuer's keys cannot be fetched: {0}")]
    Away(String),
}

/// The keys of one address.
pub(super) struct KeySet {
    url: String,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    known: RwLock<Known>,
    /// Who holds it fetches.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, Arc<ParsedPublicKey>>,
    /// When the keys came, and until when they count without another look, by the clock that never goes backwards.
    answered: Option<(Duration, Duration)>,
    tried: Option<Duration>,
    /// What was wrong with the last try.
    problem: Option<String>,
}

impl KeySet {
    /// Keys at an address, fetched when they are first needed.
    ///
    /// # Errors
    /// When there is no HTTP client: TLS does not work on this machine.
    pub(super) fn new(url: &str, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(FETCH_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("sawlog/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { url: url.to_owned(), http, clock, known: RwLock::default(), turn: Mutex::default() })
    }

    /// The key of an id.
    ///
    /// # Errors
    /// When there is none, or none is known since the issuer does not answer.
    pub(super) async fn key(&self, id: &str) -> Result<Arc<ParsedPublicKey>, KeyError> {
        let (key, is_fresh) = self.look_up(id);
        match key {
            Some(key) if is_fresh => return Ok(key),
            Some(_) => {
                if let Ok(_turn) = self.turn.try_lock() {
                    self.fetch_if_due().await;
                }
            }
            None => {
                let _turn = self.turn.lock().await;
                self.fetch_if_due().await;
            }
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_kept = known.answered.is_some_and(|(at, _)| self.clock.monotonic() < at + KEPT_MAX);
        match (known.keys.get(id), &known.problem) {
            (Some(key), _) if is_kept => Ok(Arc::clone(key)),
            (_, Some(problem)) => Err(KeyError::Away(problem.clone())),
            _ => Err(KeyError::Unknown),
        }
    }

    fn look_up(&self, id: &str) -> (Option<Arc<ParsedPublicKey>>, bool) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = known.answered.is_some_and(|(_, until)| self.clock.monotonic() < until);
        (known.keys.get(id).cloned(), is_fresh)
    }

    async fn fetch_if_due(&self) {
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.monotonic();
            if known.tried.is_some_and(|at| now < at + TRY_INTERVAL) {
                return;
            }
            known.tried = Some(now);
        }
        let fetched = self.fetch().await;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match fetched {
            Ok((keys, age)) => {
                let now = self.clock.monotonic();
                (known.keys, known.answered, known.problem) = (keys, Some((now, now + age)), None);
            }
            Err(problem) => {
                tracing::warn!(url = self.url, problem, "the keys of push tokens cannot be fetched");
                known.problem = Some(problem);
            }
        }
    }

    async fn fetch(&self) -> Result<(HashMap<String, Arc<ParsedPublicKey>>, Duration), String> {
        let failed = |error: reqwest::Error| error.without_url().to_string();
        let mut answer = self.http.get(&self.url).send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(format!("the answer is {}", answer.status()));
        }
        let age = counts_for(answer.headers());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(format!("the answer has more than {ANSWER_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let keys = keys_of(&body)?;
        if keys.is_empty() {
            return Err("the answer has no RSA key for signatures".to_owned());
        }
        Ok((keys, age))
    }
}

/// How long an answer counts: `max-age` less the `Age` that it has already.
fn counts_for(headers: &HeaderMap) -> Duration {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let directives = text(CACHE_CONTROL).unwrap_or_default();
    let max_age = directives.split(',').find_map(|directive| directive.trim().strip_prefix("max-age="));
    let max_age = max_age.and_then(|seconds| seconds.parse().ok()).map_or(AGE_DEFAULT, Duration::from_secs);
    let age = text(AGE).and_then(|seconds| seconds.trim().parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
    max_age.saturating_sub(age).clamp(AGE_MIN, AGE_MAX)
}

#[derive(Deserialize)]
struct JsonWebKeySet {
    keys: Vec<JsonWebKey>,
}

#[derive(Deserialize)]
struct JsonWebKey {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

impl JsonWebKey {
    fn is_for_rs256(&self) -> bool {
        let is_or_none = |value: &Option<String>, wanted: &str| value.as_deref().is_none_or(|value| value == wanted);
        self.kty == "RSA" && is_or_none(&self.alg, "RS256") && is_or_none(&self.usage, "sig")
    }
}

/// The keys for RS256 in a set, by id. Others, and those that cannot be used, are left out.
fn keys_of(body: &[u8]) -> Result<HashMap<String, Arc<ParsedPublicKey>>, String> {
    let set: JsonWebKeySet =
        serde_json::from_slice(body).map_err(|error| format!("the answer is no set of keys: {error}"))?;
    let parsed = |key: &JsonWebKey| {
        let n = BASE64_URL_SAFE_NO_PAD.decode(&key.n).ok()?;
        let e = BASE64_URL_SAFE_NO_PAD.decode(&key.e).ok()?;
        RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()
    };
    let rsa = set.keys.iter().filter(|key| key.is_for_rs256());
    Ok(rsa.filter_map(|key| Some((key.kid.clone()?, Arc::new(parsed(key)?)))).collect())
}

#[cfg(test)]
mod tests {
    use sawlog_seams::ManualClock;

    use super::*;
    use crate::pubsub::push::testing::{Issuer, Signer};

    #[tokio::test]
    async fn a_new_key_is_fetched_once_it_is_used_and_not_more_often_than_allowed() {
        let (first, second) = (Signer::new("first"), Signer::new("second"));
        let issuer = Issuer::start("max-age=3600", &[&first]).await;
        let clock = Arc::new(ManualClock::at_micros(0));
        let keys = KeySet::new(&issuer.url, clock.clone()).expect("a client");
        keys.key("first").await.expect("it is there");
        issuer.serve("max-age=3600", &[&second]);
        for _ in 0..5 {
            assert_eq!(keys.key("second").await.err(), Some(KeyError::Unknown), "too soon after the last try");
        }
        assert_eq!(issuer.requests(), 1);
        clock.advance(TRY_INTERVAL);
        keys.key("second").await.expect("the rotated key");
        assert_eq!(keys.key("first").await.err(), Some(KeyError::Unknown), "it was withdrawn");
        assert_eq!(issuer.requests(), 2);
    }

    #[tokio::test]
    async fn known_keys_outlive_an_outage_by_a_day() {
        let signer = Signer::new("first");
        let issuer = Issuer::start("public, max-age=120", &[&signer]).await;
        let clock = Arc::new(ManualClock::at_micros(0));
        let keys = KeySet::new(&issuer.url, clock.clone()).expect("a client");
        keys.key("first").await.expect("it is there");
        issuer.fail();
        clock.advance(Duration::from_secs(130));
        keys.key("first").await.expect("it is kept");
        assert_eq!(issuer.requests(), 2, "its age was over");
        assert!(matches!(keys.key("other").await.err(), Some(KeyError::Away(_))), "nobody can tell");
        clock.advance(KEPT_MAX);
        assert!(matches!(keys.key("first").await.err(), Some(KeyError::Away(_))), "not for ever");
        issuer.serve("max-age=120", &[&signer]);
        clock.advance(TRY_INTERVAL);
        keys.key("first").await.expect("it is back");
    }

    #[test]
    fn an_answer_counts_for_as_long_as_it_says_within_limits() {
        let counts = |control: &str, age: &str| {
            let pairs = [(CACHE_CONTROL, control), (AGE, age)];
            counts_for(&pairs.into_iter().map(|(name, value)| (name, value.parse().expect("text"))).collect())
        };
        assert_eq!(counts("public, max-age=600, must-revalidate", "100"), Duration::from_secs(500));
        assert_eq!(counts("no-store", "0"), AGE_DEFAULT);
        assert_eq!(counts("max-age=0", "0"), AGE_MIN);
        assert_eq!(counts("max-age=99999999", "x"), AGE_MAX);
    }

    #[test]
    fn only_rsa_keys_for_signatures_are_taken() {
        let mut keys: Vec<serde_json::Value> = vec![Signer::new("good").public_key()];
        for (name, value) in [("kty", "EC"), ("use", "enc"), ("alg", "RS512"), ("n", "!"), ("n", "AQAB")] {
            let mut other = Signer::new("other").public_key();
            other[name] = value.into();
            keys.push(other);
        }
        let body = serde_json::json!({ "keys": keys }).to_string();
        let found = keys_of(body.as_bytes()).expect("a set");
        assert!(found.contains_key("good"));
        assert!(found.len() <= 2, "{:?}", found.keys());
        assert!(keys_of(b"[]").expect_err("no set").contains("no set of keys"));
    }
}
