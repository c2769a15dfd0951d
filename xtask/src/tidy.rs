//! Rules of the source tree that no lint covers.
//!
//! Each module says what it is for; files stay within a readable length; the core keeps few dependencies; crates
//! depend on each other in one direction only; open work in a comment carries an issue number.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::tools::root;

const FILE_LINES_MAX: usize = 800;
const CORE_DEPENDENCIES_MAX: usize = 12;

/// Which crates of the workspace a crate may use.
const DIRECTIONS: [(&str, &[&str]); 14] = [
    ("sawlog-core", &[]),
    ("sawlog-generate", &[]),
    ("sawlog-python", &["sawlog-core"]),
    ("sawlog-telemetry", &["sawlog-core"]),
    ("sawlog-seams", &["sawlog-core"]),
    ("sawlog-wal", &["sawlog-seams"]),
    ("sawlog-stream", &["sawlog-core", "sawlog-seams", "sawlog-telemetry"]),
    ("sawlog-store", &["sawlog-core", "sawlog-seams", "sawlog-telemetry"]),
    ("sawlog-query", &["sawlog-core", "sawlog-seams", "sawlog-store", "sawlog-telemetry"]),
    ("sawlog-jobs", &["sawlog-core", "sawlog-seams", "sawlog-telemetry"]),
    ("sawlog-gcp", &["sawlog-core", "sawlog-seams", "sawlog-stream", "sawlog-telemetry"]),
    ("sawlog-server", &["sawlog-core", "sawlog-seams", "sawlog-stream", "sawlog-query", "sawlog-telemetry"]),
    (
        "sawlog",
        &[
            "sawlog-core",
            "sawlog-generate",
            "sawlog-gcp",
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
    let dependencies = dependencies(&text).map_err(|error| format!("{}: {error}", path.display()))?;
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

/// The crates that a manifest names for the library and its build script, on any platform; a renamed one by its real
/// name. What tests alone use does not count.
fn dependencies(manifest: &str) -> Result<BTreeSet<String>, toml::de::Error> {
    const TABLES: [&str; 2] = ["dependencies", "build-dependencies"];
    let manifest: Table = manifest.parse()?;
    let platforms = manifest.get("target").and_then(Value::as_table);
    let parts =
        std::iter::once(&manifest).chain(platforms.into_iter().flat_map(Table::values).filter_map(Value::as_table));
    let tables = parts.flat_map(|part| TABLES.into_iter().filter_map(|name| part.get(name)?.as_table()));
    let real_name = |(name, value): (&String, &Value)| {
        value.get("package").and_then(Value::as_str).map_or_else(|| name.clone(), str::to_owned)
    };
    Ok(tables.flat_map(|table| table.iter().map(real_name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_found_however_a_manifest_names_them() {
        let manifest = "[dependencies]\na = \"1\"\nb.workspace = true\nx = { package = \"c\", version = \"1\" }\n\
                        [dependencies.d]\nworkspace = true\n[build-dependencies.e]\nworkspace = true\n\
                        [target.'cfg(unix)'.dependencies]\nf = \"1\"\n[target.'cfg(windows)'.dependencies.g]\n\
                        version = \"1\"\n[dev-dependencies]\nh = \"1\"\n";
        let found = dependencies(manifest).expect("a manifest");
        assert_eq!(found.into_iter().collect::<String>(), "abcdefg");
    }
}
