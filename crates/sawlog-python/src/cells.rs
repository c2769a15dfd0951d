//! Rollups: what rows add to windows, sums of it, and the panes that windows emit.

use std::collections::{BTreeMap, HashMap};
use std::iter;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::builder::{BinaryBuilder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use arrow_array::{Array, Int32Array, RecordBatch, StringArray};
use arrow_pyarrow::PyArrowType;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use sawlog_core::bigtable::{cell_time, row_key};
use sawlog_core::family::Family;
use sawlog_core::rollup::{
    self, Admission, Cell, Deltas, PaneCell, PaneTiming, Rollup, RollupOptions, RollupRow, Width,
};
use sawlog_core::schema::Table;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::refused;
use crate::raw::check;
use crate::schemas;

/// Counts rows into windows of ten seconds; the series that a worker has met are those that it counts on their own.
#[pyclass(frozen, module = "sawlog._native")]
pub(crate) struct Rollups {
    options: RollupOptions,
    admission: Mutex<Admission>,
}

#[pymethods]
impl Rollups {
    #[new]
    #[pyo3(signature = (*, apdex_threshold = RollupOptions::default().apdex_threshold, series_max = RollupOptions::default().series_max))]
    fn new(apdex_threshold: i64, series_max: usize) -> Self {
        Self { options: RollupOptions { apdex_threshold, series_max }, admission: Mutex::default() }
    }

    /// Cells of all series that the rows of `logs`, `metrics` and `activity` add to.
    fn cells(
        &self,
        py: Python<'_>,
        tables: HashMap<String, PyArrowType<RecordBatch>>,
    ) -> PyResult<PyArrowType<RecordBatch>> {
        let rows = rows_of(&tables)?;
        let cells = py.detach(|| {
            let mut admission = self.admission.lock().unwrap_or_else(PoisonError::into_inner);
            let mut deltas = Deltas::default();
            for (table, batch) in rows {
                deltas.add(table, batch, latest_receipt(batch), &self.options, &mut *admission);
            }
            batch_of(&deltas)
        });
        cells.map(PyArrowType)
    }
}

/// The rows by table, without dead letters.
pub(crate) fn rows_of(tables: &HashMap<String, PyArrowType<RecordBatch>>) -> PyResult<Vec<(Table, &RecordBatch)>> {
    let events = Table::ALL.into_iter().filter(|table| *table != Table::DeadLetters);
    let given = events.filter_map(|table| Some((table, &tables.get(table.name())?.0)));
    given.map(|(table, batch)| check(batch, &table.schema()).map(|()| (table, batch))).collect()
}

/// The latest time of receipt of rows, UTC microseconds; 0 without rows.
fn latest_receipt(batch: &RecordBatch) -> i64 {
    let times =
        batch.column_by_name("receive_time").and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    times.and_then(|times| times.values().iter().copied().max()).unwrap_or(0)
}

/// Cells as rows.
struct CellRows {
    keys: BinaryBuilder,
    starts: TimestampMicrosecondBuilder,
    cells: BinaryBuilder,
}

impl Default for CellRows {
    fn default() -> Self {
        let starts = TimestampMicrosecondBuilder::new().with_timezone("UTC");
        Self { keys: BinaryBuilder::new(), starts, cells: BinaryBuilder::new() }
    }
}

impl CellRows {
    fn push(&mut self, key: &[u8], start: i64, cell: &[u8]) {
        self.keys.append_value(key);
        self.starts.append_value(start);
        self.cells.append_value(cell);
    }

    fn columns(mut self) -> [Arc<dyn Array>; 3] {
        [Arc::new(self.keys.finish()), Arc::new(self.starts.finish()), Arc::new(self.cells.finish())]
    }

    fn finish(self) -> PyResult<RecordBatch> {
        RecordBatch::try_new(schemas::cells(), self.columns().into()).map_err(refused)
    }
}

fn batch_of(deltas: &Deltas) -> PyResult<RecordBatch> {
    let (mut rows, mut bytes) = (CellRows::default(), Vec::new());
    for (key, start, cell) in deltas.cells(Width::TenSeconds) {
        bytes.clear();
        cell.write_to(&mut bytes);
        rows.push(key, start, &bytes);
    }
    rows.finish()
}

/// Rows of cells: key of the series, start of the window, cell.
fn cells_of(batch: &RecordBatch) -> PyResult<impl Iterator<Item = (&[u8], i64, &[u8])>> {
    check(batch, &schemas::cells())?;
    let (keys, cells) = (batch.column(0).as_binary::<i32>(), batch.column(2).as_binary::<i32>());
    let starts = batch.column(1).as_primitive::<TimestampMicrosecondType>();
    Ok((0..batch.num_rows()).map(move |row| (keys.value(row), starts.value(row), cells.value(row))))
}

/// Cells by hour of their windows and by one of so many parts of all series: number of both, the same in all workers, and cells.
#[pyfunction]
pub(crate) fn split_cells(
    py: Python<'_>,
    cells: PyArrowType<RecordBatch>,
    parts: NonZeroU32,
) -> PyResult<Vec<(i64, PyArrowType<RecordBatch>)>> {
    let cells = cells.0;
    py.detach(|| {
        let parts = u64::from(parts.get());
        let mut found: BTreeMap<i64, CellRows> = BTreeMap::new();
        for (key, start, cell) in cells_of(&cells)? {
            let hour = start.div_euclid(Width::Hour.micros());
            let part = (xxh3_64(key) % parts).cast_signed();
            found.entry(hour * parts.cast_signed() + part).or_default().push(key, start, cell);
        }
        found.into_iter().map(|(number, rows)| Ok((number, PyArrowType(rows.finish()?)))).collect()
    })
}

/// Sums of windows of all widths: each has one pane when all that adds to it is there.
#[pyclass(frozen, module = "sawlog._native")]
#[derive(Default)]
pub(crate) struct WindowSums {
    deltas: Mutex<Deltas>,
}

#[pymethods]
impl WindowSums {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Adds cells.
    fn add(&self, py: Python<'_>, cells: PyArrowType<RecordBatch>) -> PyResult<()> {
        let cells = cells.0;
        py.detach(|| {
            let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, start, cell) in cells_of(&cells)? {
                deltas.put(key, start, Cell::from_bytes(rollup_of(key)?, cell).map_err(refused)?);
            }
            Ok(())
        })
    }

    /// The windows' panes, on time and with that number, by width, series and start.
    fn panes(&self, py: Python<'_>, pane_index: i32) -> PyResult<PyArrowType<RecordBatch>> {
        let panes = py.detach(|| {
            let deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut rows, mut widths, mut bytes) = (CellRows::default(), StringBuilder::new(), Vec::new());
            for width in Width::ALL {
                let mut cells: Vec<(&[u8], i64, Cell)> = deltas.cells(width).collect();
                cells.sort_unstable_by_key(|(key, start, _)| (*key, *start));
                for (key, start, cell) in cells {
                    bytes.clear();
                    cell.write_to(&mut bytes);
                    rows.push(key, start, &bytes);
                    widths.append_value(width.name());
                }
            }
            let (widths, [keys, starts, cells]) = (widths.finish(), rows.columns());
            let count = widths.len();
            let timings = StringArray::from_iter_values(iter::repeat_n(PaneTiming::OnTime.name(), count));
            let indices = Int32Array::from_value(pane_index, count);
            let columns: Vec<Arc<dyn Array>> =
                vec![keys, Arc::new(widths), starts, Arc::new(indices), Arc::new(timings), cells];
            RecordBatch::try_new(schemas::panes(), columns).map_err(refused)
        });
        panes.map(PyArrowType)
    }
}

fn rollup_of(key: &[u8]) -> PyResult<Rollup> {
    let found = key.first().and_then(|byte| Rollup::of_byte(*byte));
    found.ok_or_else(|| refused("the key is not that of a series of a rollup"))
}

/// The sum of cells of one series.
#[pyfunction]
pub(crate) fn merge_cells(py: Python<'_>, key: PyBackedBytes, cells: Vec<PyBackedBytes>) -> PyResult<Py<PyBytes>> {
    let rollup = rollup_of(&key)?;
    let merged = py.detach(|| {
        let mut sum = Cell::new(rollup);
        for (place, cell) in cells.iter().enumerate() {
            let cell = Cell::from_bytes(rollup, cell).map_err(refused)?;
            if place == 0 { sum = cell } else { sum.merge(&cell) }
        }
        let mut out = Vec::new();
        sum.write_to(&mut out);
        Ok::<_, PyErr>(out)
    })?;
    Ok(PyBytes::new(py, &merged).unbind())
}

/// Panes read from a batch.
struct Pane {
    rollup: Rollup,
    series: Vec<u8>,
    row: RollupRow,
}

fn panes_of(batch: &RecordBatch) -> PyResult<Vec<Pane>> {
    check(batch, &schemas::panes())?;
    let (keys, widths) = (batch.column(0).as_binary::<i32>(), batch.column(1).as_string::<i32>());
    let starts = batch.column(2).as_primitive::<TimestampMicrosecondType>();
    let indices = batch.column(3).as_primitive::<Int32Type>();
    let (timings, cells) = (batch.column(4).as_string::<i32>(), batch.column(5).as_binary::<i32>());
    let read = |row: usize| {
        let (series, start) = (keys.value(row), starts.value(row));
        let wrong = |what: &str| refused(format!("row {row}: {what}"));
        let rollup = rollup_of(series)?;
        let (_, key) =
            rollup::decode(&rollup::with_time(series, start)).ok_or_else(|| wrong("the key is not whole"))?;
        let width = Width::ALL.into_iter().find(|width| width.name() == widths.value(row));
        let timing = [PaneTiming::Early, PaneTiming::OnTime, PaneTiming::Late].into_iter();
        let timing = timing.into_iter().find(|timing| timing.name() == timings.value(row));
        let row = RollupRow {
            parts: key.parts,
            width: width.ok_or_else(|| wrong("the width is not 10s, 1m or 1h"))?,
            window_start: start,
            index: u32::try_from(indices.value(row)).map_err(|_| wrong("the pane's index is below 0"))?,
            timing: timing.ok_or_else(|| wrong("the timing is not early, on_time or late"))?,
            cell: Cell::from_bytes(rollup, cells.value(row)).map_err(refused)?,
        };
        Ok(Pane { rollup, series: series.to_vec(), row })
    };
    (0..batch.num_rows()).map(read).collect()
}

/// Panes as rows of the pane tables, by table; tables without a row are left out.
#[pyfunction]
pub(crate) fn pane_rows<'py>(py: Python<'py>, panes: PyArrowType<RecordBatch>) -> PyResult<Bound<'py, PyDict>> {
    let panes = panes.0;
    let tables = py.detach(|| {
        let panes = panes_of(&panes)?;
        let mut tables = Vec::new();
        for rollup in Rollup::ALL {
            let mut rows = panes.iter().filter(|pane| pane.rollup == rollup).map(|pane| &pane.row).peekable();
            if rows.peek().is_some() {
                tables.push((rollup.pane_table(), rollup::rollup_rows(rollup, rows, true).map_err(refused)?));
            }
        }
        Ok::<_, PyErr>(tables)
    })?;
    let found = PyDict::new(py);
    for (name, rows) in tables {
        found.set_item(name, PyArrowType(rows))?;
    }
    Ok(found)
}

/// Cells of the served table of Bigtable.
pub(crate) struct BigtableRows {
    keys: BinaryBuilder,
    families: StringBuilder,
    times: TimestampMicrosecondBuilder,
    values: BinaryBuilder,
}

impl Default for BigtableRows {
    fn default() -> Self {
        let times = TimestampMicrosecondBuilder::new().with_timezone("UTC");
        Self { keys: BinaryBuilder::new(), families: StringBuilder::new(), times, values: BinaryBuilder::new() }
    }
}

impl BigtableRows {
    /// Adds a cell of a family whose keys or values say their time.
    pub(crate) fn push(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.keys.append_value(row_key(family, key));
        self.families.append_value(family.name());
        self.times.append_value(cell_time(family, key, value, 0));
        self.values.append_value(value);
    }

    pub(crate) fn finish(mut self) -> PyResult<RecordBatch> {
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(self.keys.finish()),
            Arc::new(self.families.finish()),
            Arc::new(self.times.finish()),
            Arc::new(self.values.finish()),
        ];
        RecordBatch::try_new(schemas::bigtable(), columns).map_err(refused)
    }
}

/// Panes as cells of the served table of Bigtable, of any writer: they count at once, and newer panes win.
#[pyfunction]
pub(crate) fn bigtable_cells(py: Python<'_>, panes: PyArrowType<RecordBatch>) -> PyResult<PyArrowType<RecordBatch>> {
    let panes = panes.0;
    let cells = py.detach(|| {
        let mut rows = BigtableRows::default();
        for Pane { series, row, .. } in panes_of(&panes)? {
            let key = rollup::with_time(&series, row.window_start);
            let value = PaneCell { index: row.index, timing: row.timing, cell: row.cell }.to_bytes();
            rows.push(Family::of_width(row.width), &key, &value);
        }
        rows.finish()
    });
    cells.map(PyArrowType)
}
