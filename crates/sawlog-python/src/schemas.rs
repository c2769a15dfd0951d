//! Schemas and what else is known of each table.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow_pyarrow::PyArrowType;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use pyo3::prelude::*;
use sawlog_core::bigquery::{is_json, is_required, sql_type};
use sawlog_core::schema::{lake_schema, text_map_type, time_type};
use sawlog_core::tables::TableSpec;
use serde_json::{Value, json};

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
            Field::new("attributes", text_map_type(), false),
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
    Ok(PyArrowType(schema(name)?.as_ref().clone()))
}

pub(crate) fn schema(name: &str) -> PyResult<SchemaRef> {
    Ok(match name {
        "messages" => messages(),
        "ids" => ids(),
        "cells" => cells(),
        "panes" => panes(),
        "bigtable" => bigtable(),
        "chains" => chains(),
        "timelines" => timelines(),
        "lake" => lake_schema(),
        _ => table(name)?.schema,
    })
}

/// Columns of a table as BigQuery's API describes them: name, type, mode.
#[pyfunction]
pub(crate) fn bigquery_schema(name: &str) -> PyResult<Vec<HashMap<&'static str, String>>> {
    let spec = table(name)?;
    let column = |field: &Arc<Field>| {
        let (of, mode) = match field.data_type() {
            list @ DataType::List(element) if !is_json(list) => (element.data_type(), "REPEATED"),
            other if is_required(field) => (other, "REQUIRED"),
            other => (other, "NULLABLE"),
        };
        let unknown = || refused(format!("column {} has no type of BigQuery", field.name()));
        let data_type = sql_type(of).ok_or_else(unknown)?;
        Ok(HashMap::from([("name", field.name().clone()), ("type", data_type), ("mode", mode.to_owned())]))
    };
    spec.schema.fields().iter().map(column).collect()
}

/// The schema of a table, or of the lake, as JSON of which `pyspark.sql.types.StructType.fromJson` makes Spark's.
#[pyfunction]
pub(crate) fn spark_schema(name: &str) -> PyResult<String> {
    let schema = if name == "lake" { lake_schema() } else { table(name)?.schema };
    spark_struct(schema.fields()).map(|found| found.to_string())
}

fn spark_struct(fields: &Fields) -> PyResult<Value> {
    let field = |field: &Arc<Field>| {
        let data_type = spark_type(field)?;
        Ok(json!({"name": field.name(), "type": data_type, "nullable": field.is_nullable(), "metadata": {}}))
    };
    let fields = fields.iter().map(field).collect::<PyResult<Vec<_>>>()?;
    Ok(json!({"type": "struct", "fields": fields}))
}

fn spark_type(field: &Field) -> PyResult<Value> {
    Ok(match field.data_type() {
        DataType::Utf8 => "string".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int64 => "long".into(),
        DataType::Float64 => "double".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Binary => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp".into(),
        DataType::List(element) => {
            let element_type = spark_type(element)?;
            json!({"type": "array", "elementType": element_type, "containsNull": element.is_nullable()})
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let (key, value) = (spark_type(&pair[0])?, spark_type(&pair[1])?);
                json!({"type": "map", "keyType": key, "valueType": value, "valueContainsNull": pair[1].is_nullable()})
            }
            other => return Err(refused(format!("column {} has entries of type {other}", field.name()))),
        },
        DataType::Struct(fields) => spark_struct(fields)?,
        other => return Err(refused(format!("column {} of type {other} has no type of Spark", field.name()))),
    })
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
