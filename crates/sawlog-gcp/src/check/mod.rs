//! Whether a configuration will work: resources, permissions, credentials, clocks, regions and dangerous settings.
//!
//! For: one finding for each of them, with what to do; nothing is changed, and nothing that costs is asked. Not for: making
//! what is missing ([`crate::bigquery::prepare`], [`crate::bigtable::Bigtable::ensure_tables`]), or printing.
//!
//! Where a service tells which of a list of permissions the caller has (`testIamPermissions`), that is asked; where it does
//! not (datasets, projects, logs) a call is made that does nothing: a dry run. What a service that is away would have said is
//! unknown, which is no reason to change anything.

mod bigquery;
mod bigtable;
mod credentials;
mod finding;
mod grants;
mod logging;
mod pubsub;
mod rest;
mod storage;
mod surroundings;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use sawlog_seams::Clock;

pub use credentials::CredentialsFile;
pub use finding::{Finding, Grant, State};

use crate::access::Access;
use crate::bigquery::BigQueryOptions;
use crate::bigtable::BigtableOptions;
use surroundings::Seen;

/// What is looked at.
pub struct CheckOptions {
    /// Project of all but subscriptions and sources of entries, which name theirs.
    pub project: String,
    /// Subscriptions by full name.
    pub subscriptions: Vec<(String, Access)>,
    /// The bucket of the lake.
    pub bucket: Option<(String, Access)>,
    /// The dataset.
    pub bigquery: Option<BigQueryOptions>,
    /// The tables of the serving store.
    pub bigtable: Option<BigtableOptions>,
    /// What entries are read of, by full name.
    pub entries: Vec<(String, Access)>,
    /// Id of the own log.
    pub log: Option<(String, Access)>,
    /// The file with the application default credentials, where there is one.
    pub credentials: Option<CredentialsFile>,
    /// Longest wait for one answer.
    pub deadline: Duration,
    /// This machine's clock.
    pub clock: Arc<dyn Clock>,
}

/// What a check of one service gives: findings, and what only makes sense beside that of the others.
type Checked = (Vec<Finding>, Seen);

/// Looks at everything at the same time. The findings are in the order of services. Must be called within a runtime of Tokio.
pub async fn check(options: CheckOptions) -> Vec<Finding> {
    let (member, mut findings) = credentials::check(&options).await;
    let context =
        &rest::Context { project: &options.project, deadline: options.deadline, clock: options.clock.as_ref() };
    let member = &member;
    let mut checks: Vec<BoxFuture<'_, Checked>> = Vec::new();
    for (name, access) in &options.subscriptions {
        checks.push(pubsub::check(context, member, name, access).boxed());
    }
    if let Some((bucket, access)) = &options.bucket {
        checks.push(storage::check(context, member, bucket, access).boxed());
    }
    if let Some(dataset) = &options.bigquery {
        checks.push(bigquery::check(context, member, dataset).boxed());
    }
    if let Some(tables) = &options.bigtable {
        checks.push(bigtable::check(context, member, tables).boxed());
    }
    for (resource, access) in &options.entries {
        checks.push(logging::check_entries(context, member, resource, access).boxed());
    }
    if let Some((log, access)) = &options.log {
        checks.push(logging::check_log(context, member, log, access).boxed());
    }
    let (found, seen): (Vec<Vec<Finding>>, Vec<Seen>) = join_all(checks).await.into_iter().unzip();
    findings.extend(found.into_iter().flatten());
    findings.extend(surroundings::check(&seen));
    findings
}
