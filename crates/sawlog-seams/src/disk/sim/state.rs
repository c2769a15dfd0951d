//! Files and names of the simulated disk, each with its pending and its durable layer.
//!
//! For: applying changes and deciding which survive a crash. Not for: planning faults
//! ([`super::faults`]).
//! Invariant: a change that was synced without error is in every later crash state.

use crate::rng::SeededRng;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Unit in which the parts of one large write may reach the disk in any order.
const SECTOR_BYTES: usize = 512;

#[derive(Clone)]
pub(super) struct Files {
    pub(super) capacity: u64,
    rng: SeededRng,
    dirs: BTreeSet<PathBuf>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
}

#[derive(Clone, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<ByteChange>,
}

#[derive(Clone)]
enum ByteChange {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone)]
enum NameChange {
    Link { path: PathBuf, inode: u64 },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
}

impl Files {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            capacity: u64::MAX,
            rng: SeededRng::new(seed),
            dirs: BTreeSet::from([PathBuf::from("/")]),
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.names.values().map(|inode| self.content(*inode).len() as u64).sum()
    }

    pub(super) fn create_dir_all(&mut self, dir: &Path) {
        self.dirs.extend(dir.ancestors().map(Path::to_path_buf));
    }

    pub(super) fn create_new(&mut self, path: &Path) -> io::Result<u64> {
        if !path.parent().is_some_and(|dir| self.dirs.contains(dir)) {
            return Err(ErrorKind::NotFound.into());
        }
        if self.exists(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.change_name(NameChange::Link { path: path.to_path_buf(), inode });
        Ok(inode)
    }

    pub(super) fn inode_of(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.names.contains_key(path) || self.dirs.contains(path)
    }

    pub(super) fn content(&self, inode: u64) -> &[u8] {
        &self.inodes[&inode].current
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.dirs.contains(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let inside = self.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.inode_of(from)?;
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        self.change_name(NameChange::Rename { from, to, inode });
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.inode_of(path)?;
        self.change_name(NameChange::Unlink { path: path.to_path_buf() });
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        for change in self.take_pending_names(dir) {
            change.apply(&mut self.durable_names);
        }
    }

    /// After a failed sync: each change is durable or lost for good, and nobody can tell.
    pub(super) fn lose_unsynced_names(&mut self, dir: &Path) {
        for change in self.take_pending_names(dir) {
            if self.rng.one_in(2) {
                change.apply(&mut self.durable_names);
            }
        }
    }

    fn take_pending_names(&mut self, dir: &Path) -> Vec<NameChange> {
        let pending = std::mem::take(&mut self.pending_names);
        let (taken, left) = pending.into_iter().partition(|change| change.touches(dir));
        self.pending_names = left;
        taken
    }

    /// Writes what fits below the capacity.
    pub(super) fn append(&mut self, inode: u64, bytes: &[u8]) -> io::Result<()> {
        let room = self.capacity.saturating_sub(self.used_bytes());
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let fitting = bytes.len().min(room);
        self.write_at_end(inode, &bytes[..fitting]);
        if fitting < bytes.len() {
            return Err(io::Error::new(ErrorKind::StorageFull, "simulated disk is full"));
        }
        Ok(())
    }

    /// What a failing write leaves: any part of it, from nothing to everything.
    pub(super) fn append_part(&mut self, inode: u64, bytes: &[u8]) {
        let written = self.rng.below_usize(bytes.len() + 1);
        self.write_at_end(inode, &bytes[..written]);
    }

    fn write_at_end(&mut self, inode: u64, bytes: &[u8]) {
        let offset = self.content(inode).len();
        self.change_bytes(inode, ByteChange::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, inode: u64, len: usize) {
        self.change_bytes(inode, ByteChange::SetLen(len));
    }

    fn change_bytes(&mut self, inode: u64, change: ByteChange) {
        let inode = self.inode_mut(inode);
        change.apply(&mut inode.current);
        inode.pending.push(change);
    }

    pub(super) fn sync_data(&mut self, inode: u64) {
        let inode = self.inode_mut(inode);
        for change in inode.pending.drain(..) {
            change.apply(&mut inode.durable);
        }
    }

    /// After a failed sync: each change is durable or lost for good, while reads still show it.
    pub(super) fn lose_unsynced_bytes(&mut self, inode: u64) {
        let mut rng = self.rng.clone();
        self.inode_mut(inode).settle(&mut rng);
        self.rng = rng;
    }

    fn inode_mut(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("inodes are never removed while a handle may exist")
    }

    pub(super) fn plant(&mut self, path: &Path, bytes: &[u8]) {
        let planted = Inode { current: bytes.to_vec(), durable: bytes.to_vec(), pending: Vec::new() };
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, planted);
        self.names.insert(path.to_path_buf(), inode);
        self.durable_names.insert(path.to_path_buf(), inode);
    }

    /// The files a restarted machine finds.
    pub(super) fn after_crash(&self, seed: u64) -> Self {
        let mut after = self.clone();
        let mut rng = SeededRng::new(seed);
        // Journaling file systems keep names in order, others promise nothing: try both.
        let keeps_order = rng.one_in(2);
        let kept_count = rng.below_usize(after.pending_names.len() + 1);
        for (index, change) in after.pending_names.drain(..).enumerate() {
            if if keeps_order { index < kept_count } else { rng.one_in(2) } {
                change.apply(&mut after.durable_names);
            }
        }
        after.names.clone_from(&after.durable_names);
        for inode in after.inodes.values_mut() {
            inode.settle(&mut rng);
            inode.current.clone_from(&inode.durable);
        }
        let named: BTreeSet<u64> = after.names.values().copied().collect();
        after.inodes.retain(|inode, _| named.contains(inode));
        after.rng = rng;
        after
    }
}

impl Inode {
    /// Decides for each unsynced change how much of it becomes durable.
    fn settle(&mut self, rng: &mut SeededRng) {
        for change in self.pending.drain(..) {
            change.apply_some(&mut self.durable, rng);
        }
    }
}

impl ByteChange {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write_at(content, *offset, bytes),
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }

    fn apply_some(&self, content: &mut Vec<u8>, rng: &mut SeededRng) {
        let Self::Write { offset, bytes } = self else {
            if rng.one_in(2) {
                self.apply(content);
            }
            return;
        };
        match rng.below(4) {
            0 => {}
            1 => self.apply(content),
            2 => write_at(content, *offset, &bytes[..rng.below_usize(bytes.len() + 1)]),
            _ => write_some_sectors(content, *offset, bytes, rng),
        }
    }
}

/// Each sector is written or not; a skipped one keeps its old bytes, or zeros past the old end.
fn write_some_sectors(content: &mut Vec<u8>, offset: usize, bytes: &[u8], rng: &mut SeededRng) {
    let mut start = 0;
    while start < bytes.len() {
        let sector_end = (offset + start + 1).next_multiple_of(SECTOR_BYTES) - offset;
        let end = sector_end.min(bytes.len());
        if rng.one_in(2) {
            write_at(content, offset + start, &bytes[start..end]);
        }
        start = end;
    }
}

fn write_at(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end && !bytes.is_empty() {
        content.resize(end, 0);
    }
    if !bytes.is_empty() {
        content[offset..end].copy_from_slice(bytes);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Link { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            Self::Unlink { path } => {
                names.remove(path);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }

    fn touches(&self, dir: &Path) -> bool {
        let is_inside = |path: &Path| path.parent() == Some(dir);
        match self {
            Self::Link { path, .. } | Self::Unlink { path } => is_inside(path),
            Self::Rename { from, to, .. } => is_inside(from) || is_inside(to),
        }
    }
}
