//! The tables of the serving store: instance, tables, families, permissions.

use std::sync::Arc;
use std::time::Duration;

use sawlog_core::bigtable::BigtableTable;

use super::Checked;
use super::finding::{About, Finding};
use super::grants::{Member, On, held};
use super::rest::{Context, Failed};
use super::surroundings::Seen;
use crate::bigtable::{Bigtable, BigtableError, BigtableOptions, TableChange};
use crate::call::RetryPolicy;

const OF_TABLES: [&str; 4] = [
    "bigtable.tables.get",
    "bigtable.tables.readRows",
    "bigtable.tables.mutateRows",
    "bigtable.tables.checkAndMutateRow",
];

pub(super) async fn check(context: &Context<'_>, member: &Member, options: &BigtableOptions) -> Checked {
    let (project, instance) = (options.project.clone(), options.instance.clone());
    let about = About::new("Bigtable", format!("projects/{project}/instances/{instance}"));
    let mut options = options.clone();
    // One try: who checks can check again.
    options.retry = RetryPolicy { try_max: context.deadline, total_max: Duration::ZERO, ..RetryPolicy::default() };
    let member = member.clone();
    let at = about.clone();
    let checking = tokio::task::spawn_blocking(move || match Bigtable::connect(options.clone()) {
        Ok(bigtable) => Check { bigtable, options, about: at, member }.run(),
        Err(error) => (vec![at.unknown("exists", error.to_string())], Seen::default()),
    });
    match checking.await {
        Ok(checked) => checked,
        Err(error) => (vec![about.unknown("exists", error.to_string())], Seen::default()),
    }
}

struct Check {
    bigtable: Arc<Bigtable>,
    options: BigtableOptions,
    about: About,
    member: Member,
}

impl Check {
    fn run(&self) -> Checked {
        let (mut findings, mut seen) = (Vec::new(), Seen::default());
        match self.bigtable.zones() {
            Ok(zones) => {
                findings.push(self.about.ok("exists", ""));
                let place = |zone: String| (format!("instance {}", self.options.instance), zone);
                seen.places.extend(zones.into_iter().map(place));
            }
            Err(error) => match failed(&error) {
                Failed::Missing => {
                    findings.push(self.about.lacking(
                        "exists",
                        "",
                        "make it: `gcloud bigtable instances create` asks for its clusters",
                    ));
                    return (findings, seen);
                }
                Failed::Denied(_) => {
                    let detail = "bigtable.clusters.list is not held (roles/bigtable.viewer has it)";
                    findings.push(self.about.unseen("exists", detail));
                }
                other => findings.push(self.about.unknown("exists", other.to_string())),
            },
        }
        findings.extend(self.tables());
        for table in BigtableTable::ALL {
            findings.extend(self.permissions(table));
        }
        (findings, seen)
    }

    /// What tables and families lack, and whether this account may make it.
    fn tables(&self) -> Vec<Finding> {
        let plan = match self.bigtable.plan_tables() {
            Ok(plan) => plan,
            Err(error) => return vec![self.about.unknown("tables", failed(&error).to_string())],
        };
        if plan.is_empty() {
            return vec![self.about.ok("tables", "they are as this version needs them")];
        }
        let changes: Vec<String> = plan.iter().map(ToString::to_string).collect();
        let mut findings =
            vec![self.about.ok("tables", format!("the next start, or `sawlog gcp init`, will {}", changes.join("; ")))];
        let is_created = plan.iter().any(|change| matches!(change, TableChange::CreateTable { .. }));
        let is_updated = plan.iter().any(|change| !matches!(change, TableChange::CreateTable { .. }));
        let needed: Vec<&'static str> =
            [(is_created, "bigtable.tables.create"), (is_updated, "bigtable.tables.update")]
                .into_iter()
                .filter_map(|(is_needed, permission)| is_needed.then_some(permission))
                .collect();
        let answer = self.bigtable.held_permissions(None, &needed).map_err(|error| failed(&error));
        let on = On::Instance(&self.options.project, &self.options.instance);
        findings.extend(held(&self.about, &needed, answer, on, &self.member));
        findings
    }

    fn permissions(&self, table: BigtableTable) -> Vec<Finding> {
        let id = self.options.table_id(table);
        let about = About::new("Bigtable", format!("{}/tables/{id}", self.about.resource));
        let answer = self.bigtable.held_permissions(Some(table), &OF_TABLES).map_err(|error| failed(&error));
        let on = On::Table(&self.options.project, &self.options.instance, &id);
        held(&about, &OF_TABLES, answer, on, &self.member)
    }
}

fn failed(error: &BigtableError) -> Failed {
    let problem = error.to_string();
    match error {
        BigtableError::Call(call) => match call.code {
            "NOT_FOUND" => Failed::Missing,
            "PERMISSION_DENIED" => Failed::Denied(problem),
            _ => Failed::Away(problem),
        },
        _ => Failed::Away(problem),
    }
}
