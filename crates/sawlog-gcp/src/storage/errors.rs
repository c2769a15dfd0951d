//! What came of a call to Cloud Storage, in the lake's terms.
//!
//! For: telling what may pass from what will not, and saying which object, which bucket and what to do. Not for: repeats
//! ([`super::retry`]).

use http::StatusCode;
use object_store::client::HttpError;
use sawlog_seams::lake::LakeError;

use super::transport::Refusal;
use crate::call::deepest;

/// The role that has every permission the lake needs.
pub(super) const ROLE: &str = "roles/storage.objectUser";

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no such object.
    NotFound,
    /// The name is taken.
    Taken,
    /// The same call may succeed later.
    Temporary(String),
    /// The same call fails again.
    Final(String),
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        match &error {
            object_store::Error::NotFound { .. } => return Self::NotFound,
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => return Self::Taken,
            _ => {}
        }
        if let Some(refusal) = find::<Refusal>(&error) {
            return match refusal.is_temporary() {
                true => Self::Temporary(refusal.to_string()),
                false => Self::Final(with_remedy(refusal)),
            };
        }
        match find::<HttpError>(&error) {
            // The connection, or what came over it: the lake's calls may all be repeated.
            Some(http) => Self::Temporary(deepest(http)),
            None => Self::Final(deepest(&error)),
        }
    }
}

impl Failure {
    /// The failure as the lake's error about an object.
    ///
    /// `url` is where the object is, `gs://BUCKET/…`.
    pub(super) fn about(self, key: &str, url: &str) -> LakeError {
        let key = key.to_owned();
        match self {
            Self::NotFound => LakeError::NotFound { key },
            Self::Taken => LakeError::Conflict { key },
            Self::Temporary(problem) => LakeError::Unavailable { key, problem: format!("{url}: {problem}") },
            Self::Final(problem) => LakeError::Backend { key, problem: format!("{url}: {problem}") },
        }
    }
}

fn with_remedy(refusal: &Refusal) -> String {
    let remedy = match refusal {
        Refusal::Answer { status, code, .. } => match *status {
            StatusCode::FORBIDDEN => format!("grant this worker's service account {ROLE} on the bucket"),
            StatusCode::UNAUTHORIZED => {
                "the credentials have run out or are of no service account: renew them".to_owned()
            }
            StatusCode::NOT_FOUND if code == "NoSuchBucket" => "make the bucket, or correct its name".to_owned(),
            _ => return refusal.to_string(),
        },
        Refusal::NoCredentials { .. } => "run this worker as a service account of Google Cloud, or let \
             GOOGLE_APPLICATION_CREDENTIALS name a file with the credentials of one"
            .to_owned(),
        Refusal::CredentialsAway { .. } => return refusal.to_string(),
    };
    format!("{refusal}; {remedy}")
}

/// The error of that type in the chain of causes.
fn find<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        current = error.source();
    }
    None
}
