//! What must hold of sessions and of what is kept of users.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use sawlog_core::session::{self, Chain, SessionDeltas, UserChains};
use sawlog_core::timeline::{Chunk, Profile};
use sawlog_seams::serving::{Family, ServingSnapshot};
use sawlog_seams::view::View;
use sawlog_seams::warehouse::Warehouse;

use super::{same, times};
use crate::simulation::Violation;
use crate::simulation::model::{Session, User};
use crate::simulation::world::World;

/// A session by its user and start.
type Key = (String, i64);
/// Start, last event and number of events.
type Extent = (i64, i64, i64);

/// A row of `pane_sessions`.
#[derive(Debug)]
struct Pane {
    index: i32,
    timing: String,
    is_retracted: bool,
    is_cut: bool,
    last: i64,
    counts: [i64; 4],
}

/// What the stores hold right after a flush.
pub(super) fn flushed(world: &World, snapshot: &dyn ServingSnapshot) -> Result<(), Violation> {
    pane_table(world)?;
    chains(world, snapshot)?;
    rows_of_users(world, snapshot)
}

/// The panes of each session are in order, a session is taken back at most once and at the end, and those that are left
/// are the complete ones, and none that is part of another.
fn pane_table(world: &World) -> Result<(), Violation> {
    let stored = world.stores.warehouse.stored(session::PANE_TABLE).expect("a table");
    let mut found: BTreeMap<Key, Vec<Pane>> = BTreeMap::new();
    stored.rows.iter().for_each(|batch| read_panes(batch, &mut found));
    let mut left: BTreeMap<&Key, &Pane> = BTreeMap::new();
    let users = &world.model.users.flushed;
    found.retain(|(name, _), _| users.get(name).is_none_or(|user| !user.is_rewritten));
    for (key, panes) in &mut found {
        panes.sort_by_key(|pane| pane.index);
        let is_rising = panes.windows(2).all(|pair| pair[0].index < pair[1].index && !pair[0].is_retracted);
        let is_timed =
            panes.iter().enumerate().all(|(at, pane)| pane.timing == if at == 0 { "on_time" } else { "late" });
        if !is_rising || !is_timed || panes[0].is_retracted {
            return Err(Violation::new("panes of sessions", format!("{key:?}: {panes:?}")));
        }
    }
    for (key, panes) in &found {
        left.extend(panes.last().filter(|pane| !pane.is_retracted).map(|pane| (key, pane)));
    }
    for (name, user) in judged(users) {
        let watermark = world.model.flushed_watermark;
        let all = user.sessions(&world.options.stream.session);
        for session in all.iter().filter(|session| session.end <= watermark) {
            let pane = left.get(&(name.clone(), session.start));
            let is_same = pane.is_some_and(|pane| {
                (pane.last, pane.counts, pane.is_cut) == (session.last, session.counts, session.is_cut)
            });
            if !is_same {
                return Err(Violation::new("sessions", format!("{name}: found {pane:?}, recounted {session:?}")));
            }
        }
        // One that is open again is emitted again when it is complete; until then its last pane stays.
        let is_odd = |key: &&&Key| key.0 == *name && !all.iter().any(|session| session.start == key.1);
        if let Some(odd) = left.keys().find(is_odd) {
            return Err(Violation::new("sessions", format!("{odd:?} is left, recounted {all:?}")));
        }
    }
    Ok(())
}

/// Users whose sessions are determined.
fn judged(users: &BTreeMap<String, User>) -> impl Iterator<Item = (&String, &User)> {
    users.iter().filter(|(_, user)| !user.is_rewritten)
}

fn read_panes(batch: &RecordBatch, found: &mut BTreeMap<Key, Vec<Pane>>) {
    let column = |name: &str| batch.column_by_name(name).expect(name);
    let [users, timings] = ["user_id", "pane_timing"].map(|name| column(name).as_string::<i32>());
    let [cut, retracted] = ["is_cut", "is_retracted"].map(|name| column(name).as_boolean());
    let counts = ["event_count", "error_count", "step_count", "request_count"];
    let counts = counts.map(|name| column(name).as_primitive::<Int64Type>());
    let indices = column("pane_index").as_primitive::<Int32Type>();
    let (starts, ends) = (times(batch, "session_start"), times(batch, "session_end"));
    for row in 0..batch.num_rows() {
        let pane = Pane {
            index: indices.value(row),
            timing: timings.value(row).to_owned(),
            is_retracted: retracted.value(row),
            is_cut: cut.value(row),
            last: ends[row],
            counts: counts.map(|column| column.value(row)),
        };
        found.entry((users.value(row).to_owned(), starts[row])).or_default().push(pane);
    }
}

fn stored_chains(snapshot: &dyn ServingSnapshot) -> BTreeMap<String, UserChains> {
    let cells = snapshot.scan(Family::Session, b"", None).expect("cells").into_iter();
    cells
        .map(|(key, value)| {
            let user = session::user_of(&key).expect("a user");
            (user, UserChains::from_bytes(&value).expect("chains"))
        })
        .collect()
}

/// Every user with chains is listed once, ahead of the watermark and not after anything is due.
fn chains(world: &World, snapshot: &dyn ServingSnapshot) -> Result<(), Violation> {
    let mut listed = BTreeSet::new();
    for (user, stored) in stored_chains(snapshot) {
        let UserChains { listed: time, chains } = &stored;
        if stored.due().is_none_or(|due| due <= world.model.flushed_watermark || due < *time) {
            return Err(Violation::new("chains", format!("{user}: listed at {time}, {chains:?}")));
        }
        listed.insert([&((*time as u64) ^ (1 << 63)).to_be_bytes(), session::key(&user).as_slice()].concat());
    }
    let found = snapshot.scan(Family::SessionDue, b"", None).expect("cells");
    same("chains", &found.into_iter().map(|(key, _)| key).collect(), &listed)
}

/// Timelines have each row that names a user once; profiles count them.
fn rows_of_users(world: &World, snapshot: &dyn ServingSnapshot) -> Result<(), Violation> {
    let users = &world.model.users.flushed;
    let profiles = snapshot.scan(Family::Profile, b"", None).expect("cells");
    let found: Vec<(u64, u64)> = profiles
        .iter()
        .map(|(_, bytes)| Profile::from_bytes(bytes).expect("a profile"))
        .map(|profile| (profile.event_count, profile.error_count))
        .collect();
    let expected: Vec<(u64, u64)> = users.values().map(|user| (user.row_count, user.error_count)).collect();
    // Both are in the order of users.
    same("profiles", &found, &expected)?;
    let mut seen = BTreeSet::new();
    for (key, bytes) in snapshot.scan(Family::Timeline, b"", None).expect("cells") {
        for entry in Chunk::from_bytes(&bytes).expect("a chunk").entries {
            let row = (entry.batch_id.to_string(), entry.record_index);
            if !seen.insert(row.clone()) {
                return Err(Violation::new("timelines", format!("{row:?} is there twice, again under {key:?}")));
            }
        }
    }
    same("timelines", &(seen.len() as u64), &users.values().map(|user| user.row_count).sum())
}

/// Sessions as queries see them, stored chains and what has arrived since: those that may still change are the recounted
/// ones.
pub(super) fn view(world: &World, view: &View) -> Result<(), Violation> {
    let (rules, watermark) = (view.session_rules, view.watermark);
    let mut arrived = SessionDeltas::default();
    view.hot_sessions.iter().for_each(|hot| hot.merge_into(&mut arrived, None, &rules.options));
    let mut stored = stored_chains(view.serving.as_ref());
    for (name, user) in judged(&world.model.users.now) {
        let mut recounted: Vec<(Session, Extent)> = Vec::new();
        for session in user.sessions(&rules.options) {
            let extent = (session.start, session.last, session.counts[0]);
            recounted.push((session, extent));
        }
        let chains = stored.remove(name).unwrap_or_default().chains;
        let advanced = session::advance(name, chains, arrived.of(name), watermark, rules.lateness, &rules.options);
        let kept = advanced.changed.iter().chain(&advanced.unchanged).map(|stored| &stored.chain);
        let mut found: BTreeSet<Extent> = BTreeSet::new();
        for (session, _) in kept.flat_map(|chain: &Chain| chain.sessions(&rules.options)) {
            found.insert((session.first(), session.last(), session.event_count() as i64));
        }
        if let Some(odd) = found.iter().find(|extent| !recounted.iter().any(|(_, recounted)| recounted == *extent)) {
            return Err(Violation::new("open sessions", format!("{name}: found {odd:?}, recounted {recounted:?}")));
        }
        let open = recounted.iter().filter(|(session, _)| session.end > watermark);
        if let Some((session, _)) = { open }.find(|(_, extent)| !found.contains(extent)) {
            return Err(Violation::new("open sessions", format!("{name}: {session:?} is not among {found:?}")));
        }
    }
    let hot: u64 =
        arrived.users().map(|(user, _)| user).filter(|user| !world.model.users.now.contains_key(*user)).count() as u64;
    same("open sessions", &hot, &0)
}
