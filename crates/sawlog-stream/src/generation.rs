//! What has arrived since the last flush: rows, raw bodies, counts, rollups and ids.
//!
//! For: the unit that a flush freezes and writes as a whole. Not for: deciding when.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use sawlog_core::ledger::Counts;
use sawlog_core::rollup::{self, Cell, Correction, Deltas, PaneCell, Rollup, Width};
use sawlog_core::schema::Table;
use sawlog_core::session::{SessionDeltas, SessionOptions};
use sawlog_core::watermark::SET_BACK_MIN;
use sawlog_seams::Position;
use sawlog_seams::serving::Mutation;
use sawlog_seams::view::{HotRollups, HotSessions};
use sawlog_seams::warehouse::{ALERT_TABLE, ANOMALY_TABLE};

use crate::frame::BatchFrame;
use crate::judge::Backlog;
use crate::stream_state::StreamState;

/// Key of the ledger: receive minute (UTC microseconds) and source.
pub(crate) type LedgerKey = (i64, String);

/// Minute of a receive time.
pub(crate) const fn minute_of(time: i64) -> i64 {
    const MINUTE: i64 = 60_000_000;
    time.div_euclid(MINUTE) * MINUTE
}

/// Tables of what detectors and alert rules say.
pub(crate) const VERDICT_TABLES: [&str; 2] = [ANOMALY_TABLE, ALERT_TABLE];

/// Rows and everything else of a stretch of the log.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    pub(crate) tables: [Vec<RecordBatch>; 4],
    pub(crate) bodies: Vec<Arc<BatchFrame>>,
    pub(crate) ledger: HashMap<LedgerKey, Counts>,
    pub(crate) rollups: Arc<Shared<Deltas>>,
    /// Panes that a recount corrects, by width and row key. They were made of what is stored at its start.
    pub(crate) corrections: BTreeMap<(Width, Vec<u8>), PaneCell>,
    pub(crate) sessions: Arc<Shared<SessionDeltas>>,
    /// Rows that a flush which was cut short has in their tables already, and not in the timelines of their users.
    pub(crate) rows_in_tables: Vec<(Table, RecordBatch)>,
    /// Rows of [`VERDICT_TABLES`].
    pub(crate) verdicts: [Vec<RecordBatch>; 2],
    /// State of detectors and alerts at its end; set when it is frozen.
    pub(crate) judge_state: Vec<Mutation>,
    /// Windows that wait to be judged at its end; set when it is frozen.
    pub(crate) backlog: Backlog,
    /// Watermarks and admitted series at its end; set when it is frozen.
    pub(crate) stream_state: StreamState,
    /// Ids of stored rows: slot and log position of their batch.
    pub(crate) ids: HashMap<u128, (u32, u64)>,
    /// Idempotency keys: receive time and log position.
    pub(crate) batch_keys: HashMap<u128, (i64, u64)>,
    /// Memory that rows, bodies, ids and keys take.
    bytes: usize,
    /// Earliest receive time of its batches.
    pub(crate) receive_time_min: Option<i64>,
    /// Start of the stretch.
    pub(crate) start: Position,
    /// End of the stretch: every record before it is in.
    pub(crate) end: Position,
    /// Latest event time so far, for the dedup window.
    pub(crate) newest_event: i64,
    /// The same before the first batch: where a replay of this stretch begins.
    pub(crate) newest_event_before: i64,
    /// Whether the clock was set back within the stretch.
    pub(crate) is_set_back: bool,
    /// Slots whose ids are given up since it was; set when it is frozen.
    pub(crate) slots_given_up: Range<u32>,
}

/// What a stretch of the log added, read by queries while it grows.
#[derive(Debug, Default)]
pub(crate) struct Shared<T> {
    inner: RwLock<T>,
    bytes: AtomicUsize,
}

impl<T> Shared<T> {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it; `measure` says how much memory it takes then.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T), measure: impl FnOnce(&T) -> usize) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut inner);
        self.bytes.store(measure(&inner), Ordering::Relaxed);
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl HotRollups for Shared<Deltas> {
    fn cells(&self, rollup: Rollup, width: Width, starts: Range<i64>) -> Vec<(Vec<u8>, Cell)> {
        let inner = self.read();
        let found = inner.cells_of(rollup, width, starts);
        found.map(|(prefix, start, cell)| (rollup::with_time(prefix, start), cell)).collect()
    }
}

impl HotSessions for Shared<SessionDeltas> {
    fn merge_into(&self, into: &mut SessionDeltas, user: Option<&str>, options: &SessionOptions) {
        into.merge(&self.read(), user, options);
    }
}

/// Memory of an entry of `ids` or `batch_keys`: 33 bytes in a table that is half empty just after it has grown.
const ENTRY_BYTES: usize = 76;

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

    /// Sets the latest event time right if a receive time says that it was that of a clock which ran ahead.
    pub(crate) fn set_back(&mut self, receive_time: i64) {
        if self.newest_event > receive_time.saturating_add(SET_BACK_MIN) {
            self.newest_event = receive_time;
            self.is_set_back = true;
        }
    }

    pub(crate) fn push_body(&mut self, frame: BatchFrame) {
        self.bytes += frame.body.len();
        self.bodies.push(Arc::new(frame));
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

    /// Adds rows to one of [`VERDICT_TABLES`].
    pub(crate) fn push_verdicts(&mut self, table: usize, rows: RecordBatch) {
        self.bytes += rows.get_array_memory_size();
        let list = &mut self.verdicts[table];
        list.push(rows);
        if list.len() >= SMALL_BATCHES_MAX
            && let Ok(merged) = concat_batches(&list[0].schema(), list.iter())
        {
            *list = vec![merged];
        }
    }

    /// Takes in what a recount corrects. It is shown when it is flushed.
    pub(crate) fn correct(&mut self, panes: Vec<Correction>) {
        for Correction { width, key, pane } in panes {
            self.bytes += key.len() + size_of::<PaneCell>() + pane.cell.memory_bytes();
            self.corrections.insert((width, key), pane);
        }
    }

    pub(crate) fn remember_id(&mut self, id: u128, slot: u32, position: Position) {
        if self.ids.insert(id, (slot, position.0)).is_none() {
            self.bytes += ENTRY_BYTES;
        }
    }

    pub(crate) fn remember_batch_key(&mut self, key: u128, receive_time: i64, position: Position) {
        if self.batch_keys.insert(key, (receive_time, position.0)).is_none() {
            self.bytes += ENTRY_BYTES;
        }
    }

    /// The rows that name users, in the order of the log.
    pub(crate) fn rows_of_users(&self) -> impl Iterator<Item = (Table, &RecordBatch)> {
        let in_memory = [Table::Logs, Table::Activity]
            .into_iter()
            .flat_map(|table| self.tables[table as usize].iter().map(move |rows| (table, rows)));
        self.rows_in_tables.iter().map(|(table, rows)| (*table, rows)).chain(in_memory)
    }

    /// Memory of everything in it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.rollups.bytes() + self.sessions.bytes()
    }

    pub(crate) fn count(&mut self, receive_time: i64, source: &str, counts: Counts) {
        *self.ledger.entry((minute_of(receive_time), source.to_owned())).or_default() += counts;
    }
}

#[cfg(test)]
mod tests {
    use sawlog_core::rollup::{Admission, RollupOptions};
    use sawlog_seams::contract::warehouse::rows;

    use super::*;

    #[test]
    fn ids_keys_and_rollup_cells_count_as_memory() {
        let mut generation = Generation::default();
        for number in 0..1_000 {
            generation.remember_id(number % 500, 1, Position(1));
            generation.remember_batch_key(number % 250, 1, Position(1));
        }
        assert_eq!(generation.bytes(), 750 * ENTRY_BYTES);
        let names: Vec<_> = (0..1_000).map(|row| (format!("service {row}"), 20_000)).collect();
        let batch = rows(Table::Logs.name(), &names);
        let (options, mut admission) = (RollupOptions::default(), Admission::default());
        let add = |deltas: &mut Deltas| deltas.add(Table::Logs, &batch, 0, &options, &mut admission);
        generation.rollups.change(add, Deltas::memory_bytes);
        let cells = generation.rollups.cells(Rollup::Requests, Width::TenSeconds, i64::MIN..i64::MAX).len();
        assert!(cells == 1_000 && generation.bytes() > 750 * ENTRY_BYTES + cells * 100, "{}", generation.bytes());
    }
}
