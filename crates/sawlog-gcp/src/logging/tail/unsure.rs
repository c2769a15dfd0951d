//! Lists of ranges some of whose entries may be stored.
//!
//! For: listing each once it has settled; ids tell what is stored already. Not for: ranges that are older than ids are known
//! ([`super::missing`]).

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::super::entry::to_rfc3339;
use super::super::pages::Range;
use super::marks::Due;
use super::{ListError, Tail};

/// Lists what is due until a stop.
pub(super) async fn run(tail: &Tail, mut stopped: watch::Receiver<bool>) {
    let Some(client) = tail.connected(&mut stopped).await else { return };
    loop {
        let due = tail.marks().next_due();
        let now = tail.now();
        if due.is_none_or(|due| due > now) {
            let wait = due.map(|due| Instant::now() + std::time::Duration::from_nanos(due.abs_diff(now)));
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = tail.unsure_came.notified() => {}
                () = sleep_until(wait.unwrap_or_else(Instant::now)), if wait.is_some() => {}
            }
            continue;
        }
        let Some(range) = take(tail) else { continue };
        match tail.list(&client, range, "", |until| tail.marks().listed(until), &mut stopped).await {
            Ok(_) => tail.marks().end_list(),
            Err(ListError::Stopped) => return,
            Err(error) => {
                tracing::warn!(%error, source = tail.options.query.source, "a gap could not be listed; it is tried again");
                tail.marks().put_back(tail.now(), &tail.limits);
            }
        }
    }
}

/// What is to be listed now.
fn take(tail: &Tail) -> Option<Range> {
    let due = tail.marks().take_due(tail.now(), &tail.limits);
    let Due { list, is_missing, given_up } = due?;
    if let Some(Range { from, until }) = given_up {
        let source = &tail.options.query.source;
        let [since, until] = [from, until].map(to_rfc3339);
        tracing::error!(
            source,
            since,
            until,
            "the gap is longer than gap-max; entries of this time must be back-filled"
        );
    }
    if is_missing {
        tail.missing_came.notify_one();
    }
    list
}
