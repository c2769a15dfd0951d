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

struct Tool {
    program: &'static str,
    install: &'static str,
}

const BUILD_TOOLS: [Tool; 3] = [
    Tool { program: "cc", install: "apt-get install build-essential" },
    Tool { program: "node", install: "install Node.js 20 or newer, e.g. apt-get install nodejs npm" },
    Tool { program: "npm", install: "apt-get install npm" },
];

fn is_there(program: &str) -> bool {
    let mut probe = Command::new(program);
    probe.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok()
}

/// Checks what the demo needs.
pub(crate) fn for_demo() -> Result<bool, String> {
    let missing: Vec<&Tool> = BUILD_TOOLS.iter().filter(|tool| !is_there(tool.program)).collect();
    for tool in &missing {
        eprintln!("missing: {} — {}", tool.program, tool.install);
    }
    Ok(missing.is_empty())
}

/// Checks what the tests need, and installs Debian packages where that is possible.
pub(crate) fn for_tests() -> Result<(), String> {
    if !for_demo()? || !is_there("python3") {
        return Err("install the missing programs and run again (tests also need python3 with venv)".to_owned());
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
