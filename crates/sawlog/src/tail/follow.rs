//! Finding files, telling them apart, and cutting batches from what they grow by.
//!
//! For: the part that needs no pipeline. Not for: submitting. A file is its device and inode as long as its first bytes
//! stay the same; its name may change. Invariants: a batch is whole lines, except for the last one of a file that is gone;
//! its range is on disk before it is handed out; memory is bounded by [`ROUND_BYTES`], open files by [`FILES_MAX`].

use std::collections::{BTreeSet, HashSet};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sawlog_core::batch::{self, Format};
use sawlog_seams::{Clock, Disk};
use xxhash_rust::xxh3::xxh3_64;

use super::Tail;
use super::state::{Entry, State};

/// Bytes of a batch. Twice the limit of a record, so that a line over it is refused by the pipeline, which tells why;
/// one that does not even end here is left out by counting it only.
const BATCH_BYTES: usize = 2 << 20;
/// Bytes of all batches of one round.
const ROUND_BYTES: usize = 16 << 20;
/// Files that are open at the same time.
const FILES_MAX: usize = 512;
/// Paths that are remembered as complained about.
const COMPLAINTS_MAX: usize = 10_000;
/// Bytes that a file is known by.
const HEAD_BYTES: usize = 1024;
/// Bytes that the format is detected from.
const SAMPLE_BYTES: usize = 64 << 10;
/// Between two searches for new files.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a file that has no name any more may be quiet before it is given up with what it has.
const DELETED_QUIET: Duration = Duration::from_secs(10);
/// The same for one that has another name now: its writer may go on for a while.
const RENAMED_QUIET: Duration = Duration::from_secs(300);
/// Endings of compressed files, which are complete.
const COMPRESSED: [&str; 5] = ["gz", "zst", "bz2", "xz", "zip"];

/// Lines to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) source: String,
    pub(super) name: String,
    pub(super) format: Format,
    pub(super) is_declared: bool,
    pub(super) body: Bytes,
    /// The same for the same bytes of the same file.
    pub(super) key: String,
    id: FileId,
}

/// What one look gave.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) batches: Vec<Batch>,
    /// Source of each line that was left out as too long.
    pub(super) oversize: Vec<String>,
    /// Whether there is more at once.
    pub(super) has_more: bool,
}

type FileId = (u64, u64);

struct Followed {
    entry: Entry,
    tail: usize,
    file: File,
    /// Whether a pattern still finds it.
    is_listed: bool,
    /// Length at which an unfinished line was seen; nothing to read until it changes.
    waits_at: Option<u64>,
    /// When it last gave something.
    active_at: Duration,
}

/// Follows files.
pub(super) struct Follower {
    tails: Vec<Tail>,
    files: Vec<Followed>,
    /// Files of the last run that were not found yet.
    remembered: Vec<Entry>,
    started: BTreeSet<String>,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    searched_at: Option<Duration>,
    /// Paths that were complained about.
    complained: HashSet<PathBuf>,
    /// Sources of lines that were left out while nothing could be written down.
    uncounted: Vec<String>,
    is_changed: bool,
}

impl Tail {
    fn key(&self) -> String {
        self.paths.join("\n")
    }
}

impl Follower {
    pub(super) fn open(
        tails: Vec<Tail>,
        path: PathBuf,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let State { started, files: remembered, .. } = State::load(disk.as_ref(), &path)?;
        Ok(Self {
            tails,
            files: Vec::new(),
            remembered,
            started,
            path,
            disk,
            clock,
            searched_at: None,
            complained: HashSet::new(),
            uncounted: Vec::new(),
            is_changed: false,
        })
    }

    /// Reads what is new. The ranges of the batches are durable when this returns; without that, none is handed out.
    pub(super) fn poll(&mut self) -> anyhow::Result<Round> {
        let now = self.clock.monotonic();
        if self.searched_at.is_none_or(|at| now.saturating_sub(at) >= SEARCH_INTERVAL) {
            self.search(now);
            self.searched_at = Some(now);
        }
        let mut round = Round { oversize: std::mem::take(&mut self.uncounted), ..Round::default() };
        let mut round_bytes = 0;
        for followed in &mut self.files {
            if round_bytes >= ROUND_BYTES {
                round.has_more = true;
                break;
            }
            let tail = &self.tails[followed.tail];
            let epoch = followed.entry.epoch;
            let result = followed.read(tail, self.clock.as_ref(), &mut round);
            // A truncation is written down at once: by its old first bytes the file would not be known again.
            self.is_changed |= followed.entry.epoch != epoch;
            match result {
                Ok(bytes) => {
                    self.is_changed |= bytes > 0;
                    round_bytes += bytes;
                }
                Err(error) => {
                    if self.complained.insert(followed.entry.path.clone()) {
                        tracing::warn!(%error, file = followed.entry.name, "a followed file cannot be read");
                    }
                }
            }
        }
        // The next round starts with those that had no turn.
        let turns = round.batches.len().min(self.files.len());
        if round.has_more && turns > 0 {
            self.files.rotate_left(turns);
        }
        if let Err(error) = self.save() {
            // The ranges stay as they are and are read again.
            self.uncounted = round.oversize;
            return Err(error);
        }
        Ok(round)
    }

    /// Notes that a batch is stored.
    pub(super) fn acknowledge(&mut self, batch: &Batch) {
        let found = self.files.iter_mut().find(|followed| followed.id() == batch.id);
        if let Some(entry) = found.map(|followed| &mut followed.entry)
            && let Some(end) = entry.pending.take()
        {
            entry.offset = end;
            self.is_changed = true;
        }
    }

    /// Gives up files that are over, and writes down what changed.
    pub(super) fn save(&mut self) -> anyhow::Result<()> {
        let now = self.clock.monotonic();
        let before = self.files.len();
        self.files.retain(|followed| !followed.is_over(now));
        self.is_changed |= self.files.len() != before;
        if !self.is_changed {
            return Ok(());
        }
        let files = self.files.iter().map(|followed| followed.entry.clone());
        let state = State::new(self.started.clone(), files.chain(self.remembered.iter().cloned()).collect());
        state.save(self.disk.as_ref(), &self.path)?;
        self.is_changed = false;
        Ok(())
    }

    fn search(&mut self, now: Duration) {
        if self.complained.len() > COMPLAINTS_MAX {
            self.complained.clear();
        }
        for followed in &mut self.files {
            followed.is_listed = false;
        }
        for tail in 0..self.tails.len() {
            for pattern in self.tails[tail].paths.clone() {
                // Patterns were checked with the configuration; folders that cannot be read have no files.
                let Ok(paths) = glob::glob(&pattern) else { continue };
                for path in paths.flatten() {
                    self.found(tail, path, now);
                }
            }
        }
        if self.searched_at.is_none() {
            self.find_renamed(now);
        }
        let keys = self.tails.iter().map(Tail::key);
        let known = self.started.len();
        self.started.extend(keys);
        self.is_changed |= self.started.len() != known;
    }

    fn found(&mut self, tail: usize, path: PathBuf, now: Duration) {
        let Ok(metadata) = path.metadata() else { return };
        if !metadata.is_file() || is_compressed(&path) {
            return;
        }
        let id = (metadata.dev(), metadata.ino());
        if let Some(followed) = self.files.iter_mut().find(|followed| followed.id() == id) {
            followed.is_listed = true;
            if followed.entry.path != path {
                followed.entry.path = path;
                self.is_changed = true;
            }
            return;
        }
        if self.files.len() == FILES_MAX {
            if self.complained.insert(PathBuf::new()) {
                tracing::warn!("more than {FILES_MAX} files match [[tail]]; the others wait until some are gone");
            }
            return;
        }
        let added = File::open(&path).and_then(|file| self.add(tail, path.clone(), id, file, now));
        if let Err(error) = added
            && self.complained.insert(path.clone())
        {
            tracing::warn!(%error, file = %path.display(), "a file that matches [[tail]] cannot be read");
        }
    }

    /// Takes up a file: where the last run left it, or anew.
    fn add(&mut self, tail: usize, path: PathBuf, id: FileId, file: File, now: Duration) -> io::Result<()> {
        let opened = file.metadata()?;
        let head = head(&file, HEAD_BYTES)?;
        // Between the search and the opening another file may have got the name.
        if (opened.dev(), opened.ino()) != id
            || head.starts_with(&[0x1f, 0x8b])
            || head.starts_with(b"\x28\xb5\x2f\xfd")
        {
            return Ok(());
        }
        let remembered = self.remembered.iter().position(|entry| (entry.device, entry.inode) == id);
        let entry = match remembered.map(|index| self.remembered.swap_remove(index)) {
            Some(entry) if has_head(&entry, &head) => resumed(entry, path),
            _ => {
                let tail = &self.tails[tail];
                let at_end = tail.starts_at_end && !self.started.contains(&tail.key());
                let offset = if at_end { opened.len() } else { 0 };
                Entry {
                    tail: tail.key(),
                    name: path.display().to_string(),
                    path,
                    device: id.0,
                    inode: id.1,
                    epoch: self.clock.now_micros(),
                    head_bytes: 0,
                    head_hash: xxh3_64(b""),
                    offset,
                    pending: None,
                    // What is left of a line whose beginning was not read is no line.
                    is_skipping: offset > 0 && byte_before(&file, offset)? != b'\n',
                }
            }
        };
        self.files.push(Followed { entry, tail, file, is_listed: true, waits_at: None, active_at: now });
        self.is_changed = true;
        Ok(())
    }

    /// Looks for files of the last run that were rotated away meanwhile: they have another name in the same folder.
    fn find_renamed(&mut self, now: Duration) {
        for entry in std::mem::take(&mut self.remembered) {
            let Some(tail) = self.tails.iter().position(|tail| tail.key() == entry.tail) else {
                tracing::info!(file = entry.name, "a file is not followed any more: its [[tail]] is gone");
                continue;
            };
            let found = renamed(&entry).and_then(|path| {
                let file = File::open(&path).ok()?;
                has_head(&entry, &head(&file, HEAD_BYTES).ok()?).then_some((path, file))
            });
            match found {
                Some((path, file)) => {
                    let entry = resumed(entry, path);
                    self.files.push(Followed { entry, tail, file, is_listed: false, waits_at: None, active_at: now });
                }
                None => tracing::warn!(
                    file = entry.name,
                    offset = entry.offset,
                    "a followed file is gone; what it had after this offset was not read"
                ),
            }
            self.is_changed = true;
        }
    }
}

impl Followed {
    fn id(&self) -> FileId {
        (self.entry.device, self.entry.inode)
    }

    /// Reads at most one batch; returns how many bytes it took.
    fn read(&mut self, tail: &Tail, clock: &dyn Clock, round: &mut Round) -> io::Result<usize> {
        let metadata = self.file.metadata()?;
        let len = metadata.len();
        if self.waits_at == Some(len) && !self.is_quiet(clock.monotonic(), &metadata) {
            return Ok(0);
        }
        self.check_head(len, clock)?;
        if len == self.entry.offset {
            self.waits_at = Some(len);
            return Ok(0);
        }
        let wanted = self.entry.pending.map_or(BATCH_BYTES, |end| (end - self.entry.offset) as usize);
        let mut body = read_at_most(&self.file, self.entry.offset, wanted)?;
        if self.entry.is_skipping {
            let end = body.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
            self.entry.offset += end.unwrap_or(body.len()) as u64;
            self.entry.is_skipping = end.is_none();
            round.has_more = true;
            return Ok(end.unwrap_or(body.len()));
        }
        if self.entry.pending.is_none() {
            let is_last = self.is_quiet(clock.monotonic(), &metadata);
            match body.iter().rposition(|&byte| byte == b'\n') {
                Some(end) => body.truncate(end + 1),
                None if body.len() == BATCH_BYTES => {
                    self.entry.offset += body.len() as u64;
                    self.entry.is_skipping = true;
                    round.oversize.push(tail.source.clone());
                    round.has_more = true;
                    return Ok(body.len());
                }
                None if !is_last => {
                    self.waits_at = Some(len);
                    return Ok(0);
                }
                None => {}
            }
            self.entry.pending = Some(self.entry.offset + body.len() as u64);
        }
        round.has_more |= body.len() * 2 > BATCH_BYTES;
        self.waits_at = None;
        self.active_at = clock.monotonic();
        let bytes = body.len();
        round.batches.push(self.batch(tail, body));
        Ok(bytes)
    }

    fn batch(&self, tail: &Tail, body: Vec<u8>) -> Batch {
        let entry = &self.entry;
        // Anew for each batch: the first lines of a file need not be like the others.
        let format = tail.format.unwrap_or_else(|| batch::detect(&body[..body.len().min(SAMPLE_BYTES)]));
        let end = entry.offset + body.len() as u64;
        Batch {
            source: tail.source.clone(),
            name: entry.name.clone(),
            format,
            is_declared: tail.format.is_some(),
            body: Bytes::from(body),
            key: format!("tail:{:x}:{:x}:{:x}:{}-{end}", entry.device, entry.inode, entry.epoch, entry.offset),
            id: (entry.device, entry.inode),
        }
    }

    /// Notices that the file was truncated, also if it has grown past the old place since.
    fn check_head(&mut self, len: u64, clock: &dyn Clock) -> io::Result<()> {
        let head = head(&self.file, HEAD_BYTES)?;
        let reached = self.entry.pending.unwrap_or(self.entry.offset);
        if len < reached || !has_head(&self.entry, &head) {
            tracing::info!(file = self.entry.name, "a followed file was truncated; it is read from its beginning");
            let epoch = clock.now_micros().max(self.entry.epoch + 1);
            self.entry = Entry { epoch, offset: 0, pending: None, is_skipping: false, ..self.entry.clone() };
            self.waits_at = None;
        }
        self.entry.head_bytes = head.len() as u64;
        self.entry.head_hash = xxh3_64(&head);
        Ok(())
    }

    /// Whether nothing more is to be expected.
    fn is_quiet(&self, now: Duration, metadata: &Metadata) -> bool {
        let quiet = if metadata.nlink() == 0 { DELETED_QUIET } else { RENAMED_QUIET };
        !self.is_listed && now.saturating_sub(self.active_at) >= quiet
    }

    fn is_over(&self, now: Duration) -> bool {
        let metadata = self.file.metadata();
        metadata.is_ok_and(|metadata| {
            self.is_quiet(now, &metadata) && self.entry.pending.is_none() && metadata.len() == self.entry.offset
        })
    }
}

fn is_compressed(path: &Path) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| COMPRESSED.contains(&ending))
}

/// An entry of the last run, under the path that the file has now. A range that no run writes is not believed.
fn resumed(entry: Entry, path: PathBuf) -> Entry {
    let bytes = |end: &u64| end.saturating_sub(entry.offset);
    let pending = entry.pending.filter(|end| (1..=BATCH_BYTES as u64).contains(&bytes(end)));
    Entry { path, pending, ..entry }
}

fn has_head(entry: &Entry, head: &[u8]) -> bool {
    let known = usize::try_from(entry.head_bytes).ok().and_then(|len| head.get(..len));
    known.is_some_and(|known| xxh3_64(known) == entry.head_hash)
}

fn head(file: &File, len: usize) -> io::Result<Vec<u8>> {
    read_at_most(file, 0, len)
}

fn byte_before(file: &File, offset: u64) -> io::Result<u8> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset - 1)?;
    Ok(byte[0])
}

fn read_at_most(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut read = 0;
    while read < len {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

/// The path that a file has now, if it is still in its folder.
fn renamed(entry: &Entry) -> Option<PathBuf> {
    let folder = entry.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = std::fs::read_dir(folder).ok()?.flatten().find(|found| {
        found.metadata().is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (entry.device, entry.inode))
    });
    found.map(|found| found.path())
}

#[cfg(test)]
mod tests;
