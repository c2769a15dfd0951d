//! One history of a deployment, drawn from a seed.
//!
//! For: choosing what happens next, and asking after each step whether all is as it must be.

use std::sync::Arc;

use sawlog_seams::SeededRng;
use sawlog_seams::disk::sim::Fault;
use sawlog_seams::serving::{Family, ServingStore};
use xxhash_rust::xxh3::Xxh3;

use super::options::{DAY, HOUR, MINUTE, Options, SECOND};
use super::sources::Sources;
use super::stores::{Moment, WRITES_MAX};
use super::world::World;
use super::{Violation, check};
use crate::planted::Bug;

/// Steps of a history: batches, flushes, crashes, waiting.
const STEPS: u64 = 40;
/// A midnight.
pub(super) const MIDNIGHT: i64 = 1_795_564_800 * SECOND;
/// Calls of the disk that two checkpoints take, about.
const DISK_CALLS: u64 = 12;

/// Runs the history of a seed, with a planted bug or without. Returns a hash of everything that the serving store holds at
/// its end.
pub(super) fn run(seed: u64, bug: Option<Bug>) -> Result<u64, Violation> {
    let mut rng = SeededRng::new(seed);
    let options = Options::draw(&mut rng);
    let now = MIDNIGHT - rng.below(20 * MINUTE as u64) as i64;
    let world = World::new(options, now, bug)?;
    let sources = Sources::draw(&mut rng);
    let mut history =
        History { rng, world, sources, started: now, watermark: i64::MIN, set_back_count: 0, set_back: 0 };
    for _ in 0..STEPS {
        history.step()?;
    }
    finish(&mut history.world)?;
    history.look_at_watermark()?;
    Ok(digest(&history.world))
}

struct History {
    rng: SeededRng,
    world: World,
    sources: Sources,
    /// When it began.
    started: i64,
    /// The watermark so far: it never goes back, unless the clock is set back.
    watermark: i64,
    set_back_count: u64,
    /// By how much the clock was set back in all.
    set_back: i64,
}

impl History {
    fn step(&mut self) -> Result<(), Violation> {
        self.pass_time();
        match self.rng.below(16) {
            0..=8 => {
                let now = self.world.now();
                let batch = self.sources.batch(&mut self.rng, now);
                self.world.accept(batch);
            }
            9 => self.world.note("refused", 1 + self.rng.clone().below(3)),
            10..=12 => self.flush()?,
            13 => self.restart()?,
            _ => {}
        }
        if self.rng.one_in(2) {
            self.world.tick()?;
        }
        if self.rng.below(4) > 0 {
            let count = if self.rng.one_in(2) { usize::MAX } else { 1 };
            self.world.apply(count)?;
        }
        if self.rng.one_in(5) {
            check::view(&self.world)?;
        }
        self.look_at_watermark()
    }

    fn pass_time(&mut self) {
        let by = match self.rng.below(40) {
            0 => 25 * HOUR,
            1 => HOUR,
            2..=5 => self.rng.below(10 * MINUTE as u64) as i64,
            6..=20 => self.rng.below(15 * SECOND as u64) as i64,
            // The clock of the machine is set back a little, or was ahead and is set right: by no more than what keys of
            // batches are kept for beyond their day.
            21 => -(self.rng.below(20 * SECOND as u64) as i64),
            22 => {
                let ahead = (self.world.now() - self.started).clamp(0, HOUR - self.set_back);
                let by = self.rng.below(ahead as u64 + 1) as i64;
                self.set_back += by;
                -by
            }
            _ => self.rng.below(SECOND as u64) as i64,
        };
        self.world.clock.set_micros(self.world.now() + by);
    }

    fn look_at_watermark(&mut self) -> Result<(), Violation> {
        let watermark = self.world.process.recovered.hot.read().stream.watermark();
        let set_back_count = self.world.model.set_back_count;
        if watermark < self.watermark && set_back_count == self.set_back_count {
            return Err(Violation::new("watermark", format!("{watermark} after {}", self.watermark)));
        }
        (self.watermark, self.set_back_count) = (watermark, set_back_count);
        if watermark != self.world.model.watermark() {
            let expected = self.world.model.watermark();
            return Err(Violation::new("watermark", format!("{watermark}, recounted {expected}")));
        }
        Ok(())
    }

    /// A flush during which batches are applied and writes fail, and perhaps the end of the process.
    fn flush(&mut self) -> Result<(), Violation> {
        let moment = if self.rng.one_in(2) { Moment::Before } else { Moment::After };
        let fails_at = self.rng.one_in(2).then(|| (1 + self.rng.below(WRITES_MAX), moment));
        let (process, count) = (Arc::clone(&self.world.process), self.rng.below_usize(3));
        let interlude = Box::new(move || process.apply(count));
        self.world.stores.faults.plan(fails_at, Some((1 + self.rng.below(WRITES_MAX), interlude)));
        let is_power_lost = self.rng.one_in(8);
        if is_power_lost {
            self.world.disk.power_off_at_call(1 + self.rng.below(DISK_CALLS));
        } else if self.rng.one_in(8) {
            self.world.disk.fail_nth_call(1 + self.rng.below(DISK_CALLS), Fault::Io);
        }
        let flushed = self.world.flush()?;
        if is_power_lost {
            let disk = self.world.disk.crash(self.rng.next_u64());
            return self.world.restart(disk);
        }
        self.world.disk.clear_faults();
        match flushed {
            Ok(true) => check::flushed(&self.world)?,
            Ok(false) => {}
            Err(_) if self.rng.one_in(2) => self.restart()?,
            Err(_) => {}
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Violation> {
        if self.rng.one_in(4) {
            let fails_at = (1 + self.rng.below(WRITES_MAX), Moment::After);
            self.world.stores.faults.plan(Some(fails_at), None);
        }
        let disk = self.world.disk.kill();
        self.world.restart(disk)?;
        check::view(&self.world)
    }
}

fn digest(world: &World) -> u64 {
    let (snapshot, mut hasher) = (world.stores.serving.snapshot(), Xxh3::new());
    for family in Family::ALL {
        for (key, value) in snapshot.scan(family, b"", None).expect("cells") {
            hasher.update(&key);
            hasher.update(&value);
        }
    }
    hasher.digest()
}

/// Everything is applied and flushed, and time goes on until every window is complete, those of clocks that are a year
/// ahead too.
pub(super) fn finish(world: &mut World) -> Result<(), Violation> {
    world.apply(usize::MAX)?;
    check::view(world)?;
    flush_all(world)?;
    world.clock.set_micros(world.now() + 800 * DAY);
    // The first completes all; each of the others judges its share.
    while world.tick()? {
        world.apply(usize::MAX)?;
    }
    flush_all(world)?;
    check::view(world)?;
    check::complete(world)
}

/// Flushes until nothing is left, which must succeed.
pub(super) fn flush_all(world: &mut World) -> Result<(), Violation> {
    loop {
        match world.flush()? {
            Ok(true) => check::flushed(world)?,
            Ok(false) => return Ok(()),
            Err(error) => return Err(Violation::new("flush", error.to_string())),
        }
    }
}
