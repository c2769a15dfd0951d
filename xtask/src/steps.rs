//! The steps of `make test`, `make test-long` and `make bench`.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::summary::Counts;
use crate::tools::root;
use crate::{fuzz, tidy, tools};

/// Sizes of the long campaigns: crash moments of the binary, seeds of the simulations of event log and stream, generated
/// cases of each property test.
const LONG: [(&str, &str); 3] = [("SAWLOG_LONG", "1"), ("SAWLOG_SIM_SEEDS", "10000"), ("PROPTEST_CASES", "4096")];
/// Seconds that each parser is fuzzed for.
const FUZZ_SECONDS: u64 = 60;

/// Runs every check; later steps run even when an earlier one failed.
pub(crate) fn test() -> Result<bool, String> {
    tools::for_tests()?;
    let mut run = Run::default();
    run.checks();
    Ok(run.finish())
}

/// Runs every check with the sizes that take hours, and fuzzes the parsers.
pub(crate) fn test_long() -> Result<bool, String> {
    tools::for_tests()?;
    let mut run = Run { environment: &LONG, ..Run::default() };
    run.checks();
    run.fuzz(FUZZ_SECONDS);
    Ok(run.finish())
}

/// Fuzzes the parsers, each for so many seconds.
pub(crate) fn fuzz(seconds: &str) -> Result<bool, String> {
    let seconds = seconds.parse().map_err(|_| format!("{seconds:?} is no number of seconds"))?;
    let mut run = Run::default();
    run.fuzz(seconds);
    Ok(run.finish())
}

/// Measures the optimized binary and its peers.
pub(crate) fn bench(arguments: &[&str]) -> Result<bool, String> {
    let root = root();
    let environment = root.join(".venv-bench");
    let binary = target_folder().join("release/sawlog").display().to_string();
    let mut run = Run::default();
    run.commands("web", web_commands(&["ci", "run build"]));
    run.commands("optimized build", vec![cargo(&["build", "--release", "--workspace", "--bins", "--lib"])]);
    run.commands("peers", python_environment(&environment, "benches/requirements.txt"));
    run.commands("python", python_environment(&python_folder(), "tests/e2e/requirements.txt"));
    run.commands("package", python_environment(&package_environment(), "python/requirements.txt"));
    run.commands("doubles", doubles_commands()?);
    let words = [&["benches/bench.py", &binary], arguments].concat();
    run.commands("bench", vec![Step::new(&root, &environment.join("bin/python").display().to_string(), &words)]);
    Ok(run.failed_steps.is_empty())
}

/// Where cargo builds.
pub(crate) fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Builds the web page, which the binary embeds.
pub(crate) fn build_web() -> Result<bool, String> {
    let mut run = Run::default();
    run.commands("web", web_commands(&["ci", "run build"]));
    Ok(run.failed_steps.is_empty())
}

fn cargo(arguments: &[&str]) -> Step {
    Step::new(&root(), "cargo", arguments)
}

fn web_commands(scripts: &[&str]) -> Vec<Step> {
    let folder = root().join("web");
    scripts
        .iter()
        .map(|script| Step::new(&folder, "npm", &script.split(' ').chain(["--silent"]).collect::<Vec<_>>()))
        .collect()
}

/// Makes a Python environment and keeps it in step with its lock file by uv.
fn python_environment(environment: &Path, lock_file: &str) -> Vec<Step> {
    let root = root();
    let program = |name: &str| environment.join("bin").join(name).display().to_string();
    let (python, uv) = (program("python"), program("uv"));
    let mut steps = Vec::new();
    if !Path::new(&uv).exists() {
        steps.push(Step::new(&root, "python3", &["-m", "venv", &environment.display().to_string()]));
        steps.push(Step::new(&root, &python, &["-m", "pip", "install", "--quiet", "uv"]));
    }
    steps.push(Step::new(&root, &uv, &["pip", "sync", "--quiet", "--python", &python, lock_file]));
    steps
}

/// Builds and checks the doubles of Google's services, which tests start from [`doubles_folder`].
fn doubles_commands() -> Result<Vec<Step>, String> {
    let folder = root().join("tests/doubles");
    let output = format!("{}/", doubles_folder().display());
    write_python_double("bigquery")?;
    Ok(vec![
        Step::new(&folder, "go", &["vet", "./..."]),
        Step::new(&folder, "go", &["test", "./..."]),
        Step::new(&folder, "go", &["build", "-o", &output, "./cmd/..."]),
    ])
}

/// Builds Beam's runner Prism next to the doubles, in the version of the Python package's Beam.
fn prism_command() -> Result<Step, String> {
    let requirements = root().join("python/requirements.in");
    let text =
        std::fs::read_to_string(&requirements).map_err(|error| format!("{}: {error}", requirements.display()))?;
    let version = text.lines().find_map(|line| line.strip_prefix("apache-beam")?.split_once("==").map(|found| found.1));
    let version = version.ok_or_else(|| format!("{} names no version of apache-beam", requirements.display()))?;
    let module = format!("github.com/apache/beam/sdks/v2/go/cmd/prism@v{version}");
    let mut step = Step::new(&root(), "go", &["install", &module]);
    step.command.env("GOBIN", doubles_folder());
    Ok(step)
}

/// A program that runs a double written in Python in the environment of the tests.
fn write_python_double(name: &str) -> Result<(), String> {
    let (python, root) = (python_folder().join("bin/python"), root());
    let script = root.join("tests/doubles/python").join(format!("{name}.py"));
    let program = doubles_folder().join(name);
    let text = format!("#!/bin/sh\nexec '{}' '{}' \"$@\"\n", python.display(), script.display());
    let written = std::fs::create_dir_all(doubles_folder()).and_then(|()| std::fs::write(&program, text));
    let made = written.and_then(|()| std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)));
    made.map_err(|error| format!("{} cannot be written: {error}", program.display()))
}

/// The environment of the tests.
fn python_folder() -> PathBuf {
    root().join(".venv")
}

/// Where the doubles are built.
fn doubles_folder() -> PathBuf {
    target_folder().join("doubles")
}

/// The environment of the Python package.
fn package_environment() -> PathBuf {
    root().join(".venv-beam")
}

/// Puts the compiled module where Python finds it beside the package's sources.
fn place_module() -> Result<bool, String> {
    let built = target_folder().join("debug/lib_native.so");
    let place = root().join("python/sawlog/_native.abi3.so");
    // A module that a process has open is replaced, not overwritten.
    let part = place.with_extension("part");
    let copied = std::fs::copy(&built, &part).and_then(|_| std::fs::rename(&part, &place));
    copied.map(|()| true).map_err(|error| format!("{} cannot be put to {}: {error}", built.display(), place.display()))
}

/// Lints, types and tests of the Python package.
fn package_commands() -> Vec<Step> {
    let folder = root().join("python");
    let program = |name: &str| package_environment().join("bin").join(name).display().to_string();
    vec![
        Step::new(&folder, &program("ruff"), &["check", "--quiet", "."]),
        Step::new(&folder, &program("ruff"), &["format", "--check", "--quiet", "."]),
        Step::new(&folder, &program("mypy"), &[]),
        Step::new(&folder, &program("python"), &["-m", "pytest", "-q", "--color=no", "-rfE"]),
    ]
}

/// Builds a wheel of the Python package.
pub(crate) fn wheel() -> Result<bool, String> {
    let folder = root().join("python");
    let mut run = Run::default();
    run.commands("package environment", python_environment(&package_environment(), "python/requirements.txt"));
    let maturin = package_environment().join("bin/maturin").display().to_string();
    // Linked against an old glibc, so that the wheel runs where Dataflow and Dataproc do.
    let words = ["build", "--release", "--locked", "--zig", "--compatibility", "manylinux_2_28", "--out", "dist"];
    let mut build = Step::new(&folder, &maturin, &words);
    // Where maturin looks for zig.
    let path = std::env::var("PATH").unwrap_or_default();
    build.command.env("PATH", format!("{}:{path}", package_environment().join("bin").display()));
    run.commands("wheel", vec![build]);
    Ok(run.failed_steps.is_empty())
}

fn end_to_end_commands() -> Vec<Step> {
    let root = root();
    let python = python_folder().join("bin/python").display().to_string();
    vec![Step::new(&root.join("tests/e2e"), &python, &["-m", "pytest", "-q", "--color=no", "-rfE"])]
}

pub(crate) struct Step {
    pub(crate) command: Command,
    words: String,
}

impl Step {
    pub(crate) fn new(folder: &Path, program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped());
        // Cargo describes this package to us in variables that build scripts watch: passed on, they would make a
        // nested cargo build half the dependencies again.
        for (name, _) in std::env::vars_os() {
            let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
            if of_package.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        Self { command, words: format!("{program} {}", arguments.join(" ")) }
    }

    /// Runs the command, passing its output on and counting the tests that it reports.
    fn run(mut self) -> Result<(bool, Counts), String> {
        let mut child = self.command.spawn().map_err(|error| format!("{}: {error}", self.words))?;
        let mut counts = Counts::default();
        if let Some(output) = child.stdout.take() {
            for line in BufReader::new(output).split(b'\n') {
                let line = line.map_err(|error| error.to_string())?;
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                counts.add(Counts::of_line(&line).unwrap_or_default());
            }
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        if !status.success() {
            println!("failed: {} ({status})", self.words);
        }
        Ok((status.success(), counts))
    }
}

#[derive(Default)]
struct Run {
    counts: Counts,
    failed_steps: Vec<String>,
    /// Variables that the commands get.
    environment: &'static [(&'static str, &'static str)],
}

impl Run {
    fn checks(&mut self) {
        self.step("tidy", || Ok((tidy::check_and_print()?, Counts::default())));
        self.commands("web", web_commands(&["ci", "run check", "test", "run build"]));
        self.commands("format", vec![cargo(&["fmt", "--all", "--check"])]);
        let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"];
        self.commands("clippy", vec![cargo(&clippy)]);
        self.commands("fuzz targets compile", fuzz::check());
        self.commands("python environment", python_environment(&python_folder(), "tests/e2e/requirements.txt"));
        match doubles_commands() {
            Ok(steps) => self.commands("doubles of Google's services", steps),
            Err(error) => self.step("doubles of Google's services", || Err(error)),
        }
        let build = cargo(&["build", "--workspace", "--bins", "--lib"]);
        self.commands("rust tests", vec![build, cargo(&["test", "--workspace", "--no-fail-fast"])]);
        self.commands("end-to-end tests", end_to_end_commands());
        self.commands("package environment", python_environment(&package_environment(), "python/requirements.txt"));
        self.step("package", || Ok((place_module()?, Counts::default())));
        match prism_command() {
            Ok(step) => self.commands("runner of Beam", vec![step]),
            Err(error) => self.step("runner of Beam", || Err(error)),
        }
        self.commands("package tests", package_commands());
    }

    fn fuzz(&mut self, seconds: u64) {
        self.commands("fuzz build", fuzz::build());
        for target in fuzz::targets() {
            let step = target.run(seconds);
            self.step(&format!("fuzz {}", target.name), || {
                let (is_fine, _) = step.run()?;
                let (passed, failed) = (u64::from(is_fine), u64::from(!is_fine));
                Ok((is_fine, Counts { passed, failed }))
            });
        }
    }

    fn commands(&mut self, name: &str, steps: Vec<Step>) {
        let environment = self.environment;
        self.step(name, move || {
            let mut counts = Counts::default();
            for mut step in steps {
                step.command.envs(environment.iter().copied());
                let (is_fine, found) = step.run()?;
                counts.add(found);
                if !is_fine {
                    return Ok((false, counts));
                }
            }
            Ok((true, counts))
        });
    }

    fn step(&mut self, name: &str, run: impl FnOnce() -> Result<(bool, Counts), String>) {
        println!("── {name}");
        let started = Instant::now();
        let (is_fine, counts) = run().unwrap_or_else(|error| {
            println!("{error}");
            (false, Counts::default())
        });
        self.counts.add(counts);
        if !is_fine {
            self.failed_steps.push(name.to_owned());
        }
        let verdict = if is_fine { "ok" } else { "FAILED" };
        println!("── {name}: {verdict} in {} s", started.elapsed().as_secs());
    }

    fn finish(mut self) -> bool {
        // A step without tests of its own (formatting, lints) that failed counts as one failed test.
        if !self.failed_steps.is_empty() {
            println!("failed steps: {}", self.failed_steps.join(", "));
            self.counts.failed = self.counts.failed.max(self.failed_steps.len() as u64);
        }
        println!("{} passed, {} failed", self.counts.passed, self.counts.failed);
        self.failed_steps.is_empty() && self.counts.failed == 0 && self.counts.passed > 0
    }
}
