//! Bugs that a test can plant, to see that the simulation finds them.
//!
//! For: one-line branches at the places where such a bug would be. Not for: behaviour of the product: outside tests
//! [`is_planted`] is a constant `false`, and the branches are not compiled into anything.

/// A bug at one place of this crate, or in the stores of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bug {
    /// Late rows are missing from the count.
    LateRowNotCounted,
    /// Late rows are in rollups.
    LateRowRolledUp,
    /// A source of which nothing counts holds up the watermark.
    EmptyBatchWaitedFor,
    /// A watermark that a clock led astray waits for its time to come.
    SetBackIgnored,
    /// The watermark of the last run is not read back.
    WatermarkForgotten,
    /// The admitted series of the last run are not read back.
    AdmissionForgotten,
    /// The open windows of the last run are not read back.
    OpenEndsForgotten,
    /// A flush keeps the stream's state of now, not that of its generation's end.
    StateAheadOfCells,
    /// A flush does not keep the state at its end if another state is kept already.
    StateBehindCells,
    /// Time goes on without a record in the log.
    TickWithoutLog,
    /// A deadline stays after its pane on time.
    DeadlineKept,
    /// Windows that are due get no pane unless something arrived for them.
    DueWindowNotFired,
    /// A pane has the number of the one before it.
    PaneIndexNotRaised,
    /// Panes on time are not written to their table.
    OnTimePaneNotWritten,
    /// Of the stored chains of a user only the first is looked at.
    ChainsLeftOut,
    /// A chain that has become part of another stays stored.
    ReplacedChainKept,
    /// Sessions without new events are not closed.
    DueSessionNotClosed,
    /// Which sessions were emitted as closed is not kept.
    ClosedSessionsForgotten,
    /// A session that has become part of another is not taken back.
    RetractionNotEmitted,
    /// A repeated flush leaves out of timelines what the tables have.
    TimelineRowsForgotten,
    /// The state of detectors and alerts is not kept.
    JudgeStateForgotten,
    /// The windows that wait to be judged are not read back.
    BacklogForgotten,
    /// A flush takes from windows that wait to be judged what leads to their cells.
    WaitingDeadlineDeleted,
    /// What is in the frozen generation is not judged.
    FrozenCellsNotJudged,
    /// Ids in the frozen generation are not looked at.
    FrozenIdsForgotten,
    /// Ids before the floor are looked at while they are in memory.
    DedupFloorIgnored,
    /// The records of a repeated batch are counted as stored.
    RepeatedBatchStored,
    /// The checkpoint moves before the serving store has the flush.
    CheckpointBeforeServing,
    /// The end of a flush is not written down before it begins.
    FlushNotNoted,
    /// A flush that lacks only its checkpoint is decided again.
    FinishedFlushRepeated,
    /// A replay counts into rollups again what the serving store has.
    DeltasAppliedTwice,
    /// The log lets go before the checkpoint has moved.
    LogReleasedEarly,
    /// The serving store takes an older flush that arrives after a newer one (in the simulated store).
    #[cfg(test)]
    OlderFlushTaken,
    /// The warehouse takes an append again that it has (in the simulated store).
    #[cfg(test)]
    RepeatedAppendTaken,
}

#[cfg(test)]
impl Bug {
    /// All bugs.
    pub(crate) const ALL: [Self; 34] = [
        Self::LateRowNotCounted,
        Self::LateRowRolledUp,
        Self::EmptyBatchWaitedFor,
        Self::SetBackIgnored,
        Self::WatermarkForgotten,
        Self::AdmissionForgotten,
        Self::OpenEndsForgotten,
        Self::StateAheadOfCells,
        Self::StateBehindCells,
        Self::TickWithoutLog,
        Self::DeadlineKept,
        Self::DueWindowNotFired,
        Self::PaneIndexNotRaised,
        Self::OnTimePaneNotWritten,
        Self::ChainsLeftOut,
        Self::ReplacedChainKept,
        Self::DueSessionNotClosed,
        Self::ClosedSessionsForgotten,
        Self::RetractionNotEmitted,
        Self::TimelineRowsForgotten,
        Self::JudgeStateForgotten,
        Self::BacklogForgotten,
        Self::WaitingDeadlineDeleted,
        Self::FrozenCellsNotJudged,
        Self::FrozenIdsForgotten,
        Self::DedupFloorIgnored,
        Self::RepeatedBatchStored,
        Self::CheckpointBeforeServing,
        Self::FlushNotNoted,
        Self::FinishedFlushRepeated,
        Self::DeltasAppliedTwice,
        Self::LogReleasedEarly,
        Self::OlderFlushTaken,
        Self::RepeatedAppendTaken,
    ];
}

/// Whether a test has planted the bug on this thread.
#[cfg(not(test))]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
pub(crate) use selection::{is_planted, plant};

#[cfg(test)]
mod selection {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    pub(crate) fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Plants a bug on this thread, or takes it away.
    pub(crate) fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }
}
