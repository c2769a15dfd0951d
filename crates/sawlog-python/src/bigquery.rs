//! Rows in the form in which BigQuery takes them.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_pyarrow::PyArrowType;
use arrow_schema::{Field, Schema};
use pyo3::prelude::*;
use sawlog_core::bigquery::{TYPED_MAPS, column, field, letters};

use crate::error::refused;

/// Rows of a table with attributes as JSON, whole numbers of one width and no missing lists.
#[pyfunction]
pub(crate) fn bigquery_rows(py: Python<'_>, rows: PyArrowType<RecordBatch>) -> PyResult<PyArrowType<RecordBatch>> {
    let rows = rows.0;
    py.detach(|| converted(&rows)).map(PyArrowType)
}

fn converted(rows: &RecordBatch) -> PyResult<RecordBatch> {
    let schema = rows.schema_ref();
    let fields: Vec<Field> = schema.fields().iter().map(|one| field(one)).collect();
    let convert = |(one, values): (&Arc<Field>, &ArrayRef)| {
        let unknown = || refused(format!("column {} has structures, which are not written from Python", one.name()));
        column(values).map_err(refused)?.ok_or_else(unknown)
    };
    let mut columns = schema.fields().iter().zip(rows.columns()).map(convert).collect::<PyResult<Vec<_>>>()?;
    for (map, types) in TYPED_MAPS {
        if let (Ok(map), Ok(types)) = (schema.index_of(map), schema.index_of(types)) {
            columns[types] = letters(rows.column(map).as_map(), rows.column(types).as_string());
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(refused)
}
