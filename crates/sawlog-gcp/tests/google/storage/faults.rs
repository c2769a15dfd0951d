//! What a network and a service can do to a call.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sawlog_seams::lake::{Lake, LakeError, Put};

use super::Service;

const KEY: &str = "raw/receive_date=2026-11-24/receive_hour=03/a.parquet";
const CONTENT: Bytes = Bytes::from_static(b"one");

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let service = Service::start();
    let lake = service.lake();
    for status in [408, 429, 500, 502, 503, 504] {
        for call in ["put", "get", "list", "delete"] {
            service.heal();
            service.fault(&format!(r#"{{"Kind":"{call}","Action":"status","Status":{status}}}"#));
            match call {
                "put" => assert_eq!(lake.put(KEY, CONTENT).await.expect("stored"), Put::Stored),
                "get" => assert_eq!(lake.get(KEY).await.expect("content"), CONTENT),
                "list" => assert_eq!(lake.list("").await.expect("keys"), [KEY]),
                _ => lake.delete(KEY).await.expect("deleted"),
            }
            assert_eq!(service.calls(call), 2, "{call} {status}");
        }
    }
}

#[tokio::test]
async fn what_will_not_pass_is_an_error_with_a_remedy_at_once() {
    let service = Service::start();
    let lake = service.lake();
    for (status, remedy) in
        [(403, "grant this worker's service account roles/storage.objectUser"), (401, "renew"), (400, "400")]
    {
        service.heal();
        service.fault(&format!(r#"{{"Action":"status","Status":{status},"Count":9}}"#));
        let failed = [
            lake.put(KEY, CONTENT).await.map(drop).expect_err("put"),
            lake.get(KEY).await.map(drop).expect_err("get"),
            lake.delete(KEY).await.expect_err("delete"),
        ];
        for error in failed {
            assert!(matches!(&error, LakeError::Backend { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(remedy) && text.contains(&format!("gs://lake/logs/prod/{KEY}")), "{text}");
        }
        assert_eq!((service.calls("put"), service.calls("get"), service.calls("delete")), (1, 1, 1));
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_no_missing_object() {
    let service = Service::start();
    let mut options = service.options();
    options.bucket = "none".to_owned();
    let lake = sawlog_gcp::storage::GcsLake::open(options).expect("a lake");
    let failed = [
        lake.put(KEY, CONTENT).await.map(drop).expect_err("put"),
        lake.get(KEY).await.map(drop).expect_err("get"),
        lake.list("raw").await.map(drop).expect_err("list"),
        lake.delete(KEY).await.expect_err("delete"),
    ];
    for error in failed {
        let text = error.to_string();
        assert!(text.contains("make the bucket") && text.contains("gs://none/"), "{text}");
    }
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_knows_its_object_without_reading_it() {
    let service = Service::start();
    let lake = service.lake();
    for (number, fault) in ["hang", "reset", r#"status","Status":"503"#].iter().enumerate() {
        service.heal();
        let fault = fault.replace("\"503", "503");
        let end = if fault.ends_with("503") { "" } else { "\"" };
        service.fault(&format!(r#"{{"Kind":"put","When":"after","Action":"{fault}{end}}}"#));
        let key = format!("raw/{number}");
        assert_eq!(lake.put(&key, CONTENT).await.expect("stored"), Put::Stored, "{fault}");
        assert_eq!((service.calls("put"), service.calls("head"), service.calls("get")), (2, 1, 0), "{fault}");
    }
}

#[tokio::test]
async fn an_object_of_another_call_is_told_apart_by_its_content() {
    let service = Service::start();
    let (lake, other) = (service.lake(), service.lake());
    other.put(KEY, CONTENT).await.expect("stored");
    assert_eq!(lake.put(KEY, CONTENT).await.expect("the same"), Put::AlreadyThere);
    assert_eq!(service.calls("get"), 1, "the content was read");
    for different in [&b"two"[..], b"longer", b""] {
        let refused = lake.put(KEY, Bytes::from_static(different)).await;
        assert!(matches!(&refused, Err(LakeError::Conflict { key }) if key == KEY), "{refused:?}");
    }
    assert_eq!(service.calls("get"), 1, "size and checksum told the others");
    // Without the service's checksum, bytes decide; a connection that breaks while they are read changes nothing.
    service.fault(r#"{"Kind":"get","Action":"truncate"}"#);
    assert_eq!(lake.put(KEY, CONTENT).await.expect("the same"), Put::AlreadyThere);
}

#[tokio::test]
async fn of_workers_that_put_at_the_same_time_one_has_the_name() {
    let service = Service::start();
    let puts = (0..8_u8).map(|number| {
        let lake = service.lake();
        async move { lake.put(KEY, Bytes::from(vec![number])).await }
    });
    let answers = futures::future::join_all(puts).await;
    let stored: Vec<usize> = (0..8).filter(|number| matches!(answers[*number], Ok(Put::Stored))).collect();
    let conflicts = answers.iter().filter(|answer| matches!(answer, Err(LakeError::Conflict { .. }))).count();
    assert_eq!((stored.len(), conflicts), (1, 7), "{answers:?}");
    assert_eq!(service.lake().get(KEY).await.expect("content")[0] as usize, stored[0]);
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up_and_tried_again() {
    let service = Service::start();
    let lake = service.lake();
    service.fault(r#"{"Kind":"put","Action":"hang"}"#);
    assert_eq!(lake.put(KEY, CONTENT).await.expect("stored"), Put::Stored);
    service.fault(r#"{"Kind":"get","Action":"hang"}"#);
    assert_eq!(lake.get(KEY).await.expect("content"), CONTENT);
    let started = Instant::now();
    service.fault(r#"{"Kind":"delete","Action":"hang","Count":99}"#);
    let failed = lake.delete(KEY).await;
    assert!(
        matches!(&failed, Err(LakeError::Unavailable { problem, .. }) if problem.contains("no answer within")),
        "{failed:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(8), "the deadline and one try");
    service.heal();
}

#[tokio::test]
async fn content_that_is_damaged_on_the_way_is_sent_and_read_again() {
    let service = Service::start();
    let lake = service.lake();
    service.fault(r#"{"Kind":"put","Action":"corrupt"}"#);
    assert_eq!(lake.put(KEY, CONTENT).await.expect("stored"), Put::Stored);
    assert_eq!(service.calls("put"), 2, "the service refused the damaged one");
    for fault in ["truncate", "reset", r#"corrupt","When":"after"#] {
        service.heal();
        service.fault(&format!(r#"{{"Kind":"get","Action":"{fault}"}}"#));
        assert_eq!(lake.get(KEY).await.expect("content"), CONTENT, "{fault}");
        assert_eq!(service.calls("get"), 2, "{fault}");
    }
}

#[tokio::test]
async fn a_service_that_is_away_is_reported_in_time_and_used_again_when_it_is_back() {
    let mut service = Service::start();
    let lake = service.lake();
    lake.put(KEY, CONTENT).await.expect("stored");
    service.kill();
    let started = Instant::now();
    let failed = lake.get(KEY).await.expect_err("away");
    assert!(matches!(&failed, LakeError::Unavailable { .. }), "{failed:?}");
    assert!(failed.to_string().contains("onnection refused"), "{failed}");
    assert!(started.elapsed() < Duration::from_secs(8));
    service.restart();
    assert_eq!(lake.get(KEY).await.expect("content"), CONTENT);
    assert_eq!(lake.put(KEY, CONTENT).await.expect("the same"), Put::AlreadyThere);
}
