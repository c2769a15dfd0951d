//! What a flush writes of users: sessions, timelines and last values.
//!
//! For: a function of what the generation got, what the store holds and the watermark at the generation's end, so that a
//! repeated flush writes the same. Not for: what becomes of sessions (`sawlog_core::session`) or what timelines hold
//! (`sawlog_core::timeline`).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use arrow::array::RecordBatch;
use sawlog_core::session::{self, Advanced, Chain, SessionDeltas, SessionRow, StoredChain, UserChains};
use sawlog_core::timeline::{self, Profile, UserRows};
use sawlog_seams::serving::{Family, Mutation, ServingError, ServingSnapshot};
use sawlog_seams::view::SessionRules;

use crate::generation::Generation;
use crate::panes::end_bytes;
use crate::planted::{Bug, is_planted};

/// Users without new events that a flush looks at at most; what is left is there for the next.
const DUE_MAX: usize = 50_000;

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
    let mut run = Run { snapshot, watermark, rules, mutations: Vec::new(), emitted: Vec::new() };
    for (user, arrived) in deltas.users() {
        run.advance(user, arrived)?;
    }
    let is_closing = !is_planted(Bug::DueSessionNotClosed);
    for user in due_users(snapshot, watermark)?.iter().filter(|user| deltas.of(user).is_empty() && is_closing) {
        run.advance(user, &[])?;
    }
    let failed = |error| ServingError::backend("making rows of sessions", error);
    let Run { mutations, emitted, .. } = run;
    let rows = if emitted.is_empty() { None } else { Some(session::session_rows(&emitted).map_err(failed)?) };
    Ok(Sessions { mutations, rows })
}

struct Run<'a> {
    snapshot: &'a dyn ServingSnapshot,
    watermark: i64,
    rules: &'a SessionRules,
    mutations: Vec<Mutation>,
    emitted: Vec<SessionRow>,
}

impl Run<'_> {
    fn advance(&mut self, user: &str, arrived: &[Chain]) -> Result<(), ServingError> {
        let key = session::key(user);
        let failed = |error| ServingError::backend("reading sessions", error);
        let stored = self.snapshot.get(Family::Session, &key)?;
        let stored = stored.map(|bytes| UserChains::from_bytes(&bytes)).transpose().map_err(failed)?;
        let listed = stored.as_ref().map(|stored| stored.listed);
        let mut chains = stored.map(|stored| stored.chains).unwrap_or_default();
        if is_planted(Bug::ChainsLeftOut) {
            chains.truncate(1);
        }
        let SessionRules { options, lateness } = self.rules;
        let Advanced { mut changed, replaced, unchanged, emitted } =
            session::advance(user, chains, arrived, self.watermark, *lateness, options);
        let is_emitted = |row: &SessionRow| !(row.is_retracted && is_planted(Bug::RetractionNotEmitted));
        self.emitted.extend(emitted.into_iter().filter(is_emitted));
        if is_planted(Bug::ClosedSessionsForgotten) {
            changed.iter_mut().for_each(|chain| chain.closed.clear());
        }
        let kept = replaced.into_iter().filter(|_| is_planted(Bug::ReplacedChainKept));
        let mut chains: Vec<StoredChain> = unchanged.into_iter().chain(changed).chain(kept).collect();
        chains.sort_by_key(|stored| stored.chain.first());
        self.store(key, listed, UserChains { listed: i64::MIN, chains });
        Ok(())
    }

    /// Stores a user's chains, and lists the user anew where the old place has passed or comes too late.
    fn store(&mut self, key: Vec<u8>, listed: Option<i64>, mut user: UserChains) {
        let due = user.due();
        let is_right = |listed: &i64| *listed > self.watermark && due.is_some_and(|due| *listed <= due);
        let kept = listed.filter(is_right);
        if let Some(old) = listed.filter(|_| kept.is_none()) {
            self.put(Family::SessionDue, due_key(old, &key), None);
        }
        let Some(due) = due else { return self.put(Family::Session, key, None) };
        user.listed = kept.unwrap_or(due);
        if kept.is_none() {
            self.put(Family::SessionDue, due_key(due, &key), Some(Vec::new()));
        }
        self.put(Family::Session, key, Some(user.to_bytes()));
    }

    fn put(&mut self, family: Family, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.mutations.push(Mutation { family, key, value });
    }
}

/// Users with a chain about which there may be something to do.
fn due_users(snapshot: &dyn ServingSnapshot, watermark: i64) -> Result<BTreeSet<String>, ServingError> {
    let mut users = BTreeSet::new();
    let end = end_bytes(watermark.saturating_add(1));
    snapshot.scan_each(Family::SessionDue, b"", Some(&end), &mut |key, _| {
        users.extend(key.get(8..).and_then(session::user_of));
        if users.len() < DUE_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(users)
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
