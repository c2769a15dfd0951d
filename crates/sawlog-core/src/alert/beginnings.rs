//! Rules that begin: new or changed ones, and all of them after time went another way.

use std::collections::BTreeMap;

use super::tests::{
    MINUTE, START, complete, config, firing_and_pending, late, ratio, requests, restarted, told, window,
};
use super::*;

#[test]
fn all_begins_anew_when_time_goes_another_way() {
    let (rule, mut alerts, events) = firing_and_pending();
    let mut store: BTreeMap<Vec<u8>, Vec<u8>> = alerts.to_cells().into_iter().collect();
    alerts.changed_since_last_take();
    let ended = alerts.start_anew(START - 1_440 * MINUTE, "the clock was set back");
    let expected = [("inactive", "inactive", 3, None, None), ("resolved", "resolved", 3, Some(2), Some(3))];
    assert_eq!(told(&ended), expected);
    assert!(ended.iter().all(|event| event.reason == "the clock was set back"));
    assert_eq!((alerts.states(), alerts.memory_bytes(), alerts.counts()["rule"].groups), (Vec::new(), 0, 0));
    for cell in alerts.changed_since_last_take() {
        match cell.value {
            Some(value) => _ = store.insert(cell.key, value),
            None => _ = store.remove(&cell.key),
        }
    }
    let cells: Vec<_> = store.into_iter().collect();
    assert_eq!(cells, alerts.to_cells(), "what changed is all that changed");
    // A day earlier, also after a restart.
    for mut alerts in [alerts, restarted(&cells, &[rule])] {
        let bad = vec![requests("shop", 10, 10, 1.0), requests("new", 10, 10, 1.0)];
        let again: Vec<_> = (-1_440..-1_438).flat_map(|index| complete(&mut alerts, index, &bad)).collect();
        let changes: Vec<_> = told(&again).iter().map(|told| (told.0, told.2)).collect();
        assert_eq!(changes, [("pending", -1_440), ("pending", -1_440), ("firing", -1_439), ("firing", -1_439)]);
        let largest = events.iter().chain(&ended).map(|event| event.sequence).max();
        assert!(again.iter().all(|event| Some(event.sequence) > largest), "no number comes twice");
        assert_eq!(alerts.start_anew(START, "again").len(), 2);
        assert_eq!(alerts.start_anew(START, "again"), [], "what has ended is not ended again");
    }
}

#[test]
fn what_is_late_for_the_time_before_a_rule_began_is_counted_and_says_nothing() {
    let silence =
        AlertConfig { group_by: vec!["service".to_owned()], held: Some("3m".to_owned()), ..config("silence") };
    for rule in [silence, ratio()] {
        let mut alerts = restarted(&[], std::slice::from_ref(&rule));
        let fine = vec![requests("shop", 100, 0, 1.0)];
        assert_eq!((8..10).flat_map(|index| complete(&mut alerts, index, &fine)).collect::<Vec<_>>(), []);
        let bad = vec![requests("shop", 1, 1, 1.0)];
        for mut alerts in [restarted(&alerts.to_cells(), &[rule]), alerts] {
            assert_eq!(late(&mut alerts, 3, &bad), [], "of the windows in between nothing is known");
            assert_eq!(alerts.counts()["rule"].ignored_late, 1);
        }
    }
}

#[test]
fn who_is_silent_when_a_clock_is_set_right_is_told_again() {
    let rule = AlertConfig { group_by: vec!["service".to_owned()], held: Some("3m".to_owned()), ..config("silence") };
    let mut alerts = restarted(&[], std::slice::from_ref(&rule));
    let both = vec![requests("a", 1, 0, 1.0), requests("b", 1, 0, 1.0)];
    let only_a = vec![requests("a", 1, 0, 1.0)];
    complete(&mut alerts, 20, &both);
    let fired: Vec<_> = (21..24).flat_map(|index| complete(&mut alerts, index, &only_a)).collect();
    assert_eq!(told(&fired).last().map(|told| told.0), Some("firing"));
    let ended = alerts.start_anew(window(2).start, "the clock was set back");
    assert_eq!(told(&ended).iter().map(|told| told.0).collect::<Vec<_>>(), ["resolved"]);
    let mut alerts = restarted(&alerts.to_cells(), &[rule]);
    let again: Vec<_> = (2..6).flat_map(|index| complete(&mut alerts, index, &only_a)).collect();
    assert_eq!(told(&again).iter().map(|told| (told.0, told.2)).collect::<Vec<_>>(), [("pending", 2), ("firing", 4)]);
    assert!(again.iter().all(|event| event.group_key() == "service=b" && event.sequence > ended[0].sequence));
}
