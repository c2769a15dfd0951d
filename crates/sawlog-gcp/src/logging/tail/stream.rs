//! Streams, one after the other.
//!
//! For: opening them, storing what they show, and noting what they do not. Not for: getting that ([`super::unsure`],
//! [`super::lost`]).

use std::pin::pin;
use std::time::Duration;

use google_cloud_logging_v2::model::{TailLogEntriesRequest, TailLogEntriesResponse};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::client::connect;
use super::super::entry::{self, Nanos};
use super::super::pace::Waits;
use super::super::store::store;
use super::{Tail, lost};
use crate::answer::code_of;

/// A stream that ran so long was a good one: waits begin anew.
const GOOD_AGE: Duration = Duration::from_secs(60);

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Opens streams until a stop.
pub(super) async fn run(tail: &Tail, mut stopped: watch::Receiver<bool>) {
    let mut waits = Waits::new(tail.options.query.backoff, tail.now().unsigned_abs());
    while !*stopped.borrow() {
        let started = Instant::now();
        let ended = follow(tail, &mut stopped).await;
        let outcome = ended.as_ref().err().map_or("OK", |error| code_of(error.as_ref()));
        tail.state.metrics.add_cloud_call("logging", "TailLogEntries", outcome, started.elapsed().as_secs_f64());
        if let Err(error) = ended {
            tracing::warn!(%error, source = tail.options.query.source, "the tail of entries has ended; it is opened again");
        }
        if started.elapsed() >= GOOD_AGE {
            waits.reset();
        }
        tokio::select! {
            () = sleep(waits.after_failure()) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }
}

/// One stream, until it ends or a stop.
async fn follow(tail: &Tail, stopped: &mut watch::Receiver<bool>) -> Result<(), Problem> {
    let options = &tail.options;
    let client = connect(&options.query.access).await?;
    let (sender, mut entries) = client.tail_log_entries().build();
    let opened = tail.now();
    sender.send(request(tail)?).await?;
    // One that fails at once shows nothing: what came before it is asked for after the first that works.
    let mut settled = pin!(sleep(options.settle));
    let mut works = false;
    let mut idle_at = Instant::now() + options.idle_max;
    loop {
        let next = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            () = sleep_until(idle_at) => {
                tracing::debug!(source = options.query.source, "the tail shows nothing; another one is opened");
                return Ok(());
            }
            () = &mut settled, if !works => None,
            next = entries.next() => Some(next.ok_or("the service closed it")??),
        };
        if !works {
            works = true;
            open(tail, opened);
        }
        if let Some(next) = next {
            idle_at = Instant::now() + options.idle_max;
            take(tail, next, stopped).await;
        }
    }
}

fn request(tail: &Tail) -> Result<TailLogEntriesRequest, Problem> {
    let window = google_cloud_wkt::Duration::try_from(tail.options.buffer_window)?;
    let query = &tail.options.query;
    let request = TailLogEntriesRequest::new().set_resource_names(query.resources.clone());
    Ok(request.set_filter(&query.filter).set_buffer_window(window))
}

fn open(tail: &Tail, opened: Nanos) {
    tail.marks().open(opened, &tail.limits);
    tail.unsure_came.notify_one();
}

async fn take(tail: &Tail, response: TailLogEntriesResponse, stopped: &mut watch::Receiver<bool>) {
    let source = &tail.options.query.source;
    for info in response.suppression_info {
        let reason = info.reason.name().unwrap_or("UNKNOWN").to_ascii_lowercase();
        tracing::warn!(source, reason, count = info.suppressed_count, "the tail left entries out; they are listed");
        tail.state.metrics.add_suppressed(source, &reason, info.suppressed_count.unsigned_abs().into());
        tail.marks().doubt_last(tail.now(), &tail.limits);
        tail.unsure_came.notify_one();
    }
    let (lost, whole): (Vec<_>, Vec<_>) = response.entries.into_iter().partition(entry::has_lost_its_payload);
    let lost =
        lost.into_iter().map(|entry| lost::Entry { time: entry::place(&entry).time, insert_id: entry.insert_id });
    lost::add(tail, lost.collect());
    let places: Vec<_> = whole.iter().map(entry::place).collect();
    let Some(first) = places.iter().map(|place| place.time).min() else { return };
    match store(source, tail.options.age, &tail.state, &whole, stopped).await {
        Ok(()) => tail.marks().see(places.into_iter(), tail.now()),
        Err(error) => {
            tracing::error!(%error, source, "entries of the tail are not stored; they are listed");
            tail.doubt(first);
        }
    }
}
