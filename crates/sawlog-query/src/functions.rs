//! SQL functions over Sawlog's own column types.
//!
//! `sketch_merge(latency)` adds latency sketches, `sketch_quantile(sketch, q)` reads a quantile in microseconds.

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Builder};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, ColumnarValue, ScalarUDF, Volatility, create_udaf, create_udf,
};
use sawlog_core::sketch::Sketch;

pub(crate) fn sketch_merge() -> AggregateUDF {
    create_udaf(
        "sketch_merge",
        vec![DataType::Binary],
        Arc::new(DataType::Binary),
        Volatility::Immutable,
        Arc::new(|_| Ok(Box::new(MergeSketches::default()))),
        Arc::new(vec![DataType::Binary]),
    )
}

pub(crate) fn sketch_quantile() -> ScalarUDF {
    create_udf(
        "sketch_quantile",
        vec![DataType::Binary, DataType::Float64],
        DataType::Float64,
        Volatility::Immutable,
        Arc::new(quantiles),
    )
}

fn no_sketch(error: sawlog_core::sketch::SketchError) -> DataFusionError {
    DataFusionError::Execution(error.to_string())
}

fn quantiles(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(arguments)?;
    let (sketches, wanted) = (arrays[0].as_binary::<i32>(), arrays[1].as_primitive::<Float64Type>());
    let mut found = Float64Builder::with_capacity(sketches.len());
    for row in 0..sketches.len() {
        if sketches.is_null(row) || wanted.is_null(row) {
            found.append_null();
            continue;
        }
        let sketch = Sketch::read_from(&mut sketches.value(row)).map_err(no_sketch)?;
        found.append_option(sketch.quantile(wanted.value(row)));
    }
    Ok(ColumnarValue::Array(Arc::new(found.finish())))
}

#[derive(Debug, Default)]
struct MergeSketches {
    sketch: Sketch,
}

impl Accumulator for MergeSketches {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for bytes in values[0].as_binary::<i32>().iter().flatten() {
            self.sketch.merge(&Sketch::read_from(&mut &bytes[..]).map_err(no_sketch)?);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary((self.sketch.count() > 0).then(|| self.sketch.to_bytes())))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.sketch.to_bytes()))])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.sketch.memory_bytes()
    }
}
