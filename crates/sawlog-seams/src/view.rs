//! One consistent picture of all data: rows in memory plus files, no row twice and none missing.
//!
//! For: handing a query everything it may read at one moment. Not for: planning or running queries. A flush swaps rows
//! in memory for files in one step, so that two views differ only by what arrived between them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use sawlog_core::rollup::{Cell, Rollup, Width};
use sawlog_core::session::{SessionDeltas, SessionOptions};

use crate::remote::RemoteTable;
use crate::serving::ServingSnapshot;
use crate::warehouse::{StoredTable, TableSpec};

/// A table at one moment.
#[derive(Clone, Debug)]
pub struct TableView {
    /// Rows that are not in files yet.
    pub hot: Vec<RecordBatch>,
    /// Rows in files.
    pub stored: Arc<StoredTable>,
}

/// All data at one moment.
#[derive(Clone)]
pub struct View {
    /// Tables by name.
    pub tables: HashMap<&'static str, TableView>,
    /// Tables whose rows are with a service, and are as of the time at which they are read.
    pub remote: Vec<(TableSpec, Arc<dyn RemoteTable>)>,
    /// What rollups got that is not in the serving store yet, oldest first: merge it onto the snapshot.
    pub hot_rollups: Vec<Arc<dyn HotRollups>>,
    /// Events of sessions that are not in the serving store yet, oldest first.
    pub hot_sessions: Vec<Arc<dyn HotSessions>>,
    /// Rules of sessions.
    pub session_rules: SessionRules,
    /// The serving store.
    pub serving: Arc<dyn ServingSnapshot>,
    /// Watermark of all sources, UTC microseconds: windows that end by then are complete.
    pub watermark: i64,
}

/// What rollups got since the last flush.
pub trait HotRollups: Send + Sync {
    /// Row key and cell of each window that got something, in windows of that width that start within `starts` (UTC
    /// microseconds), in no particular order.
    fn cells(&self, rollup: Rollup, width: Width, starts: Range<i64>) -> Vec<(Vec<u8>, Cell)>;
}

/// When sessions end, and until when events may change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// Gap and longest session.
    pub options: SessionOptions,
    /// How far the watermark may be past an event that is still in time, microseconds.
    pub lateness: i64,
}

impl Default for SessionRules {
    /// Sessions as by default, events at most an hour late.
    fn default() -> Self {
        Self { options: SessionOptions::default(), lateness: 3_600_000_000 }
    }
}

/// Events of sessions since the last flush.
pub trait HotSessions: Send + Sync {
    /// Adds the chains of all users, or of one, to `into`.
    fn merge_into(&self, into: &mut SessionDeltas, user: Option<&str>, options: &SessionOptions);
}

/// Gives views.
pub trait ViewSource: Send + Sync {
    /// The picture as of now.
    fn view(&self) -> View;
}

/// Lets views show what background jobs have changed in the stores.
#[async_trait]
pub trait StoreRefresh: Send + Sync {
    /// Shows the stores as they are now, in one step for all readers. Returns `false` when that has to wait for a flush
    /// that is half done, whose end shows them too.
    async fn refresh_stored(&self) -> bool;
}
