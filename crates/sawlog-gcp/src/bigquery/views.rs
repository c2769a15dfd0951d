//! Views of the dataset under the names of the embedded tables, and materialized views for what is asked most.
//!
//! For: every query that is written for the embedded tables, and sums that BigQuery keeps. Not for: translating dialects.
//!
//! Rules: a view `NAME` shows the columns of the embedded table `NAME`, each row once. Pane tables are summed through their
//! latest panes only. Materialized views count events in tables that are written exactly once, by minutes within the
//! partitions of those tables.

use sawlog_core::ledger::Counts;
use sawlog_core::reconciled::Aggregate;
use sawlog_core::rollup::{Rollup, Width};
use sawlog_core::schema::PARTITION_COLUMN;
use sawlog_core::session;
use sawlog_seams::warehouse::{ANOMALY_TABLE, LEDGER_TABLE, TableSpec};

use super::schema::{FLUSH_COLUMNS, Statement, quoted, rows_table};
use super::{BigQueryOptions, Delivery};

/// How far a materialized view may be behind, minutes: what it lacks is read from the table until then.
const REFRESH_MINUTES: u32 = 5;

/// All views, in groups: those of a group read only what earlier groups make.
pub(super) fn all(options: &BigQueryOptions) -> Vec<Vec<Statement>> {
    let tables = TableSpec::all().iter().map(|spec| table_view(options, spec)).collect();
    let is_error = "severity_class = 'error'";
    let some_of = |name: &str, table: &str, condition: &str| {
        view(options, name, &format!("SELECT * FROM {} WHERE {condition}", quoted(options, table)))
    };
    let mut of_tables = vec![
        sessions(options),
        some_of("logs_error", "logs", is_error),
        some_of("logs_info", "logs", &format!("NOT {is_error}")),
        some_of("anomalies", ANOMALY_TABLE, "is_anomaly"),
    ];
    of_tables.extend(Rollup::ALL.map(|rollup| latest_panes(options, rollup)));
    let widths = Rollup::ALL.into_iter().flat_map(|rollup| Width::ALL.map(|width| rollup_view(options, rollup, width)));
    let reconciled = Aggregate::ALL
        .map(|aggregate| view(options, aggregate.view(), &aggregate.query(|table| quoted(options, table))));
    vec![tables, of_tables, widths.chain(reconciled).collect()]
}

fn view(options: &BigQueryOptions, name: &str, select: &str) -> Statement {
    let sql = format!("CREATE OR REPLACE VIEW {} AS\n{select}", quoted(options, name));
    Statement { makes: format!("view {name}"), sql }
}

fn flush_columns() -> String {
    FLUSH_COLUMNS.map(|(name, _)| name).join(", ")
}

/// The rows of a table without what is about their delivery.
fn table_view(options: &BigQueryOptions, spec: &TableSpec) -> Statement {
    let rows = quoted(options, &rows_table(spec.name));
    let mut select = format!("SELECT * EXCEPT({}) FROM {rows}", flush_columns());
    if options.delivery == Delivery::AtLeastOnce {
        // What a worker sends twice has one place in one flush. Rows of other writers have none, and are told apart as the
        // pipeline does it. The time is part of the key for the partitions.
        let of_worker = "CONCAT(flush_writer, '/', CAST(flush_position AS STRING), '/', CAST(flush_row AS STRING))";
        let key = match spec.schema.field_with_name("insert_id") {
            Ok(_) => format!(
                "COALESCE({of_worker}, CONCAT(source, '/', insert_id), CONCAT(batch_id, '/', CAST(record_index AS STRING)))"
            ),
            Err(_) => of_worker.to_owned(),
        };
        select.push_str(&format!(
            "\nQUALIFY ROW_NUMBER() OVER (PARTITION BY `{}`, {key} ORDER BY flush_position, flush_row) = 1",
            spec.time
        ));
    }
    if spec.name == LEDGER_TABLE {
        let sums = Counts::NAMES.map(|count| format!("SUM({count}) AS {count}")).join(", ");
        select = format!("SELECT receive_minute, source, {sums}\nFROM ({select})\nGROUP BY receive_minute, source");
    }
    view(options, spec.name, &select)
}

/// The newest pane of each window; one pane may be several rows.
fn latest_panes(options: &BigQueryOptions, rollup: Rollup) -> Statement {
    let keys: Vec<&str> = ["window_start", "width"].into_iter().chain(rollup.parts().iter().copied()).collect();
    let select = format!(
        "SELECT * FROM {}\nWHERE TRUE\nQUALIFY DENSE_RANK() OVER (PARTITION BY {} ORDER BY pane_index DESC) = 1",
        quoted(options, rollup.pane_table()),
        keys.join(", ")
    );
    view(options, &format!("{}_latest", rollup.pane_table()), &select)
}

/// The windows of one width; those that are not complete are in Bigtable only.
fn rollup_view(options: &BigQueryOptions, rollup: Rollup, width: Width) -> Statement {
    let latest = quoted(options, &format!("{}_latest", rollup.pane_table()));
    let select = format!("SELECT * EXCEPT(width, {PARTITION_COLUMN}) FROM {latest} WHERE width = '{}'", width.name());
    view(options, &format!("rollup_{}_{}", rollup.name(), width.name()), &select)
}

/// The newest pane of each session that was not taken back.
fn sessions(options: &BigQueryOptions) -> Statement {
    let select = format!(
        "SELECT * FROM {}\nWHERE TRUE\nQUALIFY ROW_NUMBER() OVER \
         (PARTITION BY session_start, session_key, user_id ORDER BY pane_index DESC) = 1 AND NOT is_retracted",
        quoted(options, session::PANE_TABLE)
    );
    view(options, "sessions", &select)
}

/// Sums that BigQuery keeps up to date; where rows may be there twice there must be none.
pub(super) fn materialized(options: &BigQueryOptions) -> Vec<Statement> {
    if options.delivery == Delivery::AtLeastOnce {
        let dropped = |name: &str| Statement {
            makes: format!("no materialized view {name}"),
            sql: format!("DROP MATERIALIZED VIEW IF EXISTS {}", quoted(options, name)),
        };
        return ["mv_errors", "mv_latency", "mv_activity"].map(dropped).into();
    }
    let minute = "TIMESTAMP_TRUNC(event_time, MINUTE) AS minute";
    let one = |name: &str, table: &str, keys: &[&str], sums: &str| {
        let grouped: Vec<String> = (1..=keys.len() + 1).map(|place| place.to_string()).collect();
        let unit = match options.partition {
            super::Partition::Hour => "HOUR",
            super::Partition::Day => "DAY",
        };
        let sql = format!(
            "CREATE MATERIALIZED VIEW IF NOT EXISTS {}\nPARTITION BY TIMESTAMP_TRUNC(minute, {unit})\nCLUSTER BY service\n\
             OPTIONS(enable_refresh=TRUE, refresh_interval_minutes={REFRESH_MINUTES}, \
             description='By minute; rows since the last refresh are read from {table}')\n\
             AS SELECT {minute}, {}, {sums}\nFROM {}\nGROUP BY {}",
            quoted(options, name),
            keys.join(", "),
            quoted(options, &rows_table(table)),
            grouped.join(", ")
        );
        Statement { makes: format!("materialized view {name}"), sql }
    };
    // Latency in buckets that grow by a factor of 2^(1/4), as their lower bounds' exponents.
    let bucket = "CAST(FLOOR(4 * LOG(GREATEST(duration_us, 1), 2)) AS INT64) AS duration_bucket";
    let (service, count) = ("service", "COUNT(*) AS row_count");
    vec![
        one("mv_errors", "logs", &[service, "severity_class", "http_status"], count),
        one(
            "mv_latency",
            "logs",
            &[service, "http_route", bucket],
            &format!(
                "{count}, SUM(duration_us) AS duration_sum_us, MIN(duration_us) AS duration_min_us, MAX(duration_us) AS duration_max_us"
            ),
        ),
        one("mv_activity", "activity", &[service, "event_name"], &format!("{count}, HLL_COUNT.INIT(user_id) AS users")),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::schema::tests_support::options;
    use super::*;

    fn sql_of(options: &BigQueryOptions, name: &str) -> String {
        let wanted = format!("view {name}");
        let mut found =
            all(options).into_iter().flatten().chain(materialized(options)).filter(|one| one.makes.ends_with(&wanted));
        let found = found.next().unwrap_or_else(|| panic!("no {wanted}"));
        found.sql
    }

    #[test]
    fn repeats_are_left_out_only_where_there_may_be_any() {
        let mut options = options();
        assert!(!sql_of(&options, "logs").contains("QUALIFY"));
        options.delivery = Delivery::AtLeastOnce;
        let sql = sql_of(&options, "logs");
        assert!(sql.contains("PARTITION BY `event_time`, COALESCE(CONCAT(flush_writer"), "{sql}");
        assert!(sql_of(&options, "sawlog_ledger").contains("PARTITION BY `receive_minute`, CONCAT(flush_writer"));
        let sums = materialized(&options);
        assert!(
            sums.iter().all(|one| one.sql.starts_with("DROP ")),
            "sums over rows that may be there twice are wrong"
        );
    }

    #[test]
    fn panes_are_read_through_the_latest_of_each_window() {
        let sql = sql_of(&options(), "pane_requests_latest");
        let keys = "PARTITION BY window_start, width, service, service_version, http_route ORDER BY pane_index DESC";
        assert!(sql.contains(keys), "{sql}");
        assert!(sql_of(&options(), "rollup_requests_1m").contains("pane_requests_latest` WHERE width = '1m'"));
    }

    #[test]
    fn materialized_views_sum_buckets_within_partitions() {
        for statement in materialized(&options()) {
            let sql = &statement.sql;
            assert!(sql.contains("_rows`\nGROUP BY 1, 2, 3") && sql.contains("TIMESTAMP_TRUNC(minute, HOUR)"), "{sql}");
            for word in ["AVG(", "QUALIFY", "JOIN", "DISTINCT", "ORDER BY"] {
                assert!(!sql.contains(word), "{word} in {sql}");
            }
        }
    }
}
