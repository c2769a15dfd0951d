//! Tables of the dataset, as statements made from the one schema.
//!
//! For: types, partitions, clustering and options of each table, and what an older table lacks. Rows of a table `NAME` are
//! in `NAME_rows` with three columns more, which say what append they came by; the view `NAME` leaves them out
//! ([`super::views`]). Not for: running statements.
//!
//! Rules: partitions are by the column that queries filter by (`event_time`, not `event_date`), so that every query that
//! runs on the embedded tables prunes here as well. Attribute maps and lists of structures are `JSON`.

use std::fmt::Write as _;

use arrow::datatypes::{DataType, Field};
use sawlog_core::bigquery::{is_required, sql_type};
use sawlog_core::reconciled::CONTROL_TABLE;
use sawlog_core::schema::Table;
use sawlog_seams::warehouse::{LEDGER_TABLE, TableSpec};
use xxhash_rust::xxh3::Xxh3;

use super::{BigQueryOptions, Partition};

/// Columns that say what append a row came by: worker, end of the flush in its event log, place in the flush.
pub(super) const FLUSH_COLUMNS: [(&str, &str); 3] =
    [("flush_writer", "STRING"), ("flush_position", "INT64"), ("flush_row", "INT64")];
/// Tables that are read as a whole: no query has to name a time.
const SMALL_TABLES: [&str; 2] = [LEDGER_TABLE, CONTROL_TABLE];
/// Clustering columns that a table has at most.
const CLUSTERING_MAX: usize = 4;

/// A statement, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it makes, such as `table logs_rows`.
    pub makes: String,
    /// The statement in GoogleSQL.
    pub sql: String,
}

/// A column that BigQuery has no type for.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("column {column} has type {data_type}, for which there is no type of BigQuery")]
pub struct DdlError {
    column: String,
    data_type: DataType,
}

/// Name of the table that has the rows of a table.
#[must_use]
pub(super) fn rows_table(table: &str) -> String {
    format!("{table}_rows")
}

/// An identifier of the dataset, quoted.
pub(super) fn quoted(options: &BigQueryOptions, name: &str) -> String {
    format!("`{}.{}.{name}`", options.project, options.dataset)
}

/// A text literal.
pub(super) fn text(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for letter in value.chars() {
        match letter {
            '\\' => quoted.push_str("\\\\"),
            '\'' => quoted.push_str("\\'"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            letter => quoted.push(letter),
        }
    }
    quoted.push('\'');
    quoted
}

/// The dataset.
pub(super) fn dataset(options: &BigQueryOptions) -> Statement {
    let name = format!("`{}.{}`", options.project, options.dataset);
    let options_of = options_list(&[
        ("location", text(&options.location)),
        ("description", text("Sawlog: logs, metrics and activity")),
    ]);
    Statement {
        makes: format!("dataset {}", options.dataset),
        sql: format!("CREATE SCHEMA IF NOT EXISTS {name} OPTIONS({options_of})"),
    }
}

/// Table that notes what was made of the dataset.
pub(super) const NOTE_TABLE: &str = "sawlog_schema";

/// The table of notes.
pub(super) fn note_table(options: &BigQueryOptions) -> Statement {
    let name = quoted(options, NOTE_TABLE);
    let columns = "fingerprint STRING NOT NULL, noted_at TIMESTAMP NOT NULL";
    let description = text("Versions of tables and views, the newest last");
    let sql = format!("CREATE TABLE IF NOT EXISTS {name} ({columns}) OPTIONS(description={description})");
    Statement { makes: format!("table {NOTE_TABLE}"), sql }
}

/// Notes that the dataset has what statements with a fingerprint make.
pub(super) fn note(options: &BigQueryOptions, fingerprint: &str) -> Statement {
    let (name, value) = (quoted(options, NOTE_TABLE), text(fingerprint));
    let sql = format!("INSERT INTO {name} (fingerprint, noted_at) VALUES ({value}, CURRENT_TIMESTAMP())");
    Statement { makes: "note of the dataset's version".to_owned(), sql }
}

/// What tells one set of statements from another.
pub(super) fn fingerprint(statements: &[Statement]) -> String {
    let mut hash = Xxh3::new();
    for statement in statements {
        hash.update(statement.sql.as_bytes());
        hash.update(&[0]);
    }
    format!("{:032x}", hash.digest128())
}

/// A table, if it is not there.
pub(super) fn table(options: &BigQueryOptions, spec: &TableSpec) -> Result<Statement, DdlError> {
    let name = rows_table(spec.name);
    let mut columns = Vec::new();
    for field in spec.schema.fields() {
        columns.push(format!("  `{}` {}{}", field.name(), type_of(field)?, not_null(field)));
    }
    columns.extend(FLUSH_COLUMNS.map(|(name, data_type)| format!("  `{name}` {data_type}")));
    let mut sql = format!("CREATE TABLE IF NOT EXISTS {} (\n{}\n)", quoted(options, &name), columns.join(",\n"));
    let _ = write!(sql, "\nPARTITION BY {}", partition(options, spec));
    let clustering = clustering(spec);
    if !clustering.is_empty() {
        let clustering: Vec<String> = clustering.iter().map(|column| format!("`{column}`")).collect();
        let _ = write!(sql, "\nCLUSTER BY {}", clustering.join(", "));
    }
    let _ = write!(sql, "\nOPTIONS({})", options_of(options, spec));
    Ok(Statement { makes: format!("table {name}"), sql })
}

/// Gives an existing table the options of today's settings.
pub(super) fn table_options(options: &BigQueryOptions, spec: &TableSpec) -> Statement {
    let name = rows_table(spec.name);
    let sql = format!("ALTER TABLE {} SET OPTIONS({})", quoted(options, &name), options_of(options, spec));
    Statement { makes: format!("options of table {name}"), sql }
}

fn options_of(options: &BigQueryOptions, spec: &TableSpec) -> String {
    let mut options_of = vec![("description", text(description(spec.name)))];
    if let Some(days) = options.expiration_days.get(spec.name) {
        options_of.push(("partition_expiration_days", days.to_string()));
    }
    options_of.push((
        "require_partition_filter",
        if SMALL_TABLES.contains(&spec.name) { "FALSE" } else { "TRUE" }.to_owned(),
    ));
    let labels: Vec<String> =
        options.labels.iter().map(|(key, value)| format!("({}, {})", text(key), text(value))).collect();
    if !labels.is_empty() {
        options_of.push(("labels", format!("[{}]", labels.join(", "))));
    }
    options_list(&options_of)
}

/// Adds the columns that a table of an older version lacks; `None` when it has all. A column that is added is one that
/// older rows lack.
pub(super) fn missing_columns(
    options: &BigQueryOptions,
    spec: &TableSpec,
    existing: &[String],
) -> Result<Option<Statement>, DdlError> {
    let mut added = Vec::new();
    for field in spec.schema.fields() {
        if !existing.iter().any(|name| name == field.name()) {
            added.push(format!("ADD COLUMN IF NOT EXISTS `{}` {}", field.name(), type_of(field)?));
        }
    }
    let is_absent = |(name, _): &(&str, &str)| !existing.iter().any(|existing| existing == name);
    let flush_columns = FLUSH_COLUMNS.into_iter().filter(is_absent);
    added.extend(flush_columns.map(|(name, data_type)| format!("ADD COLUMN IF NOT EXISTS `{name}` {data_type}")));
    if added.is_empty() {
        return Ok(None);
    }
    let name = rows_table(spec.name);
    let sql = format!("ALTER TABLE {} {}", quoted(options, &name), added.join(", "));
    Ok(Some(Statement { makes: format!("columns of table {name}"), sql }))
}

fn options_list(options: &[(&str, String)]) -> String {
    options.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

fn partition(options: &BigQueryOptions, spec: &TableSpec) -> String {
    let is_of_events = Table::ALL.into_iter().any(|table| table.name() == spec.name && table != Table::DeadLetters);
    let unit = match options.partition {
        Partition::Hour if is_of_events => "HOUR",
        _ => "DAY",
    };
    format!("TIMESTAMP_TRUNC(`{}`, {unit})", spec.time)
}

fn clustering(spec: &TableSpec) -> Vec<&'static str> {
    let can_cluster = |column: &&&str| {
        let field = spec.schema.field_with_name(column);
        field.is_ok_and(|field| !matches!(field.data_type(), DataType::Float64 | DataType::Binary | DataType::Map(..)))
    };
    spec.clustering.iter().filter(can_cluster).take(CLUSTERING_MAX).copied().collect()
}

fn not_null(field: &Field) -> &'static str {
    if is_required(field) { " NOT NULL" } else { "" }
}

/// The type of a column.
pub(super) fn type_of(field: &Field) -> Result<String, DdlError> {
    let unknown = || DdlError { column: field.name().clone(), data_type: field.data_type().clone() };
    sql_type(field.data_type()).ok_or_else(unknown)
}

fn description(table: &str) -> &'static str {
    match table {
        "logs" => "Log records, one row each",
        "metrics" => "Data points of metrics",
        "activity" => "Events of user activity",
        "dead_letters" => "Records that could not become a row, with the reason and the payload",
        LEDGER_TABLE => "What became of received records, by minute and source; rows of one minute add up",
        "pane_requests" => "Requests, errors and latency by window: every pane; read pane_requests_latest",
        "pane_metrics" => "Metrics by window: every pane; read pane_metrics_latest",
        "pane_activity" => "Activity by window: every pane; read pane_activity_latest",
        "pane_users" => "Users by window: every pane; read pane_users_latest",
        "pane_top" => "Most frequent values by window: every pane; read pane_top_latest",
        "pane_sessions" => "Sessions of users: every pane; read sessions",
        "anomaly_scores" => "What the detectors say of each series and window",
        "alert_events" => "What alert rules told",
        "batch_error_rate" => "Errors by minute as runs of batch jobs make them; read v_error_rate",
        "batch_performance" => "Requests and latency by minute as runs of batch jobs make them; read v_performance",
        "batch_activity" => "Activity by minute as runs of batch jobs make it; read v_activity",
        CONTROL_TABLE => "Which run of a batch job counts for which day of v_error_rate, v_performance and v_activity",
        _ => "A table of Sawlog",
    }
}

#[cfg(test)]
pub(super) mod tests_support {
    use super::*;

    pub(in super::super) fn options() -> BigQueryOptions {
        BigQueryOptions {
            project: "p".to_owned(),
            dataset: "sawlog".to_owned(),
            location: "EU".to_owned(),
            access: crate::Access::default(),
            storage: crate::Access::default(),
            writer: "w".to_owned(),
            delivery: super::super::Delivery::ExactlyOnce,
            partition: Partition::Hour,
            expiration_days: [("logs".to_owned(), 30)].into(),
            labels: [("team".to_owned(), "it's".to_owned())].into(),
            retry: BigQueryOptions::retry(),
            append: BigQueryOptions::append(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tests_support::options;
    use super::*;

    fn spec(name: &str) -> TableSpec {
        TableSpec::all().into_iter().find(|spec| spec.name == name).expect("a table")
    }

    #[test]
    fn tables_of_events_are_partitioned_by_what_queries_filter_by() {
        let sql = table(&options(), &spec("logs")).expect("types").sql;
        assert!(
            sql.starts_with("CREATE TABLE IF NOT EXISTS `p.sawlog.logs_rows` (\n  `event_time` TIMESTAMP NOT NULL,\n"),
            "{sql}"
        );
        assert!(sql.contains("`attributes` JSON,\n") && sql.contains("`flush_row` INT64\n)"), "{sql}");
        assert!(
            sql.contains(
                "PARTITION BY TIMESTAMP_TRUNC(`event_time`, HOUR)\nCLUSTER BY `service`, `severity_class`, `event_time`"
            ),
            "{sql}"
        );
        let wanted = "OPTIONS(description='Log records, one row each', partition_expiration_days=30, \
                      require_partition_filter=TRUE, labels=[('team', 'it\\'s')])";
        assert!(sql.ends_with(wanted), "{sql}");
        let activity = table(&options(), &spec("activity")).expect("types").sql;
        assert!(activity.contains("CLUSTER BY `user_id`, `event_name`, `event_time`"), "{activity}");
        let panes = table(&options(), &spec("pane_requests")).expect("types").sql;
        assert!(panes.contains("PARTITION BY TIMESTAMP_TRUNC(`window_start`, DAY)"), "hours are for events: {panes}");
        let ledger = table(&options(), &spec(LEDGER_TABLE)).expect("types").sql;
        assert!(ledger.contains("require_partition_filter=FALSE"), "{ledger}");
    }

    #[test]
    fn every_table_has_types_a_description_and_a_time_that_is_never_null() {
        for spec in TableSpec::all() {
            let sql = table(&options(), &spec).expect("types").sql;
            assert!(!sql.contains("A table of Sawlog"), "{} has no description", spec.name);
            let time = spec.schema.field_with_name(spec.time).expect("a column");
            assert!(!time.is_nullable() && type_of(time).expect("a type") == "TIMESTAMP", "{}", spec.name);
        }
    }

    #[test]
    fn an_older_table_gets_the_columns_that_it_lacks() {
        let spec = spec("logs");
        let mut existing: Vec<String> = spec.schema.fields().iter().map(|field| field.name().clone()).collect();
        existing.extend(FLUSH_COLUMNS.map(|(name, _)| name.to_owned()));
        assert_eq!(missing_columns(&options(), &spec, &existing).expect("types"), None);
        existing.retain(|name| name != "country" && name != "flush_row");
        let statement = missing_columns(&options(), &spec, &existing).expect("types").expect("some");
        let wanted = "ALTER TABLE `p.sawlog.logs_rows` ADD COLUMN IF NOT EXISTS `country` STRING, \
                      ADD COLUMN IF NOT EXISTS `flush_row` INT64";
        assert_eq!(statement.sql, wanted);
    }
}
