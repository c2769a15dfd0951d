//! Appending the rows of one table.
//!
//! For: requests at offsets that a repeated append sends again, refused rows apart from the others, and streams that are
//! gone. Not for: which appends there are ([`super::warehouse`]).
//!
//! Source: Google's documentation of the Storage Write API: an append at an offset that the stream has passed fails with
//! `ALREADY_EXISTS` and is a success of an earlier try; a request with refused rows appends none of its rows.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use arrow::error::ArrowError;
use google_cloud_bigquery::client::Write;
use google_cloud_bigquery::error::AppendError;
use google_cloud_bigquery::model::{ArrowRecordBatch, ArrowSchema};
use google_cloud_bigquery::write::format::Arrow;
use google_cloud_bigquery::write::stream_type::CommittedStream;
use google_cloud_bigquery::write::{CommittedWriter, DefaultWriter};
use google_cloud_gax::error::rpc::Code;
use sawlog_seams::Position;
use sawlog_seams::warehouse::TableSpec;
use tokio::time::sleep;

use super::client::BigQueryClient;
use super::positions::{Pending, Positions, Refused, TablePosition};
use super::rows::{Encoder, FlushRows, REQUEST_BYTES_MAX};
use super::schema::{quoted, rows_table, text};
use super::{BigQueryOptions, Delivery};
use crate::call::{CallError, Caller, Failed, TryError};

/// Connections and streams that one append may use up.
const REPEATS_MAX: u32 = 4;
/// After the first connection that was lost; doubles.
const REPEAT_PAUSE: Duration = Duration::from_millis(100);

/// Rows of one append.
pub(super) struct Append<'a> {
    pub(super) rows: &'a FlushRows,
    pub(super) position: Position,
}

/// Why an append did not finish. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("{0}")]
    Service(String),
    /// The table is not as this version knows it.
    #[error("the table has another schema than this version made, or has it since minutes only: {0}")]
    Schema(String),
    #[error(transparent)]
    Positions(#[from] super::PositionsError),
    #[error("rows cannot be encoded: {0}")]
    Encode(#[from] ArrowError),
    #[error("no answer in time")]
    Timeout,
    #[error("BigQuery has not answered for some time; it is asked again now and then")]
    BreakerOpen,
}

impl<E: Display> From<TryError<E>> for WriteError {
    fn from(error: TryError<E>) -> Self {
        match error {
            TryError::Answered(error) => Self::Service(error.to_string()),
            TryError::TimedOut => Self::Timeout,
            TryError::BreakerOpen => Self::BreakerOpen,
        }
    }
}

enum Writer {
    Committed(CommittedWriter<Arrow>),
    Default(DefaultWriter<Arrow>),
}

enum Answer {
    Appended,
    /// The stream has these rows from an earlier try.
    WasThere,
    /// Some rows; none of the request was appended.
    Refused(Vec<Refused>),
    /// The request as a whole.
    RequestRefused(String),
    /// The stream is gone, takes no more rows, or has not the rows that the note says.
    StreamEnded(String),
    /// The connection is gone: whether the rows were appended is not known.
    Lost(String),
}

/// Why the requests of an append were not all done.
enum Interrupted {
    StreamEnded(String),
    Lost(String),
    Failed(WriteError),
}

impl<E: Into<WriteError>> From<E> for Interrupted {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
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

    /// Appends rows once, however often it is called for them. Returns the rows that the service does not take, and what to
    /// note of the table when they have been seen to.
    pub(super) async fn append(
        &mut self,
        service: &Service,
        positions: &Positions,
        append: &Append<'_>,
    ) -> Result<(Vec<Refused>, TablePosition), WriteError> {
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
    ) -> Result<(Vec<Refused>, TablePosition), WriteError> {
        let (mut state, mut may_be_there) = self.begin(service, positions, append).await?;
        for repeat in 0_u32.. {
            match self.send_all(service, positions, append, &mut state, may_be_there).await {
                Ok(offset) => {
                    let mut refused = state.pending.take().unwrap_or_default().refused;
                    refused.sort_by_key(|refused| refused.row);
                    let is_exact = service.options.delivery == Delivery::ExactlyOnce;
                    let (stream, offset) = if is_exact { (state.stream, offset) } else { (None, 0) };
                    let done = TablePosition { position: append.position.0, stream, offset, pending: None };
                    return Ok((refused, done));
                }
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Lost(problem) | Interrupted::StreamEnded(problem)) if repeat >= REPEATS_MAX => {
                    return Err(WriteError::Service(problem));
                }
                Err(Interrupted::Lost(problem)) => {
                    tracing::debug!(
                        table = self.spec.name,
                        problem,
                        "a connection to BigQuery is gone; the next one goes on"
                    );
                    (self.writer, may_be_there) = (None, true);
                    sleep(REPEAT_PAUSE * 2_u32.pow(repeat)).await;
                    if self.open(service, &mut state).await? {
                        self.look(service, append, &mut state).await?;
                    }
                }
                Err(Interrupted::StreamEnded(problem)) => {
                    tracing::info!(
                        table = self.spec.name,
                        problem,
                        "a stream of BigQuery has ended; the next one goes on"
                    );
                    (self.writer, state.stream) = (None, None);
                    self.open(service, &mut state).await?;
                    self.look(service, append, &mut state).await?;
                }
            }
            positions.set(self.spec.name, state.clone())?;
        }
        Err(WriteError::Timeout)
    }

    /// Notes what is about to be sent, unless an earlier try has, and opens the stream. Returns how far the table is, and
    /// whether requests may have been sent before.
    async fn begin(
        &mut self,
        service: &Service,
        positions: &Positions,
        append: &Append<'_>,
    ) -> Result<(TablePosition, bool), WriteError> {
        let mut state = positions.get(self.spec.name);
        let is_repeated = state.pending.as_ref().is_some_and(|pending| {
            pending.position == append.position.0 && pending.requests.iter().sum::<usize>() == append.rows.count()
        });
        if !is_repeated {
            if let Some(pending) = state.pending.take() {
                tracing::warn!(
                    table = self.spec.name,
                    position = pending.position,
                    "an append that was cut off is not repeated with the same rows; some of its rows may be there twice"
                );
                (self.writer, state.stream) = (None, None);
            }
            let rows = append.rows.clone();
            let requests = blocking(move || Ok(rows.plan())).await?;
            state.pending = Some(Pending { position: append.position.0, requests, ..Pending::default() });
        }
        if self.open(service, &mut state).await? && is_repeated {
            self.look(service, append, &mut state).await?;
        }
        if service.options.delivery == Delivery::ExactlyOnce {
            positions.set(self.spec.name, state.clone())?;
        }
        Ok((state, is_repeated))
    }

    /// Finds out which rows of an append are in the table: they came first, in order.
    async fn look(&self, service: &Service, append: &Append<'_>, state: &mut TablePosition) -> Result<(), WriteError> {
        if service.options.delivery == Delivery::ExactlyOnce
            && let Some(pending) = &mut state.pending
        {
            pending.there = pending.there.max(service.rows_of(&self.spec, append).await?);
        }
        Ok(())
    }

    /// Sends the requests of an append from the first on. Returns how many rows the stream has then.
    async fn send_all(
        &self,
        service: &Service,
        positions: &Positions,
        append: &Append<'_>,
        state: &mut TablePosition,
        may_be_there: bool,
    ) -> Result<u64, Interrupted> {
        let (mut start, mut request, mut offset) = (0, 0, state.offset);
        loop {
            let pending =
                state.pending.as_mut().ok_or_else(|| WriteError::Service("no append was noted".to_owned()))?;
            let Some(rows) = pending.requests.get(request) else { return Ok(offset) };
            let range = start..start + rows;
            let is_refused = |row: &usize| pending.refused.iter().any(|refused| refused.row == *row);
            let kept: Vec<usize> = range.clone().filter(|row| *row >= pending.there && !is_refused(row)).collect();
            if kept.is_empty() {
                (start, request) = (range.end, request + 1);
                continue;
            }
            match self.send(service, append.rows, offset, &kept).await? {
                Answer::WasThere if !may_be_there => {
                    // Nothing of this append was sent before: the note is older than the stream.
                    return Err(Interrupted::StreamEnded("it has more rows than noted".to_owned()));
                }
                Answer::Appended | Answer::WasThere => {
                    offset += kept.len() as u64;
                    (start, request) = (range.end, request + 1);
                    continue;
                }
                Answer::Refused(refused) => pending.refused.extend(refused),
                Answer::RequestRefused(problem) if kept.len() == 1 => {
                    pending.refused.push(Refused { row: kept[0], problem });
                }
                // It does not say which row: half of the request has it.
                Answer::RequestRefused(_) => {
                    let first = kept[kept.len() / 2] - range.start;
                    pending.requests.splice(request..=request, [first, range.len() - first]);
                }
                Answer::StreamEnded(problem) => return Err(Interrupted::StreamEnded(problem)),
                Answer::Lost(problem) => return Err(Interrupted::Lost(problem)),
            }
            // Before the others go without them: a repeated append has to send the same requests.
            positions.set(self.spec.name, state.clone())?;
        }
    }

    /// Appends rows by the default stream, at least once and without a position.
    pub(super) async fn append_by_default_stream(
        &mut self,
        service: &Service,
        rows: &FlushRows,
    ) -> Result<(), WriteError> {
        let schema = ArrowSchema::new().set_serialized_schema(self.encoder.schema_message()?);
        let table = service.options.table_path(&rows_table(self.spec.name));
        let opening = service.write.open_default_stream(table).build_arrow(schema);
        self.writer = Some(Writer::Default(service.open("GetWriteStream", opening).await?));
        let mut start = 0;
        for count in rows.plan() {
            let places: Vec<usize> = (start..start + count).collect();
            match self.send(service, rows, 0, &places).await? {
                Answer::Appended | Answer::WasThere => {}
                // The rows are in the lake and in the worker's own tables: a flush does not wait for what is about them.
                Answer::Refused(_) => Self::tell_of_lost_letters(count),
                Answer::RequestRefused(_) if count == 1 => Self::tell_of_lost_letters(count),
                Answer::RequestRefused(problem) | Answer::StreamEnded(problem) | Answer::Lost(problem) => {
                    return Err(WriteError::Service(problem));
                }
            }
            start += count;
        }
        Ok(())
    }

    fn tell_of_lost_letters(rows: usize) {
        tracing::error!(rows, "BigQuery refused dead letters about rows that it refused");
    }

    /// Opens the stream of this worker, or makes one. Returns whether it made one, whose offsets begin at 0.
    async fn open(&mut self, service: &Service, state: &mut TablePosition) -> Result<bool, WriteError> {
        if self.writer.is_some() {
            return Ok(false);
        }
        let mut is_new = false;
        let schema = ArrowSchema::new().set_serialized_schema(self.encoder.schema_message()?);
        let table = service.options.table_path(&rows_table(self.spec.name));
        self.writer = Some(match service.options.delivery {
            Delivery::AtLeastOnce => {
                let opening = service.write.open_default_stream(table).build_arrow(schema);
                Writer::Default(service.open("GetWriteStream", opening).await?)
            }
            Delivery::ExactlyOnce => {
                let known = match &state.stream {
                    Some(stream) => {
                        let opening = service.write.attach_to_stream::<CommittedStream>(stream);
                        match service.open("GetWriteStream", opening.build_arrow(schema.clone())).await {
                            Ok(writer) => Some(writer),
                            Err(TryError::Answered(error)) if is_gone(&error.to_string()) => None,
                            Err(error) => return Err(error.into()),
                        }
                    }
                    None => None,
                };
                match known {
                    Some(writer) => Writer::Committed(writer),
                    None => {
                        let making = service.write.create_stream::<CommittedStream>(table).build_arrow(schema);
                        let writer = service.open("CreateWriteStream", making).await?;
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
    async fn send(
        &self,
        service: &Service,
        rows: &FlushRows,
        offset: u64,
        places: &[usize],
    ) -> Result<Answer, WriteError> {
        let (encoded, of_request) = (rows.clone(), places.to_vec());
        let message = blocking(move || encoded.message(&of_request)).await?;
        if message.len() > REQUEST_BYTES_MAX {
            let problem = format!("it has {} bytes, more than a request may have", message.len());
            return Ok(Answer::RequestRefused(problem));
        }
        let message = ArrowRecordBatch::new().set_serialized_record_batch(message);
        let sent = match &self.writer {
            Some(Writer::Committed(writer)) => {
                let offset = i64::try_from(offset).unwrap_or(i64::MAX);
                let sending = async { writer.append(message).set_offset(offset).send().await };
                service.caller.once("AppendRows", sending).await
            }
            Some(Writer::Default(writer)) => {
                service.caller.once("AppendRows", async { writer.append(message).send().await }).await
            }
            None => return Err(WriteError::Service("no stream is open".to_owned())),
        };
        let error = match sent {
            Ok(_) => return Ok(Answer::Appended),
            Err(TryError::Answered(error)) => error,
            Err(TryError::TimedOut) => return Ok(Answer::Lost(WriteError::Timeout.to_string())),
            Err(TryError::BreakerOpen) => return Err(WriteError::BreakerOpen),
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
                let problem = source.to_string();
                match source.status().map(|status| status.code) {
                    Some(Code::AlreadyExists) => Ok(Answer::WasThere),
                    Some(Code::OutOfRange) => Ok(Answer::StreamEnded(problem)),
                    Some(Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition) if is_gone(&problem) => {
                        Ok(Answer::StreamEnded(problem))
                    }
                    Some(Code::NotFound) => Err(WriteError::Schema(problem)),
                    Some(Code::InvalidArgument) if is_about_schema(&problem) => Err(WriteError::Schema(problem)),
                    Some(Code::InvalidArgument) => Ok(Answer::RequestRefused(problem)),
                    Some(
                        Code::Unavailable | Code::Aborted | Code::Cancelled | Code::Internal | Code::DeadlineExceeded,
                    )
                    | None => Ok(Answer::Lost(problem)),
                    Some(_) => Err(WriteError::Service(problem)),
                }
            }
            AppendError::UnexpectedEndOfStream => Ok(Answer::Lost(error.to_string())),
            other => Err(WriteError::Service(other.to_string())),
        }
    }
}

/// Encodes rows away from the threads that serve connections.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArrowError> + Send + 'static,
) -> Result<T, WriteError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| WriteError::Service(format!("a thread that encodes rows died: {error}")))??)
}

impl CallError for AppendError {
    fn code(&self) -> &'static str {
        match self {
            Self::Rpc { source, .. } => source.code(),
            Self::RowErrors { .. } => "ROW_ERRORS",
            _ => "UNAVAILABLE",
        }
    }

    fn problem(&self) -> String {
        self.to_string()
    }

    fn is_retryable(&self) -> bool {
        match self {
            Self::Rpc { source, .. } => source.is_retryable(),
            Self::RowErrors { .. } => false,
            _ => true,
        }
    }
}

/// A table that lacks a column, or just got it, refuses all rows.
fn is_about_schema(problem: &str) -> bool {
    let problem = problem.to_ascii_lowercase();
    ["schema", "field", "column"].iter().any(|word| problem.contains(word))
}

fn is_gone(problem: &str) -> bool {
    let problem = problem.to_ascii_lowercase();
    let is_of_stream = problem.contains("stream") || problem.contains("entity");
    is_of_stream
        && ["not found", "not_found", "finalized", "invalid_stream_state"].iter().any(|words| problem.contains(words))
}

/// What the writers of all tables share.
pub(super) struct Service {
    pub(super) options: BigQueryOptions,
    pub(super) write: Arc<Write>,
    pub(super) client: BigQueryClient,
    /// Of the Storage Write API.
    pub(super) caller: Arc<Caller>,
}

impl Service {
    /// Opens or makes a stream, once.
    async fn open<W, E: std::error::Error + 'static>(
        &self,
        call: &'static str,
        opening: impl Future<Output = Result<W, E>>,
    ) -> Result<W, TryError<Failed>> {
        self.caller.once(call, async { opening.await.map_err(|error| Failed::of(&error)) }).await
    }

    /// Up to which place the rows of an append are in a table. Looks at their times only.
    async fn rows_of(&self, spec: &TableSpec, append: &Append<'_>) -> Result<usize, WriteError> {
        let Some((first, last)) = append.rows.times() else { return Ok(0) };
        let sql = format!(
            "SELECT COALESCE(MAX(flush_row) + 1, 0) FROM {} WHERE `{}` BETWEEN TIMESTAMP_MICROS({first}) AND \
             TIMESTAMP_MICROS({last}) AND flush_writer = {} AND flush_position = {}",
            quoted(&self.options, &rows_table(spec.name)),
            spec.time,
            text(&self.options.writer),
            append.position.0
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
