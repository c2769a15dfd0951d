//! The cells of Bigtable as of the last flush that counted when the snapshot was taken.
//!
//! For: processes without a copy of their own. Isolated like every snapshot: each cell keeps the versions of a few flushes,
//! and of these the newest counts that the position at the beginning covers. What retention deletes is gone at once.
//! Not for: workers, whose every row asks for cells.

use std::ops::ControlFlow;
use std::sync::Arc;

use sawlog_core::bigtable::{BigtableTable, key_of_row, row_key, row_ranges};
use sawlog_seams::Position;
use sawlog_seams::serving::{Family, ServingError, ServingSnapshot, VisitCell};

use super::cells::seen;
use super::client::Bigtable;
use super::error::BigtableError;
use super::position::Progress;
use super::read::Scan;
use super::{filters, merge};

const READING: &str = "reading";

/// The cells of Bigtable at one moment. Calls block; any thread may make them.
#[derive(Debug)]
pub struct BigtableSnapshot {
    bigtable: Arc<Bigtable>,
    progress: Progress,
}

impl Bigtable {
    /// The cells as of now.
    ///
    /// # Errors
    /// When the position cannot be read.
    pub fn snapshot(self: &Arc<Self>) -> Result<BigtableSnapshot, BigtableError> {
        let progress = self.run(|client| async move { client.progress().await })?.unwrap_or_default();
        Ok(BigtableSnapshot { bigtable: Arc::clone(self), progress })
    }
}

impl BigtableSnapshot {
    /// Position of the log that the cells come from.
    #[must_use]
    pub fn position(&self) -> Position {
        self.progress.position
    }

    /// Makes sure that nothing that was read as absent has been deleted since: a cell of which a version is there shows it,
    /// and so much later none may be left.
    fn check_whole(&self) -> Result<(), BigtableError> {
        let now = self.bigtable.run(|client| async move { client.progress().await })?.unwrap_or_default();
        let covered = u64::from(self.bigtable.client.options.versions.saturating_sub(2));
        match now.flushes.saturating_sub(self.progress.flushes) > covered {
            true => Err(BigtableError::Outdated),
            false => Ok(()),
        }
    }

    fn find(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, BigtableError> {
        let filter = filters::family(family.name(), self.bigtable.client.options.versions);
        let row = self.bigtable.row(BigtableTable::of(family), &row_key(family, key), filter)?;
        let cell = row.map(|row| seen(&row, self.progress.position.0)).transpose()?;
        let value = cell.and_then(|mut cell| cell.remove(&family)?.value);
        if value.is_none() {
            self.check_whole()?;
        }
        Ok(value.map(Vec::from))
    }

    fn visit(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut VisitCell<'_>,
    ) -> Result<(), BigtableError> {
        let filter = filters::family(family.name(), self.bigtable.client.options.versions);
        let mut ranges = row_ranges(family, start, end);
        let table = BigtableTable::of(family);
        if ranges.len() > 1 {
            let scans = ranges.into_iter().map(|range| Scan { table, range, filter: filter.clone(), rows_max: 0 });
            merge::merged(&self.bigtable, family, self.progress.position.0, scans.collect(), visit)?;
        } else if let Some(range) = ranges.pop() {
            let scan = Scan { table, range, filter, rows_max: 0 };
            self.bigtable.scan(scan, &mut |row| {
                let cell = seen(&row, self.progress.position.0)?.remove(&family).and_then(|cell| cell.value);
                match cell.zip(key_of_row(family, &row.key)) {
                    Some((value, key)) => Ok(visit(&key, &value)),
                    None => Ok(ControlFlow::Continue(())),
                }
            })?;
        }
        self.check_whole()
    }
}

impl ServingSnapshot for BigtableSnapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ServingError> {
        self.find(family, key).map_err(|error| error.of_serving(READING))
    }

    fn scan_each(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut VisitCell<'_>,
    ) -> Result<(), ServingError> {
        if end.is_some_and(|end| end <= start) {
            return Ok(());
        }
        self.visit(family, start, end, visit).map_err(|error| error.of_serving(READING))
    }
}
