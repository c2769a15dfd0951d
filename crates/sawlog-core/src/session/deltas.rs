//! Chains of what a stretch of batches adds, by user.

use std::collections::HashMap;

use arrow_array::{Array, RecordBatch};

use crate::rollup::{Columns, text};
use crate::rowkey;
use crate::schema::Table;
use crate::session::chain::{Chain, Event, SessionOptions};
use crate::signature;

/// Memory of a user beside the chains.
const USER_BYTES: usize = 96;

/// Chains by user; those of one user do not touch and are in the order of time.
#[derive(Clone, Debug, Default)]
pub struct SessionDeltas {
    users: HashMap<Box<str>, Vec<Chain>>,
    memory_bytes: usize,
}

impl SessionDeltas {
    /// Adds the rows of a batch that name a user. Rows that came too late must not be among them.
    pub fn add(&mut self, table: Table, batch: &RecordBatch, options: &SessionOptions) {
        let columns = Columns { batch };
        let (Some(times), Some(users)) = (columns.times("event_time"), columns.text("user_id")) else { return };
        let is_activity = table == Table::Activity;
        let [class, message, device] = ["severity_class", "message", "device"].map(|name| columns.text(name));
        let [route, name, segment, country] =
            ["page_route", "event_name", "user_segment", "country"].map(|name| columns.text(name));
        let duration = columns.int64("duration_us");
        for (row, &time) in times.iter().enumerate() {
            let Some(user) = text(Some(users), row).map(rowkey::bounded) else { continue };
            let is_error = text(class, row) == Some("error");
            let error = if is_error { text(message, row).map(signature::template) } else { None };
            let step = text(route, row).or_else(|| text(name, row)).filter(|_| is_activity);
            let duration = duration.filter(|column| column.is_valid(row)).map(|column| column.value(row));
            self.add_event(
                &user,
                &Event {
                    time,
                    step,
                    duration: duration.filter(|_| !is_activity),
                    is_error,
                    error: error.as_deref(),
                    device: text(device, row),
                    segment: text(segment, row),
                    country: text(country, row),
                },
                options,
            );
        }
    }

    pub(super) fn add_event(&mut self, user: &str, event: &Event<'_>, options: &SessionOptions) {
        if !self.users.contains_key(user) {
            self.users.insert(user.into(), Vec::with_capacity(1));
            self.memory_bytes += USER_BYTES + user.len();
        }
        let Some(chains) = self.users.get_mut(user) else { return };
        let after = chains.partition_point(|chain| chain.first() <= event.time);
        let follows = after > 0 && chains[after - 1].window(options).end > event.time;
        let precedes = chains.get(after).is_some_and(|next| next.first() < event.time.saturating_add(options.gap));
        self.memory_bytes += match (follows, precedes) {
            (true, true) => {
                let next = chains.remove(after);
                let grown = chains[after - 1].add(event);
                chains[after - 1].merge(&next);
                grown
            }
            (true, false) => chains[after - 1].add(event),
            (false, true) => chains[after].add(event),
            (false, false) => {
                let chain = Chain::of(event);
                let grown = chain.memory_bytes();
                chains.insert(after, chain);
                grown
            }
        };
    }

    /// Adds what another stretch has of all users, or of one.
    pub fn merge(&mut self, other: &Self, user: Option<&str>, options: &SessionOptions) {
        let all = other.users.iter().filter(|_| user.is_none());
        let one = user.and_then(|user| other.users.get_key_value(user));
        for (user, chains) in all.chain(one) {
            let mine = self.users.entry(user.clone()).or_default();
            let before: usize = mine.iter().map(Chain::memory_bytes).sum();
            mine.extend_from_slice(chains);
            join(mine, options);
            let after: usize = mine.iter().map(Chain::memory_bytes).sum();
            self.memory_bytes = (self.memory_bytes + USER_BYTES + after).saturating_sub(before);
        }
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Users and their chains.
    pub fn users(&self) -> impl Iterator<Item = (&str, &[Chain])> {
        self.users.iter().map(|(user, chains)| (user.as_ref(), chains.as_slice()))
    }

    /// The chains of one user.
    #[must_use]
    pub fn of(&self, user: &str) -> &[Chain] {
        self.users.get(user).map_or(&[], Vec::as_slice)
    }

    /// Memory, bytes, about.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

/// Puts the chains of a user into the order of time and makes those that touch one.
pub fn join(chains: &mut Vec<Chain>, options: &SessionOptions) {
    chains.sort_by_key(Chain::first);
    let mut joined: Vec<Chain> = Vec::with_capacity(chains.len());
    for chain in chains.drain(..) {
        match joined.last_mut().filter(|last| last.touches(&chain, options)) {
            Some(last) => last.merge(&chain),
            None => joined.push(chain),
        }
    }
    *chains = joined;
}
