//! Entries as the records of a body.
//!
//! For: a LogEntry's JSON form on one line, which is what a Log Router sends too, and its place in time. Not for: what its
//! fields mean (`sawlog_core`).

use google_cloud_logging_v2::model::LogEntry;
use sawlog_core::time::to_rfc3339 as to_rfc3339_micros;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most bytes of a body.
pub(super) const BODY_BYTES: usize = 4 << 20;

/// Time of an entry, UTC nanoseconds since the epoch: the years 1678 to 2261, others are at their ends.
pub(super) type Nanos = i64;

/// Where an entry is in a log: entries with equal times are told apart by their ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) time: Nanos,
    /// The entry's `insertId`, which is unique beside its time and log.
    pub(super) id: String,
}

/// An entry that is ready for a body.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) place: Place,
    pub(super) line: Vec<u8>,
}

impl Ready {
    /// The entry as the service would write it to a file.
    pub(super) fn new(entry: &LogEntry) -> Result<Self, serde_json::Error> {
        let mut fields = serde_json::to_value(entry)?;
        // The client writes enumerations as numbers; people and rules know their names.
        if let (Some(severity), Some(name)) = (fields.get_mut("severity"), entry.severity.name()) {
            *severity = Value::from(name);
        }
        Ok(Self { place: place(entry), line: serde_json::to_vec(&fields)? })
    }
}

/// Where an entry is.
pub(super) fn place(entry: &LogEntry) -> Place {
    let time = entry.timestamp.as_ref().or(entry.receive_timestamp.as_ref());
    let nanos =
        time.map_or(0, |time| time.seconds().saturating_mul(1_000_000_000).saturating_add(Nanos::from(time.nanos())));
    Place { time: nanos, id: format!("{}/{}", entry.log_name, entry.insert_id) }
}

/// Whether the client lost the payload: it does not decode protobuf payloads of a stream, only those of a list.
pub(super) fn has_lost_its_payload(entry: &LogEntry) -> bool {
    entry.proto_payload().is_some_and(|payload| payload.type_url().is_none_or(str::is_empty))
}

/// The entries in runs that each make a body of bounded size.
pub(super) fn bodies(mut entries: Vec<Ready>) -> Vec<Vec<Ready>> {
    let mut bodies = Vec::new();
    while !entries.is_empty() {
        let mut bytes = 0;
        let fitting = entries.iter().position(|entry| {
            bytes += entry.line.len() + 1;
            bytes > BODY_BYTES
        });
        let rest = entries.split_off(fitting.unwrap_or(entries.len()).max(1));
        bodies.push(std::mem::replace(&mut entries, rest));
    }
    bodies
}

/// One body of lines.
pub(super) fn body(entries: &[Ready]) -> Vec<u8> {
    let mut body = Vec::with_capacity(entries.iter().map(|entry| entry.line.len() + 1).sum());
    for entry in entries {
        body.extend_from_slice(&entry.line);
        body.push(b'\n');
    }
    body
}

/// A time in RFC 3339 with nanoseconds, as filters take it.
pub(super) fn to_rfc3339(time: Nanos) -> String {
    let micros = to_rfc3339_micros(time.div_euclid(1_000));
    format!("{}{:03}Z", micros.trim_end_matches('Z'), time.rem_euclid(1_000))
}

/// Nanoseconds of microseconds, UTC since the epoch.
pub(super) const fn nanos(micros: i64) -> Nanos {
    micros.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: Value) -> LogEntry {
        serde_json::from_value(json).expect("an entry")
    }

    #[test]
    fn an_entry_keeps_all_its_fields_and_says_its_severity_in_words() {
        let json = serde_json::json!({
            "logName": "projects/p/logs/l", "timestamp": "2026-11-24T02:00:00.123456789Z", "severity": 500, "insertId": "i",
            "errorGroups": [{"id": "g"}], "protoPayload": {"@type": "type.googleapis.com/a.B", "c": 1},
            "httpRequest": {"latency": "1.5s", "requestSize": "9"},
        });
        let ready = Ready::new(&entry(json.clone())).expect("JSON");
        let mut wanted = json;
        wanted["severity"] = "ERROR".into();
        assert_eq!(serde_json::from_slice::<Value>(&ready.line).expect("JSON"), wanted);
        assert_eq!(ready.place.id, "projects/p/logs/l/i");
        assert_eq!(to_rfc3339(ready.place.time), "2026-11-24T02:00:00.123456789Z");
    }

    #[test]
    fn only_a_payload_without_its_type_is_lost() {
        let lost = LogEntry::new().set_proto_payload(google_cloud_wkt::Any::default());
        assert!(has_lost_its_payload(&lost));
        let whole = entry(serde_json::json!({"protoPayload": {"@type": "type.googleapis.com/a.B"}}));
        assert!(!has_lost_its_payload(&whole));
        assert!(!has_lost_its_payload(&LogEntry::new().set_text_payload("x")));
    }

    #[test]
    fn bodies_are_bounded_and_hold_all_entries_in_order() {
        let ready = |number: usize, bytes: usize| Ready {
            place: Place { time: number as Nanos, id: String::new() },
            line: vec![b'x'; bytes],
        };
        let entries: Vec<_> =
            (0..10).map(|number| ready(number, BODY_BYTES / 3)).chain([ready(10, BODY_BYTES + 1)]).collect();
        let bodies = bodies(entries);
        let times: Vec<_> = bodies.iter().flatten().map(|entry| entry.place.time).collect();
        assert_eq!(times, (0..11).collect::<Vec<_>>());
        assert!(bodies.iter().all(|one| one.len() == 1 || body(one).len() <= BODY_BYTES), "bounded");
    }
}
