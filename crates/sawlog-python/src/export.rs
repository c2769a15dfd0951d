//! Batches on their way to Python.
//!
//! For: batches of a known schema, which Python has already: only the columns cross. `arrow-pyarrow` sends a stream with its
//! schema for each batch, which takes twice as long at a thousand rows. Not for: batches of other schemas.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use arrow_array::{Array, RecordBatch, StructArray};
use arrow_data::ffi::FFI_ArrowArray;
use arrow_pyarrow::ToPyArrow;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{Py, intern};

use crate::schemas;

/// Schemas as Python has them, by name.
static SCHEMAS: LazyLock<Mutex<HashMap<&'static str, Py<PyAny>>>> = LazyLock::new(Mutex::default);

/// A batch with the schema that has this name (`schemas::schema`) as one of pyarrow.
pub(crate) fn batch<'py>(py: Python<'py>, name: &'static str, batch: RecordBatch) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || Ok::<_, PyErr>(py.import("pyarrow")?.getattr("RecordBatch")?.unbind()))?;
    let schema = schema(py, name)?;
    let mut array = FFI_ArrowArray::new(&StructArray::from(batch).into_data());
    // The callee moves the array out of this place, and what is left has nothing to release.
    let place = &raw mut array as usize;
    class.bind(py).call_method1(intern!(py, "_import_from_c"), (place, schema))
}

fn schema<'py>(py: Python<'py>, name: &'static str) -> PyResult<Bound<'py, PyAny>> {
    let known = known_schemas().get(name).map(|schema| schema.clone_ref(py));
    if let Some(schema) = known {
        return Ok(schema.into_bound(py));
    }
    let made = schemas::schema(name)?.to_pyarrow(py)?;
    known_schemas().insert(name, made.clone().unbind());
    Ok(made)
}

/// The schemas that were made. What calls Python must not hold them: it may wait for a thread that waits for them.
fn known_schemas() -> MutexGuard<'static, HashMap<&'static str, Py<PyAny>>> {
    SCHEMAS.lock().unwrap_or_else(PoisonError::into_inner)
}
