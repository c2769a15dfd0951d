//! Subscriptions: whether messages come, to whom, and what becomes of those that nobody takes for long.

use std::time::Duration;

use serde_json::Value;

use super::Checked;
use super::finding::{About, Finding};
use super::grants::{Member, On, held};
use super::rest::{Context, Failed, Rest};
use super::surroundings::Seen;
use crate::access::Access;

const HOST: &str = "pubsub.googleapis.com";
const NEEDED: [&str; 1] = ["pubsub.subscriptions.consume"];
/// A worker that is away for so long finds its messages still there.
const RETENTION_MIN: Duration = Duration::from_secs(86_400);
/// Messages are in a worker's hands for so long before it extends their leases.
const ACK_DEADLINE_MIN: u64 = 20;

pub(super) async fn check(context: &Context<'_>, member: &Member, name: &str, access: &Access) -> Checked {
    let about = About::new("Pub/Sub", name);
    let rest = match Rest::new(context, access, HOST) {
        Ok(rest) => rest,
        Err(failed) => return (vec![about.unknown("exists", failed.to_string())], Seen::default()),
    };
    let path = format!("/v1/{name}");
    let (subscription, tested) = tokio::join!(rest.get(&path), rest.test_permissions(&path, &NEEDED));
    let mut findings = Vec::new();
    let mut seen = Seen::default();
    match subscription {
        Ok(answer) => {
            findings.push(about.ok("exists", ""));
            seen.ahead_seconds = answer.ahead_seconds;
            findings.extend(settings(&about, &answer.value));
            findings.extend(topics(&rest, &answer.value).await);
        }
        Err(Failed::Missing) => findings.push(about.lacking("exists", "", make(name))),
        // A subscriber may consume without being allowed to look at the subscription.
        Err(Failed::Denied(_)) => {
            let detail = "pubsub.subscriptions.get is not held (roles/pubsub.viewer has it)";
            findings.push(about.unseen("settings", detail));
        }
        Err(failed) => findings.push(about.unknown("exists", failed.to_string())),
    }
    findings.extend(held(&about, &NEEDED, tested, On::Subscription(name), member));
    (findings, seen)
}

fn make(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        ["projects", project, _, id] => {
            format!(
                "gcloud pubsub subscriptions create {id} --project={project} --topic=TOPIC --expiration-period=never"
            )
        }
        _ => "correct the name: projects/PROJECT/subscriptions/NAME".to_owned(),
    }
}

/// What of the settings keeps messages away, or lets them go before they are stored.
fn settings(about: &About, value: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_set = |field: &str| value[field].as_object().is_some_and(|object| !object.is_empty());
    for (field, to) in
        [("pushConfig", "a URL"), ("bigqueryConfig", "BigQuery"), ("cloudStorageConfig", "Cloud Storage")]
    {
        if is_set(field) {
            let detail = format!("its messages are pushed to {to}");
            findings.push(about.lacking("delivery", detail, "make another subscription of the topic that is pulled"));
        }
    }
    if value["detached"].as_bool() == Some(true) || value["topic"].as_str() == Some("_deleted-topic_") {
        findings.push(about.lacking("topic", "it has none any more", "make it again, of a topic that is there"));
    }
    if value["state"] == "RESOURCE_ERROR" {
        findings.push(about.lacking("state", "RESOURCE_ERROR", "look at it in the console, which says what is wrong"));
    }
    let update = |option: &str| {
        let name = about.resource.rsplit('/').next().unwrap_or_default();
        format!("gcloud pubsub subscriptions update {name} {option}")
    };
    let deadline = value["ackDeadlineSeconds"].as_u64().unwrap_or(10);
    if deadline < ACK_DEADLINE_MIN {
        let detail =
            format!("{deadline} s: under load messages come again before they are stored, and count as duplicates");
        findings.push(about.warning("ack deadline", detail, update("--ack-deadline=60")));
    }
    if let Some(ttl) = value["expirationPolicy"]["ttl"].as_str() {
        let detail = format!("it is deleted, with its messages, when no worker has asked for {ttl}");
        findings.push(about.warning("expiration", detail, update("--expiration-period=never")));
    }
    if let Some(retention) = seconds(&value["messageRetentionDuration"]).filter(|kept| *kept < RETENTION_MIN) {
        let detail = format!("messages are gone when no worker takes them for {} s", retention.as_secs());
        findings.push(about.warning("retention", detail, update("--message-retention-duration=7d")));
    }
    if !is_set("deadLetterPolicy") {
        let detail = "none: a message that is never acknowledged comes again until its retention ends";
        findings.push(about.warning("dead-letter topic", detail, update("--dead-letter-topic=TOPIC")));
    }
    findings
}

/// A duration in Google's JSON form: `604800s`.
fn seconds(value: &Value) -> Option<Duration> {
    value.as_str()?.strip_suffix('s')?.parse().ok().map(Duration::from_secs_f64)
}

/// The topics that a subscription names.
async fn topics(rest: &Rest<'_>, subscription: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let names = [&subscription["topic"], &subscription["deadLetterPolicy"]["deadLetterTopic"]];
    for name in names.into_iter().filter_map(Value::as_str).filter(|name| name.starts_with("projects/")) {
        let about = About::new("Pub/Sub", name);
        findings.push(match rest.get(&format!("/v1/{name}")).await {
            Ok(_) => about.ok("exists", ""),
            Err(Failed::Missing) => about.lacking("exists", "", format!("gcloud pubsub topics create {name}")),
            Err(Failed::Denied(_)) => {
                about.unseen("exists", "pubsub.topics.get is not held (roles/pubsub.viewer has it)")
            }
            Err(failed) => about.unknown("exists", failed.to_string()),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::State;
    use super::*;

    #[track_caller]
    fn check(value: &Value, expected: &[(&str, State)]) {
        let findings = settings(&About::new("Pub/Sub", "projects/p/subscriptions/s"), value);
        let found: Vec<(&str, State)> = findings.iter().map(|one| (one.subject.as_str(), one.state)).collect();
        assert_eq!(found, expected, "{value}");
        assert!(findings.iter().all(|one| !one.remedy.is_empty()));
    }

    #[test]
    fn settings_that_keep_or_lose_messages_are_told() {
        let good = json!({"topic": "projects/p/topics/t", "ackDeadlineSeconds": 60, "messageRetentionDuration": "604800s",
            "pushConfig": {}, "expirationPolicy": {}, "deadLetterPolicy": {"deadLetterTopic": "projects/p/topics/d"}});
        check(&good, &[]);
        let with = |field: &str, value: Value| {
            let mut changed = good.clone();
            changed[field] = value;
            changed
        };
        check(&with("ackDeadlineSeconds", json!(10)), &[("ack deadline", State::Warning)]);
        check(&with("messageRetentionDuration", json!("600s")), &[("retention", State::Warning)]);
        check(&with("expirationPolicy", json!({"ttl": "2678400s"})), &[("expiration", State::Warning)]);
        check(&with("deadLetterPolicy", Value::Null), &[("dead-letter topic", State::Warning)]);
        check(&with("pushConfig", json!({"pushEndpoint": "https://x"})), &[("delivery", State::Lacking)]);
        check(&with("topic", json!("_deleted-topic_")), &[("topic", State::Lacking)]);
    }
}
