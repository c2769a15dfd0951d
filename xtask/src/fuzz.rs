//! Fuzzing the parsers with libFuzzer.
//!
//! For: building `fuzz/` with coverage counters on the stable toolchain and running each target for a set time. What a
//! run learned stays below the target folder, so that the next one goes on from there.

use std::path::PathBuf;

use crate::steps::{Step, target_folder};
use crate::tools::root;

/// Counters for libFuzzer; the flags are those of cargo-fuzz without a sanitizer, which would need a nightly compiler.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Named, so that the flags reach the targets and not the build scripts.
const TRIPLE: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

/// The input formats of the transform target.
const FORMATS: [&str; 9] =
    ["json", "access", "syslog", "logfmt", "text", "otlp-logs", "otlp-metrics", "otlp-logs-json", "otlp-metrics-json"];

/// The targets beside it.
const OTHERS: [&str; 8] = ["rules", "cells", "bulk", "framing", "segment", "frame", "filter", "sql"];

/// One thing to fuzz.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    program: &'static str,
}

pub(crate) fn targets() -> Vec<Target> {
    let formats = FORMATS.into_iter().map(|name| Target { name, program: "transform" });
    formats.chain(OTHERS.map(|name| Target { name, program: name })).collect()
}

fn folder() -> PathBuf {
    target_folder().join("fuzz")
}

/// Builds all targets.
pub(crate) fn build() -> Vec<Step> {
    let folder = folder().display().to_string();
    let place = ["--manifest-path", "fuzz/Cargo.toml", "--target", TRIPLE, "--target-dir", &folder];
    let words = [&["build", "--release", "--all-features"], &place[..]].concat();
    let mut step = Step::new(&root(), "cargo", &words);
    step.command.env("RUSTFLAGS", FLAGS);
    vec![step]
}

/// Checks that the targets compile, without those that need DataFusion: cheap enough for every run of the tests.
pub(crate) fn check() -> Vec<Step> {
    let folder = folder().display().to_string();
    let words = ["check", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", &folder];
    let mut step = Step::new(&root(), "cargo", &words);
    step.command.env("RUSTFLAGS", "--deny warnings");
    vec![step]
}

impl Target {
    /// Runs the target for so many seconds; it fails when an input breaks it, which is then kept in the corpus folder.
    pub(crate) fn run(&self, seconds: u64) -> Step {
        let corpus = folder().join("corpus").join(self.name);
        let program = folder().join(TRIPLE).join("release").join(self.program).display().to_string();
        let limits = [
            format!("-max_total_time={seconds}"),
            format!("-artifact_prefix={}/broken-", corpus.display()),
            corpus.display().to_string(),
        ];
        let words = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-verbosity=0", "-print_final_stats=1"];
        let words: Vec<&str> = words.into_iter().chain(limits.iter().map(String::as_str)).collect();
        let mut step = Step::new(&root(), &program, &words);
        step.command.env("SAWLOG_FUZZ_FORMAT", self.name);
        // libFuzzer wants the folder to be there; a folder that cannot be made is its first complaint.
        drop(std::fs::create_dir_all(&corpus));
        step
    }
}
