//! Summaries of dead letters.
//!
//! For: one entry a minute for each source and reason, with how many and one of them. Not for: the dead letters themselves,
//! which are rows of a table. Texts of records are redacted and cut, since they leave the machine.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use sawlog_core::batch::Format;
use sawlog_core::rules::{RedactAt, RedactConfig, Rules, RulesConfig};
use sawlog_stream::{Arrival, Tap};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::cut;
use super::queue::Entries;

/// Sources and reasons that are told apart in one period.
const KINDS_MAX: usize = 100;
/// Of a record, bytes.
const SAMPLE_BYTES: usize = 200;
/// Of a record that is looked at for what to redact, bytes: more than what is shown, so that no match is cut in two.
const REDACTED_BYTES: usize = 4 << 10;
/// What is redacted in any case.
const PATTERNS: [&str; 3] = ["email", "card", "token"];

/// Settings of the summaries.
#[derive(Clone, Debug)]
pub struct DeadLetterOptions {
    /// Time that one summary covers.
    pub period: Duration,
    /// What is redacted beside mail addresses, card numbers and tokens.
    pub redact: Vec<RedactConfig>,
}

impl Default for DeadLetterOptions {
    /// A minute.
    fn default() -> Self {
        Self { period: Duration::from_secs(60), redact: Vec::new() }
    }
}

/// Redactions that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct RedactError(String);

/// Puts summaries of the dead letters of a tap into the sink, until a stop or the end of the pipeline.
///
/// # Errors
/// When a redaction cannot be used.
pub async fn summarize_dead_letters(
    options: DeadLetterOptions,
    mut tap: Tap,
    entries: Entries,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), RedactError> {
    let mut summaries = Summaries::new(options.redact)?;
    let mut ticks = interval_at(Instant::now() + options.period, options.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            _ = ticks.tick() => summaries.put_into(&entries),
            arrival = tap.next() => match arrival {
                Some(arrival) => summaries.add(&arrival),
                None => break,
            },
        }
    }
    summaries.put_into(&entries);
    Ok(())
}

/// Dead letters of a source for one reason.
#[derive(Debug)]
struct Summary {
    count: u64,
    error: String,
    remedy: String,
    sample: String,
}

/// Dead letters since the last summary.
struct Summaries {
    redactions: Rules,
    by_kind: BTreeMap<(String, String), Summary>,
    /// Those that are not told apart.
    others: u64,
}

impl Summaries {
    fn new(redact: Vec<RedactConfig>) -> Result<Self, RedactError> {
        let named = PATTERNS.map(|pattern| RedactConfig {
            name: pattern.to_owned(),
            pattern: pattern.to_owned(),
            replace: None,
            at: RedactAt::Receive,
        });
        let all = named.into_iter().chain(redact).map(|redact| RedactConfig { at: RedactAt::Receive, ..redact });
        let config = RulesConfig { redact: all.collect(), ..RulesConfig::default() };
        let redactions =
            Rules::compile(&config, &|_| Err("redactions name no files".to_owned())).map_err(|errors| {
                let errors: Vec<_> = errors.iter().map(|error| format!("{error}; {}", error.hint)).collect();
                RedactError(errors.join("; "))
            })?;
        Ok(Self { redactions, by_kind: BTreeMap::new(), others: 0 })
    }

    fn add(&mut self, arrival: &Arrival) {
        self.others += arrival.skipped;
        arrival.rows.iter().for_each(|rows| self.add_rows(rows));
    }

    fn add_rows(&mut self, rows: &RecordBatch) {
        let texts = |name: &str| rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let (Some(sources), Some(reasons), Some(errors), Some(remedies)) =
            (texts("source"), texts("reason"), texts("error"), texts("remedy"))
        else {
            return;
        };
        let payloads = rows.column_by_name("payload").and_then(|column| column.as_binary_opt::<i32>());
        for row in 0..rows.num_rows() {
            let kind = (sources.value(row).to_owned(), reasons.value(row).to_owned());
            if let Some(known) = self.by_kind.get_mut(&kind) {
                known.count += 1;
            } else if self.by_kind.len() >= KINDS_MAX {
                self.others += 1;
            } else {
                let remedy = if remedies.is_null(row) { String::new() } else { remedies.value(row).to_owned() };
                let error = self.shown(errors.value(row).as_bytes());
                let sample = payloads.map_or_else(String::new, |payloads| self.shown(payloads.value(row)));
                self.by_kind.insert(kind, Summary { count: 1, error, remedy, sample });
            }
        }
    }

    /// The beginning of a text without what must not leave the machine.
    fn shown(&self, text: &[u8]) -> String {
        let text = &text[..text.len().min(REDACTED_BYTES)];
        let redacted = self.redactions.redact_at_receive(Format::Text, text);
        cut(&String::from_utf8_lossy(redacted.as_deref().unwrap_or(text)), SAMPLE_BYTES)
    }

    fn put_into(&mut self, entries: &Entries) {
        for ((source, reason), summary) in std::mem::take(&mut self.by_kind) {
            let Summary { count, error, remedy, sample } = summary;
            entries.put("WARNING", fields(json!({
                "message": format!("{count} records of {source} became dead letters: {reason}"),
                "source": source, "reason": reason, "count": count, "error": error, "remedy": remedy, "sample": sample,
            })), None);
        }
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            let message = format!("{others} more records became dead letters");
            entries.put("WARNING", fields(json!({"message": message, "count": others})), None);
        }
    }
}

fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sawlog_core::batch::{AgeLimits, RawBatch};
    use sawlog_core::schema::Table;
    use sawlog_core::transform::transform;
    use sawlog_seams::ManualClock;

    use super::super::queue::queue;
    use super::*;

    fn dead_letters(source: &str, body: &str) -> Arrival {
        let batch = RawBatch {
            batch_id: "b",
            source,
            file: None,
            format: Format::Json,
            is_declared: true,
            receive_time: 0,
            age: AgeLimits::default(),
            body: body.as_bytes(),
        };
        let rows = transform(&batch, &Rules::none()).expect("lines").tables[Table::DeadLetters as usize].clone();
        Arrival { rows: vec![rows], skipped: 0 }
    }

    fn put(summaries: &mut Summaries) -> Vec<Value> {
        let (entries, mut waiting) = queue(1_000, 1 << 20, "r".to_owned(), Arc::new(ManualClock::at_micros(0)));
        summaries.put_into(&entries);
        std::iter::from_fn(|| waiting.next_now()).map(|entry| entry.json["jsonPayload"].clone()).collect()
    }

    #[test]
    fn each_source_and_reason_has_one_summary_without_secrets() {
        let redact = RedactConfig {
            name: "code".to_owned(),
            pattern: "code-[0-9]+".to_owned(),
            replace: None,
            at: RedactAt::Transform,
        };
        let mut summaries = Summaries::new(vec![redact]).expect("redactions");
        let broken = format!("{{\"mail\":\"ann@example.com\", code-77, {}", "x".repeat(400));
        summaries.add(&dead_letters("a", &format!("{broken}\n{broken}\n[1]")));
        summaries.add(&dead_letters("b", &broken));
        let found = put(&mut summaries);
        let kinds: Vec<_> = found.iter().map(|entry| (entry["source"].clone(), entry["count"].clone())).collect();
        assert_eq!(kinds, [("a".into(), 2.into()), ("a".into(), 1.into()), ("b".into(), 1.into())]);
        assert_eq!(found[0]["message"], "2 records of a became dead letters: json_syntax");
        let sample = found[0]["sample"].as_str().expect("a sample");
        assert!(
            sample.starts_with("{\"mail\":\"[email]\", [code], xxx") && sample.len() <= SAMPLE_BYTES + 3,
            "{sample}"
        );
        assert!(found[0]["remedy"].as_str().expect("a remedy").contains("one complete JSON object"));
        assert_eq!(put(&mut summaries), Vec::<Value>::new(), "each is told once");
    }

    #[test]
    fn kinds_are_bounded_and_the_rest_is_counted() {
        let mut summaries = Summaries::new(Vec::new()).expect("redactions");
        for source in 0..KINDS_MAX + 5 {
            summaries.add(&dead_letters(&format!("s{source}"), "broken"));
        }
        summaries.add(&Arrival { rows: Vec::new(), skipped: 2 });
        let found = put(&mut summaries);
        assert_eq!(found.len(), KINDS_MAX + 1);
        assert_eq!(found[KINDS_MAX]["count"], 7);
    }

    #[test]
    fn a_redaction_that_cannot_be_used_is_named() {
        let redact =
            RedactConfig { name: "bad".to_owned(), pattern: "(".to_owned(), replace: None, at: RedactAt::Receive };
        let error = Summaries::new(vec![redact]).err().expect("refused").to_string();
        assert!(error.contains("redact \"bad\"") && error.contains("regular expression"), "{error}");
    }
}
