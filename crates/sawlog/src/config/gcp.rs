//! The section `[gcp]`: which services of Google Cloud are behind which seam.
//!
//! For: its shape and its mistakes. Not for: reaching the services (`sawlog_gcp`).

use std::collections::BTreeMap;
use std::time::Duration;

use sawlog_core::schema::Table;
use sawlog_core::time;
use sawlog_gcp::Access;
use sawlog_gcp::bigquery::{Delivery, Partition};
use sawlog_seams::warehouse::TableSpec;
use serde::Deserialize;
use toml::Value;

use super::bigquery_queries::{BigQueryQueries, Written};
use super::dataflow::{self, DataflowConfig, DataflowSection};
use super::values::FromSetting;
use super::{ByteSize, ConfigProblem, HumanDuration};

/// Bytes of the spool by default.
const SPOOL_BYTES: u64 = 10 << 30;

/// Shortest wait for an answer that lets any come.
const ANSWER_MIN: Duration = Duration::from_millis(100);
/// Days of hours that fit into the 10,000 partitions that a table of BigQuery may have.
const HOUR_PARTITION_DAYS_MAX: u32 = 10_000 / 24;

/// Services in use, all of one project.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GcpConfig {
    pub(crate) project: String,
    pub(crate) role: Role,
    /// Name of this worker in what it writes.
    pub(crate) worker: String,
    /// Longest wait for one answer of Cloud Storage, Bigtable and appends to BigQuery; without it each has its own.
    pub(crate) answer_max: Option<Duration>,
    pub(crate) storage: Option<StorageConfig>,
    pub(crate) bigquery: Option<BigQueryConfig>,
    pub(crate) bigtable: Option<BigtableConfig>,
    pub(crate) logging: Vec<LoggingSourceConfig>,
    pub(crate) log: Option<LogSinkConfig>,
    /// The job of the Beam pipeline; only `sawlog dataflow` looks at it.
    pub(crate) dataflow: Option<DataflowConfig>,
    /// Where Cloud Monitoring is asked for what subscriptions hold; `None` where it is not.
    pub(crate) backlog_metrics: Option<Access>,
}

/// What a process does with the services.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Takes events and writes them to the services.
    #[default]
    Worker,
    /// Answers queries from what workers have written, and keeps nothing.
    Reader,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageConfig {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    pub(crate) spool_max: u64,
    pub(crate) access: Access,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BigQueryConfig {
    pub(crate) dataset: String,
    pub(crate) location: String,
    pub(crate) delivery: Delivery,
    pub(crate) partition: Partition,
    pub(crate) expiration_days: BTreeMap<String, u32>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) queries: BigQueryQueries,
    pub(crate) access: Access,
    pub(crate) storage: Access,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BigtableConfig {
    pub(crate) instance: String,
    pub(crate) table: String,
    pub(crate) app_profile: String,
    pub(crate) access: Access,
}

/// A source of entries of Cloud Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoggingSourceConfig {
    pub(crate) resource: String,
    pub(crate) filter: String,
    pub(crate) source: String,
    pub(crate) access: Access,
    /// Range to load, UTC microseconds.
    pub(crate) backfill: Option<(i64, i64)>,
    pub(crate) tail: bool,
}

/// Where the own log goes besides standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogSinkConfig {
    pub(crate) log_id: String,
    pub(crate) access: Access,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Section {
    project: String,
    #[serde(default)]
    role: Role,
    #[serde(default)]
    worker: Option<String>,
    #[serde(default)]
    answer_max: Option<Value>,
    #[serde(default)]
    storage: Option<StorageSection>,
    #[serde(default)]
    bigquery: Option<BigQuerySection>,
    #[serde(default)]
    bigtable: Option<BigtableSection>,
    #[serde(default)]
    logging: Vec<LoggingSection>,
    #[serde(default)]
    log: Option<LogSection>,
    #[serde(default)]
    dataflow: Option<DataflowSection>,
    #[serde(default)]
    backlog_metrics: bool,
    #[serde(default)]
    monitoring_endpoint: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StorageSection {
    bucket: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    spool_max: Option<Value>,
    #[serde(default)]
    endpoint: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BigQuerySection {
    dataset: String,
    #[serde(default)]
    location: Option<String>,
    #[serde(default)]
    delivery: Option<DeliveryName>,
    #[serde(default)]
    partition: Option<PartitionName>,
    #[serde(default)]
    expiration_days: BTreeMap<String, u32>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    query_bytes_max: Option<Value>,
    #[serde(default)]
    query_time_max: Option<Value>,
    #[serde(default)]
    price_per_tib: Option<Value>,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    storage_endpoint: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DeliveryName {
    ExactlyOnce,
    AtLeastOnce,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PartitionName {
    Day,
    Hour,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BigtableSection {
    instance: String,
    #[serde(default)]
    table: Option<String>,
    #[serde(default)]
    app_profile: String,
    #[serde(default)]
    endpoint: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LoggingSection {
    #[serde(default)]
    resource: Option<String>,
    #[serde(default)]
    filter: String,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    backfill_from: Option<String>,
    #[serde(default)]
    backfill_until: Option<String>,
    #[serde(default)]
    tail: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LogSection {
    #[serde(default)]
    log_id: Option<String>,
    #[serde(default)]
    endpoint: Option<String>,
}

/// Reads the section; an empty one is off.
pub(super) fn read(value: &Value) -> Result<Option<GcpConfig>, Vec<ConfigProblem>> {
    if value.as_table().is_some_and(toml::Table::is_empty) {
        return Ok(None);
    }
    let mut problems = Problems::default();
    let section: Section = match value.clone().try_into() {
        Ok(section) => section,
        Err(error) => {
            let problem = error.message().trim().replace('\n', " ");
            problems.note("gcp", problem, "docs/gcp.md lists the settings of [gcp]");
            return Err(problems.0);
        }
    };
    let config = checked(section, &mut problems);
    if config.role == Role::Reader && config.bigquery.is_none() {
        let hint = "add [gcp.bigquery], whose tables a reader reads, or remove `role`";
        problems.note("gcp.role", "a reader has no tables of its own".to_owned(), hint);
    }
    if problems.0.is_empty() { Ok(Some(config)) } else { Err(problems.0) }
}

/// What is wrong with the section.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<ConfigProblem>);

impl Problems {
    pub(super) fn note(&mut self, key: &str, problem: String, hint: &str) {
        let hint = hint.to_owned();
        self.0.push(ConfigProblem { origin: String::new(), key: key.to_owned(), problem, hint });
    }

    pub(super) fn access(&mut self, key: &str, endpoint: Option<String>) -> Access {
        Access::new(endpoint).unwrap_or_else(|error| {
            self.note(key, error.to_string(), "correct the endpoint, or remove it for Google's own");
            Access::default()
        })
    }

    /// A name of so many characters at most, of letters, digits and some more.
    pub(super) fn name(&mut self, key: &str, name: &str, more: &str, length_max: usize) {
        let is_of_it = |byte: u8| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte);
        if name.is_empty() || name.len() > length_max || !name.bytes().all(is_of_it) {
            let hint = format!("give 1 to {length_max} letters, digits and characters of {more:?}");
            self.note(key, format!("{name:?} is no name"), &hint);
        }
    }

    fn time(&mut self, key: &str, text: &str) -> i64 {
        // A time without a date or a zone would be read by the time of receipt.
        let parsed = time::parse(text.as_bytes(), 0).filter(|_| text.len() >= 20 && text.as_bytes()[10] == b'T');
        parsed.unwrap_or_else(|| {
            self.note(key, format!("{text:?} is no time"), "write it like 2026-11-01T00:00:00Z");
            0
        })
    }
}

fn checked(section: Section, problems: &mut Problems) -> GcpConfig {
    let (project, role) = (section.project, section.role);
    problems.name("gcp.project", &project, "-.:", 64);
    let worker = section.worker.unwrap_or_else(|| "sawlog".to_owned());
    problems.name("gcp.worker", &worker, "-_.", 64);
    let answer_max = section.answer_max.and_then(|value| match HumanDuration::from_setting(&value) {
        Ok(time) if time.duration() >= ANSWER_MIN => Some(time.duration()),
        _ => {
            problems.note(
                "gcp.answer-max",
                format!("{value} is too short or no time"),
                "write it like 30s, at least 100ms",
            );
            None
        }
    });
    let storage = section.storage.map(|storage| storage_of(storage, problems));
    let bigquery = section.bigquery.map(|bigquery| bigquery_of(bigquery, problems));
    let bigtable = section.bigtable.map(|bigtable| {
        problems.name("gcp.bigtable.instance", &bigtable.instance, "-", 33);
        let table = bigtable.table.unwrap_or_else(|| "sawlog".to_owned());
        problems.name("gcp.bigtable.table", &table, "-_.", 44);
        let access = problems.access("gcp.bigtable.endpoint", bigtable.endpoint);
        BigtableConfig { instance: bigtable.instance, table, app_profile: bigtable.app_profile, access }
    });
    let mut logging: Vec<LoggingSourceConfig> = Vec::new();
    for (index, source) in section.logging.into_iter().enumerate() {
        let key = format!("gcp.logging[{index}]");
        let source = logging_of(source, &key, &project, problems);
        if logging.iter().any(|other| other.source == source.source) {
            let problem = format!("another one has the source {:?}", source.source);
            problems.note(&key, problem, "give each a `source` of its own: ids are unique within a source");
        }
        logging.push(source);
    }
    let log = section.log.map(|log| {
        let log_id = log.log_id.unwrap_or_else(|| "sawlog".to_owned());
        problems.name("gcp.log.log-id", &log_id, "/_-.", 512);
        LogSinkConfig { log_id, access: problems.access("gcp.log.endpoint", log.endpoint) }
    });
    let dataflow = section.dataflow.map(|dataflow| dataflow::read(dataflow, problems));
    if section.monitoring_endpoint.is_some() && !section.backlog_metrics {
        let hint = "set backlog-metrics = true, or remove it";
        problems.note("gcp.monitoring-endpoint", "Cloud Monitoring is not asked".to_owned(), hint);
    }
    let monitoring = problems.access("gcp.monitoring-endpoint", section.monitoring_endpoint);
    let backlog_metrics = section.backlog_metrics.then_some(monitoring);
    GcpConfig {
        project,
        role,
        worker,
        answer_max,
        storage,
        bigquery,
        bigtable,
        logging,
        log,
        dataflow,
        backlog_metrics,
    }
}

fn storage_of(section: StorageSection, problems: &mut Problems) -> StorageConfig {
    problems.name("gcp.storage.bucket", &section.bucket, "-_.", 222);
    let spool_max = match &section.spool_max {
        None => SPOOL_BYTES,
        Some(value) => ByteSize::from_setting(value).map_or_else(
            |_| {
                problems.note("gcp.storage.spool-max", format!("{value} is no size"), "write it like 10GiB");
                0
            },
            ByteSize::bytes,
        ),
    };
    let access = problems.access("gcp.storage.endpoint", section.endpoint);
    StorageConfig { bucket: section.bucket, prefix: section.prefix, spool_max, access }
}

fn bigquery_of(section: BigQuerySection, problems: &mut Problems) -> BigQueryConfig {
    problems.name("gcp.bigquery.dataset", &section.dataset, "_", 1_024);
    let location = section.location.unwrap_or_else(|| "US".to_owned());
    problems.name("gcp.bigquery.location", &location, "-", 64);
    let is_table = |name: &String| TableSpec::all().iter().any(|spec| spec.name == name);
    for (table, days) in &section.expiration_days {
        let key = format!("gcp.bigquery.expiration-days.{table}");
        if !is_table(table) {
            problems.note(&key, "there is no such table".to_owned(), "`sawlog query 'SHOW TABLES'` lists them");
        } else if *days == 0 {
            problems.note(&key, "it is 0".to_owned(), "give at least 1, or leave the table out to keep its rows");
        }
    }
    if matches!(section.partition, Some(PartitionName::Hour)) {
        note_hours(&section.expiration_days, problems);
    }
    for (key, value) in &section.labels {
        let is_of_it = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        let starts_well = key.starts_with(|letter: char| letter.is_ascii_lowercase());
        if !starts_well || key.len() > 63 || value.len() > 63 || !key.bytes().chain(value.bytes()).all(is_of_it) {
            let problem = format!("{key} = {value:?} is no label");
            problems.note("gcp.bigquery.labels", problem, "use up to 63 of a-z, 0-9, - and _");
        }
    }
    let written = Written {
        query_bytes_max: section.query_bytes_max,
        query_time_max: section.query_time_max,
        price_per_tib: section.price_per_tib,
    };
    let queries = BigQueryQueries::read(&written, |name, problem, hint| {
        problems.note(&format!("gcp.bigquery.{name}"), problem, hint);
    });
    let access = problems.access("gcp.bigquery.endpoint", section.endpoint);
    let storage = problems.access("gcp.bigquery.storage-endpoint", section.storage_endpoint);
    if access.endpoint.is_some() != storage.endpoint.is_some() {
        let hint = "BigQuery has two APIs: set `endpoint` and `storage-endpoint`, or neither";
        problems.note("gcp.bigquery", "one of two endpoints is set".to_owned(), hint);
    }
    BigQueryConfig {
        dataset: section.dataset,
        location,
        delivery: match section.delivery {
            Some(DeliveryName::AtLeastOnce) => Delivery::AtLeastOnce,
            Some(DeliveryName::ExactlyOnce) | None => Delivery::ExactlyOnce,
        },
        partition: match section.partition {
            Some(PartitionName::Hour) => Partition::Hour,
            Some(PartitionName::Day) | None => Partition::Day,
        },
        expiration_days: section.expiration_days,
        labels: section.labels,
        queries,
        access,
        storage,
    }
}

/// Tables of events with a partition for each hour have to let go of them before they are too many.
fn note_hours(expiration_days: &BTreeMap<String, u32>, problems: &mut Problems) {
    for table in Table::ALL.into_iter().filter(|table| *table != Table::DeadLetters) {
        let problem = match expiration_days.get(table.name()) {
            Some(..=HOUR_PARTITION_DAYS_MAX) => continue,
            Some(days) => format!("{days} days of hours are more than 10,000 partitions, which is all a table has"),
            None => "without it the table is full after 416 days of hours, 10,000 partitions".to_owned(),
        };
        let key = format!("gcp.bigquery.expiration-days.{}", table.name());
        let hint = format!("give at most {HOUR_PARTITION_DAYS_MAX}, or set `partition = \"day\"`");
        problems.note(&key, problem, &hint);
    }
}

fn logging_of(section: LoggingSection, key: &str, project: &str, problems: &mut Problems) -> LoggingSourceConfig {
    let resource = section.resource.unwrap_or_else(|| format!("projects/{project}"));
    let kinds = ["projects/", "folders/", "organizations/", "billingAccounts/"];
    if !kinds.iter().any(|kind| resource.strip_prefix(kind).is_some_and(|id| !id.is_empty())) {
        let problem = format!("resource = {resource:?} names nothing that has entries");
        problems.note(key, problem, "write projects/PROJECT, folders/ID, organizations/ID or a view by its full name");
    }
    let source = section.source.unwrap_or_else(|| "cloud-logging".to_owned());
    problems.name(&format!("{key}.source"), &source, "_-", 64);
    let backfill = match (section.backfill_from, section.backfill_until) {
        (Some(from), Some(until)) => {
            let range = (problems.time(key, &from), problems.time(key, &until));
            if range.0 >= range.1 {
                problems.note(key, "backfill-until is not after backfill-from".to_owned(), "correct the times");
            }
            Some(range)
        }
        (None, None) => None,
        _ => {
            let hint = "set `backfill-from` and `backfill-until`, or neither";
            problems.note(key, "one end of the range is missing".to_owned(), hint);
            None
        }
    };
    let tail = section.tail.unwrap_or(backfill.is_none());
    let access = problems.access(&format!("{key}.endpoint"), section.endpoint);
    LoggingSourceConfig { resource, filter: section.filter, source, access, backfill, tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Option<GcpConfig>, Vec<String>> {
        let table: toml::Table = text.parse().expect("TOML");
        let name = |problem: ConfigProblem| format!("{}: {}", problem.key, problem.problem);
        read(&table["gcp"]).map_err(|problems| problems.into_iter().map(name).collect())
    }

    #[test]
    fn little_is_needed_for_all_services() {
        let text = "[gcp]\nproject = \"p-1\"\n[gcp.storage]\nbucket = \"lake\"\n[gcp.bigquery]\ndataset = \"logs\"\n\
                    [gcp.bigtable]\ninstance = \"i\"\n[[gcp.logging]]\n[gcp.log]\n";
        let config = read_text(text).expect("no problems").expect("a configuration");
        assert_eq!(config.worker, "sawlog");
        assert_eq!(config.bigquery.expect("set").delivery, Delivery::ExactlyOnce);
        assert_eq!((config.bigtable.expect("set").table.as_str(), config.logging[0].tail), ("sawlog", true));
        assert_eq!(config.logging[0].resource, "projects/p-1");
        assert_eq!(read_text("[gcp]\n"), Ok(None));
    }

    #[test]
    fn each_mistake_is_named_with_its_key() {
        let text = "[gcp]\nproject = \"\"\nanswer-max = \"0s\"\n[gcp.storage]\nbucket = \"gs://x\"\nspool-max = \"much\"\n\
                    [gcp.bigquery]\ndataset = \"a-b\"\nendpoint = \"http://127.0.0.1:1\"\nlabels = { Team = \"a\" }\n\
                    expiration-days = { logs = 0, none = 1 }\n[gcp.bigtable]\ninstance = \"a/b\"\n\
                    [[gcp.logging]]\nbackfill-from = \"yesterday\"\nbackfill-until = \"2026-01-01T00:00:00Z\"\n\
                    [[gcp.logging]]\nbackfill-from = \"2026-01-01T00:00:00Z\"\nresource = \"p\"\n";
        let problems = read_text(text).expect_err("mistakes");
        for key in [
            "gcp.project:",
            "gcp.answer-max:",
            "gcp.storage.bucket:",
            "gcp.storage.spool-max:",
            "gcp.bigquery.dataset:",
            "gcp.bigquery.labels:",
            "gcp.bigquery.expiration-days.logs: it is 0",
            "gcp.bigquery.expiration-days.none: there is no such table",
            "gcp.bigquery: one of two endpoints",
            "gcp.bigtable.instance:",
            "gcp.logging[0]: \"yesterday\" is no time",
            "gcp.logging[1]: one end",
            "gcp.logging[1]: resource",
            "gcp.logging[1]: another one has the source",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key} in {problems:#?}");
        }
        assert_eq!(read_text("[gcp]\nproject = \"p\"\nregion = \"x\"\n").expect_err("unknown").len(), 1);
    }

    #[test]
    fn hours_need_an_expiration_that_their_partitions_last_for() {
        let hours = |expiration: &str| {
            let text = "[gcp]\nproject = \"p\"\n[gcp.bigquery]\ndataset = \"d\"\npartition = \"hour\"\n";
            read_text(&format!("{text}expiration-days = {{ {expiration} }}"))
        };
        let problems = hours("logs = 417, metrics = 416").expect_err("too many partitions");
        assert_eq!(
            problems,
            [
                "gcp.bigquery.expiration-days.logs: 417 days of hours are more than 10,000 partitions, which is all a table has",
                "gcp.bigquery.expiration-days.activity: without it the table is full after 416 days of hours, 10,000 partitions",
            ]
        );
        hours("logs = 416, metrics = 30, activity = 1").expect("few enough");
    }
}
