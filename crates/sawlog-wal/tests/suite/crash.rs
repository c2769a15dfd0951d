//! Crash campaign: random lives of a log, each ended by a power loss, a kill or a clean close.
//!
//! `SAWLOG_SIM_SEEDS` sets the number of seeds; `SAWLOG_SIM_FIRST` the first, to repeat one.

use crate::common::{Oracle, open_with, options};
use sawlog_seams::disk::sim::{DiskOp, Fault};
use sawlog_seams::{Disk, DiskFile, SeededRng, SimDisk};
use sawlog_wal::WalOptions;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = 2_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// How the disk is presented to the log.
type Wrap = fn(SimDisk) -> Arc<dyn Disk>;

/// One history of up to six lives on one disk.
fn run_history(seed: u64, wrap: Wrap) {
    let mut rng = SeededRng::new(seed);
    let mut oracle = Oracle::new();
    let mut disk = SimDisk::new(seed);
    let has_sync_faults = rng.one_in(4);
    for _life in 0..=rng.below(6) {
        plan_end(&disk, &mut rng, has_sync_faults);
        live(&disk, &mut rng, &mut oracle, wrap, has_sync_faults);
        disk = end_life(&disk, &mut rng);
    }
    disk.clear_faults();
    let (wal, report) = open_with(options(), wrap(disk.clone())).expect("a healthy disk opens");
    oracle.check(&wal);
    oracle.check_order();
    if !has_sync_faults {
        Oracle::check_no_alarm(&report.damages);
    }
    let outcomes = oracle.append_group(&wal, 3);
    assert!(outcomes.iter().all(Result::is_ok), "the log goes on: {outcomes:?}");
    oracle.check(&wal);
}

fn plan_end(disk: &SimDisk, rng: &mut SeededRng, has_sync_faults: bool) {
    if !rng.one_in(4) {
        disk.power_off_at_call(1 + rng.below(80));
    }
    if rng.one_in(4) {
        disk.fail_nth(DiskOp::Append, 1 + rng.below(6), Fault::DiskFull);
    }
    if rng.one_in(6) {
        disk.fail_nth(DiskOp::SetLen, 1, Fault::Io);
    }
    if has_sync_faults && rng.one_in(2) {
        disk.fail_nth(DiskOp::SyncData, 1 + rng.below(10), Fault::Io);
    }
}

fn live(disk: &SimDisk, rng: &mut SeededRng, oracle: &mut Oracle, wrap: Wrap, has_sync_faults: bool) {
    let segment_bytes_max = [512, 2048, 1 << 20][rng.below_usize(3)];
    let options = WalOptions { segment_bytes_max, ..options() };
    // A disk that loses power or fails during open leaves nothing to check until the next life.
    let Ok((wal, report)) = open_with(options, wrap(disk.clone())) else { return };
    if !has_sync_faults {
        Oracle::check_no_alarm(&report.damages);
    }
    for _step in 0..rng.below(8) {
        match rng.below(7) {
            0 => {
                let before = oracle.some_position(rng);
                oracle.release(&wal, before);
            }
            _append => {
                oracle.append_group(&wal, 1 + rng.below(8));
            }
        }
    }
    if rng.one_in(3) {
        drop(wal); // closes, which writes the seal
    } else {
        // The process ends without a close: a dead disk takes no seal.
        disk.power_off_at_call(1);
        drop(wal);
    }
}

fn end_life(disk: &SimDisk, rng: &mut SeededRng) -> SimDisk {
    let seed = rng.next_u64();
    let after = if rng.one_in(3) { disk.kill() } else { disk.crash(seed) };
    after.clear_faults();
    after
}

/// Runs all seeds on two threads; returns those that failed.
fn campaign(first: u64, count: u64, wrap: Wrap) -> Vec<u64> {
    let next = AtomicU64::new(first);
    let work = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return failed;
            }
            if catch_unwind(AssertUnwindSafe(|| run_history(seed, wrap))).is_err() {
                failed.push(seed);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("seeds are caught")).collect()
    })
}

#[test]
fn whatever_crashes_acknowledged_frames_are_replayed_once_and_in_order() {
    let count = setting("SAWLOG_SIM_SEEDS", SEEDS);
    let failed = campaign(setting("SAWLOG_SIM_FIRST", 0), count, |disk| Arc::new(disk));
    assert!(failed.is_empty(), "seeds {failed:?}");
}

/// A disk that reports syncs without doing them: what acknowledging before the sync would look like.
struct LyingDisk(SimDisk);

struct LyingFile(Box<dyn DiskFile>);

impl Disk for LyingDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir_all(dir)
    }
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(LyingFile(self.0.create_new(path)?)))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.open(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.read(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
}

impl DiskFile for LyingFile {
    fn append(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        self.0.append(buffers)
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

#[test]
fn the_campaign_notices_a_log_that_does_not_sync() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ())); // the failures are wanted: keep them off the screen
    let failed = campaign(0, 50, |disk| Arc::new(LyingDisk(disk)));
    std::panic::set_hook(hook);
    assert!(failed.len() > 10, "only {} of 50 seeds noticed", failed.len());
}
