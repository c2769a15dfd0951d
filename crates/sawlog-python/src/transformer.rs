//! From messages to raw records, and from those to rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_pyarrow::PyArrowType;
use arrow_schema::ArrowError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use sawlog_core::batch::AgeLimits;
use sawlog_core::lake;
use sawlog_core::ledger::Counts;
use sawlog_core::rules::{Rules, RulesConfig};
use sawlog_core::schema::{self, Table};
use sawlog_core::tables::LEDGER_TABLE;
use sawlog_core::transform::Transformed;

use crate::error::{failed, refused};
use crate::export;
use crate::raw::Messages;
use crate::schemas;

const MINUTE: i64 = 60_000_000;

/// Rules and limits, compiled once; raw records in, rows out.
#[pyclass(frozen, module = "sawlog._native")]
pub(crate) struct Transformer {
    rules: Arc<Rules>,
    age: AgeLimits,
}

#[pymethods]
impl Transformer {
    #[new]
    #[pyo3(signature = (rules = "{}", *, files = None, past_max = AgeLimits::default().past, future_max = AgeLimits::default().future))]
    fn new(
        rules: &str,
        files: Option<HashMap<String, Vec<u8>>>,
        past_max: Option<i64>,
        future_max: i64,
    ) -> PyResult<Self> {
        let config: RulesConfig = serde_json::from_str(rules).map_err(|error| refused(format!("[rules]: {error}")))?;
        let files = files.unwrap_or_default();
        let file = |name: &str| {
            let bytes = files.get(name).ok_or_else(|| "it was not given in `files`".to_owned())?;
            String::from_utf8(bytes.clone()).map_err(|error| error.to_string())
        };
        let rules = Rules::compile(&config, &file).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(|error| format!("{error}; {}", error.hint)).collect();
            refused(lines.join("\n"))
        })?;
        Ok(Self { rules: Arc::new(rules), age: AgeLimits { past: past_max, future: future_max, is_history: false } })
    }

    #[getter]
    fn rules_version(&self) -> i64 {
        self.rules.version()
    }

    /// Records of messages as rows of the lake, after the redactions that apply before anything is written.
    fn receive<'py>(
        &self,
        py: Python<'py>,
        messages: PyArrowType<RecordBatch>,
        source: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let messages = Messages::of(messages.0)?;
        let rows = py.detach(|| messages.rows(source, &self.rules)).map_err(failed)?;
        export::batch(py, "lake", rows)
    }

    /// Rows by table, ids of rows (`ids`) and what became of the records of each source (`sawlog_ledger`), of rows of the lake.
    fn transform<'py>(&self, py: Python<'py>, raw: PyArrowType<RecordBatch>) -> PyResult<Bound<'py, PyDict>> {
        let raw = raw.0;
        let (rows, ids, ledger) = py.detach(|| {
            let rows = lake::transform(&raw, self.age, &self.rules).map_err(failed)?;
            let (ids, ledger) = (ids(&rows).map_err(refused)?, ledger(&raw, &rows).map_err(refused)?);
            Ok::<_, PyErr>((rows, ids, ledger))
        })?;
        let found = PyDict::new(py);
        for (table, rows) in Table::ALL.into_iter().zip(rows.tables) {
            found.set_item(table.name(), export::batch(py, table.name(), rows)?)?;
        }
        found.set_item("ids", export::batch(py, "ids", ids)?)?;
        found.set_item(LEDGER_TABLE, export::batch(py, LEDGER_TABLE, ledger)?)?;
        Ok(found)
    }
}

fn ids(rows: &Transformed) -> Result<RecordBatch, ArrowError> {
    let (mut table, mut row) = (StringBuilder::new(), Int64Builder::new());
    let mut id = FixedSizeBinaryBuilder::with_capacity(rows.ids.len(), 16);
    let mut event_time = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    for one in &rows.ids {
        table.append_value(one.table.name());
        row.append_value(one.row as i64);
        id.append_value(one.id.to_be_bytes())?;
        event_time.append_value(one.event_time);
    }
    let columns: Vec<Arc<dyn Array>> =
        vec![Arc::new(table.finish()), Arc::new(row.finish()), Arc::new(id.finish()), Arc::new(event_time.finish())];
    RecordBatch::try_new(schemas::ids(), columns)
}

/// The ledger of these records, by source and minute of receipt.
fn ledger(raw: &RecordBatch, rows: &Transformed) -> Result<RecordBatch, ArrowError> {
    let column = |name: &str| {
        raw.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("there is no column {name}")))
    };
    let (sources, times) = (column("source")?.as_string::<i32>(), column("receive_time")?);
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut counts: BTreeMap<(i64, &str), Counts> = BTreeMap::new();
    for (row, outcome) in rows.outcomes.iter().enumerate() {
        let minute = times.value(row).div_euclid(MINUTE) * MINUTE;
        counts.entry((minute, sources.value(row))).or_default().note(*outcome);
    }
    let minutes: Vec<i64> = counts.keys().map(|(minute, _)| *minute).collect();
    let mut columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(TimestampMicrosecondArray::from(minutes).with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(counts.keys().map(|(_, source)| source))),
    ];
    for place in 0..Counts::NAMES.len() {
        let values = counts.values().map(|counts| counts.values()[place] as i64);
        columns.push(Arc::new(Int64Array::from_iter_values(values)));
    }
    RecordBatch::try_new(schema::ledger_schema(), columns)
}
