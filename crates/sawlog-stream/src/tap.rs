//! Rows as they become visible, for those who watch.
//!
//! For: handing rows to watchers without ever waiting for one. Not for: filtering or sending them. The rows of the last
//! moments are kept once for all watchers, within a bound; who falls behind it skips rows and learns how many. Without
//! watchers nothing is kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use sawlog_core::schema::Table;
use tokio::sync::watch;

/// Memory of the rows that wait for watchers. The newest batch is kept whatever its size.
const BYTES_MAX: usize = 32 << 20;

/// Rows that arrived since the last look.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// The rows.
    pub rows: Vec<RecordBatch>,
    /// Rows before them that were not kept for this watcher.
    pub skipped: u64,
}

#[derive(Debug, Default)]
struct Kept {
    batches: VecDeque<Batch>,
    /// Number of the first of them, counted from the start.
    first: u64,
    bytes: usize,
    /// Rows of each table since the start.
    row_counts: [u64; 4],
    is_closed: bool,
}

#[derive(Debug)]
struct Batch {
    table: Table,
    /// Rows of the table before this batch.
    rows_before: u64,
    rows: RecordBatch,
    bytes: usize,
}

/// Where rows are handed in.
#[derive(Debug)]
pub(crate) struct Taps {
    kept: Mutex<Kept>,
    /// Counts what was handed in, to wake watchers.
    changed: watch::Sender<u64>,
}

impl Default for Taps {
    fn default() -> Self {
        Self { kept: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Taps {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands in rows of a table.
    pub(crate) fn publish(&self, table: Table, rows: &RecordBatch) {
        if rows.num_rows() == 0 {
            return;
        }
        let mut kept = self.kept();
        let rows_before = kept.row_counts[table as usize];
        kept.row_counts[table as usize] += rows.num_rows() as u64;
        if self.changed.receiver_count() == 0 {
            kept.first += kept.batches.len() as u64 + 1;
            kept.batches.clear();
            kept.bytes = 0;
            return;
        }
        let bytes = rows.get_array_memory_size();
        kept.bytes += bytes;
        kept.batches.push_back(Batch { table, rows_before, rows: rows.clone(), bytes });
        while kept.bytes > BYTES_MAX && kept.batches.len() > 1 {
            if let Some(oldest) = kept.batches.pop_front() {
                kept.bytes -= oldest.bytes;
                kept.first += 1;
            }
        }
        drop(kept);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Watches a table from now on.
    pub(crate) fn tap(self: &Arc<Self>, table: Table) -> Tap {
        let changed = self.changed.subscribe();
        let kept = self.kept();
        let (rows_seen, next) = (kept.row_counts[table as usize], kept.first + kept.batches.len() as u64);
        drop(kept);
        Tap { taps: Arc::clone(self), table, rows_seen, next, changed }
    }

    /// Ends all watching.
    pub(crate) fn close(&self) {
        self.kept().is_closed = true;
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Watches the rows of a table.
#[derive(Debug)]
pub struct Tap {
    taps: Arc<Taps>,
    table: Table,
    rows_seen: u64,
    /// Number of the batch to look at next.
    next: u64,
    changed: watch::Receiver<u64>,
}

impl Tap {
    /// Waits for rows; `None` when the pipeline ends. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arrival> {
        loop {
            self.changed.borrow_and_update();
            match self.take() {
                Some(arrival) if arrival.skipped > 0 || !arrival.rows.is_empty() => return Some(arrival),
                Some(_) => self.changed.changed().await.ok()?,
                None => return None,
            }
        }
    }

    fn take(&mut self) -> Option<Arrival> {
        let kept = self.taps.kept();
        if kept.is_closed {
            return None;
        }
        let mut arrival = Arrival::default();
        let seen = usize::try_from(self.next.saturating_sub(kept.first)).unwrap_or(usize::MAX);
        self.next = kept.first + kept.batches.len() as u64;
        for batch in kept.batches.iter().skip(seen).filter(|batch| batch.table == self.table) {
            arrival.skipped += batch.rows_before - self.rows_seen;
            self.rows_seen = batch.rows_before + batch.rows.num_rows() as u64;
            arrival.rows.push(batch.rows.clone());
        }
        Some(arrival)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::ArrayRef;
    use arrow::array::new_null_array;

    use super::*;

    /// Rows without content; `bytes` are at least what they take.
    fn rows(count: usize) -> RecordBatch {
        let schema = Table::Logs.schema();
        let nullable: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let columns: Vec<ArrayRef> =
            schema.fields().iter().map(|field| new_null_array(field.data_type(), count)).collect();
        RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(nullable)), columns).expect("rows")
    }

    fn count(arrival: &Arrival) -> usize {
        arrival.rows.iter().map(RecordBatch::num_rows).sum()
    }

    #[tokio::test]
    async fn a_watcher_sees_what_arrives_after_it_came_and_only_its_table() {
        let taps = Arc::new(Taps::default());
        taps.publish(Table::Logs, &rows(1));
        let mut tap = taps.tap(Table::Logs);
        taps.publish(Table::Metrics, &rows(5));
        taps.publish(Table::Logs, &rows(2));
        taps.publish(Table::Logs, &rows(3));
        let arrival = tap.next().await.expect("rows");
        assert_eq!((count(&arrival), arrival.skipped), (5, 0));
        taps.publish(Table::Logs, &rows(4));
        assert_eq!(count(&tap.next().await.expect("rows")), 4);
        taps.close();
        assert!(tap.next().await.is_none());
    }

    #[tokio::test]
    async fn a_slow_watcher_learns_how_many_rows_it_missed() {
        let taps = Arc::new(Taps::default());
        let mut tap = taps.tap(Table::Logs);
        let batch = rows(20_000);
        let batch_count = BYTES_MAX / batch.get_array_memory_size() + 20;
        for _ in 0..batch_count {
            taps.publish(Table::Logs, &batch);
        }
        assert!(taps.kept().bytes <= BYTES_MAX);
        let arrival = tap.next().await.expect("rows");
        assert!(arrival.skipped > 0);
        assert_eq!(arrival.skipped + count(&arrival) as u64, batch_count as u64 * 20_000);
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let taps = Arc::new(Taps::default());
        drop(taps.tap(Table::Logs));
        taps.publish(Table::Logs, &rows(10));
        assert!(taps.kept().batches.is_empty());
    }
}
