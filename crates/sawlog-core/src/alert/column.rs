//! Numbers of a cell that rules may ask for, by the names of the rollup tables' columns.

use crate::rollup::{Cell, Metric, Requests, Rollup};

/// A number of a cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Whether it is a count, of which ratios can be made.
    pub(super) is_count: bool,
    /// Whether it means something only of a single series.
    pub(super) is_of_series: bool,
    read: fn(&Cell) -> Option<f64>,
}

impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const fn count(name: &'static str, read: fn(&Cell) -> Option<f64>) -> Column {
    Column { name, is_count: true, is_of_series: false, read }
}

const fn number(name: &'static str, read: fn(&Cell) -> Option<f64>) -> Column {
    Column { name, is_count: false, is_of_series: false, read }
}

const fn of_series(name: &'static str, read: fn(&Cell) -> Option<f64>) -> Column {
    Column { name, is_count: false, is_of_series: true, read }
}

fn of_requests(cell: &Cell, read: impl FnOnce(&Requests) -> Option<f64>) -> Option<f64> {
    match cell {
        Cell::Requests(cell) => read(cell),
        _ => None,
    }
}

fn of_metric(cell: &Cell, read: impl FnOnce(&Metric) -> Option<f64>) -> Option<f64> {
    match cell {
        Cell::Metric(cell) => read(cell),
        _ => None,
    }
}

const REQUESTS: [Column; 14] = [
    count("count", |cell| of_requests(cell, |cell| Some(cell.count as f64))),
    count("error_count", |cell| of_requests(cell, |cell| Some(cell.error_count as f64))),
    count("warning_count", |cell| of_requests(cell, |cell| Some(cell.warning_count as f64))),
    count("request_count", |cell| of_requests(cell, |cell| Some(cell.request_count as f64))),
    count("bytes", |cell| of_requests(cell, |cell| Some(cell.bytes as f64))),
    count("duration_count", |cell| of_requests(cell, |cell| Some(cell.latency.count() as f64))),
    count("satisfied_count", |cell| of_requests(cell, |cell| Some(cell.satisfied_count as f64))),
    count("tolerating_count", |cell| of_requests(cell, |cell| Some(cell.tolerating_count as f64))),
    number("error_ratio", |cell| of_requests(cell, Requests::error_ratio)),
    number("apdex", |cell| of_requests(cell, Requests::apdex)),
    number("duration_p50_us", |cell| of_requests(cell, |cell| cell.latency.quantile(0.5))),
    number("duration_p90_us", |cell| of_requests(cell, |cell| cell.latency.quantile(0.9))),
    number("duration_p99_us", |cell| of_requests(cell, |cell| cell.latency.quantile(0.99))),
    number("duration_p999_us", |cell| of_requests(cell, |cell| cell.latency.quantile(0.999))),
];

const METRICS: [Column; 15] = [
    count("count", |cell| of_metric(cell, |cell| Some(cell.count as f64))),
    count("not_finite_count", |cell| of_metric(cell, |cell| Some(cell.not_finite_count as f64))),
    number("sum", |cell| of_metric(cell, |cell| cell.last.map(|_| cell.sum.value()))),
    number("avg", |cell| {
        of_metric(cell, |cell| {
            let values = cell.count.saturating_sub(cell.not_finite_count).max(1);
            cell.last.map(|_| cell.sum.value() / values as f64)
        })
    }),
    number("min", |cell| of_metric(cell, |cell| cell.min)),
    number("max", |cell| of_metric(cell, |cell| cell.max)),
    of_series("first", |cell| of_metric(cell, |cell| cell.first.map(|sample| sample.value))),
    of_series("last", |cell| of_metric(cell, |cell| cell.last.map(|sample| sample.value))),
    of_series("increase", |cell| of_metric(cell, Metric::increase)),
    of_series("observation_count", |cell| of_metric(cell, |cell| Some(cell.observed().0 as f64))),
    of_series("observation_sum", |cell| {
        of_metric(cell, |cell| {
            let (count, sum, _) = cell.observed();
            (count > 0).then_some(sum)
        })
    }),
    of_series("p50", |cell| of_metric(cell, |cell| cell.observed().2.quantile(0.5))),
    of_series("p90", |cell| of_metric(cell, |cell| cell.observed().2.quantile(0.9))),
    of_series("p99", |cell| of_metric(cell, |cell| cell.observed().2.quantile(0.99))),
    of_series("p999", |cell| of_metric(cell, |cell| cell.observed().2.quantile(0.999))),
];

fn activity_count(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Activity(cell) => Some(cell.count as f64),
        _ => None,
    }
}

fn user_count(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Activity(cell) => Some(cell.users.count() as f64),
        Cell::Users(users) => Some(users.count() as f64),
        _ => None,
    }
}

const ACTIVITY: [Column; 2] = [count("count", activity_count), number("user_count", user_count)];
const USERS: [Column; 1] = [number("user_count", user_count)];

fn all(rollup: Rollup) -> &'static [Column] {
    match rollup {
        Rollup::Requests => &REQUESTS,
        Rollup::Metrics => &METRICS,
        Rollup::Activity => &ACTIVITY,
        Rollup::Users => &USERS,
        Rollup::Top => &[],
    }
}

/// Names of the numbers of a rollup that a threshold can be set on.
pub fn columns(rollup: Rollup) -> impl Iterator<Item = &'static str> {
    all(rollup).iter().map(|column| column.name)
}

/// Those of them that are counts: ratios and budgets are made of them.
pub fn count_columns(rollup: Rollup) -> impl Iterator<Item = &'static str> {
    all(rollup).iter().filter(|column| column.is_count).map(|column| column.name)
}

impl Column {
    pub(super) fn of(rollup: Rollup, name: &str) -> Option<Self> {
        all(rollup).iter().find(|column| column.name == name).copied()
    }

    /// The number, if the cell has it; NaN and infinities are none.
    pub(super) fn value(&self, cell: &Cell) -> Option<f64> {
        (self.read)(cell).filter(|value| value.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::DataType;

    use super::*;
    use crate::rollup::rollup_schema;

    #[test]
    fn every_number_of_the_rollup_tables_can_be_asked_for() {
        for rollup in Rollup::ALL.into_iter().filter(|rollup| *rollup != Rollup::Top) {
            let is_number = |data_type: &DataType| matches!(data_type, DataType::Int64 | DataType::Float64);
            let schema = rollup_schema(rollup);
            let numbers = schema.fields().iter().filter(|field| is_number(field.data_type()));
            let numbers: Vec<&str> = numbers.map(|field| field.name().as_str()).collect();
            assert_eq!(columns(rollup).collect::<Vec<_>>(), numbers);
            assert!(columns(rollup).all(|name| Column::of(rollup, name).is_some_and(|found| found.name == name)));
        }
    }
}
