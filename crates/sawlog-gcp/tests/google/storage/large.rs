//! Objects of more than one request.

use std::time::Duration;

use bytes::Bytes;
use sawlog_seams::lake::{Lake, LakeError, Put};
use sawlog_seams::{Clock, SeededRng, SystemClock};

use super::Service;

const KEY: &str = "raw/large.parquet";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// 65 MiB, in five parts.
fn large(seed: u64) -> Bytes {
    SeededRng::new(seed).bytes(65 << 20).into()
}

#[tokio::test]
async fn a_large_object_is_put_whole_and_once() {
    let service = Service::start();
    let (lake, content) = (service.lake(), large(1));
    assert_eq!(lake.put(KEY, content.clone()).await.expect("stored"), Put::Stored);
    assert_eq!((service.calls("part"), service.calls("copy")), (5, 1));
    assert!(lake.get(KEY).await.expect("content") == content);
    assert_eq!(lake.put(KEY, content.clone()).await.expect("the same"), Put::AlreadyThere);
    let refused = lake.put(KEY, large(2)).await;
    assert!(matches!(&refused, Err(LakeError::Conflict { .. })), "{refused:?}");
    assert_eq!(service.calls("part"), 5, "neither was uploaded");
    assert_eq!(lake.list("").await.expect("keys"), [KEY]);
    assert!(!service.file("_uploads").exists(), "nothing temporary is left");
}

#[tokio::test]
async fn each_step_of_a_large_put_may_fail_or_lose_its_answer() {
    let service = Service::start();
    let (lake, content) = (service.lake(), large(3));
    for (number, fault) in [
        r#"{"Kind":"initiate","Action":"status","Status":503}"#,
        r#"{"Kind":"part","Action":"reset","Skip":2}"#,
        r#"{"Kind":"part","Action":"status","Status":429,"Count":2}"#,
        r#"{"Kind":"complete","Action":"status","Status":500}"#,
        r#"{"Kind":"complete","When":"after","Action":"reset"}"#,
        r#"{"Kind":"copy","When":"after","Action":"reset"}"#,
        r#"{"Kind":"copy","Action":"status","Status":503}"#,
    ]
    .into_iter()
    .enumerate()
    {
        service.heal();
        service.fault(fault);
        let key = format!("raw/{number}");
        assert_eq!(lake.put(&key, content.clone()).await.expect("stored"), Put::Stored, "{fault}");
        assert!(std::fs::read(service.file(&key)).expect("a file") == content, "{fault}");
        assert!(!service.file("_uploads").exists(), "nothing temporary is left after {fault}");
        lake.delete(&key).await.expect("deleted");
    }
}

#[tokio::test]
async fn a_large_object_never_takes_a_name_that_another_writer_took_meanwhile() {
    let service = Service::start();
    let (lake, other) = (service.lake(), service.lake());
    // The other writer comes between the look at the name and the copy.
    service.fault(r#"{"Kind":"copy","Action":"delay","Millis":700}"#);
    let put = tokio::spawn(async move { lake.put(KEY, large(4)).await });
    while service.calls("copy") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    other.put(KEY, Bytes::from_static(b"small")).await.expect("stored");
    let refused = put.await.expect("no panic");
    assert!(matches!(&refused, Err(LakeError::Conflict { .. })), "{refused:?}");
    assert_eq!(other.get(KEY).await.expect("content"), "small");
}

#[tokio::test]
async fn damaged_parts_never_become_an_object() {
    let service = Service::start();
    let lake = service.lake();
    service.fault(r#"{"Kind":"part","Action":"corrupt","Skip":3}"#);
    let failed = lake.put(KEY, large(5)).await.expect_err("damaged");
    assert!(matches!(&failed, LakeError::Unavailable { problem, .. } if problem.contains("checksum")), "{failed:?}");
    assert!(lake.list("").await.expect("keys").is_empty());
}

#[tokio::test]
async fn what_a_crash_leaves_is_swept_by_age() {
    let service = Service::start();
    let lake = service.lake();
    service.fault(r#"{"Kind":"delete","Key":"_uploads/","Action":"status","Status":403}"#);
    assert_eq!(lake.put(KEY, large(6)).await.expect("stored"), Put::Stored);
    assert!(service.file("_uploads").exists(), "the removal was refused");
    assert_eq!(lake.list("").await.expect("keys"), [KEY], "no key of the lake");
    let now = SystemClock::new().now_micros();
    assert_eq!(lake.sweep(now, DAY).await.expect("swept"), 0, "it is too young");
    let in_two_days = now + 2 * i64::try_from(DAY.as_micros()).expect("a day");
    assert_eq!(lake.sweep(in_two_days, DAY).await.expect("swept"), 1);
    assert!(!service.file("_uploads").exists());
    assert_eq!(lake.list("").await.expect("keys"), [KEY]);
}
