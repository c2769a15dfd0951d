//! The promises of the stream, checked from outside.

mod support;

use std::collections::{HashMap, HashSet};

use sawlog_generate::{
    DELAY_MICROS_MAX, Defect, Format, Generator, Kind, LATE_MICROS_MAX, LATE_MICROS_MIN, MalformedKind, Mix, Scenario,
};
use serde_json::Value;
use support::{HOUR, Record, SECOND, fingerprint, records, records_until};

const ALL_FORMATS: [Format; 4] = [Format::Ndjson, Format::Combined, Format::Syslog5424, Format::Logfmt];

fn demo_with_defects() -> Scenario {
    Scenario { late_ratio: 0.03, duplicate_ratio: 0.05, malformed_ratio: 0.07, ..Scenario::demo() }
}

/// A change of these numbers means that streams of old seeds are no longer what they were.
#[test]
fn bytes_of_a_seed_never_change() {
    assert_eq!(fingerprint(Scenario::bench(), 20_000), 15_820_122_590_279_076_923, "bench");
    assert_eq!(fingerprint(demo_with_defects(), 100_000), 17_425_822_142_668_817_736, "demo");
    for (format, hash) in [
        (Format::Combined, 3_538_834_637_046_753_307),
        (Format::Syslog5424, 5_433_376_420_124_605_647),
        (Format::Logfmt, 11_012_189_184_019_940_370),
    ] {
        let scenario = Scenario { format, mix: Mix::LOGS, ..demo_with_defects() };
        assert_eq!(fingerprint(scenario, 20_000), hash, "{format:?}");
    }
}

#[test]
fn same_scenario_gives_same_bytes_and_another_seed_gives_others() {
    let scenario = demo_with_defects();
    assert_eq!(fingerprint(scenario.clone(), 5_000), fingerprint(scenario.clone(), 5_000));
    assert_ne!(fingerprint(scenario.clone(), 5_000), fingerprint(Scenario { seed: 3, ..scenario }, 5_000));
}

#[track_caller]
fn check_fields(record: &Record, object: &Value) {
    let required: &[&str] = match record.meta.kind {
        Kind::Log => {
            &["severity", "message", "service", "version", "environment", "region", "host", "logger", "insert_id"]
        }
        Kind::Metric => &["metric", "value", "unit", "type", "service", "host", "labels"],
        Kind::Activity => &["event", "user_id", "session_id", "page", "service", "device", "insert_id", "properties"],
    };
    for field in required {
        assert!(object.get(field).is_some(), "{field} is missing in {object}");
    }
}

#[test]
fn every_sound_record_is_json_with_its_fields_and_time() {
    for record in records(demo_with_defects(), 60_000) {
        if record.is_malformed() {
            continue;
        }
        let object = record.json();
        check_fields(&record, &object);
        let time = object["timestamp"].as_str().expect("the timestamp is text");
        assert_eq!(support::micros_of(time), record.meta.event_time_micros, "{time}");
        assert!(!record.bytes.contains(&b'\n'));
    }
}

#[test]
fn insert_ids_are_unique_but_for_duplicates() {
    let mut ids = HashSet::new();
    for record in records(demo_with_defects(), 40_000) {
        let is_duplicate = matches!(record.meta.defect, Some(Defect::DuplicateOf { .. }));
        if record.is_malformed() || record.meta.kind == Kind::Metric {
            continue;
        }
        let id = record.json()["insert_id"].as_str().expect("an insert id is text").to_owned();
        assert_eq!(ids.insert(id), !is_duplicate);
    }
    let without = Scenario { insert_ids: false, ..Scenario::demo() };
    let mut sound = records(without, 2_000).into_iter().filter(|record| !record.is_malformed());
    assert!(sound.all(|record| record.json().get("insert_id").is_none()));
}

#[test]
fn counts_follow_the_ratios_exactly() {
    let mut generator = Generator::new(demo_with_defects()).expect("the scenario is valid");
    let mut out = Vec::new();
    for _ in 0..100_000 {
        out.clear();
        generator.next_into(&mut out);
    }
    let counts = generator.counts();
    assert_eq!(counts.logs + counts.metrics + counts.activity, counts.records);
    for (count, wanted) in [(counts.late, 3_000), (counts.duplicates, 5_000), (counts.malformed, 7_000)] {
        assert!(i64::abs_diff(count as i64, wanted) <= 3, "{counts:?}");
    }
    let share = counts.metrics as f64 / counts.records as f64;
    assert!((share - 0.14).abs() < 0.005, "{share}");
}

#[test]
fn mean_rate_holds_over_a_week_with_rhythm_and_spikes() {
    let scenario = Scenario { events_per_second: 1.0, ..Scenario::demo() };
    let end = scenario.start_micros + 7 * 24 * HOUR;
    let mut generator = Generator::new(scenario).expect("the scenario is valid");
    let mut out = Vec::new();
    while generator.next_send_time_micros() < end {
        out.clear();
        generator.next_into(&mut out);
    }
    let ratio = generator.counts().records as f64 / (7.0 * 86_400.0);
    assert!((ratio - 1.0).abs() < 0.02, "{ratio}");
}

#[test]
fn rate_is_steady_without_rhythm() {
    let scenario = Scenario::bench();
    let wanted = 200_000.0 / scenario.events_per_second;
    let all = records(scenario.clone(), 200_000);
    let last = all.last().expect("there are records").meta.send_time_micros;
    let seconds = (last - scenario.start_micros) as f64 / SECOND as f64;
    assert!((seconds / wanted - 1.0).abs() < 0.01, "{seconds} s");
}

#[test]
fn bench_records_have_the_size_and_shape_of_real_logs() {
    let all = records(Scenario::bench(), 20_000);
    let mean = all.iter().map(|record| record.bytes.len()).sum::<usize>() / all.len();
    assert!((400..=650).contains(&mean), "{mean} B");
    for record in &all {
        let object = record.json();
        let fields = object.as_object().expect("a record is an object");
        assert!(fields.len() >= 12, "{object}");
        let nested = fields.values().filter(|value| value.is_object()).count();
        assert!(nested >= 2 && fields["labels"].is_object(), "{object}");
        assert_eq!((record.meta.kind, record.meta.defect), (Kind::Log, None));
    }
}

#[test]
fn duplicates_repeat_an_earlier_record_within_an_hour() {
    let all = records(demo_with_defects(), 100_000);
    let mut ages = Vec::new();
    for record in &all {
        if let Some(Defect::DuplicateOf { sequence }) = record.meta.defect {
            let original = &all[sequence as usize];
            assert!(sequence < record.meta.sequence && original.meta.defect.is_none());
            assert_eq!(original.bytes, record.bytes);
            ages.push(record.meta.send_time_micros - original.meta.send_time_micros);
        }
    }
    let repeated: HashSet<u64> = all
        .iter()
        .filter_map(|record| match record.meta.defect {
            Some(Defect::DuplicateOf { sequence }) => Some(sequence),
            _ => None,
        })
        .collect();
    assert!(
        repeated.len() > ages.len() * 3 / 5,
        "{} of {}: a record seldom comes a third time",
        repeated.len(),
        ages.len()
    );
    assert!(ages.iter().all(|age| (0..=HOUR).contains(age)));
    assert!(ages.iter().any(|&age| age < 5 * SECOND) && ages.iter().any(|&age| age > HOUR / 12));
}

#[test]
fn event_times_are_behind_by_what_the_defect_says() {
    let mut before = i64::MIN;
    for record in records(demo_with_defects(), 60_000) {
        let meta = record.meta;
        assert!(meta.send_time_micros >= before);
        before = meta.send_time_micros;
        let behind = meta.send_time_micros - meta.event_time_micros;
        match meta.defect {
            Some(Defect::Late { by_micros }) => {
                assert_eq!(behind, by_micros);
                assert!((LATE_MICROS_MIN..=LATE_MICROS_MAX).contains(&by_micros));
            }
            Some(Defect::DuplicateOf { .. }) => assert!((0..=HOUR + DELAY_MICROS_MAX).contains(&behind)),
            _ => assert!((0..=DELAY_MICROS_MAX).contains(&behind), "{meta:?}"),
        }
    }
}

#[track_caller]
fn check_malformed(kind: MalformedKind, bytes: &[u8]) {
    let parsed = serde_json::from_slice::<Value>(bytes);
    let shown = String::from_utf8_lossy(bytes);
    match kind {
        MalformedKind::WrongTimestamp => {
            let time = parsed.expect("only the time is wrong")["timestamp"].as_str().map(str::to_owned);
            assert!(!time.expect("it is text").starts_with("2026-01"), "{shown}");
        }
        MalformedKind::DeepNesting => {
            let is_too_deep = parsed.is_err_and(|error| error.to_string().contains("recursion"));
            assert!(is_too_deep && support::is_balanced(bytes), "{shown}");
        }
        MalformedKind::InvalidUtf8 => assert!(std::str::from_utf8(bytes).is_err(), "{shown}"),
        MalformedKind::NulByte => assert!(parsed.is_err() && bytes.contains(&0), "{shown}"),
        MalformedKind::Truncated | MalformedKind::UnterminatedString | MalformedKind::BareText => {
            assert!(parsed.is_err(), "{shown}");
        }
    }
}

#[test]
fn malformed_records_are_malformed_in_every_way() {
    let mut counts: HashMap<MalformedKind, u32> = HashMap::new();
    for record in records(demo_with_defects(), 30_000) {
        if let Some(Defect::Malformed(kind)) = record.meta.defect {
            check_malformed(kind, &record.bytes);
            assert!(!record.bytes.is_empty() && !record.bytes.contains(&b'\n'));
            *counts.entry(kind).or_default() += 1;
        }
    }
    assert!(MalformedKind::ALL.iter().all(|kind| counts[kind] > 200), "{counts:?}");
}

#[test]
fn records_of_a_request_share_their_trace() {
    let mut traces: HashMap<String, Vec<Value>> = HashMap::new();
    for record in records(Scenario::bench(), 30_000) {
        let object = record.json();
        if let Some(trace) = object.get("trace_id").and_then(Value::as_str) {
            traces.entry(trace.to_owned()).or_default().push(object);
        }
    }
    for of_request in traces.values() {
        assert!(of_request.len() <= 5);
        let first = &of_request[0];
        for record in of_request {
            assert_eq!(record["http"]["path"], first["http"]["path"]);
            assert_eq!(record.get("user_id"), first.get("user_id"));
        }
        let spans: HashSet<_> = of_request.iter().map(|record| record["span_id"].as_str()).collect();
        assert_eq!(spans.len(), of_request.len());
    }
    let mean = 30_000.0 * 0.95 / traces.len() as f64;
    assert!((2.0..4.0).contains(&mean), "{mean} records per request");
}

#[test]
fn sessions_go_from_page_views_to_purchases_with_drop_off() {
    let scenario = Scenario { mix: Mix { logs: 0.0, metrics: 0.0, activity: 1.0 }, ..Scenario::demo() };
    let mut counts: HashMap<String, u32> = HashMap::new();
    for record in records(scenario, 60_000) {
        if !record.is_malformed() {
            let event = record.json()["event"].as_str().expect("an event has a name").to_owned();
            *counts.entry(event).or_default() += 1;
        }
    }
    let count = |event: &str| counts.get(event).copied().unwrap_or(0);
    let funnel = ["page_view", "add_to_cart", "checkout_started", "purchase", "logout"].map(count);
    assert!(funnel.windows(2).all(|steps| steps[0] > steps[1]) && funnel[4] > 0, "{counts:?}");
    assert!(["click", "search", "login"].iter().all(|event| count(event) > 0), "{counts:?}");
}

#[test]
fn hosts_are_scraped_every_ten_seconds_and_sums_do_not_fall() {
    let scenario = Scenario { rhythm: false, incidents: false, ..Scenario::demo() };
    let mut scrapes: HashMap<String, Vec<(i64, u64)>> = HashMap::new();
    for record in records(scenario, 100_000) {
        if record.meta.kind != Kind::Metric || record.meta.defect.is_some() {
            continue;
        }
        let object = record.json();
        if object["metric"] == "network.io" {
            let host = object["host"].as_str().expect("a host is text").to_owned();
            let value = object["value"].as_u64().expect("a sum of bytes is whole");
            scrapes.entry(host).or_default().push((record.meta.event_time_micros, value));
        }
    }
    for of_host in scrapes.values() {
        assert!(of_host.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{of_host:?}");
        let span = of_host[of_host.len() - 1].0 - of_host[0].0;
        let interval = span as f64 / (of_host.len() - 1) as f64 / SECOND as f64;
        assert!((8.0..13.0).contains(&interval), "{interval} s");
    }
}

#[test]
fn line_formats_have_one_line_for_each_record() {
    for format in [Format::Combined, Format::Syslog5424, Format::Logfmt] {
        let scenario = Scenario { format, mix: Mix::LOGS, ..demo_with_defects() };
        for record in records(scenario, 10_000) {
            assert!(!record.bytes.contains(&b'\n'));
            if record.is_malformed() {
                continue;
            }
            let line = String::from_utf8(record.bytes).expect("a sound line is UTF-8");
            let is_sound = match format {
                Format::Combined => line.ends_with('"') && line.contains(" HTTP/1.1\" ") && line.contains(" +0000] "),
                Format::Syslog5424 => {
                    line.starts_with('<') && line.contains(">1 2026-01-") && line.contains("[sawlog@32473 ")
                }
                _ => line.starts_with("time=2026-01-") && line.contains(" level=") && line.contains(" msg=\""),
            };
            assert!(is_sound, "{line}");
        }
    }
}

#[test]
fn records_are_appended_behind_what_is_there() {
    for format in ALL_FORMATS {
        let scenario = Scenario {
            format,
            mix: Mix::LOGS,
            malformed_ratio: 0.8,
            late_ratio: 0.0,
            duplicate_ratio: 0.05,
            ..Scenario::demo()
        };
        let mut generator = Generator::new(scenario.clone()).expect("the scenario is valid");
        let mut together = Vec::new();
        for record in records(scenario, 500) {
            let front = together.len();
            generator.next_into(&mut together);
            assert_eq!(together[front..], record.bytes);
        }
    }
}

#[test]
fn rare_records_keep_their_promises_too() {
    let scenario = Scenario { events_per_second: 0.05, duplicate_ratio: 0.1, ..Scenario::demo() };
    let end = scenario.start_micros + 24 * HOUR;
    let all = records_until(scenario, end);
    assert!(all.len() > 1000);
    for record in all.iter().filter(|record| record.meta.defect.is_none()) {
        assert!(record.meta.send_time_micros - record.meta.event_time_micros <= DELAY_MICROS_MAX);
    }
}
