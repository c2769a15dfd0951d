//! Incidents are visible in the stream, and only where the ground truth says.

#[expect(dead_code, reason = "these tests need a part of what the others share")]
mod support;

use std::sync::OnceLock;

use sawlog_generate::{Generator, Incident, IncidentKind, Kind, Mix, Scenario};
use serde_json::Value;
use support::{HOUR, Record, SECOND, records_until};

/// Long enough for one incident of each kind.
const LENGTH: i64 = 5 * HOUR / 2;

/// A demo whose bad deploy hits the service that most requests pass, for enough records to count.
fn scenario() -> Scenario {
    let scenario = |seed| Scenario {
        seed,
        events_per_second: 60.0,
        mix: Mix { logs: 0.6, metrics: 0.35, activity: 0.05 },
        rhythm: false,
        late_ratio: 0.02,
        malformed_ratio: 0.0,
        ..Scenario::demo()
    };
    let hits_catalog = |scenario: &Scenario| {
        let generator = Generator::new(scenario.clone()).expect("the scenario is valid");
        let incidents = generator.incidents_until(scenario.start_micros + LENGTH);
        incidents.iter().any(|incident| incident.kind == IncidentKind::BadDeploy && incident.service == "catalog")
    };
    (0..).map(scenario).find(hits_catalog).expect("some seed does")
}

struct Stream {
    records: Vec<(Record, Value)>,
    incidents: Vec<Incident>,
}

fn stream() -> &'static Stream {
    static STREAM: OnceLock<Stream> = OnceLock::new();
    STREAM.get_or_init(|| {
        let scenario = scenario();
        let end = scenario.start_micros + LENGTH;
        let generator = Generator::new(scenario.clone()).expect("the scenario is valid");
        let records = records_until(scenario, end).into_iter().map(|record| {
            let object = record.json();
            (record, object)
        });
        Stream { records: records.collect(), incidents: generator.incidents_until(end) }
    })
}

impl Stream {
    fn incident(&self, kind: IncidentKind) -> Incident {
        *self.incidents.iter().find(|incident| incident.kind == kind).expect("each kind occurs")
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &(Record, Value)> {
        self.records.iter().filter(move |(record, _)| record.meta.kind == kind)
    }

    /// Share of a service's log records for which something holds, outside and inside of a time.
    fn shares(&self, incident: &Incident, holds: impl Fn(&Value) -> bool) -> [f64; 2] {
        let (mut held, mut all) = ([0.0; 2], [0.0; 2]);
        for (record, object) in self.of_kind(Kind::Log).filter(|(_, object)| object["service"] == incident.service) {
            let place = usize::from(is_during(incident, record.meta.event_time_micros));
            all[place] += 1.0;
            held[place] += f64::from(u8::from(holds(object)));
        }
        [held[0] / all[0], held[1] / all[1]]
    }
}

const fn is_during(incident: &Incident, time: i64) -> bool {
    incident.start_micros <= time && time < incident.end_micros
}

#[test]
fn each_kind_occurs_inside_the_first_hours_without_overlap() {
    let incidents = &stream().incidents;
    assert_eq!(incidents.len(), 5);
    assert!(IncidentKind::ALL.iter().all(|kind| incidents.iter().any(|incident| incident.kind == *kind)));
    assert!(incidents.windows(2).all(|pair| pair[0].end_micros < pair[1].start_micros));
}

#[test]
fn a_bad_deploy_brings_errors_and_another_version() {
    let stream = stream();
    let deploy = stream.incident(IncidentKind::BadDeploy);
    let [before, during] = stream.shares(&deploy, |object| object["severity"] == "ERROR");
    assert!(during > 5.0 * before && during > 0.03, "{before} {during}");
    let versions = |inside: bool| -> Vec<&str> {
        let mut versions: Vec<_> = stream
            .of_kind(Kind::Log)
            .filter(|(record, object)| {
                let time = record.meta.event_time_micros;
                object["service"] == deploy.service
                    && is_during(&deploy, time) == inside
                    && (time - deploy.start_micros).abs().min((time - deploy.end_micros).abs()) > 15 * SECOND
            })
            .filter_map(|(_, object)| object["version"].as_str())
            .collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    };
    assert_eq!(versions(true).len(), 1);
    assert!(!versions(false).contains(&versions(true)[0]));
}

#[test]
fn a_dependency_timeout_makes_requests_slow() {
    let stream = stream();
    let timeout = stream.incident(IncidentKind::DependencyTimeout);
    let [before, during] = stream.shares(&timeout, |object| object["duration_ms"].as_f64() > Some(200.0));
    assert!(during > 3.0 * before && during > 0.3, "{before} {during}");
}

#[test]
fn a_traffic_spike_triples_the_rate() {
    let stream = stream();
    let spike = stream.incident(IncidentKind::TrafficSpike);
    let sent = stream.records.iter().filter(|(record, _)| is_during(&spike, record.meta.send_time_micros)).count();
    let rate_inside = sent as f64 / (spike.end_micros - spike.start_micros) as f64;
    let rest = stream.records.len() - sent;
    let rate_outside = rest as f64 / (LENGTH - (spike.end_micros - spike.start_micros)) as f64;
    assert!((2.8..3.2).contains(&(rate_inside / rate_outside)), "{}", rate_inside / rate_outside);
}

#[test]
fn a_memory_leak_grows_until_the_restart_resets_the_sums() {
    let stream = stream();
    let leak = stream.incident(IncidentKind::MemoryLeak);
    let values = |metric: &str, from: i64, to: i64| -> Vec<f64> {
        stream
            .of_kind(Kind::Metric)
            .filter(|(record, object)| {
                (from..to).contains(&record.meta.event_time_micros)
                    && object["service"] == leak.service
                    && object["metric"] == metric
            })
            .filter_map(|(_, object)| object["value"].as_f64())
            .collect()
    };
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let minute = 60 * SECOND;
    let early = mean(values("memory.usage", leak.start_micros - minute, leak.start_micros));
    let late = mean(values("memory.usage", leak.end_micros - minute, leak.end_micros));
    let after = mean(values("memory.usage", leak.end_micros + 30 * SECOND, leak.end_micros + 2 * minute));
    assert!(late > 1.5 * early && after < early, "{early} {late} {after}");
    let sum = |from, to| values("http.server.request.count", from, to).into_iter().fold(0.0, f64::max);
    let before_end = sum(leak.end_micros - minute, leak.end_micros);
    assert!(sum(leak.end_micros + 20 * SECOND, leak.end_micros + minute) < before_end);
}

#[test]
fn a_silent_source_has_no_events_of_that_time() {
    let stream = stream();
    let silent = stream.incident(IncidentKind::SilentSource);
    let of_service = |from: i64, to: i64| {
        let all = stream.records.iter().filter(|(record, _)| record.meta.kind != Kind::Activity);
        all.filter(|(record, object)| {
            object["service"] == silent.service && (from..to).contains(&record.meta.event_time_micros)
        })
        .count()
    };
    assert_eq!(of_service(silent.start_micros, silent.end_micros), 0);
    let length = silent.end_micros - silent.start_micros;
    assert!(of_service(silent.start_micros - length, silent.start_micros) > 0);
    assert!(of_service(silent.end_micros, silent.end_micros + length) > 0);
}

#[test]
fn there_are_none_if_the_scenario_wants_none() {
    let generator = Generator::new(Scenario::bench()).expect("the preset is valid");
    assert!(generator.incidents_until(i64::MAX).is_empty());
    let generator = Generator::new(Scenario::demo()).expect("the preset is valid");
    assert_eq!(generator.incidents_until(i64::MAX).len(), 200_000, "the list is bounded");
    assert!(generator.incidents_until(i64::MIN).is_empty());
}
