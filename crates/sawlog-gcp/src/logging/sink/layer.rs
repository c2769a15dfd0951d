//! Events of `tracing` as entries.
//!
//! For: what an event says, cut to a bounded size, without ever waiting. Not for: which events the program makes, nor those of
//! libraries, which go to standard error only.

use std::fmt::{self, Write};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::cut;
use super::queue::Entries;

/// Longest text of a field, bytes.
const TEXT_BYTES: usize = 8 << 10;
/// Most fields of an entry; `tracing` allows 32.
const FIELDS_MAX: usize = 32;

/// Takes Sawlog's own events.
pub struct SinkLayer {
    entries: Entries,
    level: Level,
}

impl SinkLayer {
    pub(super) fn new(entries: Entries, level: Level) -> Self {
        Self { entries, level }
    }

    /// A way to put summaries into the same queue.
    #[must_use]
    pub fn entries(&self) -> Entries {
        self.entries.clone()
    }

    fn takes(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level && is_own(metadata.target())
    }
}

/// Whether events of a target are written: those of Sawlog's crates but for the writing itself.
fn is_own(target: &str) -> bool {
    let writing = module_path!().trim_end_matches("::layer");
    let is_in =
        |module: &str| target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let root = target.split("::").next().unwrap_or_default();
    (root == "sawlog" || root.starts_with("sawlog_")) && !is_in(writing)
}

impl<S: Subscriber> Layer<S> for SinkLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if !self.takes(metadata) {
            return;
        }
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        fields.0.insert("logger".to_owned(), metadata.target().into());
        let place = metadata.file().zip(metadata.line());
        let place = place.map(|(file, line)| ("sourceLocation", json!({"file": file, "line": line.to_string()})));
        self.entries.put(severity(*metadata.level()), fields.0, place);
    }
}

/// The severity of Cloud Logging that a level is.
fn severity(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

/// Fields of an event by name.
struct Fields(Map<String, Value>);

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        if self.0.len() < FIELDS_MAX {
            self.0.insert(field.name().to_owned(), value);
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, cut(value, TEXT_BYTES).into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded(String::new());
        // An error says that the text is long enough.
        let _ = write!(text, "{value:?}");
        self.add(field, cut(&text.0, TEXT_BYTES).into());
    }
}

/// A text that stops growing beyond what is kept of it.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = (TEXT_BYTES + 1).saturating_sub(self.0.len());
        self.0.push_str(&text[..text.ceil_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sawlog_seams::ManualClock;
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::queue::queue;
    use super::*;

    /// The entries that events become.
    fn entries_of(level: Level, events: impl FnOnce()) -> Vec<Value> {
        let (entries, mut waiting) = queue(100, 1 << 20, "r".to_owned(), Arc::new(ManualClock::at_micros(0)));
        let subscriber = tracing_subscriber::registry().with(SinkLayer::new(entries, level));
        tracing::subscriber::with_default(subscriber, events);
        std::iter::from_fn(|| waiting.next_now()).map(|entry| entry.json).collect()
    }

    #[test]
    fn an_event_keeps_its_fields_level_and_place() {
        let found = entries_of(Level::INFO, || {
            tracing::warn!(target: "sawlog_wal", source = "orders", rows = 7, is_late = true, error = ?Some("x"), "rows were {}", "stored");
            tracing::debug!(target: "sawlog_wal", "below the level");
        });
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["severity"], "WARNING");
        assert_eq!(
            found[0]["jsonPayload"],
            json!({
                "message": "rows were stored", "source": "orders", "rows": 7, "is_late": true, "error": "Some(\"x\")",
                "logger": "sawlog_wal",
            })
        );
        assert!(found[0]["sourceLocation"]["file"].as_str().expect("a file").ends_with("layer.rs"));
    }

    #[test]
    fn neither_libraries_nor_the_writing_itself_are_written() {
        let found = entries_of(Level::TRACE, || {
            tracing::info!(target: "hyper::client", "a library's");
            tracing::info!(target: "sawlogger", "another program's");
            tracing::info!(target: "sawlog_gcp::logging::sink::writer", "the writing itself");
            tracing::info!(target: "sawlog_gcp::logging::sinks", "one that sounds like it");
            tracing::trace!(target: "sawlog", "the binary's");
            tracing::error!(target: "sawlog_wal::commit", "a crate's");
        });
        let messages: Vec<_> = found.iter().map(|entry| entry["jsonPayload"]["message"].clone()).collect();
        assert_eq!(messages, ["one that sounds like it", "the binary's", "a crate's"]);
        assert_eq!([&found[1]["severity"], &found[2]["severity"]], ["DEBUG", "ERROR"]);
    }

    #[test]
    fn long_texts_are_cut() {
        let long = "é".repeat(TEXT_BYTES);
        let found = entries_of(Level::INFO, || {
            tracing::info!(target: "sawlog", text = long, debug = ?long, "{long}");
        });
        for name in ["message", "text", "debug"] {
            let text = found[0]["jsonPayload"][name].as_str().expect("a text");
            assert!(text.len() <= TEXT_BYTES + 3 && text.ends_with('…'), "{name} has {} bytes", text.len());
        }
    }
}
