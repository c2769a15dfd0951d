//! The contract of `EventLog`, on a simulated and on a real disk.

use crate::common::options;
use sawlog_seams::contract::event_log::Fixture;
use sawlog_seams::{Disk, EventLog, RealDisk, SimDisk, SystemClock};
use sawlog_wal::{Wal, WalOptions};
use std::sync::Arc;
use tempfile::TempDir;

/// Larger than a segment.
const FRAME_BYTES_MAX: u64 = 4000;

struct Storage {
    disk: Arc<dyn Disk>,
    options: WalOptions,
    _dir: Option<TempDir>,
}

impl Fixture for Storage {
    fn open(&self) -> Arc<dyn EventLog> {
        let clock = Arc::new(SystemClock::new());
        let (wal, report) = Wal::open(self.options.clone(), Arc::clone(&self.disk), clock).unwrap();
        assert!(report.damages.is_empty(), "{report:?}");
        assert!(report.foreign_files.is_empty(), "{report:?}");
        Arc::new(wal)
    }

    fn frame_bytes_max(&self) -> u64 {
        self.options.frame_bytes_max
    }
}

fn simulated() -> Storage {
    let options = WalOptions { frame_bytes_max: FRAME_BYTES_MAX, ..options() };
    Storage { disk: Arc::new(SimDisk::new(0)), options, _dir: None }
}

fn real() -> Storage {
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions { dir: dir.path().join("data/wal"), frame_bytes_max: FRAME_BYTES_MAX, ..options() };
    Storage { disk: Arc::new(RealDisk), options, _dir: Some(dir) }
}

mod on_a_simulated_disk {
    sawlog_seams::event_log_contract!(super::simulated());
}

mod on_a_real_disk {
    sawlog_seams::event_log_contract!(super::real());
}
