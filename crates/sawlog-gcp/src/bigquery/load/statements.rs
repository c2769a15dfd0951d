//! Statements of a load: the staging table, the rows from it, and taking both away again.
//!
//! For: texts in GoogleSQL. Not for: running them ([`super::run`]).
//!
//! BigQuery has no JSON in Parquet: staging tables have texts, which the insert parses.

use sawlog_core::bigquery::is_json;
use sawlog_seams::warehouse::TableSpec;

use super::super::schema::{FLUSH_COLUMNS, quoted, rows_table, text, type_of};
use super::super::{BigQueryOptions, DdlError, Statement};

/// Makes a staging table, which goes by itself after a day.
pub(super) fn staging(options: &BigQueryOptions, spec: &TableSpec, name: &str) -> Result<Statement, DdlError> {
    let mut columns = Vec::new();
    for field in spec.schema.fields() {
        let data_type = if is_json(field.data_type()) { "STRING".to_owned() } else { type_of(field)? };
        columns.push(format!("`{}` {data_type}", field.name()));
    }
    columns.extend(FLUSH_COLUMNS.map(|(name, data_type)| format!("`{name}` {data_type}")));
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {} ({}) \
         OPTIONS(expiration_timestamp=TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))",
        quoted(options, name),
        columns.join(", ")
    );
    Ok(Statement { makes: format!("staging table {name}"), sql })
}

/// Inserts the rows of a staging table, all or none.
pub(super) fn insert(options: &BigQueryOptions, spec: &TableSpec, staging: &str) -> String {
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for field in spec.schema.fields() {
        let name = format!("`{}`", field.name());
        values.push(match is_json(field.data_type()) {
            // Numbers that have no exact form in JSON are rounded, as the Storage Write API does.
            true => format!("PARSE_JSON({name}, wide_number_mode=>'round')"),
            false => name.clone(),
        });
        names.push(name);
    }
    let flush_columns = FLUSH_COLUMNS.map(|(name, _)| format!("`{name}`"));
    names.extend(flush_columns.clone());
    values.extend(flush_columns);
    let (table, staging) = (quoted(options, &rows_table(spec.name)), quoted(options, staging));
    format!("INSERT INTO {table} ({}) SELECT {} FROM {staging}", names.join(", "), values.join(", "))
}

/// Removes a staging table.
pub(super) fn drop(options: &BigQueryOptions, name: &str) -> Statement {
    let sql = format!("DROP TABLE IF EXISTS {}", quoted(options, name));
    Statement { makes: format!("no staging table {name}"), sql }
}

/// Deletes what a load inserted into a table. The condition on the time is for tables that demand one.
pub(super) fn delete(options: &BigQueryOptions, spec: &TableSpec, writer: &str) -> String {
    let table = quoted(options, &rows_table(spec.name));
    let everything = format!("`{}` >= TIMESTAMP '0001-01-01 00:00:00+00'", spec.time);
    format!("DELETE FROM {table} WHERE {everything} AND flush_writer = {}", text(writer))
}

#[cfg(test)]
mod tests {
    use super::super::super::schema::tests_support::options;
    use super::*;

    fn logs() -> TableSpec {
        TableSpec::all().into_iter().find(|spec| spec.name == "logs").expect("a table")
    }

    #[test]
    fn json_is_staged_as_text_and_parsed_by_the_insert() {
        let staging = staging(&options(), &logs(), "load_r_logs_0_1").expect("types").sql;
        assert!(staging.starts_with("CREATE TABLE IF NOT EXISTS `p.sawlog.load_r_logs_0_1` (`event_time` TIMESTAMP, "));
        assert!(staging.contains("`attributes` STRING, ") && staging.contains("INTERVAL 1 DAY"), "{staging}");
        let insert = insert(&options(), &logs(), "load_r_logs_0_1");
        assert!(insert.contains("PARSE_JSON(`attributes`, wide_number_mode=>'round'), "), "{insert}");
        assert!(insert.starts_with("INSERT INTO `p.sawlog.logs_rows` (`event_time`, "), "{insert}");
        assert!(insert.ends_with("`flush_row` FROM `p.sawlog.load_r_logs_0_1`"), "{insert}");
    }

    #[test]
    fn an_undo_takes_rows_of_its_load_only() {
        let delete = delete(&options(), &logs(), "load/r");
        assert!(
            delete.contains("WHERE `event_time` >= ") && delete.ends_with("AND flush_writer = 'load/r'"),
            "{delete}"
        );
    }
}
