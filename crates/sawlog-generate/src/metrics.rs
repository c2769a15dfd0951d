//! Metric points of the hosts.
//!
//! For: a scrape of each host every ten seconds or so, with rhythm, noise and incidents. Not for: metrics of logs
//! (Sawlog derives them).
//! Invariant: sums never fall, except to zero when a host restarts.

use crate::incident::IncidentKind;
use crate::record::{MetricRecord, MetricValue, Stamp};
use crate::rhythm::{MINUTE, SECOND};
use crate::rng::{Rng, mix2};
use crate::shop::Shop;
use crate::topology::{Host, Runtime, SERVICES};
use crate::world::World;

/// How often a host is scraped when the rate allows.
pub(crate) const SCRAPE_SECONDS: f64 = 10.0;
/// Longest time between reading a value and sending it.
const AGENT_DELAY_MICROS: u32 = 300_000;
/// Age after which a scrape is read again: at low rates its points are sent far apart.
const SCRAPE_AGE_MAX: i64 = 5 * SECOND;
/// Requests per second and host on average.
const REQUEST_RATE: f64 = 38.0;
/// Bytes of one request and its answer.
const REQUEST_BYTES: f64 = 21_000.0;

/// Name, unit and whether it is a sum, in the order in which a scrape sends them.
const METRICS: [(&str, &str, bool); 6] = [
    ("cpu.utilization", "1", false),
    ("memory.usage", "By", false),
    ("http.server.request.count", "{request}", true),
    ("network.io", "By", true),
    ("queue.depth", "{item}", false),
    ("runtime.gc.pause", "ms", false),
];

/// Points of one scrape.
pub(crate) const POINTS_PER_SCRAPE: usize = METRICS.len();

/// Sums of one host.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    requests: f64,
    bytes: f64,
    read_at: Option<i64>,
    restarted_at: Option<i64>,
}

/// The scraper.
#[derive(Debug)]
pub(crate) struct Metrics {
    seed: u64,
    host: usize,
    metric: usize,
    read_at: i64,
    counters: Vec<Counter>,
}

impl Metrics {
    pub(crate) fn new(seed: u64, host_count: usize) -> Self {
        Self { seed, host: 0, metric: 0, read_at: i64::MIN / 2, counters: vec![Counter::default(); host_count] }
    }

    /// The next point that is sent.
    pub(crate) fn next<'a>(&mut self, shop: &'a Shop, world: &World, now: i64, rng: &mut Rng) -> MetricRecord<'a> {
        if self.metric == METRICS.len() {
            (self.metric, self.host) = (0, self.host + 1);
        }
        if self.metric == 0 || now - self.read_at > SCRAPE_AGE_MAX {
            self.read(shop, world, now, rng);
        }
        let host = &shop.fleet.hosts()[self.host];
        let record = self.point(host, world, self.metric, self.read_at);
        self.metric += 1;
        record
    }

    /// A gauge of a gateway host, at a time that may be long past.
    pub(crate) fn single<'a>(&self, shop: &'a Shop, world: &World, rng: &mut Rng) -> MetricRecord<'a> {
        let host = shop.fleet.host(crate::topology::GATEWAY, rng.below(3) as u8, false, rng.bits());
        self.point(host, world, 0, world.now)
    }

    /// Reads the values of the next host that is not silent. The gateway never is, so there is one.
    fn read(&mut self, shop: &Shop, world: &World, now: i64, rng: &mut Rng) {
        let hosts = shop.fleet.hosts();
        // Whole milliseconds, as scrapers have them.
        self.read_at = (now - i64::from(rng.below(AGENT_DELAY_MICROS))).div_euclid(1000) * 1000;
        self.host %= hosts.len();
        while world.is_silent(hosts[self.host].service, self.read_at) {
            self.host = (self.host + 1) % hosts.len();
        }
        let counter = &mut self.counters[self.host];
        let restarted_at = world.restarted_at(hosts[self.host].service).filter(|&at| at <= self.read_at);
        if restarted_at.is_some() && restarted_at != counter.restarted_at {
            *counter = Counter { restarted_at, read_at: restarted_at, ..Counter::default() };
        }
        let elapsed = (self.read_at - counter.read_at.unwrap_or(self.read_at)).max(0) as f64 / SECOND as f64;
        let requests = elapsed * REQUEST_RATE * world.load * (0.85 + 0.3 * rng.unit());
        counter.requests += requests;
        counter.bytes += requests * REQUEST_BYTES * (0.9 + 0.2 * rng.unit());
        counter.read_at = Some(self.read_at);
    }

    fn point<'a>(&self, host: &'a Host, world: &World, metric: usize, read_at: i64) -> MetricRecord<'a> {
        let counter = &self.counters[self.host.min(self.counters.len() - 1)];
        let noise = smooth_noise(mix2(self.seed, u64::from(u32::from_be_bytes(host.address))), metric, read_at);
        let value = match metric {
            0 => MetricValue::Fraction((cpu(host, world, noise) * 10_000.0) as u64),
            1 => MetricValue::Whole(memory_bytes(host, world, noise)),
            2 => MetricValue::Whole(counter.requests as u64),
            3 => MetricValue::Whole(counter.bytes as u64),
            4 => MetricValue::Whole(queue_depth(host, world, noise) as u64),
            _ => MetricValue::Fraction((gc_pause_ms(host, world, noise) * 10_000.0) as u64),
        };
        let (name, unit, is_sum) = METRICS[metric];
        let time = Stamp { micros: read_at, wrong_text: None };
        MetricRecord { time, name, unit, is_sum, value, host, version: world.version(host.service) }
    }
}

fn leak_progress(host: &Host, world: &World) -> f64 {
    world.incident_of(IncidentKind::MemoryLeak, host.service).map_or(0.0, |leak| leak.progress(world.now))
}

fn cpu(host: &Host, world: &World, noise: f64) -> f64 {
    let usual = SERVICES[usize::from(host.service)].cpu * (0.35 + 0.65 * world.load);
    let has_bad_deploy = world.incident_of(IncidentKind::BadDeploy, host.service).is_some();
    let effect = if has_bad_deploy { 1.3 } else { 1.0 + 0.5 * leak_progress(host, world) };
    (usual * effect * (0.8 + 0.4 * noise)).clamp(0.01, 0.995)
}

fn memory_bytes(host: &Host, world: &World, noise: f64) -> u64 {
    let limit = f64::from(SERVICES[usize::from(host.service)].memory_mib) * 1_048_576.0;
    let usual = if world.restarted_at(host.service).is_some() { 0.3 } else { 0.45 };
    let share = usual + 0.08 * noise + 0.02 * world.load.min(3.0) + 0.42 * leak_progress(host, world);
    (limit * share.min(0.99)) as u64
}

fn queue_depth(host: &Host, world: &World, noise: f64) -> f64 {
    let has_timeouts = world.incident_of(IncidentKind::DependencyTimeout, host.service).is_some();
    let effect = if has_timeouts { 15.0 } else { 1.0 };
    12.0 * world.load * world.load * noise * effect
}

fn gc_pause_ms(host: &Host, world: &World, noise: f64) -> f64 {
    let usual = if SERVICES[usize::from(host.service)].runtime == Runtime::Java { 14.0 } else { 1.2 };
    usual * (0.4 + noise) * (1.0 + 25.0 * leak_progress(host, world))
}

/// Noise in 0 to 1 that changes from minute to minute and linearly between them.
fn smooth_noise(source: u64, metric: usize, micros: i64) -> f64 {
    let at = |minute: i64| {
        let bits = mix2(source ^ metric as u64, minute as u64);
        (bits >> 40) as f64 / (1_u64 << 24) as f64
    };
    let minute = micros.div_euclid(MINUTE);
    let part = micros.rem_euclid(MINUTE) as f64 / MINUTE as f64;
    let from = at(minute);
    from + (at(minute + 1) - from) * part
}
