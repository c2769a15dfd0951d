//! Running doubles (tests/doubles), each a process of its own on a free port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

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

    /// URL of its first address.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addresses[0])
    }

    /// Posts JSON as a test may; the answer's JSON, or null where there is none.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        self.request("POST", path, &body.to_string())
    }

    /// Puts JSON.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Value {
        self.request("PUT", path, &body.to_string())
    }

    /// Gets JSON.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.request("GET", path, "")
    }

    /// Deletes what a path stands for.
    pub(crate) fn delete(&self, path: &str) {
        self.request("DELETE", path, "");
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(&self.addresses[0]).expect("the double listens");
        // HTTP/1.0: the answer is in one piece and ends with the connection.
        let head = format!("{method} {path} HTTP/1.0\r\nHost: double\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(" 200 "), "{method} {path}: {answer}");
        if body.is_empty() { Value::Null } else { serde_json::from_str(body).expect("JSON") }
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
