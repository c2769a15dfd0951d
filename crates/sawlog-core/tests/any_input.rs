//! Every parser against bytes that nobody would send: random ones, and real records with a few bytes changed.

#[path = "support/invariants.rs"]
mod invariants;

use invariants::check;
use proptest::prelude::*;
use sawlog_core::batch::Format;

/// Records that reach deep into each parser.
const SAMPLES: [&[u8]; 10] = [
    br#"{"ts":"2026-11-24T02:59:00.123456789Z","level":"warn","message":"took 107ms","service":"a","http":{"path":"/users/17?x=1","status":503,"duration":"1.5 s"},"labels":{"a":[1,{"b":null}],"c":"\u00e9\ud83d\ude00\n"},"insert_id":"i1","n":-1.5e-3}"#,
    br#"{"protoPayload":{"@type":"type.googleapis.com/google.cloud.audit.AuditLog","methodName":"m","status":{"code":7,"message":"no"},"authenticationInfo":{"principalEmail":"a@b.c"}},"labels":{"a":"b"},"logName":"projects/p/logs/x","severity":500,"traceSampled":true,"resource":{"type":"t","labels":{"location":"eu"}},"insertId":"i","timestamp":"2026-11-24T02:59:00Z"}"#,
    br#"{"metric":"cpu.load","value":0.5,"unit":"1","type":"gauge","host":"h1","ts":1795489140}"#,
    br#"{"event":"page_view","user_id":"u1","session_id":"s1","path":"/cart","ts":1795489140123}"#,
    br#"203.0.113.9 - bob [24/Nov/2026:02:59:00 +0100] "GET /a%20b?q=\"1\" HTTP/1.1" 404 - "https://example.com/" "Mozilla/5.0 (X11; Linux x86_64) Firefox/126.0""#,
    br#"<165>1 2026-11-24T02:59:00.003Z host.example.com evntslog 1234 ID47 [exampleSDID@32473 iut="3" eventSource="App\"lication\]"][b@1 c="d"] An application event"#,
    br#"<34>Nov 24 02:59:00 mymachine su[77]: 'su root' failed for lonvick on /dev/pts/8"#,
    br#"2026-11-24 02:59:00,123 ERROR [main] org.example.Service - request 17 failed: timeout after 30s"#,
    br#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},"scopeLogs":[{"scope":{"name":"s"},"logRecords":[{"timeUnixNano":"1795489140000000000","severityNumber":17,"body":{"kvlistValue":{"values":[{"key":"k","value":{"arrayValue":{"values":[{"intValue":"1"},{"bytesValue":"AAE="}]}}}]}},"traceId":"5b8efff798038103d269b633813fc60c"}]}]}]}"#,
    br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1795489140000000000","count":"3","sum":6.5,"bucketCounts":["1","2"],"explicitBounds":[1.5]}]}},{"name":"n","sum":{"isMonotonic":true,"dataPoints":[{"asInt":"7","timeUnixNano":"1795489140000000000"}]}}]}]}]}"#,
];

/// Bytes that mean something to some parser.
const LOADED: &[u8] = b"{}[]\",:\\ \n\r\t=<>|-+.0123456789eEtfn'/%\x00\x7f\xff\xc3\x0a\x12";

fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![3 => proptest::sample::select(LOADED), 1 => any::<u8>()]
}

/// A sample of which some stretches were cut, repeated or overwritten.
fn damaged_sample() -> impl Strategy<Value = Vec<u8>> {
    let edit = (0u8..4, any::<prop::sample::Index>(), any::<prop::sample::Index>(), any_byte());
    (proptest::sample::select(&SAMPLES[..]), proptest::collection::vec(edit, 1..6)).prop_map(|(sample, edits)| {
        let mut bytes = sample.to_vec();
        for (kind, at, until, byte) in edits {
            if bytes.is_empty() {
                break;
            }
            let (a, b) = (at.index(bytes.len()), until.index(bytes.len()));
            let (start, end) = (a.min(b), a.max(b));
            match kind {
                0 => bytes[start] = byte,
                1 => bytes.insert(start, byte),
                2 => drop(bytes.drain(start..end.min(start + 8))),
                _ => {
                    let copy = bytes[start..end].to_vec();
                    bytes.splice(start..start, copy);
                }
            }
        }
        bytes
    })
}

proptest! {
    // Eight times what PROPTEST_CASES or its default says: each case takes a millisecond.
    #![proptest_config(ProptestConfig { cases: 8 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn damaged_records_are_stored_or_dead_lettered_in_every_format(body in damaged_sample()) {
        for format in Format::ALL {
            check(format, &body);
        }
    }

    #[test]
    fn random_bytes_are_stored_or_dead_lettered_in_every_format(body in proptest::collection::vec(any_byte(), 0..120)) {
        for format in Format::ALL {
            check(format, &body);
        }
    }
}

#[test]
fn whole_samples_keep_the_rules_too() {
    for sample in SAMPLES {
        for format in Format::ALL {
            check(format, sample);
        }
    }
}
