//! Any bytes in one input format, which the environment variable `SAWLOG_FUZZ_FORMAT` names.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sawlog_core::batch::Format;

#[path = "../../crates/sawlog-core/tests/support/invariants.rs"]
mod invariants;

static FORMAT: LazyLock<Format> = LazyLock::new(|| {
    let name = std::env::var("SAWLOG_FUZZ_FORMAT").unwrap_or_default();
    Format::from_name(&name).unwrap_or_else(|| panic!("SAWLOG_FUZZ_FORMAT={name:?} names no input format"))
});

fuzz_target!(|body: &[u8]| invariants::check(*FORMAT, body));
