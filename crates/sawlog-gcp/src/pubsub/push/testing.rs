//! Keys, tokens and an issuer of keys for tests.

use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub(super) const AUDIENCE: &str = "https://logs.example/v1/pubsub/push";
pub(super) const ACCOUNT: &str = "push@p.iam.gserviceaccount.com";
/// Seconds since the epoch, at which [`claims`] count.
pub(super) const NOW: i64 = 1_800_000_000;

/// Claims that are good at [`NOW`].
pub(super) fn claims() -> Value {
    json!({
        "iss": "https://accounts.google.com", "aud": AUDIENCE, "sub": "1", "email": ACCOUNT, "email_verified": true,
        "iat": NOW - 10, "exp": NOW + 3_600,
    })
}

/// A key of an issuer.
pub(super) struct Signer {
    id: String,
    pair: RsaKeyPair,
}

impl Signer {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), pair: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key") }
    }

    /// The key for others, as a JSON Web Key.
    pub(super) fn public_key(&self) -> Value {
        // SEQUENCE { INTEGER n, INTEGER e } of RFC 8017; of 2048 bits n has a zero before its 256 bytes, and e is 65537.
        let der = self.pair.public_key().as_ref();
        let encode = |bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let (n, e) = (encode(&der[9..265]), encode(&der[267..270]));
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id, "n": n, "e": e})
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.id});
        let [header, claims] = [&header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .expect("a signature");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

#[derive(Default)]
struct Served {
    answer: String,
    requests: usize,
}

/// Serves keys over HTTP.
pub(super) struct Issuer {
    pub(super) url: String,
    served: Arc<Mutex<Served>>,
}

impl Issuer {
    pub(super) async fn start(cache_control: &str, signers: &[&Signer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/certs", listener.local_addr().expect("an address"));
        let served: Arc<Mutex<Served>> = Arc::default();
        let issuer = Self { url, served: Arc::clone(&served) };
        issuer.serve(cache_control, signers);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0)
                {
                }
                let answer = {
                    let mut served = served.lock().expect("no panic");
                    served.requests += 1;
                    served.answer.clone()
                };
                stream.write_all(answer.as_bytes()).await.expect("sent");
            }
        });
        issuer
    }

    pub(super) fn serve(&self, cache_control: &str, signers: &[&Signer]) {
        let keys: Vec<Value> = signers.iter().map(|signer| signer.public_key()).collect();
        let body = json!({ "keys": keys }).to_string();
        let length = body.len();
        self.served.lock().expect("no panic").answer = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: {cache_control}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }

    pub(super) fn fail(&self) {
        let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        answer.clone_into(&mut self.served.lock().expect("no panic").answer);
    }

    pub(super) fn requests(&self) -> usize {
        self.served.lock().expect("no panic").requests
    }
}
