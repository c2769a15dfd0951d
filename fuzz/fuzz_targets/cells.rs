//! Any bytes as stored rollup cells: merged or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8], &[u8])| {
    let (key, older, newer) = input;
    if let Ok(merged) = sawlog_core::rollup::merge(key, older, newer) {
        sawlog_core::rollup::merge(key, &merged, newer).expect("a merged cell merges again");
    }
});
