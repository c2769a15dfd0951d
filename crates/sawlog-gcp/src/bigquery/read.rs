//! Tables of the dataset as remote tables: each scan is a query.
//!
//! For: rows of the views as the embedded tables have them, found by BigQuery. Not for: how jobs run ([`super::jobs`]) or
//! how values are read ([`super::answer`]).
//!
//! Rules: every query has a condition on the column of the partitions, which BigQuery demands; a scan without one reads all
//! of them, up to the limit of bytes. Conditions on the date bound the time as well, since only that prunes.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use sawlog_core::schema::PARTITION_COLUMN;
use sawlog_core::time::to_rfc3339;
use sawlog_seams::remote::{
    Comparison, Condition, OrderBy, RemoteError, RemoteFailure, RemoteRows, RemoteScan, RemoteTable, Value,
};
use sawlog_seams::warehouse::{LEDGER_TABLE, TableSpec};

use super::answer;
use super::job_error::JobError;
use super::jobs::{JobSettings, Jobs, RunningJob};
use super::schema::text;

/// Rows of one batch that has no columns.
const COUNT_ROWS: usize = 1 << 20;
const DAY_MICROS: i64 = 86_400_000_000;

/// A view of the dataset as a remote table.
#[derive(Debug)]
pub struct BigQueryTable {
    jobs: Arc<Jobs>,
    spec: TableSpec,
    settings: JobSettings,
}

impl BigQueryTable {
    /// A table by the name of its view. Scans run as `settings` say.
    #[must_use]
    pub const fn new(jobs: Arc<Jobs>, spec: TableSpec, settings: JobSettings) -> Self {
        Self { jobs, spec, settings }
    }

    fn failed(&self, error: &JobError) -> RemoteError {
        failed(self.spec.name, error)
    }
}

#[async_trait]
impl RemoteTable for BigQueryTable {
    async fn scan(&self, scan: RemoteScan) -> Result<Box<dyn RemoteRows>, RemoteError> {
        let other = |problem: String| RemoteError { table: self.spec.name, kind: RemoteFailure::Other, problem };
        let schema = self.spec.schema.project(&scan.columns).map_err(|error| other(error.to_string()))?;
        let sql = select(&self.spec, &scan);
        tracing::debug!(sql, "asking BigQuery");
        let job = self.jobs.start(&sql, &self.settings).await.map_err(|error| self.failed(&error))?;
        match scan.columns.is_empty() {
            true => {
                let left = count(job).await.map_err(|error| self.failed(&error))?;
                Ok(Box::new(CountedRows { left }))
            }
            false => Ok(Box::new(JobRows { table: self.spec.name, schema: Arc::new(schema), job })),
        }
    }
}

fn failed(table: &'static str, error: &JobError) -> RemoteError {
    RemoteError { table, kind: error.kind(), problem: error.problem() }
}

struct JobRows {
    table: &'static str,
    schema: SchemaRef,
    job: RunningJob,
}

#[async_trait]
impl RemoteRows for JobRows {
    async fn next(&mut self) -> Option<Result<RecordBatch, RemoteError>> {
        let page = match self.job.page().await {
            Ok(page) => page?,
            Err(error) => return Some(Err(failed(self.table, &error))),
        };
        Some(answer::batch(&self.schema, &page.rows).map_err(|error| failed(self.table, &error)))
    }
}

/// Rows without columns.
struct CountedRows {
    left: usize,
}

#[async_trait]
impl RemoteRows for CountedRows {
    async fn next(&mut self) -> Option<Result<RecordBatch, RemoteError>> {
        let row_count = self.left.min(COUNT_ROWS);
        self.left -= row_count;
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).ok()?;
        (row_count > 0).then_some(Ok(batch))
    }
}

/// The one number of an answer.
async fn count(mut job: RunningJob) -> Result<usize, JobError> {
    let unreadable = || JobError::Unreadable("the answer is no count".to_owned());
    let page = job.page().await?.ok_or_else(unreadable)?;
    let value = page.rows.first().and_then(|row| row.get("f")?.pointer("/0/v")?.as_str()?.parse().ok());
    value.ok_or_else(unreadable)
}

/// The query of a scan.
fn select(spec: &TableSpec, scan: &RemoteScan) -> String {
    let mut rest = format!("FROM `{}`", spec.name);
    let mut conditions: Vec<String> = scan.conditions.iter().map(|one| written(spec, one)).collect();
    conditions.extend(partitions(spec, &scan.conditions));
    if !conditions.is_empty() {
        let _ = write!(rest, "\nWHERE {}", conditions.join("\n  AND "));
    }
    let order: Vec<String> = scan.order.iter().map(|one| ordered(spec, one)).collect();
    if !order.is_empty() {
        let _ = write!(rest, "\nORDER BY {}", order.join(", "));
    }
    if let Some(limit) = scan.limit {
        let _ = write!(rest, "\nLIMIT {limit}");
    }
    if scan.columns.is_empty() {
        return match scan.limit {
            Some(_) => format!("SELECT COUNT(*) AS c0 FROM (SELECT 1 {rest})"),
            None => format!("SELECT COUNT(*) AS c0 {rest}"),
        };
    }
    let columns: Vec<String> =
        scan.columns.iter().enumerate().map(|(place, column)| selected(spec, place, *column)).collect();
    format!("SELECT {}\n{rest}", columns.join(", "))
}

fn name(spec: &TableSpec, column: usize) -> &str {
    spec.schema.field(column).name()
}

/// A column as a text of it can be read exactly.
fn selected(spec: &TableSpec, place: usize, column: usize) -> String {
    let name = name(spec, column);
    match spec.schema.field(column).data_type() {
        DataType::Timestamp(..) => format!("UNIX_MICROS(`{name}`) AS c{place}"),
        _ => format!("`{name}` AS c{place}"),
    }
}

fn ordered(spec: &TableSpec, order: &OrderBy) -> String {
    let direction = if order.is_descending { "DESC" } else { "ASC" };
    let nulls = if order.has_nulls_first { "FIRST" } else { "LAST" };
    format!("`{}` {direction} NULLS {nulls}", name(spec, order.column))
}

fn written(spec: &TableSpec, condition: &Condition) -> String {
    let all = |parts: &[Condition], word: &str, none: &str| match parts {
        [] => none.to_owned(),
        parts => format!("({})", parts.iter().map(|part| written(spec, part)).collect::<Vec<_>>().join(word)),
    };
    match condition {
        Condition::Compare { column, comparison, value } => {
            format!("`{}` {} {}", name(spec, *column), operator(*comparison), literal(value))
        }
        Condition::OneOf { values, .. } if values.is_empty() => "FALSE".to_owned(),
        Condition::OneOf { column, values } => {
            format!("`{}` IN ({})", name(spec, *column), values.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        Condition::IsMissing { column } => format!("`{}` IS NULL", name(spec, *column)),
        Condition::Like { column, pattern, is_any_case: false } if !pattern.contains('\\') => {
            format!("`{}` LIKE {}", name(spec, *column), text(pattern))
        }
        Condition::Like { column, pattern, is_any_case } => {
            let flags = if *is_any_case { "(?is)" } else { "(?s)" };
            format!("REGEXP_CONTAINS(`{}`, {})", name(spec, *column), text(&format!("{flags}{}", regular(pattern))))
        }
        Condition::IsTrue(inner) => format!("(({}) IS TRUE)", written(spec, inner)),
        Condition::Not(inner) => format!("NOT ({})", written(spec, inner)),
        Condition::All(parts) => all(parts, " AND ", "TRUE"),
        Condition::Any(parts) => all(parts, " OR ", "FALSE"),
    }
}

/// A pattern of LIKE as a regular expression of RE2.
fn regular(pattern: &str) -> String {
    let mut expression = String::from("^");
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '%' => expression.push_str(".*"),
            '_' => expression.push('.'),
            '\\' => push_literal(&mut expression, letters.next().unwrap_or('\\')),
            letter => push_literal(&mut expression, letter),
        }
    }
    expression.push('$');
    expression
}

fn push_literal(expression: &mut String, letter: char) {
    if letter.is_ascii_punctuation() {
        expression.push('\\');
    }
    expression.push(letter);
}

const fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "<>",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Text(value) => text(value),
        Value::Integer(value) => value.to_string(),
        Value::Boolean(value) => if *value { "TRUE" } else { "FALSE" }.to_owned(),
        Value::Time(micros) => time(*micros),
        Value::Date(days) => {
            let start = to_rfc3339(i64::from(*days).saturating_mul(DAY_MICROS));
            format!("DATE '{}'", start.split('T').next().unwrap_or_default())
        }
    }
}

/// A time; those that BigQuery does not have are its first and last one.
fn time(micros: i64) -> String {
    /// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z.
    const RANGE: (i64, i64) = (-62_135_596_800_000_000, 253_402_300_799_999_999);
    format!("TIMESTAMP '{}'", to_rfc3339(micros.clamp(RANGE.0, RANGE.1)))
}

/// Conditions on the column of the partitions that follow from others, or that of all partitions.
fn partitions(spec: &TableSpec, conditions: &[Condition]) -> Vec<String> {
    let index_of = |name: &str| spec.schema.index_of(name).ok();
    let Some(time_column) = index_of(spec.time) else { return Vec::new() };
    let mut is_bounded = false;
    let mut bounds = Vec::new();
    for condition in flattened(conditions) {
        match condition {
            Condition::Compare { column, .. } | Condition::OneOf { column, .. } if *column == time_column => {
                is_bounded = true;
            }
            Condition::Compare { column, comparison, value: Value::Date(days) }
                if index_of(PARTITION_COLUMN) == Some(*column) =>
            {
                bounds.extend(bounds_of(spec, *comparison, *days));
            }
            Condition::OneOf { column, values } if index_of(PARTITION_COLUMN) == Some(*column) => {
                let ends =
                    [(values.iter().min(), Comparison::GreaterOrEqual), (values.iter().max(), Comparison::LessOrEqual)];
                for (end, comparison) in ends {
                    if let Some(Value::Date(days)) = end {
                        bounds.extend(bounds_of(spec, comparison, *days));
                    }
                }
            }
            _ => {}
        }
    }
    if !is_bounded && bounds.is_empty() && spec.name != LEDGER_TABLE {
        bounds.push(format!("`{}` >= {}", spec.time, time(i64::MIN)));
    }
    bounds
}

/// The parts of which all must hold.
fn flattened(conditions: &[Condition]) -> Vec<&Condition> {
    let parts = conditions.iter().flat_map(|condition| match condition {
        Condition::All(parts) => flattened(parts),
        one => vec![one],
    });
    parts.collect()
}

/// What a comparison with a date says of the time.
fn bounds_of(spec: &TableSpec, comparison: Comparison, days: i32) -> Vec<String> {
    let start = |days: i64| time(days.saturating_mul(DAY_MICROS));
    let (this, next) = (start(days.into()), start(i64::from(days) + 1));
    let (from, until) = match comparison {
        Comparison::Equal => (Some(this), Some(next)),
        Comparison::Less => (None, Some(this)),
        Comparison::LessOrEqual => (None, Some(next)),
        Comparison::Greater => (Some(next), None),
        Comparison::GreaterOrEqual => (Some(this), None),
        Comparison::NotEqual => (None, None),
    };
    let from = from.map(|from| format!("`{}` >= {from}", spec.time));
    let until = until.map(|until| format!("`{}` < {until}", spec.time));
    from.into_iter().chain(until).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> TableSpec {
        TableSpec::all().into_iter().find(|spec| spec.name == name).expect("a table")
    }

    fn compare(spec: &TableSpec, name: &str, comparison: Comparison, value: Value) -> Condition {
        Condition::Compare { column: spec.schema.index_of(name).expect("a column"), comparison, value }
    }

    #[test]
    fn every_query_has_a_condition_on_the_partitions() {
        let logs = spec("logs");
        let columns = vec![logs.schema.index_of("event_time").expect("a column")];
        let sql = select(&logs, &RemoteScan { columns: columns.clone(), ..RemoteScan::default() });
        assert_eq!(
            sql,
            "SELECT UNIX_MICROS(`event_time`) AS c0\nFROM `logs`\nWHERE `event_time` >= TIMESTAMP '0001-01-01T00:00:00.000000Z'"
        );
        let conditions = vec![Condition::All(vec![compare(&logs, "event_time", Comparison::Less, Value::Time(1))])];
        let sql = select(&logs, &RemoteScan { columns, conditions, ..RemoteScan::default() });
        assert!(sql.ends_with("WHERE (`event_time` < TIMESTAMP '1970-01-01T00:00:00.000001Z')"), "{sql}");
        let sql = select(&spec(LEDGER_TABLE), &RemoteScan { columns: vec![1], ..RemoteScan::default() });
        assert_eq!(sql, "SELECT `source` AS c0\nFROM `sawlog_ledger`");
    }

    #[test]
    fn a_date_bounds_the_time() {
        let logs = spec("logs");
        let of = |comparison, day| {
            let conditions = vec![compare(&logs, "event_date", comparison, Value::Date(day))];
            select(&logs, &RemoteScan { columns: vec![0], conditions, ..RemoteScan::default() })
        };
        let sql = of(Comparison::Equal, 1);
        assert!(
            sql.ends_with(
                "WHERE `event_date` = DATE '1970-01-02'\n  AND `event_time` >= TIMESTAMP '1970-01-02T00:00:00.000000Z'\n  AND \
                 `event_time` < TIMESTAMP '1970-01-03T00:00:00.000000Z'"
            ),
            "{sql}"
        );
        assert!(of(Comparison::Greater, 1).ends_with("`event_time` >= TIMESTAMP '1970-01-03T00:00:00.000000Z'"));
        assert!(of(Comparison::NotEqual, 1).ends_with("`event_time` >= TIMESTAMP '0001-01-01T00:00:00.000000Z'"));
    }

    #[test]
    fn rows_are_counted_where_no_column_is_wanted() {
        let logs = spec("logs");
        let user = compare(&logs, "user_id", Comparison::Equal, Value::Text("it's \\ me\r".to_owned()));
        let scan = RemoteScan { conditions: vec![user], limit: Some(3), ..RemoteScan::default() };
        let sql = select(&logs, &scan);
        assert!(
            sql.starts_with("SELECT COUNT(*) AS c0 FROM (SELECT 1 FROM `logs`\nWHERE `user_id` = 'it\\'s \\\\ me\\r'"),
            "{sql}"
        );
        assert!(sql.ends_with("\nLIMIT 3)"), "{sql}");
    }
}
