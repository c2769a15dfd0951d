//! How Google's services are reached: endpoint and credentials.
//!
//! Rules: without an endpoint the service's own is used, with the application default credentials (environment, service
//! account, workload identity, metadata server). An endpoint that begins with `http://` is a test double or an emulator on
//! this machine, which gets no credentials: they never travel without TLS.

use google_cloud_auth::credentials::{Credentials, anonymous};

/// Where a service is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// URL in place of the service's own.
    pub endpoint: Option<String>,
}

/// An endpoint that cannot be one.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{endpoint:?} is no endpoint; write https://HOST, or http://HOST:PORT for an emulator")]
pub struct AccessError {
    endpoint: String,
}

impl Access {
    /// Access by an endpoint, or to the service's own.
    ///
    /// # Errors
    /// When the endpoint is no URL of `http` or `https`.
    pub fn new(endpoint: Option<String>) -> Result<Self, AccessError> {
        let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        match endpoint {
            Some(endpoint) if !is_url(&endpoint) => Err(AccessError { endpoint }),
            endpoint => Ok(Self { endpoint }),
        }
    }

    /// Credentials other than the application default ones.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        let is_plain = self.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        is_plain.then(|| anonymous::Builder::new().build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_encrypted_gets_no_credentials() {
        let access = |endpoint: &str| Access::new(Some(endpoint.to_owned()));
        assert!(access("http://127.0.0.1:8085").expect("a URL").credentials().is_some());
        assert!(access("https://pubsub.example").expect("a URL").credentials().is_none());
        assert!(Access::default().credentials().is_none());
        let error = access("127.0.0.1:8085").expect_err("no URL").to_string();
        assert!(error.contains("http://HOST:PORT"), "{error}");
    }
}
