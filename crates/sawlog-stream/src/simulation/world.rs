//! One simulated deployment: a log, stores, a disk, and a process that comes and goes.
//!
//! For: driving the real applier and flusher one step at a time, and telling the model the same. Not for: choosing the
//! steps ([`super::history`]) or judging the result ([`super::check`]).

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sawlog_core::alert::{AlertConfig, Rule};
use sawlog_core::ledger::Counts;
use sawlog_core::rules::{Rules, RulesConfig};
use sawlog_seams::{Clock, Disk, EventLog, ManualClock, Position, SimDisk};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::Violation;
use super::input::{Batch, FILTERED_PATH, Item};
use super::log::SimLog;
use super::model::{Answer, Model};
use super::options::Options;
use super::stores::SimStores;
use crate::applier::{Applicable, Applied, Content};
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::flush::FlushError;
use crate::frame::{Frame, NoteFrame};
use crate::judge::JudgeOptions;
use crate::pending::Held;
use crate::pipeline::{PipelineOptions, Stores};
use crate::planted::{Bug, plant};
use crate::prepare::{self, Prepared};
use crate::recovery::{OpenError, Recovered};
use crate::rules_archive::MemoryRulesArchive;

const FOLDER: &str = "/data";

/// Alert rules that a few minutes of events set off.
fn alert_rules() -> Vec<Rule> {
    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let configs: Vec<AlertConfig> = serde_json::from_str(
            r#"[{"name":"errors","kind":"threshold","column":"error_count","value":0.5,"group-by":["service"],"width":"1m"},
                {"name":"silent","kind":"silence","group-by":["service"],"width":"1m","for":"2m"}]"#,
        )
        .expect("rules");
        Rule::compile(&configs).expect("rules")
    });
    RULES.clone()
}

/// Rules that drop one path.
fn rules() -> Arc<Rules> {
    static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| {
        let config = format!(
            r#"{{"filter":[{{"name":"health","where":[{{"field":"http_path","equals":"{FILTERED_PATH}"}}]}}]}}"#
        );
        let config: RulesConfig = serde_json::from_str(&config).expect("rules");
        Arc::new(Rules::compile(&config, &|_| Err("there are no files".to_owned())).expect("rules"))
    });
    Arc::clone(&RULES)
}

/// A runtime on this thread; what it does on a thread of its own sees the planted bug too.
pub(super) fn runtime(bug: Option<Bug>) -> Runtime {
    let builder = &mut Builder::new_current_thread();
    builder.max_blocking_threads(1).on_thread_start(move || plant(bug)).build().expect("a runtime")
}

/// A running process.
pub(super) struct Process {
    pub(super) recovered: Recovered,
    queue: Mutex<VecDeque<Queued>>,
    /// What became of the items that were applied since they were last looked at.
    answers: Mutex<Vec<Option<Answer>>>,
}

/// An item on its way to the applier, and where its answer arrives.
type Queued = (Applicable, Option<oneshot::Receiver<Applied>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    /// Applies so many of the queued items.
    pub(super) fn apply(&self, count: usize) {
        for _ in 0..count {
            let Some((item, reply)) = lock(&self.queue).pop_front() else { return };
            let ids = lock(&self.recovered.stored_ids);
            self.recovered.applier.apply(item, &ids).expect("stores in memory can be read");
            let answer = reply.map(|mut reply| reply.try_recv().expect("a batch that was applied is answered"));
            lock(&self.answers).push(answer.map(|Applied { counts, outcomes }| (counts, outcomes)));
        }
    }
}

/// A record of the log, as the model knows it.
struct Logged {
    next: Position,
    item: Item,
}

pub(super) struct World {
    pub(super) options: Options,
    pub(super) clock: Arc<ManualClock>,
    pub(super) stores: SimStores,
    pub(super) disk: SimDisk,
    pub(super) model: Model,
    pub(super) process: Arc<Process>,
    log: Arc<SimLog>,
    runtime: Runtime,
    logged: Vec<Logged>,
    /// How many of them the model has taken.
    modelled: usize,
    /// Ends of generations, and how many of them the model has taken.
    ends: Vec<Position>,
    ended: usize,
}

impl World {
    pub(super) fn new(options: Options, now: i64, bug: Option<Bug>) -> Result<Self, Violation> {
        let (clock, log) = (Arc::new(ManualClock::at_micros(now)), Arc::<SimLog>::default());
        let (stores, disk, runtime) = (SimStores::default(), SimDisk::new(1), runtime(bug));
        disk.create_dir_all(Path::new(FOLDER)).expect("a folder");
        let process = open(&runtime, options, all_stores(&log, &stores, &disk, &clock)).map_err(Violation::of_open)?;
        let model = Model::new(options);
        let (logged, ends) = (Vec::new(), Vec::new());
        Ok(Self { options, clock, stores, disk, model, process, log, runtime, logged, modelled: 0, ends, ended: 0 })
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.now_micros()
    }

    /// Accepts a batch: it is in the log, and its turn with the applier comes later.
    pub(super) fn accept(&mut self, batch: Batch) {
        let prepared = prepare::prepare(batch.submission(), batch.id.clone(), batch.receive_time, &rules());
        let Prepared { mut frame, transformed, .. } = prepared.expect("the body can be split");
        frame.rejected = batch.rejected;
        let encoded = Frame::Batch(frame.clone()).encode();
        let records = transformed.counts.received + frame.rejected;
        self.process.recovered.hot.add_in_flight(frame.receive_time, &frame.source, records);
        let (reply, answer) = oneshot::channel();
        let content = Content::Batch { frame, transformed: Box::new(transformed), reply: Some(reply) };
        self.keep(encoded, content, Some(answer), Item::Batch(batch));
    }

    /// Notes records that were refused.
    pub(super) fn note(&mut self, source: &str, rejected: u64) {
        let (receive_time, counts) = (self.now(), Counts::rejected(rejected));
        let note = NoteFrame { source: source.to_owned(), receive_time, counts };
        let item = Item::Note { source: source.to_owned(), receive_time, rejected };
        self.keep(Frame::Note(note.clone()).encode(), Content::Note(note), None, item);
    }

    /// Writes down that time went on, if a window waits for it.
    pub(super) fn tick(&mut self) -> Result<bool, Violation> {
        let (now, is_applied) = (self.now(), self.queued().is_empty());
        let needs_tick = self.process.recovered.hot.needs_tick(now);
        if is_applied && self.model.is_due(now) && !needs_tick {
            return Err(Violation::new("ticks", format!("a window is due at {now}, and nothing is written")));
        }
        if needs_tick {
            self.keep(Frame::Tick(now).encode(), Content::Tick(now), None, Item::Tick(now));
        }
        Ok(needs_tick)
    }

    fn keep(
        &mut self,
        encoded: bytes::Bytes,
        content: Content,
        answer: Option<oneshot::Receiver<Applied>>,
        item: Item,
    ) {
        let appended = self.log.keep(encoded);
        let (position, next) = (appended.position, appended.next);
        lock(&self.process.queue).push_back((Applicable { position, next, content, held: Held::none() }, answer));
        self.logged.push(Logged { next, item });
    }

    /// Applies so many of the queued items; the answers must be the model's.
    pub(super) fn apply(&mut self, count: usize) -> Result<(), Violation> {
        self.process.apply(count);
        self.follow()
    }

    /// Lets the model take what was applied.
    fn follow(&mut self) -> Result<(), Violation> {
        let answers = std::mem::take(&mut *lock(&self.process.answers));
        for answer in answers {
            let expected = self.take_next();
            if answer != expected {
                let detail =
                    format!("{:?}: answered {answer:?}, recounted {expected:?}", self.logged[self.modelled - 1].item);
                return Err(Violation::new("answers", detail));
            }
        }
        self.end_generations();
        Ok(())
    }

    fn take_next(&mut self) -> Option<Answer> {
        self.end_generations();
        let logged = &self.logged[self.modelled];
        self.modelled += 1;
        self.model.take(&logged.item)
    }

    /// Ends the generations that end before the next item.
    fn end_generations(&mut self) {
        let reached = self.modelled.checked_sub(1).map_or(Position(0), |last| self.logged[last].next);
        while self.ends.get(self.ended).is_some_and(|end| *end <= reached) {
            self.ended += 1;
            self.model.end_generation();
        }
    }

    /// Items that are in the log and not applied.
    pub(super) fn queued(&self) -> Vec<&Item> {
        self.logged[self.modelled..].iter().map(|logged| &logged.item).collect()
    }

    /// End of the last generation.
    pub(super) fn last_end(&self) -> Position {
        self.ends.last().copied().unwrap_or_default()
    }

    /// Flushes; whatever the faults let happen meanwhile is followed.
    pub(super) fn flush(&mut self) -> Result<Result<bool, FlushError>, Violation> {
        {
            let state = self.process.recovered.hot.read();
            if state.frozen.is_none() && !state.active.is_empty() {
                self.ends.push(state.active.end);
            }
        }
        let flushed = self.runtime.block_on(self.process.recovered.flusher.flush());
        self.stores.faults.plan(None, None);
        self.follow()?;
        Ok(flushed)
    }

    /// The process is gone, with the machine or without, and a new one starts. Fails as often as the plan of faults says.
    pub(super) fn restart(&mut self, disk: SimDisk) -> Result<(), Violation> {
        self.disk = disk;
        let checkpoint = self.checkpoint();
        // The end of a generation that was not written down has gone with the process.
        self.ends.retain(|end| end.0 <= checkpoint.position || Some(end.0) == checkpoint.flush_to);
        let stores = || all_stores(&self.log, &self.stores, &self.disk, &self.clock);
        let first = open(&self.runtime, self.options, stores());
        self.stores.faults.plan(None, None);
        self.process = match first {
            Ok(process) => process,
            // A fault during the repeated flush: the start fails, and the next one must not.
            Err(_) => open(&self.runtime, self.options, stores()).map_err(Violation::of_open)?,
        };
        self.model = Model::new(self.options);
        (self.modelled, self.ended) = (0, 0);
        while self.modelled < self.logged.len() {
            self.take_next();
        }
        self.end_generations();
        Ok(())
    }

    /// The same log, applied at one go by a process that nothing happens to.
    pub(super) fn undisturbed(&self) -> Result<Self, Violation> {
        let mut world = Self::new(self.options, self.now(), None)?;
        for logged in &self.logged {
            match &logged.item {
                Item::Batch(batch) => world.accept(batch.clone()),
                Item::Tick(time) => {
                    world.keep(Frame::Tick(*time).encode(), Content::Tick(*time), None, Item::Tick(*time))
                }
                Item::Note { source, receive_time, rejected } => {
                    world.clock.set_micros(*receive_time);
                    world.note(source, *rejected);
                }
            }
        }
        world.apply(usize::MAX)?;
        Ok(world)
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        CheckpointFile::new(Arc::new(self.disk.clone()), Path::new(FOLDER)).read().expect("a checkpoint")
    }
}

fn open(runtime: &Runtime, options: Options, stores: Stores) -> Result<Arc<Process>, OpenError> {
    let pipeline = PipelineOptions {
        folder: PathBuf::from(FOLDER),
        flush_bytes: usize::MAX,
        flush_interval: Duration::MAX,
        memory_bytes_max: usize::MAX,
        workers: NonZeroUsize::MIN,
        dedup_window: Duration::from_micros(options.dedup_window as u64),
        stream: options.stream,
        dedup_keys_max: options.dedup_keys_max,
        disk_free_min: 0,
        judge: JudgeOptions { rules: alert_rules(), cells_at_once: options.cells_at_once, ..JudgeOptions::default() },
    };
    let recovered = runtime.block_on(Recovered::open(&pipeline, &stores))?;
    Ok(Arc::new(Process { recovered, queue: Mutex::default(), answers: Mutex::default() }))
}

fn all_stores(log: &Arc<SimLog>, stores: &SimStores, disk: &SimDisk, clock: &Arc<ManualClock>) -> Stores {
    let archive = MemoryRulesArchive::default();
    archive.insert(rules());
    Stores {
        log: Arc::clone(log) as Arc<dyn EventLog>,
        lake: Some(Arc::new(stores.clone())),
        warehouse: Arc::new(stores.clone()),
        serving: Arc::new(stores.clone()),
        disk: Arc::new(disk.clone()),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        archive: Arc::new(archive),
    }
}
