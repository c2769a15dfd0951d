//! Identity tokens that Google signs for a service account, as Pub/Sub sends them with each push.
//!
//! For: one form of token (a JWS in compact form, RFC 7515, signed by RS256) and the claims that a push has. Not for: which keys
//! count ([`super::keys`]). Invariant: nothing of a token is believed before its signature is checked, and no text of a token
//! goes into errors or logs. There is one algorithm, so that none can be chosen by who sends the token.

use aws_lc_rs::signature::ParsedPublicKey;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Tokens of Google have about 1 KiB.
const TOKEN_BYTES_MAX: usize = 8 << 10;
/// How far clocks may differ, seconds.
const SKEW_SECONDS: i64 = 60;
const ALGORITHM: &str = "RS256";
const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("there is no `Authorization: Bearer TOKEN`")]
    Missing,
    #[error("the token is no JSON Web Token")]
    Malformed,
    #[error("the token is not signed by RS256")]
    Algorithm,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token is not Google's (iss)")]
    Issuer,
    #[error("the token is for another audience (aud)")]
    Audience,
    #[error("the token has expired (exp)")]
    Expired,
    #[error("the token is of the future (iat)")]
    Early,
    #[error("the token is of another service account (email)")]
    Account,
    #[error("the address of the token's account is not verified (email_verified)")]
    Unverified,
}

impl TokenError {
    /// Code for programs.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Malformed => "token_malformed",
            Self::Algorithm => "token_algorithm",
            Self::Signature => "token_signature",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Expired => "token_expired",
            Self::Early => "token_early",
            Self::Account => "token_account",
            Self::Unverified => "token_unverified",
        }
    }

    /// Whether the token is good, of an account that may not push.
    pub(super) const fn is_of_wrong_account(self) -> bool {
        matches!(self, Self::Account | Self::Unverified)
    }
}

/// A token as it came.
pub(super) struct Token<'a> {
    /// What is signed: header and claims as sent.
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
    /// Id of the key that it says it is signed with.
    pub(super) key_id: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// Extensions that must be understood; none is.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// What a token says, once its signature is checked.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Claims {
    iss: String,
    pub(super) aud: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    email_verified: bool,
    /// Seconds since the epoch.
    exp: i64,
    iat: i64,
}

impl<'a> Token<'a> {
    /// The token of an `Authorization` header.
    pub(super) fn of_header(authorization: Option<&'a str>) -> Result<Self, TokenError> {
        let (scheme, token) =
            authorization.and_then(|value| value.trim().split_once(' ')).ok_or(TokenError::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(TokenError::Missing);
        }
        let token = token.trim();
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = part(header)?;
        if header.alg != ALGORITHM || header.crit.is_some() {
            return Err(TokenError::Algorithm);
        }
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        Ok(Self { signed, claims, signature, key_id: header.kid })
    }

    /// Its claims, if the key signed it.
    pub(super) fn claims(&self, key: &ParsedPublicKey) -> Result<Claims, TokenError> {
        key.verify_sig(self.signed.as_bytes(), &self.signature).map_err(|_| TokenError::Signature)?;
        part(self.claims)
    }
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, TokenError> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
}

impl Claims {
    /// Checks issuer and times; `now` in seconds since the epoch.
    pub(super) fn check_issue(&self, now: i64) -> Result<(), TokenError> {
        if !ISSUERS.contains(&self.iss.as_str()) {
            return Err(TokenError::Issuer);
        }
        if self.exp.saturating_add(SKEW_SECONDS) <= now {
            return Err(TokenError::Expired);
        }
        if self.iat.saturating_sub(SKEW_SECONDS) > now {
            return Err(TokenError::Early);
        }
        Ok(())
    }

    /// Checks for whom the token is, and whose it is.
    pub(super) fn check_parties(&self, audience: &str, account: &str) -> Result<(), TokenError> {
        if self.aud != audience {
            return Err(TokenError::Audience);
        }
        if self.email != account {
            return Err(TokenError::Account);
        }
        if self.email_verified { Ok(()) } else { Err(TokenError::Unverified) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sawlog_seams::SystemClock;
    use serde_json::{Value, json};

    use super::*;
    use crate::pubsub::push::keys::{KeyError, KeySet};
    use crate::pubsub::push::testing::{ACCOUNT, AUDIENCE, Issuer, NOW, Signer, claims};

    async fn checked(keys: &KeySet, token: &str) -> Result<(), TokenError> {
        let header = format!("Bearer {token}");
        let token = Token::of_header(Some(&header))?;
        let key = match keys.key(&token.key_id).await {
            Ok(key) => key,
            Err(error) => panic!("{error}"),
        };
        let claims = token.claims(&key)?;
        claims.check_issue(NOW)?;
        claims.check_parties(AUDIENCE, ACCOUNT)
    }

    fn changed(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    #[tokio::test]
    async fn only_tokens_that_google_signed_for_this_account_and_audience_count() {
        let signer = Signer::new("k");
        let issuer = Issuer::start("max-age=3600", &[&signer]).await;
        let keys = KeySet::new(&issuer.url, Arc::new(SystemClock::new())).expect("a client");
        let good = signer.token(&claims());
        assert_eq!(checked(&keys, &good).await, Ok(()));
        assert_eq!(checked(&keys, &signer.token(&changed("iss", json!("accounts.google.com")))).await, Ok(()));
        assert_eq!(checked(&keys, &signer.token(&changed("exp", json!(NOW - 30)))).await, Ok(()), "within the skew");
        for (name, value, error) in [
            ("iss", json!("https://accounts.example"), TokenError::Issuer),
            ("aud", json!("https://other.example"), TokenError::Audience),
            ("exp", json!(NOW - 61), TokenError::Expired),
            ("iat", json!(NOW + 61), TokenError::Early),
            ("email", json!("other@p.iam.gserviceaccount.com"), TokenError::Account),
            ("email", Value::Null, TokenError::Malformed),
            ("email_verified", json!(false), TokenError::Unverified),
            ("exp", json!("soon"), TokenError::Malformed),
        ] {
            assert_eq!(checked(&keys, &signer.token(&changed(name, value))).await, Err(error), "{name}");
        }
        let stranger = Signer::new("k");
        assert_eq!(checked(&keys, &stranger.token(&claims())).await, Err(TokenError::Signature));
        let mut parts: Vec<&str> = good.split('.').collect();
        let forged = BASE64_URL_SAFE_NO_PAD.encode(changed("sub", json!("2")).to_string());
        parts[1] = &forged;
        assert_eq!(checked(&keys, &parts.join(".")).await, Err(TokenError::Signature));
    }

    #[tokio::test]
    async fn no_token_chooses_its_algorithm() {
        let signer = Signer::new("k");
        let issuer = Issuer::start("max-age=3600", &[&signer]).await;
        let keys = KeySet::new(&issuer.url, Arc::new(SystemClock::new())).expect("a client");
        let with_header = |header: Value, signature: &[u8]| {
            let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
            let [header, claims] = [header, claims()].map(|part| encode(part.to_string().as_bytes()));
            format!("{header}.{claims}.{}", encode(signature))
        };
        for algorithm in ["none", "HS256", "RS384", "PS256", "rs256"] {
            let token = with_header(json!({"alg": algorithm, "kid": "k"}), b"");
            assert_eq!(checked(&keys, &token).await, Err(TokenError::Algorithm), "{algorithm}");
        }
        // Signed with the public key as if it were a secret, as libraries once took it.
        let modulus = signer.public_key()["n"].as_str().expect("text").as_bytes().to_vec();
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &modulus);
        let unsigned = with_header(json!({"alg": "HS256", "kid": "k"}), b"");
        let signed = unsigned.trim_end_matches('.');
        let signature = BASE64_URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&secret, signed.as_bytes()));
        assert_eq!(checked(&keys, &format!("{signed}.{signature}")).await, Err(TokenError::Algorithm));
        let extended = with_header(json!({"alg": "RS256", "kid": "k", "crit": ["b64"]}), b"");
        assert_eq!(checked(&keys, &extended).await, Err(TokenError::Algorithm));
        let other = Signer::new("unknown").token(&claims());
        let header = format!("Bearer {other}");
        let token = Token::of_header(Some(&header)).expect("a token");
        assert_eq!(keys.key(&token.key_id).await.err(), Some(KeyError::Unknown));
    }

    #[test]
    fn what_is_no_token_is_told_from_one_that_is_missing() {
        let error = |header: Option<&str>| Token::of_header(header).err();
        assert_eq!(error(None), Some(TokenError::Missing));
        assert_eq!(error(Some("Basic YTpi")), Some(TokenError::Missing));
        assert_eq!(error(Some("Bearer")), Some(TokenError::Missing));
        for token in ["sawlog_1_2", "a.b", "a.b.c", "..", "e30.e30.e30", "e30.e30.e30.e30"] {
            assert_eq!(error(Some(&format!("Bearer {token}"))), Some(TokenError::Malformed), "{token}");
        }
        let long = format!("Bearer {}", "a.".repeat(TOKEN_BYTES_MAX));
        assert_eq!(error(Some(&long)), Some(TokenError::Malformed));
    }
}
