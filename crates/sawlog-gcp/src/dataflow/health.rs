//! How a job fares, by its metrics and messages.
//!
//! For: watermarks, the pipeline's own counters, what a job says. Not for: rates and their history, which Cloud Monitoring has.
//!
//! The names of watermarks are not in the API's reference; Beam's TestDataflowRunner looks for them by these ends.

use std::collections::BTreeMap;

use serde_json::Value;

use super::job::micros;

const DATA_WATERMARKS: [&str; 2] = ["windmill-data-watermark", "DataWatermark"];
const SYSTEM_WATERMARKS: [&str; 2] = ["windmill-system-watermark", "SystemWatermark"];
/// Namespace of the counters of python/sawlog/beam.
const NAMESPACE: &str = "sawlog";

/// A counter of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name, such as `late`.
    pub name: String,
    /// Its value over all steps.
    pub value: i64,
}

/// How a job fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// When it was so, RFC 3339; empty where the service does not say.
    pub at: String,
    /// Event time, UTC microseconds, up to which the furthest-behind step has what it will get.
    pub data_watermark: Option<i64>,
    /// Time, UTC microseconds, since when the longest-waiting message waits.
    pub system_watermark: Option<i64>,
    /// The pipeline's counters, by name.
    pub counters: Vec<Counter>,
}

/// What a job says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// When, RFC 3339.
    pub time: String,
    /// What.
    pub text: String,
}

impl Health {
    /// Reads the answer of `projects.locations.jobs.getMetrics`; metrics that are not known are passed over.
    pub(super) fn read(value: &Value) -> Self {
        let mut health = Self { at: value["metricTime"].as_str().unwrap_or_default().to_owned(), ..Self::default() };
        let mut counters: BTreeMap<String, i64> = BTreeMap::new();
        for metric in value["metrics"].as_array().into_iter().flatten() {
            let (name, context) = (metric["name"]["name"].as_str().unwrap_or_default(), &metric["name"]["context"]);
            // A tentative value counts work that may still be repeated.
            let (Some(scalar), true) = (whole(&metric["scalar"]), context["tentative"].is_null()) else { continue };
            let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
            if ends(&DATA_WATERMARKS) {
                health.data_watermark = earliest(health.data_watermark, scalar);
            } else if ends(&SYSTEM_WATERMARKS) {
                health.system_watermark = earliest(health.system_watermark, scalar);
            } else if context["namespace"] == NAMESPACE {
                *counters.entry(name.to_owned()).or_default() += scalar;
            }
        }
        health.counters = counters.into_iter().map(|(name, value)| Counter { name, value }).collect();
        health
    }
}

/// The earlier of two watermarks. One that is none yet, or at the end of time, says nothing.
fn earliest(known: Option<i64>, watermark: i64) -> Option<i64> {
    const LAST: i64 = i64::MAX / 1_000 * 1_000 - 1_000_000;
    if watermark <= 0 || watermark >= LAST {
        return known;
    }
    Some(known.map_or(watermark, |known| known.min(watermark)))
}

/// A whole number, which may come as a text or with a fraction of zero.
fn whole(value: &Value) -> Option<i64> {
    let text = value.as_str().map(str::parse);
    text.map_or_else(|| value.as_i64().or_else(|| value.as_f64().map(|number| number as i64)), Result::ok)
}

/// What a job says, out of the messages of the service, oldest first.
pub(super) fn messages(values: &[Value]) -> Vec<Message> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<Message> =
        values.iter().map(|value| Message { time: text(&value["time"]), text: text(&value["messageText"]) }).collect();
    found.sort_by_key(|message| micros(&message.time));
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metric(name: &str, context: Value, scalar: Value) -> Value {
        json!({"name": {"origin": "dataflow/v1b3", "name": name, "context": context}, "scalar": scalar})
    }

    #[test]
    fn the_step_that_is_furthest_behind_counts_and_counters_add_up() {
        let of = |step: &str| json!({"namespace": "sawlog", "step": step});
        let health = Health::read(&json!({"metricTime": "2026-11-27T10:00:00Z", "metrics": [
            metric("F1-windmill-data-watermark", json!({}), json!(1_700_000_000_000_000_i64)),
            metric("F2-windmill-data-watermark", json!({}), json!("1600000000000000")),
            metric("F3-windmill-data-watermark", json!({}), json!(i64::MAX)),
            metric("F4-windmill-data-watermark", json!({"tentative": "true"}), json!(1)),
            metric("S1-SystemWatermark", json!({}), json!(1.5e15)),
            metric("late", of("s1"), json!(2)),
            metric("late", of("s2"), json!("3")),
            metric("late", json!({"namespace": "sawlog", "step": "s2", "tentative": "true"}), json!(100)),
            metric("late", json!({"namespace": "other"}), json!(100)),
            metric("bundles", json!({}), json!({})),
        ]}));
        assert_eq!(
            (health.data_watermark, health.system_watermark),
            (Some(1_600_000_000_000_000), Some(1_500_000_000_000_000))
        );
        assert_eq!(health.counters, [Counter { name: "late".to_owned(), value: 5 }]);
        assert_eq!(Health::read(&json!({})), Health::default());
    }

    #[test]
    fn messages_are_in_order() {
        let found = messages(&[
            json!({"time": "2026-11-27T10:00:01Z", "messageText": "b"}),
            json!({"time": "2026-11-27T10:00:00Z"}),
        ]);
        let texts: Vec<&str> = found.iter().map(|message| message.text.as_str()).collect();
        assert_eq!(texts, ["", "b"]);
    }
}
