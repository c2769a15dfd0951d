//! Timelines: what users did, from rows to the chunks that are served.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{Array, RecordBatch};
use arrow_pyarrow::PyArrowType;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use sawlog_core::family::Family;
use sawlog_core::timeline::{self, Chunk, UserRows};

use crate::cells::{BigtableRows, rows_of};
use crate::error::refused;
use crate::schemas;

/// Parts of the timelines of all users that rows of `logs` and `activity` name.
#[pyfunction]
pub(crate) fn timelines(
    py: Python<'_>,
    tables: HashMap<String, PyArrowType<RecordBatch>>,
) -> PyResult<PyArrowType<RecordBatch>> {
    let rows = rows_of(&tables)?;
    let parts = py.detach(|| {
        let (mut users, mut chunks) = (StringBuilder::new(), BinaryBuilder::new());
        let mut times = TimestampMicrosecondBuilder::new().with_timezone("UTC");
        let rows = UserRows::of(rows, None);
        for (user, part) in rows.users() {
            for chunk in part.chunks() {
                users.append_value(user);
                times.append_value(newest(&chunk));
                chunks.append_value(chunk.to_bytes());
            }
        }
        let columns: Vec<Arc<dyn Array>> =
            vec![Arc::new(users.finish()), Arc::new(times.finish()), Arc::new(chunks.finish())];
        RecordBatch::try_new(schemas::timelines(), columns).map_err(refused)
    });
    parts.map(PyArrowType)
}

/// Parts of one user's timeline, in any order, as cells of the served table of Bigtable.
#[pyfunction]
pub(crate) fn timeline_cells(
    py: Python<'_>,
    user_id: &str,
    chunks: Vec<PyBackedBytes>,
    position: u64,
) -> PyResult<PyArrowType<RecordBatch>> {
    let cells = py.detach(|| {
        let read = chunks.iter().map(|chunk| Chunk::from_bytes(chunk).map_err(refused));
        let mut rows = BigtableRows::default();
        for (number, chunk) in timeline::merged(read.collect::<PyResult<_>>()?).iter().enumerate() {
            let key = timeline::key(user_id, newest(chunk), position, number as u32);
            rows.push(Family::Timeline, &key, &chunk.to_bytes());
        }
        rows.finish()
    });
    cells.map(PyArrowType)
}

/// Time of the newest entry, UTC microseconds.
fn newest(chunk: &Chunk) -> i64 {
    chunk.entries.first().map_or(0, |entry| entry.time)
}
