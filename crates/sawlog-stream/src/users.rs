//! What a flush writes of users: sessions, timelines and last values.
//!
//! For: a function of what the generation got, what the store holds and the watermark at the generation's end, so that a
//! repeated flush writes the same. Not for: what becomes of sessions (`sawlog_core::session`) or what timelines hold
//! (`sawlog_core::timeline`).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use arrow::array::RecordBatch;
use sawlog_core::session::{self, Advanced, Chain, SessionDeltas, SessionRow, StoredChain};
use sawlog_core::timeline::{self, Profile, UserRows};
use sawlog_seams::serving::{Family, Mutation, ServingError, ServingSnapshot};
use sawlog_seams::view::SessionRules;

use crate::generation::Generation;
use crate::panes::end_bytes;
use crate::planted::{Bug, is_planted};

/// What a flush writes of sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// Chains, and when there is something to do about them.
    pub(crate) mutations: Vec<Mutation>,
    /// Panes of sessions, for their table.
    pub(crate) rows: Option<RecordBatch>,
}

/// Lets what arrived and the watermark change the stored chains.
pub(crate) fn advance_sessions(
    deltas: &SessionDeltas,
    snapshot: &dyn ServingSnapshot,
    watermark: i64,
    rules: &SessionRules,
) -> Result<Sessions, ServingError> {
    let (mut mutations, mut emitted) = (Vec::new(), Vec::new());
    let mut run = |user: &str, arrived: &[Chain]| -> Result<(), ServingError> {
        let mut stored = stored_chains(snapshot, user)?;
        if is_planted(Bug::ChainsLeftOut) {
            stored.truncate(1);
        }
        let advanced = session::advance(user, stored, arrived, watermark, rules.lateness, &rules.options);
        store(user, advanced, &mut mutations, &mut emitted);
        Ok(())
    };
    for (user, arrived) in deltas.users() {
        run(user, arrived)?;
    }
    let users = due_users(snapshot, watermark)?;
    let is_closing = !is_planted(Bug::DueSessionNotClosed);
    for user in users.iter().filter(|user| deltas.of(user).is_empty() && is_closing) {
        run(user, &[])?;
    }
    let failed = |error| ServingError::backend("making rows of sessions", error);
    let rows = if emitted.is_empty() { None } else { Some(session::session_rows(&emitted).map_err(failed)?) };
    Ok(Sessions { mutations, rows })
}

/// The chains of a user.
fn stored_chains(snapshot: &dyn ServingSnapshot, user: &str) -> Result<Vec<StoredChain>, ServingError> {
    let (start, end) = session::range_of(user);
    let cells = snapshot.scan(Family::Session, &start, Some(&end))?;
    let read = |(_, bytes): (Vec<u8>, Vec<u8>)| StoredChain::from_bytes(&bytes);
    cells
        .into_iter()
        .map(read)
        .collect::<Result<_, _>>()
        .map_err(|error| ServingError::backend("reading a session", error))
}

/// Users with a chain about which there is something to do.
fn due_users(snapshot: &dyn ServingSnapshot, watermark: i64) -> Result<BTreeSet<String>, ServingError> {
    let mut users = BTreeSet::new();
    let end = end_bytes(watermark.saturating_add(1));
    snapshot.scan_each(Family::SessionDue, b"", Some(&end), &mut |key, _| {
        users.extend(key.get(8..).and_then(session::user_of));
        ControlFlow::Continue(())
    })?;
    Ok(users)
}

fn store(user: &str, advanced: Advanced, mutations: &mut Vec<Mutation>, emitted: &mut Vec<SessionRow>) {
    for one in advanced.replaced.into_iter().filter(|_| !is_planted(Bug::ReplacedChainKept)) {
        let key = one.key(user);
        mutations.push(Mutation { family: Family::SessionDue, key: due_key(one.due, &key), value: None });
        mutations.push(Mutation { family: Family::Session, key, value: None });
    }
    for mut one in advanced.changed {
        if is_planted(Bug::ClosedSessionsForgotten) {
            one.closed.clear();
        }
        let key = one.key(user);
        mutations.push(Mutation { family: Family::SessionDue, key: due_key(one.due, &key), value: Some(Vec::new()) });
        mutations.push(Mutation { family: Family::Session, key, value: Some(one.to_bytes()) });
    }
    let is_emitted = |row: &SessionRow| !(row.is_retracted && is_planted(Bug::RetractionNotEmitted));
    emitted.extend(advanced.emitted.into_iter().filter(is_emitted));
}

fn due_key(due: i64, key: &[u8]) -> Vec<u8> {
    [end_bytes(due).as_slice(), key].concat()
}

/// Chunks and profiles of the users that the generation's rows name.
pub(crate) fn timelines(
    generation: &Generation,
    snapshot: &dyn ServingSnapshot,
) -> Result<Vec<Mutation>, ServingError> {
    let rows = UserRows::of(generation.rows_of_users(), None);
    let mut mutations = Vec::new();
    for (user, part) in rows.users() {
        for (number, chunk) in part.chunks().into_iter().enumerate() {
            let newest = chunk.entries.first().map_or(0, |entry| entry.time);
            let key = timeline::key(user, newest, generation.start.0, number as u32);
            mutations.push(Mutation { family: Family::Timeline, key, value: Some(chunk.to_bytes()) });
        }
        let key = timeline::profile_key(user);
        let mut profile = match snapshot.get(Family::Profile, &key)? {
            Some(bytes) => {
                Profile::from_bytes(&bytes).map_err(|error| ServingError::backend("reading a user", error))?
            }
            None => Profile::default(),
        };
        profile.merge(&part.profile());
        mutations.push(Mutation { family: Family::Profile, key, value: Some(profile.to_bytes()) });
    }
    Ok(mutations)
}
