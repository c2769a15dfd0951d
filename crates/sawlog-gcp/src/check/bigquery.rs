//! The dataset: whether queries run, tables can be made, and rows appended and read.
//!
//! Datasets and projects do not tell which permissions a caller has; dry runs of statements do, which cost and change nothing.

use futures::StreamExt;
use serde_json::{Value, json};

use super::Checked;
use super::finding::{About, Finding};
use super::grants::{Member, On, grant};
use super::rest::{Context, Failed, Rest};
use super::surroundings::Seen;
use crate::bigquery::BigQueryOptions;

const HOST: &str = "bigquery.googleapis.com";
const OF_TABLES: [&str; 4] =
    ["bigquery.tables.get", "bigquery.tables.getData", "bigquery.tables.updateData", "bigquery.tables.update"];
/// Tables that are asked at the same time.
const AT_ONCE: usize = 8;
/// Tables that are named in one finding.
const NAMED_MAX: usize = 3;

pub(super) async fn check(context: &Context<'_>, member: &Member, options: &BigQueryOptions) -> Checked {
    let dataset = About::new("BigQuery", format!("{}.{}", options.project, options.dataset));
    let rest = match Rest::new(context, &options.access, HOST) {
        Ok(rest) => rest,
        Err(failed) => return (vec![dataset.unknown("exists", failed.to_string())], Seen::default()),
    };
    let one = Check { rest: &rest, options, member, dataset: &dataset };
    let path = format!("/bigquery/v2/projects/{}/datasets/{}", options.project, options.dataset);
    let (found, queries) = tokio::join!(rest.get(&path), one.queries());
    let (mut findings, mut seen) = (vec![queries], Seen::default());
    match found {
        Ok(answer) => {
            findings.push(dataset.ok("exists", ""));
            seen.ahead_seconds = answer.ahead_seconds;
            findings.extend(one.settings(&answer.value, &mut seen));
            let (making, tables) = tokio::join!(one.making_tables(), one.tables(&path));
            findings.push(making);
            findings.extend(tables);
        }
        Err(Failed::Missing) => findings.push(one.making_the_dataset().await),
        Err(Failed::Denied(said)) => {
            let grant = grant("bigquery.datasets.get", On::Dataset(&options.project, &options.dataset), member);
            findings.push(dataset.denied(grant, said));
        }
        Err(failed) => findings.push(dataset.unknown("exists", failed.to_string())),
    }
    (findings, seen)
}

struct Check<'a> {
    rest: &'a Rest<'a>,
    options: &'a BigQueryOptions,
    member: &'a Member,
    dataset: &'a About,
}

impl Check<'_> {
    /// Lets BigQuery look at a statement as if it were to run.
    async fn dry_run(&self, sql: &str) -> Result<(), Failed> {
        let query = json!({"query": sql, "useLegacySql": false, "dryRun": true, "location": self.options.location});
        let path = format!("/bigquery/v2/projects/{}/queries", self.options.project);
        self.rest.post(&path, &query).await.map(drop)
    }

    fn of_dry_run(&self, about: &About, permission: &'static str, on: On<'_>, answer: Result<(), Failed>) -> Finding {
        match answer {
            Ok(()) => about.ok(permission, ""),
            Err(Failed::Denied(said)) => about.denied(grant(permission, on, self.member), said),
            Err(failed) => about.unknown(permission, failed.to_string()),
        }
    }

    async fn queries(&self) -> Finding {
        let project = &self.options.project;
        let about = About::new("BigQuery", format!("projects/{project}"));
        self.of_dry_run(&about, "bigquery.jobs.create", On::Project(project), self.dry_run("SELECT 1").await)
    }

    async fn making_the_dataset(&self) -> Finding {
        let project = &self.options.project;
        let sql = format!("CREATE SCHEMA `{project}.{}`", self.options.dataset);
        let finding =
            self.of_dry_run(self.dataset, "bigquery.datasets.create", On::Project(project), self.dry_run(&sql).await);
        match finding.grant {
            None if finding.remedy.is_empty() && finding.detail.is_empty() => {
                self.dataset.ok("can be made", "it is not there; `sawlog gcp init` or the first flush makes it")
            }
            _ => finding,
        }
    }

    async fn making_tables(&self) -> Finding {
        let (project, dataset) = (&self.options.project, &self.options.dataset);
        // A dry run makes no table, and its name is none of Sawlog's.
        let sql = format!("CREATE TABLE `{project}.{dataset}.sawlog_check` (nothing INT64)");
        let answer = self.dry_run(&sql).await;
        self.of_dry_run(self.dataset, "bigquery.tables.create", On::Dataset(project, dataset), answer)
    }

    /// What of the dataset is not as configured, or deletes tables.
    fn settings(&self, value: &Value, seen: &mut Seen) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(location) = value["location"].as_str() {
            seen.places.push((format!("dataset {}", self.options.dataset), location.to_owned()));
            if !location.eq_ignore_ascii_case(&self.options.location) {
                let detail = format!("it is in {location}, and the configuration says {}", self.options.location);
                let remedy = format!("set `gcp.bigquery.location` to {location:?}; a dataset cannot move");
                findings.push(self.dataset.lacking("location", detail, remedy));
            }
        }
        let days = |field: &str| Some(value[field].as_str()?.parse::<u64>().ok()? / 86_400_000);
        let name = &self.options.dataset;
        if let Some(days) = days("defaultTableExpirationMs") {
            let detail = format!("new tables are deleted after {days} days, with all rows");
            let remedy = format!("bq update --default_table_expiration=0 {}:{name}", self.options.project);
            findings.push(self.dataset.warning("expiration of tables", detail, remedy));
        }
        if let Some(days) = days("defaultPartitionExpirationMs") {
            let detail = format!("partitions of tables without `expiration-days` are deleted after {days} days");
            findings.push(self.dataset.warning(
                "expiration of partitions",
                detail,
                "set `gcp.bigquery.expiration-days`",
            ));
        }
        findings
    }

    /// One finding for each permission on all tables, and one that says which of them are there.
    async fn tables(&self, path: &str) -> Vec<Finding> {
        let names = self.options.table_names();
        let asking = names.iter().cloned().map(|name| {
            let path = format!("{path}/tables/{name}");
            async move { (name, self.rest.test_permissions(&path, &OF_TABLES).await) }
        });
        let answers: Vec<Answer> = futures::stream::iter(asking).buffered(AT_ONCE).collect().await;
        let missing: Vec<&String> = with(&answers, |answer| matches!(answer, Err(Failed::Missing)));
        let there = names.len() - missing.len();
        let detail = match missing.is_empty() {
            true => format!("{there} of them"),
            false => {
                format!("{there} of {}; the first flush, or `sawlog gcp init`, makes {}", names.len(), listed(&missing))
            }
        };
        let mut findings = vec![self.dataset.ok("tables", detail)];
        if there == 0 {
            return findings;
        }
        let on = On::Dataset(&self.options.project, &self.options.dataset);
        for permission in OF_TABLES {
            let is_denied = |answer: &Result<Vec<String>, Failed>| match answer {
                Ok(held) => !held.iter().any(|one| one == permission),
                Err(failed) => matches!(failed, Failed::Denied(_)),
            };
            let denied = with(&answers, is_denied);
            let away = answers.iter().find_map(|(_, answer)| match answer {
                Err(failed @ (Failed::Away(_) | Failed::Refused(_))) => Some(failed),
                _ => None,
            });
            findings.push(match (denied.is_empty(), away) {
                (false, _) => {
                    self.dataset.denied(grant(permission, on, self.member), format!("on {}", listed(&denied)))
                }
                (true, Some(failed)) => self.dataset.unknown(permission, failed.to_string()),
                (true, None) => self.dataset.ok(permission, format!("on {there} tables")),
            });
        }
        findings
    }
}

type Answer = (String, Result<Vec<String>, Failed>);

fn with(answers: &[Answer], is_meant: impl Fn(&Result<Vec<String>, Failed>) -> bool) -> Vec<&String> {
    answers.iter().filter(|(_, answer)| is_meant(answer)).map(|(name, _)| name).collect()
}

fn listed(names: &[&String]) -> String {
    let first: Vec<&str> = names.iter().take(NAMED_MAX).map(|name| name.as_str()).collect();
    match names.len() {
        count if count > NAMED_MAX => format!("{} and {} more", first.join(", "), count - NAMED_MAX),
        _ => first.join(", "),
    }
}
