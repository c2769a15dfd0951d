//! Signals: the series of numbers that a system is watched by, made of the cells of a window.
//!
//! For: which number of which service, metric or event a window gives. A service's number is that of its versions' and
//! routes' cells merged, that of all services of all cells. Not for: how surprising it is. No data is no reading: a
//! service without records has no error ratio, and one without durations no latency. What was counted together beyond the
//! limit of series ([`crate::rollup::OTHER`]) is in the signals of all, and has none of its own: which keys are in it
//! changes.

use std::collections::BTreeMap;

use crate::glob;
use crate::rollup::{Activity, Cell, Metric, OTHER, PaneView, Requests, Rollup, Sample};
use crate::state_cell::{read_text, write_text};
use crate::window::Window;

/// What a series measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Share of log records that are errors.
    ErrorRatio,
    /// Requests per second, of services that have had requests.
    RequestRate,
    /// Log records per second, of services that have had no request yet.
    RecordRate,
    /// Median of request durations, microseconds.
    LatencyP50,
    /// 99th percentile of request durations, microseconds.
    LatencyP99,
    /// Mean of a metric's values.
    MetricAverage,
    /// Increase of a counter per second.
    MetricRate,
    /// 99th percentile of a histogram.
    MetricP99,
    /// Activity events per second.
    EventRate,
}

impl Signal {
    /// All signals.
    pub const ALL: [Self; 9] = [
        Self::ErrorRatio,
        Self::RequestRate,
        Self::RecordRate,
        Self::LatencyP50,
        Self::LatencyP99,
        Self::MetricAverage,
        Self::MetricRate,
        Self::MetricP99,
        Self::EventRate,
    ];

    /// The name in columns and rules.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ErrorRatio => "error_ratio",
            Self::RequestRate => "request_rate",
            Self::RecordRate => "record_rate",
            Self::LatencyP50 => "latency_p50",
            Self::LatencyP99 => "latency_p99",
            Self::MetricAverage => "metric_average",
            Self::MetricRate => "metric_rate",
            Self::MetricP99 => "metric_p99",
            Self::EventRate => "event_rate",
        }
    }

    /// Whether its absence means that nothing came at all, not just nothing of one kind.
    pub(super) const fn tells_silence(self) -> bool {
        !matches!(self, Self::ErrorRatio | Self::LatencyP50 | Self::LatencyP99)
    }
}

/// What a series is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// All services, or all events, together.
    All,
    /// One service; records without a service are one, too.
    Service,
    /// One series of a metric.
    Metric,
    /// Activity events of one name.
    Event,
}

impl Scope {
    const ALL: [Self; 4] = [Self::All, Self::Service, Self::Metric, Self::Event];

    /// The name in columns.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Service => "service",
            Self::Metric => "metric",
            Self::Event => "event",
        }
    }
}

/// Names a series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    /// What it measures.
    pub signal: Signal,
    /// What it is of.
    pub scope: Scope,
    /// Of a service or a metric.
    pub service: Option<String>,
    /// Of a metric.
    pub metric_name: Option<String>,
    /// Of a metric.
    pub host: Option<String>,
    /// Attributes of a metric's series, `name=value,…`.
    pub attributes: Option<String>,
    /// Of an event.
    pub event_name: Option<String>,
}

impl Series {
    pub(super) const fn of_all(signal: Signal) -> Self {
        Self {
            signal,
            scope: Scope::All,
            service: None,
            metric_name: None,
            host: None,
            attributes: None,
            event_name: None,
        }
    }

    fn of_service(signal: Signal, service: Option<&str>) -> Self {
        Self { scope: Scope::Service, service: service.map(ToOwned::to_owned), ..Self::of_all(signal) }
    }

    fn of_event(event_name: Option<&str>) -> Self {
        let event_name = event_name.map(ToOwned::to_owned);
        Self { scope: Scope::Event, event_name, ..Self::of_all(Signal::EventRate) }
    }

    fn of_metric(signal: Signal, pane: &PaneView<'_>) -> Self {
        let [metric_name, service, host, attributes] =
            ["metric_name", "service", "host", "series"].map(|name| pane.part(name).map(ToOwned::to_owned));
        Self { signal, scope: Scope::Metric, service, metric_name, host, attributes, event_name: None }
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.signal as u8, self.scope as u8]);
        for text in [&self.service, &self.metric_name, &self.host, &self.attributes, &self.event_name] {
            write_text(out, text.as_deref());
        }
    }

    pub(super) fn read_from(bytes: &mut &[u8]) -> Option<Self> {
        let ([signal, scope], rest) = bytes.split_first_chunk::<2>()?;
        *bytes = rest;
        Some(Self {
            signal: *Signal::ALL.get(usize::from(*signal))?,
            scope: *Scope::ALL.get(usize::from(*scope))?,
            service: read_text(bytes)?,
            metric_name: read_text(bytes)?,
            host: read_text(bytes)?,
            attributes: read_text(bytes)?,
            event_name: read_text(bytes)?,
        })
    }
}

/// What a window says of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reading {
    Ratio { errors: u64, records: u64 },
    Value(f64),
    Counter { first: Sample, last: Sample },
}

/// Metrics that are watched unasked: CPU and memory, by the names of OpenTelemetry's semantic conventions.
const METRICS: [&str; 17] = [
    "system.cpu.utilization",
    "system.cpu.time",
    "system.memory.utilization",
    "system.memory.usage",
    "process.cpu.utilization",
    "process.cpu.time",
    "process.memory.usage",
    "process.memory.virtual",
    "container.cpu.time",
    "container.cpu.usage",
    "container.memory.usage",
    "k8s.node.cpu.usage",
    "k8s.node.memory.usage",
    "k8s.pod.cpu.usage",
    "k8s.pod.memory.usage",
    "jvm.cpu.recent_utilization",
    "jvm.memory.used",
];

/// How counters are named that only grow, by the conventions of OpenTelemetry and Prometheus: a cell does not say it.
const COUNTERS: [&str; 9] =
    ["*.time", "*.io", "*.operations", "*.packets", "*.errors", "*.dropped", "*.faults", "*_total", "*.total"];

/// Whether cells of a key say anything.
pub(super) fn is_read(rollup: Rollup, parts: &[Option<String>], metrics: &[String]) -> bool {
    match rollup {
        Rollup::Requests | Rollup::Activity => true,
        Rollup::Metrics => parts.first().and_then(Option::as_deref).is_some_and(|name| is_watched(name, metrics)),
        Rollup::Users | Rollup::Top => false,
    }
}

fn is_watched(metric: &str, metrics: &[String]) -> bool {
    METRICS.contains(&metric) || metrics.iter().any(|pattern| glob::is_match(pattern, metric))
}

/// What the cells of a window say. `metrics` are patterns of metrics that are watched besides CPU and memory.
pub(super) fn readings(panes: &[PaneView<'_>], window: Window, metrics: &[String]) -> BTreeMap<Series, Reading> {
    let seconds = window.end.saturating_sub(window.start) as f64 / 1e6;
    let mut found = BTreeMap::new();
    let mut all = Cell::Requests(Box::default());
    let mut by_service: BTreeMap<Option<&str>, Cell> = BTreeMap::new();
    let mut events: BTreeMap<Option<&str>, u64> = BTreeMap::new();
    for pane in panes {
        match pane.cell {
            Cell::Requests(_) => {
                all.merge(pane.cell);
                let service = by_service.entry(pane.part("service"));
                service.or_insert_with(|| Cell::Requests(Box::default())).merge(pane.cell);
            }
            Cell::Activity(Activity { count, .. }) => {
                let events = events.entry(pane.part("event_name")).or_default();
                *events = events.saturating_add(*count);
            }
            Cell::Metric(cell) => found.extend(metric_reading(pane, cell, metrics)),
            Cell::Users(_) | Cell::Top(_) => {}
        }
    }
    if let Cell::Requests(all) = &all {
        found.extend(request_readings(all, seconds, Series::of_all));
    }
    for (service, cell) in &by_service {
        if let (Cell::Requests(cell), false) = (cell, *service == Some(OTHER)) {
            found.extend(request_readings(cell, seconds, |signal| Series::of_service(signal, *service)));
        }
    }
    let event_count = events.values().fold(0u64, |sum, count| sum.saturating_add(*count));
    if event_count > 0 {
        found.insert(Series::of_all(Signal::EventRate), Reading::Value(event_count as f64 / seconds));
    }
    for (event_name, count) in events.into_iter().filter(|(name, count)| *name != Some(OTHER) && *count > 0) {
        found.insert(Series::of_event(event_name), Reading::Value(count as f64 / seconds));
    }
    found
}

fn request_readings(
    cell: &Requests,
    seconds: f64,
    series: impl Fn(Signal) -> Series,
) -> impl Iterator<Item = (Series, Reading)> {
    let rate = |count: u64| Reading::Value(count as f64 / seconds);
    let ratio = Reading::Ratio { errors: cell.error_count, records: cell.count };
    let quantile = |quantile| cell.latency.quantile(quantile).map(Reading::Value);
    let has_requests = cell.request_count > 0;
    let readings = [
        (Signal::ErrorRatio, (cell.count > 0).then_some(ratio)),
        (Signal::RequestRate, has_requests.then(|| rate(cell.request_count))),
        (Signal::RecordRate, (cell.count > 0 && !has_requests).then(|| rate(cell.count))),
        (Signal::LatencyP50, quantile(0.5)),
        (Signal::LatencyP99, quantile(0.99)),
    ];
    let named = readings.map(|(signal, reading)| Some((series(signal), reading?)));
    named.into_iter().flatten()
}

fn metric_reading(pane: &PaneView<'_>, cell: &Metric, metrics: &[String]) -> Option<(Series, Reading)> {
    let name = pane.part("metric_name").filter(|name| *name != OTHER)?;
    if !is_watched(name, metrics) {
        return None;
    }
    let (observed, _, distribution) = cell.observed();
    if observed > 0 {
        return Some((Series::of_metric(Signal::MetricP99, pane), Reading::Value(distribution.quantile(0.99)?)));
    }
    let (first, last) = (cell.first?, cell.last?);
    if COUNTERS.iter().any(|pattern| glob::is_match(pattern, name)) {
        return Some((Series::of_metric(Signal::MetricRate, pane), Reading::Counter { first, last }));
    }
    let values = cell.count.saturating_sub(cell.not_finite_count).max(1);
    let average = cell.sum.value() / values as f64;
    Some((Series::of_metric(Signal::MetricAverage, pane), Reading::Value(average)))
}
