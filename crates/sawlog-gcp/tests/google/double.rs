//! Running doubles (tests/doubles), each a process of its own on a free port.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A running double; it ends with this value.
pub(crate) struct Double {
    process: Child,
    /// `HOST:PORT` where it listens; more than one for a service with several.
    pub(crate) addresses: Vec<String>,
}

impl Double {
    /// Starts the double of a service that listens on so many addresses: the program of that name of `make test`'s folder of
    /// doubles.
    pub(crate) fn start(service: &str, arguments: &[&str], addresses: usize) -> Self {
        let program = folder().join(service);
        let mut command = Command::new(&program);
        // The double may end with its input, which is this process's end of a pipe: a static value is never dropped.
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| {
            panic!("{} cannot be started ({error}); `make test` builds it, and so does `go build -o {}/ ./cmd/...` in tests/doubles", program.display(), folder().display())
        });
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let addresses = output.lines().take(addresses).map(|line| line.expect("an address")).collect();
        Self { process, addresses }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Beside what cargo builds: `<target>/doubles`, as this program is `<target>/<profile>/deps/<name>`.
fn folder() -> PathBuf {
    match std::env::var_os("SAWLOG_DOUBLES") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let program = std::env::current_exe().expect("a path");
            program.ancestors().nth(3).expect("a target folder").join("doubles")
        }
    }
}
