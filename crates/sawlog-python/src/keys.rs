//! Row keys, as every writer of the served table makes them.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sawlog_core::bigtable;
use sawlog_core::family::Family;
use sawlog_core::rollup::{Rollup, Width};
use sawlog_core::{rowkey, session, timeline};

use crate::error::refused;

/// Row key of the window of a series: the parts of the key in the order of its rollup's columns.
#[pyfunction]
pub(crate) fn row_key(
    py: Python<'_>,
    rollup: &str,
    width: &str,
    parts: Vec<Option<String>>,
    window_start: i64,
) -> PyResult<Py<PyBytes>> {
    let known = Rollup::ALL.into_iter().find(|known| known.name() == rollup);
    let rollup = known.ok_or_else(|| refused(format!("there is no rollup {rollup:?}")))?;
    let known = Width::ALL.into_iter().find(|known| known.name() == width);
    let width = known.ok_or_else(|| refused(format!("the width {width:?} is not 10s, 1m or 1h")))?;
    if parts.len() != rollup.parts().len() {
        let (given, wanted) = (parts.len(), rollup.parts().join(", "));
        return Err(refused(format!("{given} parts for a key of ({wanted})")));
    }
    let parts: Vec<Option<&str>> = parts.iter().map(Option::as_deref).collect();
    let mut key = Vec::new();
    rowkey::encode(&mut key, rollup.byte(), &parts, window_start);
    Ok(PyBytes::new(py, &bigtable::row_key(Family::of_width(width), &key)).unbind())
}

/// Row key of the sessions of a user.
#[pyfunction]
pub(crate) fn session_key(py: Python<'_>, user_id: &str) -> Py<PyBytes> {
    PyBytes::new(py, &bigtable::row_key(Family::Session, &session::key(user_id))).unbind()
}

/// Row key of a chunk of a user's timeline.
#[pyfunction]
pub(crate) fn timeline_key(py: Python<'_>, user_id: &str, newest: i64, position: u64, number: u32) -> Py<PyBytes> {
    let key = timeline::key(user_id, newest, position, number);
    PyBytes::new(py, &bigtable::row_key(Family::Timeline, &key)).unbind()
}
