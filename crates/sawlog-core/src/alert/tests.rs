//! From cells of windows to events: each kind of rule, late data, restarts.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::cast::AsArray;
use proptest::prelude::*;

use super::*;
use crate::anomaly::{Scope, Scored, Series, Signal};
use crate::rollup::{Activity, Cell, Metric, OTHER, PaneView, Requests, Rollup, Sample, Width};
use crate::window::Window;

pub(super) const MINUTE: i64 = 60_000_000;
/// A Monday, midnight.
pub(super) const START: i64 = 1_795_392_000_000_000;
pub(super) const LATENESS: i64 = 10 * MINUTE;

pub(super) type OneCell = (Rollup, Vec<Option<String>>, Cell);
pub(super) type Cells = Vec<OneCell>;

pub(super) fn window(index: i64) -> Window {
    Window { start: START + index * MINUTE, end: START + (index + 1) * MINUTE }
}

/// Minute of a window's end, for short expectations.
pub(super) fn minute(at: i64) -> i64 {
    (at - START) / MINUTE - 1
}

pub(super) fn config(kind: &str) -> AlertConfig {
    AlertConfig { name: "rule".to_owned(), kind: kind.to_owned(), ..AlertConfig::default() }
}

pub(super) fn ratio() -> AlertConfig {
    AlertConfig { value: Some(0.05), group_by: vec!["service".to_owned()], ..config("ratio") }
}

pub(super) fn alerts(config: AlertConfig) -> Alerts {
    Alerts::new(Rule::compile(&[config]).expect("a rule"), AlertOptions { allowed_lateness: LATENESS })
}

/// Log records of a service: their number, errors, and a duration of each in milliseconds.
pub(super) fn requests(service: &str, count: u64, errors: u64, milliseconds: f64) -> OneCell {
    let mut cell = Requests { count, error_count: errors, request_count: count, ..Requests::default() };
    cell.latency.add_times(milliseconds * 1e3, count);
    (Rollup::Requests, vec![Some(service.to_owned()), None, None], Cell::Requests(Box::new(cell)))
}

fn views(cells: &Cells) -> Vec<PaneView<'_>> {
    cells.iter().map(|(rollup, parts, cell)| PaneView { rollup: *rollup, parts, cell }).collect()
}

pub(super) fn complete(alerts: &mut Alerts, index: i64, cells: &Cells) -> Vec<AlertEvent> {
    alerts.complete(window(index), &views(cells), &[])
}

pub(super) fn late(alerts: &mut Alerts, index: i64, cells: &Cells) -> Vec<AlertEvent> {
    late_for(alerts, &[(index, cells)])
}

fn late_for(alerts: &mut Alerts, windows: &[(i64, &Cells)]) -> Vec<AlertEvent> {
    let added: Vec<Added<'_>> = windows.iter().map(|(index, cells)| (window(*index), views(cells))).collect();
    alerts.late(&added)
}

/// Events as (change, state, minute, minute of the firing, minute of its end).
pub(super) type Told = (&'static str, &'static str, i64, Option<i64>, Option<i64>);

pub(super) fn told(events: &[AlertEvent]) -> Vec<Told> {
    let one = |event: &AlertEvent| {
        let times = (event.fired_at.map(minute), event.resolved_at.map(minute));
        (event.change.name(), event.state.name(), minute(event.at), times.0, times.1)
    };
    events.iter().map(one).collect()
}

/// Runs a rule over windows of one cell each, or of none.
pub(super) fn run(alerts: &mut Alerts, cells: &[Option<OneCell>]) -> Vec<AlertEvent> {
    let each = cells.iter().enumerate();
    each.flat_map(|(index, cell)| complete(alerts, index as i64, &cell.iter().cloned().collect())).collect()
}

pub(super) fn errors(counts: &[u64]) -> Vec<Option<OneCell>> {
    counts.iter().map(|errors| Some(requests("shop", 100, *errors, 10.0))).collect()
}

#[test]
fn a_ratio_is_pending_then_fires_and_is_resolved() {
    let rule = AlertConfig { held: Some("2m".to_owned()), resolve_after: Some("3m".to_owned()), ..ratio() };
    let events = run(&mut alerts(rule), &errors(&[1, 9, 1, 9, 9, 1, 1, 9, 1, 1, 1, 1]));
    let expected = [
        ("pending", "pending", 1, None, None),
        ("inactive", "inactive", 2, None, None),
        ("pending", "pending", 3, None, None),
        ("firing", "firing", 4, Some(4), None),
        ("resolved", "resolved", 10, Some(4), Some(10)),
    ];
    assert_eq!(told(&events), expected);
    assert_eq!(events[3].reason, "error_count / count is 9 % (9 of 100), limit > 5 %");
    assert_eq!((events[3].value, events[3].threshold), (Some(0.09), 0.05));
    assert_eq!(events[3].group, [("service", Some("shop".to_owned()))]);
    assert!(events.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
}

#[test]
fn a_firing_ends_before_the_next_begins_also_over_windows_that_are_left_out() {
    let mut alerts = alerts(ratio());
    let bad = vec![requests("shop", 10, 10, 1.0)];
    let events: Vec<_> = [0, 5].into_iter().flat_map(|index| complete(&mut alerts, index, &bad)).collect();
    let expected = [
        ("firing", "firing", 0, Some(0), None),
        ("resolved", "resolved", 1, Some(0), Some(1)),
        ("firing", "firing", 5, Some(5), None),
    ];
    assert_eq!(told(&events), expected);
}

#[test]
fn few_records_say_nothing() {
    let rule = AlertConfig { min_count: Some(50), ..ratio() };
    assert_eq!(run(&mut alerts(rule), &[Some(requests("shop", 49, 49, 1.0))]), []);
}

#[test]
fn a_threshold_is_on_merged_cells_of_a_group_that_matches() {
    let rule = AlertConfig {
        column: Some("duration_p99_us".to_owned()),
        op: Some(">=".to_owned()),
        value: Some(1e6),
        filter: BTreeMap::from([("service".to_owned(), "check*".to_owned())]),
        ..config("threshold")
    };
    let mut alerts = alerts(rule);
    let slow = |service: &str| vec![requests(service, 90, 0, 10.0), requests(service, 10, 0, 2_000.0)];
    assert_eq!(complete(&mut alerts, 0, &slow("search")), []);
    let events = complete(&mut alerts, 1, &slow("checkout"));
    assert_eq!(told(&events), [("firing", "firing", 1, Some(1), None)]);
    assert_eq!(events[0].reason, "duration_p99_us is 1.99 s, limit >= 1 s");
    let events = complete(&mut alerts, 2, &Vec::new());
    assert_eq!(told(&events), [("resolved", "resolved", 2, Some(1), Some(2))], "no data is no alert");
    assert_eq!(events[0].reason, "too little data in the window of 1m");
}

#[test]
fn silence_fires_for_groups_that_were_there_until_they_are_back_or_forgotten() {
    let rule = AlertConfig { group_by: vec!["service".to_owned()], held: Some("3m".to_owned()), ..config("silence") };
    let mut alerts = alerts(rule);
    let both = vec![requests("a", 1, 0, 1.0), requests("b", 1, 0, 1.0), requests(OTHER, 1, 0, 1.0)];
    assert_eq!(complete(&mut alerts, 0, &both), []);
    let only_a = |alerts: &mut Alerts, index| complete(alerts, index, &vec![requests("a", 1, 0, 1.0)]);
    let events: Vec<_> = (1..6).flat_map(|index| only_a(&mut alerts, index)).collect();
    assert_eq!(told(&events), [("pending", "pending", 1, None, None), ("firing", "firing", 3, Some(3), None)]);
    assert_eq!((events[1].group_key(), events[1].reason.as_str()), ("service=b".to_owned(), "no data for 3 min"));
    let events = complete(&mut alerts, 6, &both);
    assert_eq!(told(&events), [("resolved", "resolved", 6, Some(3), Some(6))]);
    assert_eq!(events[0].reason, "there is data again");
    let events: Vec<_> = (7..1_600).flat_map(|index| only_a(&mut alerts, index)).collect();
    let last = told(&events).pop().expect("an event");
    assert_eq!((last.0, last.2 > 1_440), ("resolved", true), "who is gone for a day is forgotten");
    assert_eq!(alerts.counts()["rule"].groups, 1);
}

#[test]
fn a_silence_of_everything_fires_also_when_there_never_was_anything() {
    let rule = AlertConfig { held: Some("2m".to_owned()), ..config("silence") };
    let mut alerts = alerts(rule);
    let events: Vec<_> = [0, 9].into_iter().flat_map(|index| complete(&mut alerts, index, &Vec::new())).collect();
    let expected = [("pending", "pending", 0, None, None), ("firing", "firing", 1, Some(1), None)];
    assert_eq!(told(&events), expected, "windows that are left out have no data");
}

#[test]
fn a_budget_burns_when_both_windows_do() {
    let rule = AlertConfig {
        objective: Some(99.0),
        factor: Some(10.0),
        long: Some("10m".to_owned()),
        short: Some("2m".to_owned()),
        ..config("burn-rate")
    };
    let mut counts = vec![0; 10];
    counts.extend([60, 60, 0, 0, 0]);
    let events = run(&mut alerts(rule), &errors(&counts));
    let expected = [("firing", "firing", 11, Some(11), None), ("resolved", "resolved", 13, Some(11), Some(13))];
    assert_eq!(told(&events), expected, "10 % of the long window only with the second; the short one ends it");
    assert_eq!(
        events[0].reason,
        "the budget of 1 % is spent 12 times too fast over 10 min and 60 times over 2 min, limit 10 times"
    );
}

#[test]
fn an_anomaly_fires_by_its_score_with_its_reason() {
    let rule = AlertConfig {
        signal: Some("latency_p99".to_owned()),
        group_by: vec!["service".to_owned()],
        ..config("anomaly")
    };
    let mut alerts = alerts(rule);
    let series = |signal| Series {
        signal,
        scope: Scope::Service,
        service: Some("shop".to_owned()),
        metric_name: None,
        host: None,
        attributes: None,
        event_name: None,
    };
    let mut scored = |index: i64, signal: Signal, score: f64| {
        let found = Scored {
            series: series(signal),
            window: window(index),
            value: Some(1.8e6),
            expected: None,
            score,
            is_anomaly: score >= 0.999,
            episode_start: None,
            kind: None,
            reason: Some("p99 latency 1.8 s".to_owned()),
            contributors: Vec::new(),
        };
        alerts.complete(window(index), &[], &[found])
    };
    assert_eq!(scored(0, Signal::ErrorRatio, 1.0), []);
    assert_eq!(scored(1, Signal::LatencyP99, 0.99), []);
    assert_eq!(scored(2, Signal::LatencyP99, f64::NAN), []);
    let events = scored(3, Signal::LatencyP99, 0.9995);
    assert_eq!(told(&events), [("firing", "firing", 3, Some(3), None)]);
    assert_eq!(events[0].reason, "p99 latency 1.8 s");
}

#[test]
fn numbers_that_are_not_finite_never_fire() {
    let rule = |op: &str| AlertConfig {
        rollup: Some("metrics".to_owned()),
        column: Some("max".to_owned()),
        op: Some(op.to_owned()),
        value: Some(0.0),
        ..config("threshold")
    };
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for op in [">", ">=", "<", "<="] {
            let sample = Sample { time: START, value };
            let cell = Metric { count: 1, max: Some(value), last: Some(sample), ..Metric::default() };
            let cell = (Rollup::Metrics, vec![None; 4], Cell::Metric(Box::new(cell)));
            assert_eq!(run(&mut alerts(rule(op)), &[Some(cell)]), []);
        }
    }
}

#[test]
fn late_data_retracts_what_should_not_have_fired() {
    let mut alerts = alerts(ratio());
    run(&mut alerts, &errors(&[1, 9]));
    assert_eq!(alerts.states().len(), 1);
    let events = late(&mut alerts, 1, &vec![requests("shop", 900, 0, 1.0)]);
    assert_eq!(told(&events), [("retracted", "inactive", 1, Some(1), None)]);
    assert_eq!((events[0].value, alerts.states()), (Some(0.009), Vec::new()));
    assert_eq!(late(&mut alerts, 1, &vec![requests("shop", 900, 0, 1.0)]), [], "nothing changes twice");
}

#[test]
fn late_data_fires_what_should_have_fired() {
    let rule = AlertConfig { held: Some("2m".to_owned()), ..ratio() };
    let mut alerts = alerts(rule);
    run(&mut alerts, &errors(&[1, 9, 1, 9]));
    let events = late(&mut alerts, 2, &vec![requests("shop", 10, 10, 1.0)]);
    assert_eq!(told(&events), [("corrected", "firing", 2, Some(2), None)]);
    assert_eq!(events[0].reason, "late data: it should have fired");
    // It begins a window earlier than was told.
    let events = late(&mut alerts, 0, &vec![requests("shop", 10, 10, 1.0)]);
    assert_eq!(told(&events), [("corrected", "firing", 1, Some(1), None)]);
    assert_eq!(events[0].reason, "late data: it should have begun or ended at another time");
    let expected = GroupState {
        rule: "rule".to_owned(),
        group: vec![("service", Some("shop".to_owned()))],
        state: State::Firing,
        fired_at: Some(window(1).end),
    };
    assert_eq!(alerts.states(), [expected]);
}

#[test]
fn late_data_of_a_group_that_was_not_known_counts() {
    let rule = AlertConfig { held: Some("2m".to_owned()), ..ratio() };
    let mut alerts = alerts(rule);
    run(&mut alerts, &[None, None, None, Some(requests("shop", 10, 10, 1.0))]);
    let events = late(&mut alerts, 2, &vec![requests("shop", 10, 10, 1.0), requests("other", 1, 0, 1.0)]);
    assert_eq!(told(&events), [("corrected", "firing", 3, Some(3), None)]);
}

#[test]
fn late_data_of_many_windows_tells_only_what_it_leads_to() {
    let good = vec![requests("shop", 900, 0, 1.0)];
    let bad = vec![requests("shop", 900, 900, 1.0)];
    let fired = |counts: &[u64]| {
        let mut alerts = alerts(AlertConfig { resolve_after: Some("2m".to_owned()), ..ratio() });
        run(&mut alerts, &errors(counts));
        alerts
    };
    // Window by window, it would have begun with the second before it began with the third.
    let events = late_for(&mut fired(&[1, 9, 9, 9]), &[(1, &good), (2, &good), (3, &bad)]);
    assert_eq!(told(&events), [("corrected", "firing", 3, Some(3), None)]);
    // Window by window, it would first have gone on over the window that was told.
    let events = late_for(&mut fired(&[1, 1, 1, 9, 1, 1]), &[(2, &bad), (3, &good), (4, &good)]);
    assert_eq!(told(&events), [("corrected", "resolved", 2, Some(2), Some(4))]);
    let closed = vec![requests("shop", 1, 0, 1.0), requests("other", 1, 0, 1.0)];
    let mut alerts = fired(&[1; 20]);
    assert_eq!(late_for(&mut alerts, &[(8, &closed), (9, &closed), (12, &good), (25, &good)]), []);
    assert_eq!(alerts.counts()["rule"].ignored_late, 5, "each group of each window that takes no more");
}

#[test]
fn what_comes_after_the_allowed_lateness_or_out_of_order_is_ignored_and_counted() {
    let mut alerts = alerts(ratio());
    run(&mut alerts, &errors(&[1; 20]));
    assert_eq!(late(&mut alerts, 9, &vec![requests("shop", 900, 900, 1.0)]), []);
    assert_eq!(complete(&mut alerts, 5, &vec![requests("shop", 900, 900, 1.0)]), []);
    let counts = alerts.counts()["rule"];
    assert_eq!((counts.ignored_late, counts.ignored_windows), (1, 1));
    let events = late(&mut alerts, 10, &vec![requests("shop", 900, 900, 1.0)]);
    assert_eq!(told(&events), [("corrected", "resolved", 10, Some(10), Some(11))]);
}

#[test]
fn groups_are_bounded() {
    let mut alerts = alerts(AlertConfig { max_groups: Some(2), ..ratio() });
    let events = complete(&mut alerts, 0, &["a", "b", "c", "d"].map(|name| requests(name, 10, 10, 1.0)).to_vec());
    assert_eq!((events.len(), alerts.counts()["rule"].groups, alerts.counts()["rule"].refused_values), (2, 2, 2));
    (1..30).for_each(|index| _ = complete(&mut alerts, index, &Vec::new()));
    assert_eq!(alerts.counts()["rule"].groups, 0, "who has nothing to say any more gives up its place");
}

#[test]
fn other_rollups_have_their_numbers() {
    let count = |rollup: &str, group: &str| AlertConfig {
        rollup: Some(rollup.to_owned()),
        column: Some("count".to_owned()),
        value: Some(2.0),
        group_by: vec![group.to_owned()],
        ..config("threshold")
    };
    let activity = Cell::Activity(Activity { count: 3, ..Activity::default() });
    let activity = (Rollup::Activity, vec![Some("buy".to_owned()), None, None], activity);
    let events = run(&mut alerts(count("activity", "event_name")), &[Some(activity)]);
    assert_eq!(events[0].group_key(), "event_name=buy");
}

#[track_caller]
fn refused(config: AlertConfig, told: &str) {
    let errors = Rule::compile(&[config]).expect_err("a mistake");
    let text: Vec<String> = errors.iter().map(|error| format!("{error} ({})", error.hint)).collect();
    assert!(text.iter().any(|text| text.contains(told)), "{told} is not in {text:?}");
}

#[test]
fn mistakes_name_rule_field_and_remedy() {
    refused(AlertConfig { name: String::new(), ..ratio() }, "alert \"#1\", name: it is missing");
    refused(
        config("guess"),
        "kind: \"guess\" is no kind of rule (use threshold, ratio, anomaly, silence or burn-rate)",
    );
    refused(config("ratio"), "alert \"rule\", value: a rule of kind \"ratio\" needs it (give the share");
    refused(config("threshold"), "column: a rule of kind \"threshold\" needs it (use one of count, error_count");
    refused(
        AlertConfig { column: Some("p99".to_owned()), value: Some(1.0), ..config("threshold") },
        "column: the rollup requests has no number \"p99\" (use one of count,",
    );
    refused(AlertConfig { value: Some(f64::NAN), ..ratio() }, "value: NaN is no finite number");
    refused(AlertConfig { op: Some("=".to_owned()), ..ratio() }, "op: \"=\" is no comparison (use >, >=, < or <=)");
    refused(AlertConfig { score: Some(0.5), ..ratio() }, "score: a rule of kind \"ratio\" has none (remove it, or use");
    refused(
        AlertConfig { held: Some("90s".to_owned()), ..ratio() },
        "for: \"90s\" is no duration of 1 to 10080 windows of 1m",
    );
    refused(
        AlertConfig { width: Some("5m".to_owned()), ..ratio() },
        "width: \"5m\" is no width of windows (use 10s, 1m or 1h)",
    );
    refused(
        AlertConfig { group_by: vec!["host".to_owned()], ..ratio() },
        "group-by: \"host\" is no dimension of what the rule is about (use service,",
    );
    refused(
        AlertConfig { filter: BTreeMap::from([("pod".to_owned(), "a".to_owned())]), ..ratio() },
        "where: \"pod\" is no dimension",
    );
    refused(
        AlertConfig { rollup: Some("top".to_owned()), ..ratio() },
        "rollup: \"top\" is no rollup that rules can be about",
    );
    refused(
        AlertConfig { numerator: Some("apdex".to_owned()), ..ratio() },
        "numerator: the rollup requests has no count \"apdex\"",
    );
    refused(
        AlertConfig { signal: Some("cpu".to_owned()), ..config("anomaly") },
        "signal: \"cpu\" is no signal (use one of error_ratio",
    );
    refused(AlertConfig { score: Some(1.5), ..config("anomaly") }, "score: 1.5 is no score");
    let burn = AlertConfig {
        objective: Some(100.0),
        factor: Some(0.0),
        long: Some("5m".to_owned()),
        short: Some("1h".to_owned()),
        ..config("burn-rate")
    };
    for told in ["objective: it is not between 0 and 100", "factor: it is not above 0", "short: it is not shorter than"]
    {
        refused(burn.clone(), told);
    }
    let increase = AlertConfig {
        rollup: Some("metrics".to_owned()),
        column: Some("increase".to_owned()),
        value: Some(1.0),
        ..config("threshold")
    };
    refused(
        increase,
        "column: it means something only of a single series (group by metric_name, service, host, series",
    );
    let errors = Rule::compile(&[ratio(), ratio()]).expect_err("a mistake");
    assert_eq!(errors[0].to_string(), "alert \"rule\", name: another rule has it");
}

#[derive(serde::Deserialize)]
struct Examples {
    alerts: Vec<AlertConfig>,
}

#[test]
fn the_examples_of_the_documentation_are_rules() {
    let text = include_str!("../../../../docs/concepts/alerts.md");
    let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let configs: Vec<AlertConfig> =
        blocks.flat_map(|block| toml::from_str::<Examples>(block).expect("an example").alerts).collect();
    let rules = Rule::compile(&configs).expect("rules without mistakes");
    let kinds: BTreeSet<&str> = configs.iter().map(|config| config.kind.as_str()).collect();
    assert_eq!(kinds.len(), 5, "each kind has an example");
    assert_eq!(
        (rules[0].name(), rules[0].width(), rules[0].severity()),
        ("checkout-slow", Width::Minute, Severity::Critical)
    );
    assert!(
        toml::from_str::<Examples>("[[alerts]]\nname = \"a\"\ncolum = \"x\"").is_err(),
        "unknown fields are refused"
    );
}

#[test]
fn a_rule_that_says_something_else_begins_anew_and_one_that_is_worded_otherwise_does_not() {
    let mut before = alerts(ratio());
    run(&mut before, &errors(&[1, 9]));
    let cells = before.to_cells();
    let read = |config: AlertConfig| {
        let rules = Rule::compile(&[config]).expect("a rule");
        let cells = cells.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        Alerts::from_cells(rules, AlertOptions { allowed_lateness: LATENESS }, cells).expect("its own cells")
    };
    let reworded = AlertConfig { description: Some("look here".to_owned()), severity: Severity::Critical, ..ratio() };
    assert_eq!(read(reworded).states().len(), 1);
    let mut changed = read(AlertConfig { value: Some(0.5), ..ratio() });
    assert_eq!(changed.states(), []);
    assert_eq!(changed.changed_since_last_take(), [], "nothing goes before it is told");
    changed.end_former_rules();
    let taken = changed.changed_since_last_take();
    let removed = taken.iter().filter(|cell| cell.value.is_none()).count();
    assert_eq!((taken.len(), removed), (cells.len(), cells.len() - 1), "all but the rule itself is no more");
}

/// Alerts that a next process makes of the state.
pub(super) fn restarted(cells: &[(Vec<u8>, Vec<u8>)], configs: &[AlertConfig]) -> Alerts {
    let cells = cells.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let rules = Rule::compile(configs).expect("rules");
    Alerts::from_cells(rules, AlertOptions { allowed_lateness: LATENESS }, cells).expect("its own cells")
}

/// A rule under which `shop` fires since minute 2, and `new` is pending since minute 3.
pub(super) fn firing_and_pending() -> (AlertConfig, Alerts, Vec<AlertEvent>) {
    let rule = AlertConfig {
        held: Some("2m".to_owned()),
        severity: Severity::Critical,
        labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        description: Some("look here".to_owned()),
        ..ratio()
    };
    let mut alerts = alerts(rule.clone());
    let mut events = run(&mut alerts, &errors(&[1, 9, 9]));
    events.extend(complete(&mut alerts, 3, &vec![requests("shop", 100, 9, 1.0), requests("new", 10, 10, 1.0)]));
    assert_eq!(told(&events).iter().map(|told| told.0).collect::<Vec<_>>(), ["pending", "firing", "pending"]);
    (rule, alerts, events)
}

#[test]
fn what_fires_by_a_rule_that_is_removed_or_changed_is_ended_once() {
    let (rule, before, events) = firing_and_pending();
    let cells = before.to_cells();
    let other = AlertConfig { name: "other".to_owned(), ..ratio() };
    let changed = AlertConfig { value: Some(0.01), ..rule.clone() };
    for (configs, reason) in [(vec![other], "the rule was removed"), (vec![changed], "the rule was changed")] {
        let mut alerts = restarted(&cells, &configs);
        let ended = complete(&mut alerts, 4, &Vec::new());
        let expected = [("inactive", "inactive", 3, None, None), ("resolved", "resolved", 3, Some(2), Some(3))];
        assert_eq!(told(&ended), expected);
        for event in &ended {
            assert_eq!((event.rule.as_str(), event.reason.as_str()), ("rule", reason));
            assert_eq!((event.severity, event.threshold), (Severity::Critical, 0.05));
            assert_eq!((&event.labels, &event.description), (&rule.labels, &rule.description));
            let mut of_group = events.iter().filter(|earlier| earlier.group == event.group);
            assert!(of_group.next_back().is_some_and(|earlier| earlier.sequence < event.sequence), "{event:?}");
        }
        assert_eq!(alerts.end_former_rules(), [], "it is told once");
        let gone = alerts.changed_since_last_take();
        let gone: BTreeSet<_> = gone.iter().filter(|cell| cell.value.is_none()).map(|cell| &cell.key).collect();
        assert!(cells.iter().all(|(key, _)| key[0] == 0 || gone.contains(key)), "its groups go with it");
    }
    assert_eq!(restarted(&cells, &[rule]).end_former_rules(), [], "a rule that stays goes on");
}

#[test]
fn a_changed_rule_numbers_its_events_above_those_of_the_one_before() {
    let (rule, before, _) = firing_and_pending();
    let mut alerts = restarted(&before.to_cells(), &[AlertConfig { value: Some(0.01), held: None, ..rule }]);
    let events = complete(&mut alerts, 4, &vec![requests("shop", 100, 9, 1.0)]);
    assert_eq!(told(&events).iter().map(|told| told.0).collect::<Vec<_>>(), ["inactive", "resolved", "firing"]);
    assert!(events[2].sequence > events[1].sequence.max(events[0].sequence));
}

#[test]
fn state_of_the_version_before_is_ended_by_what_can_be_known() {
    let (rule, before, _) = firing_and_pending();
    let mut cells = before.to_cells();
    let (_, value) = cells.iter_mut().find(|(key, _)| key[0] == 0).expect("the rule");
    let mut rest = &value[1..];
    (0..6).for_each(|_| _ = crate::varint::read(&mut rest).expect("a number"));
    let kept = value.len() - rest.len();
    value.truncate(kept);
    value[0] = 1;
    let mut same = restarted(&cells, std::slice::from_ref(&rule));
    assert_eq!((same.end_former_rules(), same.states()), (Vec::new(), before.states()));
    let mut removed = restarted(&cells, &[]);
    let ended: Vec<_> = removed.end_former_rules().iter().map(AlertEvent::group_key).collect();
    assert_eq!(ended, ["dimension_1=new", "dimension_1=shop"]);
    let mut changed = restarted(&cells, &[AlertConfig { value: Some(0.01), ..rule }]);
    let ended: Vec<_> = changed.end_former_rules();
    assert_eq!((ended[1].group_key().as_str(), ended[1].severity), ("service=shop", Severity::Critical));
}

#[test]
fn rows_have_their_columns() {
    let rule = AlertConfig { labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]), ..ratio() };
    let events = run(&mut alerts(rule), &errors(&[1, 9, 1]));
    let rows = alert_rows(&events).expect("rows");
    assert_eq!((rows.num_rows(), rows.schema()), (2, alert_schema()));
    let text = |name: &str| rows.column_by_name(name).expect(name).as_string::<i32>().value(1).to_owned();
    assert_eq!((text("change"), text("group_key")), ("resolved".to_owned(), "service=shop".to_owned()));
    let labels = rows.column_by_name("labels").expect("labels").as_map().value(0);
    assert_eq!(labels.column(1).as_string::<i32>().value(0), "shop");
    assert_eq!(alert_rows([]).expect("no rows").num_rows(), 0);
}

/// Rules of every kind that late data can change.
fn rules() -> Vec<Rule> {
    let text = |text: &str| Some(text.to_owned());
    let named = |name: &str, config: AlertConfig| AlertConfig { name: name.to_owned(), ..config };
    let by_service = vec!["service".to_owned()];
    Rule::compile(&[
        named("ratio", AlertConfig { held: text("2m"), resolve_after: text("2m"), ..ratio() }),
        named("at-once", ratio()),
        named("all", AlertConfig { group_by: Vec::new(), held: text("3m"), ..ratio() }),
        named(
            "slow",
            AlertConfig {
                column: text("duration_p90_us"),
                value: Some(50_000.0),
                group_by: by_service.clone(),
                ..config("threshold")
            },
        ),
        named("silent", AlertConfig { held: text("2m"), group_by: by_service.clone(), ..config("silence") }),
        named(
            "burn",
            AlertConfig {
                objective: Some(95.0),
                factor: Some(2.0),
                long: text("6m"),
                short: text("2m"),
                group_by: by_service,
                ..config("burn-rate")
            },
        ),
    ])
    .expect("rules")
}

/// A cell of a minute, service, with records, errors and duration; it comes so many windows late.
type Piece = (i64, u8, u64, u64, u8, i64);

fn piece() -> impl Strategy<Value = Piece> {
    (0i64..40, 0u8..3, 1u64..20, 0u64..4, 1u8..100, prop_oneof![3 => Just(0i64), 2 => 1i64..9])
}

fn cells_of(pieces: &[Piece], is_meant: impl Fn(&Piece) -> bool) -> Cells {
    let one = |&(_, service, count, errors, milliseconds, _): &Piece| {
        requests(&format!("s{service}"), count, errors.min(count), f64::from(milliseconds))
    };
    pieces.iter().filter(|piece| is_meant(piece)).map(one).collect()
}

/// Runs windows 0 to 40 with what is in time, and each late piece once its delay is over.
fn run_late(alerts: &mut Alerts, pieces: &[Piece], mut after: impl FnMut(&mut Alerts, i64)) -> Vec<AlertEvent> {
    let mut events = Vec::new();
    for now in 0..50 {
        events.extend(complete(alerts, now, &cells_of(pieces, |piece| piece.0 == now && piece.5 == 0)));
        let late: Vec<(i64, Cells)> = (now - 9..now)
            .map(|minute| {
                (minute, cells_of(pieces, |piece| piece.0 == minute && piece.5 > 0 && minute + piece.5 == now))
            })
            .collect();
        let late: Vec<(i64, &Cells)> = late.iter().map(|(minute, cells)| (*minute, cells)).collect();
        events.extend(late_for(alerts, &late));
        after(alerts, now);
    }
    events
}

fn all_rules() -> Alerts {
    Alerts::new(rules(), AlertOptions { allowed_lateness: LATENESS })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn late_data_leads_where_data_in_time_leads(pieces in proptest::collection::vec(piece(), 0..120)) {
        let mut in_time: Vec<Vec<GroupState>> = Vec::new();
        let on_time: Vec<Piece> = pieces.iter().map(|piece| (piece.0, piece.1, piece.2, piece.3, piece.4, 0)).collect();
        let events = run_late(&mut all_rules(), &on_time, |alerts, _| in_time.push(alerts.states()));
        prop_assert!(events.iter().all(|event| !matches!(event.change, Change::Retracted | Change::Corrected)));
        let mut alerts = all_rules();
        let told = run_late(&mut alerts, &pieces, |alerts, _| {
            assert_eq!(alerts.memory_bytes(), alerts.memory_bytes_counted_anew());
        });
        prop_assert_eq!(Some(&alerts.states()), in_time.last());
        // What was told, corrections applied, is what would have been told.
        prop_assert_eq!(firings(&told), firings(&events));
    }

    #[test]
    fn a_restart_at_any_point_changes_nothing(pieces in proptest::collection::vec(piece(), 0..80), every in 1i64..9) {
        let expected = run_late(&mut all_rules(), &pieces, |_, _| {});
        let mut store: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let told = run_late(&mut all_rules(), &pieces, |alerts, now| {
            if now % every == 0 {
                for cell in alerts.changed_since_last_take() {
                    match cell.value {
                        Some(value) => _ = store.insert(cell.key, value),
                        None => _ = store.remove(&cell.key),
                    }
                }
                let cells = store.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
                let options = AlertOptions { allowed_lateness: LATENESS };
                let read = Alerts::from_cells(rules(), options, cells).expect("its own cells");
                assert!(read.to_cells() == alerts.to_cells(), "what changed is all that changed");
                *alerts = read;
            }
        });
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn any_bytes_are_read_or_refused(key in proptest::collection::vec(any::<u8>(), 0..30), value in proptest::collection::vec(any::<u8>(), 0..40), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let options = AlertOptions { allowed_lateness: LATENESS };
        let _ = Alerts::from_cells(rules(), options, [(key.as_slice(), value.as_slice())]);
        let mut alerts = all_rules();
        run_late(&mut alerts, &[(0, 1, 5, 5, 9, 0), (1, 1, 5, 5, 9, 1)], |_, _| {});
        let mut cells = alerts.to_cells();
        let at = place.index(cells.len());
        let place = place.index(cells[at].1.len());
        cells[at].1[place] = byte;
        let read = Alerts::from_cells(rules(), options, cells.iter().map(|(key, value)| (key.as_slice(), value.as_slice())));
        if let Ok(mut read) = read {
            complete(&mut read, 60, &cells_of(&[(60, 1, 5, 5, 9, 0)], |_| true));
        }
        let read = Alerts::from_cells(Vec::new(), options, cells.iter().map(|(key, value)| (key.as_slice(), value.as_slice())));
        _ = read.map(|mut read| read.end_former_rules());
    }
}

/// Log records of a service with so many different durations.
fn spread(service: &str, durations: u32) -> OneCell {
    let mut cell = Requests { count: u64::from(durations), ..Requests::default() };
    (1..=durations).for_each(|duration| cell.latency.add(f64::from(duration) * 1e3));
    (Rollup::Requests, vec![Some(service.to_owned()), None, None], Cell::Requests(Box::new(cell)))
}

#[test]
fn what_is_kept_is_what_the_rule_needs() {
    let threshold = |column: &str| AlertConfig {
        column: Some(column.to_owned()),
        value: Some(1e9),
        group_by: vec!["service".to_owned()],
        ..config("threshold")
    };
    let kept = |column: &str, durations: u32| {
        let mut alerts = alerts(threshold(column));
        run(&mut alerts, &vec![Some(spread("shop", durations)); 20]);
        alerts.memory_bytes()
    };
    assert_eq!(kept("error_count", 1), kept("error_count", 2_000), "a count has no need of durations");
    assert!(kept("duration_p99_us", 2_000) > kept("error_count", 2_000) + 10 * 1_000);
    let mut alerts = alerts(threshold("duration_p99_us"));
    assert_eq!(alerts.memory_bytes(), 0);
    (0..10).for_each(|index| _ = complete(&mut alerts, index, &vec![spread("shop", 500)]));
    let full = alerts.memory_bytes();
    (10..40).for_each(|index| _ = complete(&mut alerts, index, &vec![spread("shop", 500)]));
    assert_eq!(alerts.memory_bytes(), full, "no more windows are kept than may still change");
    (40..60).for_each(|index| _ = complete(&mut alerts, index, &Vec::new()));
    assert_eq!(alerts.memory_bytes(), 0, "all that was kept is given back");
}

#[test]
fn whole_cells_of_earlier_versions_are_reduced_when_they_are_read() {
    let rule = AlertConfig { column: Some("count".to_owned()), value: Some(1e9), ..config("threshold") };
    let mut alerts = alerts(rule.clone());
    run(&mut alerts, &[Some(spread("shop", 500))]);
    let mut cells = alerts.to_cells();
    let input = cells.iter_mut().find(|(key, _)| key[0] == 2).expect("an input");
    let Cell::Requests(cell) = spread("shop", 500).2 else { panic!("a cell of requests") };
    input.1.truncate(3);
    Cell::Requests(cell).write_to(&mut input.1);
    let read = Alerts::from_cells(
        Rule::compile(&[rule]).expect("a rule"),
        AlertOptions { allowed_lateness: LATENESS },
        cells.iter().map(|(key, value)| (key.as_slice(), value.as_slice())),
    );
    assert_eq!(read.expect("its own cells").memory_bytes(), alerts.memory_bytes());
}

/// Firings that stand after all events: begin and end by rule and group.
fn firings(events: &[AlertEvent]) -> BTreeMap<(String, String), BTreeMap<i64, Option<i64>>> {
    let mut found: BTreeMap<(String, String), BTreeMap<i64, Option<i64>>> = BTreeMap::new();
    for event in events {
        let of_group = found.entry((event.rule.clone(), event.group_key())).or_default();
        let Some(fired_at) = event.fired_at else { continue };
        let ends_after = |end: &Option<i64>, at: i64| end.is_none_or(|end| end > at);
        match event.change {
            Change::Retracted => _ = of_group.remove(&fired_at),
            // It replaces those that it overlaps.
            Change::Corrected => {
                let last = event.resolved_at.unwrap_or(i64::MAX);
                of_group.retain(|begin, end| !(*begin < last && ends_after(end, fired_at)));
                of_group.insert(fired_at, event.resolved_at);
            }
            _ => _ = of_group.insert(fired_at, event.resolved_at),
        }
    }
    found.retain(|_, firings| !firings.is_empty());
    found
}
