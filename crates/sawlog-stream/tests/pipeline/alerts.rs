//! Alert rules through the pipeline: their memory, and rules that go.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use sawlog_core::alert::{AlertConfig, Rule};
use sawlog_seams::serving::{Family, ServingStore};
use sawlog_seams::{Clock, ManualClock};
use sawlog_stream::{AckLevel, JudgeOptions, Pipeline, PipelineOptions, Stores, SubmitError};

use super::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_alert_rules_keep_is_memory_and_leaves_half_of_it_to_events() {
    const MEMORY_MAX: usize = 128 << 10;
    let world = World::new();
    let clock = Arc::new(ManualClock::at_micros(NOW));
    let rule = AlertConfig {
        name: "many".to_owned(),
        kind: "ratio".to_owned(),
        value: Some(2.0),
        group_by: vec!["service".to_owned()],
        ..AlertConfig::default()
    };
    let rules = Rule::compile(&[rule]).expect("a rule");
    let judge = JudgeOptions { rules, ..JudgeOptions::default() };
    let stores = Stores { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..world.stores() };
    let pipeline = world.open_with(stores, PipelineOptions { memory_bytes_max: MEMORY_MAX, judge, ..options() }).await;
    let body: String =
        (0..1_500).map(|service| format!("{{\"message\":\"m\",\"service\":\"s{service}\"}}\n")).collect();
    submit(&pipeline, &body, None).await;
    pipeline.flush().await.expect("a flush");
    assert_eq!(pipeline.memory_bytes(), 0, "nothing is judged yet");
    clock.advance(Duration::from_secs(600));
    submit(&pipeline, &event("a", "completes the window"), None).await;
    pipeline.flush().await.expect("a flush");
    let kept = pipeline.alert_state_bytes();
    assert!(kept > MEMORY_MAX, "{kept} B");
    assert_eq!(pipeline.memory_bytes(), kept, "a flush makes no room of it");
    submit(&pipeline, &event("b", &"x".repeat(100)), None).await;
    let refused = pipeline.submit(submission(&event("c", &"x".repeat(MEMORY_MAX / 2)), None, AckLevel::Disk)).await;
    assert!(refused.is_ok(), "there is room until it is taken: {refused:?}");
    let refused = pipeline.submit(submission(&event("d", "m"), None, AckLevel::Disk)).await;
    assert!(matches!(refused, Err(SubmitError::Overloaded)), "{refused:?}");
    pipeline.flush().await.expect("a flush");
    submit(&pipeline, &event("e", "m"), None).await;
    pipeline.close().await.expect("closed");
}

/// Changes of alerts so far, each with its state and reason.
fn alert_changes(pipeline: &Pipeline) -> Vec<String> {
    let mut changes = Vec::new();
    for batch in rows(pipeline, "alert_events") {
        let text = |name: &str, row| batch.column_by_name(name).expect(name).as_string::<i32>().value(row).to_owned();
        let one = |row| [text("rule", row), text("change", row), text("reason", row)].join(" ");
        changes.extend((0..batch.num_rows()).map(one));
    }
    changes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fires_by_a_rule_that_is_removed_is_ended_by_the_next_start_whatever_crashes() {
    let rule =
        AlertConfig { name: "errors".to_owned(), kind: "ratio".to_owned(), value: Some(0.5), ..AlertConfig::default() };
    let judge =
        |rules: &[AlertConfig]| JudgeOptions { rules: Rule::compile(rules).expect("rules"), ..JudgeOptions::default() };
    let mut world = World::new();
    let clock = Arc::new(ManualClock::at_micros(NOW));
    let open = async |world: &World, rules: &[AlertConfig]| {
        let stores = Stores { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..world.stores() };
        world.open_with(stores, PipelineOptions { judge: judge(rules), ..options() }).await
    };
    let pipeline = open(&world, std::slice::from_ref(&rule)).await;
    submit(&pipeline, &event("a", "fires"), None).await;
    clock.advance(Duration::from_secs(100));
    submit(&pipeline, &event("b", "completes the window"), None).await;
    let fired = alert_changes(&pipeline);
    assert!(matches!(fired.as_slice(), [fired] if fired.starts_with("errors firing")), "{fired:?}");
    pipeline.close().await.expect("closed");
    let ended = [fired[0].as_str(), "errors resolved the rule was removed"];
    // Twice without a flush: the log tells it again, the same.
    for _ in 0..2 {
        world = world.after_kill();
        let pipeline = open(&world, &[]).await;
        submit(&pipeline, &event("c", "no window is complete"), Some("c")).await;
        assert_eq!(alert_changes(&pipeline), ended);
    }
    for _ in 0..2 {
        world = world.after_kill();
        let pipeline = open(&world, &[]).await;
        pipeline.close().await.expect("closed");
        assert_eq!(alert_changes(&pipeline), ended, "it is told once");
    }
    let stored = world.serving.snapshot().scan(Family::Alert, b"", None).expect("a scan");
    assert_eq!(stored.len(), 0, "its state goes with it");
}
