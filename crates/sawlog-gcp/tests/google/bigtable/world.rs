//! A running Bigtable with tables, and workers on it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sawlog_gcp::Access;
use sawlog_gcp::bigtable::{Bigtable, BigtableOptions, BigtableServing, BigtableSnapshot};
use sawlog_gcp::call::RetryPolicy;
use sawlog_seams::Position;
use sawlog_seams::serving::{Cell, Family, MemoryServing, Mutation, ServingSnapshot, ServingStore};

use crate::double::Double;

pub(super) struct World {
    _double: Double,
    control: String,
    pub(super) options: BigtableOptions,
    /// The worker's disk.
    pub(super) disk: Mutex<Arc<MemoryServing>>,
}

impl World {
    pub(super) fn new() -> Self {
        let double = Double::start("bigtable", &[], 2);
        let control = double.addresses[1].clone();
        let mut options = BigtableOptions::new("project", "instance", "sawlog");
        options.access = Access::new(Some(format!("http://{}", double.addresses[0]))).expect("a URL");
        options.retry = RetryPolicy {
            delay_first: Duration::from_millis(1),
            delay_max: Duration::from_millis(10),
            try_max: Duration::from_secs(2),
            total_max: Duration::from_secs(5),
            ..RetryPolicy::default()
        };
        let world = Self { _double: double, control, options, disk: Mutex::default() };
        world.connect().ensure_tables().expect("tables");
        world
    }

    pub(super) fn connect(&self) -> Arc<Bigtable> {
        Bigtable::connect(self.options.clone()).expect("a connection")
    }

    /// Opens the worker's store on its disk.
    pub(super) fn open(&self) -> BigtableServing {
        BigtableServing::open(self.connect(), self.disk()).expect("a store")
    }

    pub(super) fn disk(&self) -> Arc<MemoryServing> {
        Arc::clone(&self.disk.lock().expect("no panic"))
    }

    /// Gives the worker a new disk, and the old one to the caller.
    pub(super) fn take_disk(&self) -> Arc<MemoryServing> {
        std::mem::take(&mut *self.disk.lock().expect("no panic"))
    }

    pub(super) fn insert_disk(&self, disk: Arc<MemoryServing>) {
        *self.disk.lock().expect("no panic") = disk;
    }

    /// Gives the worker a new disk.
    pub(super) fn lose_disk(&self) {
        drop(self.take_disk());
    }

    /// What another process sees.
    pub(super) fn reader(&self) -> BigtableSnapshot {
        self.connect().snapshot().expect("a snapshot")
    }

    /// Sets a fault (see tests/doubles/internal/bigtable/faults.go).
    pub(super) fn fail(&self, fault: &str) {
        assert_eq!(self.http("POST", "/faults", fault).0, 200, "{fault}");
    }

    /// How many calls of a kind there were.
    pub(super) fn calls(&self, method: &str) -> u64 {
        let calls: BTreeMap<String, u64> = serde_json::from_str(&self.http("GET", "/calls", "").1).expect("counts");
        calls.get(method).copied().unwrap_or(0)
    }

    /// Keys that the two tables made last were cut at, by the id of the table.
    pub(super) fn splits(&self) -> Vec<(String, usize)> {
        let made: Vec<(String, usize)> = serde_json::from_str(&self.http("GET", "/splits", "").1).expect("counts");
        made[made.len() - 2..].to_vec()
    }

    fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.control).expect("the double's control");
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head[9..12].parse().expect("a status"), body.to_owned())
    }
}

pub(super) fn set(family: Family, key: &str, value: &str) -> Mutation {
    Mutation { family, key: key.into(), value: Some(value.into()) }
}

pub(super) fn remove(family: Family, key: &str) -> Mutation {
    Mutation { family, key: key.into(), value: None }
}

#[track_caller]
pub(super) fn apply(store: &dyn ServingStore, mutations: Vec<Mutation>, position: u64) {
    store.apply(mutations, Position(position)).expect("applied");
}

/// All cells of a family, as texts.
#[track_caller]
pub(super) fn cells(snapshot: &dyn ServingSnapshot, family: Family) -> Vec<String> {
    let text = |(key, value): Cell| format!("{}={}", key.escape_ascii(), value.escape_ascii());
    snapshot.scan(family, b"", None).expect("cells").into_iter().map(text).collect()
}
