//! The generator: one record after the other.
//!
//! For: the clock of the stream, the mix of kinds and the places of defects. Not for: what the records say.
//! Invariants: send times never fall; the counts of kinds and defects follow their ratios to within two records.

use crate::catalog::Catalog;
use crate::incident::{Incident, Schedule};
use crate::journey::Journeys;
use crate::malform::{MalformedKind, WRONG_TIMES, break_record};
use crate::math;
use crate::metrics::{Metrics, POINTS_PER_SCRAPE, SCRAPE_SECONDS};
use crate::quota::Quota;
use crate::record::{InsertId, Stamp};
use crate::replay::Replay;
use crate::request::Requests;
use crate::rhythm::SECOND;
use crate::rng::Rng;
use crate::scenario::{Format, Mix, Scenario, ScenarioError};
use crate::shop::Shop;
use crate::topology::Fleet;
use crate::visitor::Users;
use crate::world::{World, WorldRules};
use crate::write;

/// Smallest and largest distance of a late record's event time from its send time.
pub const LATE_MICROS_MIN: i64 = 120 * SECOND;
/// See [`LATE_MICROS_MIN`].
pub const LATE_MICROS_MAX: i64 = 12 * 3600 * SECOND;

/// Kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A log record.
    Log,
    /// A metric point.
    Metric,
    /// An event of a user.
    Activity,
}

/// What is wrong with a record, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The event time is this far behind the send time.
    Late {
        /// The distance, between [`LATE_MICROS_MIN`] and [`LATE_MICROS_MAX`].
        by_micros: i64,
    },
    /// The bytes are those of an earlier record.
    DuplicateOf {
        /// [`Generated::sequence`] of that record.
        sequence: u64,
    },
    /// The record cannot be parsed.
    Malformed(MalformedKind),
}

/// What is known of a record that was generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Place in the stream, from 0.
    pub sequence: u64,
    /// Kind; for a malformed record the kind that it would have been.
    pub kind: Kind,
    /// When it happened, in stream time; up to [`crate::DELAY_MICROS_MAX`] before the send time if it is not late.
    pub event_time_micros: i64,
    /// When it is to be sent, in stream time; never before the record before it.
    pub send_time_micros: i64,
    /// What is wrong with it.
    pub defect: Option<Defect>,
}

/// Counts of the records so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All records.
    pub records: u64,
    /// Log records.
    pub logs: u64,
    /// Metric points.
    pub metrics: u64,
    /// Activity events.
    pub activity: u64,
    /// Records that were late.
    pub late: u64,
    /// Records that repeated an earlier one.
    pub duplicates: u64,
    /// Records that cannot be parsed.
    pub malformed: u64,
}

impl Counts {
    const fn add(&mut self, generated: &Generated) {
        self.records += 1;
        match generated.kind {
            Kind::Log => self.logs += 1,
            Kind::Metric => self.metrics += 1,
            Kind::Activity => self.activity += 1,
        }
        match generated.defect {
            Some(Defect::Late { .. }) => self.late += 1,
            Some(Defect::DuplicateOf { .. }) => self.duplicates += 1,
            Some(Defect::Malformed(_)) => self.malformed += 1,
            None => {}
        }
    }
}

/// Shares of the stream, kept exactly.
#[derive(Debug)]
struct Quotas {
    metrics: Quota,
    activity: Quota,
    late: Quota,
    duplicates: Quota,
    malformed: Quota,
}

/// An endless stream of records. See the crate's example.
#[derive(Debug)]
pub struct Generator {
    scenario: Scenario,
    rng: Rng,
    shop: Shop,
    rules: WorldRules,
    world: World,
    quotas: Quotas,
    requests: Requests,
    journeys: Journeys,
    metrics: Metrics,
    replay: Replay,
    /// Mean gap between records at a load of 1.
    gap_micros: f64,
    now: i64,
    /// Part of a microsecond that `now` leaves out.
    now_fraction: f64,
    counts: Counts,
}

impl Generator {
    /// A stream from its beginning.
    ///
    /// # Errors
    /// If the scenario is not usable ([`Scenario::validate`]).
    pub fn new(scenario: Scenario) -> Result<Self, ScenarioError> {
        scenario.validate()?;
        let Scenario { seed, start_micros, events_per_second, format, services, .. } = scenario;
        let shares = scenario.mix.shares();
        let hosts_wanted = events_per_second * shares.metrics * SCRAPE_SECONDS / POINTS_PER_SCRAPE as f64;
        let replicas_wanted = hosts_wanted / f64::from(services) - 1.0; // one is for staging
        let shop = Shop {
            fleet: Fleet::new(seed, services, replicas_wanted),
            catalog: Catalog::new(write::escape(format)),
            users: Users::of(&scenario),
        };
        let incidents = scenario.incidents.then(|| Schedule::new(seed, start_micros, u32::from(services)));
        let mean_load = if scenario.incidents { Schedule::mean_rate_factor() } else { 1.0 };
        let rules = WorldRules { seed, start: start_micros, has_rhythm: scenario.rhythm, incidents };
        let mut rng = Rng::new(seed);
        Ok(Self {
            world: World::at(&rules, start_micros),
            quotas: Quotas::new(&scenario, shares, &mut rng),
            requests: Requests::new(events_per_second * shares.logs, format == Format::Combined),
            journeys: Journeys::default(),
            metrics: Metrics::new(seed, shop.fleet.hosts().len()),
            replay: Replay::new(events_per_second),
            gap_micros: SECOND as f64 * mean_load / events_per_second,
            now: start_micros,
            now_fraction: 0.0,
            counts: Counts::default(),
            scenario,
            rng,
            shop,
            rules,
        })
    }

    /// Appends the next record to `out`, without a line break, and says what it is.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> Generated {
        if self.now >= self.world.valid_until {
            self.world = World::at(&self.rules, self.now);
        }
        // All three count each record, so that none is forgotten when two are due at once.
        let is_late = self.quotas.late.is_due_at_next_record();
        let is_duplicate = self.quotas.duplicates.is_due_at_next_record();
        let is_malformed = self.quotas.malformed.is_due_at_next_record();
        let repeated = if is_duplicate { self.repeat(out) } else { None };
        let generated = match repeated {
            Some(generated) => generated,
            None if is_malformed => self.malformed(out),
            None if is_late => self.late(out),
            None => self.sound(out),
        };
        self.counts.add(&generated);
        self.advance();
        generated
    }

    /// Incidents that start before a stream time, in order: the ground truth. Empty if the scenario has none; at
    /// most the first 200000.
    #[must_use]
    pub fn incidents_until(&self, micros: i64) -> Vec<Incident> {
        self.rules.incidents.as_ref().map_or_else(Vec::new, |schedule| schedule.until(micros))
    }

    /// Counts of the records so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Send time of the next record.
    #[must_use]
    pub const fn next_send_time_micros(&self) -> i64 {
        self.now
    }

    /// The settings.
    #[must_use]
    pub const fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    fn advance(&mut self) {
        let gap = self.rng.exponential() * self.gap_micros / self.world.load + self.now_fraction;
        let whole = gap.floor();
        self.now = self.now.saturating_add(whole as i64);
        self.now_fraction = gap - whole;
    }

    fn sound(&mut self, out: &mut Vec<u8>) -> Generated {
        let front = out.len();
        let kind = self.next_kind();
        let event_time = self.write(kind, None, out);
        let generated = self.generated(kind, event_time, None);
        if !self.quotas.duplicates.is_zero() {
            self.replay.offer(&out[front..], generated, &mut self.rng);
        }
        generated
    }

    fn malformed(&mut self, out: &mut Vec<u8>) -> Generated {
        self.quotas.malformed.take(&mut self.rng);
        let front = out.len();
        let kind = self.next_kind();
        let defect = MalformedKind::draw(self.scenario.format, &mut self.rng);
        let is_time_wrong = defect == MalformedKind::WrongTimestamp;
        let wrong_text = is_time_wrong.then(|| *self.rng.pick(&WRONG_TIMES));
        let event_time = self.write(kind, wrong_text, out);
        break_record(defect, out, front, &mut self.rng);
        self.generated(kind, event_time, Some(Defect::Malformed(defect)))
    }

    fn late(&mut self, out: &mut Vec<u8>) -> Generated {
        self.quotas.late.take(&mut self.rng);
        let kind = self.next_kind();
        let range = math::log2(LATE_MICROS_MAX as f64 / LATE_MICROS_MIN as f64);
        let by_micros = (LATE_MICROS_MIN as f64 * math::exp2(self.rng.unit() * range)) as i64;
        let by_micros = by_micros.clamp(LATE_MICROS_MIN, LATE_MICROS_MAX);
        let event_time = self.now - by_micros;
        let then = World::at(&self.rules, event_time);
        let insert_id = self.insert_id();
        let (shop, rng) = (&self.shop, &mut self.rng);
        match kind {
            Kind::Log => {
                let mut record = self.requests.single(shop, &then, rng);
                record.insert_id = insert_id;
                write::log(self.scenario.format, &record, out);
            }
            Kind::Metric => write::metric(&self.metrics.single(shop, &then, rng), out),
            Kind::Activity => {
                let mut record = Journeys::single(shop, &then, rng);
                record.insert_id = insert_id;
                write::activity(&record, out);
            }
        }
        self.generated(kind, event_time, Some(Defect::Late { by_micros }))
    }

    /// Nothing if no record was sent within the last hour; the duplicate then stays due.
    fn repeat(&mut self, out: &mut Vec<u8>) -> Option<Generated> {
        let Generated { sequence, kind, event_time_micros, .. } = self.replay.repeat(self.now, out, &mut self.rng)?;
        self.quotas.duplicates.take(&mut self.rng);
        Some(self.generated(kind, event_time_micros, Some(Defect::DuplicateOf { sequence })))
    }

    const fn generated(&self, kind: Kind, event_time_micros: i64, defect: Option<Defect>) -> Generated {
        Generated { sequence: self.counts.records, kind, event_time_micros, send_time_micros: self.now, defect }
    }

    fn next_kind(&mut self) -> Kind {
        let is_metric = self.quotas.metrics.is_due_at_next_record();
        let is_activity = self.quotas.activity.is_due_at_next_record();
        if is_metric {
            self.quotas.metrics.take(&mut self.rng);
            Kind::Metric
        } else if is_activity {
            self.quotas.activity.take(&mut self.rng);
            Kind::Activity
        } else {
            Kind::Log
        }
    }

    fn insert_id(&self) -> Option<InsertId> {
        self.scenario.insert_ids.then(|| InsertId::new(self.scenario.seed, self.counts.records))
    }

    /// Writes a record of the present and gives its event time.
    #[inline]
    fn write(&mut self, kind: Kind, wrong_text: Option<&'static str>, out: &mut Vec<u8>) -> i64 {
        let insert_id = self.insert_id();
        let (shop, world, now, rng) = (&self.shop, &self.world, self.now, &mut self.rng);
        let stamp = |time: Stamp| Stamp { micros: time.micros, wrong_text };
        match kind {
            Kind::Log => {
                let mut record = self.requests.next(shop, world, now, rng);
                (record.time, record.insert_id) = (stamp(record.time), insert_id);
                write::log(self.scenario.format, &record, out);
                record.time.micros
            }
            Kind::Metric => {
                let mut record = self.metrics.next(shop, world, now, rng);
                record.time = stamp(record.time);
                write::metric(&record, out);
                record.time.micros
            }
            Kind::Activity => {
                let mut record = self.journeys.next(shop, world, now, &mut self.requests, rng);
                (record.time, record.insert_id) = (stamp(record.time), insert_id);
                write::activity(&record, out);
                record.time.micros
            }
        }
    }
}

impl Quotas {
    fn new(scenario: &Scenario, shares: Mix, rng: &mut Rng) -> Self {
        Self {
            metrics: Quota::new(shares.metrics, rng),
            activity: Quota::new(shares.activity, rng),
            late: Quota::new(scenario.late_ratio, rng),
            duplicates: Quota::new(scenario.duplicate_ratio, rng),
            malformed: Quota::new(scenario.malformed_ratio, rng),
        }
    }
}
