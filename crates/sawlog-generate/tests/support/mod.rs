//! What the tests of the stream share.

use sawlog_generate::{Defect, Generated, Generator, Scenario};
use serde_json::Value;

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const HOUR: i64 = 3600 * SECOND;

/// One record with what is known of it.
pub(crate) struct Record {
    pub(crate) meta: Generated,
    pub(crate) bytes: Vec<u8>,
}

impl Record {
    pub(crate) const fn is_malformed(&self) -> bool {
        matches!(self.meta.defect, Some(Defect::Malformed(_)))
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.bytes);
        parsed.unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&self.bytes)))
    }
}

fn next(generator: &mut Generator) -> Record {
    let mut bytes = Vec::new();
    let meta = generator.next_into(&mut bytes);
    Record { meta, bytes }
}

/// The first records of a stream.
#[track_caller]
pub(crate) fn records(scenario: Scenario, count: usize) -> Vec<Record> {
    let mut generator = Generator::new(scenario).expect("the scenario is valid");
    (0..count).map(|_| next(&mut generator)).collect()
}

/// The records that are sent before a time.
#[track_caller]
pub(crate) fn records_until(scenario: Scenario, end: i64) -> Vec<Record> {
    let mut generator = Generator::new(scenario).expect("the scenario is valid");
    std::iter::from_fn(|| (generator.next_send_time_micros() < end).then(|| next(&mut generator))).collect()
}

/// FNV-1a of the first records and their metadata.
pub(crate) fn fingerprint(scenario: Scenario, count: usize) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    let mut generator = Generator::new(scenario).expect("the scenario is valid");
    let mut out = Vec::new();
    for _ in 0..count {
        out.clear();
        let meta = generator.next_into(&mut out);
        let times = [meta.event_time_micros, meta.send_time_micros].map(i64::to_le_bytes);
        for &byte in out.iter().chain(times.as_flattened()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
    hash
}

/// Microseconds since 1970 of `2026-01-05T00:00:00.000123Z`, for the months that the tests see.
#[track_caller]
pub(crate) fn micros_of(time: &str) -> i64 {
    assert!(time.len() == 27 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    let number = |from: usize, to: usize| time[from..to].parse::<i64>().expect("digits");
    let new_year_days = match number(0, 4) {
        2025 => 20_089,
        2026 => 20_454,
        year => panic!("unexpected year {year}"),
    };
    let days_before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][number(5, 7) as usize - 1];
    let days = new_year_days + days_before + number(8, 10) - 1;
    let seconds = days * 86_400 + number(11, 13) * 3600 + number(14, 16) * 60 + number(17, 19);
    seconds * SECOND + number(20, 26)
}

/// Whether braces outside strings match.
pub(crate) fn is_balanced(bytes: &[u8]) -> bool {
    let (mut depth, mut is_in_string, mut is_escaped) = (0_i32, false, false);
    for &byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            b'{' if !is_in_string => depth += 1,
            b'}' if !is_in_string => depth -= 1,
            _ => {}
        }
    }
    depth == 0
}
