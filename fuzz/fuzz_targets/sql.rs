//! Any text as SQL: refused or run, within its limits, and never a crash of the planner, which recurses.

#![no_main]

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sawlog_query::{QueryEngine, QueryLimits};
use sawlog_seams::serving::{MemoryServing, ServingStore};
use sawlog_seams::view::{View, ViewSource};
use sawlog_seams::{RealDisk, SystemClock};

struct Nothing(MemoryServing);

impl ViewSource for Nothing {
    fn view(&self) -> View {
        View { tables: HashMap::new(), hot_rollups: Vec::new(), serving: self.0.snapshot() }
    }
}

static ENGINE: LazyLock<QueryEngine> = LazyLock::new(|| {
    let limits = QueryLimits {
        time_max: Duration::from_secs(2),
        memory_bytes_max: 64 << 20,
        rows_max: 1000,
        answer_bytes_max: 1 << 20,
        concurrent_max: NonZeroUsize::MIN,
        threads: NonZeroUsize::MIN,
        spill_folder: std::env::temp_dir().join("sawlog-fuzz-spill"),
        spill_bytes_max: 64 << 20,
        disk_free_min: 0,
    };
    let (source, clock) = (Arc::new(Nothing(MemoryServing::default())), Arc::new(SystemClock::new()));
    QueryEngine::new(source, clock, Arc::new(RealDisk), limits).expect("threads and a folder can be had")
});

/// The clock of the engine's limits.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime can be made")
});

fuzz_target!(|sql: &str| {
    if let Err(error) = RUNTIME.block_on(ENGINE.run(sql)) {
        assert!(!error.to_string().contains("defect of the engine"), "a panic: {error}");
    }
});
