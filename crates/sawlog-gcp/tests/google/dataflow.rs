//! Jobs of Dataflow on a double of the service.

use std::collections::BTreeMap;
use std::time::Duration;

use sawlog_gcp::Access;
use sawlog_gcp::call::RetryPolicy;
use sawlog_gcp::dataflow::{Counter, Dataflow, DataflowError, DataflowOptions, Job, JobState, Launch, Workers};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::double::Double;

const FAULTS: &str = "/_faults";

struct World {
    double: Double,
    client: Dataflow,
}

impl World {
    fn new(pace: &str) -> Self {
        let double = Double::start("dataflow", &["-pace", pace], 1);
        let client = client(&double, Duration::from_secs(10));
        Self { double, client }
    }

    /// Makes a call go wrong.
    fn fail(&self, call: &str, fault: Value) {
        let mut wish = json!({"call": call});
        wish.as_object_mut().expect("an object").extend(fault.as_object().expect("an object").clone());
        self.double.post(FAULTS, &wish);
    }

    fn calls(&self, call: &str) -> u64 {
        self.double.get(FAULTS)[call].as_u64().unwrap_or_default()
    }

    /// The job once it is in a state.
    async fn once(&self, id: &str, state: JobState) -> Job {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let job = self.client.job(id).await.expect("there");
            if job.state == state {
                return job;
            }
            assert!(Instant::now() < deadline, "{job:?} is not {state:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn running(&self) -> Job {
        let job = self.client.launch(&launch(), None).await.expect("launched");
        self.once(&job.id, JobState::Running).await
    }
}

fn client(double: &Double, total_max: Duration) -> Dataflow {
    let access = Access::new(Some(double.url())).expect("a URL");
    let retry = RetryPolicy { delay_first: Duration::from_millis(10), total_max, ..RetryPolicy::default() };
    Dataflow::new(DataflowOptions { project: "p".to_owned(), region: "r".to_owned(), access, retry }).expect("a client")
}

fn launch() -> Launch {
    let parameters = [("subscription", "projects/p/subscriptions/s"), ("shards", "8"), ("lake", "gs://b")];
    Launch {
        job_name: "sawlog".to_owned(),
        template: "gs://b/t.json".to_owned(),
        parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        workers: Workers { max: Some(4), has_streaming_engine: true, ..Workers::default() },
        at_least_once: false,
        labels: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
        renamed: BTreeMap::new(),
    }
}

fn code(error: DataflowError) -> &'static str {
    match error {
        DataflowError::Call(failed) => failed.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_job_is_launched_replaced_and_drained() {
    let world = World::new("50ms");
    let first = world.running().await;
    let options = first.options.as_ref().expect("known");
    assert_eq!((options["shards"].as_str(), options["subscription"].as_str()), ("8", "projects/p/subscriptions/s"));
    assert!(first.steps.contains("From projects/p/subscriptions/s") && first.steps.contains("Keep raw"), "{first:?}");
    assert_eq!((first.labels["team"].as_str(), first.sdk.as_str()), ("a", "Apache Beam Python 3.11 SDK 2.77.0"));
    assert_eq!(code(world.client.launch(&launch(), None).await.expect_err("one runs")), "ALREADY_EXISTS");

    let second = world.client.launch(&launch(), Some(&first)).await.expect("launched");
    let replaced = world.once(&first.id, JobState::Updated).await;
    assert_eq!(replaced.replaced_by.as_ref(), Some(&second.id));
    assert_eq!(world.client.job(&second.id).await.expect("there").replaces.as_ref(), Some(&first.id));

    world.client.drain(&second.id).await.expect("drained");
    world.client.drain(&second.id).await.expect("a repeat changes nothing");
    world.once(&second.id, JobState::Drained).await;
    assert_eq!(code(world.client.cancel(&second.id).await.expect_err("it has ended")), "FAILED_PRECONDITION");
    assert!(world.client.active("sawlog").await.expect("a list").is_empty());
    let newest = world.client.newest("sawlog").await.expect("a list").expect("a job");
    assert_eq!((newest.id, world.client.newest("other").await.expect("a list")), (second.id, None));
}

#[tokio::test]
async fn a_launch_whose_answer_is_lost_is_not_made_twice() {
    let world = World::new("50ms");
    world.fail("LaunchFlexTemplate", json!({"after": true, "reset": true}));
    let first = world.client.launch(&launch(), None).await.expect("launched");
    assert_eq!(world.calls("LaunchFlexTemplate"), 1, "the job was found instead");
    let first = world.once(&first.id, JobState::Running).await;

    world.fail("LaunchFlexTemplate", json!({"after": true, "status": "UNAVAILABLE"}));
    let second = world.client.launch(&launch(), Some(&first)).await.expect("launched");
    assert_eq!((world.calls("LaunchFlexTemplate"), second.id == first.id), (2, false));

    // One that did not come through is made again, though the job that it replaces is there.
    let second = world.once(&second.id, JobState::Running).await;
    world.fail("LaunchFlexTemplate", json!({"status": "UNAVAILABLE"}));
    let third = world.client.launch(&launch(), Some(&second)).await.expect("launched");
    assert_eq!((world.calls("LaunchFlexTemplate"), third.id == second.id), (4, false));
}

#[tokio::test]
async fn what_passes_is_tried_again_and_the_rest_is_told() {
    let world = World::new("50ms");
    let job = world.running().await;
    for (call, status) in [("GetJob", "RESOURCE_EXHAUSTED"), ("ListJobs", "UNAVAILABLE"), ("UpdateJob", "INTERNAL")] {
        world.fail(call, json!({"status": status, "count": 2}));
    }
    world.client.job(&job.id).await.expect("after two refusals");
    world.client.active("sawlog").await.expect("after two refusals");
    world.client.drain(&job.id).await.expect("after two refusals");

    world.double.put("/_denied", &json!(["dataflow.jobs.get"]));
    let denied = world.client.job(&job.id).await.expect_err("denied");
    assert!(denied.hint().contains("roles/dataflow.developer"), "{denied}");
    let before = world.calls("GetJob");
    assert_eq!((code(denied), world.calls("GetJob")), ("PERMISSION_DENIED", before), "it is not tried again");

    world.fail("ListJobs", json!({"status": "UNAVAILABLE", "count": 1_000}));
    let started = Instant::now();
    let error = client(&world.double, Duration::from_millis(300)).active("sawlog").await.expect_err("away");
    assert!(started.elapsed() < Duration::from_secs(5) && code(error) == "UNAVAILABLE");
}

#[tokio::test]
async fn lists_are_read_to_their_end() {
    let world = World::new("0s");
    let job = world.running().await;
    for number in 0..230 {
        world.double.post("/_dataflow", &json!({"job": job.id, "error": format!("error {number}")}));
    }
    let errors = world.client.errors(&job.id, 2).await.expect("messages");
    let texts: Vec<&str> = errors.iter().map(|error| error.text.as_str()).collect();
    assert_eq!(texts, ["error 228", "error 229"]);
    assert_eq!(world.calls("ListJobMessages"), 3);
}

#[tokio::test]
async fn watermarks_and_counters_are_those_of_the_job() {
    let world = World::new("0s");
    let job = world.running().await;
    let metric = |name: &str, context: Value, scalar: Value| json!({"name": {"origin": "dataflow/v1b3", "name": name, "context": context}, "scalar": scalar});
    let metrics = json!({"metrics": [
        metric("F1-windmill-data-watermark", json!({}), json!("1793491200000000")),
        metric("F1-windmill-system-watermark", json!({}), json!(1_793_491_201_000_000_i64)),
        metric("repeated", json!({"namespace": "sawlog", "step": "s9"}), json!(7)),
    ]});
    world.double.post("/_dataflow", &json!({"job": job.id, "metrics": metrics}));
    let health = world.client.health(&job.id).await.expect("metrics");
    assert_eq!(health.data_watermark, Some(1_793_491_200_000_000));
    assert_eq!(health.system_watermark, Some(1_793_491_201_000_000));
    assert_eq!(health.counters, [Counter { name: "repeated".to_owned(), value: 7 }]);
}
