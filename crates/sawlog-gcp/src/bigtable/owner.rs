//! Whose the tables are.
//!
//! For: one process at a time whose flushes count. Tables have the name of a worker, which a new disk takes over with
//! its cells, and the name of the disk that has them. A new disk puts its name into the position row before it removes
//! anything: from then on no flush of the disk before counts, and that disk is refused when it is opened again, since the log
//! on it has events that these cells do not have. Not for: two disks that write at the same moment; what the one before writes
//! after the other has looked at the cells stays, and does not count until the log has come there.

use std::hash::{BuildHasher, Hasher, RandomState};

use sawlog_seams::Position;
use sawlog_seams::serving::{Family, ServingStore};

use super::client::Bigtable;
use super::error::BigtableError;
use super::position::Progress;

/// Note of the worker's name, which the position row has too.
const WORKER_KEY: &[u8] = b"\xffbigtable/worker";
/// Note of the disk's name.
const OWNER_KEY: &[u8] = b"\xffbigtable/owner";
/// What the name begins with while it is not known whether the position row has it.
const WANTED: &str = "?";

/// Tables that are this disk's.
pub(super) struct Owned {
    /// What the position row says; `None` before the first flush.
    pub(super) progress: Option<Progress>,
    pub(super) worker: String,
    pub(super) owner: String,
}

/// Makes the tables this disk's, unless they are another worker's, or another disk has taken them from this one.
pub(super) fn take(bigtable: &Bigtable, local: &dyn ServingStore, is_unfinished: bool) -> Result<Owned, BigtableError> {
    let progress = bigtable.run(|client| async move { client.progress().await })?;
    let snapshot = local.snapshot();
    let read = |key| {
        let noted = snapshot.get(Family::StreamState, key)?;
        Ok::<_, BigtableError>(noted.map(|name| String::from_utf8_lossy(&name).into_owned()))
    };
    let (noted, owner) = (read(WORKER_KEY)?, read(OWNER_KEY)?);
    let note = |key: &[u8], value: &str| local.note(Family::StreamState, (key.to_vec(), value.as_bytes().to_vec()));
    let Some(progress) = progress else {
        let (worker, name) = (noted.unwrap_or_else(by_lot), owner.unwrap_or_else(by_lot));
        note(WORKER_KEY, &worker)?;
        note(OWNER_KEY, &name)?;
        return Ok(Owned { progress: None, worker, owner: name });
    };
    check_same(&progress, local.applied(), noted.as_deref(), owner.as_deref(), is_unfinished)?;
    let wanted = match owner {
        Some(owner) => owner.strip_prefix(WANTED).unwrap_or(&owner).to_owned(),
        None => by_lot(),
    };
    let mut now = progress;
    if now.owner != wanted {
        note(OWNER_KEY, &format!("{WANTED}{wanted}"))?;
        tracing::info!(before = now.owner, owner = wanted, "taking the tables of Bigtable over");
        let (from, to) = (Some(now.clone()), now.of_owner(wanted.clone()));
        now = to.clone();
        bigtable.run(|client| async move { client.advance(from, to).await })?;
    }
    note(OWNER_KEY, &wanted)?;
    note(WORKER_KEY, &now.worker)?;
    Ok(Owned { worker: now.worker.clone(), progress: Some(now), owner: wanted })
}

/// Refuses a copy that cannot be one of these tables.
fn check_same(
    progress: &Progress,
    applied: Position,
    noted: Option<&str>,
    owner: Option<&str>,
    is_unfinished: bool,
) -> Result<(), BigtableError> {
    let other = |problem: String| Err(BigtableError::OtherWorker(problem));
    let position = progress.position;
    // A disk without a name is new, or of a version before there were any.
    let is_lost = match owner {
        Some(owner) => !owner.starts_with(WANTED) && owner != progress.owner,
        None => noted.is_some() && !progress.owner.is_empty(),
    };
    match noted {
        Some(noted) if noted != progress.worker => {
            other(format!("they are those of worker {}, and this one is {noted}", progress.worker))
        }
        Some(_) if is_lost => other("another disk has taken them over since".to_owned()),
        None if applied > Position(0) => other(format!("the local copy has cells up to {applied} of its own")),
        _ if applied > position && !is_unfinished => {
            other(format!("the local copy has come to {applied}, and they have come to {position}"))
        }
        _ => Ok(()),
    }
}

/// A name that nobody else has.
fn by_lot() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}
