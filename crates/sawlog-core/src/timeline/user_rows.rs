//! The rows of each user among batches.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, Int32Array, Int64Array, RecordBatch, StringArray};

use crate::rollup::{Columns, text};
use crate::rowkey;
use crate::schema::Table;
use crate::timeline::chunk::{Chunk, ENTRIES_OF_USER_MAX, Entry, EntryKind, cut, in_chunks};
use crate::timeline::profile::Profile;

/// The rows of batches by user.
pub struct UserRows<'a> {
    batches: Vec<Batch<'a>>,
    users: HashMap<Cow<'a, str>, Vec<Place>>,
}

/// Time, batch and row of an event. The order is that of time; of two at one moment the later in the log is the later.
type Place = (i64, u32, u32);

/// The rows of one user.
pub struct PartOfUser<'a, 'b> {
    batches: &'b [Batch<'a>],
    /// Newest first.
    places: Vec<Place>,
}

/// Columns of a batch.
struct Batch<'a> {
    kind: EntryKind,
    names: [Option<&'a StringArray>; Profile::NAMES.len()],
    message: Option<&'a StringArray>,
    class: Option<&'a StringArray>,
    batch_id: Option<&'a StringArray>,
    record_index: Option<&'a Int32Array>,
    status: Option<&'a Int32Array>,
    duration: Option<&'a Int64Array>,
}

impl<'a> UserRows<'a> {
    /// The rows of activity and log batches that name a user (only one user, if `user` says so), in the order of the log.
    #[must_use]
    pub fn of(batches: impl IntoIterator<Item = (Table, &'a RecordBatch)>, user: Option<&str>) -> Self {
        let mut rows = Self { batches: Vec::new(), users: HashMap::new() };
        let user = user.map(rowkey::bounded);
        for (table, batch) in batches {
            rows.add(table, batch, user.as_deref());
        }
        rows
    }

    fn add(&mut self, table: Table, batch: &'a RecordBatch, wanted: Option<&str>) {
        let kind = match table {
            Table::Activity => EntryKind::Activity,
            Table::Logs => EntryKind::Log,
            _ => return,
        };
        let columns = Columns { batch };
        let (Some(times), Some(users)) = (columns.times("event_time"), columns.text("user_id")) else { return };
        let number = self.batches.len() as u32;
        let mut has_any = false;
        for (row, &time) in times.iter().enumerate() {
            let user = text(Some(users), row).map(rowkey::bounded);
            let Some(user) = user.filter(|user| wanted.is_none_or(|wanted| wanted == user)) else { continue };
            self.users.entry(user).or_default().push((time, number, row as u32));
            has_any = true;
        }
        if has_any {
            self.batches.push(Batch::of(kind, &columns));
        }
    }

    /// Users and their rows, in no particular order.
    pub fn users(&self) -> impl Iterator<Item = (&str, PartOfUser<'a, '_>)> {
        self.users.iter().map(|(user, places)| {
            let mut places = places.clone();
            places.sort_unstable_by(|one, other| other.cmp(one));
            (user.as_ref(), PartOfUser { batches: &self.batches, places })
        })
    }
}

impl PartOfUser<'_, '_> {
    /// Its entries, newest first.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.places.iter().map(|&(time, batch, row)| self.batches[batch as usize].entry(time, row as usize))
    }

    /// Its entries in chunks, newest first. A chunk lies within one stretch of [`super::CHUNK_SPAN`].
    #[must_use]
    pub fn chunks(&self) -> Vec<Chunk> {
        let omitted = self.places.len().saturating_sub(ENTRIES_OF_USER_MAX) as u64;
        in_chunks(self.entries().take(ENTRIES_OF_USER_MAX), omitted)
    }

    /// What its rows say of the user.
    #[must_use]
    pub fn profile(&self) -> Profile {
        let mut profile = Profile {
            first_seen: self.places.last().map_or(0, |place| place.0),
            last_seen: self.places.first().map_or(0, |place| place.0),
            event_count: self.places.len() as u64,
            ..Profile::default()
        };
        for &(time, batch, row) in &self.places {
            let (batch, row) = (&self.batches[batch as usize], row as usize);
            profile.error_count += u64::from(text(batch.class, row) == Some("error"));
            for (name, column) in batch.names.iter().enumerate() {
                if let Some(value) = text(*column, row) {
                    profile.note(name, time, value);
                }
            }
        }
        profile
    }
}

impl<'a> Batch<'a> {
    fn of(kind: EntryKind, columns: &Columns<'a>) -> Self {
        let is_log = kind == EntryKind::Log;
        let names = Profile::NAMES.map(|name| match name {
            "route" => columns.text(if is_log { "http_route" } else { "page_route" }),
            name => columns.text(name),
        });
        let record_index = columns.batch.column_by_name("record_index");
        Self {
            kind,
            names,
            message: columns.text("message"),
            class: columns.text("severity_class"),
            batch_id: columns.text("batch_id"),
            record_index: record_index.and_then(|column| column.as_primitive_opt::<Int32Type>()),
            status: columns.int32("http_status"),
            duration: columns.int64("duration_us"),
        }
    }

    fn entry(&self, time: i64, row: usize) -> Entry {
        let [event_name, route, service, ..] = self.names;
        let name = if self.kind == EntryKind::Log { self.message } else { event_name };
        let status = self.status.filter(|column| column.is_valid(row)).map(|column| i64::from(column.value(row)));
        let duration = self.duration.filter(|column| column.is_valid(row)).map(|column| column.value(row));
        let record_index = self.record_index.map_or(0, |column| column.value(row).max(0) as u32);
        Entry {
            time,
            kind: self.kind,
            status,
            duration,
            batch_id: cut(text(self.batch_id, row).unwrap_or_default()),
            record_index,
            name: text(name, row).map(cut),
            service: text(service, row).map(cut),
            route: text(route, row).map(cut),
            severity: text(self.class, row).map(cut),
        }
    }
}
