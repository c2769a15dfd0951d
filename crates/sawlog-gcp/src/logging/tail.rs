//! Entries as they are written.
//!
//! For: a stream of `entries.tail` that is opened again for as long as it takes, and the entries that no stream shows: those of
//! the time between two streams, those that the service left out because they were too many, and those whose payload the
//! client does not decode. A list gives them. Not for: history ([`super::backfill`]).
//!
//! Rules: nobody says when a stream begins to show entries, so that each one is followed by a list from the last complete time
//! until some seconds after it was opened; what both give is recognized by its id. Payloads of protobuf come empty from Google's
//! Rust client (1.15), in streams only: such entries are asked for by id.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use google_cloud_logging_v2::client::LoggingServiceV2;
use google_cloud_logging_v2::model::{LogEntry, TailLogEntriesRequest, TailLogEntriesResponse};
use sawlog_core::batch::{AgeLimits, Format};
use sawlog_core::ledger::Counts;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::{LoggingQuery, LoggingState, connect};
use super::entry::{self, Nanos, Ready, nanos};
use super::pace::Waits;
use super::pages::{PageError, Pages, Range};
use super::tail_state::{Gap, Marks, TailFile};
use crate::answer::code_of;
use crate::submit::{Body, Unstored, submit};

/// A stream that ran so long was a good one: waits begin anew.
const GOOD_AGE: Duration = Duration::from_secs(60);
/// Entries without their payload that one request asks for; an id has up to 150 bytes, a filter up to 20,000.
const LOST_MAX: usize = 100;
/// How long such entries are gathered.
const LOST_AGE: Duration = Duration::from_millis(500);
/// Between two writes of the file.
const SAVE_AGE: Duration = Duration::from_secs(5);

/// Settings of a tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailOptions {
    /// Which entries.
    pub query: LoggingQuery,
    /// Accepted event times.
    pub age: AgeLimits,
    /// How long the service holds entries back to put them in order, up to a minute.
    pub buffer_window: Duration,
    /// How long after the beginning of a stream entries are listed too.
    pub settle: Duration,
    /// How much earlier than the last complete time a list begins, for entries that arrive late.
    pub overlap: Duration,
    /// Longest gap that is filled; what is older must be back-filled.
    pub gap_max: Duration,
    /// A stream that shows nothing for so long is opened again: it may be dead.
    pub idle_max: Duration,
    /// File that says up to when it is complete; its folder is there. Each query has one of its own.
    pub state_file: PathBuf,
}

impl TailOptions {
    /// Two seconds of buffer, gaps of up to a day.
    #[must_use]
    pub fn new(query: LoggingQuery, state_file: PathBuf) -> Self {
        Self {
            query,
            age: AgeLimits::default(),
            buffer_window: Duration::from_secs(2),
            settle: Duration::from_secs(15),
            overlap: Duration::from_secs(60),
            gap_max: Duration::from_secs(24 * 3600),
            idle_max: Duration::from_secs(600),
            state_file,
        }
    }
}

/// Takes entries as they are written until a stop. What ends a stream is logged, and another one is opened.
pub async fn tail(options: TailOptions, state: LoggingState, mut stopped: watch::Receiver<bool>) {
    let file = TailFile::new(state.disk.clone(), &options.state_file);
    let seed = state.clock.now_micros().unsigned_abs();
    let mut waits = Waits::new(options.query.backoff, seed);
    let now = nanos(state.clock.now_micros());
    let mut marks = Marks::new(file.load().unwrap_or(now));
    while !*stopped.borrow() {
        let started = Instant::now();
        let mut stream = Stream::new(&options, &state, &file, &mut marks, stopped.clone());
        let ended = stream.run().await;
        stream.end();
        let outcome = ended.as_ref().err().map_or("OK", |error| code_of(error.as_ref()));
        state.metrics.add_cloud_call("logging", "TailLogEntries", outcome, started.elapsed().as_secs_f64());
        if let Err(error) = ended {
            tracing::warn!(%error, source = options.query.source, "the tail of entries has ended; it is opened again");
        }
        file.save(marks.complete_until());
        if started.elapsed() >= GOOD_AGE {
            waits.reset();
        }
        tokio::select! {
            () = sleep(waits.after_failure()) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// An entry whose payload was lost.
#[derive(Debug)]
struct Lost {
    time: Nanos,
    insert_id: String,
}

/// What a list is for.
#[derive(Clone, Debug)]
enum Fill {
    /// All entries of a range, for a gap.
    Gap { gap: Gap, range: Range },
    /// Entries by their ids.
    Ids { range: Range, ids: Vec<String> },
}

/// One stream and the lists beside it.
struct Stream<'a> {
    options: &'a TailOptions,
    state: &'a LoggingState,
    file: &'a TailFile,
    marks: &'a mut Marks,
    stopped: watch::Receiver<bool>,
    /// When the gap is to be filled.
    fill_at: Option<Instant>,
    lost: Vec<Lost>,
    lost_at: Instant,
    /// The first times of lists by ids that run.
    asked: Vec<Nanos>,
    fills: JoinSet<(Fill, Result<usize, PageError>)>,
    is_filling_gap: bool,
    save_at: Instant,
}

impl<'a> Stream<'a> {
    fn new(
        options: &'a TailOptions,
        state: &'a LoggingState,
        file: &'a TailFile,
        marks: &'a mut Marks,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let now = Instant::now();
        let (fills, lost) = (JoinSet::new(), Vec::new());
        Self {
            options,
            state,
            file,
            marks,
            stopped,
            fill_at: None,
            lost,
            lost_at: now,
            asked: Vec::new(),
            fills,
            is_filling_gap: false,
            save_at: now + SAVE_AGE,
        }
    }

    /// Runs until the stream ends or a stop.
    async fn run(&mut self) -> Result<(), Problem> {
        let client = connect(&self.options.query.access).await?;
        let (sender, mut entries) = client.tail_log_entries().build();
        self.lack_since(self.marks.complete_until());
        sender.send(self.request()?).await?;
        let mut idle_at = Instant::now() + self.options.idle_max;
        let mut stopped = self.stopped.clone();
        loop {
            let far = Instant::now() + self.options.idle_max;
            let fill_at = self.fill_at.filter(|_| !self.is_filling_gap);
            let lost_at = (!self.lost.is_empty()).then_some(self.lost_at);
            let next = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
                () = sleep_until(idle_at) => {
                    tracing::debug!(source = self.options.query.source, "the tail shows nothing; another one is opened");
                    return Ok(());
                }
                next = entries.next() => next.ok_or("the service closed it")??,
                Some(done) = self.fills.join_next() => {
                    self.filled(done?);
                    continue;
                }
                () = sleep_until(fill_at.unwrap_or(far)), if fill_at.is_some() => {
                    self.fill_gap(&client);
                    continue;
                }
                () = sleep_until(lost_at.unwrap_or(far)), if lost_at.is_some() => {
                    self.ask_for_lost(&client);
                    continue;
                }
                () = sleep_until(self.save_at) => {
                    self.save();
                    continue;
                }
            };
            idle_at = Instant::now() + self.options.idle_max;
            self.take(next).await;
        }
    }

    /// What was not asked for, or not answered, lacks.
    fn end(self) {
        self.marks.open_gap(self.complete_until());
    }

    fn request(&self) -> Result<TailLogEntriesRequest, Problem> {
        let window = google_cloud_wkt::Duration::try_from(self.options.buffer_window)?;
        let query = &self.options.query;
        let request = TailLogEntriesRequest::new().set_resource_names(query.resources.clone());
        Ok(request.set_filter(&query.filter).set_buffer_window(window))
    }

    /// Before which every entry is stored.
    fn complete_until(&self) -> Nanos {
        let lost = self.lost.iter().map(|lost| lost.time).chain(self.asked.iter().copied());
        lost.fold(self.marks.complete_until(), Nanos::min)
    }

    fn save(&mut self) {
        self.file.save(self.complete_until());
        self.save_at = Instant::now() + SAVE_AGE;
    }

    /// Asks for a list from that time on, once it can be complete.
    fn lack_since(&mut self, time: Nanos) {
        self.marks.open_gap(time);
        self.fill_at.get_or_insert(Instant::now() + self.options.settle);
    }

    async fn take(&mut self, response: TailLogEntriesResponse) {
        for info in response.suppression_info {
            let source = &self.options.query.source;
            let reason = info.reason.name().unwrap_or("UNKNOWN").to_ascii_lowercase();
            tracing::warn!(source, reason, count = info.suppressed_count, "the tail left entries out; they are listed");
            self.state.metrics.add_suppressed(source, &reason, info.suppressed_count.unsigned_abs().into());
            self.lack_since(self.marks.complete_until());
        }
        let (lost, whole): (Vec<_>, Vec<_>) = response.entries.into_iter().partition(entry::has_lost_its_payload);
        for entry in lost {
            if self.lost.is_empty() {
                self.lost_at = Instant::now() + LOST_AGE;
            }
            let time = entry::place(&entry).time;
            self.lost.push(Lost { time, insert_id: entry.insert_id });
            if self.lost.len() >= LOST_MAX {
                self.lost_at = Instant::now();
            }
        }
        let newest = whole.iter().map(|entry| entry::place(entry).time).max();
        let is_stored = store(self.options, self.state, &whole, &mut self.stopped).await;
        match newest {
            // A clock that runs ahead says nothing of what is still to come.
            Some(newest) if is_stored => self.marks.see(newest.min(nanos(self.state.clock.now_micros()))),
            Some(_) => self.marks.open_gap(self.marks.complete_until()),
            None => {}
        }
    }

    fn fill_gap(&mut self, client: &LoggingServiceV2) {
        self.fill_at = None;
        let Some(gap) = self.marks.gap() else { return };
        let until = nanos(self.state.clock.now_micros());
        let earliest = until.saturating_sub(nanos_of(self.options.gap_max));
        let from = gap.from.saturating_sub(nanos_of(self.options.overlap));
        if from < earliest {
            let [since, until] = [from, earliest].map(entry::to_rfc3339);
            let source = &self.options.query.source;
            tracing::error!(
                source,
                since,
                until,
                "the gap is longer than gap-max; entries of this time must be back-filled"
            );
        }
        self.is_filling_gap = true;
        self.start(client, Fill::Gap { gap, range: Range { from: from.max(earliest), until } });
    }

    fn ask_for_lost(&mut self, client: &LoggingServiceV2) {
        let rest = self.lost.split_off(self.lost.len().min(LOST_MAX));
        let asked = std::mem::replace(&mut self.lost, rest);
        self.lost_at = Instant::now();
        let times = || asked.iter().map(|lost| lost.time);
        let (Some(from), Some(until)) = (times().min(), times().max()) else { return };
        let ids = asked.iter().map(|lost| lost.insert_id.clone()).collect();
        self.asked.push(from);
        self.start(client, Fill::Ids { range: Range { from, until: until.saturating_add(1) }, ids });
    }

    fn start(&mut self, client: &LoggingServiceV2, fill: Fill) {
        let (client, options, state) = (client.clone(), self.options.clone(), self.state.clone());
        let mut stopped = self.stopped.clone();
        self.fills.spawn(async move {
            let result = list(&client, &options, &state, &fill, &mut stopped).await;
            (fill, result)
        });
    }

    /// Takes note of a list that has ended.
    fn filled(&mut self, (fill, result): (Fill, Result<usize, PageError>)) {
        match &fill {
            Fill::Gap { .. } => self.is_filling_gap = false,
            Fill::Ids { range, .. } => {
                let place = self.asked.iter().position(|from| *from == range.from);
                place.map(|place| self.asked.swap_remove(place));
            }
        }
        match (&fill, result) {
            (Fill::Gap { gap, range }, Ok(_)) => self.marks.close_gap(*gap, range.until),
            // The others are not to be listed yet.
            (Fill::Ids { range, ids }, Ok(found)) if found < ids.len() => self.lack_since(range.from),
            (Fill::Ids { .. }, Ok(_)) => {}
            (Fill::Ids { range, .. }, Err(PageError::Stopped)) => self.marks.open_gap(range.from),
            (Fill::Gap { .. }, Err(PageError::Stopped)) => {}
            (Fill::Gap { .. }, Err(error)) => {
                tracing::warn!(%error, source = self.options.query.source, "a gap could not be filled; it is tried again");
                self.fill_at.get_or_insert(Instant::now() + self.options.query.backoff.max);
            }
            (Fill::Ids { range, .. }, Err(error)) => {
                tracing::warn!(%error, source = self.options.query.source, "entries could not be asked for; their time is listed");
                self.lack_since(range.from);
            }
        }
    }
}

fn nanos_of(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Stores what a list gives; how many entries that was.
async fn list(
    client: &LoggingServiceV2,
    options: &TailOptions,
    state: &LoggingState,
    fill: &Fill,
    stopped: &mut watch::Receiver<bool>,
) -> Result<usize, PageError> {
    let (range, more) = match fill {
        Fill::Gap { range, .. } => (*range, String::new()),
        Fill::Ids { range, ids } => (*range, any_id(ids)),
    };
    let mut pages = Pages::new(client, &options.query, state, range, &more);
    let mut found = 0;
    while let Some(entries) = pages.next(stopped).await? {
        if !store(options, state, &entries, stopped).await {
            return Err(PageError::Stopped);
        }
        found += entries.len();
    }
    Ok(found)
}

/// A condition that one of the ids fulfils.
fn any_id(ids: &[String]) -> String {
    let quoted = ids.iter().map(|id| format!("\"{}\"", id.replace('\\', "\\\\").replace('"', "\\\"")));
    format!("insertId=({})", quoted.collect::<Vec<_>>().join(" OR "))
}

/// Stores entries, however often that takes; whether it did before a stop.
async fn store(
    options: &TailOptions,
    state: &LoggingState,
    entries: &[LogEntry],
    stopped: &mut watch::Receiver<bool>,
) -> bool {
    let source = &options.query.source;
    let ready = entries.iter().filter_map(|entry| match Ready::new(entry) {
        Ok(ready) => Some(ready),
        Err(error) => {
            tracing::error!(%error, source, insert_id = entry.insert_id, "an entry cannot be written as JSON");
            state.metrics.add_records(source, &Counts::rejected(1));
            state.pipeline.note_rejected(source, 1);
            None
        }
    });
    for entries in entry::bodies(ready.collect()) {
        let body = Body {
            source: source.clone(),
            format: Format::Json,
            age: options.age,
            bytes: Bytes::from(entry::body(&entries)),
            idempotency_key: None,
        };
        match submit(body, &state.pipeline, &state.metrics, stopped).await {
            Ok(_) => {}
            Err(Unstored::Stopped) => return false,
            Err(Unstored::Refused(error)) => {
                tracing::error!(%error, source, "entries cannot be stored");
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_quoted_in_a_filter() {
        assert_eq!(any_id(&["a".to_owned(), "b\"\\".to_owned()]), r#"insertId=("a" OR "b\"\\")"#);
    }
}
