//! What a name in a filter stands for.
//!
//! Order: short names that people know (`status`, `level`, `duration`), columns (dots may stand for underscores),
//! `attributes.NAME` and `resource.NAME`, and for every other name the attribute of that name, else the resource's.

use arrow::datatypes::{DataType, Schema};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{Expr, ident};

use super::value::Unit;

const SHORT: [(&str, &str); 20] = [
    ("level", "severity_number"),
    ("severity", "severity_number"),
    ("duration", "duration_us"),
    ("latency", "duration_us"),
    ("status", "http_status"),
    ("method", "http_method"),
    ("path", "http_path"),
    ("route", "http_route"),
    ("user", "user_id"),
    ("session", "session_id"),
    ("trace", "trace_id"),
    ("span", "span_id"),
    ("msg", "message"),
    ("ip", "client_address"),
    ("time", "event_time"),
    ("timestamp", "event_time"),
    ("service.name", "service"),
    ("env", "environment"),
    ("name", "metric_name"),
    ("event", "event_name"),
];

/// A resolved field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    /// A severity number that is compared by name.
    Severity,
    /// A column.
    Column {
        /// Its name.
        name: String,
        /// Its type.
        data_type: DataType,
    },
    /// A value in a map.
    Attribute {
        /// The key.
        key: String,
        /// The maps to look into, the first that has it wins.
        maps: Vec<&'static str>,
    },
}

impl Field {
    /// What its numbers count.
    pub(super) fn unit(&self) -> Unit {
        match self {
            Self::Severity => Unit::Plain,
            Self::Column { name, .. } => Unit::of(name),
            Self::Attribute { key, .. } => Unit::of(key),
        }
    }
}

/// The field that a name stands for in a table.
pub(crate) fn resolve(name: &str, schema: &Schema) -> Field {
    let column = |name: &str| {
        let field = schema.field_with_name(name).ok()?;
        Some(Field::Column { name: name.to_owned(), data_type: field.data_type().clone() })
    };
    if column(name).is_none() {
        let short = SHORT.iter().find(|(short, _)| *short == name).map(|(_, long)| *long);
        if let Some(found) = short.filter(|long| column(long).is_some()) {
            return if found == "severity_number" { Field::Severity } else { column(found).unwrap_or(Field::Severity) };
        }
    }
    if let Some(found) = column(name).or_else(|| column(&name.replace('.', "_"))) {
        return found;
    }
    let has = |map: &&'static str| schema.field_with_name(map).is_ok();
    for map in ["attributes", "resource"] {
        if let Some(key) = name.strip_prefix(map).and_then(|rest| rest.strip_prefix('.')) {
            return Field::Attribute { key: key.to_owned(), maps: [map].into_iter().filter(has).collect() };
        }
    }
    Field::Attribute { key: name.to_owned(), maps: ["attributes", "resource"].into_iter().filter(has).collect() }
}

/// The value of a field; `None` for an attribute of a table that has none.
pub(crate) fn expression(field: &Field) -> Option<Expr> {
    match field {
        Field::Severity => Some(ident("severity_number")),
        Field::Column { name, .. } => Some(ident(name)),
        Field::Attribute { key, maps } => {
            let values = maps.iter().map(|map| get_field(ident(*map), key.as_str()));
            values.rev().reduce(|second, first| first_of(first, second))
        }
    }
}

/// The first value that is not null. (`coalesce` runs only after the optimizer, which filters in hand do not meet.)
pub(super) fn first_of(first: Expr, second: Expr) -> Expr {
    let (is_there, value) = (Box::new(first.clone().is_not_null()), Box::new(first));
    Expr::Case(Case::new(None, vec![(is_there, value)], Some(Box::new(second))))
}
