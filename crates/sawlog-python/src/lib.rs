//! The transform core as the Python module `sawlog._native`.
//!
//! For: Beam's workers and Spark's executors, which hand over whole Arrow batches through the C data interface and get rows
//! that are those of the binary. Not for: I/O, settings files, Beam or Spark themselves (the Python package `sawlog`).
//! Rules: the interpreter is released while the core works; what is wrong with an argument is a `sawlog.SawlogError` that
//! names it, with the texts of the binary. Types and documentation of what Python sees: python/sawlog/_native.pyi.

mod bigquery;
mod cells;
mod error;
mod export;
mod keys;
mod raw;
mod schemas;
mod sessions;
mod timelines;
mod transformer;

use mimalloc::MiMalloc;
use pyo3::prelude::*;

/// The core makes a column of each value that it reads: a seventh of its time is allocation.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What Python imports as `sawlog._native`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::bigquery::bigquery_rows;
    #[pymodule_export]
    use crate::cells::{Rollups, WindowSums, bigtable_cells, merge_cells, pane_rows, split_cells};
    #[pymodule_export]
    use crate::error::SawlogError;
    #[pymodule_export]
    use crate::keys::{row_key, session_key, timeline_key};
    #[pymodule_export]
    use crate::schemas::{bigquery_schema, layout, schema_of, spark_schema, table_names};
    #[pymodule_export]
    use crate::sessions::{Sessions, merge_chains};
    #[pymodule_export]
    use crate::timelines::{timeline_cells, timelines};
    #[pymodule_export]
    use crate::transformer::Transformer;

    /// The version of the package, which is that of the binary.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "what Python calls it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
