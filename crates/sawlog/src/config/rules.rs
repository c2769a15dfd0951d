//! Unknown keys in `[rules]`.
//!
//! For: naming all of them at once, each with what it was probably meant to be. Not for: their values, whose types and
//! meaning the core checks. The known keys are those of rules in which everything is set, so that a key that the core
//! gets must be named here to compile.

use std::collections::BTreeMap;

use sawlog_core::rules::{
    ConditionConfig, DefaultsConfig, FilterConfig, LookupConfig, RedactAt, RedactConfig, RulesConfig,
    SourceDefaultsConfig, UsersConfig,
};
use toml::{Table, Value};

use super::ConfigProblem;
use super::layers::{RULES, edit_distance};

/// Stands for a name that the user chooses.
const ANY_NAME: &str = "*";
/// Changes of one letter by which a mistyped key is still recognized.
const TYPOS_MAX: usize = 3;

/// The unknown keys, without their origins.
pub(super) fn unknown_keys(rules: &Value) -> Vec<ConfigProblem> {
    let known = Value::try_from(complete()).expect("rules are a table of tables, lists and plain values");
    let mut problems = Vec::new();
    compare(RULES, rules, &known, &mut problems);
    problems
}

/// Rules in which everything is set.
fn complete() -> RulesConfig {
    let text = String::new;
    let some = || Some(String::new());
    let condition = ConditionConfig {
        field: text(),
        equals: some(),
        one_of: Some(Vec::new()),
        prefix: some(),
        contains: some(),
        matches: some(),
        exists: Some(true),
        at_least: Some(0.0),
        at_most: Some(0.0),
    };
    let of_source = SourceDefaultsConfig { service: some(), environment: some(), region: some() };
    RulesConfig {
        filter: vec![FilterConfig { name: text(), conditions: vec![condition] }],
        redact: vec![RedactConfig { name: text(), pattern: text(), replace: some(), at: RedactAt::Receive }],
        defaults: DefaultsConfig {
            service: some(),
            environment: some(),
            region: some(),
            by_source: BTreeMap::from([(ANY_NAME.to_owned(), of_source)]),
        },
        users: vec![UsersConfig { name: text(), file: text() }],
        lookup: vec![LookupConfig { name: text(), file: text(), key: text(), field: text() }],
        keep_own_logs: true,
    }
}

fn compare(place: &str, value: &Value, known: &Value, problems: &mut Vec<ConfigProblem>) {
    match (value, known) {
        (Value::Table(table), Value::Table(known)) => {
            for (name, value) in table {
                let place = format!("{place}.{name}");
                match known.get(name).or_else(|| known.get(ANY_NAME)) {
                    Some(known) => compare(&place, value, known, problems),
                    None => problems.push(ConfigProblem {
                        origin: String::new(),
                        key: place,
                        problem: "there is no such setting".to_owned(),
                        hint: hint(name, known),
                    }),
                }
            }
        }
        (Value::Array(elements), Value::Array(known)) => {
            for (index, element) in elements.iter().enumerate() {
                known.iter().for_each(|known| compare(&format!("{place}[{index}]"), element, known, problems));
            }
        }
        // A value of the wrong type is for those who check types.
        _ => {}
    }
}

fn hint(name: &str, known: &Table) -> String {
    let nearest = known.keys().map(|known| (edit_distance(name, known), known)).min();
    match nearest {
        Some((distance, nearest)) if distance <= TYPOS_MAX && distance < nearest.len() => {
            format!("did you mean `{nearest}`?")
        }
        _ => format!("there are {}", known.keys().cloned().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rules: &str, expected: &[&str]) {
        let value = Value::Table(rules.parse().expect("TOML"));
        let found: Vec<String> =
            unknown_keys(&value).into_iter().map(|problem| format!("{}: {}", problem.key, problem.hint)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn known_keys_are_no_problem() {
        check("[defaults.by-source.nginx]\nservice = \"n\"\n[[filter]]\nname = \"f\"\nwhere = [{in = []}]\n", &[]);
    }

    #[test]
    fn each_unknown_key_is_named_with_what_was_meant() {
        check(
            "[[filters]]\nname = \"f\"\n[[filter]]\nwhere = [{field = \"a\", at_least = 1}, {colour = 2}]\n\
             [defaults.by-source.nginx]\nservise = \"n\"\n",
            &[
                "rules.defaults.by-source.nginx.servise: did you mean `service`?",
                "rules.filter[0].where[0].at_least: did you mean `at-least`?",
                "rules.filter[0].where[1].colour: there are at-least, at-most, contains, equals, exists, field, in, \
                 matches, prefix",
                "rules.filters: did you mean `filter`?",
            ],
        );
    }
}
