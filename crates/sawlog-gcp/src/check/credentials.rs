//! What a worker shows to be let in, as far as it may be told.
//!
//! For: kind and account of the application default credentials, and whether they give a token. Secrets are never part of a
//! finding. Not for: what the account may do.

use std::path::PathBuf;

use google_cloud_auth::credentials::Builder;
use http::Extensions;
use serde_json::Value;
use tokio::time::timeout;

use super::CheckOptions;
use super::finding::{About, Finding};
use super::grants::Member;
use crate::access::Access;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// A file of credentials.
#[derive(Clone)]
pub struct CredentialsFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its content, or why it cannot be read.
    pub content: Result<Vec<u8>, String>,
}

impl std::fmt::Debug for CredentialsFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CredentialsFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Who the worker is, and what was found about it.
pub(super) async fn check(options: &CheckOptions) -> (Member, Vec<Finding>) {
    let unnamed = Member("serviceAccount:ACCOUNT".to_owned());
    let about = About::new("Google Cloud", "credentials");
    if accesses(options).all(|access| access.credentials().is_some()) {
        return (unnamed, vec![about.ok("kind", "none are sent: every endpoint is an emulator's")]);
    }
    let (kind, member) = match options.credentials.as_ref().map(|file| (file, &file.content)) {
        Some((file, Err(problem))) => {
            let detail = format!("{} cannot be read: {problem}", file.path.display());
            return (unnamed, vec![about.lacking("kind", detail, "correct GOOGLE_APPLICATION_CREDENTIALS")]);
        }
        Some((file, Ok(content))) => match described(content) {
            Some((kind, member)) => (format!("{kind}, of {}", file.path.display()), member),
            None => {
                let detail = format!("{} is no file of credentials", file.path.display());
                return (unnamed, vec![about.lacking("kind", detail, "correct GOOGLE_APPLICATION_CREDENTIALS")]);
            }
        },
        None => ("the account of this machine, of its metadata server".to_owned(), None),
    };
    let account = member.as_ref().map_or_else(|| "the file does not name it".to_owned(), |Member(name)| name.clone());
    let mut findings = vec![about.ok("kind", kind), about.ok("account", account)];
    findings.push(token(options, &about).await);
    (member.unwrap_or(unnamed), findings)
}

fn accesses(options: &CheckOptions) -> impl Iterator<Item = &Access> {
    let lists = options.subscriptions.iter().chain(&options.entries).chain(&options.bucket).chain(&options.log);
    let named = lists.map(|(_, access)| access);
    let tables = options.bigquery.iter().flat_map(|dataset| [&dataset.access, &dataset.storage]);
    named.chain(tables).chain(options.bigtable.iter().map(|tables| &tables.access))
}

/// Kind and account that a file of credentials names.
fn described(content: &[u8]) -> Option<(String, Option<Member>)> {
    let value: Value = serde_json::from_slice(content).ok()?;
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let impersonated = || {
        let url = text("service_account_impersonation_url")?;
        let (_, account) = url.rsplit_once('/')?;
        account.strip_suffix(":generateAccessToken").map(|email| Member(format!("serviceAccount:{email}")))
    };
    Some(match text("type")?.as_str() {
        "service_account" => {
            let member = text("client_email").map(|email| Member(format!("serviceAccount:{email}")));
            ("a key of a service account".to_owned(), member)
        }
        "authorized_user" => ("the login of a person".to_owned(), None),
        "external_account" => ("workload identity federation".to_owned(), impersonated()),
        "impersonated_service_account" => ("a service account that is impersonated".to_owned(), impersonated()),
        other => (format!("of type {other:?}"), None),
    })
}

async fn token(options: &CheckOptions, about: &About) -> Finding {
    let remedy = "run as a service account, or let GOOGLE_APPLICATION_CREDENTIALS name a file with credentials of one";
    let credentials = match Builder::default().with_scopes([SCOPE]).build() {
        Ok(credentials) => credentials,
        Err(error) => return about.lacking("token", error.to_string(), remedy),
    };
    match timeout(options.deadline, credentials.headers(Extensions::new())).await {
        Ok(Ok(_)) => about.ok("token", ""),
        Ok(Err(error)) if error.is_transient() => about.unknown("token", error.to_string()),
        Ok(Err(error)) => about.lacking("token", error.to_string(), remedy),
        Err(_) => about.unknown("token", format!("none within {:?}", options.deadline)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_accounts_are_told_and_secrets_are_not() {
        let key = br#"{"type":"service_account","client_email":"w@p.iam","private_key":"SECRET"}"#;
        let member = |text: &str| Some(Member(text.to_owned()));
        assert_eq!(described(key), Some(("a key of a service account".to_owned(), member("serviceAccount:w@p.iam"))));
        let federated = br#"{"type":"external_account",
            "service_account_impersonation_url":"https://h/v1/projects/-/serviceAccounts/w@p.iam:generateAccessToken"}"#;
        assert_eq!(described(federated).expect("known").1, member("serviceAccount:w@p.iam"));
        assert_eq!(described(br#"{"type":"authorized_user","refresh_token":"SECRET"}"#).expect("known").1, None);
        assert_eq!((described(b"{}"), described(b"no JSON")), (None, None));
        let file = CredentialsFile { path: "/k".into(), content: Ok(key.to_vec()) };
        assert!(!format!("{file:?}").contains("SECRET"));
    }
}
