//! The stores of the simulation: in memory, with calls that fail before or after they took effect.
//!
//! For: faults at the n-th call of a flush, and what else happens meanwhile. Not for: losing what a call has answered as
//! done: durability is proved of the real stores (`sawlog_seams::contract`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use sawlog_seams::Position;
use sawlog_seams::lake::{Lake, LakeError, MemoryLake, Put};
use sawlog_seams::serving::{Cell, Family, MemoryServing, Mutation, ServingError, ServingSnapshot, ServingStore};
use sawlog_seams::warehouse::{MemoryWarehouse, StoredTable, Warehouse, WarehouseError};

use crate::planted::{Bug, is_planted};

/// Writes of one flush at most: objects by hour, tables of events, panes and verdicts, the serving store.
pub(super) const WRITES_MAX: u64 = 17;

/// Something that happens between two writes of a flush.
type Interlude = Box<dyn FnOnce() + Send>;

/// A call of the serving store.
type ServingFlush = (Vec<Mutation>, Position);

/// What goes wrong at which write from now.
#[derive(Default)]
pub(super) struct Faults {
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    writes: u64,
    fails_at: Option<(u64, Moment)>,
    interlude: Option<(u64, Interlude)>,
}

/// Whether a failing write takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Before,
    /// As a crash between write and answer looks.
    After,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans for the writes from now on; the first is 1.
    pub(super) fn plan(&self, fails_at: Option<(u64, Moment)>, interlude: Option<(u64, Interlude)>) {
        *self.lock() = Plan { writes: 0, fails_at, interlude };
    }

    /// Counts a write; returns how it fails, if it does.
    fn write(&self) -> Option<Moment> {
        let (moment, interlude) = {
            let mut plan = self.lock();
            plan.writes += 1;
            let writes = plan.writes;
            let is_now = plan.interlude.as_ref().is_some_and(|(at, _)| *at == writes);
            let interlude = if is_now { plan.interlude.take() } else { None };
            (plan.fails_at.filter(|(at, _)| *at == writes).map(|(_, moment)| moment), interlude)
        };
        if let Some((_, happen)) = interlude {
            happen();
        }
        moment
    }
}

/// What outlives a process.
#[derive(Clone, Default)]
pub(super) struct SimStores {
    pub(super) faults: Arc<Faults>,
    pub(super) lake: Arc<MemoryLake>,
    pub(super) warehouse: Arc<MemoryWarehouse>,
    pub(super) serving: Arc<MemoryServing>,
    /// Position of the last flush, as the serving store has said.
    applied: Arc<Mutex<Position>>,
    /// A flush whose answer was lost: a copy of it is still under way and arrives after the next one.
    delayed: Arc<Mutex<Option<ServingFlush>>>,
}

#[async_trait]
impl Lake for SimStores {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Put, LakeError> {
        let moment = self.faults.write();
        let put = if moment == Some(Moment::Before) { Put::Stored } else { self.lake.put(key, bytes).await? };
        let failed = || LakeError::Backend { key: key.to_owned(), problem: "injected".to_owned() };
        if moment.is_some() { Err(failed()) } else { Ok(put) }
    }
    async fn get(&self, key: &str) -> Result<Bytes, LakeError> {
        self.lake.get(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        self.lake.list(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<(), LakeError> {
        self.lake.delete(key).await
    }
}

#[async_trait]
impl Warehouse for SimStores {
    async fn append(&self, table: &str, rows: Vec<RecordBatch>, position: Position) -> Result<(), WarehouseError> {
        let moment = self.faults.write();
        if moment != Some(Moment::Before) {
            let known = self.warehouse.committed(table);
            let is_repeat = position <= known && is_planted(Bug::RepeatedAppendTaken);
            let position = if is_repeat { Position(known.0 + 1) } else { position };
            self.warehouse.append(table, rows, position).await?;
        }
        if moment.is_some() { Err(WarehouseError::DiskFull { table: table.to_owned() }) } else { Ok(()) }
    }
    fn committed(&self, table: &str) -> Position {
        self.warehouse.committed(table)
    }
    fn stored(&self, table: &str) -> Result<Arc<StoredTable>, WarehouseError> {
        self.warehouse.stored(table)
    }
}

impl ServingStore for SimStores {
    fn apply(&self, mutations: Vec<Mutation>, position: Position) -> Result<(), ServingError> {
        let moment = self.faults.write();
        let mut delayed = self.delayed.lock().unwrap_or_else(PoisonError::into_inner);
        if moment != Some(Moment::Before) {
            self.serving.apply(mutations.clone(), position)?;
            *self.applied.lock().unwrap_or_else(PoisonError::into_inner) = self.serving.applied();
            if let Some((older, older_position)) = delayed.take_if(|(_, older)| *older < position) {
                let is_taken = is_planted(Bug::OlderFlushTaken);
                let older_position = if is_taken { Position(position.0 + 1) } else { older_position };
                self.serving.apply(older, older_position)?;
            }
        }
        if moment.is_some() {
            *delayed = Some((mutations, position));
            return Err(ServingError::backend("writing", "injected"));
        }
        Ok(())
    }
    fn applied(&self) -> Position {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn snapshot(&self) -> Arc<dyn ServingSnapshot> {
        self.serving.snapshot()
    }
    fn delete_unchanged(&self, family: Family, cells: Vec<Cell>) -> Result<(), ServingError> {
        self.serving.delete_unchanged(family, cells)
    }
    fn note(&self, family: Family, cell: Cell) -> Result<(), ServingError> {
        self.serving.note(family, cell)
    }
}
