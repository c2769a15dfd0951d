//! The spool before a lake that comes and goes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use sawlog_gcp::storage::{OpenSpoolError, SpoolOptions, SpooledLake};
use sawlog_seams::lake::{Lake, LakeError, MemoryLake, Put};
use sawlog_seams::{SeededRng, SystemClock};
use tokio::time::sleep;

use super::Service;

const OPTIONS: SpoolOptions = SpoolOptions {
    bytes_max: 1 << 20,
    drains_at_once: 8,
    retry_first: Duration::from_millis(50),
    retry_max: Duration::from_millis(400),
};

/// A service, and the disk of a worker.
struct Fixture {
    service: Service,
    local: Arc<MemoryLake>,
}

impl Fixture {
    fn new() -> Self {
        Self { service: Service::start(), local: Arc::default() }
    }

    async fn open(&self) -> SpooledLake {
        self.with(OPTIONS).await
    }

    async fn with(&self, options: SpoolOptions) -> SpooledLake {
        self.over(Arc::clone(&self.local) as Arc<dyn Lake>, options).await
    }

    async fn over(&self, local: Arc<dyn Lake>, options: SpoolOptions) -> SpooledLake {
        let mut remote = self.service.options();
        remote.call_deadline = Duration::from_millis(200);
        let remote = sawlog_gcp::storage::GcsLake::open(remote).expect("a lake");
        SpooledLake::open(Arc::new(remote), local, options, Arc::new(SystemClock::new())).await.expect("a spool")
    }

    async fn local_keys(&self) -> Vec<String> {
        self.local.list("").await.expect("keys")
    }
}

impl sawlog_seams::contract::lake::Fixture for Fixture {
    fn open(&self) -> Arc<dyn Lake> {
        tokio::task::block_in_place(|| Arc::new(tokio::runtime::Handle::current().block_on(self.open())))
    }
}

sawlog_seams::lake_contract!(Fixture::new());

async fn empties(spool: &SpooledLake) {
    let started = Instant::now();
    while spool.stats().objects > 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", spool.stats());
        sleep(Duration::from_millis(5)).await;
    }
}

fn content(number: usize) -> Bytes {
    Bytes::from(format!("content {number}"))
}

#[tokio::test]
async fn objects_wait_in_the_spool_while_the_service_is_away() {
    let mut fixture = Fixture::new();
    let spool = fixture.open().await;
    spool.put("raw/0", content(0)).await.expect("stored");
    fixture.service.kill();
    for number in 1..5 {
        assert_eq!(spool.put(&format!("raw/{number}"), content(number)).await.expect("spooled"), Put::Stored);
        assert_eq!(spool.get(&format!("raw/{number}")).await.expect("content"), content(number));
    }
    let stats = spool.stats();
    assert_eq!((stats.objects, stats.bytes, stats.conflicting, stats.is_remote_away), (4, 36, 0, true));
    assert!(stats.oldest_age.is_some());
    assert!(matches!(spool.list("raw").await, Err(LakeError::Unavailable { .. })), "a part of the keys is no list");
    assert!(matches!(spool.get("raw/0").await, Err(LakeError::Unavailable { .. })));
    fixture.service.restart();
    empties(&spool).await;
    let keys = ["raw/0", "raw/1", "raw/2", "raw/3", "raw/4"];
    assert_eq!(spool.list("raw").await.expect("keys"), keys);
    assert_eq!(fixture.service.lake().list("raw").await.expect("keys"), keys);
    assert!(fixture.local_keys().await.is_empty());
    assert_eq!(spool.put("raw/5", content(5)).await.expect("stored"), Put::Stored);
    assert_eq!(spool.stats().bytes, 0, "it went to the service directly");
}

#[tokio::test]
async fn once_holds_across_the_spool_and_the_service() {
    let mut fixture = Fixture::new();
    let spool = fixture.open().await;
    fixture.service.kill();
    spool.put("raw/a", content(1)).await.expect("spooled");
    assert_eq!(spool.put("raw/a", content(1)).await.expect("the same"), Put::AlreadyThere);
    let refused = spool.put("raw/a", content(2)).await;
    assert!(matches!(&refused, Err(LakeError::Conflict { key }) if key == "raw/a"), "{refused:?}");
    fixture.service.restart();
    empties(&spool).await;
    assert_eq!(spool.put("raw/a", content(1)).await.expect("the same"), Put::AlreadyThere);
    assert!(matches!(spool.put("raw/a", content(2)).await, Err(LakeError::Conflict { .. })));
}

#[tokio::test]
async fn keys_of_both_are_listed_once() {
    let fixture = Fixture::new();
    let spool = fixture.open().await;
    spool.put("raw/b", content(1)).await.expect("stored");
    fixture.service.fault(r#"{"Kind":"put","Action":"status","Status":503,"Count":1000}"#);
    spool.put("raw/a", content(2)).await.expect("spooled");
    spool.put("other/a", content(3)).await.expect("spooled");
    // The service has this one although it said otherwise.
    fixture.service.lake().put("raw/c", content(4)).await.expect_err("a fault");
    assert_eq!(spool.list("raw").await.expect("keys"), ["raw/a", "raw/b"]);
    spool.delete("raw/a").await.expect("deleted");
    assert_eq!(spool.list("").await.expect("keys"), ["other/a", "raw/b"]);
    fixture.service.heal();
    empties(&spool).await;
    assert_eq!(
        fixture.service.lake().list("").await.expect("keys"),
        ["other/a", "raw/b"],
        "the deleted one stays away"
    );
}

#[tokio::test]
async fn a_put_that_the_service_did_although_it_gave_no_answer_is_no_conflict() {
    let fixture = Fixture::new();
    let spool = fixture.open().await;
    fixture.service.fault(r#"{"Kind":"put","When":"after","Action":"status","Status":503}"#);
    fixture.service.fault(r#"{"Kind":"head","Action":"status","Status":503,"Count":4}"#);
    spool.put("raw/a", content(1)).await.expect("stored or spooled");
    empties(&spool).await;
    assert_eq!((spool.stats().conflicting, fixture.local_keys().await.len()), (0, 0));
    assert_eq!(fixture.service.lake().get("raw/a").await.expect("content"), content(1));
}

#[tokio::test]
async fn a_full_spool_holds_puts_up() {
    let mut fixture = Fixture::new();
    let spool = fixture.with(SpoolOptions { bytes_max: 20, ..OPTIONS }).await;
    fixture.service.kill();
    spool.put("raw/1", content(1)).await.expect("spooled");
    spool.put("raw/2", content(2)).await.expect("spooled");
    let failed = spool.put("raw/3", content(3)).await.expect_err("full");
    assert!(matches!(&failed, LakeError::Unavailable { .. }), "{failed:?}");
    assert!(failed.to_string().contains("the spool is full (20 bytes)"), "{failed}");
    assert_eq!(spool.stats().objects, 2);
    fixture.service.restart();
    empties(&spool).await;
    assert_eq!(spool.put("raw/3", content(3)).await.expect("stored"), Put::Stored);
}

#[tokio::test]
async fn a_restart_goes_on_with_what_is_in_the_spool() {
    let mut fixture = Fixture::new();
    let spool = fixture.open().await;
    fixture.service.kill();
    for number in 0..30 {
        spool.put(&format!("raw/{number:02}"), content(number)).await.expect("spooled");
    }
    spool.stop().await;
    drop(spool);
    assert_eq!(fixture.local_keys().await.len(), 30);
    let spool = fixture.open().await;
    assert_eq!((spool.stats().objects, spool.stats().bytes), (30, 290));
    assert_eq!(spool.put("raw/07", content(7)).await.expect("the same"), Put::AlreadyThere);
    assert!(matches!(spool.put("raw/07", content(8)).await, Err(LakeError::Conflict { .. })));
    fixture.service.restart();
    empties(&spool).await;
    let lake = fixture.service.lake();
    assert_eq!(lake.list("").await.expect("keys").len(), 30);
    assert_eq!(lake.get("raw/29").await.expect("content"), content(29));
}

#[tokio::test]
async fn content_that_the_service_has_otherwise_is_set_aside_and_never_lost() {
    let mut fixture = Fixture::new();
    let spool = fixture.open().await;
    fixture.service.lake().put("raw/a", content(1)).await.expect("stored");
    fixture.service.kill();
    spool.put("raw/a", content(2)).await.expect("nobody can know");
    spool.put("raw/b", content(3)).await.expect("spooled");
    fixture.service.restart();
    empties(&spool).await;
    assert_eq!((spool.stats().conflicting, spool.stats().bytes), (1, 9), "it still takes room");
    assert_eq!(spool.get("raw/a").await.expect("content"), content(1), "what was there first");
    assert_eq!(spool.get("raw/b").await.expect("content"), content(3), "the others go on");
    let kept = fixture.local_keys().await;
    assert!(kept.len() == 1 && kept[0].starts_with("conflicting/raw/") && kept[0].ends_with("-a"), "{kept:?}");
    assert_eq!(fixture.local.get(&kept[0]).await.expect("content"), content(2));
    drop(spool);
    assert_eq!(fixture.open().await.stats().conflicting, 1, "known after a restart");
}

#[tokio::test]
async fn the_spool_empties_at_least_three_times_as_fast_as_it_could_fill() {
    let mut fixture = Fixture::new();
    let spool = fixture.open().await;
    fixture.service.kill();
    let spooled = 120;
    for number in 0..spooled {
        spool.put(&format!("old/{number}"), content(number)).await.expect("spooled");
    }
    fixture.service.restart();
    // A put takes 40 ms, and ingest does one after the other, as a flush does.
    fixture.service.fault(r#"{"Kind":"put","Action":"delay","Millis":40,"Count":100000}"#);
    while spool.stats().is_remote_away {
        sleep(Duration::from_millis(1)).await;
    }
    let mut new = 0;
    while spool.stats().objects > 0 {
        spool.put(&format!("new/{new}"), content(new)).await.expect("stored");
        new += 1;
    }
    assert!(new > 0 && new * 3 <= spooled, "{new} were put while {spooled} left the spool");
    assert_eq!(fixture.service.lake().list("").await.expect("keys").len(), spooled + new);
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_and_does_not_empty_the_spool() {
    let mut fixture = Fixture::new();
    let spool = fixture.open().await;
    fixture.service.kill();
    spool.put("raw/a", content(1)).await.expect("spooled");
    fixture.service.restart();
    fixture.service.fault(r#"{"Kind":"put","Action":"status","Status":403,"Count":1000}"#);
    while spool.stats().is_remote_away {
        sleep(Duration::from_millis(5)).await;
    }
    let refused = spool.put("raw/b", content(2)).await;
    assert!(matches!(&refused, Err(LakeError::Backend { .. })), "{refused:?}");
    assert_eq!((spool.stats().objects, fixture.local_keys().await.len()), (1, 1));
    fixture.service.heal();
    empties(&spool).await;
    assert_eq!(fixture.service.lake().list("").await.expect("keys"), ["raw/a"]);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_service_that_hangs() {
    let fixture = Fixture::new();
    let spool = fixture.open().await;
    fixture.service.fault(r#"{"Kind":"put","Action":"hang","Count":1000}"#);
    spool.put("raw/a", content(1)).await.expect("spooled");
    let seen = fixture.service.calls("put");
    while fixture.service.calls("put") == seen {
        sleep(Duration::from_millis(5)).await;
    }
    let started = Instant::now();
    spool.stop().await;
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    assert_eq!((spool.stats().objects, fixture.local_keys().await.len()), (1, 1));
    fixture.service.heal();
}

#[tokio::test]
async fn a_folder_of_something_else_is_no_spool() {
    let fixture = Fixture::new();
    fixture.local.put("raw/a.parquet", content(1)).await.expect("stored");
    let remote = Arc::new(fixture.service.lake());
    let local = Arc::clone(&fixture.local) as Arc<dyn Lake>;
    let refused = SpooledLake::open(remote, local, OPTIONS, Arc::new(SystemClock::new())).await;
    assert!(matches!(&refused, Err(OpenSpoolError::Foreign { key }) if key == "raw/a.parquet"), "{refused:?}");
}

/// A disk on which calls of one kind fail.
#[derive(Default)]
struct FaultyDisk {
    lake: Arc<MemoryLake>,
    failing: Mutex<&'static str>,
}

impl FaultyDisk {
    fn fail(&self, call: &'static str) {
        *self.failing.lock().expect("no panic") = call;
    }

    fn check(&self, call: &str, key: &str) -> Result<(), LakeError> {
        match *self.failing.lock().expect("no panic") {
            failing if failing == call => Err(LakeError::DiskFull { key: key.to_owned() }),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Lake for FaultyDisk {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Put, LakeError> {
        self.check("put", key)?;
        self.lake.put(key, bytes).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, LakeError> {
        self.check("get", key)?;
        self.lake.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, LakeError> {
        self.lake.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<(), LakeError> {
        self.check("delete", key)?;
        self.lake.delete(key).await
    }
}

#[tokio::test]
async fn a_disk_that_fails_costs_no_object_and_no_room() {
    let (mut fixture, disk) = (Fixture::new(), Arc::new(FaultyDisk::default()));
    let spool = fixture.over(Arc::clone(&disk) as Arc<dyn Lake>, OPTIONS).await;
    fixture.service.kill();
    disk.fail("put");
    let failed = spool.put("raw/a", content(1)).await;
    assert!(matches!(&failed, Err(LakeError::DiskFull { key }) if key == "raw/a"), "{failed:?}");
    assert_eq!((spool.stats().objects, spool.stats().bytes), (0, 0));
    disk.fail("");
    spool.put("raw/a", content(1)).await.expect("spooled");
    disk.fail("delete");
    fixture.service.restart();
    // The service says that it has it, once and again.
    while fixture.service.calls("put") < 2 {
        assert_eq!((spool.stats().objects, spool.stats().bytes), (1, 9), "it stays until it can be removed");
        sleep(Duration::from_millis(5)).await;
    }
    disk.fail("");
    empties(&spool).await;
    assert_eq!(fixture.service.lake().get("raw/a").await.expect("content"), content(1));
    assert!(disk.lake.list("").await.expect("keys").is_empty());
}

/// Puts from several tasks, some of them dropped half-way, while the service dies, comes back, loses answers and refuses
/// for a while, and the worker restarts in between. At the end each object is there with its own content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_changed_whatever_happens() {
    let mut fixture = Fixture::new();
    let mut rng = SeededRng::new(2026);
    let mut accepted = Vec::new();
    for round in 0..12 {
        let spool = Arc::new(fixture.open().await);
        match rng.below(5) {
            _ if fixture.service.double.is_none() => {}
            0 => fixture.service.kill(),
            1 => fixture.service.fault(r#"{"When":"after","Action":"reset","Skip":3,"Count":10}"#),
            2 => fixture.service.fault(r#"{"Kind":"put","Action":"status","Status":503,"Count":40}"#),
            3 => fixture.service.fault(r#"{"When":"after","Action":"status","Status":500,"Skip":5,"Count":10}"#),
            _ => {}
        }
        let puts: Vec<_> = (0..12)
            .map(|number| {
                let (spool, number, is_dropped) = (Arc::clone(&spool), round * 100 + number, rng.one_in(4));
                tokio::spawn(async move {
                    let put = async { spool.put(&format!("raw/{number}"), content(number)).await.map(|_| number) };
                    match is_dropped {
                        true => tokio::time::timeout(Duration::from_millis(3), put).await.ok()?.ok(),
                        false => put.await.ok(),
                    }
                })
            })
            .collect();
        for put in puts {
            accepted.extend(put.await.expect("no panic"));
        }
        if rng.one_in(2) && fixture.service.double.is_none() {
            fixture.service.restart();
        }
        spool.stop().await;
        if fixture.service.double.is_some() {
            fixture.service.heal();
        }
    }
    if fixture.service.double.is_none() {
        fixture.service.restart();
    }
    let spool = fixture.open().await;
    empties(&spool).await;
    assert!(accepted.len() > 100, "{} puts were accepted", accepted.len());
    assert_eq!((spool.stats().bytes, spool.stats().conflicting), (0, 0));
    let lake = fixture.service.lake();
    let keys = lake.list("raw").await.expect("keys");
    for number in accepted {
        assert!(keys.binary_search(&format!("raw/{number}")).is_ok(), "{number} was accepted");
    }
    for key in keys {
        let number = key["raw/".len()..].parse().expect("a number");
        assert_eq!(lake.get(&key).await.expect("content"), content(number));
    }
    assert!(fixture.local_keys().await.is_empty());
}
