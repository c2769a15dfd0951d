//! Aggregates of which batch runs replace days, by entries written by hand.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use sawlog_core::reconciled::{Aggregate, CONTROL_TABLE};
use sawlog_seams::Position;
use sawlog_seams::contract::warehouse::rows;

use super::Storage;

const DAY_MICROS: i64 = 86_400_000_000;

/// Rows of a table, one for each name and day, with some columns replaced.
fn replaced(table: &str, values: &[(&str, i32)], columns: &[(&str, ArrayRef)]) -> Vec<RecordBatch> {
    let values: Vec<(String, i32)> = values.iter().map(|(name, day)| ((*name).to_owned(), *day)).collect();
    let batch = rows(table, &values);
    let by_name = |name: &str| columns.iter().find(|(column, _)| *column == name).map(|(_, values)| Arc::clone(values));
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(batch.columns());
    let all = fields.map(|(field, column)| by_name(field.name()).unwrap_or_else(|| Arc::clone(column)));
    vec![RecordBatch::try_new(Arc::clone(&schema), all.collect()).expect("columns of the table")]
}

/// Says at a minute which run counts for a day.
fn entry(aggregate: Aggregate, run: Option<&str>, day: i32, minute: i64) -> Vec<RecordBatch> {
    let at = i64::from(day) * DAY_MICROS + minute * 60_000_000;
    let columns: [(&str, ArrayRef); 3] = [
        ("aggregate", Arc::new(StringArray::from(vec![aggregate.name()]))),
        ("run_id", Arc::new(StringArray::from(vec![run]))),
        ("reconciled_at", Arc::new(TimestampMicrosecondArray::from(vec![at]).with_timezone("UTC"))),
    ];
    replaced(CONTROL_TABLE, &[("by hand", day)], &columns)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_shows_the_rows_of_its_newest_run_and_other_days_the_streaming_rows() {
    let storage = Storage::on_day(20_010).await;
    let warehouse = storage.open();
    let (first, second) = (storage.day, storage.day + 1);
    let append = async |table: &str, rows: Vec<RecordBatch>, position: u64| {
        warehouse.append(table, rows, Position(position)).await.expect("appended");
    };
    let minutes: (&str, ArrayRef) = ("width", Arc::new(StringArray::from(vec!["1m", "1m", "1h"])));
    let streamed = [("stream", first), ("stream", second), ("stream", second)];
    append("pane_requests", replaced("pane_requests", &streamed, &[minutes]), 1).await;
    let aggregate = Aggregate::ErrorRate;
    let of_runs = [("r1", first), ("r2", first), ("r2", second), ("r0", second)];
    append(aggregate.batch_table(), replaced(aggregate.batch_table(), &of_runs, &[]), 1).await;

    let shown = async || -> Vec<String> {
        let sql = "SELECT CAST(event_date AS STRING), service FROM `{}.v_error_rate` \
                   WHERE window_start >= '2024-10-14' AND window_start < '2024-10-16' ORDER BY window_start";
        storage.values(sql).await.into_iter().map(|row| row.join(" ")).collect()
    };
    assert_eq!(shown().await, ["2024-10-14 stream", "2024-10-15 stream"], "rows of runs that no entry names");
    append(CONTROL_TABLE, entry(aggregate, Some("r1"), first, 1), 1).await;
    append(CONTROL_TABLE, entry(Aggregate::Performance, Some("r2"), second, 1), 2).await;
    assert_eq!(shown().await, ["2024-10-14 r1", "2024-10-15 stream"]);
    append(CONTROL_TABLE, entry(aggregate, Some("r2"), first, 3), 3).await;
    append(CONTROL_TABLE, entry(aggregate, Some("r1"), first, 2), 4).await;
    assert_eq!(
        shown().await,
        ["2024-10-14 r2", "2024-10-15 stream"],
        "the newest entry counts, not the last one written"
    );
    append(CONTROL_TABLE, entry(aggregate, Some("empty"), second, 1), 5).await;
    append(CONTROL_TABLE, entry(aggregate, None, first, 4), 6).await;
    assert_eq!(shown().await, ["2024-10-14 stream"], "a day given back, and a day whose run found nothing");
}
