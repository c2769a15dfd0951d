//! Sessions: chains of events of users, sums of them, and the rows that they become.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{Array, RecordBatch};
use arrow_pyarrow::PyArrowType;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use sawlog_core::rollup::PaneTiming;
use sawlog_core::session::{Chain, SessionDeltas, SessionOptions, SessionRow, join, session_rows};

use crate::cells::rows_of;
use crate::error::refused;
use crate::schemas;

/// Settings of sessions.
#[pyclass(frozen, module = "sawlog._native")]
pub(crate) struct Sessions {
    options: SessionOptions,
}

#[pymethods]
impl Sessions {
    #[new]
    #[pyo3(signature = (*, gap = SessionOptions::default().gap, length_max = SessionOptions::default().length_max))]
    fn new(gap: i64, length_max: i64) -> Self {
        Self { options: SessionOptions { gap, length_max } }
    }

    /// Chains of the users that rows of `logs` and `activity` name.
    fn chains(
        &self,
        py: Python<'_>,
        tables: HashMap<String, PyArrowType<RecordBatch>>,
    ) -> PyResult<PyArrowType<RecordBatch>> {
        let rows = rows_of(&tables)?;
        let chains = py.detach(|| {
            let mut deltas = SessionDeltas::default();
            rows.into_iter().for_each(|(table, batch)| deltas.add(table, batch, &self.options));
            batch_of(&deltas)
        });
        chains.map(PyArrowType)
    }

    /// The sessions of chains of a user that will not grow any more, as rows of `pane_sessions`; chains that touch are one.
    #[pyo3(signature = (user_id, chains, pane_index, is_late = false))]
    fn rows(
        &self,
        py: Python<'_>,
        user_id: &str,
        chains: Vec<PyBackedBytes>,
        pane_index: u32,
        is_late: bool,
    ) -> PyResult<PyArrowType<RecordBatch>> {
        let rows = py.detach(|| {
            let mut chains = chains_of(&chains)?;
            join(&mut chains, &self.options);
            let rows = chains.iter().flat_map(|chain| {
                let is_cut = chain.is_cut(&self.options);
                chain.sessions(&self.options).into_iter().map(move |(session, _)| SessionRow {
                    user: user_id.to_owned(),
                    session,
                    index: pane_index,
                    timing: if is_late { PaneTiming::Late } else { PaneTiming::OnTime },
                    is_cut,
                    is_retracted: false,
                })
            });
            session_rows(&rows.collect::<Vec<_>>()).map_err(refused)
        });
        rows.map(PyArrowType)
    }
}

fn chains_of(chains: &[PyBackedBytes]) -> PyResult<Vec<Chain>> {
    chains.iter().map(|bytes| Chain::from_bytes(bytes).map_err(refused)).collect()
}

fn batch_of(deltas: &SessionDeltas) -> PyResult<RecordBatch> {
    let (mut users, mut chains) = (StringBuilder::new(), BinaryBuilder::new());
    let times = || TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let (mut firsts, mut lasts) = (times(), times());
    for (user, of_user) in deltas.users() {
        for chain in of_user {
            users.append_value(user);
            firsts.append_value(chain.first());
            lasts.append_value(chain.last());
            chains.append_value(chain.to_bytes());
        }
    }
    let columns: Vec<Arc<dyn Array>> =
        vec![Arc::new(users.finish()), Arc::new(firsts.finish()), Arc::new(lasts.finish()), Arc::new(chains.finish())];
    RecordBatch::try_new(schemas::chains(), columns).map_err(refused)
}

/// The chain of the events of all of these, which one user's session window holds.
#[pyfunction]
pub(crate) fn merge_chains(py: Python<'_>, chains: Vec<PyBackedBytes>) -> PyResult<Py<PyBytes>> {
    let mut read = chains_of(&chains)?.into_iter();
    let mut sum = read.next().ok_or_else(|| refused("there are no chains to merge"))?;
    read.for_each(|chain| sum.merge(&chain));
    Ok(PyBytes::new(py, &sum.to_bytes()).unbind())
}
