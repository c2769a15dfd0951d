//! Rules, their mistakes, and what they do to rows.

use arrow_array::Array;
use arrow_array::cast::AsArray;

use super::*;
use crate::shown::{self, batch};
use crate::transform::transform;

#[test]
fn all_mistakes_are_reported_at_once() {
    let config = RulesConfig {
        filter: vec![FilterConfig { name: "empty".to_owned(), conditions: vec![] }],
        redact: vec![RedactConfig {
            name: "bad".to_owned(),
            pattern: "(".to_owned(),
            replace: None,
            at: RedactAt::Transform,
        }],
        ..RulesConfig::default()
    };
    let errors = Rules::compile(&config, &|_| Err(String::new())).expect_err("mistakes");
    assert_eq!(errors.len(), 2);
}

#[test]
fn what_sawlog_itself_wrote_to_cloud_logging_is_dropped_unless_rules_keep_it() {
    let own = [
        r#"{"logName":"projects/p/logs/sawlog","textPayload":"flushed"}"#,
        r#"{"labels":{"sawlog_instance":"i1"},"logName":"projects/p/logs/other","textPayload":"flushed"}"#,
    ];
    let others = [
        r#"{"logName":"projects/p/logs/my-sawlog","textPayload":"m"}"#,
        r#"{"logName":"sawlog","message":"m"}"#,
        r#"{"labels":{"instance":"i1"},"logName":"projects/p/logs/other","textPayload":"m"}"#,
        r#"{"labels":{"sawlog_instance":"i1"},"message":"no LogEntry"}"#,
    ];
    let body = own.iter().chain(&others).copied().collect::<Vec<_>>().join("\n");
    let counts = |rules: &str, format, body: &[u8]| {
        let raw = RawBatch { body, ..batch(format, "logging", "") };
        transform(&raw, &shown::rules(rules)).expect("a batch").counts
    };
    let found = counts("{}", Format::Json, body.as_bytes());
    assert_eq!((found.filtered, found.stored), (own.len() as u64, others.len() as u64));
    assert!(found.closes());
    assert_eq!(counts(r#"{"keep-own-logs":true}"#, Format::Json, body.as_bytes()).filtered, 0);
    // The same entries come by Pub/Sub when a Log Router sends them there.
    let publish_time = shown::RECEIVED;
    let messages =
        own.iter().map(|data| crate::pubsub::Message { data: data.as_bytes(), publish_time, ..Default::default() });
    let found = counts("{}", Format::Pubsub, &crate::pubsub::body_of_messages(messages));
    assert_eq!((found.filtered, found.stored), (own.len() as u64, 0));
}

#[test]
fn a_lookup_row_with_too_few_fields_is_a_mistake_with_its_place() {
    let config: RulesConfig =
        serde_json::from_str(r#"{"lookup":[{"name":"user","file":"users.csv","key":"id","field":"user_id"}]}"#)
            .expect("rules");
    let compile = |text: &str| Rules::compile(&config, &|_| Ok(text.to_owned()));
    assert!(compile("id,segment\n1,gold\n\n2,\n\n").is_ok());
    let errors = compile("id,segment\n1,gold\n2\n").expect_err("a mistake");
    assert_eq!(errors[0].to_string(), "lookup \"user\", file \"users.csv\": line 3: it has 1 values, the header has 2");
}

#[test]
fn the_default_of_a_source_goes_before_the_default_of_all() {
    let rules = shown::rules(r#"{"defaults":{"service":"all","region":"r","by-source":{"nginx":{"service":"web"}}}}"#);
    let check = |source: &str, body: &str, row: &str| {
        let rows = transform(&batch(Format::Json, source, body), &rules).expect("a batch");
        assert_eq!(shown::show(&rows), row);
    };
    check("nginx", r#"{"message":"m"}"#, "logs service=web region=r message=m");
    check("http", r#"{"message":"m"}"#, "logs service=all region=r message=m");
    check("nginx", r#"{"message":"m","service":"own"}"#, "logs service=own region=r message=m");
}

/// Whether a filter of one condition, of the source `nginx` and the file `/var/log/a.log`, drops a record.
fn drops(condition: &str, json: &str) -> bool {
    let rules = shown::rules(&format!(r#"{{"filter":[{{"name":"f","where":[{condition}]}}]}}"#));
    let raw = RawBatch { file: Some("/var/log/a.log"), ..batch(Format::Json, "nginx", json) };
    transform(&raw, &rules).expect("a batch").counts.filtered == 1
}

#[test]
fn conditions_see_texts_numbers_attributes_and_where_a_record_came_from() {
    let log = r#"{"message":"m","level":"error","status":503,"duration_ms":1.5,"tags":{"k":"v","n":7}}"#;
    let metric = r#"{"metric":"cpu","value":0.5,"unit":"1","host":"h"}"#;
    for (condition, json) in [
        (r#"{"field":"severity_text","equals":"error"}"#, log),
        (r#"{"field":"severity_class","equals":"error"}"#, log),
        (r#"{"field":"http_status","at-least":500}"#, log),
        (r#"{"field":"http_status","in":["503","504"]}"#, log),
        (r#"{"field":"http_status","prefix":"5"}"#, log),
        (r#"{"field":"http_status","exists":true}"#, log),
        (r#"{"field":"duration_us","at-most":1500}"#, log),
        (r#"{"field":"k","matches":"^v$"}"#, log),
        (r#"{"field":"n","at-least":7}"#, log),
        (r#"{"field":"message","exists":true}"#, log),
        (r#"{"field":"user_id","exists":false}"#, log),
        (r#"{"field":"source","equals":"nginx"}"#, log),
        (r#"{"field":"source","prefix":"ng"}"#, log),
        (r#"{"field":"format","in":["json","logfmt"]}"#, log),
        (r#"{"field":"log_file","contains":"a.log"}"#, log),
        (r#"{"field":"value","at-least":0.5}"#, metric),
        (r#"{"field":"value","equals":"0.5"}"#, metric),
        (r#"{"field":"value","exists":true}"#, metric),
        (r#"{"field":"metric_name","equals":"cpu"}"#, metric),
        (r#"{"field":"unit","equals":"1"}"#, metric),
        // An attribute, since logs have no such column.
        (r#"{"field":"unit","equals":"1"}"#, r#"{"message":"m","unit":"1"}"#),
    ] {
        assert!(drops(condition, json), "{condition}");
    }
    for (condition, json) in [
        (r#"{"field":"source","equals":"http"}"#, log),
        (r#"{"field":"format","equals":"access"}"#, log),
        (r#"{"field":"log_file","exists":false}"#, log),
        (r#"{"field":"value","exists":true}"#, log),
        (r#"{"field":"value","at-least":0.6}"#, metric),
        (r#"{"field":"http_status","at-least":504}"#, log),
    ] {
        assert!(!drops(condition, json), "{condition}");
    }
}

#[test]
fn a_column_that_rules_cannot_see_is_a_mistake_with_a_remedy() {
    for (field, hint) in [
        ("event_time", "ages"),
        ("receive_time", "ages"),
        ("start_time", "ages"),
        ("event_date", "ages"),
        ("attributes", "the attribute itself"),
        ("resource_types", "the attribute itself"),
        ("bucket_counts", "texts or numbers"),
        ("is_monotonic", "texts or numbers"),
        ("batch_id", "texts or numbers"),
        ("record_index", "texts or numbers"),
        ("rules_version", "texts or numbers"),
        ("signature", "the message itself"),
    ] {
        let json = format!(
            r#"{{"filter":[{{"name":"f","where":[{{"field":"{field}","equals":"1"}}]}}],
                "lookup":[{{"name":"l","file":"l.csv","key":"id","field":"{field}"}}]}}"#
        );
        let config: RulesConfig = serde_json::from_str(&json).expect("rules");
        let errors = Rules::compile(&config, &|_| Ok("id,x\n1,2\n".to_owned())).expect_err(field);
        assert_eq!(errors[0].place, format!("filter \"f\", field {field:?}"));
        assert_eq!(errors[1].place, format!("lookup \"l\", field {field:?}"));
        for error in &errors {
            assert_eq!(error.problem, format!("rules cannot use the column {field:?}"));
            assert!(error.hint.contains(hint), "{field}: {}", error.hint);
        }
    }
}

#[test]
fn lookups_are_found_by_texts_numbers_and_the_source() {
    for (field, key) in [("user_id", "u1"), ("http_status", "503"), ("source", "test"), ("team", "pay")] {
        let json = format!(r#"{{"lookup":[{{"name":"l","file":"l.csv","key":"id","field":"{field}"}}]}}"#);
        let config: RulesConfig = serde_json::from_str(&json).expect("rules");
        let rules = Rules::compile(&config, &|_| Ok(format!("id,x\nother,no\n{key},yes\n"))).expect("rules");
        let body = r#"{"user_id":"u1","status":503,"team":"pay"}"#;
        let rows = shown::show(&transform(&batch(Format::Json, "test", body), &rules).expect("a batch"));
        assert!(rows.contains(" @l.x=s:yes"), "{field}: {rows}");
    }
}

/// Redacts the word `s3cret` and numbers of five digits at the transform.
#[track_caller]
fn check_redacted(format: Format, body: &str, row: &str) {
    let rules = shown::rules(r#"{"redact":[{"name":"x","pattern":"s3cret|\\b[0-9]{5}\\b"}]}"#);
    let rows = transform(&batch(format, "test", body), &rules).expect("a batch");
    assert_eq!(shown::show(&rows), row, "{body}");
}

#[test]
fn redaction_at_the_transform_covers_every_text_of_a_row() {
    let log = r#"{"message":"m s3cret","service":"s3cret","version":"s3cret","environment":"s3cret","region":"s3cret",
        "host":"s3cret.example","logger":"a.s3cret","event":"s3cret","level":"s3cret","method":"s3cret",
        "route":"/s3cret","user_id":"s3cret","session_id":"s3cret","client_ip":"s3cret","user_agent":"s3cret/1",
        "referrer":"http://s3cret/","insert_id":"s3cret","other":"s3cret","labels":{"s3cret":"a"}}"#;
    check_redacted(
        Format::Json,
        &format!("[{log}]"),
        "logs severity_text=[x] service=[x] service_version=[x] environment=[x] region=[x] host=[x].example \
         logger=a.[x] message=m [x] event_name=[x] http_method=[x] http_route=/[x] user_id=[x] session_id=[x] \
         client_address=[x] user_agent=[x]/1 user_agent_family=Other referrer=http://[x]/ insert_id=[x] @other=s:[x] \
         @[x]=s:a",
    );
    check_redacted(
        Format::Json,
        r#"{"metric":"m.s3cret","value":1,"unit":"s3cret","host":"s3cret"}"#,
        "metrics metric_name=m.[x] metric_type=gauge unit=[x] value=1 value_int=1 host=[x]",
    );
    check_redacted(
        Format::Json,
        r#"{"event":"e s3cret","user_id":"u","device":"s3cret","page":"/s3cret?q=s3cret"}"#,
        "activity event_name=e [x] user_id=u page_path=/[x] page_route=/[x] device=[x] @url.query=s:q=[x]",
    );
}

/// The column `signature` of the first log row.
fn signature_of(rules: &Rules, body: &str) -> Option<String> {
    let rows = transform(&batch(Format::Json, "test", body), rules).expect("a batch");
    let column = rows.tables[Table::Logs as usize].column_by_name("signature").expect("a column");
    let column = column.as_string::<i32>();
    column.is_valid(0).then(|| column.value(0).to_owned())
}

#[test]
fn the_signature_is_that_of_the_redacted_message() {
    let redacting = shown::rules(r#"{"redact":[{"name":"x","pattern":"s3cret\\w+"}]}"#);
    let digits = |message: &str| format!("{:016x}", crate::signature::signature(message));
    let of = |rules: &Rules, message: &str| signature_of(rules, &format!(r#"{{"message":"{message}"}}"#));
    assert_eq!(of(&redacting, "password s3cretA of 7"), Some(digits("password [x] of 9")));
    assert_eq!(of(&Rules::none(), "password s3cretA of 7"), Some(digits("password s3cretA of 9")));
    assert_eq!(signature_of(&Rules::none(), r#"{"level":"error"}"#), None, "no message, no signature");
    let activity = r#"{"event":"e","user_id":"u","message":"m","kind":"activity"}"#;
    let rows = transform(&batch(Format::Json, "test", activity), &Rules::none()).expect("a batch");
    assert!(rows.tables[Table::Activity as usize].column_by_name("signature").is_none());
}

#[test]
fn a_route_that_was_made_from_a_path_is_made_anew() {
    check_redacted(Format::Json, r#"{"path":"/a/s3cret/17"}"#, "logs http_path=/a/[x]/17 http_route=/a/[x]/{id}");
    check_redacted(
        Format::Access,
        r#"10.0.0.1 - - [24/Nov/2026:03:00:00 +0000] "GET /s3cret HTTP/1.1" 200 5"#,
        "logs severity_number=9 severity_text=INFO message=GET /[x] HTTP/1.1 http_method=GET http_path=/[x] \
         http_route=/[x] http_status=200 response_bytes=5 client_address=10.0.0.1 client_address_class=private \
         @network.protocol=s:HTTP/1.1",
    );
}

#[test]
fn a_redacted_value_of_another_type_is_a_text_and_json_stays_json() {
    check_redacted(
        Format::Json,
        r#"{"n":12345,"message":12345,"list":["s3cret",12345,{"k":"a\"s3cret"}],"keep":1234}"#,
        r#"logs message=[x] @n=s:[x] @list=j:["[x]","[x]",{"k":"a\"[x]"}] @keep=i:1234"#,
    );
    check_redacted(Format::Json, r#"{"message":["s3cret",12345]}"#, r#"logs message=["[x]","[x]"] message_type=j"#);
}

#[test]
fn exemplars_and_structured_bodies_are_redacted_inside_their_json() {
    check_redacted(
        Format::OtlpMetricsJson,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":"7","exemplars":[
            {"timeUnixNano":"1","asDouble":0.5,"filteredAttributes":[{"key":"k","value":{"stringValue":"s3cret"}}]}
        ]}]}}]}]}]}"#,
        r#"metrics metric_name=m metric_type=gauge value=7 value_int=7 exemplars=[{"time_unix_nano":1,"value":0.5,"attributes":{"k":"[x]"}}]"#,
    );
    check_redacted(
        Format::OtlpLogsJson,
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"a \"s3cret\""}}]}}}]}]}]}"#,
        r#"logs message={"k":"a \"[x]\""} message_type=j"#,
    );
}

#[test]
fn keys_that_redaction_makes_equal_stay_apart() {
    check_redacted(Format::Json, r#"{"s3cret":"a","12345":"b"}"#, "logs @[x]=s:a @[x]#2=s:b");
}

#[test]
fn ids_that_redaction_makes_equal_are_still_two() {
    check_redacted(
        Format::Json,
        "{\"insert_id\":\"12345\"}\n{\"insert_id\":\"54321\"}",
        "logs insert_id=[x]\nlogs insert_id=[x]",
    );
}

#[test]
fn filters_and_lookups_see_the_text_before_redaction() {
    let rules = shown::rules(
        r#"{"filter":[{"name":"f","where":[{"field":"host","equals":"s3cret"}]}],"redact":[{"name":"x","pattern":"s3cret"}]}"#,
    );
    let rows = transform(&batch(Format::Json, "test", r#"{"host":"s3cret"}"#), &rules).expect("a batch");
    assert_eq!(rows.counts.filtered, 1);
}

/// Rules with two tables of users, the second in `more.csv`, and further rules in JSON.
fn with_users(first: &str, second: &str, more: &str) -> Rules {
    let json = format!(r#"{{"users":[{{"name":"crm","file":"crm.csv"}},{{"name":"more","file":"more.csv"}}]{more}}}"#);
    let config: RulesConfig = serde_json::from_str(&json).expect("rules");
    let file = |path: &str| Ok(if path == "crm.csv" { first } else { second }.to_owned());
    Rules::compile(&config, &file).expect("rules without mistakes")
}

const CRM: &str = "user_id,user_segment,country\nu1,gold,DE\nu2,silver,\n";
const MORE: &str = "user_id,country\nu2,FR\nu3,US\n";

#[track_caller]
fn check_users(rules: &Rules, body: &str, row: &str, counts: [[u64; 2]; 2]) {
    let rows = transform(&batch(Format::Json, "test", body), rules).expect("a batch");
    assert_eq!(shown::show(&rows), row, "{body}");
    let found: Vec<_> = rows.lookups.iter().map(|counts| [counts.matches, counts.misses]).collect();
    assert_eq!(found, counts, "{body}");
}

#[test]
fn tables_of_users_fill_what_an_event_does_not_say_and_are_counted() {
    let rules = with_users(CRM, MORE, "");
    assert_eq!(rules.user_tables().collect::<Vec<_>>(), ["crm", "more"]);
    check_users(&rules, r#"{"user_id":"u1"}"#, "logs user_id=u1 user_segment=gold country=DE", [[1, 0], [0, 0]]);
    check_users(&rules, r#"{"user_id":"u2"}"#, "logs user_id=u2 user_segment=silver country=FR", [[1, 0], [1, 0]]);
    check_users(&rules, r#"{"user_id":"u3"}"#, "logs user_id=u3 country=US", [[0, 1], [1, 0]]);
    check_users(&rules, r#"{"user_id":"u4"}"#, "logs user_id=u4", [[0, 1], [0, 1]]);
    check_users(&rules, r#"{"message":"m"}"#, "logs message=m", [[0, 0], [0, 0]]);
    let own = r#"{"user_id":"u1","country":"PL","segment":"own"}"#;
    check_users(&rules, own, "logs user_id=u1 user_segment=own country=PL", [[0, 0], [0, 0]]);
    let half = r#"{"event":"buy","user_id":"u1","properties":{"country":"PL"}}"#;
    check_users(&rules, half, "activity event_name=buy user_id=u1 user_segment=gold country=PL", [[1, 0], [0, 0]]);
    let metric = r#"{"metric":"m","value":1,"user_id":"u1"}"#;
    let row = "metrics metric_name=m metric_type=gauge value=1 value_int=1 @user_id=s:u1";
    check_users(&rules, metric, row, [[0, 0], [0, 0]]);
}

#[test]
fn users_are_found_by_the_id_as_sent_whatever_the_transform_makes_of_it() {
    let redact = r#","redact":[{"name":"user","pattern":"u[0-9]"}]"#;
    let rules = with_users(CRM, MORE, redact);
    check_users(&rules, r#"{"user_id":"u1"}"#, "logs user_id=[user] user_segment=gold country=DE", [[1, 0], [0, 0]]);
    let redact = r#","redact":[{"name":"user","pattern":"u[0-9]","at":"receive"}]"#;
    let rules = with_users("user_id,country\n[user],XX\n", MORE, redact);
    let body = rules.redact_at_receive(Format::Json, br#"{"user_id":"u1"}"#).expect("it is redacted");
    let body = std::str::from_utf8(&body).expect("text");
    check_users(&rules, body, "logs user_id=[user] country=XX", [[1, 0], [0, 1]]);
}

#[test]
fn filters_and_lookups_see_what_the_tables_of_users_know() {
    let rules = with_users(CRM, MORE, r#","filter":[{"name":"f","where":[{"field":"user_segment","equals":"gold"}]}]"#);
    let dropped = |body| transform(&batch(Format::Json, "test", body), &rules).expect("a batch").counts.filtered;
    assert_eq!([dropped(r#"{"user_id":"u1"}"#), dropped(r#"{"user_id":"u2"}"#)], [1, 0]);
}

#[test]
fn the_content_of_a_table_is_part_of_the_version_and_shared_between_versions() {
    let (first, same) = (with_users(CRM, MORE, ""), with_users(CRM, MORE, ""));
    let other = with_users(CRM, "user_id,country\nu2,FR\n", "");
    assert_eq!(first.version(), same.version());
    assert_ne!(first.version(), other.version());
    let config: RulesConfig =
        serde_json::from_str(r#"{"users":[{"name":"crm","file":"crm.csv"}],"defaults":{"service":"s"}}"#)
            .expect("rules");
    let others = [Arc::new(first)];
    let next = Rules::compile_sharing(&config, &|_| Ok(CRM.to_owned()), &others).expect("rules");
    assert!(Arc::ptr_eq(&next.users[0].table, &others[0].users[0].table));
}

#[test]
fn a_bad_table_of_users_is_a_mistake_with_file_line_column_and_remedy() {
    let config: RulesConfig =
        serde_json::from_str(r#"{"users":[{"name":"crm","file":"crm.csv"},{"name":"crm","file":"b.csv"}]}"#)
            .expect("rules");
    let errors = Rules::compile(&config, &|_| Ok("user_id,country\nu1,DE\nu1,FR\n".to_owned())).expect_err("mistakes");
    let texts: Vec<String> = errors.iter().map(RulesError::to_string).collect();
    let expected = [
        "users \"crm\", file \"crm.csv\": line 3, column user_id: user \"u1\" is in line 2 already",
        "users \"crm\": the name is empty or that of another table",
        "users \"crm\", file \"b.csv\": line 3, column user_id: user \"u1\" is in line 2 already",
    ];
    assert_eq!(texts, expected);
    assert!(errors.iter().all(|error| !error.hint.is_empty()));
}
