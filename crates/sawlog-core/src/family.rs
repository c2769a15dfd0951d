//! Column families: what the serving store keeps, by purpose.
//!
//! For: the names that stores and every writer of them share. Not for: row keys ([`crate::rowkey`]) or values.

use crate::rollup::Width;

/// A column family: one purpose, one retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Rollup cells of ten seconds. Each width has a retention of its own.
    Rollup10s,
    /// Rollup cells of a minute.
    Rollup1m,
    /// Rollup cells of an hour.
    Rollup1h,
    /// Windows that are not complete yet, by their end.
    Deadline,
    /// Chains of events by user: sessions that are open or may still change.
    Session,
    /// Users by the watermark at which there may be something to do about their chains.
    SessionDue,
    /// What each user did, in chunks.
    Timeline,
    /// Last values of each user.
    Profile,
    /// State of the detectors of anomalies.
    Watch,
    /// State of the alert rules.
    Alert,
    /// State of the stream that no key has: watermarks, admitted series.
    StreamState,
    /// Event ids that were stored, for dedup.
    EventId,
    /// Idempotency keys of batches.
    BatchKey,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 13] = [
        Self::Rollup10s,
        Self::Rollup1m,
        Self::Rollup1h,
        Self::Deadline,
        Self::Session,
        Self::SessionDue,
        Self::Timeline,
        Self::Profile,
        Self::Watch,
        Self::Alert,
        Self::StreamState,
        Self::EventId,
        Self::BatchKey,
    ];

    /// The family of rollup cells of a width.
    #[must_use]
    pub const fn of_width(width: Width) -> Self {
        match width {
            Width::TenSeconds => Self::Rollup10s,
            Width::Minute => Self::Rollup1m,
            Width::Hour => Self::Rollup1h,
        }
    }

    /// Name of the family in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rollup10s => "rollup_10s",
            Self::Rollup1m => "rollup_1m",
            Self::Rollup1h => "rollup_1h",
            Self::Deadline => "deadline",
            Self::Session => "session",
            Self::SessionDue => "session_due",
            Self::Timeline => "timeline",
            Self::Profile => "profile",
            Self::Watch => "watch",
            Self::Alert => "alert",
            Self::StreamState => "stream_state",
            Self::EventId => "event_id",
            Self::BatchKey => "batch_key",
        }
    }
}
