//! The state of a group over time.
//!
//! For: states and episodes as a function of whether a condition holds in each window. Not for: whether it holds.
//! A window without data is one in which the condition does not hold, unless it is silence that is waited for.

use crate::varint;

/// How it is with a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// The condition does not hold.
    #[default]
    Inactive,
    /// It holds, not yet for long enough.
    Pending,
    /// It has held for long enough.
    Firing,
    /// It has fired and has not held for long enough since.
    Resolved,
}

impl State {
    /// The name in columns.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// State of a group after a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Phase {
    pub(super) state: State,
    /// Windows in a row: held while pending, not held while firing.
    streak: u32,
    /// End of the window in which the last firing began.
    pub(super) fired_at: Option<i64>,
}

/// A firing from its begin to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Episode {
    pub(super) fired_at: i64,
    /// `None` while it goes on.
    pub(super) resolved_at: Option<i64>,
}

impl Phase {
    /// Goes on by a window; gives the new state if it is another.
    pub(super) fn advance(&mut self, window_end: i64, holds: bool, held_min: u32, clear_min: u32) -> Option<State> {
        let next = match (self.state, holds) {
            (State::Inactive | State::Resolved, false) => return None,
            (State::Firing, true) => {
                self.streak = 0;
                return None;
            }
            (State::Inactive | State::Resolved, true) => {
                self.streak = 1;
                if self.streak >= held_min { State::Firing } else { State::Pending }
            }
            (State::Pending, true) => {
                self.streak = self.streak.saturating_add(1);
                if self.streak >= held_min { State::Firing } else { return None }
            }
            (State::Pending, false) => State::Inactive,
            (State::Firing, false) => {
                self.streak = self.streak.saturating_add(1);
                if self.streak >= clear_min { State::Resolved } else { return None }
            }
        };
        if next == State::Firing {
            self.fired_at = Some(window_end);
        }
        if next != State::Pending {
            self.streak = 0;
        }
        self.state = next;
        Some(next)
    }

    /// Whether more windows like the last change nothing.
    pub(super) const fn is_settled(&self) -> bool {
        self.streak == 0
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        out.push(self.state as u8 | u8::from(self.fired_at.is_some()) << 7);
        varint::write(out, u64::from(self.streak));
        if let Some(fired_at) = self.fired_at {
            varint::write_signed(out, fired_at);
        }
    }

    pub(super) fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        let (&first, rest) = bytes.split_first()?;
        *bytes = rest;
        let state = match first & 0x7f {
            0 => State::Inactive,
            1 => State::Pending,
            2 => State::Firing,
            3 => State::Resolved,
            _ => return None,
        };
        let streak = u32::try_from(varint::read(bytes)?).ok()?;
        let fired_at = if first & 0x80 == 0 { None } else { Some(varint::read_signed(bytes)?) };
        (fired_at.is_some() || state != State::Firing).then_some(Self { state, streak, fired_at })
    }
}
