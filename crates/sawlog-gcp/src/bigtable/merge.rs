//! Scans of many ranges as one, in the order of keys: salted families have a range for each salt.
//!
//! For: what few ask for: the state of a worker, read by another process. Pages are small and read several at a time.
//! Not for: served families, which are one range.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sawlog_core::bigtable::key_of_row;
use sawlog_seams::serving::{Cell, Family, VisitCell};
use tokio::task::JoinSet;

use super::cells::seen;
use super::client::{Bigtable, Client};
use super::error::BigtableError;
use super::read::Scan;

/// Rows of one range that are read at a time.
const PAGE_ROWS: usize = 64;
/// Ranges that are read at the same time.
const RANGES_AT_ONCE: usize = 16;

/// One range: the cells that were read and not visited, and where to go on.
struct Cursor {
    rest: Option<Scan>,
    cells: VecDeque<Cell>,
}

/// Visits the cells of all ranges in the order of keys until the visitor breaks. No two ranges have the same key.
pub(super) fn merged(
    bigtable: &Bigtable,
    family: Family,
    position: u64,
    scans: Vec<Scan>,
    visit: &mut VisitCell<'_>,
) -> Result<(), BigtableError> {
    let mut cursors: Vec<Cursor> =
        scans.into_iter().map(|scan| Cursor { rest: Some(scan), cells: VecDeque::new() }).collect();
    let mut heads = BTreeMap::new();
    let mut dry: Vec<usize> = (0..cursors.len()).collect();
    loop {
        fill(bigtable, family, position, &mut cursors, &dry)?;
        for index in dry.drain(..) {
            if let Some((key, _)) = cursors[index].cells.front() {
                heads.insert(key.clone(), index);
            }
        }
        let Some((_, index)) = heads.pop_first() else { return Ok(()) };
        if let Some((key, value)) = cursors[index].cells.pop_front()
            && visit(&key, &value).is_break()
        {
            return Ok(());
        }
        dry.push(index);
    }
}

/// Reads on where no cell is left, until there is one or the range has ended.
fn fill(
    bigtable: &Bigtable,
    family: Family,
    position: u64,
    cursors: &mut [Cursor],
    dry: &[usize],
) -> Result<(), BigtableError> {
    loop {
        let mut scans = VecDeque::new();
        for index in dry {
            if cursors[*index].cells.is_empty()
                && let Some(scan) = cursors[*index].rest.take()
            {
                scans.push_back((*index, scan));
            }
        }
        if scans.is_empty() {
            return Ok(());
        }
        let pages = bigtable.run(|client| pages(client, scans, family, position))?;
        for (index, cells, rest) in pages {
            cursors[index] = Cursor { rest, cells };
        }
    }
}

/// A page of each range: its cells, and what is left of the range.
async fn pages(
    client: Arc<Client>,
    mut scans: VecDeque<(usize, Scan)>,
    family: Family,
    position: u64,
) -> Result<Vec<(usize, VecDeque<Cell>, Option<Scan>)>, BigtableError> {
    let (mut reading, mut pages) = (JoinSet::new(), Vec::new());
    loop {
        while reading.len() < RANGES_AT_ONCE
            && let Some((index, mut scan)) = scans.pop_front()
        {
            let client = Arc::clone(&client);
            scan.rows_max = PAGE_ROWS;
            reading.spawn(async move { Ok((index, client.rows(scan.clone()).await?, scan)) });
        }
        let Some(ended) = reading.join_next().await else { return Ok(pages) };
        let (index, rows, mut scan) = ended.unwrap_or(Err(BigtableError::Panicked))?;
        let mut cells = VecDeque::new();
        for row in &rows {
            let value = seen(row, position)?.remove(&family).and_then(|cell| cell.value);
            cells.extend(key_of_row(family, &row.key).zip(value.map(Vec::from)));
        }
        let rest = rows.last().filter(|_| rows.len() == PAGE_ROWS).map(|last| {
            scan.range.0 = [&last.key[..], &[0]].concat();
            scan
        });
        pages.push((index, cells, rest));
    }
}
