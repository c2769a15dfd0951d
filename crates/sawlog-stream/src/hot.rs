//! The data as queries see it: the active and the frozen generation in front of the stores.
//!
//! For: consistent views, and the one-step swap of frozen rows for files. Invariant: a row is in the active
//! generation, in the frozen one or in the stores, never in two of them within one view.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use sawlog_core::ledger::Counts;
use sawlog_core::reconciled::{self, Aggregate};
use sawlog_core::rollup::Rollup;
use sawlog_core::schema::{self, Table};
use sawlog_core::session;
use sawlog_core::sketch::Sketch;
use sawlog_seams::serving::ServingSnapshot;
use sawlog_seams::view::{HotRollups, HotSessions, TableView, View, ViewSource};
use sawlog_seams::warehouse::{LEDGER_TABLE, StoredTable};

use crate::generation::{Generation, LedgerKey, VERDICT_TABLES, minute_of};
use crate::judge::Judge;
use crate::planted::{Bug, is_planted};
use crate::stream_state::StreamState;

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// Minute of receive time, UTC microseconds.
    pub receive_minute: i64,
    /// Source that delivered the records.
    pub source: String,
    /// Their counts.
    pub counts: Counts,
}

pub(crate) struct Hot {
    state: RwLock<State>,
    in_flight: Mutex<HashMap<LedgerKey, u64>>,
}

pub(crate) struct State {
    pub(crate) active: Generation,
    pub(crate) frozen: Option<Arc<Generation>>,
    pub(crate) stored: HashMap<&'static str, Arc<StoredTable>>,
    pub(crate) serving: Arc<dyn ServingSnapshot>,
    /// Watermarks and admitted series as of the last batch.
    pub(crate) stream: StreamState,
    /// Detectors and alert rules as of the last batch.
    pub(crate) judge: Judge,
    /// How long after the watermark had passed a window's end it was judged, microseconds.
    pub(crate) on_time_delay: Sketch,
}

impl Hot {
    pub(crate) fn new(
        active: Generation,
        stored: HashMap<&'static str, Arc<StoredTable>>,
        serving: Arc<dyn ServingSnapshot>,
        stream: StreamState,
        judge: Judge,
    ) -> Self {
        let (frozen, on_time_delay) = (None, Sketch::default());
        Self {
            state: RwLock::new(State { active, frozen, stored, serving, stream, judge, on_time_delay }),
            in_flight: Mutex::new(HashMap::new()),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the log must be told that time went on, since a window is complete by nothing else.
    pub(crate) fn needs_tick(&self, now: i64) -> bool {
        let state = self.read();
        let is_due = !state.judge.backlog().is_empty() || state.stream.is_due(now, state.judge.shortest_width());
        drop(state);
        if is_due && is_planted(Bug::TickWithoutLog) {
            self.write().stream.tick(now);
        }
        is_due && !is_planted(Bug::TickWithoutLog)
    }

    /// Records that were taken in and are not applied yet.
    pub(crate) fn add_in_flight(&self, receive_time: i64, source: &str, records: u64) {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        *in_flight.entry((minute_of(receive_time), source.to_owned())).or_default() += records;
    }

    pub(crate) fn remove_in_flight(&self, receive_time: i64, source: &str, records: u64) {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (minute_of(receive_time), source.to_owned());
        if let Some(count) = in_flight.get_mut(&key) {
            *count = count.saturating_sub(records);
            if *count == 0 {
                in_flight.remove(&key);
            }
        }
    }

    /// The ledger lines that are not in the warehouse yet.
    pub(crate) fn ledger(&self) -> Vec<LedgerRow> {
        self.ledger_of(&self.read())
    }

    fn ledger_of(&self, state: &State) -> Vec<LedgerRow> {
        // Applying moves a record from in-flight to its outcome under the write lock, so that both are read as one.
        let mut lines: HashMap<LedgerKey, Counts> = HashMap::new();
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, records) in in_flight.iter() {
            let counts = Counts { received: *records, in_flight: *records, ..Counts::default() };
            *lines.entry(key.clone()).or_default() += counts;
        }
        drop(in_flight);
        for generation in state.frozen.iter().map(Arc::as_ref).chain([&state.active]) {
            for (key, counts) in &generation.ledger {
                *lines.entry(key.clone()).or_default() += *counts;
            }
        }
        lines
            .into_iter()
            .map(|((receive_minute, source), counts)| LedgerRow { receive_minute, source, counts })
            .collect()
    }
}

impl ViewSource for Hot {
    fn view(&self) -> View {
        let state = self.read();
        let ledger = ledger_rows(&self.ledger_of(&state));
        let generations = || state.frozen.iter().map(Arc::as_ref).chain([&state.active]);
        let mut tables = HashMap::new();
        for table in Table::ALL {
            if let Some(stored) = state.stored.get(table.name()) {
                let hot =
                    generations().flat_map(|generation| generation.tables[table as usize].iter().cloned()).collect();
                tables.insert(table.name(), TableView { hot, stored: Arc::clone(stored) });
            }
        }
        if let Some(stored) = state.stored.get(LEDGER_TABLE) {
            tables.insert(LEDGER_TABLE, TableView { hot: ledger.into_iter().collect(), stored: Arc::clone(stored) });
        }
        let panes = Rollup::ALL.map(Rollup::pane_table).into_iter().chain([session::PANE_TABLE]);
        let batch = Aggregate::ALL.map(Aggregate::batch_table).into_iter().chain([reconciled::CONTROL_TABLE]);
        for name in panes.chain(batch) {
            if let Some(stored) = state.stored.get(name) {
                tables.insert(name, TableView { hot: Vec::new(), stored: Arc::clone(stored) });
            }
        }
        for (table, name) in VERDICT_TABLES.into_iter().enumerate() {
            if let Some(stored) = state.stored.get(name) {
                let hot = generations().flat_map(|generation| generation.verdicts[table].iter().cloned()).collect();
                tables.insert(name, TableView { hot, stored: Arc::clone(stored) });
            }
        }
        let hot_rollups =
            generations().map(|generation| Arc::clone(&generation.rollups) as Arc<dyn HotRollups>).collect();
        let hot_sessions =
            generations().map(|generation| Arc::clone(&generation.sessions) as Arc<dyn HotSessions>).collect();
        View {
            tables,
            remote: Vec::new(),
            hot_rollups,
            hot_sessions,
            session_rules: state.stream.session_rules(),
            serving: Arc::clone(&state.serving),
            watermark: state.stream.watermark(),
        }
    }
}

/// Ledger lines as rows of `sawlog_ledger`.
pub(crate) fn ledger_rows(lines: &[LedgerRow]) -> Option<RecordBatch> {
    let minutes = lines.iter().map(|line| line.receive_minute).collect::<Vec<_>>();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(minutes).with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(lines.iter().map(|line| &line.source))),
    ];
    for index in 0..Counts::NAMES.len() {
        let values = lines.iter().map(|line| line.counts.values()[index] as i64);
        columns.push(Arc::new(Int64Array::from_iter_values(values)));
    }
    RecordBatch::try_new(schema::ledger_schema(), columns).ok().filter(|rows| rows.num_rows() > 0)
}
