//! Schemas and what else is known of each table.

use std::sync::{Arc, LazyLock};

use arrow_pyarrow::PyArrowType;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pyo3::prelude::*;
use sawlog_core::schema::{self, time_type};
use sawlog_core::tables::TableSpec;

use crate::error::refused;

/// A schema that is made once.
type Made = LazyLock<SchemaRef>;

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

/// Messages of Pub/Sub.
pub(crate) fn messages() -> SchemaRef {
    static SCHEMA: Made = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("data", DataType::Binary, false),
            Field::new("attributes", schema::text_map_type(), false),
            text("message_id"),
            Field::new("publish_time", time_type(), false),
            text("ordering_key"),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Ids of transformed rows.
pub(crate) fn ids() -> SchemaRef {
    static SCHEMA: Made = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            text("table"),
            Field::new("row", DataType::Int64, false),
            Field::new("id", DataType::FixedSizeBinary(16), false),
            Field::new("event_time", time_type(), false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// What one stretch of rows adds to windows: cells of series.
pub(crate) fn cells() -> SchemaRef {
    static SCHEMA: Made = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("key", DataType::Binary, false),
            Field::new("window_start", time_type(), false),
            Field::new("cell", DataType::Binary, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Emissions of windows: cells of series, with the window's length and which emission it is.
pub(crate) fn panes() -> SchemaRef {
    static SCHEMA: Made = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("key", DataType::Binary, false),
            Field::new("width", DataType::Utf8, false),
            Field::new("window_start", time_type(), false),
            Field::new("pane_index", DataType::Int32, false),
            Field::new("pane_timing", DataType::Utf8, false),
            Field::new("cell", DataType::Binary, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Cells of Bigtable.
pub(crate) fn bigtable() -> SchemaRef {
    static SCHEMA: Made = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("row_key", DataType::Binary, false),
            text("family"),
            Field::new("cell_time", time_type(), false),
            Field::new("value", DataType::Binary, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Chains of events of users.
pub(crate) fn chains() -> SchemaRef {
    static SCHEMA: Made = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            text("user_id"),
            Field::new("first", time_type(), false),
            Field::new("last", time_type(), false),
            Field::new("chain", DataType::Binary, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Parts of the timelines of users.
pub(crate) fn timelines() -> SchemaRef {
    static SCHEMA: Made = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            text("user_id"),
            Field::new("newest", time_type(), false),
            Field::new("chunk", DataType::Binary, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// The schema of a table, or of what the functions of this module take and give.
#[pyfunction(name = "schema")]
pub(crate) fn schema_of(name: &str) -> PyResult<PyArrowType<Schema>> {
    let found = match name {
        "messages" => messages(),
        "ids" => ids(),
        "cells" => cells(),
        "panes" => panes(),
        "bigtable" => bigtable(),
        "chains" => chains(),
        "timelines" => timelines(),
        "lake" => schema::lake_schema(),
        _ => table(name)?.schema,
    };
    Ok(PyArrowType(found.as_ref().clone()))
}

fn table(name: &str) -> PyResult<TableSpec> {
    let found = TableSpec::all().into_iter().find(|spec| spec.name == name);
    found.ok_or_else(|| refused(format!("there is no table {name:?}; there are {}", table_names().join(", "))))
}

/// Names of all tables.
#[pyfunction]
pub(crate) fn table_names() -> Vec<&'static str> {
    TableSpec::all().into_iter().map(|spec| spec.name).collect()
}

/// Column of the time that rows of a table are of, the column of its partitions, and the columns that it is sorted by.
#[pyfunction]
pub(crate) fn layout(name: &str) -> PyResult<(&'static str, Option<&'static str>, Vec<&'static str>)> {
    let spec = table(name)?;
    Ok((spec.time, spec.partition, spec.clustering.to_vec()))
}
