//! Cloud Logging: whether entries can be read, and own ones written.
//!
//! Projects, folders and organizations tell their permissions by another service (Resource Manager), which need not be enabled
//! where Sawlog runs. So the calls themselves are made: a list of one entry, and a write that is a dry run.

use serde_json::json;

use super::Checked;
use super::finding::About;
use super::grants::{Member, On, grant};
use super::rest::{Answer, Context, Failed, Rest};
use super::surroundings::Seen;
use crate::access::Access;

const HOST: &str = "logging.googleapis.com";

/// Whether entries of a resource can be listed, which a tail needs too.
pub(super) async fn check_entries(context: &Context<'_>, member: &Member, resource: &str, access: &Access) -> Checked {
    let about = About::new("Cloud Logging", resource);
    let list = json!({"resourceNames": [resource], "pageSize": 1, "orderBy": "timestamp desc"});
    let answer = match Rest::new(context, access, HOST) {
        Ok(rest) => rest.post("/v2/entries:list", &list).await,
        Err(failed) => Err(failed),
    };
    let on = match resource.split('/').collect::<Vec<_>>()[..] {
        ["folders", id, ..] => On::Folder(id),
        ["organizations", id, ..] => On::Organization(id),
        ["projects", id, ..] => On::Project(id),
        _ => On::Project(context.project),
    };
    of_call(&about, "logging.logEntries.list", on, member, answer)
}

/// Whether entries of the own log can be written.
pub(super) async fn check_log(context: &Context<'_>, member: &Member, log_id: &str, access: &Access) -> Checked {
    // The service wants the id in the form of a URL.
    let escaped: String = url::form_urlencoded::byte_serialize(log_id.as_bytes()).collect();
    let name = format!("projects/{}/logs/{escaped}", context.project);
    let about = About::new("Cloud Logging", name.clone());
    let write = json!({
        "logName": name, "resource": {"type": "global"}, "dryRun": true,
        "entries": [{"textPayload": "`sawlog gcp check` asks whether this could be written"}],
    });
    let answer = match Rest::new(context, access, HOST) {
        Ok(rest) => rest.post("/v2/entries:write", &write).await,
        Err(failed) => Err(failed),
    };
    of_call(&about, "logging.logEntries.create", On::Project(context.project), member, answer)
}

fn of_call(
    about: &About,
    permission: &'static str,
    on: On<'_>,
    member: &Member,
    answer: Result<Answer, Failed>,
) -> Checked {
    match answer {
        Ok(answer) => {
            let seen = Seen { ahead_seconds: answer.ahead_seconds, ..Seen::default() };
            (vec![about.ok(permission, "")], seen)
        }
        Err(Failed::Denied(said)) => (vec![about.denied(grant(permission, on, member), said)], Seen::default()),
        Err(Failed::Missing) => {
            let remedy = "correct the name: projects/ID, folders/ID, organizations/ID or a view by its full name";
            (vec![about.lacking("exists", "", remedy)], Seen::default())
        }
        Err(failed) => (vec![about.unknown(permission, failed.to_string())], Seen::default()),
    }
}
