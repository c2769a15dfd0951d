//! Numbers of a cell that rules may ask for, by the names of the rollup tables' columns.

use crate::rollup::{Cell, Metric, Part, Requests, Rollup};

/// A number of a cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Whether it is a count, of which ratios can be made.
    pub(super) is_count: bool,
    /// Whether it means something only of a single series.
    pub(super) is_of_series: bool,
    /// What of the cell it is made of.
    pub(super) part: Part,
    read: fn(&Cell) -> Option<f64>,
}

impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const fn count(name: &'static str, read: fn(&Cell) -> Option<f64>) -> Column {
    Column { name, is_count: true, is_of_series: false, part: Part::Numbers, read }
}

const fn number(name: &'static str, read: fn(&Cell) -> Option<f64>) -> Column {
    Column { name, is_count: false, is_of_series: false, part: Part::Numbers, read }
}

const fn of_series(name: &'static str, read: fn(&Cell) -> Option<f64>) -> Column {
    Column { name, is_count: false, is_of_series: true, part: Part::Numbers, read }
}

impl Column {
    const fn made_of(self, part: Part) -> Self {
        Self { part, ..self }
    }
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
    count("duration_count", |cell| of_requests(cell, |cell| Some(cell.latency.count() as f64)))
        .made_of(Part::Distribution),
    count("satisfied_count", |cell| of_requests(cell, |cell| Some(cell.satisfied_count as f64))),
    count("tolerating_count", |cell| of_requests(cell, |cell| Some(cell.tolerating_count as f64))),
    number("error_ratio", |cell| of_requests(cell, Requests::error_ratio)),
    number("apdex", |cell| of_requests(cell, Requests::apdex)).made_of(Part::Distribution),
    number("duration_p50_us", |cell| of_requests(cell, |cell| cell.latency.quantile(0.5))).made_of(Part::Distribution),
    number("duration_p90_us", |cell| of_requests(cell, |cell| cell.latency.quantile(0.9))).made_of(Part::Distribution),
    number("duration_p99_us", |cell| of_requests(cell, |cell| cell.latency.quantile(0.99))).made_of(Part::Distribution),
    number("duration_p999_us", |cell| of_requests(cell, |cell| cell.latency.quantile(0.999)))
        .made_of(Part::Distribution),
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
    of_series("observation_count", |cell| of_metric(cell, |cell| Some(cell.observed().0 as f64)))
        .made_of(Part::Observations),
    of_series("observation_sum", |cell| {
        of_metric(cell, |cell| {
            let (count, sum, _) = cell.observed();
            (count > 0).then_some(sum)
        })
    })
    .made_of(Part::Observations),
    of_series("p50", |cell| of_metric(cell, |cell| cell.observed().2.quantile(0.5))).made_of(Part::Distribution),
    of_series("p90", |cell| of_metric(cell, |cell| cell.observed().2.quantile(0.9))).made_of(Part::Distribution),
    of_series("p99", |cell| of_metric(cell, |cell| cell.observed().2.quantile(0.99))).made_of(Part::Distribution),
    of_series("p999", |cell| of_metric(cell, |cell| cell.observed().2.quantile(0.999))).made_of(Part::Distribution),
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

const ACTIVITY: [Column; 2] = [count("count", activity_count), number("user_count", user_count).made_of(Part::Users)];
const USERS: [Column; 1] = [number("user_count", user_count).made_of(Part::Users)];

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
    use crate::hyperloglog::HyperLogLog;
    use crate::rollup::{Activity, Sample, Snapshot, rollup_schema};
    use crate::sketch::Sketch;

    /// A cell in which every number is there, and none is that of an empty cell.
    fn full_cell(rollup: Rollup) -> Cell {
        let sketch = |times| {
            let mut sketch = Sketch::default();
            sketch.add_times(5.0, times);
            sketch
        };
        let mut users = HyperLogLog::default();
        (0..9u64).for_each(|user| users.add(&user.to_le_bytes()));
        match rollup {
            Rollup::Requests => Cell::Requests(Box::new(Requests {
                count: 9,
                error_count: 1,
                warning_count: 2,
                request_count: 8,
                bytes: 700,
                satisfied_count: 3,
                tolerating_count: 2,
                latency: sketch(7),
            })),
            Rollup::Metrics => {
                let snapshot = |time: i64, count: u64| Snapshot { time, count, sum: 4.0, distribution: sketch(count) };
                let mut cell = Metric {
                    count: 4,
                    not_finite_count: 1,
                    min: Some(1.0),
                    max: Some(3.0),
                    first: Some(Sample { time: 0, value: 1.0 }),
                    last: Some(Sample { time: 9, value: 3.0 }),
                    observation_count: 6,
                    distribution: sketch(6),
                    cumulative: Some(Box::new((snapshot(0, 2), snapshot(9, 5)))),
                    ..Metric::default()
                };
                cell.sum.add(4.0);
                Cell::Metric(Box::new(cell))
            }
            Rollup::Activity => Cell::Activity(Activity { count: 12, users }),
            Rollup::Users => Cell::Users(users),
            Rollup::Top => Cell::new(Rollup::Top),
        }
    }

    #[test]
    fn every_number_is_made_of_its_part() {
        for rollup in Rollup::ALL {
            let cell = full_cell(rollup);
            for column in all(rollup) {
                let value = column.value(&cell);
                assert!(value.is_some_and(|value| value != 0.0), "{}", column.name);
                assert_eq!(column.value(&cell.reduced_to(column.part)), value, "{}", column.name);
            }
        }
    }

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
