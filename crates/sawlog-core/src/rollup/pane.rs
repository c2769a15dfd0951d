//! Panes: the emissions of a window's result.
//!
//! For: which emission a stored value is, so that every sink is idempotent: a pane is named by key, window and index, and
//! of two panes of one window the one with the higher index is the newer and holds everything that the other holds
//! (panes accumulate). Not for: when panes are emitted.

use crate::rollup::{Cell, CellError, Rollup};
use crate::varint;

const VERSION: u8 = 1;

/// When a pane was emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PaneTiming {
    /// Before the watermark passed the window's end: more is expected.
    Early,
    /// The first after that: everything that was in time is in.
    OnTime,
    /// After the pane on time: corrected by late events.
    Late,
}

impl PaneTiming {
    /// The timing in columns.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::OnTime => "on_time",
            Self::Late => "late",
        }
    }

    /// Timing of the next pane, given that of the one before it, if any, and whether the window is complete.
    #[must_use]
    pub const fn next(before: Option<Self>, is_complete: bool) -> Self {
        match before {
            Some(Self::OnTime | Self::Late) => Self::Late,
            Some(Self::Early) | None if is_complete => Self::OnTime,
            _ => Self::Early,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Early => 0,
            Self::OnTime => 1,
            Self::Late => 2,
        }
    }

    const fn of_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Early),
            1 => Some(Self::OnTime),
            2 => Some(Self::Late),
            _ => None,
        }
    }
}

/// A pane as the serving store keeps it, under its row key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaneCell {
    /// Number of the pane in its window: from 0, unless the window's cell was deleted before ([`super::Expired`]).
    pub index: u32,
    /// When it was emitted.
    pub timing: PaneTiming,
    /// What the window holds.
    pub cell: Cell,
}

impl PaneCell {
    /// The pane's bytes: version, timing, index, cell.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.timing.code()];
        varint::write(&mut out, u64::from(self.index));
        self.cell.write_to(&mut out);
        out
    }

    /// Reads a pane of a rollup.
    ///
    /// # Errors
    /// When the bytes are no such pane.
    pub fn from_bytes(rollup: Rollup, bytes: &[u8]) -> Result<Self, CellError> {
        let (index, timing, cell) = Self::header(bytes).ok_or(CellError { rollup })?;
        Ok(Self { index, timing, cell: Cell::from_bytes(rollup, cell)? })
    }

    /// Number of a pane by its bytes alone; `None` when they are no pane.
    #[must_use]
    pub fn index_of(bytes: &[u8]) -> Option<u32> {
        Self::header(bytes).map(|(index, ..)| index)
    }

    fn header(bytes: &[u8]) -> Option<(u32, PaneTiming, &[u8])> {
        let rest = bytes.strip_prefix(&[VERSION])?;
        let (&timing, mut rest) = rest.split_first()?;
        let index = u32::try_from(varint::read(&mut rest)?).ok()?;
        Some((index, PaneTiming::of_code(timing)?, rest))
    }
}

/// A cell of a window and whose it is, for those who look at windows as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaneView<'a> {
    /// What is rolled up.
    pub rollup: Rollup,
    /// Parts of the key, as in [`Rollup::parts`].
    pub parts: &'a [Option<String>],
    /// What the window holds for that key.
    pub cell: &'a Cell,
}

impl<'a> PaneView<'a> {
    /// A part of the key by its name in [`Rollup::parts`].
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&'a str> {
        let at = self.rollup.parts().iter().position(|part| *part == name)?;
        self.parts.get(at)?.as_deref()
    }
}

/// Merges the bytes of two cells of one rollup, as they travel between workers.
///
/// # Errors
/// When either is no such cell.
pub fn merge(rollup: Rollup, one: &[u8], other: &[u8]) -> Result<Vec<u8>, CellError> {
    let mut cell = Cell::from_bytes(rollup, one)?;
    cell.merge(&Cell::from_bytes(rollup, other)?);
    let mut out = Vec::new();
    cell.write_to(&mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_pane_of_a_complete_window_is_on_time_and_the_next_ones_are_late() {
        use PaneTiming::{Early, Late, OnTime};
        assert_eq!([PaneTiming::next(None, false), PaneTiming::next(Some(Early), false)], [Early, Early]);
        assert_eq!([PaneTiming::next(None, true), PaneTiming::next(Some(Early), true)], [OnTime, OnTime]);
        assert_eq!([PaneTiming::next(Some(OnTime), true), PaneTiming::next(Some(Late), true)], [Late, Late]);
    }

    proptest! {
        #[test]
        fn panes_are_read_back(index in any::<u32>(), code in 0u8..3, users in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut cell = Cell::new(Rollup::Users);
            if let Cell::Users(sketch) = &mut cell {
                users.iter().for_each(|user| sketch.add(&[*user]));
            }
            let timing = PaneTiming::of_code(code).expect("a timing");
            let pane = PaneCell { index, timing, cell };
            prop_assert_eq!(PaneCell::from_bytes(Rollup::Users, &pane.to_bytes()), Ok(pane));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            for rollup in Rollup::ALL {
                let _ = PaneCell::from_bytes(rollup, &bytes);
            }
        }
    }
}
