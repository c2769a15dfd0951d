//! Records and the rows that their fields make, one line a case.

use crate::batch::Format;
use crate::shown;

#[track_caller]
fn check(json: &str, row: &str) {
    assert_eq!(shown::rows(Format::Json, json), row, "{json}");
}

#[test]
fn a_clear_name_of_the_time_wins_wherever_it_stands() {
    let at_two = "logs event_time=2026-11-24T02:00:00Z";
    check(r#"{"timestamp":"2026-11-24T02:00:00Z"}"#, at_two);
    for weak in ["date", "created_at", "createdAt", "asctime", "t"] {
        let row = format!("{at_two} @{weak}=s:2019-05-01T00:00:00Z");
        check(&format!(r#"{{"{weak}":"2019-05-01T00:00:00Z","timestamp":"2026-11-24T02:00:00Z"}}"#), &row);
        check(&format!(r#"{{"timestamp":"2026-11-24T02:00:00Z","{weak}":"2019-05-01T00:00:00Z"}}"#), &row);
    }
    check(
        r#"{"event":{"created":"2026-11-24T01:00:00Z"},"ts":"2026-11-24T02:00:00Z"}"#,
        &format!("{at_two} @event.created=s:2026-11-24T01:00:00Z"),
    );
}

#[test]
fn a_weak_name_gives_the_time_when_no_other_does() {
    check(r#"{"created_at":"2026-11-24T02:00:00Z"}"#, "logs event_time=2026-11-24T02:00:00Z");
    check(r#"{"t":1795485600}"#, "logs event_time=2026-11-24T02:00:00Z");
    check(r#"{"t":"1795485600000"}"#, "logs event_time=2026-11-24T02:00:00Z");
    check(r#"{"date":"next week"}"#, "logs @date=s:next week");
}

#[test]
fn a_bare_number_under_a_weak_name_is_a_time_only_if_it_can_be_one() {
    for (number, kind) in [("21.5", 'd'), ("0", 'i'), ("1500", 'i'), ("-3", 'i'), ("4102444800", 'i')] {
        check(&format!(r#"{{"t":{number}}}"#), &format!("logs @t={kind}:{number}"));
    }
    check(r#"{"t":"21.5"}"#, "logs @t=s:21.5");
    check(r#"{"start_time":12.5,"observed_time":7}"#, "logs @start_time=d:12.5 @observed_time=i:7");
}

#[test]
fn a_time_that_cannot_be_read_is_a_defect_only_when_no_other_can() {
    let row = "logs event_time=2026-11-24T02:00:00Z";
    check(r#"{"time":"half past ten","ts":"2026-11-24T02:00:00Z"}"#, &format!("{row} @time=s:half past ten"));
    check(r#"{"ts":"2026-11-24T02:00:00Z","time":"half past ten"}"#, &format!("{row} @time=s:half past ten"));
    // How long it took.
    check(r#"{"time":12.5,"ts":"2026-11-24T02:00:00Z"}"#, &format!("{row} @time=d:12.5"));
    let letter = |error: &str| format!("dead_letters stage=standardize reason={error}");
    check(
        r#"{"a":1,"time":"half past ten","date":"2026-11-24T02:00:00Z"}"#,
        &letter(
            "time_unreadable field=time error=the time is in no known form: half past ten (at byte 14) byte_offset=14",
        ),
    );
    check(
        r#"{"time":12.5}"#,
        &letter(
            "time_out_of_range field=timestamp error=the time is outside the accepted range around the receive time: 1970-01-01T00:00:12.500000Z",
        ),
    );
}

#[test]
fn the_envelope_goes_before_the_payload_and_both_before_labels() {
    check(
        r#"{"fields":{"timestamp":"2026-11-24T01:00:00Z","level":"info","message":"in","service":"in"},"level":"error","message":"out","service":"out","timestamp":"2026-11-24T02:00:00Z"}"#,
        "logs event_time=2026-11-24T02:00:00Z severity_number=17 severity_text=error service=out message=out @timestamp=s:2026-11-24T01:00:00Z @level=s:info @message=s:in @service=s:in",
    );
    check(r#"{"fields":{"level":"info","message":"in"}}"#, "logs severity_number=9 severity_text=info message=in");
    check(
        r#"{"date":"2026-11-24T01:00:00Z","fields":{"ts":"2026-11-24T02:00:00Z"}}"#,
        "logs event_time=2026-11-24T02:00:00Z @date=s:2026-11-24T01:00:00Z",
    );
    check(r#"{"labels":{"service":"l","k":"v"},"fields":{"service":"f"}}"#, "logs service=f @service=s:l @k=s:v");
    check(r#"{"labels":{"service":"l"},"service":"own"}"#, "logs service=own @service=s:l");
    check(
        r#"{"resource":{"service.name":"r","pid":7},"service":"own"}"#,
        "logs service=own ^pid=i:7 ^service.name=s:r",
    );
}

#[test]
fn names_that_may_mean_something_else_fill_a_slot_last() {
    check(r#"{"log":"app.log","message":"m"}"#, "logs message=m @log=s:app.log");
    check(r#"{"log":"a line\n","stream":"stdout"}"#, "logs message=a line\n @stream=s:stdout");
    check(r#"{"app":"a","service":"s"}"#, "logs service=s @app=s:a");
    check(r#"{"uid":0,"user_id":"u1"}"#, "logs user_id=u1 @uid=i:0");
    check(r#"{"bytes":5,"bytes_sent":7}"#, "logs response_bytes=7 @bytes=i:5");
    check(
        r#"{"ip":"10.0.0.1","client_ip":"10.0.0.2"}"#,
        "logs client_address=10.0.0.2 client_address_class=private @ip=s:10.0.0.1",
    );
}

#[test]
fn severities_are_words_and_numbers_of_many_scales() {
    for (json, number, text) in [
        (r#""level":"WARN""#, "13", "WARN"),
        (r#""level":30"#, "9", "30"),
        (r#""level":"50""#, "17", "50"),
        (r#""severity":500"#, "17", "500"),
        (r#""severity":"800""#, "21", "800"),
        (r#""severity":17"#, "17", "17"),
        (r#""severity":"NOTICE""#, "10", "NOTICE"),
    ] {
        check(&format!("{{{json}}}"), &format!("logs severity_number={number} severity_text={text}"));
    }
    check(r#"{"severity":"DEFAULT"}"#, "logs severity_text=DEFAULT");
    check(r#"{"level":"loud"}"#, "logs severity_text=loud");
    // Monolog's numbers mean nothing here, its words do.
    check(r#"{"level":400,"level_name":"ERROR"}"#, "logs severity_number=17 severity_text=ERROR @level=i:400");
    let explicit = "logs severity_number=17 severity_text=warn";
    check(r#"{"severity":"warn","severity_number":17}"#, explicit);
    check(r#"{"severity_number":17,"severity":"warn"}"#, explicit);
}

#[test]
fn only_ids_of_one_event_are_insert_ids() {
    check(r#"{"event_id":4624}"#, "logs @event_id=i:4624");
    check(r#"{"eventId":"4624"}"#, "logs @eventId=s:4624");
    for name in ["insert_id", "insertId", "event.id", "log.record.uid"] {
        check(&format!(r#"{{"{name}":"i1"}}"#), "logs insert_id=i1");
    }
    check("{\"event_id\":4624}\n{\"event_id\":4624}", "logs @event_id=i:4624\nlogs @event_id=i:4624");
}

#[test]
fn gelf_has_the_severities_of_syslog_and_a_version_of_its_own() {
    for (level, number) in [(0, 21), (1, 19), (2, 18), (3, 17), (4, 13), (5, 10), (6, 9), (7, 5)] {
        check(
            &format!(
                r#"{{"version":"1.1","host":"h","short_message":"m","timestamp":1795485600.25,"level":{level},"_user":"u"}}"#
            ),
            &format!(
                "logs event_time=2026-11-24T02:00:00.250000Z severity_number={number} severity_text={level} host=h message=m @_user=s:u @version=s:1.1"
            ),
        );
    }
    check(
        r#"{"level":3,"short_message":"m","version":"1.1"}"#,
        "logs severity_number=17 severity_text=3 message=m @version=s:1.1",
    );
    check(
        r#"{"version":"1.1","message":"m","level":3}"#,
        "logs severity_number=3 severity_text=3 service_version=1.1 message=m",
    );
    check(
        r#"{"version":"2.0","short_message":"m","level":3}"#,
        "logs severity_number=3 severity_text=3 service_version=2.0 message=m",
    );
}

#[test]
fn nanoseconds_are_kept_in_every_table() {
    let time = "event_time=2026-11-24T02:00:00.123456Z";
    check(r#"{"timestamp":"2026-11-24T02:00:00.123456789Z"}"#, &format!("logs {time} event_time_nanos=789"));
    check(r#"{"timestamp":1795485600123456789}"#, &format!("logs {time} event_time_nanos=789"));
    check(r#"{"timestamp":"2026-11-24T02:00:00.123456Z"}"#, &format!("logs {time}"));
    check(
        r#"{"metric":"m","value":1,"timestamp":"2026-11-24T02:00:00.123456789Z","start_time":"2026-11-24T01:00:00.000000001Z","observed_time":"2026-11-24T02:00:00.000000002Z"}"#,
        &format!(
            "metrics {time} event_time_nanos=789 start_time=2026-11-24T01:00:00Z start_time_nanos=1 metric_name=m metric_type=gauge value=1 value_int=1 @observed_time=s:2026-11-24T02:00:00.000000002Z"
        ),
    );
    check(
        r#"{"event":"e","user_id":"u","timestamp":"2026-11-24T02:00:00.123456789Z"}"#,
        &format!("activity {time} event_name=e user_id=u @event_time_nanos=i:789"),
    );
}

#[test]
fn kinds_follow_from_what_a_record_has() {
    for (json, row) in [
        (r#"{"message":"m"}"#, "logs message=m"),
        (r#"{}"#, "logs"),
        (r#"{"metric":"m","value":1.5}"#, "metrics metric_name=m metric_type=gauge value=1.5"),
        (
            r#"{"metric":"m","value":"1.5","unit":"s","type":"sum"}"#,
            "metrics metric_name=m metric_type=sum unit=s value=1.5",
        ),
        // A message makes it a log.
        (r#"{"metric":"m","value":1,"message":"x"}"#, "logs message=x @metric=s:m @value=i:1"),
        (r#"{"value":1,"unit":"s"}"#, "logs @unit=s:s @value=i:1"),
        (
            r#"{"kind":"metric","metric":"m","value":1,"message":"x"}"#,
            "metrics metric_name=m metric_type=gauge value=1 value_int=1 @message=s:x",
        ),
        (r#"{"event":"login","user_id":"u"}"#, "activity event_name=login user_id=u"),
        (r#"{"event":"login","session_id":"s","value":3}"#, "activity event_name=login session_id=s @value=i:3"),
        (r#"{"event":"login"}"#, "logs event_name=login"),
        (
            r#"{"event":"login","user_id":"u","level":"info"}"#,
            "logs severity_number=9 severity_text=info event_name=login user_id=u",
        ),
        (r#"{"event":"login","user_id":"u","message":"m"}"#, "logs message=m event_name=login user_id=u"),
        (r#"{"kind":"activity","event":"login","message":"m"}"#, "activity event_name=login @message=s:m"),
        (r#"{"kind":"log","metric":"m","value":1}"#, "logs @metric=s:m @value=i:1"),
        // Kubernetes and others mean something else by it.
        (r#"{"kind":"Pod","message":"m"}"#, "logs message=m @kind=s:Pod"),
        (r#"{"type":"access","message":"m"}"#, "logs message=m @type=s:access"),
    ] {
        check(json, row);
    }
    for (json, reason) in [
        (r#"{"metric":"m"}"#, "metric_without_value field=value"),
        (r#"{"metric":"m","value":"n/a"}"#, "metric_without_value field=value"),
        (r#"{"metric":"m","value":"high"}"#, "metric_without_value field=value"),
        (r#"{"kind":"metric","value":1}"#, "name_missing field=metric"),
        (r#"{"kind":"activity","user_id":"u"}"#, "name_missing field=event"),
    ] {
        let row = shown::rows(Format::Json, json);
        assert!(row.starts_with(&format!("dead_letters stage=classify reason={reason} ")), "{json}: {row}");
    }
}

/// A LogEntry with every field that Google documents, in the order in which its tools write them.
const LOG_ENTRY: &str = r#"{
    "errorGroups":[{"id":"CKXsoN"}],
    "httpRequest":{"cacheFillBytes":"0","cacheHit":false,"cacheLookup":true,"cacheValidatedWithOriginServer":false,
        "latency":"0.123456789s","protocol":"HTTP/2","referer":"https://example.com/","remoteIp":"203.0.113.9",
        "requestMethod":"GET","requestSize":"123","requestUrl":"https://shop.example/cart/17?x=1","responseSize":"4567",
        "serverIp":"10.0.0.1","status":503,"userAgent":"curl/8.5.0"},
    "insertId":"1abc2d",
    "jsonPayload":{"env":"staging","logName":"mine","message":"payment failed","severity":"DEBUG","team":"pay",
        "timestamp":"2020-01-01T00:00:00Z","user":{"id":"u1","name":"Ann"},"items":[1,2]},
    "labels":{"env":"prod","team":"infra","k8s-pod/app":"cart"},
    "logName":"projects/p/logs/run.googleapis.com%2Fstderr",
    "operation":{"first":true,"id":"op1","last":false,"producer":"svc"},
    "receiveTimestamp":"2026-11-24T02:00:01.000000007Z",
    "resource":{"labels":{"location":"europe-west1","project_id":"p"},"type":"cloud_run_revision"},
    "severity":"ERROR",
    "sourceLocation":{"file":"pay.go","function":"main.pay","line":"142"},
    "spanId":"00f067aa0ba902b7",
    "split":{"index":0,"totalSplits":2,"uid":"s1"},
    "timestamp":"2026-11-24T02:00:00.123456789Z",
    "trace":"projects/p/traces/4bf92f3577b34da6a3ce929d0e0e4736",
    "traceSampled":true
}"#;

/// What becomes of it.
const LOG_ENTRY_ROW: [&str; 60] = [
    "logs",
    "event_time=2026-11-24T02:00:00.123456Z",
    "event_time_nanos=789",
    "observed_time=2026-11-24T02:00:01Z",
    "observed_time_nanos=7",
    "severity_number=17",
    "severity_text=ERROR",
    "environment=staging",
    "region=europe-west1",
    "message=payment failed",
    "trace_id=4bf92f3577b34da6a3ce929d0e0e4736",
    "span_id=00f067aa0ba902b7",
    "trace_flags=1",
    "http_method=GET",
    "http_path=/cart/17",
    "http_route=/cart/{id}",
    "http_status=503",
    "duration_us=123457",
    "request_bytes=123",
    "response_bytes=4567",
    "user_id=u1",
    "client_address=203.0.113.9",
    "client_address_class=public",
    "user_agent=curl/8.5.0",
    "user_agent_family=curl",
    "referrer=https://example.com/",
    "insert_id=1abc2d",
    "@errorGroups=j:[{\"id\":\"CKXsoN\"}]",
    "@httpRequest.cacheFillBytes=s:0",
    "@httpRequest.cacheHit=b:false",
    "@httpRequest.cacheLookup=b:true",
    "@httpRequest.cacheValidatedWithOriginServer=b:false",
    "@httpRequest.latency=s:0.123456789s",
    "@httpRequest.protocol=s:HTTP/2",
    "@httpRequest.serverIp=s:10.0.0.1",
    "@logName=s:projects/p/logs/run.googleapis.com%2Fstderr",
    "@operation.first=b:true",
    "@operation.id=s:op1",
    "@operation.last=b:false",
    "@operation.producer=s:svc",
    "@sourceLocation.file=s:pay.go",
    "@sourceLocation.function=s:main.pay",
    "@sourceLocation.line=s:142",
    "@split.index=i:0",
    "@split.totalSplits=i:2",
    "@split.uid=s:s1",
    "@trace=s:projects/p/traces/4bf92f3577b34da6a3ce929d0e0e4736",
    "@logName#2=s:mine",
    "@severity=s:DEBUG",
    "@team=s:pay",
    "@timestamp=s:2020-01-01T00:00:00Z",
    "@user.name=s:Ann",
    "@items=j:[1,2]",
    "@labels.env=s:prod",
    "@labels.team=s:infra",
    "@labels.k8s-pod/app=s:cart",
    "@url.full=s:https://shop.example/cart/17?x=1",
    "^labels.project_id=s:p",
    "^type=s:cloud_run_revision",
    "^labels.location=s:europe-west1",
];

#[test]
fn every_field_of_a_log_entry_is_found_again() {
    let wanted = LOG_ENTRY_ROW.join(" ");
    let one_line: String = LOG_ENTRY.lines().map(str::trim).collect();
    assert_eq!(shown::rows(Format::Json, &format!("[{one_line}]")), wanted);
    // The order of the fields means nothing.
    let reversed = reversed(&one_line);
    let sorted = |row: &str| {
        let mut parts: Vec<String> = row.split(" @").map(str::to_owned).collect();
        parts.sort();
        parts
    };
    let without_resource = |row: String| row.split(" ^").next().unwrap_or_default().to_owned();
    assert_eq!(sorted(&without_resource(shown::rows(Format::Json, &reversed))), sorted(&without_resource(wanted)));
}

/// The object with its members from last to first.
fn reversed(json: &str) -> String {
    let inner = &json[1..json.len() - 1];
    let mut members = Vec::new();
    let mut start = 0;
    while start < inner.len() {
        let end = crate::batch::element_end(inner.as_bytes(), start);
        let value_at = start + inner[start..].find(':').expect("a member") + 1;
        let end = end.max(crate::batch::element_end(inner.as_bytes(), value_at));
        members.push(&inner[start..end]);
        start = end + 1;
    }
    members.reverse();
    format!("{{{}}}", members.join(","))
}

#[test]
fn other_payloads_of_a_log_entry_are_kept_too() {
    check(
        r#"{"logName":"l","textPayload":"hello","severity":200}"#,
        "logs severity_number=9 severity_text=200 message=hello @logName=s:l",
    );
    check(r#"{"logName":"l","trace":"projects/p/traces/short"}"#, "logs @logName=s:l @trace=s:projects/p/traces/short");
    check(r#"{"trace":"4BF92F3577B34DA6A3CE929D0E0E4736"}"#, "logs trace_id=4bf92f3577b34da6a3ce929d0e0e4736");
}

/// An audit log as `entries.list` gives it, without what only differs in its names.
const AUDIT_LOG: &str = r#"{"insertId":"a1","logName":"projects/p/logs/cloudaudit.googleapis.com%2Factivity",
    "protoPayload":{"@type":"type.googleapis.com/google.cloud.audit.AuditLog",
        "authenticationInfo":{"principalEmail":"ann@example.com"},
        "authorizationInfo":[{"granted":false,"permission":"storage.buckets.delete"}],
        "methodName":"storage.buckets.delete",
        "requestMetadata":{"callerIp":"203.0.113.9","callerSuppliedUserAgent":"curl/8.5.0"},
        "resourceName":"projects/_/buckets/b","serviceName":"storage.googleapis.com",
        "status":{"code":7,"message":"permission denied"}},
    "resource":{"labels":{"bucket_name":"b","location":"eu"},"type":"gcs_bucket"},
    "severity":"ERROR","timestamp":"2026-11-24T02:00:00Z"}"#;

#[test]
fn an_audit_log_fills_the_columns_of_who_did_what_and_how_it_ended() {
    let one_line: String = AUDIT_LOG.lines().map(str::trim).collect();
    let row = "logs event_time=2026-11-24T02:00:00Z severity_number=17 severity_text=ERROR service=storage.googleapis.com \
        region=eu message=permission denied event_name=storage.buckets.delete user_id=ann@example.com \
        client_address=203.0.113.9 client_address_class=public user_agent=curl/8.5.0 user_agent_family=curl insert_id=a1 \
        @logName=s:projects/p/logs/cloudaudit.googleapis.com%2Factivity \
        @protoPayload.@type=s:type.googleapis.com/google.cloud.audit.AuditLog \
        @protoPayload.authorizationInfo=j:[{\"granted\":false,\"permission\":\"storage.buckets.delete\"}] \
        @cloud.resource_id=s:projects/_/buckets/b @rpc.grpc.status_code=i:7 \
        ^labels.bucket_name=s:b ^type=s:gcs_bucket ^labels.location=s:eu";
    check(&one_line, row);
    // The type of a payload is known at its end, wherever it stands.
    let parts = |row: &str| row.split(' ').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(parts(&shown::rows(Format::Json, &reversed(&one_line))), parts(row));
}

#[test]
fn an_audit_log_is_a_log_even_without_severity_and_message() {
    check(
        r#"{"logName":"l","protoPayload":{"methodName":"m","authenticationInfo":{"principalEmail":"a@b.c"},"@type":"type.googleapis.com/google.cloud.audit.AuditLog"}}"#,
        "logs event_name=m user_id=a@b.c @logName=s:l @protoPayload.@type=s:type.googleapis.com/google.cloud.audit.AuditLog",
    );
}

#[test]
fn a_payload_of_another_type_stays_as_it_is() {
    check(
        r#"{"logName":"l","protoPayload":{"@type":"type.googleapis.com/google.appengine.logging.v1.RequestLog","methodName":"m","serviceName":"s","status":{"code":7},"resourceName":"r"}}"#,
        "logs @logName=s:l @protoPayload.@type=s:type.googleapis.com/google.appengine.logging.v1.RequestLog @protoPayload.methodName=s:m @protoPayload.serviceName=s:s @protoPayload.status.code=i:7 @protoPayload.resourceName=s:r",
    );
}

#[test]
fn severities_and_sizes_of_a_log_entry_are_names_numbers_and_texts() {
    for (name, number, severity) in [
        ("DEBUG", 100, "5"),
        ("INFO", 200, "9"),
        ("NOTICE", 300, "10"),
        ("WARNING", 400, "13"),
        ("ERROR", 500, "17"),
        ("CRITICAL", 600, "18"),
        ("ALERT", 700, "19"),
        ("EMERGENCY", 800, "21"),
    ] {
        let with = |severity: &str| format!(r#"{{"logName":"l","severity":{severity}}}"#);
        let row = |text: &str| format!("logs severity_number={severity} severity_text={text} @logName=s:l");
        check(&with(&format!("\"{name}\"")), &row(name));
        check(&with(&number.to_string()), &row(&number.to_string()));
    }
    check(r#"{"logName":"l","severity":"DEFAULT"}"#, "logs severity_text=DEFAULT @logName=s:l");
    check(
        r#"{"logName":"l","httpRequest":{"latency":"1.5s","requestSize":"9","responseSize":10,"status":200}}"#,
        "logs severity_number=9 severity_text=INFO http_status=200 duration_us=1500000 request_bytes=9 response_bytes=10 @logName=s:l",
    );
    check(r#"{"logName":"l","traceSampled":false}"#, "logs trace_flags=0 @logName=s:l");
    check(r#"{"logName":"l","traceSampled":"often"}"#, "logs @logName=s:l @traceSampled=s:often");
}

#[test]
fn a_log_entry_with_a_time_that_is_none_is_a_dead_letter_that_names_the_field() {
    check(
        r#"{"logName":"l","timestamp":"yesterday"}"#,
        "dead_letters stage=standardize reason=time_unreadable field=timestamp error=the time is in no known form: yesterday (at byte 27) byte_offset=27",
    );
    check(
        r#"{"logName":"l","httpRequest":{"latency":"fast","responseSize":"big"}}"#,
        "logs @logName=s:l @httpRequest.latency=s:fast @httpRequest.responseSize=s:big",
    );
}

#[test]
fn an_id_of_a_log_entry_counts_within_its_log() {
    let counts = |body: &str| {
        let batch = shown::batch(Format::Json, "test", body);
        crate::transform::transform(&batch, &crate::rules::Rules::none()).expect("lines").counts
    };
    let entry = |log: &str| format!(r#"{{"insertId":"1","logName":"projects/p/logs/{log}","textPayload":"{log}"}}"#);
    let found = counts(&[entry("a"), entry("b"), entry("a")].join("\n"));
    assert_eq!((found.stored, found.duplicate), (2, 1));
}

#[test]
fn labels_of_a_monitored_resource_name_service_version_and_region_and_stay_together() {
    check(
        r#"{"logName":"l","resource":{"type":"cloud_run_revision","labels":{"service_name":"shop","revision_name":"shop-7","location":"eu"}}}"#,
        "logs service=shop service_version=shop-7 region=eu @logName=s:l ^type=s:cloud_run_revision ^labels.service_name=s:shop ^labels.revision_name=s:shop-7 ^labels.location=s:eu",
    );
    check(
        r#"{"logName":"l","jsonPayload":{"service":"own"},"resource":{"labels":{"container_name":"c"}}}"#,
        "logs service=own @logName=s:l ^labels.container_name=s:c",
    );
}

#[test]
fn segment_and_country_fill_their_columns_under_the_names_that_tools_use() {
    for name in ["user_segment", "userSegment", "user.segment"] {
        check(&format!(r#"{{"{name}":"gold"}}"#), "logs user_segment=gold");
    }
    for name in ["country", "country_code", "geo.country_iso_code", "client.geo.country_iso_code"] {
        check(&format!(r#"{{"{name}":"DE"}}"#), "logs country=DE");
    }
    check(
        r#"{"event":"buy","user_id":"u1","properties":{"country":"DE","segment":"gold"}}"#,
        "activity event_name=buy user_id=u1 user_segment=gold country=DE",
    );
    check(
        r#"{"metric":"m","value":1,"labels":{"country_code":"DE"}}"#,
        "metrics metric_name=m metric_type=gauge value=1 value_int=1 @country=s:DE",
    );
}

#[test]
fn a_segment_is_the_users_only_beside_a_user_or_a_session() {
    check(r#"{"segment":"000123.wal","message":"sealed"}"#, "logs message=sealed @segment=s:000123.wal");
    check(r#"{"segment":"gold","labels":{"user_id":"u1"}}"#, "logs user_id=u1 user_segment=gold");
    check(r#"{"labels":{"segment":"gold","session.id":"s1"}}"#, "logs session_id=s1 user_segment=gold");
    check(
        r#"{"user_id":"u1","segment":"gold","user_segment":"silver"}"#,
        "logs user_id=u1 user_segment=silver @segment=s:gold",
    );
}
