//! Queries and remote tables on a double of BigQuery.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use sawlog_gcp::Access;
use sawlog_gcp::bigquery::{
    BigQueryClient, BigQueryOptions, BigQueryTable, JobError, JobSettings, Jobs, Statement, query,
};
use sawlog_gcp::call::RetryPolicy;
use sawlog_seams::Position;
use sawlog_seams::contract::remote::{Fixture, logs};
use sawlog_seams::remote::{RemoteFailure, RemoteScan, RemoteTable};
use sawlog_seams::warehouse::TableSpec;

use crate::bigquery::Storage;

fn settings() -> JobSettings {
    JobSettings { bytes_max: 1 << 40, time_max: Duration::from_secs(60), is_cached: true, purpose: "test" }
}

/// Jobs that are not tried for long.
async fn jobs(options: &BigQueryOptions) -> Arc<Jobs> {
    let retry = RetryPolicy { total_max: Duration::from_secs(2), ..RetryPolicy::default() };
    Jobs::connect(options, retry).await.expect("a client")
}

pub(crate) async fn table(options: &BigQueryOptions, spec: TableSpec) -> BigQueryTable {
    BigQueryTable::new(jobs(options).await, spec, settings())
}

fn spec(name: &str) -> TableSpec {
    TableSpec::all().into_iter().find(|spec| spec.name == name).expect("a table")
}

/// A place whose tables have the rows of one test only.
struct Place(Storage);

impl Place {
    async fn of(day: i32) -> Self {
        Self(Storage::on_day(day).await)
    }

    async fn fill(&self, spec: &TableSpec, rows: RecordBatch) {
        let client = BigQueryClient::new(&self.0.options).await.expect("a client");
        let name = format!("sawlog-test.{}.{}_rows", self.0.options.dataset, spec.name);
        let sql = format!("DELETE FROM `{name}` WHERE TRUE");
        client.run(&Statement { makes: "no rows".to_owned(), sql }).await.expect("emptied");
        self.0.open().append(spec.name, vec![rows], Position(1)).await.expect("appended");
    }
}

#[async_trait]
impl Fixture for Place {
    async fn holding(&self, spec: &TableSpec, rows: RecordBatch) -> Arc<dyn RemoteTable> {
        self.fill(spec, rows).await;
        Arc::new(table(&self.0.options, spec.clone()).await)
    }
}

mod contract {
    use super::Place;

    sawlog_seams::remote_contract!(Place::of(23_000).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_says_what_it_reads_and_is_limited_by_it() {
    let place = Place::of(23_001).await;
    place.fill(&spec("logs"), logs()).await;
    let jobs = jobs(&place.0.options).await;
    let sql = "SELECT source, COUNT(*) AS n FROM logs WHERE event_time > '2000-01-01' GROUP BY source ORDER BY source LIMIT 2";
    let estimate = jobs.estimate(sql).await.expect("an estimate");
    assert_eq!((estimate.bytes, estimate.statement.as_str()), (5_000, "SELECT"));
    let limited = JobSettings { bytes_max: 4_999, ..settings() };
    let refused = query(&jobs, sql, &limited, 10).await.expect_err("too much");
    assert_eq!(refused.kind(), RemoteFailure::TooExpensive, "{refused}");
    let answer = query(&jobs, sql, &settings(), 10).await.expect("an answer");
    assert!(!answer.report.is_cache_hit && answer.report.bytes_processed == 5_000, "{:?}", answer.report);
    let sources: Vec<_> = answer.batches[0].column(0).as_string::<i32>().iter().flatten().collect();
    assert_eq!(sources, ["", "Zürich ☃\n\tline"]);
    assert_eq!(answer.batches[0].column(1).as_primitive::<Int64Type>().values(), &[1, 1]);
    let again = query(&jobs, sql, &settings(), 1).await.expect("an answer");
    assert!(again.report.is_cache_hit && again.is_cut && again.batches[0].num_rows() == 1, "{:?}", again.report);
    let uncached = JobSettings { is_cached: false, ..settings() };
    assert!(!query(&jobs, sql, &uncached, 10).await.expect("an answer").report.is_cache_hit);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_and_absences_are_told_apart() {
    let place = Place::of(23_002).await;
    let jobs_there = jobs(&place.0.options).await;
    let kind = async |sql: &str| query(&jobs_there, sql, &settings(), 10).await.expect_err("wrong");
    let unknown = kind("SELECT * FROM nothing WHERE TRUE").await;
    assert!(unknown.kind() == RemoteFailure::Other && unknown.problem().contains("nothing"), "{unknown}");
    assert_eq!(kind("SELECT FROM WHERE").await.kind(), RemoteFailure::Other);
    assert!(matches!(jobs_there.estimate("SELEC 1").await, Err(JobError::Call(_) | JobError::Failed { .. })));
    let access = Access::new(Some("http://127.0.0.1:1".to_owned())).expect("a URL");
    let away = BigQueryOptions { access, ..place.0.options.clone() };
    let error = table(&away, spec("logs")).await.scan(RemoteScan::default()).await.err().expect("nobody is there");
    assert_eq!((error.kind, error.table), (RemoteFailure::Unavailable, "logs"), "{error}");
}
