//! Cells by row key, for reads in milliseconds.
//!
//! For: rollups, sessions, timelines and dedup ids. Not for: scans over events ([`crate::warehouse`]). Keys are made in
//! `sawlog_core::rowkey`.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, PoisonError};

pub use sawlog_core::family::Family;

use crate::event_log::Position;

/// A change of one cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// Family of the cell.
    pub family: Family,
    /// Row key.
    pub key: Vec<u8>,
    /// New value; `None` deletes the cell.
    pub value: Option<Vec<u8>>,
}

/// Why the serving store could not serve a call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ServingError {
    /// Space ran out; the call changed nothing, and the next one tries again.
    #[error("disk is full while {action} the serving store")]
    DiskFull {
        /// What was tried.
        action: &'static str,
    },
    /// The back end failed.
    #[error("serving store: {action} failed: {problem}")]
    Backend {
        /// What was tried.
        action: &'static str,
        /// What the back end said.
        problem: String,
    },
}

impl ServingError {
    /// A failure of the back end.
    #[must_use]
    pub fn backend(action: &'static str, problem: impl std::fmt::Display) -> Self {
        Self::Backend { action, problem: problem.to_string() }
    }
}

/// A key and its value.
pub type Cell = (Vec<u8>, Vec<u8>);

/// Visitor of a scan: gets key and value of each cell.
pub type VisitCell<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// The cells at one moment: later mutations do not change it.
pub trait ServingSnapshot: Send + Sync {
    /// Value of a cell.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ServingError>;
    /// Calls `visit` for the cells with `start <= key < end` in key order until it breaks. Cells are read one after the
    /// other: memory and work do not depend on how many there are beyond those visited.
    fn scan_each(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut VisitCell<'_>,
    ) -> Result<(), ServingError>;
    /// The cells of [`ServingSnapshot::scan_each`] at once, for ranges that are known to be small.
    fn scan(&self, family: Family, start: &[u8], end: Option<&[u8]>) -> Result<Vec<Cell>, ServingError> {
        let mut cells = Vec::new();
        self.scan_each(family, start, end, &mut |key, value| {
            cells.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })?;
        Ok(cells)
    }
}

/// Cells by row key. Contract test: [`crate::contract::serving`].
///
/// Once: applying mutations of a position at or below [`ServingStore::applied`] changes nothing and succeeds. Atomic:
/// the mutations of one call and their position appear together. Durable: they survive a crash once `apply` returns.
/// Apart: families share no keys.
pub trait ServingStore: Send + Sync {
    /// Applies mutations, which came from the log up to `position`.
    fn apply(&self, mutations: Vec<Mutation>, position: Position) -> Result<(), ServingError>;
    /// Position of the last mutations.
    fn applied(&self) -> Position;
    /// The cells as of now.
    fn snapshot(&self) -> Arc<dyn ServingSnapshot>;
    /// Removes those of the cells whose value is still the given one, for retention; no `apply` comes between looking and
    /// removing. `applied` stays. Cells that are not there are no error.
    fn delete_unchanged(&self, family: Family, cells: Vec<Cell>) -> Result<(), ServingError>;
    /// Sets a cell whatever its position, for what retention notes before it deletes. `applied` stays.
    fn note(&self, family: Family, cell: Cell) -> Result<(), ServingError>;
}

type Cells = BTreeMap<(Family, Vec<u8>), Vec<u8>>;

/// A serving store in memory.
#[derive(Debug, Default)]
pub struct MemoryServing {
    state: Mutex<(Position, Arc<Cells>)>,
}

struct MemorySnapshot(Arc<Cells>);

impl ServingStore for MemoryServing {
    fn apply(&self, mutations: Vec<Mutation>, position: Position) -> Result<(), ServingError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if position <= state.0 {
            return Ok(());
        }
        let mut cells = (*state.1).clone();
        for mutation in mutations {
            let place = (mutation.family, mutation.key);
            match mutation.value {
                Some(value) => cells.insert(place, value),
                None => cells.remove(&place),
            };
        }
        *state = (position, Arc::new(cells));
        Ok(())
    }

    fn applied(&self) -> Position {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn snapshot(&self) -> Arc<dyn ServingSnapshot> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(MemorySnapshot(Arc::clone(&state.1)))
    }

    fn delete_unchanged(&self, family: Family, seen: Vec<Cell>) -> Result<(), ServingError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cells = (*state.1).clone();
        for (key, value) in seen {
            let place = (family, key);
            if cells.get(&place) == Some(&value) {
                cells.remove(&place);
            }
        }
        state.1 = Arc::new(cells);
        Ok(())
    }

    fn note(&self, family: Family, (key, value): Cell) -> Result<(), ServingError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cells = (*state.1).clone();
        cells.insert((family, key), value);
        state.1 = Arc::new(cells);
        Ok(())
    }
}

impl ServingSnapshot for MemorySnapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ServingError> {
        Ok(self.0.get(&(family, key.to_vec())).cloned())
    }

    fn scan_each(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut VisitCell<'_>,
    ) -> Result<(), ServingError> {
        if end.is_some_and(|end| end < start) {
            return Ok(());
        }
        let upper = match end {
            Some(end) => Bound::Excluded((family, end.to_vec())),
            None => Bound::Unbounded,
        };
        let range = self.0.range((Bound::Included((family, start.to_vec())), upper));
        for ((_, key), value) in range.take_while(|((found, _), _)| *found == family) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture(Arc<MemoryServing>);

    impl crate::contract::serving::Fixture for Fixture {
        fn open(&self) -> Arc<dyn ServingStore> {
            Arc::clone(&self.0) as Arc<dyn ServingStore>
        }
    }

    crate::serving_contract!(Fixture(Arc::default()));
}
