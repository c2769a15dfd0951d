//! Any bytes as stored rollup cells: merged or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sawlog_core::rollup::{self, Rollup};

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (rollup, one, other) = input;
    let rollup = Rollup::ALL[usize::from(rollup) % Rollup::ALL.len()];
    if let Ok(merged) = rollup::merge(rollup, one, other) {
        rollup::merge(rollup, &merged, other).expect("a merged cell merges again");
    }
});
