//! The state of the whole shop at one moment.
//!
//! For: the effects of rhythm, incidents and releases, as a pure function of the time, so that a late record sees
//! the world of its own event time. Not for: state of users or requests.

use crate::incident::{IncidentKind, Planned, SPIKE_FACTOR, Schedule};
use crate::rhythm::{self, DAY, MINUTE, SECOND};
use crate::rng::mix2;
use crate::topology::SERVICES;

/// How long a restarted service still speaks of its start.
const RESTART_ECHO: i64 = 2 * MINUTE;

/// Version of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u16,
    pub(crate) minor: u16,
    pub(crate) patch: u16,
}

/// What a world is computed from.
#[derive(Clone, Debug)]
pub(crate) struct WorldRules {
    pub(crate) seed: u64,
    pub(crate) start: i64,
    pub(crate) has_rhythm: bool,
    pub(crate) incidents: Option<Schedule>,
}

/// The shop at one moment.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// The moment.
    pub(crate) now: i64,
    /// Until when this world may be taken for the present.
    pub(crate) valid_until: i64,
    /// Load compared with the mean, spikes included.
    pub(crate) load: f64,
    /// The incident that started last; it may be over.
    incident: Option<Planned>,
    versions: [Version; SERVICES.len()],
}

impl World {
    /// The world at a time.
    pub(crate) fn at(rules: &WorldRules, now: i64) -> Self {
        let incident = rules.incidents.as_ref().and_then(|schedule| schedule.last_started(now));
        let active = incident.filter(|incident| incident.is_active(now));
        let mut load = if rules.has_rhythm { rhythm::factor(now) } else { 1.0 };
        if active.is_some_and(|incident| incident.kind == IncidentKind::TrafficSpike) {
            load *= SPIKE_FACTOR;
        }
        let mut versions = std::array::from_fn(|service| version(rules, service, now));
        if let Some(deploy) = active.filter(|incident| incident.kind == IncidentKind::BadDeploy) {
            versions[usize::from(deploy.service)].patch += 1;
        }
        // An incident changes the world at once, at its start and at its end; the rhythm may wait.
        let next_start = rules.incidents.as_ref().map_or(i64::MAX, |schedule| schedule.next_start(now));
        let valid_until = active.map_or(next_start, |incident| incident.end).min(now + SECOND);
        Self { now, valid_until, load, incident, versions }
    }

    pub(crate) const fn version(&self, service: u8) -> Version {
        self.versions[service as usize]
    }

    /// The active incident of a kind, if it is one of this service.
    pub(crate) fn incident_of(&self, kind: IncidentKind, service: u8) -> Option<Planned> {
        self.active().filter(|incident| incident.kind == kind && incident.service == service)
    }

    pub(crate) fn active(&self) -> Option<Planned> {
        self.incident.filter(|incident| incident.is_active(self.now))
    }

    /// Whether a service sends nothing of this event time, which is up to a few seconds before the moment.
    pub(crate) fn is_silent(&self, service: u8, event_time: i64) -> bool {
        self.incident.is_some_and(|incident| {
            incident.kind == IncidentKind::SilentSource && incident.service == service && incident.is_active(event_time)
        })
    }

    /// End of the leak that made a service restart a short while ago.
    pub(crate) fn restarted_at(&self, service: u8) -> Option<i64> {
        let leak = self
            .incident
            .filter(|incident| incident.kind == IncidentKind::MemoryLeak && incident.service == service)?;
        (leak.end <= self.now && self.now < leak.end + RESTART_ECHO).then_some(leak.end)
    }
}

/// Each service is released every 5 to 8 days, at a time of its own.
fn version(rules: &WorldRules, service: usize, now: i64) -> Version {
    let (major, minor) = SERVICES[service].version;
    let cadence = (5 + service as i64 % 4) * DAY;
    let offset = (mix2(rules.seed ^ 0xDE_9104, service as u64) % (5 * DAY) as u64) as i64;
    let releases = (now - rules.start + offset).div_euclid(cadence).clamp(0, 10_000) as u16;
    let patch = (mix2(rules.seed ^ service as u64, u64::from(releases)) % 5) as u16;
    Version { major, minor: minor + releases, patch }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> WorldRules {
        let start = 1_767_571_200 * SECOND;
        WorldRules { seed: 5, start, has_rhythm: true, incidents: Some(Schedule::new(5, start, 12)) }
    }

    #[test]
    fn a_bad_deploy_bumps_the_version_until_it_is_rolled_back() {
        let rules = rules();
        let schedule = rules.incidents.clone().expect("incidents are on");
        let deploy = schedule.until(rules.start + DAY).into_iter().find(|i| i.kind == IncidentKind::BadDeploy);
        let deploy = deploy.expect("a day has bad deploys");
        let service = SERVICES.iter().position(|s| s.name == deploy.service).expect("it names a service") as u8;
        let patch = |time| World::at(&rules, time).version(service).patch;
        let before = patch(deploy.start_micros - 1);
        assert_eq!(patch(deploy.start_micros), before + 1);
        assert_eq!(patch(deploy.end_micros), before);
    }

    #[test]
    fn a_world_ends_where_an_incident_starts_or_ends() {
        let rules = rules();
        let first = rules.incidents.clone().expect("incidents are on").until(rules.start + DAY)[0];
        assert_eq!(World::at(&rules, first.start_micros - 5).valid_until, first.start_micros);
        assert_eq!(World::at(&rules, first.end_micros - 5).valid_until, first.end_micros);
    }
}
