//! Incidents: what goes wrong, where and when.
//!
//! For: a schedule that is a pure function of the seed, and thereby ground truth for tests of alerts and anomaly
//! detection. Not for: the effects ([`crate::world`]).
//! Invariants: each period of 30 minutes has one incident, which starts and ends inside it; five periods in a row
//! from the start have one of each kind.

use crate::rhythm::{MINUTE, SECOND};
use crate::rng::{self, mix2};
use crate::topology::{GATEWAY, SERVICES};

/// Time between the starts of two incidents on average.
const PERIOD: i64 = 30 * MINUTE;
/// An incident starts this long after its period at the earliest …
const OFFSET_MIN: i64 = 2 * MINUTE;
/// … and this much later at most.
const OFFSET_RANGE_SECONDS: u32 = 8 * 60;
/// Most incidents that one list gives: eleven years of them.
const INCIDENTS_MAX: usize = 200_000;

const DURATION_MIN: i64 = 4 * MINUTE;
const DURATION_RANGE_SECONDS: u32 = 8 * 60;

/// How much the rate rises in a traffic spike.
pub(crate) const SPIKE_FACTOR: f64 = 3.0;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IncidentKind {
    /// A new version of a service fails ten times as often, until it is rolled back.
    BadDeploy,
    /// A service takes eight times as long; a fifth of its requests time out.
    DependencyTimeout,
    /// All traffic triples.
    TrafficSpike,
    /// Memory of a service grows until its hosts restart at the end.
    MemoryLeak,
    /// A service sends nothing at all.
    SilentSource,
}

impl IncidentKind {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::BadDeploy, Self::DependencyTimeout, Self::TrafficSpike, Self::MemoryLeak, Self::SilentSource];

    /// The kind in words, e.g. `bad_deploy`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadDeploy => "bad_deploy",
            Self::DependencyTimeout => "dependency_timeout",
            Self::TrafficSpike => "traffic_spike",
            Self::MemoryLeak => "memory_leak",
            Self::SilentSource => "silent_source",
        }
    }
}

/// One incident of a stream, as ground truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident {
    /// What goes wrong.
    pub kind: IncidentKind,
    /// The service in question; `gateway` for a traffic spike, which all services feel.
    pub service: &'static str,
    /// First microsecond of the incident, in stream time.
    pub start_micros: i64,
    /// First microsecond after it.
    pub end_micros: i64,
}

/// An incident with the place of its service in [`SERVICES`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) kind: IncidentKind,
    pub(crate) service: u8,
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Planned {
    pub(crate) const fn is_active(&self, micros: i64) -> bool {
        self.start <= micros && micros < self.end
    }

    /// How much of the incident has passed, 0 to 1.
    pub(crate) fn progress(&self, micros: i64) -> f64 {
        ((micros - self.start) as f64 / (self.end - self.start) as f64).clamp(0.0, 1.0)
    }
}

/// The incidents of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    seed: u64,
    start: i64,
    service_count: u32,
}

impl Schedule {
    pub(crate) const fn new(seed: u64, start: i64, service_count: u32) -> Self {
        Self { seed, start, service_count }
    }

    /// Mean of the rate factor of spikes over all time, by which the base rate is divided.
    pub(crate) fn mean_rate_factor() -> f64 {
        let duration_mean = DURATION_MIN as f64 + f64::from(DURATION_RANGE_SECONDS) / 2.0 * SECOND as f64;
        1.0 + (SPIKE_FACTOR - 1.0) * duration_mean / (PERIOD * IncidentKind::ALL.len() as i64) as f64
    }

    /// The incident that started last at or before a time: the only one that can be active then.
    pub(crate) fn last_started(&self, micros: i64) -> Option<Planned> {
        let period = u64::try_from((micros - self.start).div_euclid(PERIOD)).ok()?;
        let of_period = self.of_period(period);
        if of_period.start <= micros {
            return Some(of_period);
        }
        period.checked_sub(1).map(|before| self.of_period(before))
    }

    /// When the next incident after a time starts.
    pub(crate) fn next_start(&self, micros: i64) -> i64 {
        let period = u64::try_from((micros - self.start).div_euclid(PERIOD)).unwrap_or(0);
        let start = self.of_period(period).start;
        if start > micros { start } else { self.of_period(period + 1).start }
    }

    /// All incidents that start before a time.
    pub(crate) fn until(&self, micros: i64) -> Vec<Incident> {
        (0..)
            .map(|period| self.of_period(period))
            .take_while(|planned| planned.start < micros)
            .take(INCIDENTS_MAX)
            .map(|planned| Incident {
                kind: planned.kind,
                service: SERVICES[usize::from(planned.service)].name,
                start_micros: planned.start,
                end_micros: planned.end,
            })
            .collect()
    }

    fn of_period(&self, period: u64) -> Planned {
        let bits = mix2(self.seed ^ 0x1C1D_E47A, period);
        let kind = self.kind_of(period);
        let offset = OFFSET_MIN + i64::from(rng::scale(bits, OFFSET_RANGE_SECONDS)) * SECOND;
        let start = self.start + period as i64 * PERIOD + offset;
        let duration = DURATION_MIN + i64::from(rng::scale(bits << 16, DURATION_RANGE_SECONDS)) * SECOND;
        Planned { kind, service: self.service_of(kind, bits << 32), start, end: start + duration }
    }

    /// Each five periods have the kinds in an order of their own: a step of 1 to 4 visits all of five places.
    fn kind_of(&self, period: u64) -> IncidentKind {
        let kinds = IncidentKind::ALL.len() as u64;
        let bits = mix2(self.seed ^ 0x0C1C_1E5E, period / kinds);
        let place = (bits % kinds + (period % kinds) * (1 + (bits >> 8) % (kinds - 1))) % kinds;
        let kind = IncidentKind::ALL[place as usize];
        let is_possible = kind != IncidentKind::SilentSource || self.service_count > 2;
        if is_possible { kind } else { IncidentKind::BadDeploy }
    }

    /// Gateway and web stay out of it where they can: every request passes them, so all of them would fail.
    fn service_of(&self, kind: IncidentKind, bits: u64) -> u8 {
        match self.service_count.checked_sub(2) {
            Some(inner) if inner > 0 && kind != IncidentKind::TrafficSpike => 2 + rng::scale(bits, inner) as u8,
            _ => GATEWAY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(seed: u64) -> Schedule {
        Schedule::new(seed, 1_767_571_200 * SECOND, 12)
    }

    #[test]
    fn every_five_incidents_have_each_kind_once() {
        for seed in 0..50 {
            let incidents = schedule(seed).until(1_767_571_200 * SECOND + 30 * PERIOD).into_iter();
            let kinds: Vec<_> = incidents.take(25).map(|incident| incident.kind).collect();
            for five in kinds.chunks(5) {
                assert!(IncidentKind::ALL.iter().all(|kind| five.contains(kind)), "seed {seed}: {five:?}");
            }
        }
    }

    #[test]
    fn the_active_incident_is_found_at_any_time() {
        let schedule = schedule(3);
        for incident in schedule.until(schedule.start + 50 * PERIOD) {
            for time in [incident.start_micros, incident.end_micros - 1] {
                let found = schedule.last_started(time).expect("an incident has started");
                assert!(found.is_active(time) && found.start == incident.start_micros);
            }
            let after = schedule.last_started(incident.end_micros).expect("an incident has started");
            assert!(!after.is_active(incident.end_micros));
            assert_eq!(schedule.next_start(incident.start_micros - 1), incident.start_micros);
            assert!(schedule.next_start(incident.start_micros) > incident.end_micros);
        }
        assert!(schedule.last_started(schedule.start - 1).is_none());
        assert_eq!(
            schedule.next_start(schedule.start - 9 * PERIOD),
            schedule.until(schedule.start + PERIOD)[0].start_micros
        );
    }
}
