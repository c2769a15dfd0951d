//! Requests and the log records they leave behind.
//!
//! For: what happens to a request, and one record of each service that it passes, which share trace, path and user.
//! Not for: why users send requests ([`crate::journey`]).
//! Invariants: event times are at most `DELAY_MICROS_MAX` behind; the gateway's record is the last of its request;
//! the memory for requests in flight is bounded.

use std::collections::VecDeque;

use crate::catalog::{RouteId, thread_prefix};
use crate::incident::IncidentKind;
use crate::record::{Edge, Extra, Http, LogRecord, Severity, Stamp, Trace};
use crate::rhythm::SECOND;
use crate::rng::{self, Rng, mix, mix2};
use crate::shop::{DELAY_MICROS_MAX, Shop};
use crate::template::Values;
use crate::topology::{GATEWAY, Runtime, SERVICES};
use crate::visitor::Visitor;
use crate::world::World;

/// Longest time that a request takes.
const DURATION_US_MAX: f64 = 6e6;
/// When the gateway gives up on a service.
const TIMEOUT_US: u32 = 5_000_000;
/// Longest time that an agent holds a record before it sends it.
const AGENT_DELAY_MICROS: u32 = 800_000;
/// Most requests whose records are mixed with one another.
const IN_FLIGHT_MAX: f64 = 16.0;
/// Most requests of sessions that wait for their logs; further ones leave none.
const WAITING_MAX: usize = 64;
/// Share of log records that belong to no request.
const JOB_RATIO: f64 = 0.05;
/// Share of requests to staging.
const STAGING_RATIO: f64 = 0.03;
/// Share of requests by crawlers, probes and scripts where no session sends them.
const PROGRAM_RATIO: f64 = 0.12;
/// Share of the services of a route that leave a record.
const HOP_RATIO: f64 = 0.9;
/// Log records per second below which a request leaves one record only: its records would lie too far apart.
const SINGLE_RECORD_RATE: f64 = 5.0;

const REFERRERS: [Option<&str>; 10] = [
    None,
    None,
    None,
    None,
    None,
    None,
    Some("https://www.google.com/"),
    Some("https://shop.example/"),
    Some("https://shop.example/categories/shoes"),
    Some("https://news.example/deals"),
];

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) status: u16,
    duration_us: u32,
    /// The service that failed.
    failing: Option<u8>,
}

impl Outcome {
    /// What happens to a request of a route at a time.
    pub(crate) fn draw(route_id: RouteId, world: &World, service_count: u8, rng: &mut Rng) -> Self {
        let route = route_id.route();
        let mut duration = rng.log_normal(route.median_us, route.sigma);
        let mut errors = route.error_ratio;
        let mut timeouts = 0.0;
        let mut client_errors = route.client_error_ratio;
        let mut culprit = None;
        if let Some(incident) = world.active() {
            let is_on_the_way = incident.service == GATEWAY || route.hops.contains(&incident.service);
            match incident.kind {
                IncidentKind::TrafficSpike => {
                    duration *= 1.4;
                    client_errors += 0.02; // mostly 429, see below
                }
                _ if !is_on_the_way => {}
                IncidentKind::BadDeploy => (errors, culprit) = (errors * 10.0, Some(incident.service)),
                IncidentKind::DependencyTimeout => {
                    (duration, timeouts, culprit) = (duration * 8.0, 0.2, Some(incident.service));
                }
                IncidentKind::MemoryLeak => {
                    let progress = incident.progress(world.now);
                    duration *= 1.0 + 2.0 * progress;
                    (errors, culprit) = (errors * (1.0 + 3.0 * progress), Some(incident.service));
                }
                IncidentKind::SilentSource => {}
            }
        }
        let duration_us = duration.clamp(80.0, DURATION_US_MAX) as u32;
        let draw = rng.unit();
        if draw < timeouts + errors {
            let is_timeout = draw < timeouts;
            let status = if is_timeout { 504 } else { *rng.pick(&[500, 500, 500, 502, 503]) };
            let hops = route.hops.iter().filter(|&&hop| hop < service_count).count() as u32;
            let any = || route.hops.get(rng.below(hops) as usize).copied().filter(|&hop| hop < service_count);
            let failing = culprit.or_else(any).unwrap_or(GATEWAY);
            return Self {
                status,
                duration_us: if is_timeout { TIMEOUT_US } else { duration_us },
                failing: Some(failing),
            };
        }
        let status = if draw < timeouts + errors + client_errors {
            client_error(route_id, world, rng)
        } else if route_id == RouteId::Asset && rng.chance(0.3) {
            304
        } else {
            route.status
        };
        Self { status, duration_us, failing: None }
    }

    pub(crate) const fn has_failed(&self) -> bool {
        self.status >= 400
    }
}

fn client_error(route: RouteId, world: &World, rng: &mut Rng) -> u16 {
    if world.active().is_some_and(|incident| incident.kind == IncidentKind::TrafficSpike) {
        return 429;
    }
    *match route {
        RouteId::Login => rng.pick(&[401, 401, 401, 403, 429]),
        RouteId::CheckoutStart | RouteId::Purchase | RouteId::CartAdd | RouteId::Profile => {
            rng.pick(&[400, 409, 422, 402])
        }
        _ => rng.pick(&[404, 404, 404, 400, 403]),
    }
}

/// A request that shall happen, by somebody, with its outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) visitor: Visitor,
    pub(crate) route: RouteId,
    pub(crate) subject: u64,
    pub(crate) outcome: Outcome,
}

/// A request whose records are being sent.
#[derive(Clone, Copy, Debug)]
struct Request {
    plan: Plan,
    /// Everything random about it.
    bits: u64,
    /// When the gateway answered, which is the event time of the last record.
    end: i64,
    is_staging: bool,
    hops: [u8; 4],
    hop_count: u8,
    /// Number of records sent so far.
    sent: u8,
}

/// All requests in flight.
#[derive(Debug)]
pub(crate) struct Requests {
    slots: Vec<Option<Request>>,
    waiting: VecDeque<Plan>,
    has_single_records: bool,
    job_ratio: f64,
    route_weight_sum: u32,
}

impl Requests {
    /// For a rate of log records per second. `lines_only` gives just the gateway's records.
    pub(crate) fn new(logs_per_second: f64, lines_only: bool) -> Self {
        let slot_count = (logs_per_second * 0.05).clamp(1.0, IN_FLIGHT_MAX) as usize;
        Self {
            slots: vec![None; slot_count],
            waiting: VecDeque::with_capacity(WAITING_MAX),
            has_single_records: lines_only || logs_per_second < SINGLE_RECORD_RATE,
            job_ratio: if lines_only { 0.0 } else { JOB_RATIO },
            route_weight_sum: RouteId::ALL.iter().map(|route| route.route().weight).sum(),
        }
    }

    /// Takes a request of a session.
    pub(crate) fn push(&mut self, plan: Plan) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(plan);
        }
    }

    /// The next log record that is sent.
    pub(crate) fn next<'a>(&mut self, shop: &'a Shop, world: &World, now: i64, rng: &mut Rng) -> LogRecord<'a> {
        if self.job_ratio > 0.0
            && rng.chance(self.job_ratio)
            && let Some(record) = job(shop, world, now, rng)
        {
            return record;
        }
        loop {
            let place = rng.below(self.slots.len() as u32) as usize;
            let in_flight = self.slots[place].filter(|request| request.event_time() + DELAY_MICROS_MAX > now);
            let mut request = in_flight.unwrap_or_else(|| self.start(shop, world, now, rng));
            let record = request.record(shop, world);
            request.sent += 1;
            self.slots[place] = Some(request).filter(|request| request.sent <= request.hop_count);
            // The gateway is never silent, so each request ends the loop with its last record at the latest.
            if !world.is_silent(record.host.service, record.time.micros) {
                return record;
            }
        }
    }

    /// The gateway's record of a request of its own, at a time that may be long past.
    pub(crate) fn single<'a>(&self, shop: &'a Shop, world: &World, rng: &mut Rng) -> LogRecord<'a> {
        let plan = self.plan(shop, world, rng);
        let request =
            Request { plan, bits: rng.bits(), end: world.now, is_staging: false, hops: [0; 4], hop_count: 0, sent: 0 };
        request.record(shop, world)
    }

    fn start(&mut self, shop: &Shop, world: &World, now: i64, rng: &mut Rng) -> Request {
        let plan = match self.waiting.pop_front() {
            Some(plan) => plan,
            None => self.plan(shop, world, rng),
        };
        let end = now - i64::from(rng.below(AGENT_DELAY_MICROS));
        let is_staging = rng.chance(STAGING_RATIO);
        let mut request = Request { plan, bits: rng.bits(), end, is_staging, hops: [0; 4], hop_count: 0, sent: 0 };
        if !self.has_single_records {
            request.choose_hops(shop.fleet.service_count(), rng);
        }
        request
    }

    fn plan(&self, shop: &Shop, world: &World, rng: &mut Rng) -> Plan {
        let is_program = rng.chance(PROGRAM_RATIO);
        let visitor = if is_program { shop.users.draw_program(rng) } else { shop.users.draw(rng) };
        let route = if !is_program {
            self.route(rng)
        } else if visitor.profile.user_agent.text.starts_with("kube") {
            RouteId::Health
        } else {
            *rng.pick(&[RouteId::Product, RouteId::Product, RouteId::Category, RouteId::Home, RouteId::Search])
        };
        let outcome = Outcome::draw(route, world, shop.fleet.service_count(), rng);
        Plan { visitor, route, subject: rng.bits(), outcome }
    }

    fn route(&self, rng: &mut Rng) -> RouteId {
        let mut place = rng.below(self.route_weight_sum);
        for route in RouteId::ALL {
            match place.checked_sub(route.route().weight) {
                Some(rest) => place = rest,
                None => return *route,
            }
        }
        RouteId::Home
    }
}

impl Request {
    /// The services that leave a record: some of those on the way, up to the one that fails.
    fn choose_hops(&mut self, service_count: u8, rng: &mut Rng) {
        for &hop in self.plan.route.route().hops {
            let is_failing = self.plan.outcome.failing == Some(hop);
            if hop < service_count && (is_failing || rng.chance(HOP_RATIO)) {
                self.hops[usize::from(self.hop_count)] = hop;
                self.hop_count += 1;
            }
            if is_failing {
                break;
            }
        }
    }

    /// Event time of the next record: they are spread over the duration, the gateway's comes at the end.
    fn event_time(&self) -> i64 {
        let after = i64::from(self.hop_count - self.sent);
        self.end - i64::from(self.plan.outcome.duration_us) * after / i64::from(self.hop_count + 1)
    }

    /// The next record.
    #[inline]
    fn record<'a>(&self, shop: &'a Shop, world: &World) -> LogRecord<'a> {
        if self.sent == self.hop_count { self.edge_record(shop, world) } else { self.inner_record(shop, world) }
    }

    fn edge_record<'a>(&self, shop: &'a Shop, world: &World) -> LogRecord<'a> {
        let Plan { visitor, route, outcome, .. } = &self.plan;
        let host = shop.fleet.host(GATEWAY, visitor.profile.region, self.is_staging, self.bits);
        let severity = match outcome.status {
            500.. => Severity::Error,
            400.. => Severity::Warn,
            _ => Severity::Info,
        };
        let bits = mix(self.bits);
        let values = self.values(shop, bits, outcome.duration_us);
        let edge = Edge {
            user_agent: visitor.profile.user_agent,
            client: visitor.profile.address,
            request_bytes: if route.route().method == "GET" { 0 } else { 180 + rng::scale(bits, 2400) },
            response_bytes: response_bytes(*route, outcome.status, bits),
            referrer: visitor.user.and_then(|_| *rng::pick(&REFERRERS, bits << 8)),
        };
        LogRecord {
            time: Stamp { micros: self.event_time(), wrong_text: None },
            severity,
            message: shop.catalog.access(outcome.failing.is_some(), bits << 16),
            values,
            host,
            version: world.version(GATEWAY),
            logger: SERVICES[usize::from(GATEWAY)].loggers[0],
            trace: Some(self.trace(bits)),
            insert_id: None,
            visitor: Some(*visitor),
            http: Some(Http::Edge(edge)),
            exception: None,
            extra: None,
        }
    }

    fn inner_record<'a>(&self, shop: &'a Shop, world: &World) -> LogRecord<'a> {
        let Plan { visitor, outcome, .. } = &self.plan;
        let service = self.hops[usize::from(self.sent)];
        let facts = &SERVICES[usize::from(service)];
        let bits = mix2(self.bits, u64::from(self.sent));
        let region = visitor.profile.region;
        let (severity, message, exception) = if outcome.failing == Some(service) {
            let has_stack = bits & 3 != 0;
            let exception = has_stack.then(|| shop.catalog.exception(service, bits << 20));
            // A part of them is what a logger without structure writes: the trace as a message of many lines.
            let is_message = facts.runtime == Runtime::Java && bits & 12 == 0;
            match exception {
                Some(exception) if is_message => (Severity::Error, &exception.stack, None),
                _ => (Severity::Error, shop.catalog.failed(service, bits), exception),
            }
        } else {
            let (severity, message) = shop.catalog.normal(service, bits);
            (severity, message, None)
        };
        let duration_us = outcome.duration_us / 100 * (20 + rng::scale(bits << 12, 60));
        let more = mix(bits);
        let extra = match more & 3 {
            0 => Some(Extra::CacheHit(more & 4 == 0)),
            1 => Some(Extra::Attempt(1 + (more >> 8) as u8 % 3)),
            2 => Some(Extra::Thread(thread_prefix(facts.runtime), (more >> 8) as u8 % 64)),
            _ => None,
        };
        LogRecord {
            time: Stamp { micros: self.event_time(), wrong_text: None },
            severity,
            message,
            values: Values { upstream: self.dependency_of(service), ..self.values(shop, bits, duration_us) },
            host: shop.fleet.host(service, region, self.is_staging, more),
            version: world.version(service),
            logger: facts.loggers[usize::from(bits & 16 != 0)],
            trace: Some(self.trace(bits)),
            insert_id: None,
            visitor: Some(*visitor),
            http: Some(Http::Inner { caller: shop.fleet.host(GATEWAY, region, self.is_staging, self.bits) }),
            exception,
            extra,
        }
    }

    fn trace(&self, bits: u64) -> Trace {
        Trace { high: self.bits, low: mix2(self.bits, 0x7ACE), span: bits | 1 } // an id of zeros would be invalid
    }

    /// What a failing service blames: the next one on the way, or its database.
    fn dependency_of(&self, service: u8) -> &'static str {
        let mut way = self.plan.route.route().hops.iter().skip_while(|&&hop| hop != service);
        way.nth(1).map_or("postgres-primary", |&next| SERVICES[usize::from(next)].name)
    }

    fn values<'a>(&self, shop: &'a Shop, bits: u64, duration_us: u32) -> Values<'a> {
        let Plan { visitor, route, subject, outcome } = &self.plan;
        Values {
            subject: *subject,
            record: bits,
            user: visitor.user.unwrap_or(0),
            method: route.route().method,
            path: Some(shop.catalog.path(*route)),
            status: outcome.status,
            duration_us,
            upstream: SERVICES[usize::from(outcome.failing.unwrap_or(self.hops[0]))].name,
        }
    }
}

fn response_bytes(route: RouteId, status: u16, bits: u64) -> u32 {
    match status {
        204 | 304 => 0,
        400.. => 60 + rng::scale(bits << 24, 300),
        _ => {
            let usual = route.route().response_bytes as u32;
            usual / 2 + rng::scale(bits << 24, usual + 1)
        }
    }
}

/// A record outside any request; none if its service is silent.
fn job<'a>(shop: &'a Shop, world: &World, now: i64, rng: &mut Rng) -> Option<LogRecord<'a>> {
    let bits = rng.bits();
    let mut service = rng::scale(bits, u32::from(shop.fleet.service_count())) as u8;
    if let Some(incident) = world.active().filter(|incident| incident.kind == IncidentKind::MemoryLeak)
        && bits & 1 == 0
    {
        service = incident.service;
    }
    let event_time = now - i64::from(rng.below(AGENT_DELAY_MICROS));
    if world.is_silent(service, event_time) {
        return None;
    }
    let more = mix(bits);
    let leak = world.incident_of(IncidentKind::MemoryLeak, service).filter(|leak| leak.progress(now) > 0.4);
    let restarted = world.restarted_at(service).filter(|&end| end < event_time);
    let (severity, message) = if leak.is_some() {
        (Severity::Warn, shop.catalog.leak(more))
    } else if restarted.is_some() {
        (Severity::Info, shop.catalog.restart(more))
    } else {
        shop.catalog.job(more)
    };
    let facts = &SERVICES[usize::from(service)];
    let is_staging = rng.chance(STAGING_RATIO);
    let values = Values {
        subject: more,
        record: bits,
        user: 0,
        method: "GET",
        path: None,
        status: 200,
        duration_us: rng.log_normal(90_000.0, 1.5) as u32,
        upstream: rng.pick(&SERVICES).name,
    };
    Some(LogRecord {
        time: Stamp { micros: event_time, wrong_text: None },
        severity,
        message,
        values,
        host: shop.fleet.host(service, (more % 3) as u8, is_staging, bits << 32),
        version: world.version(service),
        logger: facts.loggers[1],
        trace: None,
        insert_id: None,
        visitor: None,
        http: None,
        exception: None,
        extra: Some(Extra::QueueDepth((more >> 40) as u16 % 500)),
    })
}

const _: () = assert!(
    DURATION_US_MAX as i64 + AGENT_DELAY_MICROS as i64 + SECOND < DELAY_MICROS_MAX,
    "a new request must be younger than the longest delay"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::Schedule;
    use crate::world::WorldRules;

    const START: i64 = 1_767_571_200 * SECOND;

    /// Shares of failed and of slow requests in the middle of an incident, compared with none.
    fn effect(kind: IncidentKind) -> (f64, f64) {
        let route = RouteId::Purchase; // passes checkout, payment, inventory and email
        let passes = |name| route.route().hops.iter().any(|&hop| SERVICES[usize::from(hop)].name == name);
        let (schedule, incident) = (0..)
            .map(|seed| Schedule::new(seed, START, 12))
            .find_map(|schedule| {
                let all = schedule.until(START + 3 * 3600 * SECOND);
                let found = all.into_iter().find(|incident| incident.kind == kind && passes(incident.service))?;
                Some((schedule, found))
            })
            .expect("some seed has it");
        let middle = incident.start_micros.midpoint(incident.end_micros);
        let share = |incidents: Option<Schedule>| {
            let rules = WorldRules { seed: 1, start: START, has_rhythm: false, incidents };
            let (world, mut rng) = (World::at(&rules, middle), Rng::new(1));
            let outcomes: Vec<_> = (0..100_000).map(|_| Outcome::draw(route, &world, 12, &mut rng)).collect();
            let failed = outcomes.iter().filter(|outcome| outcome.status >= 500).count();
            let micros: u64 = outcomes.iter().map(|outcome| u64::from(outcome.duration_us)).sum();
            (failed as f64 / 1e5, micros as f64 / 1e5)
        };
        let (usual, during) = (share(None), share(Some(schedule)));
        (during.0 / usual.0, during.1 / usual.1)
    }

    #[test]
    fn a_bad_deploy_fails_ten_times_as_often() {
        let (errors, duration) = effect(IncidentKind::BadDeploy);
        assert!((9.0..11.0).contains(&errors) && (0.9..1.1).contains(&duration), "{errors} {duration}");
    }

    #[test]
    fn a_dependency_timeout_is_slow_and_times_out() {
        let (errors, duration) = effect(IncidentKind::DependencyTimeout);
        assert!(errors > 15.0 && (5.0..9.0).contains(&duration), "{errors} {duration}");
    }

    #[test]
    fn a_leak_in_its_middle_has_an_effect_too() {
        let (errors, duration) = effect(IncidentKind::MemoryLeak);
        assert!((2.2..2.8).contains(&errors) && (1.8..2.1).contains(&duration), "{errors} {duration}");
    }
}
