//! Settings of `[anomalies]` and the rules of `[[alerts]]`.
//!
//! For: their shape and their mistakes. Not for: what a rule means (`sawlog_core::alert`).

use sawlog_core::alert::{AlertConfig, Rule};
use sawlog_core::anomaly::WatchOptions;
use sawlog_core::rollup::Width;
use toml::Value;

use super::values::Texts;
use super::{ConfigProblem, Reader};

/// Reads `[anomalies]`; every mistake is noted.
pub(super) fn anomalies(reader: &mut Reader) -> Option<WatchOptions> {
    let name = reader.get::<String>("anomalies.window");
    let width = name.and_then(|name| {
        let width = Width::ALL.into_iter().find(|width| width.name() == name);
        if width.is_none() {
            reader.note("anomalies.window", &format!("{name:?} is no length of windows"), "give 10s, 1m or 1h");
        }
        width
    });
    let threshold = reader.get::<f64>("anomalies.threshold");
    if threshold.is_some_and(|threshold| !(threshold > 0.0 && threshold <= 1.0)) {
        reader.note("anomalies.threshold", "it is out of range", "give a score above 0, up to 1");
    }
    let series_max = reader.get::<usize>("anomalies.series-max");
    let silence_windows = reader.get::<usize>("anomalies.silence-windows");
    if silence_windows.is_some_and(|windows| !(1..=1_000).contains(&windows)) {
        reader.note("anomalies.silence-windows", "it is out of range", "give from 1 to 1000 windows");
    }
    let metrics = reader.get::<Texts>("anomalies.metrics");
    Some(WatchOptions {
        width: width?,
        threshold: threshold?,
        series_max: series_max?,
        silence_windows: u32::try_from(silence_windows?).ok()?,
        metrics: metrics?.0,
    })
}

/// Reads `[[alerts]]`; every mistake is noted.
pub(super) fn alerts(reader: &mut Reader) -> Option<Vec<Rule>> {
    let section = &reader.layered.alerts;
    let mut problems = Vec::new();
    let mut note = |key: String, problem: String, hint: &str| {
        let origin = section.origin(&key).to_string();
        problems.push(ConfigProblem { origin, key, problem, hint: hint.to_owned() });
    };
    let mut configs: Vec<AlertConfig> = Vec::new();
    match &section.value {
        Value::Array(rules) => {
            for (index, rule) in rules.iter().enumerate() {
                match rule.clone().try_into() {
                    Ok(config) => configs.push(config),
                    Err(error) => {
                        let error: toml::de::Error = error;
                        let problem = error.message().trim().replace('\n', " ");
                        note(
                            format!("alerts[{index}]"),
                            problem,
                            "docs/concepts/alerts.md lists the settings of a rule",
                        );
                    }
                }
            }
        }
        _ => note("alerts".to_owned(), "it is no list".to_owned(), "write each rule as [[alerts]]"),
    }
    let compiled = Rule::compile(&configs);
    for error in compiled.as_ref().err().into_iter().flatten() {
        let index = configs.iter().position(|config| config.name == error.rule);
        let key = index.map_or("alerts".to_owned(), |index| format!("alerts[{index}].{}", error.field));
        note(key, format!("alert {:?}: {}", error.rule, error.problem), &error.hint);
    }
    reader.problems.extend(problems);
    compiled.ok()
}
