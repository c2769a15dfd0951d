//! Writing a frozen generation to lake, warehouse and serving store.
//!
//! For: a flush that a crash at any step leaves repeatable. Order: note the end in the checkpoint, put raw objects,
//! commit the tables, apply rollups and ids, swap rows for files in one step, move the checkpoint, let the log go.
//! Every store remembers the position of its last flush and ignores a repeated one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sawlog_core::schema::Table;
use sawlog_core::session;
use sawlog_seams::lake::{Lake, LakeError};
use sawlog_seams::serving::{Family, Mutation, ServingError, ServingStore};
use sawlog_seams::warehouse::{LEDGER_TABLE, TableSpec, Warehouse, WarehouseError};
use sawlog_seams::{EventLog, Position};

use crate::applier::encode_batch_key;
use crate::checkpoint::{Checkpoint, CheckpointError, CheckpointFile};
use crate::dedup::{StoredIds, id_key, newest_cell, slot_of};
use crate::forget::Forgetting;
use crate::generation::{Generation, VERDICT_TABLES};
use crate::hot::{Hot, LedgerRow, ledger_rows};
use crate::lake_rows;
use crate::panes::{self, Panes};
use crate::planted::{Bug, is_planted};
use crate::users::{self, Sessions};

/// Why a flush did not finish. Nothing is lost: the events are in the log, and the flush is tried again.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// The checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A raw object could not be written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The lake holds something else where an object of this flush belongs.
    #[error(
        "object {key:?} of the lake is not what this stretch of the event log makes: {problem}; move it out of the lake's \
         folder to let the flush go on"
    )]
    ForeignObject {
        /// The key.
        key: String,
        /// How it differs.
        problem: String,
    },
    /// A table could not be written.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// The serving store could not be written.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// Raw rows could not be encoded.
    #[error("raw rows cannot be encoded: {0}")]
    Encode(#[from] parquet::errors::ParquetError),
    /// A background thread died.
    #[error("a worker stopped: {0}")]
    Worker(String),
}

pub(crate) struct Flusher {
    pub(crate) hot: Arc<Hot>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) lake: Option<Arc<dyn Lake>>,
    pub(crate) warehouse: Arc<dyn Warehouse>,
    pub(crate) serving: Arc<dyn ServingStore>,
    pub(crate) checkpoint: CheckpointFile,
    pub(crate) stored_ids: Arc<Mutex<StoredIds>>,
    /// Length of the dedup window, microseconds.
    pub(crate) window: i64,
    pub(crate) forgetting: Mutex<Forgetting>,
}

impl Flusher {
    /// Writes what is in memory. Returns whether there was anything.
    pub(crate) async fn flush(&self) -> Result<bool, FlushError> {
        let Some(generation) = self.freeze() else { return Ok(false) };
        let end = generation.end;
        // A repeated flush applies these batches again and must decide on repeats as this run did.
        let noted = Some(end).filter(|_| !is_planted(Bug::FlushNotNoted));
        self.checkpoint.write(Checkpoint::new(generation.start, noted, generation.newest_event_before))?;
        self.write_lake(&generation).await?;
        for table in Table::ALL {
            self.warehouse.append(table.name(), generation.tables[table as usize].clone(), end).await?;
        }
        let ledger: Vec<LedgerRow> = generation
            .ledger
            .iter()
            .map(|((receive_minute, source), counts)| LedgerRow {
                receive_minute: *receive_minute,
                source: source.clone(),
                counts: *counts,
            })
            .collect();
        self.warehouse.append(LEDGER_TABLE, ledger_rows(&ledger).into_iter().collect(), end).await?;
        let (panes, sessions, timelines) = self.fire(&generation).await?;
        for (rollup, rows) in panes.rows {
            self.warehouse.append(rollup.pane_table(), vec![rows], end).await?;
        }
        self.warehouse.append(session::PANE_TABLE, sessions.rows.into_iter().collect(), end).await?;
        for (table, rows) in VERDICT_TABLES.into_iter().zip(&generation.verdicts) {
            self.warehouse.append(table, rows.clone(), end).await?;
        }
        let (mut mutations, forgetting) = self.mutations(&generation)?;
        mutations.extend(panes.mutations);
        mutations.extend(sessions.mutations);
        mutations.extend(timelines);
        if is_planted(Bug::CheckpointBeforeServing) {
            self.checkpoint.write(Checkpoint::new(end, None, generation.newest_event))?;
        }
        let serving = Arc::clone(&self.serving);
        // It waits for a disk, or for a service.
        let applied = tokio::task::spawn_blocking(move || serving.apply(mutations, end)).await;
        applied.map_err(|error| FlushError::Worker(error.to_string()))??;
        *self.forgetting.lock().unwrap_or_else(PoisonError::into_inner) = forgetting;
        if is_planted(Bug::LogReleasedEarly) {
            let _ = self.log.release(self.log.next_position());
        }
        self.swap(&generation)?;
        self.checkpoint.write(Checkpoint::new(end, None, generation.newest_event))?;
        if let Err(error) = self.log.release(end) {
            tracing::warn!(%error, "the event log keeps segments that are no longer needed");
        }
        Ok(true)
    }

    pub(crate) fn stored_ids(&self) -> MutexGuard<'_, StoredIds> {
        self.stored_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generation to write: one that an earlier try left, else the active one, which is frozen.
    fn freeze(&self) -> Option<Arc<Generation>> {
        let mut stored_ids = self.stored_ids();
        let mut state = self.hot.write();
        if let Some(frozen) = &state.frozen {
            return Some(Arc::clone(frozen));
        }
        if state.active.is_empty() {
            return None;
        }
        let newest = state.active.newest_event;
        if state.active.is_set_back {
            state.active.slots_given_up = stored_ids.set_back(slot_of(newest));
        }
        let oldest = slot_of(newest.saturating_sub(self.window));
        stored_ids.raise_floor(oldest, state.active.ids.len() as u64);
        let next = Generation::starting_at(state.active.end, state.active.newest_event);
        let mut frozen = std::mem::replace(&mut state.active, next);
        frozen.stream_state = state.stream.clone();
        frozen.judge_state = state.judge.take_mutations();
        frozen.backlog = state.judge.backlog().clone();
        let frozen = Arc::new(frozen);
        state.frozen = Some(Arc::clone(&frozen));
        Some(frozen)
    }

    async fn write_lake(&self, generation: &Arc<Generation>) -> Result<(), FlushError> {
        let Some(lake) = &self.lake else { return Ok(()) };
        let frozen = Arc::clone(generation);
        let encoded =
            tokio::task::spawn_blocking(move || lake_rows::objects(&frozen.bodies, &(frozen.start..frozen.end)));
        for (key, bytes) in encoded.await.map_err(|error| FlushError::Worker(error.to_string()))?? {
            put_object(lake.as_ref(), &key, bytes).await?;
        }
        Ok(())
    }

    async fn fire(&self, generation: &Arc<Generation>) -> Result<(Panes, Sessions, Vec<Mutation>), FlushError> {
        let (frozen, snapshot) = (Arc::clone(generation), self.serving.snapshot());
        let fired = tokio::task::spawn_blocking(move || {
            let (watermark, rules) = (frozen.stream_state.watermark(), frozen.stream_state.session_rules());
            let (rollups, backlog) = (frozen.rollups.read(), &frozen.backlog);
            let panes = panes::fire(&rollups, &frozen.corrections, snapshot.as_ref(), watermark, backlog)?;
            let sessions = users::advance_sessions(&frozen.sessions.read(), snapshot.as_ref(), watermark, &rules)?;
            let timelines = users::timelines(&frozen, snapshot.as_ref())?;
            Ok::<_, ServingError>((panes, sessions, timelines))
        });
        Ok(fired.await.map_err(|error| FlushError::Worker(error.to_string()))??)
    }

    /// All changes of the serving store, and how far forgetting gets with them.
    fn mutations(&self, generation: &Generation) -> Result<(Vec<Mutation>, Forgetting), FlushError> {
        let snapshot = self.serving.snapshot();
        let (floor, floor_cell) = {
            let stored_ids = self.stored_ids();
            (stored_ids.floor(), stored_ids.floor_cell())
        };
        let forgetting = self.forgetting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Deletions come first: a batch key that is forgotten may be among the new ones again.
        let (mut mutations, forgetting) = forgetting.part(snapshot.as_ref(), generation, floor)?;
        let state_of_now = is_planted(Bug::StateAheadOfCells).then(|| self.hot.read().stream.clone());
        if !is_planted(Bug::StateBehindCells) || generation.start == Position::default() {
            mutations.extend(state_of_now.as_ref().unwrap_or(&generation.stream_state).mutations());
        }
        mutations.extend(generation.judge_state.iter().filter(|_| !is_planted(Bug::JudgeStateForgotten)).cloned());
        let ids = generation.ids.iter().filter(|(_, (slot, _))| *slot >= floor);
        mutations.extend(ids.map(|(id, (slot, position))| Mutation {
            family: Family::EventId,
            key: id_key(*slot, *id),
            value: Some(position.to_be_bytes().to_vec()),
        }));
        mutations.extend(generation.batch_keys.iter().map(|(key, (receive_time, position))| Mutation {
            family: Family::BatchKey,
            key: key.to_be_bytes().to_vec(),
            value: Some(encode_batch_key(*receive_time, *position)),
        }));
        mutations.extend([floor_cell, newest_cell(generation.newest_event)]);
        Ok((mutations, forgetting))
    }

    /// Shows the stores as they are now. `false` while a flush is half done: its rows are in memory and partly in files,
    /// and its end shows the files. The caller holds the flush's turn.
    pub(crate) fn refresh(&self) -> Result<bool, FlushError> {
        let stored = stored_tables(self.warehouse.as_ref())?;
        let serving = self.serving.snapshot();
        let mut state = self.hot.write();
        if state.frozen.is_some() {
            return Ok(false);
        }
        state.stored = stored;
        state.serving = serving;
        Ok(true)
    }

    /// Replaces the frozen rows by the files that hold them, in one step for all readers.
    fn swap(&self, generation: &Generation) -> Result<(), FlushError> {
        let stored = stored_tables(self.warehouse.as_ref())?;
        let serving = self.serving.snapshot();
        let mut stored_ids = self.stored_ids();
        for (id, (slot, _)) in &generation.ids {
            stored_ids.insert(*slot, *id);
        }
        let mut state = self.hot.write();
        state.stored = stored;
        state.serving = serving;
        state.frozen = None;
        Ok(())
    }
}

/// Puts an object. One that is there with other bytes and the same records is this flush's own, from before an upgrade.
async fn put_object(lake: &dyn Lake, key: &str, bytes: Bytes) -> Result<(), FlushError> {
    match lake.put(key, bytes.clone()).await {
        Err(LakeError::Conflict { .. }) => {}
        answer => return Ok(answer.map(drop)?),
    }
    let existing = lake.get(key).await?;
    let (one, other) = (existing.clone(), bytes);
    let compared = tokio::task::spawn_blocking(move || lake_rows::same_records(&one, &other)).await;
    let problem = match compared.map_err(|error| FlushError::Worker(error.to_string()))? {
        Ok(true) => {
            tracing::info!(key, "kept the object that an earlier build wrote for the same records");
            // Makes sure that its name is durable, as every put does.
            return Ok(lake.put(key, existing).await.map(drop)?);
        }
        Ok(false) => "it holds other records".to_owned(),
        Err(error) => format!("it cannot be read: {error}"),
    };
    Err(FlushError::ForeignObject { key: key.to_owned(), problem })
}

pub(crate) fn stored_tables(
    warehouse: &dyn Warehouse,
) -> Result<HashMap<&'static str, Arc<sawlog_seams::warehouse::StoredTable>>, WarehouseError> {
    TableSpec::all().into_iter().map(|spec| Ok((spec.name, warehouse.stored(spec.name)?))).collect()
}

/// The checkpoint's end of an interrupted flush, as a position.
pub(crate) fn interrupted_flush(checkpoint: Checkpoint) -> Option<Position> {
    checkpoint.flush_to.map(Position)
}
