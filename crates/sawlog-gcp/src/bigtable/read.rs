//! Reading rows, by streams that go on where they broke off.
//!
//! For: ranges of rows in the order of keys, one batch after the other, with few of them in memory. Not for: which versions
//! count ([`super::cells`]).

use std::ops::ControlFlow;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::row_range::{EndKey, StartKey};
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::{
    ReadRowsRequest, ReadRowsResponse, RowFilter, RowRange, RowSet,
};
use sawlog_core::bigtable::BigtableTable;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::client::{Bigtable, Client};
use super::error::BigtableError;
use super::rows::{Assembly, Row};
use crate::call::{Failure, Tries};

/// Rows of the first batch: many readers want no more.
const BATCH_ROWS_FIRST: usize = 16;
const BATCH_ROWS: usize = 1_000;
const BATCH_BYTES: usize = 1 << 20;
/// Batches that wait for the reader.
const BATCHES_MAX: usize = 2;

/// What is read.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub(super) table: BigtableTable,
    /// First key, and the first behind the last one.
    pub(super) range: (Vec<u8>, Option<Vec<u8>>),
    pub(super) filter: RowFilter,
    /// Most rows; 0 for all.
    pub(super) rows_max: usize,
}

impl Scan {
    /// One row.
    pub(super) fn of_row(table: BigtableTable, key: &[u8], filter: RowFilter) -> Self {
        Self { table, range: (key.to_vec(), Some([key, &[0]].concat())), filter, rows_max: 1 }
    }

    /// Whether there is no key that it could find.
    fn is_empty(&self) -> bool {
        self.range.1.as_ref().is_some_and(|end| *end <= self.range.0)
    }

    fn request(&self, client: &Client) -> ReadRowsRequest {
        let (start, end) = &self.range;
        let range = RowRange {
            start_key: Some(StartKey::StartKeyClosed(Bytes::copy_from_slice(start))),
            end_key: end.as_ref().map(|end| EndKey::EndKeyOpen(Bytes::copy_from_slice(end))),
        };
        ReadRowsRequest {
            table_name: client.options.table_name(self.table),
            app_profile_id: client.options.app_profile.clone(),
            rows: Some(RowSet { row_keys: Vec::new(), row_ranges: vec![range] }),
            filter: Some(self.filter.clone()),
            rows_limit: i64::try_from(self.rows_max).unwrap_or(0),
            ..ReadRowsRequest::default()
        }
    }
}

/// Where batches go: a thread that waits for them.
struct Batches {
    tx: mpsc::Sender<Result<Vec<Row>, BigtableError>>,
    /// One for each batch that may be sent.
    room: Arc<Semaphore>,
    batch: Vec<Row>,
    bytes: usize,
    is_first: bool,
}

impl Batches {
    async fn push(&mut self, row: Row) -> ControlFlow<()> {
        self.bytes += row.bytes();
        self.batch.push(row);
        let rows_max = if self.is_first { BATCH_ROWS_FIRST } else { BATCH_ROWS };
        match self.batch.len() >= rows_max || self.bytes >= BATCH_BYTES {
            true => self.send().await,
            false => ControlFlow::Continue(()),
        }
    }

    /// Breaks when nobody waits any more.
    async fn send(&mut self) -> ControlFlow<()> {
        let Ok(permit) = self.room.acquire().await else { return ControlFlow::Break(()) };
        permit.forget();
        (self.bytes, self.is_first) = (0, false);
        match self.tx.send(Ok(std::mem::take(&mut self.batch))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

impl Bigtable {
    /// Visits rows in the order of keys until the visitor breaks.
    pub(super) fn scan(
        &self,
        scan: Scan,
        visit: &mut dyn FnMut(Row) -> Result<ControlFlow<()>, BigtableError>,
    ) -> Result<(), BigtableError> {
        if scan.is_empty() {
            return Ok(());
        }
        let (tx, rx) = mpsc::channel();
        let room = Arc::new(Semaphore::new(BATCHES_MAX));
        let mut batches = Batches { tx, room: Arc::clone(&room), batch: Vec::new(), bytes: 0, is_first: true };
        let client = Arc::clone(&self.client);
        let reading = self.background.handle().spawn(async move {
            let read = client.read(scan, &mut batches).await;
            if let Err(error) = read {
                let _ = batches.tx.send(Err(error));
            } else if !batches.batch.is_empty() {
                let _ = batches.send().await;
            }
        });
        // It ends when all rows were sent, or the task died: then there is no telling what is missing.
        let mut visited = (|| {
            for batch in rx {
                room.add_permits(1);
                for row in batch? {
                    if visit(row)?.is_break() {
                        return Ok(true);
                    }
                }
            }
            Ok(false)
        })();
        let is_broken = !matches!(visited, Ok(false));
        room.close();
        if is_broken {
            reading.abort();
        } else if self.background.run(reading).is_none_or(|ended| ended.is_err()) {
            visited = Err(BigtableError::Panicked);
        }
        visited.map(drop)
    }

    /// One row, if it is there.
    pub(super) fn row(
        &self,
        table: BigtableTable,
        key: &[u8],
        filter: RowFilter,
    ) -> Result<Option<Row>, BigtableError> {
        let mut found = None;
        self.scan(Scan::of_row(table, key, filter), &mut |row| {
            found = Some(row);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }
}

impl Client {
    /// All rows of a small scan.
    pub(super) async fn rows(&self, scan: Scan) -> Result<Vec<Row>, BigtableError> {
        let (tx, rx) = mpsc::channel();
        let room = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let mut batches = Batches { tx, room, batch: Vec::new(), bytes: 0, is_first: false };
        if !scan.is_empty() {
            self.read(scan, &mut batches).await?;
        }
        let mut rows = Vec::new();
        for batch in rx.try_iter() {
            rows.extend(batch?);
        }
        rows.append(&mut batches.batch);
        Ok(rows)
    }

    /// Reads until the end, or until nobody wants more.
    async fn read(&self, mut scan: Scan, batches: &mut Batches) -> Result<(), BigtableError> {
        let mut tries = self.caller.begin("ReadRows");
        loop {
            let failure = match tries.run(self.open(&scan)).await {
                Ok(stream) => match self.drain(stream, &mut scan, batches, &mut tries).await? {
                    None => return Ok(()),
                    Some(failure) => failure,
                },
                Err(failure) => failure,
            };
            if scan.is_empty() {
                return Ok(());
            }
            tries.wait(failure).await?;
        }
    }

    async fn open(&self, scan: &Scan) -> Result<Streaming<ReadRowsResponse>, Status> {
        let message = scan.request(self);
        let table = message.table_name.clone();
        let mut request = self.data_request(&table, message).await?;
        // A stream lasts as long as its reader wants; each of its messages comes in time.
        request.metadata_mut().remove("grpc-timeout");
        Ok(self.data().read_rows(request).await?.into_inner())
    }

    /// Takes what a stream gives, and moves the scan on. A failure is given back where it may be opened again.
    async fn drain(
        &self,
        mut stream: Streaming<ReadRowsResponse>,
        scan: &mut Scan,
        batches: &mut Batches,
        tries: &mut Tries<'_>,
    ) -> Result<Option<Failure>, BigtableError> {
        let mut assembly = Assembly::default();
        loop {
            let answer = match timeout(self.caller.try_max(), stream.message()).await {
                Ok(Ok(Some(answer))) => answer,
                Ok(Ok(None)) if assembly.is_between_rows() => return Ok(None),
                Ok(Ok(None)) => return Ok(Some(tries.broke(Status::unavailable("the answer broke off").into()))),
                Ok(Err(status)) => return Ok(Some(tries.broke(status.into()))),
                Err(_) => return Ok(Some(tries.broke(Failure::TimedOut))),
            };
            let mut last = answer.last_scanned_row_key;
            for chunk in answer.chunks {
                let Some(row) = assembly.push(chunk)? else { continue };
                last = row.key.clone();
                if batches.push(row).await.is_break() {
                    return Ok(None);
                }
                if scan.rows_max > 0 {
                    scan.rows_max -= 1;
                    if scan.rows_max == 0 {
                        return Ok(None);
                    }
                }
            }
            if !last.is_empty() {
                scan.range.0 = [&last[..], &[0]].concat();
                tries.progress();
            }
        }
    }
}
