//! The pipeline as its users see it: open, submit, view, flush, close.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::thread;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use sawlog_core::alert::GroupState;
use sawlog_core::anomaly::WatchCounts;
use sawlog_core::ledger::Counts;
use sawlog_core::rollup::Correction;
use sawlog_core::rules::{LookupCounts, Rules};
use sawlog_core::schema::Table;
use sawlog_core::sketch::Sketch;
use sawlog_seams::lake::Lake;
use sawlog_seams::serving::ServingStore;
use sawlog_seams::view::{StoreRefresh, View, ViewSource};
use sawlog_seams::warehouse::{TableSpec, Warehouse};
use sawlog_seams::{AppendError, Appended, Clock, Disk, Disposition, EventLog, Position};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::applier::{Applicable, Applied, Applier, Content};
use crate::checkpoint::{CheckpointError, CheckpointFile};
use crate::dedup::{DedupStats, StoredIds};
use crate::flush::{FlushError, Flusher};
use crate::frame::{Frame, NoteFrame};
use crate::hot::{Hot, LedgerRow};
use crate::judge::JudgeOptions;
use crate::pending::{Queue, WaitingBytes};
use crate::prepare::{self, AckLevel, Prepared, Receipt, Submission, with_refused};
use crate::recovery::{OpenError, Recovered, RecoverySummary};
use crate::room::Room;
use crate::rules_archive::RulesArchive;
use crate::stream_state::{StreamOptions, StreamStats};
use crate::tap::{Tap, Taps};

/// Settings of the pipeline.
#[derive(Clone, Debug)]
pub struct PipelineOptions {
    /// Folder of the checkpoint.
    pub folder: PathBuf,
    /// Memory at which a generation is flushed, bytes of rows and bodies.
    pub flush_bytes: usize,
    /// Age at which a generation is flushed.
    pub flush_interval: Duration,
    /// Memory at which new batches are refused until a flush has made room. What alert rules keep counts, up to a half:
    /// no flush makes room of it.
    pub memory_bytes_max: usize,
    /// Submissions that are transformed at the same time.
    pub workers: NonZeroUsize,
    /// Length of the dedup window, event time.
    pub dedup_window: Duration,
    /// Windows, rollups and sessions.
    pub stream: StreamOptions,
    /// Detectors of anomalies, and alert rules.
    pub judge: JudgeOptions,
    /// Most ids that dedup remembers; with more, the oldest go before their window ends.
    pub dedup_keys_max: u64,
    /// Free space on the disk of the folder below which new batches are refused, bytes.
    pub disk_free_min: u64,
}

/// What the pipeline stands on.
#[derive(Clone)]
pub struct Stores {
    /// Event log.
    pub log: Arc<dyn EventLog>,
    /// Raw lake; `None` keeps no raw records.
    pub lake: Option<Arc<dyn Lake>>,
    /// Tables.
    pub warehouse: Arc<dyn Warehouse>,
    /// Cells by key.
    pub serving: Arc<dyn ServingStore>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Rules by version.
    pub archive: Arc<dyn RulesArchive>,
}

/// Why a submission was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// The body cannot be split into records; nothing is kept.
    #[error("{0}")]
    Unreadable(String),
    /// Too much is waiting; nothing is kept.
    #[error("too much data is waiting to be stored")]
    Overloaded,
    /// The disk is nearly full; nothing is kept.
    #[error("{free} B are free on the disk of the data folder, fewer than data.free-min ({min} B)")]
    DiskShort {
        /// Free bytes.
        free: u64,
        /// Fewest that there must be.
        min: u64,
    },
    /// The log refused or failed.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// The pipeline has stopped.
    #[error("the server is stopping")]
    Stopped,
}

impl SubmitError {
    /// Whether trying again is in vain.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Unreadable(_) => true,
            Self::Log(error) => error.disposition() == Disposition::Refuse,
            _ => false,
        }
    }

    /// Whether this process stores nothing any more: the log has failed for good, or the pipeline has stopped.
    #[must_use]
    pub fn is_of_stopped_log(&self) -> bool {
        match self {
            Self::Log(error) => error.disposition() == Disposition::Stop,
            Self::Stopped => true,
            _ => false,
        }
    }
}

/// The pipeline.
pub struct Pipeline {
    inner: Arc<Inner>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    flush_task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

struct Inner {
    options: PipelineOptions,
    stores: Stores,
    hot: Arc<Hot>,
    rules: RwLock<Arc<Rules>>,
    flusher: Flusher,
    /// One flush at a time.
    flush_turn: tokio::sync::Mutex<()>,
    flush_wanted: Notify,
    stop: AtomicBool,
    queue: Queue,
    /// Memory of what was given to the log and is not applied yet.
    waiting: WaitingBytes,
    taps: Arc<Taps>,
    workers: Semaphore,
    batch_sequence: AtomicU64,
    room: Room,
    /// Why the last flush failed, if it did.
    flush_problem: Mutex<Option<String>>,
    /// What the tables of users knew, by name.
    lookups: Mutex<BTreeMap<String, LookupCounts>>,
}

impl Pipeline {
    /// Where the log must go on at the earliest: everything before it is in the stores already. To be given to the log
    /// when it is opened, so that it never hands out a position twice even if its files were lost.
    ///
    /// # Errors
    /// When the checkpoint is unreadable.
    pub fn resume_position(
        disk: &Arc<dyn Disk>,
        folder: &Path,
        warehouse: &dyn Warehouse,
        serving: &dyn ServingStore,
    ) -> Result<Position, CheckpointError> {
        let checkpoint = CheckpointFile::new(Arc::clone(disk), folder).read()?;
        let tables = TableSpec::all().into_iter().map(|spec| warehouse.committed(spec.name));
        let reached = [Position(checkpoint.position), serving.applied()].into_iter().chain(tables).max();
        Ok(reached.unwrap_or_default())
    }

    /// Opens the pipeline: replays what the stores do not have yet, finishing a flush that was under way, and starts
    /// its threads. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When log, checkpoint and stores cannot be brought to one state.
    pub async fn open(
        options: PipelineOptions,
        stores: Stores,
        rules: Arc<Rules>,
    ) -> Result<(Self, RecoverySummary), OpenError> {
        let Recovered { hot, taps, applier, flusher, stored_ids, summary } = Recovered::open(&options, &stores).await?;
        let workers = Semaphore::new(options.workers.get());
        let (disk, clock) = (Arc::clone(&stores.disk), Arc::clone(&stores.clock));
        let room = Room::new(disk, clock, options.folder.clone(), options.disk_free_min);
        let inner = Arc::new(Inner {
            options,
            stores,
            hot,
            rules: RwLock::new(rules),
            flusher,
            flush_turn: tokio::sync::Mutex::new(()),
            flush_wanted: Notify::new(),
            stop: AtomicBool::new(false),
            queue: Queue::default(),
            waiting: WaitingBytes::default(),
            taps,
            workers,
            batch_sequence: AtomicU64::new(0),
            room,
            flush_problem: Mutex::new(None),
            lookups: Mutex::default(),
        });
        let pipeline = Self::start(inner, applier, stored_ids);
        Ok((pipeline, summary))
    }

    fn start(inner: Arc<Inner>, applier: Applier, stored_ids: Arc<Mutex<StoredIds>>) -> Self {
        let applying = Arc::clone(&inner);
        let thread = thread::Builder::new()
            .name("sawlog-applier".to_owned())
            .spawn(move || applying.apply_until_closed(&applier, &stored_ids))
            .expect("a thread can be started when the process starts");
        let flushing = Arc::clone(&inner);
        let flush_task = tokio::spawn(async move { flushing.flush_until_stopped().await });
        inner.note_start();
        tokio::spawn(tick_until_gone(Arc::downgrade(&inner)));
        Self { inner, threads: Mutex::new(vec![thread]), flush_task: Mutex::new(Some(flush_task)) }
    }

    /// Watches the rows of a table from now on.
    #[must_use]
    pub fn tap(&self, table: Table) -> Tap {
        self.inner.taps.tap(table)
    }

    /// Ends all watching, so that watchers do not hold up a stop.
    pub fn end_taps(&self) {
        self.inner.taps.close();
    }

    /// The time, microseconds since the epoch.
    #[must_use]
    pub fn now_micros(&self) -> i64 {
        self.inner.stores.clock.now_micros()
    }

    /// Takes in a body and waits for the acknowledgement it asks for.
    ///
    /// # Errors
    /// When nothing of it was kept, and when it is unknown whether it was (a failed sync).
    pub async fn submit(&self, submission: Submission) -> Result<Receipt, SubmitError> {
        let inner = &self.inner;
        if inner.stop.load(Ordering::Acquire) {
            return Err(SubmitError::Stopped);
        }
        if inner.is_full() {
            // What waits for the applier is no reason to flush: that would make many small files.
            if inner.generation_bytes() >= inner.room_for_events() / 2 {
                inner.flush_wanted.notify_one();
            }
            return Err(SubmitError::Overloaded);
        }
        if let Some(free) = inner.room.shortage() {
            return Err(SubmitError::DiskShort { free, min: inner.room.free_min() });
        }
        let ack = submission.ack;
        let prepared = inner.prepare(submission).await?;
        let provisional = prepared.counts();
        let problems = prepared.problems.clone();
        let refused = prepared.refused.clone();
        // Only for level `memory`: the applier knows better, and it has them by then.
        let outcomes = if ack == AckLevel::Memory { prepared.transformed.outcomes.clone() } else { Vec::new() };
        let (applied, reply) = oneshot::channel();
        let mut answered = inner.append(prepared, applied);
        if ack == AckLevel::Memory {
            // A log that takes nothing (failed, full, closed) has said so before `append` returned.
            match answered.try_recv() {
                Ok(answer) => answer?,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Closed) => return Err(SubmitError::Stopped),
            }
            let outcomes = with_refused(outcomes, &refused);
            return Ok(Receipt { ack, counts: provisional, outcomes, problems });
        }
        answered.await.map_err(|_| SubmitError::Stopped)??;
        let Applied { counts, outcomes } = reply.await.map_err(|_| SubmitError::Stopped)?;
        Ok(Receipt { ack, counts, outcomes: with_refused(outcomes, &refused), problems })
    }

    /// Counts records that were refused before anything was kept.
    pub fn note_rejected(&self, source: &str, records: u64) {
        let counts = Counts::rejected(records);
        let note = NoteFrame { source: source.to_owned(), receive_time: self.inner.stores.clock.now_micros(), counts };
        let encoded = Frame::Note(note.clone()).encode();
        let held = self.inner.waiting.hold(encoded.len());
        let inner = Arc::clone(&self.inner);
        self.inner.stores.log.append(
            encoded,
            Box::new(move |result| match result {
                Ok(appended) => inner.queue.push(Applicable {
                    position: appended.position,
                    next: appended.next,
                    content: Content::Note(note),
                    held,
                }),
                Err(error) => tracing::warn!(%error, "a refusal could not be noted in the ledger"),
            }),
        );
    }

    /// Takes in panes that a recount corrects, made of what the stores hold now: nothing may be in memory. They are durable
    /// in the log and applied when this returns, and in the stores after the next flush. Repeating it changes nothing.
    ///
    /// # Errors
    /// When the log takes no more; the panes before are corrected, and a recount finds the others again.
    pub async fn correct(&self, panes: Vec<Correction>) -> Result<(), SubmitError> {
        for panes in in_frames(panes) {
            if self.inner.stop.load(Ordering::Acquire) {
                return Err(SubmitError::Stopped);
            }
            let encoded = Frame::Corrections(panes.clone()).encode();
            let held = self.inner.waiting.hold(encoded.len());
            let ((answer, answered), (reply, applied)) = (oneshot::channel(), oneshot::channel());
            let inner = Arc::clone(&self.inner);
            self.inner.stores.log.append(
                encoded,
                Box::new(move |result: Result<Appended, AppendError>| {
                    let answer_now = result.map(|Appended { position, next }| {
                        let content = Content::Corrections { panes, reply: Some(reply) };
                        inner.queue.push(Applicable { position, next, content, held });
                    });
                    // Who asked may have gone.
                    let _ = answer.send(answer_now);
                }),
            );
            answered.await.map_err(|_| SubmitError::Stopped)??;
            applied.await.map_err(|_| SubmitError::Stopped)?;
        }
        Ok(())
    }

    /// Writes everything that is in memory to the stores.
    ///
    /// # Errors
    /// When a store fails; nothing is lost.
    pub async fn flush(&self) -> Result<(), FlushError> {
        self.inner.flush_once().await.map(drop)
    }

    /// The rules that new batches are transformed under.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.inner.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the rules for batches from now on. They must be in the archive already.
    pub fn set_rules(&self, rules: Arc<Rules>) {
        *self.inner.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Ledger lines that are not in the warehouse yet.
    #[must_use]
    pub fn hot_ledger(&self) -> Vec<LedgerRow> {
        self.inner.hot.ledger()
    }

    /// Why no events are taken now, if none are. Queries go on.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let inner = &self.inner;
        if inner.stores.log.stats().is_failed {
            let reason = "the event log failed to sync; nothing is acknowledged until a restart, queries go on";
            return Some(reason.to_owned());
        }
        if inner.stop.load(Ordering::Acquire) {
            return Some("ingest has stopped; the log says why".to_owned());
        }
        if let Some(free) = inner.room.shortage() {
            return Some(SubmitError::DiskShort { free, min: inner.room.free_min() }.to_string());
        }
        let problem = inner.flush_problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let problem = problem.filter(|_| inner.is_full())?;
        Some(format!("memory is full, since the last flush failed: {problem}"))
    }

    /// The event log, for its counters.
    #[must_use]
    pub fn log(&self) -> &Arc<dyn EventLog> {
        &self.inner.stores.log
    }

    /// The watermark, and how many series rollups have.
    #[must_use]
    pub fn stream_stats(&self) -> StreamStats {
        self.inner.hot.read().stream.stats()
    }

    /// What the detectors have done, and groups of alert rules that are pending or firing.
    #[must_use]
    pub fn judge_stats(&self) -> (WatchCounts, Vec<GroupState>) {
        let state = self.inner.hot.read();
        (state.judge.counts(), state.judge.states())
    }

    /// Names of the alert rules at work, sorted.
    #[must_use]
    pub fn alert_rules(&self) -> Vec<String> {
        self.inner.hot.read().judge.rule_names()
    }

    /// Values of groups for which alert rules had no room.
    #[must_use]
    pub fn refused_by_alerts(&self) -> u64 {
        self.inner.hot.read().judge.refused_by_alerts()
    }

    /// Memory of what alert rules keep of windows that may still change, bytes.
    #[must_use]
    pub fn alert_state_bytes(&self) -> usize {
        self.inner.alert_state_bytes()
    }

    /// How long after the watermark had passed a window's end its pane on time was judged, microseconds, since the start.
    #[must_use]
    pub fn on_time_delay(&self) -> Sketch {
        self.inner.hot.read().on_time_delay.clone()
    }

    /// What dedup remembers.
    #[must_use]
    pub fn dedup_stats(&self) -> DedupStats {
        self.inner.flusher.stored_ids().stats()
    }

    /// What the tables of users knew of the events received since the start, by name. A replay after a restart counts
    /// nothing: its events were counted when they came.
    #[must_use]
    pub fn lookup_stats(&self) -> Vec<(String, LookupCounts)> {
        let lookups = self.inner.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        lookups.iter().map(|(name, counts)| (name.clone(), *counts)).collect()
    }

    /// Memory of what is not in the stores yet, bytes: rows and bodies, also those on their way to the log and from it; and
    /// of what alert rules keep.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.inner.event_bytes() + self.inner.alert_state_bytes()
    }

    /// Stops: no new batches, what was accepted is applied and flushed.
    ///
    /// # Errors
    /// When the last flush fails; the events are in the log and the next start continues.
    pub async fn close(&self) -> Result<(), FlushError> {
        if self.inner.stop.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let inner = Arc::clone(&self.inner);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || {
            inner.stores.log.close();
            inner.queue.close();
            threads.into_iter().for_each(|thread| {
                let _ = thread.join();
            });
        });
        joined.await.map_err(|error| FlushError::Worker(error.to_string()))?;
        self.inner.flush_wanted.notify_one();
        let flush_task = self.flush_task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = flush_task {
            task.await.map_err(|error| FlushError::Worker(error.to_string()))?;
        }
        while self.inner.flush_once().await? {}
        Ok(())
    }
}

impl ViewSource for Pipeline {
    fn view(&self) -> View {
        self.inner.hot.view()
    }
}

#[async_trait]
impl StoreRefresh for Pipeline {
    async fn refresh_stored(&self) -> bool {
        let _turn = self.inner.flush_turn.lock().await;
        match self.inner.flusher.refresh() {
            Ok(is_done) => is_done,
            Err(error) => {
                tracing::warn!(%error, "queries still show the files as they were");
                false
            }
        }
    }
}

impl Prepared {
    fn counts(&self) -> Counts {
        let mut counts = self.transformed.counts;
        counts += Counts::rejected(self.frame.rejected);
        counts
    }
}

impl Inner {
    fn event_bytes(&self) -> usize {
        // In this order a batch that is applied meanwhile counts twice rather than not at all.
        let waiting = self.waiting.bytes();
        waiting + self.generation_bytes()
    }

    fn generation_bytes(&self) -> usize {
        let state = self.hot.read();
        state.active.bytes() + state.frozen.as_ref().map_or(0, |frozen| frozen.bytes())
    }

    fn alert_state_bytes(&self) -> usize {
        self.hot.read().judge.memory_bytes()
    }

    /// Memory that events may take until they are written. Alert rules leave them half: no flush makes room of what rules
    /// keep, and a pipeline that is full of it would never take an event again.
    fn room_for_events(&self) -> usize {
        let memory_max = self.options.memory_bytes_max;
        memory_max - self.alert_state_bytes().min(memory_max / 2)
    }

    fn is_full(&self) -> bool {
        self.event_bytes() >= self.room_for_events()
    }

    async fn prepare(&self, submission: Submission) -> Result<Prepared, SubmitError> {
        let _turn = self.workers.acquire().await.map_err(|_| SubmitError::Stopped)?;
        let receive_time = self.stores.clock.now_micros();
        let sequence = self.batch_sequence.fetch_add(1, Ordering::Relaxed);
        // Receive time and a running number: unique as long as the clock is not set back across a restart by less
        // than the number wraps; the position in the log is what stores go by.
        let batch_id = format!("{receive_time:x}{:04x}", sequence & 0xffff);
        let rules = Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner));
        let used = Arc::clone(&rules);
        let prepared =
            tokio::task::spawn_blocking(move || prepare::prepare(submission, batch_id, receive_time, &rules)).await;
        let prepared = prepared.map_err(|_| SubmitError::Stopped)?;
        let prepared = prepared.map_err(|error| SubmitError::Unreadable(error.to_string()))?;
        self.count_lookups(&used, &prepared.transformed.lookups);
        Ok(prepared)
    }

    fn count_lookups(&self, rules: &Rules, counts: &[LookupCounts]) {
        if counts.is_empty() {
            return;
        }
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, counts) in rules.user_tables().zip(counts) {
            let sum = lookups.entry(name.to_owned()).or_default();
            sum.matches += counts.matches;
            sum.misses += counts.misses;
        }
    }

    /// Appends to the log; once durable, the batch goes to the applier. Returns the log's answer.
    fn append(
        self: &Arc<Self>,
        prepared: Prepared,
        applied: oneshot::Sender<Applied>,
    ) -> oneshot::Receiver<Result<(), AppendError>> {
        let (answer, answered) = oneshot::channel();
        let Prepared { frame, encoded, transformed, .. } = prepared;
        let records = transformed.counts.received + frame.rejected;
        let rows: usize = transformed.tables.iter().map(RecordBatch::get_array_memory_size).sum();
        let held = self.waiting.hold(rows + frame.body.len());
        self.hot.add_in_flight(frame.receive_time, &frame.source, records);
        let inner = Arc::clone(self);
        self.stores.log.append(
            encoded,
            Box::new(move |result| {
                let answer_now = match result {
                    Ok(appended) => {
                        let content =
                            Content::Batch { frame, transformed: Box::new(transformed), reply: Some(applied) };
                        let Appended { position, next } = appended;
                        inner.queue.push(Applicable { position, next, content, held });
                        Ok(())
                    }
                    Err(error) => {
                        inner.hot.remove_in_flight(frame.receive_time, &frame.source, records);
                        Err(error)
                    }
                };
                // At level `memory` nobody waits for the answer.
                let _ = answer.send(answer_now);
            }),
        );
        answered
    }

    fn apply_until_closed(&self, applier: &Applier, stored_ids: &Mutex<StoredIds>) {
        while let Some(items) = self.queue.take_all() {
            for item in items {
                let ids = stored_ids.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = applier.apply(item, &ids) {
                    // The batch is in the log; a restart applies it. Going on without it would break the ledger.
                    tracing::error!(%error, "applying a batch failed, ingest stops until a restart");
                    self.stop.store(true, Ordering::Release);
                    return;
                }
            }
            if self.hot.read().active.bytes() >= self.options.flush_bytes {
                self.flush_wanted.notify_one();
            }
        }
    }

    /// Writes down that time goes on where a window becomes complete by nothing else: decisions follow the log alone.
    fn tick(self: &Arc<Self>) {
        let now = self.stores.clock.now_micros();
        if !self.hot.needs_tick(now) || self.stores.log.stats().is_failed {
            return;
        }
        self.append_mark(&Frame::Tick(now), Content::Tick(now));
    }

    /// Writes down that the process was started: no source is idle before it had its time to come back.
    fn note_start(self: &Arc<Self>) {
        let now = self.stores.clock.now_micros();
        if self.hot.read().stream.watermark() != i64::MIN {
            self.append_mark(&Frame::Start(now), Content::Start(now));
        }
    }

    fn append_mark(self: &Arc<Self>, frame: &Frame, content: Content) {
        let encoded = frame.encode();
        let held = self.waiting.hold(encoded.len());
        let inner = Arc::clone(self);
        let push = move |appended: Appended| {
            let (position, next) = (appended.position, appended.next);
            inner.queue.push(Applicable { position, next, content, held });
        };
        // A tick that the log does not take is written at the next look.
        self.stores.log.append(encoded, Box::new(move |result| result.map_or((), push)));
    }

    async fn flush_until_stopped(&self) {
        const RETRY: Duration = Duration::from_secs(2);
        while !self.stop.load(Ordering::Acquire) {
            // Either is a reason to flush.
            let _ = tokio::time::timeout(self.options.flush_interval, self.flush_wanted.notified()).await;
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            if let Err(error) = self.flush_once().await {
                tracing::error!(%error, "flush failed; it is tried again, the events are safe in the log");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn flush_once(&self) -> Result<bool, FlushError> {
        let _turn = self.flush_turn.lock().await;
        let flushed = self.flusher.flush().await;
        let problem = flushed.as_ref().err().map(ToString::to_string);
        *self.flush_problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        flushed
    }
}

/// Parts of corrections that are one frame of the log each.
fn in_frames(panes: Vec<Correction>) -> Vec<Vec<Correction>> {
    const FRAME_BYTES: usize = 1 << 20;
    let (mut frames, mut bytes) = (Vec::<Vec<Correction>>::new(), FRAME_BYTES);
    for pane in panes {
        if bytes >= FRAME_BYTES {
            frames.push(Vec::new());
            bytes = 0;
        }
        bytes += pane.key.len() + size_of::<Correction>() + pane.pane.cell.memory_bytes();
        if let Some(frame) = frames.last_mut() {
            frame.push(pane);
        }
    }
    frames
}

/// Looks for windows to complete for as long as the pipeline is there; holds nothing of it in between.
async fn tick_until_gone(pipeline: Weak<Inner>) {
    const INTERVAL: Duration = Duration::from_millis(500);
    // While windows wait to be judged: queries and events get their turns in between.
    const SHORT_INTERVAL: Duration = Duration::from_millis(50);
    while let Some(inner) = pipeline.upgrade().filter(|inner| !inner.stop.load(Ordering::Acquire)) {
        inner.tick();
        let interval = if inner.hot.read().judge.backlog().is_empty() { INTERVAL } else { SHORT_INTERVAL };
        drop(inner);
        tokio::time::sleep(interval).await;
    }
}
