//! The stream as its stored cells tell of it.
//!
//! For: processes that answer from what a worker stored. Not for: the worker, which goes on from there
//! ([`crate::Pipeline`]).

use sawlog_seams::serving::{ServingError, ServingSnapshot};
use sawlog_seams::view::SessionRules;

use crate::stream_state::{StreamOptions, StreamState};

/// What readers must know of the stream besides its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredStream {
    /// Watermark of all sources, UTC microseconds: windows that end by then are complete.
    pub watermark: i64,
    /// Rules of sessions.
    pub session_rules: SessionRules,
}

impl StoredStream {
    /// The stream that cells belong to, under the settings of the worker that stored them.
    ///
    /// # Errors
    /// When the store fails, or holds something else.
    pub fn read(options: StreamOptions, snapshot: &dyn ServingSnapshot) -> Result<Self, ServingError> {
        let state = StreamState::load(options, snapshot)?;
        Ok(Self { watermark: state.watermark(), session_rules: state.session_rules() })
    }
}
