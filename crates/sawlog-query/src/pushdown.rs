//! Filters of a query as conditions that a service checks.
//!
//! For: what a remote table can check as exactly as the engine would, which is then not checked again. Not for: all other
//! filters; the engine checks those on the rows that come.

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use sawlog_seams::remote::{Comparison, Condition, Value};

/// The condition of a filter; `None` where it says more than conditions can.
pub(crate) fn condition(filter: &Expr, schema: &Schema) -> Option<Condition> {
    let part = |inner: &Expr| condition(inner, schema);
    let not = |inner: Condition| Condition::Not(Box::new(inner));
    let is_true = |inner: Condition| Condition::IsTrue(Box::new(inner));
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            Some(Condition::All(vec![part(left)?, part(right)?]))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            Some(Condition::Any(vec![part(left)?, part(right)?]))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            compare(left, *op, right, schema).or_else(|| compare(right, op.swap()?, left, schema))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let low = compare(expr, Operator::GtEq, low, schema)?;
            let inside = Condition::All(vec![low, compare(expr, Operator::LtEq, high, schema)?]);
            Some(if *negated { not(inside) } else { inside })
        }
        Expr::InList(InList { expr, list, negated }) => {
            let column = column(expr, schema)?;
            let values = list.iter().map(|value| exact(value, schema.field(column).data_type()));
            let found = Condition::OneOf { column, values: values.collect::<Option<_>>()? };
            Some(if *negated { not(found) } else { found })
        }
        Expr::Like(Like { negated, expr, pattern, escape_char: None | Some('\\'), case_insensitive }) => {
            let column = column(expr, schema).filter(|column| *schema.field(*column).data_type() == DataType::Utf8)?;
            let Value::Text(pattern) = exact(pattern, &DataType::Utf8)? else { return None };
            let found = Condition::Like { column, pattern, is_any_case: *case_insensitive };
            Some(if *negated { not(found) } else { found })
        }
        Expr::IsNull(inner) => Some(Condition::IsMissing { column: column(inner, schema)? }),
        Expr::IsNotNull(inner) => Some(not(Condition::IsMissing { column: column(inner, schema)? })),
        Expr::Not(inner) => Some(not(part(inner)?)),
        Expr::IsTrue(inner) => Some(is_true(part(inner)?)),
        Expr::IsNotTrue(inner) => Some(not(is_true(part(inner)?))),
        Expr::IsFalse(inner) => Some(is_true(not(part(inner)?))),
        Expr::IsNotFalse(inner) => Some(not(is_true(not(part(inner)?)))),
        Expr::Column(_) => {
            let column = column(filter, schema).filter(|at| *schema.field(*at).data_type() == DataType::Boolean)?;
            Some(Condition::Compare { column, comparison: Comparison::Equal, value: Value::Boolean(true) })
        }
        Expr::Literal(ScalarValue::Boolean(Some(true)), _) => Some(Condition::All(Vec::new())),
        Expr::Literal(ScalarValue::Boolean(Some(false)), _) => Some(Condition::Any(Vec::new())),
        _ => None,
    }
}

fn column(expr: &Expr, schema: &Schema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.index_of(&column.name).ok(),
        _ => None,
    }
}

fn compare(left: &Expr, op: Operator, right: &Expr, schema: &Schema) -> Option<Condition> {
    let comparison = match op {
        Operator::Eq => Comparison::Equal,
        Operator::NotEq => Comparison::NotEqual,
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    };
    if let Some(column) = column(left, schema)
        && let Some(value) = exact(right, schema.field(column).data_type())
    {
        return Some(Condition::Compare { column, comparison, value });
    }
    finer_time(left, comparison, right, schema)
}

/// A value of exactly a column's type.
fn exact(expr: &Expr, data_type: &DataType) -> Option<Value> {
    let Expr::Literal(value, _) = expr else { return None };
    match (data_type, value) {
        (DataType::Utf8, _) => value.try_as_str().flatten().map(|text| Value::Text(text.to_owned())),
        (DataType::Int32 | DataType::Int64, ScalarValue::Int64(value)) => value.map(Value::Integer),
        (DataType::Int32 | DataType::Int64, ScalarValue::Int32(value)) => {
            value.map(|value| Value::Integer(value.into()))
        }
        (DataType::Boolean, ScalarValue::Boolean(value)) => value.map(Value::Boolean),
        (DataType::Date32, ScalarValue::Date32(value)) => value.map(Value::Date),
        (DataType::Timestamp(TimeUnit::Microsecond, _), ScalarValue::TimestampMicrosecond(value, _)) => {
            value.map(Value::Time)
        }
        _ => None,
    }
}

/// A comparison of a time column with a time in nanoseconds, such as that of `now()`.
fn finer_time(left: &Expr, comparison: Comparison, right: &Expr, schema: &Schema) -> Option<Condition> {
    let inner = match left {
        Expr::Cast(cast) => &cast.expr,
        Expr::TryCast(cast) => &cast.expr,
        _ => return None,
    };
    let column = column(inner, schema)
        .filter(|column| matches!(schema.field(*column).data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)))?;
    let Expr::Literal(ScalarValue::TimestampNanosecond(Some(nanos), _), _) = right else { return None };
    let (below, above) = (nanos.div_euclid(1_000), nanos.div_euclid(1_000) + i64::from(nanos.rem_euclid(1_000) > 0));
    let micros = match comparison {
        Comparison::Greater | Comparison::LessOrEqual => below,
        Comparison::GreaterOrEqual | Comparison::Less => above,
        Comparison::Equal | Comparison::NotEqual if below == above => below,
        Comparison::Equal | Comparison::NotEqual => return None,
    };
    Some(Condition::Compare { column, comparison, value: Value::Time(micros) })
}
