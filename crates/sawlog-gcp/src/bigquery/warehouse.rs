//! A warehouse whose rows are in BigQuery and, as far as they are recent, in the worker's own tables.
//!
//! For: the order of the two. BigQuery comes first: when an append returns, the rows are in both, and until then the event
//! log has them. Not for: how rows get there ([`super::writer`]).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, BinaryArray, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::error::ArrowError;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use google_cloud_bigquery::client::Write;
use sawlog_core::schema::Table;
use sawlog_core::transform::CODE_VERSION;
use sawlog_seams::warehouse::{StoredTable, TableSpec, Warehouse, WarehouseError};
use sawlog_seams::{Disk, Position};
use sawlog_telemetry::Metrics;
use tokio::sync::{Mutex, OnceCell};

use super::client::{BigQueryClient, QueryError};
use super::positions::{Positions, PositionsError, Refused};
use super::rows::FlushRows;
use super::writer::{Append, Service, TableWriter, WriteError, blocking};
use super::{BigQueryOptions, Statement, schema, views};
use crate::call::{CallCounts, Caller};

/// Bytes of a refused row that are kept.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Statements that run at the same time.
const STATEMENTS_AT_ONCE: usize = 8;
const DAY_MICROS: i64 = 86_400_000_000;

/// Tables of a dataset before those of the worker.
pub struct BigQueryWarehouse {
    local: Arc<dyn Warehouse>,
    options: BigQueryOptions,
    positions: Positions,
    metrics: Arc<Metrics>,
    /// Reached at the first append, so that a worker starts while BigQuery is away.
    service: Mutex<Option<Arc<Service>>>,
    /// Made with the first client, and the same for all.
    client: OnceCell<BigQueryClient>,
    caller: Arc<Caller>,
    /// A table was not as this version knows it.
    is_drifted: AtomicBool,
    writers: HashMap<&'static str, Mutex<TableWriter>>,
}

impl BigQueryWarehouse {
    /// A warehouse over the worker's tables. How far the dataset is, is noted in `folder`.
    ///
    /// # Errors
    /// When the note cannot be read or is of another dataset.
    pub fn open(
        options: BigQueryOptions,
        local: Arc<dyn Warehouse>,
        disk: Arc<dyn Disk>,
        folder: &Path,
        metrics: Arc<Metrics>,
    ) -> Result<Self, PositionsError> {
        let positions = Positions::open(disk, folder, &format!("{}.{}", options.project, options.dataset))?;
        let writers =
            TableSpec::all().into_iter().map(|spec| (spec.name, Mutex::new(TableWriter::new(spec)))).collect();
        Ok(Self {
            local,
            caller: Arc::new(Caller::new("BigQuery", options.append.clone())),
            options,
            positions,
            metrics,
            service: Mutex::default(),
            client: OnceCell::new(),
            is_drifted: AtomicBool::new(false),
            writers,
        })
    }

    /// Tries since the start: of statements, and of the Storage Write API.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        let mut counts = self.client.get().map(BigQueryClient::counts).unwrap_or_default();
        counts.extend(self.caller.counts());
        counts
    }

    /// The clients, with tables and views as this version has them.
    async fn service(&self) -> Result<Arc<Service>, QueryError> {
        let mut service = self.service.lock().await;
        if let Some(service) = &*service {
            return Ok(Arc::clone(service));
        }
        let client = self.client.get_or_try_init(|| BigQueryClient::new(&self.options)).await?.clone();
        prepare(&client, &self.options, self.is_drifted.load(Ordering::Relaxed)).await?;
        self.is_drifted.store(false, Ordering::Relaxed);
        let mut builder = Write::builder();
        if let Some(endpoint) = &self.options.storage.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(credentials) = self.options.storage.credentials() {
            builder = builder.with_credentials(credentials);
        }
        let write = builder.build().await.map_err(|error| QueryError::Client(error.to_string()))?;
        let caller = Arc::clone(&self.caller);
        let made = Arc::new(Service { options: self.options.clone(), write: Arc::new(write), client, caller });
        *service = Some(Arc::clone(&made));
        Ok(made)
    }

    async fn append_there(&self, table: &str, rows: &[RecordBatch], position: Position) -> Result<(), WarehouseError> {
        let failed = |problem: String| WarehouseError::Backend { table: table.to_owned(), action: "written", problem };
        let Some(writer) = self.writers.get(table) else {
            return Err(WarehouseError::UnknownTable { table: table.to_owned() });
        };
        let service = self.service().await.map_err(|error| failed(error.to_string()))?;
        let mut writer = writer.lock().await;
        let (encoder, rows, name) = (writer.encoder.clone(), rows.to_vec(), self.options.writer.clone());
        let rows = blocking(move || encoder.rows(&rows, &name, position)).await;
        let rows = rows.map_err(|error| failed(error.to_string()))?;
        let append = Append { rows: &rows, position };
        let (refused, done) = match writer.append(&service, &self.positions, &append).await {
            Ok(appended) => appended,
            Err(error) => {
                if matches!(error, WriteError::Schema(_)) {
                    self.look_again().await;
                }
                return Err(failed(error.to_string()));
            }
        };
        let spec = writer.spec.clone();
        if !refused.is_empty() {
            // What BigQuery says may quote values of the rows: it is in the dead letters only.
            tracing::warn!(table, rows = refused.len(), "BigQuery refused rows, which are kept as dead letters");
            let letters = dead_letters(&spec, &rows, &refused).map_err(|error| failed(error.to_string()))?;
            let appended = self.append_letters(&service, &spec, letters, position).await;
            appended.map_err(|error| failed(error.to_string()))?;
        }
        // Last: a repeated append finds the refused rows again and tells of them again, at least once.
        self.positions.set(spec.name, done).map_err(|error| failed(error.to_string()))?;
        self.metrics.add_bigquery_rows(spec.name, (rows.count() - refused.len()) as u64, refused.len() as u64);
        Ok(())
    }

    /// Lets the next append compare tables and views with what this version needs, whatever the dataset's note says.
    async fn look_again(&self) {
        *self.service.lock().await = None;
        self.is_drifted.store(true, Ordering::Relaxed);
    }

    /// Appends dead letters of an append by the default stream: they belong to another table than the flush is about.
    async fn append_letters(
        &self,
        service: &Service,
        about: &TableSpec,
        letters: RecordBatch,
        position: Position,
    ) -> Result<(), WriteError> {
        let spec = TableSpec::all().into_iter().find(|spec| spec.name == Table::DeadLetters.name());
        let spec = spec.ok_or_else(|| WriteError::Service("there is no table for dead letters".to_owned()))?;
        let mut writer = TableWriter::new(spec);
        // Not under the worker's name, under which the flush has dead letters of its own.
        let name = format!("{}/refused/{}", self.options.writer, about.name);
        let rows = writer.encoder.rows(&[letters], &name, position)?;
        writer.append_by_default_stream(service, &rows).await
    }
}

/// Makes what the dataset lacks: itself, tables, columns and views. What was made is noted in it, so that a restart asks one
/// question; with `is_forced` the note does not count.
///
/// # Errors
/// When BigQuery cannot be reached or refuses a statement; the error names what it was to make.
pub async fn prepare(client: &BigQueryClient, options: &BigQueryOptions, is_forced: bool) -> Result<(), QueryError> {
    let refused = |error: schema::DdlError| QueryError::Client(error.to_string());
    let fingerprint = schema::fingerprint(&statements(options).map_err(refused)?);
    // A dataset that is not there has no note; any other problem is one for the next statement too.
    let has_note =
        || async { newest_note(client, options).await.is_ok_and(|note| note.as_ref() == Some(&fingerprint)) };
    if !is_forced && has_note().await {
        return Ok(());
    }
    tracing::info!(dataset = options.dataset, "making what the dataset lacks");
    let columns = match columns_of(client, options).await {
        Ok(columns) if !columns.is_empty() => columns,
        // It is not there, or empty. A worker whose dataset others have made needs no right to make one.
        _ => {
            client.run(&schema::dataset(options)).await?;
            columns_of(client, options).await?
        }
    };
    let (mut tables, mut changed) = (vec![schema::note_table(options)], Vec::new());
    for spec in TableSpec::all() {
        match columns.get(&schema::rows_table(spec.name)) {
            None => tables.push(schema::table(options, &spec).map_err(refused)?),
            Some(existing) => {
                tables.extend(schema::missing_columns(options, &spec, existing).map_err(refused)?);
                changed.push(schema::table_options(options, &spec));
            }
        }
    }
    run_all(client, &tables).await?;
    for group in views::all(options) {
        run_all(client, &group).await?;
    }
    // What changes no answer: expiration, labels, and what makes queries cheaper.
    changed.extend(views::materialized(options));
    for statement in changed {
        if let Err(error) = client.run(&statement).await {
            tracing::warn!(makes = statement.makes, %error, "the dataset is used without it; `sawlog gcp init` tries it again");
        }
    }
    client.run(&schema::note(options, &fingerprint)).await
}

/// Runs statements that do not depend on each other.
async fn run_all(client: &BigQueryClient, statements: &[Statement]) -> Result<(), QueryError> {
    let running = statements.iter().cloned().map(|statement| {
        let client = client.clone();
        async move { client.run(&statement).await }
    });
    futures::stream::iter(running).buffer_unordered(STATEMENTS_AT_ONCE).try_collect().await
}

async fn newest_note(client: &BigQueryClient, options: &BigQueryOptions) -> Result<Option<String>, QueryError> {
    let notes = schema::quoted(options, schema::NOTE_TABLE);
    let sql = format!("SELECT fingerprint FROM {notes} ORDER BY noted_at DESC LIMIT 1");
    let rows = client.rows(&sql, "looking for the version of the dataset", 1).await?;
    Ok(rows.first().and_then(|row| row.first()?.as_str().map(str::to_owned)))
}

/// Names of the columns of each table of the dataset.
async fn columns_of(
    client: &BigQueryClient,
    options: &BigQueryOptions,
) -> Result<HashMap<String, Vec<String>>, QueryError> {
    let sql = format!(
        "SELECT table_name, column_name FROM `{}.{}`.INFORMATION_SCHEMA.COLUMNS WHERE ENDS_WITH(table_name, '_rows')",
        options.project, options.dataset
    );
    let mut columns: HashMap<String, Vec<String>> = HashMap::new();
    for row in client.rows(&sql, "listing columns", 2).await? {
        if let [table, column] = &row[..]
            && let (Some(table), Some(column)) = (table.as_str(), column.as_str())
        {
            columns.entry(table.to_owned()).or_default().push(column.to_owned());
        }
    }
    Ok(columns)
}

/// All statements that make the dataset, for showing them.
///
/// # Errors
/// When a column has a type that BigQuery lacks.
pub fn statements(options: &BigQueryOptions) -> Result<Vec<Statement>, schema::DdlError> {
    let mut all = vec![schema::dataset(options)];
    for spec in TableSpec::all() {
        all.push(schema::table(options, &spec)?);
    }
    all.extend(views::all(options).into_iter().flatten());
    all.extend(views::materialized(options));
    Ok(all)
}

#[async_trait]
impl Warehouse for BigQueryWarehouse {
    async fn append(&self, table: &str, rows: Vec<RecordBatch>, position: Position) -> Result<(), WarehouseError> {
        if rows.iter().any(|batch| batch.num_rows() > 0)
            && position > self.local.committed(table)
            && position > self.positions.committed(table)
        {
            self.append_there(table, &rows, position).await?;
        }
        self.local.append(table, rows, position).await
    }

    fn committed(&self, table: &str) -> Position {
        self.local.committed(table)
    }

    fn stored(&self, table: &str) -> Result<Arc<StoredTable>, WarehouseError> {
        self.local.stored(table)
    }
}

/// Dead letters for rows that the service refused, with the row as JSON.
fn dead_letters(spec: &TableSpec, rows: &FlushRows, refused: &[Refused]) -> Result<RecordBatch, ArrowError> {
    let rows = rows.take(&refused.iter().map(|refused| refused.row).collect::<Vec<_>>())?;
    let times: Vec<i64> = rows
        .column_by_name("receive_time")
        .or_else(|| rows.column_by_name(spec.time))
        .map(|column| column.as_primitive::<TimestampMicrosecondType>().values().to_vec())
        .unwrap_or_default();
    let letters = Table::DeadLetters.schema();
    let count = rows.num_rows();
    let texts = |value: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..count).map(value)))
    };
    let payloads = as_json(&rows)?;
    let columns = letters.fields().iter().map(|field| -> ArrayRef {
        match (field.name().as_str(), field.data_type()) {
            ("stage", _) => texts(&|_| "bigquery".to_owned()),
            ("reason", _) => texts(&|_| "row_refused".to_owned()),
            ("error", _) => texts(&|row| format!("table {}: {}", spec.name, refused[row].problem)),
            ("remedy", _) => {
                texts(&|_| "the row is whole in the lake, in what batch_id and record_index name".to_owned())
            }
            ("code_version", _) => texts(&|_| CODE_VERSION.to_owned()),
            ("payload", _) => Arc::new(BinaryArray::from_iter_values(&payloads)),
            ("receive_time", _) => Arc::new(TimestampMicrosecondArray::from(times.clone()).with_timezone("UTC")),
            ("event_date", _) => {
                let days = times.iter().map(|time| i32::try_from(time.div_euclid(DAY_MICROS)).unwrap_or(0));
                Arc::new(Date32Array::from_iter_values(days))
            }
            (name, data_type) => match (rows.column_by_name(name), data_type) {
                (Some(column), DataType::Int32) => Arc::new(Int32Array::from_iter(
                    column
                        .as_primitive::<arrow::datatypes::Int64Type>()
                        .iter()
                        .map(|value| value.and_then(|value| i32::try_from(value).ok())),
                )),
                (Some(column), data_type) if column.data_type() == data_type => Arc::clone(column),
                (_, DataType::Utf8) if !field.is_nullable() => texts(&|_| spec.name.to_owned()),
                (_, DataType::Int32) if !field.is_nullable() => Arc::new(Int32Array::from(vec![0; count])),
                (_, DataType::Int64) if !field.is_nullable() => Arc::new(Int64Array::from(vec![0; count])),
                (_, data_type) => new_null_array(data_type, count),
            },
        }
    });
    RecordBatch::try_new(Arc::clone(&letters), columns.collect())
}

/// Each row as a JSON object, cut where it is large.
fn as_json(rows: &RecordBatch) -> Result<Vec<Vec<u8>>, ArrowError> {
    let utc_by_offset = |column: &ArrayRef| match column.data_type() {
        // Names of time zones need a table that is not built in here.
        DataType::Timestamp(..) => {
            Arc::new(column.as_primitive::<TimestampMicrosecondType>().clone().with_timezone("+00:00")) as ArrayRef
        }
        _ => Arc::clone(column),
    };
    let schema = rows.schema();
    let named = schema.fields().iter().zip(rows.columns()).map(|(field, column)| (field.name(), utc_by_offset(column)));
    let rows = RecordBatch::try_from_iter(named)?;
    let one = |row| {
        let mut json = Vec::new();
        let mut writer = arrow::json::LineDelimitedWriter::new(&mut json);
        writer.write(&rows.slice(row, 1))?;
        writer.finish()?;
        json.truncate(PAYLOAD_BYTES_MAX);
        Ok(json)
    };
    (0..rows.num_rows()).map(one).collect()
}

#[cfg(test)]
mod tests {
    use sawlog_seams::contract::warehouse::rows;

    use super::super::rows::Encoder;
    use super::*;

    #[test]
    fn a_refused_row_of_any_table_becomes_a_dead_letter_with_its_content() {
        for spec in TableSpec::all() {
            let values = [("first".to_owned(), 20_000), ("second".to_owned(), 20_001)];
            let encoder = Encoder::new(spec.clone());
            let encoded = encoder.rows(&[rows(spec.name, &values)], "w", Position(7)).expect("rows");
            let refused = [Refused { row: 1, problem: "out of range".to_owned() }];
            let letters = dead_letters(&spec, &encoded, &refused).expect("a dead letter");
            let payload = letters.column_by_name("payload").expect("a column").as_binary::<i32>().value(0);
            let payload: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
            assert_eq!(payload["flush_row"], 1, "{}", spec.name);
            let error = letters.column_by_name("error").expect("a column").as_string::<i32>().value(0);
            assert_eq!(error, format!("table {}: out of range", spec.name));
            let day = letters.column_by_name("event_date").expect("a column");
            assert_eq!(day.as_primitive::<arrow::datatypes::Date32Type>().value(0), 20_001);
        }
    }
}
