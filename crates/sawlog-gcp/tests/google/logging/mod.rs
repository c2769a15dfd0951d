//! Cloud Logging: entries that are listed and tailed, and those that Sawlog writes.

mod backfill;
mod gaps;
mod sink;
mod tail;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use sawlog_gcp::Access;
use sawlog_gcp::logging::{Backoff, LoggingQuery, LoggingState, Pace};
use sawlog_seams::{Clock, SystemClock};
use sawlog_stream::Pipeline;
use sawlog_telemetry::Metrics;
use serde_json::{Value, json};

use crate::double::Double;
use crate::world::World;

const PROJECT: &str = "projects/sawlog-test";

/// The double with what its tests ask of it.
struct LoggingDouble(Double);

impl LoggingDouble {
    fn start() -> Self {
        Self(Double::start("logging", &[], 1))
    }

    fn access(&self) -> Access {
        Access::new(Some(self.0.url())).expect("a URL")
    }

    /// A query of the project that waits only moments.
    fn query(&self) -> LoggingQuery {
        LoggingQuery {
            access: self.access(),
            answer_max: Duration::from_secs(2),
            backoff: Backoff { first: Duration::from_millis(10), max: Duration::from_millis(100) },
            ..LoggingQuery::new(PROJECT, "logging")
        }
    }

    /// Writes entries of a log as another program would.
    fn write(&self, log: &str, entries: &[Value]) {
        for entries in entries.chunks(500) {
            let request = json!({
                "logName": format!("{PROJECT}/logs/{log}"), "resource": {"type": "global"}, "entries": entries,
            });
            self.0.post("/v2/entries:write", &request);
        }
    }

    /// The entries that pass a filter, at most 1,000.
    fn list(&self, filter: &str) -> Vec<Value> {
        let request = json!({"resourceNames": [PROJECT], "filter": filter, "pageSize": 1000});
        let answer = self.0.post("/v2/entries:list", &request);
        answer["entries"].as_array().cloned().unwrap_or_default()
    }

    fn fail(&self, fault: Value) {
        self.0.post("/_faults", &fault);
    }

    fn fail_no_more(&self) {
        self.0.delete("/_faults");
    }

    fn control(&self, wish: Value) {
        self.0.post("/_logging", &wish);
    }

    /// How often a method was called.
    fn calls(&self, method: &str) -> u64 {
        self.0.get("/_faults")[method].as_u64().unwrap_or_default()
    }
}

fn state(world: &World, pipeline: &Arc<Pipeline>, reads_per_minute: u32) -> LoggingState {
    LoggingState {
        pipeline: Arc::clone(pipeline),
        metrics: Arc::new(Metrics::default()),
        disk: world.disk.clone(),
        clock: Arc::new(SystemClock::new()),
        pace: Arc::new(Pace::new(NonZeroU32::new(reads_per_minute).expect("not zero"))),
    }
}

fn now() -> i64 {
    SystemClock::new().now_micros()
}

/// An entry of that time, microseconds.
fn entry(number: usize, time: i64) -> Value {
    json!({
        "insertId": format!("id-{number}"), "timestamp": sawlog_core::time::to_rfc3339(time), "severity": "INFO",
        "jsonPayload": {"message": format!("order {number}")},
    })
}

/// Waits until something holds.
async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("after ten seconds it does not hold that {what}");
}
