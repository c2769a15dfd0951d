//! Tables and column families, and what is missing of them.
//!
//! For: a plan that is shown, or carried out; repeated, it finds nothing to do. It deletes nothing: families that are not
//! ours stay. Not for: instances and clusters, which cost money and are made by who pays for them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2::create_table_request::Split;
use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2::gc_rule::{Rule, Union};
use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2::modify_column_families_request::Modification;
use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2::modify_column_families_request::modification::Mod;
use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2::table::View;
use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2::{
    ColumnFamily, CreateTableRequest, GcRule, GetTableRequest, ModifyColumnFamiliesRequest, Table,
};
use prost_types::FieldMask;
use sawlog_core::bigtable::{BigtableTable, META_FAMILY};
use sawlog_core::family::Family;
use tonic::{Code, Status};

use super::client::{Bigtable, Client};
use super::error::BigtableError;
use super::options::BigtableOptions;

/// How often tables are looked at again after a change.
const ROUNDS_MAX: usize = 3;

/// A difference between the tables and what they are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableChange {
    /// The table is missing, with all its families.
    CreateTable {
        /// Id of the table.
        table: String,
        /// In how many tablets it begins.
        tablets: usize,
    },
    /// A family is missing.
    CreateFamily {
        /// Id of the table.
        table: String,
        /// Name of the family.
        family: String,
        /// When its cells are deleted.
        rule: String,
    },
    /// A family's cells are deleted by another rule.
    ChangeRule {
        /// Id of the table.
        table: String,
        /// Name of the family.
        family: String,
        /// The rule now.
        from: String,
        /// The rule to be.
        to: String,
    },
}

impl fmt::Display for TableChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateTable { table, tablets } => write!(formatter, "create table {table} in {tablets} tablets"),
            Self::CreateFamily { table, family, rule } => {
                write!(formatter, "create family {family} of table {table}: delete {rule}")
            }
            Self::ChangeRule { table, family, from, to } => {
                write!(formatter, "change family {family} of table {table}: delete {to}, not {from}")
            }
        }
    }
}

impl Bigtable {
    /// What [`Bigtable::ensure_tables`] would change.
    ///
    /// # Errors
    /// When the tables cannot be read (`bigtable.tables.get`).
    pub fn plan_tables(&self) -> Result<Vec<TableChange>, BigtableError> {
        self.run(|client| async move { client.plan().await })
    }

    /// Creates what is missing, and sets the rules by which cells are deleted. Returns what was changed.
    ///
    /// # Errors
    /// When the tables cannot be read, created or updated (`bigtable.tables.get`, `.create`, `.update`).
    pub fn ensure_tables(&self) -> Result<Vec<TableChange>, BigtableError> {
        self.run(|client| async move {
            let planned = client.plan().await?;
            let mut changes = planned.clone();
            // Another process that does the same makes a change fail that is none any more.
            for _ in 0..ROUNDS_MAX {
                for table in BigtableTable::ALL {
                    client.ensure(table, &changes).await?;
                }
                changes = client.plan().await?;
                if changes.is_empty() {
                    return Ok(planned);
                }
            }
            let left: Vec<String> = changes.iter().map(ToString::to_string).collect();
            Err(BigtableError::Damaged(format!("tables that stay as they were: {}", left.join("; "))))
        })
    }
}

/// Families of a table with the rules by which their cells are deleted.
fn rules(options: &BigtableOptions, table: BigtableTable) -> BTreeMap<&'static str, GcRule> {
    let of = |rule| GcRule { rule: Some(rule) };
    let versions = |count: u32| of(Rule::MaxNumVersions(i32::try_from(count).unwrap_or(i32::MAX)));
    let mut rules = BTreeMap::new();
    for family in Family::ALL.into_iter().filter(|family| BigtableTable::of(*family) == table) {
        let rule = match options.age_of(family) {
            None => versions(options.versions),
            Some(age) => {
                let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
                let age = of(Rule::MaxAge(prost_types::Duration { seconds, nanos: 0 }));
                of(Rule::Union(Union { rules: vec![age, versions(options.versions)] }))
            }
        };
        rules.insert(family.name(), rule);
    }
    if table == BigtableTable::Served {
        rules.insert(META_FAMILY, versions(1));
    }
    rules
}

/// A rule for people.
fn shown(rule: Option<&GcRule>) -> String {
    match rule.and_then(|rule| rule.rule.as_ref()) {
        None => "nothing".to_owned(),
        Some(Rule::MaxNumVersions(count)) => format!("all but {count} versions"),
        Some(Rule::MaxAge(age)) => format!("what is older than {} s", age.seconds),
        Some(Rule::Union(union)) => joined(&union.rules, " or "),
        Some(Rule::Intersection(intersection)) => joined(&intersection.rules, " and at once "),
    }
}

/// Rules in an order of their own: the service may give them back in another one.
fn joined(rules: &[GcRule], word: &str) -> String {
    let mut parts: Vec<String> = rules.iter().map(|rule| shown(Some(rule))).collect();
    parts.sort_unstable();
    parts.join(word)
}

fn family_of(rule: GcRule) -> ColumnFamily {
    ColumnFamily { gc_rule: Some(rule), ..ColumnFamily::default() }
}

impl Client {
    async fn plan(self: &Arc<Self>) -> Result<Vec<TableChange>, BigtableError> {
        let mut changes = Vec::new();
        for table in BigtableTable::ALL {
            let id = self.options.table_id(table);
            let Some(found) = self.table(table).await? else {
                changes.push(TableChange::CreateTable { table: id, tablets: table.split_keys().len() + 1 });
                continue;
            };
            for (name, rule) in rules(&self.options, table) {
                let (family, to) = (name.to_owned(), shown(Some(&rule)));
                match found.column_families.get(name) {
                    None => changes.push(TableChange::CreateFamily { table: id.clone(), family, rule: to }),
                    Some(there) => {
                        let from = shown(there.gc_rule.as_ref());
                        if from != to {
                            changes.push(TableChange::ChangeRule { table: id.clone(), family, from, to });
                        }
                    }
                }
            }
        }
        Ok(changes)
    }

    /// A table as it is; `None` when it is not there.
    async fn table(&self, table: BigtableTable) -> Result<Option<Table>, BigtableError> {
        let name = self.options.table_name(table);
        let get = async || {
            let message = GetTableRequest { name: name.clone(), view: View::SchemaView.into() };
            let request = self.admin_request("name", &name, message).await?;
            match self.admin().get_table(request).await {
                Ok(found) => Ok(Some(found.into_inner())),
                Err(status) if status.code() == Code::NotFound => Ok(None),
                Err(status) => Err(status),
            }
        };
        let mut tries = self.caller.begin("GetTable");
        loop {
            match tries.run::<_, Status>(get()).await {
                Ok(found) => return Ok(found),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    /// Carries out the changes of a table. One that another process has carried out is no error.
    async fn ensure(&self, table: BigtableTable, changes: &[TableChange]) -> Result<(), BigtableError> {
        let id = self.options.table_id(table);
        let rules = rules(&self.options, table);
        let mut modifications = Vec::new();
        for change in changes {
            match change {
                TableChange::CreateTable { table: created, .. } if *created == id => self.create(table, &rules).await?,
                TableChange::CreateFamily { table, family, .. } if *table == id => {
                    let created = family_of(rules[&**family].clone());
                    modifications.push((family, Mod::Create(created), None));
                }
                TableChange::ChangeRule { table, family, .. } if *table == id => {
                    let mask = FieldMask { paths: vec!["gc_rule".to_owned()] };
                    modifications.push((family, Mod::Update(family_of(rules[&**family].clone())), Some(mask)));
                }
                _ => {}
            }
        }
        let modifications: Vec<Modification> = modifications
            .into_iter()
            .map(|(family, change, update_mask)| Modification { id: family.clone(), update_mask, r#mod: Some(change) })
            .collect();
        if modifications.is_empty() { Ok(()) } else { self.modify(table, modifications).await }
    }

    async fn create(
        &self,
        created: BigtableTable,
        rules: &BTreeMap<&'static str, GcRule>,
    ) -> Result<(), BigtableError> {
        let parent = self.options.instance_name();
        let initial_splits: Vec<Split> =
            created.split_keys().into_iter().map(|key| Split { key: key.into() }).collect();
        let families: HashMap<String, ColumnFamily> =
            rules.iter().map(|(name, rule)| ((*name).to_owned(), family_of(rule.clone()))).collect();
        let create = async || {
            let table = Table { column_families: families.clone(), ..Table::default() };
            let message = CreateTableRequest {
                parent: parent.clone(),
                table_id: self.options.table_id(created),
                table: Some(table),
                initial_splits: initial_splits.clone(),
            };
            let request = self.admin_request("parent", &parent, message).await?;
            match self.admin().create_table(request).await {
                Err(status) if status.code() != Code::AlreadyExists => Err(status),
                _ => Ok(()),
            }
        };
        let mut tries = self.caller.begin("CreateTable");
        loop {
            match tries.run::<_, Status>(create()).await {
                Ok(()) => return Ok(()),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    async fn modify(&self, table: BigtableTable, modifications: Vec<Modification>) -> Result<(), BigtableError> {
        let name = self.options.table_name(table);
        let modify = async || {
            let message = ModifyColumnFamiliesRequest {
                name: name.clone(),
                modifications: modifications.clone(),
                ignore_warnings: false,
            };
            let request = self.admin_request("name", &name, message).await?;
            match self.admin().modify_column_families(request).await {
                Err(status) if status.code() != Code::AlreadyExists => Err(status),
                _ => Ok(()),
            }
        };
        let mut tries = self.caller.begin("ModifyColumnFamilies");
        loop {
            match tries.run::<_, Status>(modify()).await {
                Ok(()) => return Ok(()),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_family_is_in_one_table_and_only_times_of_events_have_an_age() {
        let mut options = BigtableOptions::new("p", "i", "t");
        options.rollup_age = [Some(Duration::from_secs(60)), None, None];
        options.timeline_age = Some(Duration::from_secs(120));
        let of = |table| rules(&options, table);
        let (served, state) = (of(BigtableTable::Served), of(BigtableTable::State));
        assert_eq!(served.len() + state.len(), Family::ALL.len() + 1);
        let text = |name: &str| shown(served.get(name));
        assert_eq!(text("rollup_10s"), "all but 4 versions or what is older than 60 s");
        assert_eq!(text("timeline"), "all but 4 versions or what is older than 120 s");
        assert_eq!([text("rollup_1m"), text("meta")], ["all but 4 versions", "all but 1 versions"]);
        assert!(state.values().all(|rule| shown(Some(rule)) == "all but 4 versions"));
    }
}
