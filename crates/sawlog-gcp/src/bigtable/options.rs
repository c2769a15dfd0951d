//! Settings of the tables and of the calls.

use std::time::Duration;

use sawlog_core::bigtable::BigtableTable;
use sawlog_core::family::Family;

use super::error::BigtableError;
use crate::access::Access;
use crate::call::RetryPolicy;

/// Fewest versions of a cell: what counts, and what a flush that has not ended wrote.
const VERSIONS_MIN: u32 = 2;

/// Settings of the tables and of the calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BigtableOptions {
    /// Id of the project.
    pub project: String,
    /// Id of the instance.
    pub instance: String,
    /// Id of the table that is asked; that of the worker's state is the same with `_state` behind it.
    pub table: String,
    /// Application profile: one that routes to a single cluster and allows transactions on rows. Empty: the default one.
    pub app_profile: String,
    /// Where the service is.
    pub access: Access,
    /// Versions of a cell that are kept, at least 2. A snapshot stays whole while so many flushes less 2 end.
    pub versions: u32,
    /// Age at which rollup cells are deleted, by width (10 s, 1 min, 1 h), counted from the window's end: longer than
    /// retention keeps them, which notes the numbers of their panes.
    pub rollup_age: [Option<Duration>; 3],
    /// Age at which chunks of timelines are deleted.
    pub timeline_age: Option<Duration>,
    /// Most bytes of one request that writes.
    pub request_bytes_max: usize,
    /// Most mutations of one request that writes; the service takes 100,000.
    pub request_mutations_max: usize,
    /// Requests at the same time. With the bytes of each they bound what is under way.
    pub requests_max: usize,
    /// How calls are tried.
    pub retry: RetryPolicy,
}

impl BigtableOptions {
    /// Settings with the defaults.
    #[must_use]
    pub fn new(project: impl Into<String>, instance: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            project: project.into(),
            instance: instance.into(),
            table: table.into(),
            app_profile: String::new(),
            access: Access::default(),
            versions: 4,
            rollup_age: [None; 3],
            timeline_age: None,
            request_bytes_max: 4 << 20,
            request_mutations_max: 50_000,
            requests_max: 8,
            retry: RetryPolicy::default(),
        }
    }

    /// Checks what the service would refuse later.
    pub(super) fn check(&self) -> Result<(), BigtableError> {
        let wrong = |field, problem| Err(BigtableError::Option { field, problem });
        let is_name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        for (field, value) in [("project", &self.project), ("instance", &self.instance), ("table", &self.table)] {
            if !is_name(value) {
                return wrong(field, "it is no id; give the last part of the resource's name");
            }
        }
        if self.table.len() > 44 {
            return wrong("table", "it has more than 44 characters; the service takes 50 with `_state` behind them");
        }
        if !(VERSIONS_MIN..=1_000).contains(&self.versions) {
            return wrong("versions", "it is out of range; give from 2 to 1000");
        }
        if !(1..=100_000).contains(&self.request_mutations_max) {
            return wrong("request_mutations_max", "it is out of range; give from 1 to 100000");
        }
        if !(1 << 10..=200 << 20).contains(&self.request_bytes_max) {
            return wrong("request_bytes_max", "it is out of range; give from 1 KiB to 200 MiB");
        }
        if !(1..=64).contains(&self.requests_max) {
            return wrong("requests_max", "it is out of range; give from 1 to 64");
        }
        Ok(())
    }

    /// Full name of the instance.
    pub(super) fn instance_name(&self) -> String {
        format!("projects/{}/instances/{}", self.project, self.instance)
    }

    /// Id of a table.
    pub(crate) fn table_id(&self, table: BigtableTable) -> String {
        match table {
            BigtableTable::Served => self.table.clone(),
            BigtableTable::State => format!("{}_state", self.table),
        }
    }

    /// Full name of a table.
    pub(super) fn table_name(&self, table: BigtableTable) -> String {
        format!("{}/tables/{}", self.instance_name(), self.table_id(table))
    }

    /// Age at which cells of a family are deleted.
    pub(super) fn age_of(&self, family: Family) -> Option<Duration> {
        match family {
            Family::Rollup10s => self.rollup_age[0],
            Family::Rollup1m => self.rollup_age[1],
            Family::Rollup1h => self.rollup_age[2],
            Family::Timeline => self.timeline_age,
            // Their times are log positions.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_are_named() {
        let options = BigtableOptions::new("p", "i", "t");
        options.check().expect("defaults are right");
        assert_eq!(options.table_name(BigtableTable::State), "projects/p/instances/i/tables/t_state");
        let problem = |options: BigtableOptions| options.check().expect_err("wrong").to_string();
        let wrong = problem(BigtableOptions { versions: 1, ..options.clone() });
        assert_eq!(wrong, "bigtable.versions: it is out of range; give from 2 to 1000");
        assert!(problem(BigtableOptions { project: "a/b".to_owned(), ..options }).contains("bigtable.project"));
    }
}
