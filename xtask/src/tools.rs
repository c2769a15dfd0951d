//! Programs that the checkout needs, and how to get them.
//!
//! For: naming what is missing with its install line, and installing what tests need where this user may.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Root of the checkout. Asked for at run time: checkouts share a target folder, so that this program may have been
/// built in another one.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    manifest.as_deref().and_then(Path::parent).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The oldest Node.js that builds and tests the page.
const NODE_MAJOR_MIN: u32 = 20;
const NODE_INSTALL: &str = "install Node.js 20 or newer from https://nodejs.org, or: apt-get install nodejs npm";

fn is_there(program: &str) -> bool {
    let mut probe = Command::new(program);
    probe.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok()
}

/// Checks what the demo needs. The Makefile has checked what this program itself was built with: cc and Rust.
pub(crate) fn for_demo() -> Result<bool, String> {
    let mut problems = Vec::new();
    match version_of("node") {
        None => problems.push(format!("missing: node — {NODE_INSTALL}")),
        Some(version) if major(&version).is_none_or(|major| major < NODE_MAJOR_MIN) => {
            problems.push(format!("too old: Node.js {version}, {NODE_MAJOR_MIN} is needed — {NODE_INSTALL}"));
        }
        Some(_) => {}
    }
    if !is_there("npm") {
        problems.push("missing: npm — apt-get install npm".to_owned());
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    Ok(problems.is_empty())
}

fn version_of(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The first number of a version: 20 of `v20.1.0`.
fn major(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split('.').next()?.parse().ok()
}

/// The oldest Go that builds the doubles.
const GO_MIN: (u32, u32) = (1, 24);
const GO_INSTALL: &str = "install it from https://go.dev/dl, or: apt-get install golang";

fn go_version() -> Option<(u32, u32)> {
    let output = Command::new("go").args(["env", "GOVERSION"]).stdin(Stdio::null()).output().ok()?;
    two_numbers(String::from_utf8_lossy(&output.stdout).trim())
}

/// The first two numbers of a version: 1 and 26 of `go1.26.8`.
fn two_numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches("go").split('.').map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// Checks what the tests need, and installs Debian packages where that is possible.
pub(crate) fn for_tests() -> Result<(), String> {
    if !for_demo()? || !is_there("python3") {
        return Err("install the missing programs and run again (tests also need python3 with venv)".to_owned());
    }
    if go_version().is_none_or(|version| version < GO_MIN) {
        let (major, minor) = GO_MIN;
        return Err(format!(
            "missing: Go {major}.{minor} or newer, in which the doubles of Google's services are written: {GO_INSTALL}"
        ));
    }
    let wanted: Vec<&str> = [("chromium", "chromium"), ("psql", "postgresql-client"), ("strace", "strace")]
        .into_iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| package)
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    eprintln!("installing for the tests: {}", wanted.join(" "));
    let steps =
        [vec!["update", "-qq"], [vec!["install", "-y", "-qq", "--no-install-recommends"], wanted.clone()].concat()];
    for arguments in steps {
        let mut command = Command::new("apt-get");
        command.args(&arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
        let is_done = command.status().is_ok_and(|status| status.success());
        if !is_done {
            return Err(format!("run as root: apt-get install {}", wanted.join(" ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_versions_are_read() {
        assert_eq!(major("v20.20.2"), Some(20));
        assert_eq!(major("9"), Some(9));
        assert_eq!(major("unknown"), None);
        assert_eq!(two_numbers("go1.26.8"), Some((1, 26)));
        assert_eq!(two_numbers("devel"), None);
    }
}
