//! Appending the rows of one table.
//!
//! For: requests at offsets that a repeated append sends again, refused rows apart from the others, and streams that are
//! gone. Not for: which appends there are ([`super::warehouse`]).
//!
//! Source: Google's documentation of the Storage Write API: an append at an offset that the stream has passed fails with
//! `ALREADY_EXISTS` and is a success of an earlier try; a request with refused rows appends none of its rows.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use google_cloud_bigquery::client::Write;
use google_cloud_bigquery::model::{ArrowRecordBatch, ArrowSchema};
use google_cloud_bigquery::write::format::Arrow;
use google_cloud_bigquery::write::stream_type::CommittedStream;
use google_cloud_bigquery::write::{CommittedWriter, DefaultWriter};
use google_cloud_gax::error::rpc::Code;
use sawlog_seams::Position;
use sawlog_seams::warehouse::TableSpec;
use tokio::time::timeout;

use super::client::BigQueryClient;
use super::positions::{Pending, Positions, TablePosition};
use super::rows::{Encoder, REQUEST_BYTES_MAX};
use super::schema::{quoted, rows_table, text};
use super::{BigQueryOptions, Delivery};

/// Time that one request may take.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// A row that the service does not take.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    /// Its place in the append.
    pub(super) row: usize,
    /// What the service says.
    pub(super) problem: String,
}

/// Rows of one append.
pub(super) struct Append<'a> {
    pub(super) rows: &'a RecordBatch,
    pub(super) position: Position,
}

/// Why an append did not finish. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("{0}")]
    Service(String),
    #[error(transparent)]
    Positions(#[from] super::PositionsError),
    #[error("rows cannot be encoded: {0}")]
    Encode(#[from] arrow::error::ArrowError),
    #[error("no answer within {} s", REQUEST_TIME_MAX.as_secs())]
    Timeout,
}

enum Writer {
    Committed(CommittedWriter<Arrow>),
    Default(DefaultWriter<Arrow>),
}

enum Answer {
    Appended,
    /// The stream has these rows from an earlier try.
    WasThere,
    Refused(Vec<Refused>),
    /// The stream is gone or takes no more rows.
    StreamEnded(String),
}

/// What appends the rows of one table.
pub(super) struct TableWriter {
    pub(super) spec: TableSpec,
    pub(super) encoder: Encoder,
    writer: Option<Writer>,
}

impl TableWriter {
    pub(super) fn new(spec: TableSpec) -> Self {
        Self { encoder: Encoder::new(spec.clone()), spec, writer: None }
    }

    /// Appends rows once, however often it is called for them, and notes the position. Returns the rows that the service
    /// does not take.
    pub(super) async fn append(
        &mut self,
        service: &Service,
        positions: &Positions,
        append: &Append<'_>,
    ) -> Result<Vec<Refused>, WriteError> {
        let result = self.append_all(service, positions, append).await;
        if result.is_err() {
            self.writer = None;
        }
        result
    }

    async fn append_all(
        &mut self,
        service: &Service,
        positions: &Positions,
        append: &Append<'_>,
    ) -> Result<Vec<Refused>, WriteError> {
        let (mut state, mut there) = self.begin(service, positions, append).await?;
        let mut refused = Vec::new();
        let mut pending = state.pending.clone().unwrap_or_default();
        let (mut start, mut offset) = (0, state.offset);
        let mut request = 0;
        while request < pending.requests.len() {
            let range = start..start + pending.requests[request];
            let keep: Vec<bool> = range.clone().map(|row| !pending.refused.contains(&row) && row >= there).collect();
            let count = keep.iter().filter(|keep| **keep).count();
            if count == 0 {
                (start, request) = (range.end, request + 1);
                continue;
            }
            let slice = append.rows.slice(range.start, range.len());
            let rows = filter_record_batch(&slice, &BooleanArray::from(keep.clone()))?;
            let kept: Vec<usize> = range.clone().zip(&keep).filter(|(_, keep)| **keep).map(|(row, _)| row).collect();
            match self.send(&rows, offset, &kept).await? {
                Answer::Appended | Answer::WasThere => {
                    offset += count as u64;
                    (start, request) = (range.end, request + 1);
                }
                Answer::Refused(rows) => {
                    pending.refused.extend(rows.iter().map(|refused| refused.row));
                    refused.extend(rows);
                    state.pending = Some(pending.clone());
                    // Before the others go without them: a repeated append has to leave out the same rows.
                    positions.set(self.spec.name, state.clone())?;
                }
                Answer::StreamEnded(problem) => {
                    tracing::info!(
                        table = self.spec.name,
                        problem,
                        "a stream of BigQuery has ended; the next one goes on"
                    );
                    there = service.rows_of(&self.spec, append.position).await?;
                    (state.stream, self.writer) = (None, None);
                    self.open(service, &mut state).await?;
                    positions.set(self.spec.name, state.clone())?;
                    (start, request, offset) = (0, 0, 0);
                }
            }
        }
        state.position = append.position.0;
        state.offset = offset;
        state.pending = None;
        positions.set(self.spec.name, state)?;
        Ok(refused)
    }

    /// Notes what is about to be sent, unless an earlier try has, and opens the stream. Returns how far the table is, and up to
    /// which place its rows are there already.
    async fn begin(
        &mut self,
        service: &Service,
        positions: &Positions,
        append: &Append<'_>,
    ) -> Result<(TablePosition, usize), WriteError> {
        let mut state = positions.get(self.spec.name);
        let is_repeated = state.pending.as_ref().is_some_and(|pending| {
            pending.position == append.position.0 && pending.requests.iter().sum::<usize>() == append.rows.num_rows()
        });
        if !is_repeated {
            if let Some(pending) = state.pending.take() {
                tracing::warn!(
                    table = self.spec.name,
                    position = pending.position,
                    "an append that was cut off is not repeated with the same rows; some of its rows may be there twice"
                );
                state.stream = None;
            }
            let requests = self.encoder.split(append.rows)?;
            state.pending = Some(Pending { position: append.position.0, requests, refused: Vec::new() });
        }
        let is_new = self.open(service, &mut state).await?;
        // What of a repeated flush is in the table already came first, in order.
        let there = match is_new && is_repeated {
            true => service.rows_of(&self.spec, append.position).await?,
            false => 0,
        };
        if service.options.delivery == Delivery::ExactlyOnce {
            positions.set(self.spec.name, state.clone())?;
        }
        Ok((state, there))
    }

    /// Appends rows by the default stream, at least once and without a position.
    pub(super) async fn append_by_default_stream(
        &mut self,
        service: &Service,
        rows: &RecordBatch,
    ) -> Result<(), WriteError> {
        let schema = ArrowSchema::new().set_serialized_schema(self.encoder.schema_message()?);
        let table = service.options.table_path(&rows_table(self.spec.name));
        let opened = service.write.open_default_stream(table).build_arrow(schema).await;
        self.writer = Some(Writer::Default(opened.map_err(|error| WriteError::Service(error.to_string()))?));
        let mut start = 0;
        for count in self.encoder.split(rows)? {
            let places: Vec<usize> = (start..start + count).collect();
            match self.send(&rows.slice(start, count), 0, &places).await? {
                Answer::Appended | Answer::WasThere => {}
                // The rows are in the lake and in the worker's own tables: a flush does not wait for what is about them.
                Answer::Refused(refused) => {
                    let problem = refused.first().map(|refused| refused.problem.clone()).unwrap_or_default();
                    tracing::error!(problem, rows = count, "BigQuery refused dead letters about rows that it refused");
                }
                Answer::StreamEnded(problem) => return Err(WriteError::Service(problem)),
            }
            start += count;
        }
        Ok(())
    }

    /// Opens the stream of this worker, or makes one. Returns whether it made one, whose offsets begin at 0.
    async fn open(&mut self, service: &Service, state: &mut TablePosition) -> Result<bool, WriteError> {
        if self.writer.is_some() {
            return Ok(false);
        }
        let mut is_new = false;
        let schema = ArrowSchema::new().set_serialized_schema(self.encoder.schema_message()?);
        let table = service.options.table_path(&rows_table(self.spec.name));
        let failed = |error: &dyn std::fmt::Display| WriteError::Service(error.to_string());
        self.writer = Some(match service.options.delivery {
            Delivery::AtLeastOnce => {
                let writer = service.write.open_default_stream(table).build_arrow(schema).await;
                Writer::Default(writer.map_err(|error| failed(&error))?)
            }
            Delivery::ExactlyOnce => {
                let known = match &state.stream {
                    Some(stream) => {
                        let opening = service.write.attach_to_stream::<CommittedStream>(stream);
                        match timeout(REQUEST_TIME_MAX, opening.build_arrow(schema.clone())).await {
                            Ok(Ok(writer)) => Some(writer),
                            Ok(Err(error)) if is_gone(&error.to_string()) => None,
                            Ok(Err(error)) => return Err(failed(&error)),
                            Err(_) => return Err(WriteError::Timeout),
                        }
                    }
                    None => None,
                };
                match known {
                    Some(writer) => Writer::Committed(writer),
                    None => {
                        let making = service.write.create_stream::<CommittedStream>(table).build_arrow(schema);
                        let made: Result<CommittedWriter<Arrow>, _> =
                            timeout(REQUEST_TIME_MAX, making).await.map_err(|_| WriteError::Timeout)?;
                        let writer = made.map_err(|error| failed(&error))?;
                        (state.stream, state.offset) = (Some(writer.write_stream().to_owned()), 0);
                        is_new = true;
                        Writer::Committed(writer)
                    }
                }
            }
        });
        Ok(is_new)
    }

    /// Sends one request. `places` are the places of its rows in the append.
    async fn send(&self, rows: &RecordBatch, offset: u64, places: &[usize]) -> Result<Answer, WriteError> {
        use google_cloud_bigquery::error::AppendError;
        let message = self.encoder.message(rows)?;
        if message.len() > REQUEST_BYTES_MAX
            && let [row] = places
        {
            let problem = format!("it has {} bytes, more than a request may have", message.len());
            return Ok(Answer::Refused(vec![Refused { row: *row, problem }]));
        }
        let message = ArrowRecordBatch::new().set_serialized_record_batch(message);
        let sent = match &self.writer {
            Some(Writer::Committed(writer)) => {
                let offset = i64::try_from(offset).unwrap_or(i64::MAX);
                timeout(REQUEST_TIME_MAX, async { writer.append(message).set_offset(offset).send().await }).await
            }
            Some(Writer::Default(writer)) => {
                timeout(REQUEST_TIME_MAX, async { writer.append(message).send().await }).await
            }
            None => return Err(WriteError::Service("no stream is open".to_owned())),
        };
        let error = match sent.map_err(|_| WriteError::Timeout)? {
            Ok(_) => return Ok(Answer::Appended),
            Err(error) => error,
        };
        match error {
            AppendError::RowErrors { row_errors, .. } => {
                let place = |index: i64| usize::try_from(index).ok().and_then(|index| places.get(index)).copied();
                let refused: Vec<Refused> = row_errors
                    .into_iter()
                    .filter_map(|error| Some(Refused { row: place(error.index)?, problem: error.message }))
                    .collect();
                match refused.is_empty() {
                    true => Err(WriteError::Service("rows were refused without saying which".to_owned())),
                    false => Ok(Answer::Refused(refused)),
                }
            }
            AppendError::Rpc { source, .. } => {
                let code = source.status().map(|status| status.code);
                let problem = source.to_string();
                match code {
                    Some(Code::AlreadyExists) => Ok(Answer::WasThere),
                    Some(Code::NotFound) if problem.to_ascii_lowercase().contains("stream") => {
                        Ok(Answer::StreamEnded(problem))
                    }
                    Some(Code::InvalidArgument) if is_gone(&problem) => Ok(Answer::StreamEnded(problem)),
                    _ => Err(WriteError::Service(problem)),
                }
            }
            other => Err(WriteError::Service(other.to_string())),
        }
    }
}

fn is_gone(problem: &str) -> bool {
    let problem = problem.to_ascii_lowercase();
    ["not found", "not_found", "finalized", "invalid_stream_state"].iter().any(|words| problem.contains(words))
}

/// What the writers of all tables share.
pub(super) struct Service {
    pub(super) options: BigQueryOptions,
    pub(super) write: Arc<Write>,
    pub(super) client: BigQueryClient,
}

impl Service {
    /// Up to which place the rows of a flush are in a table.
    async fn rows_of(&self, spec: &TableSpec, position: Position) -> Result<usize, WriteError> {
        let sql = format!(
            "SELECT COALESCE(MAX(flush_row) + 1, 0) FROM {} WHERE {} > TIMESTAMP '0001-01-01' AND flush_writer = {} AND flush_position = {}",
            quoted(&self.options, &rows_table(spec.name)),
            spec.time,
            text(&self.options.writer),
            position.0
        );
        let rows = self.client.rows(&sql, "looking for the rows of a flush", 1).await;
        let rows = rows.map_err(|error| WriteError::Service(error.to_string()))?;
        let value = rows.first().and_then(|row| row.first());
        let count = value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
        count
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| WriteError::Service("the rows of a flush cannot be found".to_owned()))
    }
}
