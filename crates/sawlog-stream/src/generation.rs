//! What has arrived since the last flush: rows, raw bodies, counts, rollups and ids.
//!
//! For: the unit that a flush freezes and writes as a whole. Not for: deciding when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use sawlog_core::ledger::Counts;
use sawlog_core::rollup::Rollups;
use sawlog_core::schema::Table;
use sawlog_seams::Position;
use sawlog_seams::serving::Cell;
use sawlog_seams::view::HotRollups;

use crate::frame::BatchFrame;

/// Key of the ledger: receive minute (UTC microseconds) and source.
pub(crate) type LedgerKey = (i64, String);

/// Minute of a receive time.
pub(crate) const fn minute_of(time: i64) -> i64 {
    const MINUTE: i64 = 60_000_000;
    time.div_euclid(MINUTE) * MINUTE
}

/// Rows and everything else of a stretch of the log.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    pub(crate) tables: [Vec<RecordBatch>; 4],
    pub(crate) bodies: Vec<Arc<BatchFrame>>,
    pub(crate) ledger: HashMap<LedgerKey, Counts>,
    pub(crate) rollups: Arc<SharedRollups>,
    /// Ids of stored rows: slot and log position of their batch.
    pub(crate) ids: HashMap<u128, (u32, u64)>,
    /// Idempotency keys: receive time and log position.
    pub(crate) batch_keys: HashMap<u128, (i64, u64)>,
    /// Memory that rows and bodies take.
    pub(crate) bytes: usize,
    /// Start of the stretch.
    pub(crate) start: Position,
    /// End of the stretch: every record before it is in.
    pub(crate) end: Position,
    /// Latest event time so far, for the dedup window.
    pub(crate) newest_event: i64,
    /// The same before the first batch: where a replay of this stretch begins.
    pub(crate) newest_event_before: i64,
}

/// Rollups that queries read while they grow.
#[derive(Debug, Default)]
pub(crate) struct SharedRollups {
    inner: Mutex<Rollups>,
}

impl SharedRollups {
    pub(crate) fn add(&self, table: Table, batch: &RecordBatch) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).add(table, batch);
    }
}

impl HotRollups for SharedRollups {
    fn cells(&self) -> Vec<Cell> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).cells().collect()
    }
}

/// So many small batches in a row are made one: queries pay for each batch.
const SMALL_BATCHES_MAX: usize = 32;
const SMALL_BATCH_ROWS: usize = 8 * 1024;

impl Generation {
    pub(crate) fn starting_at(start: Position, newest_event: i64) -> Self {
        Self { start, end: start, newest_event, newest_event_before: newest_event, ..Self::default() }
    }

    /// Whether there is nothing to flush.
    pub(crate) fn is_empty(&self) -> bool {
        self.end == self.start
    }

    pub(crate) fn push_rows(&mut self, table: Table, batch: &RecordBatch) {
        if batch.num_rows() == 0 {
            return;
        }
        self.bytes += batch.get_array_memory_size();
        let list = &mut self.tables[table as usize];
        list.push(batch.clone());
        let small = list.iter().rev().take_while(|batch| batch.num_rows() < SMALL_BATCH_ROWS).count();
        if small >= SMALL_BATCHES_MAX
            && let Ok(merged) = concat_batches(&table.schema(), &list[list.len() - small..])
        {
            list.truncate(list.len() - small);
            list.push(merged);
        }
    }

    pub(crate) fn count(&mut self, receive_time: i64, source: &str, counts: Counts) {
        *self.ledger.entry((minute_of(receive_time), source.to_owned())).or_default() += counts;
    }
}
