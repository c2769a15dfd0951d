//! The lake in Cloud Storage, on the double of tests/doubles/internal/storage.

mod faults;
mod large;
mod spool;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sawlog_gcp::Access;
use sawlog_gcp::storage::{GcsLake, GcsLakeOptions};
use sawlog_seams::lake::Lake;
use tempfile::TempDir;

use crate::double::Double;

const BUCKET: &str = "lake";
const PREFIX: &str = "logs/prod";

/// A double with one bucket.
struct Service {
    root: TempDir,
    /// None while it is away.
    double: Option<Double>,
    address: String,
}

impl Service {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(arguments: &[&str]) -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().display().to_string();
        let double = Double::start("storage", &[&["-root", &folder, "-bucket", BUCKET], arguments].concat(), 1);
        let address = double.addresses[0].clone();
        Self { root, double: Some(double), address }
    }

    /// Kills the service.
    fn kill(&mut self) {
        self.double = None;
    }

    /// Starts it again at the same address.
    fn restart(&mut self) {
        let folder = self.root.path().display().to_string();
        self.double = Some(Double::start("storage", &["-root", &folder, "-listen", &self.address], 1));
    }

    fn options(&self) -> GcsLakeOptions {
        GcsLakeOptions {
            bucket: BUCKET.to_owned(),
            prefix: PREFIX.to_owned(),
            access: Access::new(Some(format!("http://{}", self.address))).expect("a URL"),
            try_deadline: Duration::from_secs(1),
            call_deadline: Duration::from_secs(4),
        }
    }

    fn lake(&self) -> GcsLake {
        GcsLake::open(self.options()).expect("a lake")
    }

    /// The file of an object.
    fn file(&self, key: &str) -> PathBuf {
        self.root.path().join(BUCKET).join(PREFIX).join(key)
    }

    /// Lets calls fail; tests/doubles/internal/storage/faults.go says how.
    fn fault(&self, fault: &str) {
        let answer = self.control("POST", fault);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Ends all faults, lets go of calls that hang, and counts from zero.
    fn heal(&self) {
        self.control("DELETE", "");
    }

    /// How many calls of a kind there were.
    fn calls(&self, kind: &str) -> usize {
        let answer = self.control("GET", "");
        let Some((_, rest)) = answer.split_once(&format!("\"{kind}\":")) else { return 0 };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a count")
    }

    fn control(&self, method: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("a running double");
        let (host, length) = (&self.address, body.len());
        write!(stream, "{method} /control/faults HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl sawlog_seams::contract::lake::Fixture for Service {
    fn open(&self) -> Arc<dyn Lake> {
        Arc::new(self.lake())
    }
}

sawlog_seams::lake_contract!(Service::start());

#[tokio::test]
async fn a_list_has_the_keys_of_all_pages() {
    let service = Service::with(&["-page", "3"]);
    let lake = service.lake();
    let mut keys: Vec<String> = (0..10).map(|number| format!("raw/{number}/x=ü y+%2F.parquet")).collect();
    for key in &keys {
        lake.put(key, Bytes::from(key.clone())).await.expect("stored");
    }
    keys.sort();
    service.fault(r#"{"Kind":"list","Skip":1,"Action":"status","Status":503}"#);
    assert_eq!(lake.list("raw").await.expect("keys"), keys);
    assert_eq!(service.calls("list"), 5, "four pages, of which the one that failed was asked for again");
    assert_eq!(std::fs::read_to_string(service.file(&keys[3])).expect("a file"), keys[3]);
}
