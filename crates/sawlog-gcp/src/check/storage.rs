//! The bucket of the lake: whether objects can be put, read and removed, and whether it removes them itself.

use serde_json::Value;

use super::Checked;
use super::finding::{About, Finding};
use super::grants::{Member, On, held};
use super::rest::{Context, Failed, Rest, texts};
use super::surroundings::Seen;
use crate::access::Access;

const HOST: &str = "storage.googleapis.com";
const NEEDED: [&str; 6] = [
    "storage.objects.create",
    "storage.objects.get",
    "storage.objects.list",
    "storage.objects.delete",
    "storage.multipartUploads.create",
    "storage.multipartUploads.abort",
];

pub(super) async fn check(context: &Context<'_>, member: &Member, bucket: &str, access: &Access) -> Checked {
    let about = About::new("Cloud Storage", format!("gs://{bucket}"));
    let rest = match Rest::new(context, access, HOST) {
        Ok(rest) => rest,
        Err(failed) => return (vec![about.unknown("exists", failed.to_string())], Seen::default()),
    };
    let path = format!("/storage/v1/b/{bucket}");
    let asked = format!("{path}/iam/testPermissions?permissions={}", NEEDED.join("&permissions="));
    let (found, tested) = tokio::join!(rest.get(&path), rest.get(&asked));
    let (mut findings, mut seen) = (Vec::new(), Seen::default());
    match found {
        Ok(answer) => {
            findings.push(about.ok("exists", ""));
            seen.ahead_seconds = answer.ahead_seconds;
            if let Some(location) = answer.value["location"].as_str() {
                seen.places.push((about.resource.clone(), location.to_owned()));
            }
            findings.extend(settings(&about, &answer.value));
        }
        Err(Failed::Missing) => {
            let make = format!(
                "gcloud storage buckets create gs://{bucket} --project={} --location=LOCATION",
                context.project
            );
            findings.push(about.lacking("exists", "", make));
        }
        Err(Failed::Denied(_)) => {
            let detail = "storage.buckets.get is not held (roles/storage.bucketViewer has it)";
            findings.push(about.unseen("settings", detail));
        }
        Err(failed) => findings.push(about.unknown("exists", failed.to_string())),
    }
    let tested = tested.map(|answer| texts(&answer.value["permissions"]));
    findings.extend(held(&about, &NEEDED, tested, On::Bucket(bucket), member));
    (findings, seen)
}

/// What of the settings removes objects, or keeps them from being removed.
fn settings(about: &About, value: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    if value["hierarchicalNamespace"]["enabled"].as_bool() == Some(true) {
        let detail = "it is on, and Sawlog was not tried with it";
        findings.push(about.warning("hierarchical namespace", detail, "use a bucket without one"));
    }
    if let Some(kept) = value["retentionPolicy"]["retentionPeriod"].as_str() {
        let detail = format!("objects cannot be removed for {kept} s, those of large uploads under way included");
        let remedy = "use a bucket without a retention policy, unless no object is larger than 64 MiB";
        findings.push(about.warning("retention policy", detail, remedy));
    }
    let rules = value["lifecycle"]["rule"].as_array().map(Vec::as_slice).unwrap_or_default();
    for rule in rules.iter().filter(|rule| rule["action"]["type"] == "Delete") {
        let when = match rule["condition"]["age"].as_u64() {
            Some(days) => format!("of {days} days"),
            None => format!("that meet {}", rule["condition"]),
        };
        let detail = format!("objects {when} are deleted, whatever `retention.lake` says");
        findings.push(about.warning(
            "lifecycle",
            detail,
            "let `[retention]` decide, or see that no recount needs them",
        ));
    }
    if !rules.iter().any(|rule| rule["action"]["type"] == "AbortIncompleteMultipartUpload") {
        let detail = "no rule ends uploads in parts that a crash has left, which are paid for";
        findings.push(about.warning("lifecycle", detail, "add AbortIncompleteMultipartUpload with an age of 1 day"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_that_remove_or_hold_objects_are_told() {
        let subjects = |value: Value| -> Vec<String> {
            settings(&About::new("Cloud Storage", "gs://b"), &value).into_iter().map(|one| one.subject).collect()
        };
        let abort = json!({"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}});
        assert_eq!(subjects(json!({"lifecycle": {"rule": [abort]}})), [""; 0]);
        assert_eq!(subjects(json!({})), ["lifecycle"]);
        let bad = json!({"hierarchicalNamespace": {"enabled": true}, "retentionPolicy": {"retentionPeriod": "86400"},
            "lifecycle": {"rule": [abort, {"action": {"type": "Delete"}, "condition": {"age": 30}}]}});
        assert_eq!(subjects(bad), ["hierarchical namespace", "retention policy", "lifecycle"]);
    }
}
