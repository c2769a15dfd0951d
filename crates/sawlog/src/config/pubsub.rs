//! The list `[[pubsub]]` of subscriptions to take messages from.
//!
//! For: its shape and its mistakes. Not for: receiving (`sawlog_gcp::pubsub`).

use std::net::SocketAddr;

use sawlog_gcp::Access;
use sawlog_gcp::pubsub::push::GOOGLE_KEYS_URL;
use serde::Deserialize;
use toml::Value;

use super::values::FromSetting;
use super::{ByteSize, ConfigProblem};

const SOURCE_BYTES_MAX: usize = 64;
/// Outstanding messages and bytes by default: those of a second at a million a minute, twice.
const MESSAGES_MAX: u32 = 40_000;
const BYTES_MAX: u64 = 64 << 20;

/// How messages come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PubsubMode {
    /// They are fetched from the service.
    Pull,
    /// The service sends them, with tokens.
    Push(PushConfig),
}

/// Which tokens count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PushConfig {
    pub(crate) audience: String,
    pub(crate) service_account: String,
    pub(crate) keys_url: String,
}

/// A subscription as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PubsubConfig {
    pub(crate) subscription: String,
    pub(crate) source: String,
    pub(crate) mode: PubsubMode,
    pub(crate) access: Access,
    pub(crate) messages_max: u32,
    pub(crate) bytes_max: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PubsubSection {
    subscription: String,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    mode: ModeName,
    #[serde(default)]
    audience: Option<String>,
    #[serde(default)]
    service_account: Option<String>,
    #[serde(default)]
    keys_url: Option<String>,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    messages_max: Option<u32>,
    #[serde(default)]
    bytes_max: Option<Value>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ModeName {
    #[default]
    Pull,
    Push,
}

/// Reads the list; what is wrong is left out and reported.
pub(super) fn read(value: &Value) -> (Vec<PubsubConfig>, Vec<ConfigProblem>) {
    let mut problems = Vec::new();
    let mut note = |index: Option<usize>, problem: String, hint: &str| {
        let key = index.map_or("pubsub".to_owned(), |index| format!("pubsub[{index}]"));
        problems.push(ConfigProblem { origin: String::new(), key, problem, hint: hint.to_owned() });
    };
    let Value::Array(sections) = value else {
        note(None, "it is no list".to_owned(), "write each of them as [[pubsub]]");
        return (Vec::new(), problems);
    };
    let mut found: Vec<PubsubConfig> = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        let read = section.clone().try_into().map_err(|error: toml::de::Error| {
            let problem = error.message().trim().replace('\n', " ");
            (problem, "the settings are subscription, source, mode, audience, service-account, keys-url, endpoint, messages-max and \
                  bytes-max".to_owned())
        });
        match read.and_then(checked) {
            Ok(one) if found.iter().any(|other| other.subscription == one.subscription) => {
                note(Some(index), "another [[pubsub]] has the same subscription".to_owned(), "remove one of them");
            }
            Ok(one) if found.iter().any(|other| other.source == one.source) => {
                let problem = format!("another [[pubsub]] has the source {:?}", one.source);
                note(Some(index), problem, "give each a `source` of its own: ids are unique within a source");
            }
            Ok(one) => found.push(one),
            Err((problem, hint)) => note(Some(index), problem, &hint),
        }
    }
    (found, problems)
}

fn checked(section: PubsubSection) -> Result<PubsubConfig, (String, String)> {
    let mode = mode_of(&section)?;
    let PubsubSection { subscription, source, endpoint, messages_max, bytes_max, .. } = section;
    let parts: Vec<&str> = subscription.split('/').collect();
    let ["projects", project, "subscriptions", name] = parts[..] else {
        let problem = format!("{subscription:?} is no name of a subscription");
        return Err((problem, "write projects/PROJECT/subscriptions/NAME".to_owned()));
    };
    if project.is_empty() || name.is_empty() {
        let problem = format!("{subscription:?} names no project or no subscription");
        return Err((problem, "write projects/PROJECT/subscriptions/NAME".to_owned()));
    }
    let source = source.unwrap_or_else(|| name.to_ascii_lowercase().replace(['.', '~', '+', '%'], "-"));
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if source.is_empty() || source.len() > SOURCE_BYTES_MAX || !source.bytes().all(is_allowed) {
        let hint = "give `source` 1 to 64 of the characters a-z, 0-9, _ and -";
        return Err((format!("{source:?} is no source name"), hint.to_owned()));
    }
    let access = Access::new(endpoint).map_err(|error| (error.to_string(), "correct `endpoint`".to_owned()))?;
    let messages_max = messages_max.unwrap_or(MESSAGES_MAX);
    if messages_max == 0 {
        return Err(("messages-max is 0".to_owned(), "give at least 1".to_owned()));
    }
    let bytes_max = match &bytes_max {
        None => BYTES_MAX,
        Some(value) => match ByteSize::from_setting(value) {
            Ok(size) if size.bytes() > 0 => size.bytes(),
            _ => return Err((format!("bytes-max = {value} is no size"), "write it like 64MiB".to_owned())),
        },
    };
    Ok(PubsubConfig { subscription, source, mode, access, messages_max, bytes_max })
}

/// How the messages come, with what a push must have and a pull must not.
fn mode_of(section: &PubsubSection) -> Result<PubsubMode, (String, String)> {
    let problem = |problem: String, hint: &str| Err((problem, hint.to_owned()));
    let PubsubSection { audience, service_account, keys_url, .. } = section;
    if section.mode == ModeName::Pull {
        let push_only = [("audience", audience), ("service-account", service_account), ("keys-url", keys_url)];
        return match push_only.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => problem(format!("{name} is for pushes"), "set mode = \"push\", or remove it"),
            None => Ok(PubsubMode::Pull),
        };
    }
    if section.endpoint.is_some() {
        return problem("endpoint is for pulls: who pushes comes here".to_owned(), "remove `endpoint`");
    }
    let Some(audience) = audience.clone().filter(|audience| !audience.is_empty()) else {
        let hint = "set it to the subscription's --push-auth-token-audience, or its push endpoint without one";
        return problem("audience is missing".to_owned(), hint);
    };
    let Some(service_account) = service_account.clone().filter(|account| account.contains('@')) else {
        let hint = "set it to the subscription's --push-auth-service-account, NAME@PROJECT.iam.gserviceaccount.com";
        return problem("service-account is missing, or no address".to_owned(), hint);
    };
    let keys_url = keys_url.clone().unwrap_or_else(|| GOOGLE_KEYS_URL.to_owned());
    if !is_safe_for_keys(&keys_url) {
        let hint = "write https://HOST/PATH; http:// is for doubles on this machine: who changes keys on the way lets anyone in";
        return problem(format!("keys-url = {keys_url:?} is no place for keys"), hint);
    }
    Ok(PubsubMode::Push(PushConfig { audience, service_account, keys_url }))
}

fn is_safe_for_keys(url: &str) -> bool {
    let plain_host = url.strip_prefix("http://").and_then(|rest| rest.split(['/', '?', '#']).next());
    match plain_host {
        Some(host) => host.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback()),
        None => url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Vec<PubsubConfig>, Vec<String>) {
        let table: toml::Table = text.parse().expect("TOML");
        let (found, problems) = read(&table["pubsub"]);
        (found, problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.problem)).collect())
    }

    #[test]
    fn a_subscription_is_enough() {
        let (found, problems) = read_text(
            "[[pubsub]]\nsubscription = \"projects/p/subscriptions/Orders.v2\"\n[[pubsub]]\n\
             subscription = \"projects/p/subscriptions/b\"\nsource = \"b2\"\nendpoint = \"http://127.0.0.1:1\"\n\
             messages-max = 7\nbytes-max = \"1MiB\"",
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            (found[0].source.as_str(), found[0].messages_max, found[0].bytes_max),
            ("orders-v2", 40_000, 64 << 20)
        );
        assert_eq!((found[1].source.as_str(), found[1].messages_max, found[1].bytes_max), ("b2", 7, 1 << 20));
    }

    #[test]
    fn a_push_needs_to_know_whose_tokens_count() {
        let push = "[[pubsub]]\nsubscription = \"projects/p/subscriptions/a\"\nmode = \"push\"\n";
        let (audience, account) =
            ("audience = \"https://h/push\"\n", "service-account = \"a@p.iam.gserviceaccount.com\"\n");
        let (found, problems) = read_text(&[push, audience, account].concat());
        assert!(problems.is_empty(), "{problems:?}");
        let PubsubMode::Push(config) = &found[0].mode else { panic!("a push") };
        assert_eq!((config.audience.as_str(), config.keys_url.as_str()), ("https://h/push", GOOGLE_KEYS_URL));
        let local = [push, audience, account, "keys-url = \"http://127.0.0.1:9/certs\"\n"].concat();
        assert!(read_text(&local).1.is_empty());
        for (settings, problem) in [
            (account.to_owned(), "audience is missing"),
            (audience.to_owned(), "service-account is missing"),
            (format!("{audience}service-account = \"me\"\n"), "no address"),
            (format!("{audience}{account}endpoint = \"http://127.0.0.1:9\"\n"), "endpoint is for pulls"),
            (format!("{audience}{account}keys-url = \"http://keys.example/certs\"\n"), "no place for keys"),
            (format!("{audience}{account}keys-url = \"http://127.0.0.1:9@keys.example/certs\"\n"), "no place for keys"),
        ] {
            let (found, problems) = read_text(&format!("{push}{settings}"));
            assert!(found.is_empty() && problems[0].contains(problem), "{settings}: {problems:?}");
        }
        let pull = "[[pubsub]]\nsubscription = \"projects/p/subscriptions/a\"\n";
        assert!(read_text(&[pull, audience].concat()).1[0].contains("audience is for pushes"));
    }

    #[test]
    fn each_mistake_is_named_with_its_section() {
        let name = "subscription = \"projects/p/subscriptions/a\"";
        let sections = [
            "subscription = \"orders\"".to_owned(),
            "subscription = \"projects//subscriptions/a\"".to_owned(),
            format!("{name}\nsource = \"A\""),
            format!("{name}\nendpoint = \"127.0.0.1\""),
            format!("{name}\nmessages-max = 0"),
            format!("{name}\nbytes-max = \"much\""),
            format!("{name}\ntopic = \"t\""),
            name.to_owned(),
            name.to_owned(),
            "subscription = \"projects/q/subscriptions/a\"".to_owned(),
        ];
        let text: String = sections.iter().map(|section| format!("[[pubsub]]\n{section}\n")).collect();
        let (found, problems) = read_text(&text);
        assert_eq!((found.len(), problems.len()), (1, 9), "{problems:#?}");
        assert_eq!(read_text("pubsub = 3").1, ["pubsub: it is no list"]);
    }
}
