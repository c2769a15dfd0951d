//! The position row: how far the worker has come, as all readers see it.
//!
//! For: the one step that makes a flush visible, and notices when two processes take it. Not for: cells.

use std::sync::Arc;

use bytes::Bytes;
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2::{CheckAndMutateRowRequest, CheckAndMutateRowResponse};
use sawlog_core::bigtable::{BigtableTable, META_FAMILY, POSITION_ROW};
use sawlog_seams::Position;
use tonic::Status;

use super::cells::set;
use super::client::Client;
use super::error::BigtableError;
use super::filters;
use super::read::Scan;
use super::rows::Row;

const POSITION: &[u8] = b"position";
const BEFORE: &[u8] = b"before";
const FLUSHES: &[u8] = b"flushes";
const WORKER: &[u8] = b"worker";
const OWNER: &[u8] = b"owner";

/// How far the worker has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Position of the last flush that counts.
    pub(super) position: Position,
    /// That of the one before it.
    pub(super) before: Position,
    /// Changes of the row since the tables are there: flushes that count, and disks that took the tables over.
    pub(super) flushes: u64,
    /// Name of the worker that the tables are of, drawn by lot.
    pub(super) worker: String,
    /// Name of the disk whose flushes count, drawn by lot; empty as long as only older versions have written.
    pub(super) owner: String,
}

impl Progress {
    /// After one more flush.
    pub(super) fn next(&self, position: Position) -> Self {
        Self { position, before: self.position, flushes: self.flushes + 1, ..self.clone() }
    }

    /// After another disk has taken the tables over.
    pub(super) fn of_owner(&self, owner: String) -> Self {
        Self { owner, flushes: self.flushes + 1, ..self.clone() }
    }

    fn of_row(row: &Row) -> Result<Self, BigtableError> {
        let column = |name: &[u8]| row.versions.iter().find(|version| version.column == name);
        let number = |name: &[u8]| {
            let bytes = column(name).and_then(|version| <[u8; 8]>::try_from(&*version.value).ok());
            let problem = || format!("column {} of the position row has no 8 bytes", name.escape_ascii());
            bytes.map(u64::from_be_bytes).ok_or_else(|| BigtableError::Damaged(problem()))
        };
        let text = |name: &[u8]| column(name).map(|version| String::from_utf8_lossy(&version.value).into_owned());
        Ok(Self {
            position: Position(number(POSITION)?),
            before: Position(number(BEFORE)?),
            flushes: number(FLUSHES)?,
            worker: text(WORKER).unwrap_or_default(),
            owner: text(OWNER).unwrap_or_default(),
        })
    }
}

impl Client {
    /// What the position row says; `None` before the first flush.
    pub(super) async fn progress(&self) -> Result<Option<Progress>, BigtableError> {
        let filter = filters::family(META_FAMILY, 1);
        let rows = self.rows(Scan::of_row(BigtableTable::Served, POSITION_ROW, filter)).await?;
        rows.first().map(Progress::of_row).transpose()
    }

    /// Takes the step from one state of the row (none: before the first flush) to the next. It counts as soon as this returns.
    pub(super) async fn advance(self: Arc<Self>, from: Option<Progress>, to: Progress) -> Result<(), BigtableError> {
        let mut tries = self.caller.begin("CheckAndMutateRow");
        loop {
            match tries.run(self.advance_once(from.as_ref(), &to)).await {
                Ok(true) => return Ok(()),
                Ok(false) => break,
                Err(failure) => tries.wait(failure).await?,
            }
        }
        // Another position is there: that of an earlier try whose answer was lost, or another one's.
        let found = self.progress().await?.unwrap_or_default();
        let expected = from.map_or(Position(0), |from| from.position);
        if found == to { Ok(()) } else { Err(BigtableError::OtherWriter { expected, found: found.position }) }
    }

    async fn advance_once(&self, from: Option<&Progress>, to: &Progress) -> Result<bool, Status> {
        // Later positions have later times: the family keeps one version.
        let time = i64::try_from(to.flushes).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000);
        let number = |value: u64| Bytes::copy_from_slice(&value.to_be_bytes());
        let cells = vec![
            set(META_FAMILY, POSITION, time, number(to.position.0)),
            set(META_FAMILY, BEFORE, time, number(to.before.0)),
            set(META_FAMILY, FLUSHES, time, number(to.flushes)),
            set(META_FAMILY, WORKER, time, Bytes::copy_from_slice(to.worker.as_bytes())),
            set(META_FAMILY, OWNER, time, Bytes::copy_from_slice(to.owner.as_bytes())),
        ];
        let table = self.options.table_name(BigtableTable::Served);
        let mut message = CheckAndMutateRowRequest {
            table_name: table.clone(),
            app_profile_id: self.options.app_profile.clone(),
            row_key: Bytes::from_static(POSITION_ROW),
            ..CheckAndMutateRowRequest::default()
        };
        match from {
            Some(from) => {
                // Every change of the row has a number of its own, that of an owner too.
                message.predicate_filter = Some(filters::is(FLUSHES, &from.flushes.to_be_bytes()));
                message.true_mutations = cells;
            }
            // Without a filter: whether the row is there.
            None => message.false_mutations = cells,
        }
        let request = self.data_request(&table, message).await?;
        let CheckAndMutateRowResponse { predicate_matched } =
            self.data().check_and_mutate_row(request).await?.into_inner();
        Ok(predicate_matched == from.is_some())
    }
}
