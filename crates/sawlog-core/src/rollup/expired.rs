//! What is left of cells that retention has deleted: how their panes go on being numbered.
//!
//! For: a window that gets data again after its cell is gone. Its earlier panes may be in their table still, and the newest
//! of a window is that with the highest number: the next one must not begin at 0 again. One entry for all windows of a width.

use super::Width;
use crate::varint;

/// The cells of a width that were deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Windows that start before it may have had cells, UTC microseconds.
    pub before: i64,
    /// A number that none of their panes has reached.
    pub next_index: u32,
}

impl Default for Expired {
    /// None was.
    fn default() -> Self {
        Self { before: i64::MIN, next_index: 0 }
    }
}

impl Expired {
    /// Key of the entry of a width, in the family of the stream's state.
    #[must_use]
    pub fn key(width: Width) -> Vec<u8> {
        [b"expired/", width.name().as_bytes()].concat()
    }

    /// With more cells: those of windows before a time, whose highest number is `newest_index`.
    #[must_use]
    pub fn with(self, before: i64, newest_index: u32) -> Self {
        Self { before: self.before.max(before), next_index: self.next_index.max(newest_index.saturating_add(1)) }
    }

    /// Number of the first pane of a window without a cell.
    #[must_use]
    pub const fn first_index(self, window_start: i64) -> u32 {
        if window_start < self.before { self.next_index } else { 0 }
    }

    /// The entry as bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::new();
        varint::write_signed(&mut out, self.before);
        varint::write(&mut out, u64::from(self.next_index));
        out
    }

    /// Reads an entry; `None` when the bytes are none.
    #[must_use]
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let before = varint::read_signed(&mut bytes)?;
        let next_index = u32::try_from(varint::read(&mut bytes)?).ok()?;
        bytes.is_empty().then_some(Self { before, next_index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_were_deleted_go_on_and_others_begin_at_0() {
        let expired = Expired::default().with(100, 3).with(50, 7).with(200, 1);
        assert_eq!(expired, Expired { before: 200, next_index: 8 });
        assert_eq!([199, 200].map(|start| expired.first_index(start)), [8, 0]);
        assert_eq!(Expired::default().first_index(i64::MIN), 0);
        assert_eq!(Expired::from_bytes(&expired.to_bytes()), Some(expired));
        assert_eq!(Expired::from_bytes(b"\xff"), None);
        assert_ne!(Expired::key(Width::Hour), Expired::key(Width::Minute));
    }
}
