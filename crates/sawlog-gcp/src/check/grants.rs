//! Which role has a permission, and the command that grants it.
//!
//! Source: Google's "IAM basic and predefined roles reference". Of several roles with a permission the smallest one is named
//! that lets a worker do all that it does with the resource, so that one grant is enough for each.

use super::finding::{About, Finding, Grant};
use super::rest::Failed;

/// Roles by permission.
const ROLES: [(&str, &str); 24] = [
    ("bigquery.datasets.create", "roles/bigquery.user"),
    ("bigquery.datasets.get", "roles/bigquery.dataEditor"),
    ("bigquery.jobs.create", "roles/bigquery.jobUser"),
    ("bigquery.tables.create", "roles/bigquery.dataEditor"),
    ("bigquery.tables.get", "roles/bigquery.dataEditor"),
    ("bigquery.tables.getData", "roles/bigquery.dataEditor"),
    ("bigquery.tables.update", "roles/bigquery.dataEditor"),
    ("bigquery.tables.updateData", "roles/bigquery.dataEditor"),
    ("bigtable.instances.get", "roles/bigtable.viewer"),
    ("bigtable.tables.checkAndMutateRow", "roles/bigtable.user"),
    ("bigtable.tables.create", "roles/bigtable.admin"),
    ("bigtable.tables.get", "roles/bigtable.user"),
    ("bigtable.tables.mutateRows", "roles/bigtable.user"),
    ("bigtable.tables.readRows", "roles/bigtable.user"),
    ("bigtable.tables.update", "roles/bigtable.admin"),
    ("logging.logEntries.create", "roles/logging.logWriter"),
    ("logging.logEntries.list", "roles/logging.viewer"),
    ("pubsub.subscriptions.consume", "roles/pubsub.subscriber"),
    ("storage.multipartUploads.abort", "roles/storage.objectUser"),
    ("storage.multipartUploads.create", "roles/storage.objectUser"),
    ("storage.objects.create", "roles/storage.objectUser"),
    ("storage.objects.delete", "roles/storage.objectUser"),
    ("storage.objects.get", "roles/storage.objectUser"),
    ("storage.objects.list", "roles/storage.objectUser"),
];

/// Who is granted a role, as `gcloud` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member(pub(super) String);

/// What a role is granted on.
#[derive(Clone, Copy, Debug)]
pub(super) enum On<'a> {
    /// A project.
    Project(&'a str),
    /// A folder, by its id.
    Folder(&'a str),
    /// An organization, by its id.
    Organization(&'a str),
    /// A subscription by its full name.
    Subscription(&'a str),
    /// A bucket.
    Bucket(&'a str),
    /// Project and dataset.
    Dataset(&'a str, &'a str),
    /// Project and instance.
    Instance(&'a str, &'a str),
    /// Project, instance and table.
    Table(&'a str, &'a str, &'a str),
}

/// The grant of a permission, which is one of [`ROLES`].
pub(super) fn grant(permission: &'static str, on: On<'_>, Member(member): &Member) -> Grant {
    let role = ROLES.iter().find(|(name, _)| *name == permission).map_or("a role", |(_, role)| role);
    let command = match on {
        On::Dataset(project, dataset) => {
            let member = member.trim_matches('\'');
            format!(
                "bq query --project_id={project} --use_legacy_sql=false \
                 'GRANT `{role}` ON SCHEMA `{project}`.{dataset} TO \"{member}\"'"
            )
        }
        other => format!("gcloud {} --member={member} --role={role}", binding(other)),
    };
    Grant { permission, role, command }
}

fn binding(on: On<'_>) -> String {
    let verb = "add-iam-policy-binding";
    match on {
        On::Project(project) => format!("projects {verb} {project}"),
        On::Folder(id) => format!("resource-manager folders {verb} {id}"),
        On::Organization(id) => format!("organizations {verb} {id}"),
        On::Subscription(name) => match name.split('/').collect::<Vec<_>>()[..] {
            ["projects", project, _, id] => format!("pubsub subscriptions {verb} {id} --project={project}"),
            _ => format!("pubsub subscriptions {verb} {name}"),
        },
        On::Bucket(bucket) => format!("storage buckets {verb} gs://{bucket}"),
        // Another command grants on datasets.
        On::Dataset(project, _) => format!("projects {verb} {project}"),
        On::Instance(project, instance) => format!("bigtable instances {verb} {instance} --project={project}"),
        On::Table(project, instance, table) => {
            format!("bigtable tables {verb} {table} --instance={instance} --project={project}")
        }
    }
}

/// A finding for each permission of a list, by those that the caller has.
pub(super) fn held(
    about: &About,
    needed: &[&'static str],
    answer: Result<Vec<String>, Failed>,
    on: On<'_>,
    member: &Member,
) -> Vec<Finding> {
    let one = |permission: &&'static str| match &answer {
        Ok(held) if held.iter().any(|one| one == permission) => about.ok(permission, ""),
        Ok(_) => about.denied(grant(permission, on, member), ""),
        Err(Failed::Missing) => about.unseen(permission, "the resource is missing"),
        Err(failed) => about.unknown(permission, failed.to_string()),
    };
    needed.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_whole_and_about_the_resource() {
        let member = Member("serviceAccount:worker@p.iam.gserviceaccount.com".to_owned());
        let command = |permission, on| grant(permission, on, &member).command;
        assert_eq!(
            command("pubsub.subscriptions.consume", On::Subscription("projects/p/subscriptions/s")),
            "gcloud pubsub subscriptions add-iam-policy-binding s --project=p \
             --member=serviceAccount:worker@p.iam.gserviceaccount.com --role=roles/pubsub.subscriber"
        );
        assert_eq!(
            command("bigquery.tables.create", On::Dataset("p", "d")),
            "bq query --project_id=p --use_legacy_sql=false 'GRANT `roles/bigquery.dataEditor` ON SCHEMA `p`.d TO \
             \"serviceAccount:worker@p.iam.gserviceaccount.com\"'"
        );
        assert!(
            command("bigtable.tables.readRows", On::Table("p", "i", "t"))
                .contains("tables add-iam-policy-binding t --instance=i")
        );
    }
}
