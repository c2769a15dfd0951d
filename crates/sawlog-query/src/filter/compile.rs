//! Turns filters into the expressions that SQL becomes.
//!
//! Rules: text of fields is compared as written, in its case; the message is searched in any case. A test of a missing
//! value is false, and its negation true: `-path:/health` keeps events without a path.

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, cast, ident, lit, try_cast};

use super::fields::{Field, expression, first_of, resolve};
use super::value::{Unit, parse_time, severity};
use super::{Comparison, Filter, FilterError, Literal, Pattern, Piece, Span, Test};

/// The columns that words without a field are searched in, the first that a table has.
const TEXT_COLUMNS: [&str; 4] = ["message", "metric_name", "event_name", "error"];

/// The condition of a filter on a table, `None` if it lets everything through. `now` (microseconds) is what times
/// like `-15m` count from.
pub(crate) fn compile(filter: &Filter, schema: &Schema, now: i64) -> Result<Option<Expr>, FilterError> {
    match filter {
        Filter::All => Ok(None),
        _ => Compiler { schema, now }.filter(filter).map(Some),
    }
}

struct Compiler<'a> {
    schema: &'a Schema,
    now: i64,
}

impl Compiler<'_> {
    fn filter(&self, filter: &Filter) -> Result<Expr, FilterError> {
        let all = |parts: &[Filter]| parts.iter().map(|part| self.filter(part)).collect::<Result<Vec<_>, _>>();
        Ok(match filter {
            Filter::All => lit(true),
            Filter::And(parts) => all(parts)?.into_iter().reduce(Expr::and).unwrap_or(lit(true)),
            Filter::Or(parts) => all(parts)?.into_iter().reduce(Expr::or).unwrap_or(lit(false)),
            Filter::Not(inner) => Expr::IsNotTrue(Box::new(self.filter(inner)?)),
            Filter::Text(pattern) => self.text(pattern),
            Filter::Field { name, span, test } => self.field(name, *span, test)?,
        })
    }

    fn text(&self, pattern: &Pattern) -> Expr {
        let column = TEXT_COLUMNS.into_iter().find(|name| self.schema.field_with_name(name).is_ok());
        column.map_or(lit(false), |column| contains(ident(column), pattern))
    }

    fn field(&self, name: &str, span: Span, test: &Test) -> Result<Expr, FilterError> {
        let field = resolve(name, self.schema);
        let Some(value) = expression(&field) else {
            let message = format!("this table has no field {name:?}");
            return Err(FilterError::new(span, message, "`DESCRIBE TABLE` in SQL lists its columns"));
        };
        if *test == Test::Exists {
            return Ok(value.is_not_null());
        }
        match &field {
            Field::Severity => self.severity(value, test),
            Field::Attribute { .. } => self.attribute(value, field.unit(), test),
            Field::Column { name, data_type } => self.column(name, value, data_type, field.unit(), span, test),
        }
    }

    fn severity(&self, value: Expr, test: &Test) -> Result<Expr, FilterError> {
        // Without a severity an event counts as information (9), as in severity_class.
        let known = first_of(value.clone(), lit(9i32));
        let bounds = |literal: &Literal| {
            severity(&literal.text).ok_or_else(|| {
                let hint = "use trace, debug, info, notice, warn, error, critical, alert, fatal, or 1 to 24";
                FilterError::new(literal.span, format!("{:?} is no severity", literal.text), hint)
            })
        };
        match test {
            Test::Is(pattern) => match pattern.literal() {
                Some(text) => {
                    let (low, high) = bounds(&Literal { text: text.to_owned(), span: pattern.span })?;
                    let known = if low == 9 { known } else { value };
                    Ok(known.between(lit(low), lit(high)))
                }
                None => Ok(like(ident("severity_class"), pattern)),
            },
            Test::Compare(comparison, literal) => {
                let (low, high) = bounds(literal)?;
                // Only what is above information: then the file statistics of the column can be used.
                let bound = if matches!(comparison, Comparison::Less | Comparison::MoreOrEqual) { low } else { high };
                let known = if bound > 9 && matches!(comparison, Comparison::More | Comparison::MoreOrEqual) {
                    value
                } else {
                    known
                };
                Ok(compare(known, *comparison, lit(bound)))
            }
            Test::Range { low, low_included, high, high_included } => {
                let low = low.as_ref().map(bounds).transpose()?;
                let high = high.as_ref().map(bounds).transpose()?;
                let low = low.map(|(first, last)| lit(if *low_included { first } else { last }));
                let high = high.map(|(first, last)| lit(if *high_included { last } else { first }));
                Ok(between(&known, low, *low_included, high, *high_included))
            }
            Test::Exists => Ok(value.is_not_null()),
        }
    }

    /// Attributes are kept as text; numbers among them are compared as numbers.
    fn attribute(&self, value: Expr, unit: Unit, test: &Test) -> Result<Expr, FilterError> {
        let number = try_cast(value.clone(), DataType::Float64);
        let read = |literal: &Literal| match unit.read(&literal.text) {
            Some(bound) => Ok(Some(lit(bound))),
            None if unit == Unit::Plain && !starts_as_number(&literal.text) => Ok(None),
            None => Err(not(literal, "number", unit.example())),
        };
        Ok(match test {
            Test::Is(pattern) => match pattern.literal() {
                Some(text) => value.eq(lit(text)),
                None => like(value, pattern),
            },
            Test::Compare(comparison, literal) => match read(literal)? {
                Some(bound) => compare(number, *comparison, bound),
                None => compare(value, *comparison, lit(literal.text.as_str())),
            },
            Test::Range { low, low_included, high, high_included } => {
                let low_number = low.as_ref().map(read).transpose()?;
                let high_number = high.as_ref().map(read).transpose()?;
                let is_text = [&low_number, &high_number].into_iter().any(|bound| matches!(bound, Some(None)));
                if is_text {
                    let text = |bound: &Option<Literal>| bound.as_ref().map(|literal| lit(literal.text.as_str()));
                    between(&value, text(low), *low_included, text(high), *high_included)
                } else {
                    between(&number, low_number.flatten(), *low_included, high_number.flatten(), *high_included)
                }
            }
            Test::Exists => value.is_not_null(),
        })
    }

    fn column(
        &self,
        name: &str,
        value: Expr,
        data_type: &DataType,
        unit: Unit,
        span: Span,
        test: &Test,
    ) -> Result<Expr, FilterError> {
        if matches!(data_type, DataType::Map(..) | DataType::List(_) | DataType::Binary) {
            let hint = format!("use {name}.KEY:VALUE for a map, _exists_:{name}, or SQL");
            return Err(FilterError::new(span, format!("the values of {name} cannot be compared"), hint));
        }
        match test {
            Test::Exists => Ok(value.is_not_null()),
            Test::Is(pattern) if name == "message" => Ok(contains(value, pattern)),
            Test::Is(pattern) => match pattern.literal() {
                Some(text) => {
                    let literal = Literal { text: text.to_owned(), span: pattern.span };
                    Ok(value.eq(self.scalar(&literal, data_type, unit)?))
                }
                None => Ok(like(cast(value, DataType::Utf8), pattern)),
            },
            Test::Compare(comparison, literal) => {
                Ok(compare(value, *comparison, self.scalar(literal, data_type, unit)?))
            }
            Test::Range { low, low_included, high, high_included } => {
                let bound = |bound: &Option<Literal>| {
                    bound.as_ref().map(|literal| self.scalar(literal, data_type, unit)).transpose()
                };
                Ok(between(&value, bound(low)?, *low_included, bound(high)?, *high_included))
            }
        }
    }

    /// A value in the type of its column.
    fn scalar(&self, literal: &Literal, data_type: &DataType, unit: Unit) -> Result<Expr, FilterError> {
        let text = literal.text.as_str();
        let number = || unit.read(text).ok_or_else(|| not(literal, "number", unit.example()));
        Ok(match data_type {
            DataType::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" => lit(true),
                "false" | "no" => lit(false),
                _ => return Err(not(literal, "truth value", "true or false")),
            },
            // Whole numbers stay whole, so that large ones lose nothing.
            DataType::Int32 | DataType::Int64 => match text.parse::<i64>() {
                Ok(whole) => lit(whole),
                Err(_) => {
                    let number = number()?;
                    if number.fract() == 0.0 && number.abs() < 9e15 { lit(number as i64) } else { lit(number) }
                }
            },
            DataType::Float64 => lit(number()?),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let micros = parse_time(text, self.now).ok_or_else(|| {
                    not(literal, "time", "-15m, now or 2026-03-01T10:00:00Z (in quotes, if it has a space)")
                })?;
                Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), zone.clone()), None)
            }
            DataType::Date32 => {
                let micros = parse_time(text, self.now).ok_or_else(|| not(literal, "date", "2026-03-01"))?;
                let days = i32::try_from(micros.div_euclid(86_400_000_000)).unwrap_or(i32::MAX);
                Expr::Literal(ScalarValue::Date32(Some(days)), None)
            }
            _ => lit(text),
        })
    }
}

fn not(literal: &Literal, what: &str, example: &str) -> FilterError {
    FilterError::new(literal.span, format!("{:?} is no {what}", literal.text), format!("write {example}"))
}

fn starts_as_number(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

fn compare(value: Expr, comparison: Comparison, bound: Expr) -> Expr {
    match comparison {
        Comparison::Less => value.lt(bound),
        Comparison::LessOrEqual => value.lt_eq(bound),
        Comparison::More => value.gt(bound),
        Comparison::MoreOrEqual => value.gt_eq(bound),
    }
}

fn between(value: &Expr, low: Option<Expr>, low_included: bool, high: Option<Expr>, high_included: bool) -> Expr {
    let above = if low_included { Comparison::MoreOrEqual } else { Comparison::More };
    let below = if high_included { Comparison::LessOrEqual } else { Comparison::Less };
    let low = low.map(|bound| compare(value.clone(), above, bound));
    let high = high.map(|bound| compare(value.clone(), below, bound));
    match (low, high) {
        (Some(low), Some(high)) => low.and(high),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => value.clone().is_not_null(),
    }
}

/// The pattern in the language of LIKE.
fn like_text(pattern: &Pattern) -> String {
    let mut text = String::new();
    for piece in &pattern.pieces {
        match piece {
            Piece::Any => text.push('%'),
            Piece::Text(part) => {
                for letter in part.chars() {
                    if "%_\\".contains(letter) {
                        text.push('\\');
                    }
                    text.push(letter);
                }
            }
        }
    }
    text
}

fn like(value: Expr, pattern: &Pattern) -> Expr {
    value.like(lit(like_text(pattern)))
}

fn contains(value: Expr, pattern: &Pattern) -> Expr {
    value.ilike(lit(format!("%{}%", like_text(pattern))))
}
