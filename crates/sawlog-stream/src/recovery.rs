//! Opening what an earlier run left: log, checkpoint and stores are brought to one state.
//!
//! For: replaying what the stores do not have yet, and finishing a flush that was under way. Not for: threads or new
//! batches ([`crate::pipeline`]).

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use sawlog_core::transform::TransformError;
use sawlog_seams::event_log::Damage;
use sawlog_seams::serving::ServingError;
use sawlog_seams::warehouse::WarehouseError;
use sawlog_seams::{Position, ReplayError};

use crate::applier::{Applicable, Applier, Content};
use crate::checkpoint::{Checkpoint, CheckpointError, CheckpointFile};
use crate::dedup::{StoredIds, slot_of, stored_newest};
use crate::flush::{FlushError, Flusher, interrupted_flush, stored_tables};
use crate::frame::{Frame, FrameError};
use crate::generation::Generation;
use crate::hot::Hot;
use crate::judge::Judge;
use crate::pending::Held;
use crate::pipeline::{PipelineOptions, Stores};
use crate::planted::{Bug, is_planted};
use crate::prepare;
use crate::stream_state::StreamState;
use crate::tap::Taps;

/// The parts of a pipeline, brought up to the end of the log and not started.
pub(crate) struct Recovered {
    pub(crate) hot: Arc<Hot>,
    pub(crate) taps: Arc<Taps>,
    pub(crate) applier: Applier,
    pub(crate) flusher: Flusher,
    pub(crate) stored_ids: Arc<Mutex<StoredIds>>,
    pub(crate) summary: RecoverySummary,
}

impl Recovered {
    /// Replays what the stores do not have yet, finishing a flush that was under way.
    pub(crate) async fn open(options: &PipelineOptions, stores: &Stores) -> Result<Self, OpenError> {
        let checkpoint_file = CheckpointFile::new(Arc::clone(&stores.disk), &options.folder);
        let mut checkpoint = checkpoint_file.read()?;
        let window = options.dedup_window.as_micros() as i64;
        let serving_snapshot = stores.serving.snapshot();
        // A flush writes the serving store last: this one lacks nothing but the checkpoint. Repeating it would decide on
        // repeats by ids and keys that came after what it decides on.
        let mut is_finished = false;
        if let Some(end) = interrupted_flush(checkpoint).filter(|end| *end <= stores.serving.applied())
            && let Some(newest_event) = stored_newest(serving_snapshot.as_ref())?
            && !is_planted(Bug::FinishedFlushRepeated)
            && !is_planted(Bug::DeltasAppliedTwice)
        {
            checkpoint = Checkpoint::new(end, None, newest_event);
            checkpoint_file.write(checkpoint)?;
            is_finished = true;
        }
        let oldest = slot_of(checkpoint.newest_event.saturating_sub(window));
        let stored_ids = StoredIds::load(serving_snapshot.as_ref(), oldest, options.dedup_keys_max)?;
        let stored_ids = Arc::new(Mutex::new(stored_ids));
        let start = Generation::starting_at(Position(checkpoint.position), checkpoint.newest_event);
        let stream = StreamState::load(options.stream, serving_snapshot.as_ref())?;
        let lateness = options.stream.allowed_lateness;
        let judge = Judge::load(options.judge.clone(), lateness, serving_snapshot.as_ref())?;
        let stored = stored_tables(stores.warehouse.as_ref())?;
        let hot = Arc::new(Hot::new(start, stored, serving_snapshot, stream, judge));
        let taps = Arc::new(Taps::default());
        let applier = Applier::new(
            Arc::clone(&hot),
            Arc::clone(&stores.warehouse),
            Arc::clone(&stores.serving),
            window,
            stores.lake.is_some(),
            Arc::clone(&taps),
            Arc::clone(&stores.clock),
        );
        let flusher = Flusher {
            hot: Arc::clone(&hot),
            log: Arc::clone(&stores.log),
            lake: stores.lake.clone(),
            warehouse: Arc::clone(&stores.warehouse),
            serving: Arc::clone(&stores.serving),
            checkpoint: checkpoint_file,
            stored_ids: Arc::clone(&stored_ids),
            window,
            forgetting: Mutex::default(),
        };
        let mut summary = recover_all(stores, &applier, &stored_ids, &flusher, checkpoint).await?;
        summary.finished_flush |= is_finished;
        let next = stores.log.next_position();
        let mut state = hot.write();
        if state.active.is_empty() {
            state.active = Generation::starting_at(next, state.active.newest_event);
        }
        drop(state);
        Ok(Self { hot, taps, applier, flusher, stored_ids, summary })
    }
}

/// Why the pipeline did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The checkpoint is unreadable.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log cannot be replayed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A frame of the log makes no sense.
    #[error("log record at {position}: {source}")]
    Frame {
        /// Where it is.
        position: Position,
        /// What is wrong.
        #[source]
        source: FrameError,
    },
    /// The rules under which a batch was accepted are gone.
    #[error("log record at {position} was accepted under rules version {version}, which are not there any more")]
    RulesMissing {
        /// Where the batch is.
        position: Position,
        /// Version of the rules.
        version: i64,
    },
    /// A batch that was accepted once cannot be transformed.
    #[error("log record at {position} cannot be transformed: {source}")]
    Transform {
        /// Where the batch is.
        position: Position,
        /// Why.
        #[source]
        source: TransformError,
    },
    /// The serving store failed.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// The warehouse failed.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// Finishing an interrupted flush failed.
    #[error("the flush that the last run began cannot be finished: {0}")]
    Flush(#[from] FlushError),
}

/// What opening recovered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoverySummary {
    /// Batches and notes replayed from the log.
    pub replayed_frames: u64,
    /// Records in them.
    pub replayed_records: u64,
    /// Whether a flush was under way when the last run ended.
    pub finished_flush: bool,
    /// Damaged places of the log.
    pub damages: Vec<Damage>,
}

/// Applies what the stores do not have yet, and finishes a flush that was under way.
async fn recover_all(
    stores: &Stores,
    applier: &Applier,
    stored_ids: &Mutex<StoredIds>,
    flusher: &Flusher,
    checkpoint: Checkpoint,
) -> Result<RecoverySummary, OpenError> {
    let mut summary = RecoverySummary::default();
    let mut from = Position(checkpoint.position);
    if let Some(end) = interrupted_flush(checkpoint) {
        from = replay(stores, applier, stored_ids, from, Some(end), &mut summary)?;
        flusher.hot.write().active.end = end;
        match flusher.flush().await {
            Ok(_) => summary.finished_flush = true,
            // Its rows stay frozen, as after a flush that fails while the pipeline runs, and the next flush is this one again:
            // a store that is away, as a service may be, must not keep events from being received.
            Err(error) => {
                tracing::error!(%error, "the flush that was cut off cannot be finished yet; it is tried again")
            }
        }
    }
    replay(stores, applier, stored_ids, from, None, &mut summary)?;
    Ok(summary)
}

/// Applies the log from `from` up to `end` (or its end); returns where it stopped.
fn replay(
    stores: &Stores,
    applier: &Applier,
    stored_ids: &Mutex<StoredIds>,
    from: Position,
    end: Option<Position>,
    summary: &mut RecoverySummary,
) -> Result<Position, OpenError> {
    let mut failure = None;
    let mut reached = from;
    let ids = stored_ids.lock().unwrap_or_else(PoisonError::into_inner);
    let report = stores.log.replay(from, &mut |position, next, bytes| {
        if end.is_some_and(|end| position >= end) {
            return ControlFlow::Break(());
        }
        let applied = recover(stores, position, next, &bytes)
            .and_then(|(item, records)| applier.apply(item, &ids).map(|()| records).map_err(OpenError::Serving));
        match applied {
            Ok(records) => {
                summary.replayed_frames += 1;
                summary.replayed_records += records;
                reached = next;
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    summary.damages = report.damages;
    Ok(end.unwrap_or(reached))
}

fn recover(
    stores: &Stores,
    position: Position,
    next: Position,
    bytes: &bytes::Bytes,
) -> Result<(Applicable, u64), OpenError> {
    let frame = Frame::decode(bytes).map_err(|source| OpenError::Frame { position, source })?;
    let (content, records) = match frame {
        Frame::Note(note) => (Content::Note(note), 0),
        Frame::Tick(receive_time) => (Content::Tick(receive_time), 0),
        Frame::Start(receive_time) => (Content::Start(receive_time), 0),
        Frame::Corrections(panes) => (Content::Corrections { panes, reply: None }, 0),
        Frame::Batch(frame) => {
            let version = frame.rules_version;
            let rules = stores.archive.rules(version).ok_or(OpenError::RulesMissing { position, version })?;
            let transformed =
                prepare::run(&frame.raw(), &rules).map_err(|source| OpenError::Transform { position, source })?;
            let records = transformed.counts.received;
            (Content::Batch { frame, transformed: Box::new(transformed), reply: None }, records)
        }
    };
    Ok((Applicable { position, next, content, held: Held::none() }, records))
}
