//! Applying batches in log order: removing repeats, counting, making rows visible.
//!
//! For: the one place where order matters. Runs on its own thread, and on the opening thread during recovery.
//! Deterministic: the same log, applied from the same checkpoint, gives the same rows and counts.
//!
//! Of two records with one id in one batch the one with the smaller payload hash wins (`sawlog_core::dedup`). Of two
//! batches the first one in the log wins, whatever the hashes: its row has been answered as stored, counted, rolled up
//! and shown to queries and watchers by the time that the second is met, whether or not it was flushed, and none of that
//! can be taken back. They were never seen together.

use std::sync::Arc;

use sawlog_core::ledger::{Counts, Outcome};
use sawlog_core::rollup::{Correction, Deltas};
use sawlog_core::schema::Table;
use sawlog_core::transform::{RowId, Transformed};
use sawlog_seams::serving::{Family, ServingError, ServingSnapshot, ServingStore};
use sawlog_seams::warehouse::{LEDGER_TABLE, Warehouse};
use sawlog_seams::{Clock, Position};
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_128;

use crate::dedup::{StoredIds, slot_of};
use crate::frame::{BatchFrame, NoteFrame};
use crate::generation::{Generation, VERDICT_TABLES};
use crate::hot::{Hot, State};
use crate::judge::{Cells, Verdicts};
use crate::pending::Held;
use crate::planted::{Bug, is_planted};
use crate::stream_state::Progress;
use crate::tap::Taps;

/// How long an idempotency key is remembered, microseconds of receive time.
pub(crate) const BATCH_KEY_AGE: i64 = 24 * 3_600_000_000;

/// A durable batch or note, in log order.
pub(crate) struct Applicable {
    pub(crate) position: Position,
    pub(crate) next: Position,
    pub(crate) content: Content,
    /// Its memory, which counts as waiting until it is applied.
    pub(crate) held: Held,
}

/// What became of a batch.
pub(crate) struct Applied {
    pub(crate) counts: Counts,
    /// Of each record that was not refused, in the order of the body.
    pub(crate) outcomes: Vec<Outcome>,
}

pub(crate) enum Content {
    Batch {
        frame: BatchFrame,
        transformed: Box<Transformed>,
        reply: Option<oneshot::Sender<Applied>>,
    },
    Note(NoteFrame),
    /// Receive time went on until then.
    Tick(i64),
    /// A process was started then.
    Start(i64),
    Corrections {
        panes: Vec<Correction>,
        reply: Option<oneshot::Sender<()>>,
    },
}

pub(crate) struct Applier {
    hot: Arc<Hot>,
    warehouse: Arc<dyn Warehouse>,
    serving: Arc<dyn ServingStore>,
    /// Length of the dedup window, microseconds of event time.
    window: i64,
    is_lake_on: bool,
    taps: Arc<Taps>,
    clock: Arc<dyn Clock>,
}

impl Applier {
    pub(crate) fn new(
        hot: Arc<Hot>,
        warehouse: Arc<dyn Warehouse>,
        serving: Arc<dyn ServingStore>,
        window: i64,
        is_lake_on: bool,
        taps: Arc<Taps>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { hot, warehouse, serving, window, is_lake_on, taps, clock }
    }

    /// Applies one batch or note. `stored_ids` are the ids in the serving store.
    pub(crate) fn apply(&self, item: Applicable, stored_ids: &StoredIds) -> Result<(), ServingError> {
        // Let go of at the end, when what it became is counted elsewhere.
        let _held = item.held;
        match item.content {
            Content::Note(note) => {
                let mut state = self.hot.write();
                if item.position >= self.warehouse.committed(LEDGER_TABLE) {
                    state.active.count(note.receive_time, &note.source, note.counts);
                }
                state.active.end = item.next;
            }
            Content::Tick(receive_time) => {
                let mut state = self.hot.write();
                self.follow_clock(&mut state, item.position, receive_time)?;
                if item.position >= self.serving.applied() {
                    let progress = state.stream.tick(receive_time);
                    self.judge(&mut state, item.position, receive_time, &progress, None)?;
                }
                state.active.end = item.next;
            }
            Content::Start(receive_time) => {
                let mut state = self.hot.write();
                self.follow_clock(&mut state, item.position, receive_time)?;
                if item.position >= self.serving.applied() {
                    state.stream.start(receive_time);
                    // The first frame that a process judges, so that nobody waits for a window for it.
                    let verdicts = Verdicts { events: state.judge.end_former_rules(), ..Verdicts::default() };
                    self.push(&mut state.active, item.position, &verdicts)?;
                }
                state.active.end = item.next;
            }
            Content::Corrections { panes, reply } => {
                let mut state = self.hot.write();
                if item.position >= self.serving.applied() {
                    state.active.correct(panes);
                }
                state.active.end = item.next;
                drop(state);
                if let Some(reply) = reply {
                    // Who asked may have gone; what is in the log is flushed all the same.
                    let _ = reply.send(());
                }
            }
            Content::Batch { frame, transformed, reply } => {
                let applied = self.apply_batch(item.position, item.next, frame, *transformed, stored_ids)?;
                if let Some(reply) = reply {
                    // The client may have gone; its batch is stored all the same.
                    let _ = reply.send(applied);
                }
            }
        }
        Ok(())
    }

    fn apply_batch(
        &self,
        position: Position,
        next: Position,
        frame: BatchFrame,
        mut transformed: Transformed,
        stored_ids: &StoredIds,
    ) -> Result<Applied, ServingError> {
        let snapshot = {
            let mut state = self.hot.write();
            self.follow_clock(&mut state, position, frame.receive_time)?;
            Arc::clone(&state.serving)
        };
        let batch_key = frame.idempotency_key.as_ref().map(|key| xxh3_128(key.as_bytes()));
        let is_repeat = match batch_key {
            Some(key) => self.is_repeated_batch(key, &frame, position, snapshot.as_ref())?,
            None => false,
        };
        let mut counts;
        if is_repeat {
            let received = transformed.counts.received;
            counts = Counts { received, duplicate: received, ..Counts::default() };
            if is_planted(Bug::RepeatedBatchStored) {
                counts = transformed.counts;
            }
            transformed.outcomes.fill(Outcome::Duplicate);
        } else {
            let repeats = self.repeated_rows(&transformed, position, snapshot.as_ref(), stored_ids)?;
            transformed.remove_rows(&repeats).map_err(|error| ServingError::backend("removing repeats", error))?;
            counts = transformed.counts;
        }
        counts += Counts::rejected(frame.rejected);
        let mut state = self.hot.write();
        let is_counted = position < self.serving.applied() && !is_planted(Bug::DeltasAppliedTwice);
        if !is_repeat && !is_counted {
            let State { active, stream, .. } = &mut *state;
            let taken = stream
                .take_in(&frame, &mut transformed.tables, active)
                .map_err(|error| ServingError::backend("taking out late rows", error))?;
            counts.late = taken.late_count;
            self.judge(&mut state, position, frame.receive_time, &taken.progress, Some(&taken.corrections))?;
        }
        let active = &mut state.active;
        debug_assert!(counts.closes(), "the counts of a batch close: {counts:?}");
        self.hot.remove_in_flight(frame.receive_time, &frame.source, counts.received);
        if position >= self.warehouse.committed(LEDGER_TABLE) {
            active.count(frame.receive_time, &frame.source, counts);
        }
        if !is_repeat {
            self.add(active, position, frame, &transformed, batch_key, stored_ids.floor());
        }
        active.end = next;
        drop(state);
        if !is_repeat {
            for table in Table::ALL {
                self.taps.publish(table, &transformed.tables[table as usize]);
            }
        }
        Ok(Applied { counts, outcomes: transformed.outcomes })
    }

    /// Begins anew with what follows receive time, if that says that the clock was set back: it would wait for as long as the
    /// clock was ahead, and take everything until then for late or too old.
    fn follow_clock(&self, state: &mut State, position: Position, receive_time: i64) -> Result<(), ServingError> {
        state.active.set_back(receive_time);
        if is_planted(Bug::SetBackIgnored) {
            return Ok(());
        }
        if position >= self.serving.applied() && state.stream.set_back(receive_time) {
            tracing::warn!(
                receive_time,
                "the clock was set back: watermarks, detectors and alerts begin anew from there"
            );
            let State { active, frozen, stream, judge, serving, .. } = state;
            let generations: Vec<&Generation> = frozen.iter().map(Arc::as_ref).chain([&*active]).collect();
            stream.reopen(&generations, serving.as_ref())?;
            let verdicts = Verdicts { events: judge.set_back(stream.watermark()), ..Verdicts::default() };
            self.push(active, position, &verdicts)?;
        }
        Ok(())
    }

    /// Judges what has become complete, and complete windows that got more. A tick brings no corrections.
    fn judge(
        &self,
        state: &mut State,
        position: Position,
        receive_time: i64,
        progress: &Progress,
        corrections: Option<&Deltas>,
    ) -> Result<(), ServingError> {
        let State { active, frozen, judge, serving, .. } = state;
        let frozen = frozen.iter().filter(|_| !is_planted(Bug::FrozenCellsNotJudged));
        let hot = frozen.map(|frozen| frozen.rollups.as_ref()).chain([active.rollups.as_ref()]).collect();
        let cells = Cells { hot, snapshot: serving.as_ref() };
        let mut events = judge.end_former_rules();
        events.extend(corrections.map(|corrections| judge.correct(corrections, progress.before)).unwrap_or_default());
        let mut verdicts = Verdicts { events, ..Verdicts::default() };
        judge.go_on(progress, corrections.is_none(), &cells, &mut verdicts)?;
        self.push(active, position, &verdicts)?;
        if !progress.ends.is_empty() {
            let delay = self.clock.now_micros().saturating_sub(receive_time);
            state.on_time_delay.add(delay.max(0) as f64);
        }
        Ok(())
    }

    /// Keeps the rows of verdicts that are not in the warehouse yet.
    fn push(&self, active: &mut Generation, position: Position, verdicts: &Verdicts) -> Result<(), ServingError> {
        let rows = verdicts.rows().map_err(|error| ServingError::backend("making rows of verdicts", error))?;
        for (table, rows) in rows.into_iter().enumerate() {
            if let Some(rows) = rows.filter(|_| position >= self.warehouse.committed(VERDICT_TABLES[table])) {
                active.push_verdicts(table, rows);
            }
        }
        Ok(())
    }

    fn is_repeated_batch(
        &self,
        key: u128,
        frame: &BatchFrame,
        position: Position,
        snapshot: &dyn ServingSnapshot,
    ) -> Result<bool, ServingError> {
        let state = self.hot.read();
        let in_memory = [Some(&state.active), state.frozen.as_deref()]
            .into_iter()
            .flatten()
            .find_map(|one| one.batch_keys.get(&key));
        if let Some(&(receive_time, first)) = in_memory {
            return Ok(first != position.0 && frame.receive_time - receive_time < BATCH_KEY_AGE);
        }
        drop(state);
        let stored = snapshot.get(Family::BatchKey, &key.to_be_bytes())?;
        Ok(stored.and_then(|value| decode_batch_key(&value)).is_some_and(|(receive_time, first)| {
            first != position.0 && frame.receive_time - receive_time < BATCH_KEY_AGE
        }))
    }

    /// Rows whose id was stored by an earlier batch. Ids older than the window are left to batch jobs.
    fn repeated_rows(
        &self,
        transformed: &Transformed,
        position: Position,
        snapshot: &dyn ServingSnapshot,
        stored_ids: &StoredIds,
    ) -> Result<Vec<RowId>, ServingError> {
        if transformed.ids.is_empty() {
            return Ok(Vec::new());
        }
        let state = self.hot.read();
        let oldest = state.active.newest_event.saturating_sub(self.window);
        // Wherever an id is found, in memory or in the store: the moment of a flush must not decide.
        let floor = if is_planted(Bug::DedupFloorIgnored) { 0 } else { stored_ids.floor() };
        let oldest_slot = slot_of(oldest).max(floor);
        let mut repeats = Vec::new();
        for row_id in transformed.ids.iter().filter(|row_id| row_id.event_time >= oldest) {
            let frozen = state.frozen.as_deref().filter(|_| !is_planted(Bug::FrozenIdsForgotten));
            let in_memory = [Some(&state.active), frozen]
                .into_iter()
                .flatten()
                .find_map(|one| one.ids.get(&row_id.id).filter(|(slot, _)| *slot >= oldest_slot))
                .map(|(_, first)| *first);
            let first = match in_memory {
                Some(first) => Some(first),
                None => stored_ids.find(snapshot, row_id.id, oldest_slot)?,
            };
            // During recovery a batch meets the ids that it stored itself.
            if first.is_some_and(|first| first != position.0) {
                repeats.push(*row_id);
            }
        }
        Ok(repeats)
    }

    fn add(
        &self,
        active: &mut Generation,
        position: Position,
        frame: BatchFrame,
        transformed: &Transformed,
        batch_key: Option<u128>,
        floor: u32,
    ) {
        active.receive_time_min = active.receive_time_min.into_iter().chain([frame.receive_time]).min();
        for table in Table::ALL {
            let rows = &transformed.tables[table as usize];
            if position >= self.warehouse.committed(table.name()) {
                active.push_rows(table, rows);
            } else if position >= self.serving.applied() && !is_planted(Bug::TimelineRowsForgotten) {
                active.rows_in_tables.push((table, rows.clone()));
            }
        }
        let oldest = active.newest_event.saturating_sub(self.window);
        for row_id in transformed.ids.iter().filter(|row_id| row_id.event_time >= oldest) {
            let slot = slot_of(row_id.event_time);
            if slot >= floor {
                active.remember_id(row_id.id, slot, position);
            }
            // A clock that runs ahead must not close the window for the others.
            active.newest_event = active.newest_event.max(row_id.event_time.min(frame.receive_time));
        }
        if let Some(key) = batch_key {
            active.remember_batch_key(key, frame.receive_time, position);
        }
        if self.is_lake_on {
            active.push_body(frame);
        }
    }
}

pub(crate) fn encode_batch_key(receive_time: i64, position: u64) -> Vec<u8> {
    [receive_time.to_be_bytes(), position.to_be_bytes()].concat()
}

pub(crate) fn decode_batch_key(value: &[u8]) -> Option<(i64, u64)> {
    let (time, position) = value.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*time), u64::from_be_bytes(position.try_into().ok()?)))
}
