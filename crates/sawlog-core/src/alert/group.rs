//! A group of a rule: its state, and the windows that late data may still change.
//!
//! For: going on by windows, and going over them again from one that was corrected. Not for: telling it. Invariants:
//! `phase` is what `base` becomes over the kept windows; a window before `base_next` never changes again.

use super::input::{Input, Inputs};
use super::rule::Rule;
use super::timeline::{Episode, Phase, State};
use super::verdict::{Verdict, Verdicts};
use crate::varint;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// State before the first window that may still change.
    base: Phase,
    /// Start of that window.
    pub(super) base_next: i64,
    /// State after the last complete window.
    pub(super) phase: Phase,
    /// What there is in the windows that may still change, and in those before that are looked back at.
    inputs: Inputs,
    /// Memory of the inputs, bytes.
    input_bytes: usize,
    /// Start of the last window with data.
    pub(super) last_input: i64,
    /// Number of the last event.
    pub(super) sequence: u64,
}

/// A change of the state in a window.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) state: State,
    pub(super) window_end: i64,
    /// End of the window in which the firing began that goes on or ends then.
    pub(super) fired_at: Option<i64>,
    pub(super) verdict: Verdict,
}

/// Everything that happens over the windows that may still change.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) phase: Phase,
    pub(super) episodes: Vec<Episode>,
}

impl Group {
    /// A group that comes up in the window that starts then. Its events have larger numbers than this one.
    pub(super) fn new(start: i64, sequence: u64) -> Self {
        Self {
            base: Phase::default(),
            base_next: start,
            phase: Phase::default(),
            inputs: Inputs::new(),
            input_bytes: 0,
            last_input: start,
            sequence,
        }
    }

    /// Nothing is judged of it before the window that starts then.
    pub(super) const fn begin(&mut self, start: i64) {
        self.base_next = start;
    }

    /// Adds what it has in a window.
    pub(super) fn add(&mut self, start: i64, input: &Input) {
        self.last_input = self.last_input.max(start);
        // A group that was not known then had no state then.
        self.base_next = self.base_next.min(start);
        match self.inputs.get_mut(&start) {
            Some(mine) => {
                self.input_bytes -= mine.memory_bytes();
                mine.merge(input);
                self.input_bytes += mine.memory_bytes();
            }
            None => self.insert(start, input.clone()),
        }
    }

    /// Takes in what a store has of a window.
    pub(super) fn insert(&mut self, start: i64, input: Input) {
        self.input_bytes += input.memory_bytes();
        let older = self.inputs.insert(start, input);
        self.input_bytes -= older.map_or(0, |older| older.memory_bytes());
    }

    /// What it has in the windows that are kept.
    pub(super) const fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Memory of the group beside its key, bytes; not counted anew.
    pub(super) const fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.input_bytes
    }

    /// Goes on over the windows that start from then until then, the end not included.
    pub(super) fn go_on(&mut self, rule: &Rule, from: i64, until: i64) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut phase = self.phase;
        run(rule, &self.inputs, &mut phase, from, until, |step| steps.push(step));
        self.phase = phase;
        steps
    }

    /// Everything from the first window that may still change, until the window that starts then, not included.
    pub(super) fn history(&self, rule: &Rule, until: i64) -> History {
        let mut found = History { phase: self.base, episodes: Vec::new() };
        if let (State::Firing, Some(fired_at)) = (self.base.state, self.base.fired_at) {
            found.episodes.push(Episode { fired_at, resolved_at: None });
        }
        let History { phase, episodes } = &mut found;
        run(rule, &self.inputs, phase, self.base_next, until, |step| match step.state {
            State::Firing => episodes.push(Episode { fired_at: step.window_end, resolved_at: None }),
            State::Resolved => {
                if let Some(last) = episodes.last_mut() {
                    last.resolved_at = Some(step.window_end);
                }
            }
            State::Inactive | State::Pending => {}
        });
        found
    }

    /// Closes the windows that start before then; gives the starts of those that are no longer needed.
    pub(super) fn close(&mut self, rule: &Rule, until: i64) -> Vec<i64> {
        if until > self.base_next {
            let mut base = self.base;
            run(rule, &self.inputs, &mut base, self.base_next, until, |_| {});
            (self.base, self.base_next) = (base, until);
        }
        let needed_from = self.base_next.saturating_sub(rule.lookback().saturating_mul(rule.width.micros()));
        let needed = self.inputs.split_off(&needed_from);
        let dropped = std::mem::replace(&mut self.inputs, needed);
        self.input_bytes -= dropped.values().map(Input::memory_bytes).sum::<usize>();
        dropped.into_keys().collect()
    }

    /// The number of its next event when windows are complete until then. By the time, so that a group that was forgotten
    /// and comes back goes on with larger numbers.
    pub(super) fn next_sequence(&self, complete_until: i64) -> u64 {
        self.sequence.saturating_add(1).max(u64::try_from(complete_until / 1_000).unwrap_or(0))
    }

    /// Whether nothing would be lost with it: it has no data, and nothing is pending or firing.
    pub(super) fn is_idle(&self) -> bool {
        let is_quiet = |phase: &Phase| matches!(phase.state, State::Inactive | State::Resolved);
        self.inputs.is_empty() && is_quiet(&self.base) && is_quiet(&self.phase)
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        self.base.write_to(out);
        varint::write_signed(out, self.base_next);
        self.phase.write_to(out);
        varint::write_signed(out, self.last_input);
        varint::write(out, self.sequence);
    }

    /// Reads a group without its inputs.
    pub(super) fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            base: Phase::read_from(bytes)?,
            base_next: varint::read_signed(bytes)?,
            phase: Phase::read_from(bytes)?,
            inputs: Inputs::new(),
            input_bytes: 0,
            last_input: varint::read_signed(bytes)?,
            sequence: varint::read(bytes)?,
        })
    }
}

fn run(rule: &Rule, inputs: &Inputs, phase: &mut Phase, from: i64, until: i64, mut each: impl FnMut(Step)) {
    let width = rule.width.micros();
    let mut verdicts = Verdicts::new(rule, inputs);
    let mut start = from;
    while start < until {
        let verdict = verdicts.at(start);
        let window_end = start.saturating_add(width);
        if let Some(state) = phase.advance(window_end, verdict.holds, rule.held_min, rule.clear_min) {
            each(Step { state, window_end, fired_at: phase.fired_at, verdict });
        }
        start = window_end;
        // Over a stretch without data nothing changes once nothing is being waited for.
        let seen_from = start.saturating_sub((rule.lookback() + 1).saturating_mul(width));
        if phase.is_settled() && inputs.range(seen_from..start).next().is_none() {
            start = inputs.range(start..).next().map_or(until, |(next, _)| *next);
        }
    }
}
