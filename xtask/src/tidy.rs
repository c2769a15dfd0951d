//! Rules of the source tree that no lint covers.
//!
//! Each module says what it is for; files stay within a readable length; the core keeps few dependencies; crates
//! depend on each other in one direction only; open work in a comment carries an issue number.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tools::root;

const FILE_LINES_MAX: usize = 800;
const CORE_DEPENDENCIES_MAX: usize = 12;

/// Which crates of the workspace a crate may use.
const DIRECTIONS: [(&str, &[&str]); 12] = [
    ("sawlog-core", &[]),
    ("sawlog-generate", &[]),
    ("sawlog-telemetry", &["sawlog-core"]),
    ("sawlog-seams", &["sawlog-core"]),
    ("sawlog-wal", &["sawlog-seams"]),
    ("sawlog-stream", &["sawlog-core", "sawlog-seams", "sawlog-telemetry"]),
    ("sawlog-store", &["sawlog-core", "sawlog-seams", "sawlog-telemetry"]),
    ("sawlog-query", &["sawlog-core", "sawlog-seams", "sawlog-store", "sawlog-telemetry"]),
    ("sawlog-jobs", &["sawlog-core", "sawlog-seams", "sawlog-telemetry"]),
    ("sawlog-server", &["sawlog-core", "sawlog-seams", "sawlog-stream", "sawlog-query", "sawlog-telemetry"]),
    (
        "sawlog",
        &[
            "sawlog-core",
            "sawlog-generate",
            "sawlog-jobs",
            "sawlog-query",
            "sawlog-seams",
            "sawlog-server",
            "sawlog-store",
            "sawlog-stream",
            "sawlog-telemetry",
            "sawlog-wal",
        ],
    ),
    ("xtask", &[]),
];

/// Checks and prints what is wrong. Returns whether all is well.
pub(crate) fn check_and_print() -> Result<bool, String> {
    let mut findings = Vec::new();
    let root = root();
    for file in rust_files(&root.join("crates"))?.into_iter().chain(rust_files(&root.join("xtask"))?) {
        check_file(&root, &file, &mut findings)?;
    }
    for (name, allowed) in DIRECTIONS {
        check_manifest(&root, name, allowed, &mut findings)?;
    }
    for finding in &findings {
        println!("tidy: {finding}");
    }
    Ok(findings.is_empty())
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn check_file(root: &Path, file: &Path, findings: &mut Vec<String>) -> Result<(), String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let name = file.strip_prefix(root).unwrap_or(file).display();
    if !text.starts_with("//!") && !text.starts_with("#!") {
        findings.push(format!("{name} does not say what it is for (a //! comment at its top)"));
    }
    let line_count = text.lines().count();
    if line_count > FILE_LINES_MAX {
        findings.push(format!(
            "{name} has {line_count} lines, more than {FILE_LINES_MAX}: look for a second responsibility"
        ));
    }
    let mark = ["TO", "DO"].concat();
    for (index, line) in text.lines().enumerate() {
        if line.contains(&mark) && !line.contains('#') {
            findings.push(format!("{name}:{} has a {mark} without an issue number", index + 1));
        }
    }
    Ok(())
}

fn check_manifest(root: &Path, name: &str, allowed: &[&str], findings: &mut Vec<String>) -> Result<(), String> {
    let folder = if name == "xtask" { root.join(name) } else { root.join("crates").join(name) };
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let dependencies = section(&text, "[dependencies]");
    for used in dependencies.iter().filter(|used| used.starts_with("sawlog")) {
        if !allowed.contains(&used.as_str()) {
            findings.push(format!("{name} must not depend on {used}"));
        }
    }
    if name == "sawlog-core" && dependencies.len() > CORE_DEPENDENCIES_MAX {
        findings.push(format!("{name} has {} dependencies, more than {CORE_DEPENDENCIES_MAX}", dependencies.len()));
    }
    Ok(())
}

fn section(manifest: &str, title: &str) -> Vec<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != title)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}
