//! The steps of `make test`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::summary::Counts;
use crate::tools::root;
use crate::{tidy, tools};

/// Runs every check; later steps run even when an earlier one failed.
pub(crate) fn test() -> Result<bool, String> {
    tools::for_tests()?;
    let mut run = Run::default();
    run.step("tidy", || Ok((tidy::check_and_print()?, Counts::default())));
    run.commands("web", web_commands(&["ci", "run check", "test", "run build"]));
    run.commands("format", vec![cargo(&["fmt", "--all", "--check"])]);
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    run.commands("clippy", vec![cargo(&clippy)]);
    run.commands("rust tests", vec![cargo(&["build", "--workspace", "--bins"]), cargo(&["test", "--workspace"])]);
    run.commands("end-to-end tests", end_to_end_commands());
    Ok(run.finish())
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

/// The end-to-end tests run in one locked Python environment of the checkout, kept in step with its lock file by uv.
fn end_to_end_commands() -> Vec<Step> {
    let root = root();
    let in_environment = |program: &str| root.join(".venv/bin").join(program).display().to_string();
    let (python, uv) = (in_environment("python"), in_environment("uv"));
    let mut steps = Vec::new();
    if !Path::new(&uv).exists() {
        steps.push(Step::new(&root, "python3", &["-m", "venv", ".venv"]));
        steps.push(Step::new(&root, &python, &["-m", "pip", "install", "--quiet", "uv"]));
    }
    let sync = ["pip", "sync", "--quiet", "--python", &python, "tests/e2e/requirements.txt"];
    steps.push(Step::new(&root, &uv, &sync));
    steps.push(Step::new(&root.join("tests/e2e"), &python, &["-m", "pytest", "-q", "--color=no", "-rfE"]));
    steps
}

struct Step {
    command: Command,
    words: String,
}

impl Step {
    fn new(folder: &Path, program: &str, arguments: &[&str]) -> Self {
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
}

impl Run {
    fn commands(&mut self, name: &str, steps: Vec<Step>) {
        self.step(name, move || {
            let mut counts = Counts::default();
            for step in steps {
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
