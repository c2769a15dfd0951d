//! How far the fill of a range is: a file that a restart goes on from.
//!
//! For: what is stored, and which entries are being stored right now. Not for: the entries themselves.
//!
//! Rules: before a body is submitted the file names its entries and its idempotency key; after it is acknowledged the file
//! says so. A restart between the two submits the same entries under the same key, so that they are stored once whether or not
//! they had been. Entries at the very time that was reached are told apart by their ids.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sawlog_core::ledger::Counts;
use sawlog_seams::Disk;
use serde::{Deserialize, Serialize};

use super::client::LoggingQuery;
use super::entry::{Nanos, Place};
use super::files::SmallFile;
use super::pages::Range;

const VERSION: u32 = 1;

/// A file of progress that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    /// The file system failed.
    #[error("{path} cannot be {action}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read`, `written` or `removed`.
        action: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The content makes no sense.
    #[error(
        "{path} is damaged: {problem}; remove it to load the range again, which dedup makes harmless within its window"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It belongs to another query.
    #[error("{path} is of another query ({field} differs); give each query a file of its own")]
    OtherQuery {
        /// The file.
        path: PathBuf,
        /// What differs.
        field: &'static str,
    },
}

/// A body that is being stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    /// Its idempotency key.
    pub(super) key: String,
    /// Its entries.
    pub(super) places: Vec<Place>,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    version: u32,
    resources: Vec<String>,
    filter: String,
    source: String,
    from: Nanos,
    until: Nanos,
    /// When it began, UTC microseconds: part of the keys, as `from` is, since one source may fill two ranges at the same time.
    started: i64,
    /// Bodies so far: the last part.
    body_count: u64,
    /// Everything before it is stored.
    pub(super) reached: Nanos,
    /// Entries from then on that are stored.
    stored: HashSet<Place>,
    pub(super) pending: Option<Pending>,
    /// Outcomes, in the order of [`Counts::NAMES`].
    counts: [u64; 8],
    pub(super) is_done: bool,
}

impl Progress {
    pub(super) fn new(query: &LoggingQuery, range: Range, now_micros: i64) -> Self {
        Self {
            version: VERSION,
            resources: query.resources.clone(),
            filter: query.filter.clone(),
            source: query.source.clone(),
            from: range.from,
            until: range.until,
            started: now_micros,
            body_count: 0,
            reached: range.from,
            stored: HashSet::new(),
            pending: None,
            counts: Counts::default().values(),
            is_done: false,
        }
    }

    /// What is left of the range.
    pub(super) fn rest(&self) -> Range {
        Range { from: self.reached, until: self.until }
    }

    /// Whether an entry is stored.
    pub(super) fn has(&self, place: &Place) -> bool {
        place.time < self.reached || self.stored.contains(place)
    }

    pub(super) fn counts(&self) -> Counts {
        Counts::from_values(self.counts)
    }

    /// Notes a body that is about to be submitted; its entries are in the order of time.
    pub(super) fn begin(&mut self, places: Vec<Place>) -> &Pending {
        self.body_count += 1;
        let key = format!("logging-{}-{}-{}", self.started, self.from, self.body_count);
        self.pending.insert(Pending { key, places })
    }

    /// Notes that the pending body is stored. All entries before the last of them are, if `is_next`: if they are what follows
    /// [`Self::reached`] without a gap.
    pub(super) fn commit(&mut self, counts: &Counts, is_next: bool) {
        let Some(Pending { places, .. }) = self.pending.take() else { return };
        let last = places.iter().map(|place| place.time).max().filter(|_| is_next);
        self.stored.extend(places);
        if let Some(last) = last {
            self.reached = self.reached.max(last);
            self.stored.retain(|place| place.time >= last);
        }
        let mut all = self.counts();
        all += *counts;
        self.counts = all.values();
    }
}

/// The file.
#[derive(Clone)]
pub(super) struct ProgressFile(SmallFile);

impl ProgressFile {
    pub(super) fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self(SmallFile::new(disk, path))
    }

    /// What the file says, or a new beginning if there is none.
    pub(super) async fn load(&self, fresh: Progress) -> Result<Progress, ProgressError> {
        let path = || self.0.path().to_path_buf();
        let read = self.0.read().await.map_err(|source| ProgressError::Io { path: path(), action: "read", source })?;
        let Some(bytes) = read else { return Ok(fresh) };
        let damaged = |problem: String| ProgressError::Damaged { path: path(), problem };
        let found: Progress = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if found.version != VERSION {
            return Err(damaged(format!("version {} is not {VERSION}", found.version)));
        }
        let differs = [
            (found.resources != fresh.resources, "resources"),
            (found.filter != fresh.filter, "filter"),
            (found.source != fresh.source, "source"),
            (found.from != fresh.from, "from"),
            (found.until != fresh.until, "until"),
        ];
        match differs.into_iter().find(|(differs, _)| *differs) {
            Some((_, field)) => Err(ProgressError::OtherQuery { path: path(), field }),
            None => Ok(found),
        }
    }

    pub(super) async fn save(&self, progress: &Progress) -> Result<(), ProgressError> {
        let io = |source| ProgressError::Io { path: self.0.path().to_path_buf(), action: "written", source };
        let bytes = serde_json::to_vec(progress).map_err(|error| io(error.into()))?;
        self.0.write(bytes).await.map_err(io)
    }

    /// Removes it: its range is done and noted elsewhere.
    pub(super) async fn remove(&self) -> Result<(), ProgressError> {
        let io = |source| ProgressError::Io { path: self.0.path().to_path_buf(), action: "removed", source };
        self.0.remove().await.map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use sawlog_seams::SimDisk;
    use sawlog_seams::disk::write_atomic;

    use super::*;

    fn query() -> LoggingQuery {
        LoggingQuery::new("projects/p", "logging")
    }

    fn place(time: Nanos, id: &str) -> Place {
        Place { time, id: id.to_owned() }
    }

    #[test]
    fn what_is_reached_is_remembered_and_what_shares_its_time_told_apart() {
        let mut progress = Progress::new(&query(), Range { from: 0, until: 100 }, 7);
        let first = progress.begin(vec![place(1, "a"), place(5, "b"), place(5, "c")]).key.clone();
        assert!(!progress.has(&place(5, "b")), "it is not acknowledged");
        progress.commit(&Counts { received: 3, stored: 3, ..Counts::default() }, true);
        assert_eq!(progress.rest(), Range { from: 5, until: 100 });
        assert!(progress.has(&place(1, "a")) && progress.has(&place(5, "c")) && !progress.has(&place(5, "d")));
        assert_ne!(progress.begin(vec![place(9, "x")]).key, first);
        // A body that a restart stores again says nothing of what is between.
        progress.commit(&Counts::default(), false);
        assert_eq!(progress.reached, 5);
        assert!(progress.has(&place(9, "x")) && !progress.has(&place(8, "w")));
        assert_eq!(progress.counts().stored, 3);
    }

    #[tokio::test]
    async fn files_of_version_1_are_read() {
        let query =
            LoggingQuery { filter: "severity>=WARNING".to_owned(), ..LoggingQuery::new("projects/shop-17", "logging") };
        let range = Range { from: 1_794_700_800_000_000_000, until: 1_794_787_200_000_000_000 };
        let disk = Arc::new(SimDisk::new(1));
        disk.plant(Path::new("/d/f"), include_bytes!("../../../../tests/formats/logging-backfill-v1.json"));
        let found =
            ProgressFile::new(disk, Path::new("/d/f")).load(Progress::new(&query, range, 0)).await.expect("read");
        let pending = found.pending.as_ref().expect("a body");
        assert_eq!((pending.key.as_str(), pending.places.len()), ("logging-1795489200000000-2", 2));
        assert_eq!(found.rest().from, 1_794_700_805_000_000_000);
        assert!(found.has(&place(1_794_700_805_000_000_000, "projects/shop-17/logs/orders/a7")));
        assert_eq!((found.counts().received, found.counts().dead_lettered, found.is_done), (3, 1, false));
    }

    #[tokio::test]
    async fn a_file_is_read_back_and_one_of_another_query_refused() {
        let (disk, path) = (Arc::new(SimDisk::new(1)), Path::new("/d/backfill.json"));
        disk.create_dir_all(Path::new("/d")).expect("a folder");
        let file = ProgressFile::new(disk.clone(), path);
        let fresh = |query: &LoggingQuery| Progress::new(query, Range { from: 0, until: 100 }, 7);
        let mut progress = file.load(fresh(&query())).await.expect("none yet");
        progress.begin(vec![place(1, "a")]);
        file.save(&progress).await.expect("written");
        assert_eq!(file.load(fresh(&query())).await.expect("read"), progress);
        let other = LoggingQuery { filter: "severity>=ERROR".to_owned(), ..query() };
        let error = file.load(fresh(&other)).await.expect_err("another query").to_string();
        assert!(error.contains("filter differs") && error.contains("file of its own"), "{error}");
        write_atomic(disk.as_ref(), path, b"{").expect("written");
        assert!(matches!(file.load(fresh(&query())).await, Err(ProgressError::Damaged { .. })));
    }
}
