//! What becomes of a user's sessions when events arrive or time goes on.
//!
//! For: the panes of sessions as a function of what is stored, what arrived and the watermark, in any runtime. A chain is
//! stored until nothing in time can touch it any more; its sessions are emitted when they are complete, again when late
//! events change them, and taken back when a late event makes them part of another. Not for: where chains are stored.

use std::collections::BTreeMap;

use crate::rollup::PaneTiming;
use crate::session::chain::{Chain, ChainError, Session, SessionOptions};
use crate::session::rows::SessionRow;
use crate::varint;

const VERSION: u8 = 1;

/// The chains of a user as they are stored, under [`crate::session::key`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserChains {
    /// Time under which the user is listed among those about whom there is something to do: not after that of any chain.
    /// It may be before: then it is looked at once more, which costs less than moving it with each event.
    pub listed: i64,
    /// The chains.
    pub chains: Vec<StoredChain>,
}

impl UserChains {
    /// The bytes: version, listed time, then each chain with its length in front.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint::write_signed(&mut out, self.listed);
        for chain in &self.chains {
            let bytes = chain.to_bytes();
            varint::write(&mut out, bytes.len() as u64);
            out.extend(bytes);
        }
        out
    }

    /// Reads the chains of a user.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChainError> {
        Self::read(bytes).ok_or(ChainError)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes.strip_prefix(&[VERSION])?;
        let (listed, mut chains) = (varint::read_signed(rest)?, Vec::with_capacity(1));
        while !rest.is_empty() {
            let len = usize::try_from(varint::read(rest)?).ok()?;
            let (bytes, tail) = rest.split_at_checked(len)?;
            chains.push(StoredChain::from_bytes(bytes).ok()?);
            *rest = tail;
        }
        Some(Self { listed, chains })
    }

    /// Watermark at which there is something to do about a chain; `None` without any.
    #[must_use]
    pub fn due(&self) -> Option<i64> {
        self.chains.iter().map(|chain| chain.due).min()
    }
}

/// A chain as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChain {
    /// Number of its last pane.
    pub index: u32,
    /// Starts of its sessions that were emitted as closed (UTC microseconds), and whether they have changed since.
    pub closed: BTreeMap<i64, bool>,
    /// Watermark at which there is something to do next: a session is complete, or the chain can be forgotten.
    pub due: i64,
    /// Its events.
    pub chain: Chain,
}

impl StoredChain {
    /// The bytes: version, index, closed sessions (number; start and whether changed of each), due time, chain.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint::write(&mut out, u64::from(self.index));
        varint::write(&mut out, self.closed.len() as u64);
        for (start, has_changed) in &self.closed {
            varint::write_signed(&mut out, *start);
            out.push(u8::from(*has_changed));
        }
        varint::write_signed(&mut out, self.due);
        out.extend(self.chain.to_bytes());
        out
    }

    /// Reads a stored chain.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChainError> {
        Self::read(bytes).ok_or(ChainError)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes.strip_prefix(&[VERSION])?;
        let index = u32::try_from(varint::read(rest)?).ok()?;
        let mut closed = BTreeMap::new();
        for _ in 0..varint::read(rest)? {
            let start = varint::read_signed(rest)?;
            let (&has_changed, tail) = rest.split_first()?;
            *rest = tail;
            closed.insert(start, has_changed != 0);
        }
        let due = varint::read_signed(rest)?;
        Some(Self { index, closed, due, chain: Chain::from_bytes(rest).ok()? })
    }

    /// Its sessions that are not complete, as they are now.
    pub fn open_rows(&self, user: &str, watermark: i64, options: &SessionOptions) -> impl Iterator<Item = SessionRow> {
        self.rows(user, options).filter(move |(end, _)| *end > watermark).map(|(_, row)| row)
    }

    /// Its sessions that are complete.
    pub fn closed_rows(
        &self,
        user: &str,
        watermark: i64,
        options: &SessionOptions,
    ) -> impl Iterator<Item = SessionRow> {
        let closed = self.rows(user, options).filter(move |(end, _)| *end <= watermark);
        closed.map(|(_, row)| SessionRow { timing: PaneTiming::OnTime, ..row })
    }

    /// Its sessions as if they were open, and when each is complete.
    fn rows(&self, user: &str, options: &SessionOptions) -> impl Iterator<Item = (i64, SessionRow)> {
        let (is_cut, index) = (self.chain.is_cut(options), self.index);
        self.chain.sessions(options).into_iter().map(move |(session, end)| {
            let (user, timing) = (user.to_owned(), PaneTiming::Early);
            (end, SessionRow { user, session, index, timing, is_cut, is_retracted: false })
        })
    }
}

/// What becomes of the chains of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advanced {
    /// Chains to store.
    pub changed: Vec<StoredChain>,
    /// Chains as they were stored that are changed, part of another, or forgotten.
    pub replaced: Vec<StoredChain>,
    /// Chains that stay as they are.
    pub unchanged: Vec<StoredChain>,
    /// Sessions to emit: closed ones, corrected ones, and those that are taken back.
    pub emitted: Vec<SessionRow>,
}

/// Lets events arrive (`arrived`: chains that do not touch) and the watermark go on. `lateness`: how far the watermark may
/// be past an event that is still in time, microseconds. A repeated call with the same arguments gives the same.
#[must_use]
pub fn advance(
    user: &str,
    stored: Vec<StoredChain>,
    arrived: &[Chain],
    watermark: i64,
    lateness: i64,
    options: &SessionOptions,
) -> Advanced {
    let mut parts: Vec<Group> = arrived.iter().map(|chain| Group::of(chain.clone())).collect();
    parts.extend(stored.into_iter().map(|one| Group {
        chain: one.chain.clone(),
        has_arrived: false,
        stored: vec![one],
    }));
    // In the order of time a chain touches the one before it or none.
    parts.sort_by_key(|part| part.chain.first());
    let mut groups: Vec<Group> = Vec::with_capacity(parts.len());
    for part in parts {
        match groups.last_mut().filter(|last| last.chain.touches(&part.chain, options)) {
            Some(last) => last.absorb(part),
            None => groups.push(part),
        }
    }
    let mut advanced = Advanced::default();
    for group in groups {
        if !group.has_arrived && group.stored.iter().all(|one| one.due > watermark) {
            advanced.unchanged.extend(group.stored);
        } else {
            group.close(user, watermark, lateness, options, &mut advanced);
        }
    }
    advanced
}

/// Chains that are one.
struct Group {
    chain: Chain,
    has_arrived: bool,
    stored: Vec<StoredChain>,
}

impl Group {
    const fn of(chain: Chain) -> Self {
        Self { chain, has_arrived: true, stored: Vec::new() }
    }

    fn absorb(&mut self, other: Self) {
        self.chain.merge(&other.chain);
        self.has_arrived |= other.has_arrived;
        self.stored.extend(other.stored);
    }

    fn close(mut self, user: &str, watermark: i64, lateness: i64, options: &SessionOptions, advanced: &mut Advanced) {
        let index = self.stored.iter().map(|one| one.index.saturating_add(1)).max().unwrap_or(0);
        let is_cut = self.chain.is_cut(options);
        let row = |session, timing, is_cut, is_retracted| SessionRow {
            user: user.to_owned(),
            session,
            index,
            timing,
            is_cut,
            is_retracted,
        };
        let mut before: BTreeMap<i64, Before> = BTreeMap::new();
        for one in &self.stored {
            let is_cut = one.chain.is_cut(options);
            for (session, _) in one.chain.sessions(options) {
                let has_changed = one.closed.get(&session.first()).copied();
                before.insert(session.first(), Before { session, has_changed, is_cut });
            }
        }
        let (mut closed, mut due, mut has_news) = (BTreeMap::new(), None::<i64>, self.has_arrived);
        for (session, end) in self.chain.sessions(options) {
            let start = session.first();
            let before = before.remove(&start);
            let was_emitted = before.as_ref().and_then(|before| before.has_changed);
            let is_same = before.is_some_and(|before| before.session == session && before.is_cut == is_cut);
            if end > watermark {
                // A session that is open again waits until it is complete; what was emitted of it is remembered.
                closed.extend(was_emitted.map(|has_changed| (start, has_changed || !is_same)));
                due = Some(due.map_or(end, |due| due.min(end)));
                continue;
            }
            closed.insert(start, false);
            if was_emitted == Some(false) && is_same {
                continue;
            }
            has_news = true;
            let timing = if was_emitted.is_some() { PaneTiming::Late } else { PaneTiming::OnTime };
            advanced.emitted.push(row(session, timing, is_cut, false));
        }
        for (start, Before { session, has_changed, is_cut }) in before {
            if has_changed.is_some() && !self.chain.is_settled(start) {
                advanced.emitted.push(row(session, PaneTiming::Late, is_cut, true));
            }
        }
        // Once more due, and nothing has happened: nothing in time can touch it any more.
        if has_news || due.is_some() {
            if due.is_some() {
                self.chain.settle(watermark.saturating_sub(lateness), options);
            }
            let due = due.unwrap_or_else(|| self.chain.window(options).end.max(watermark).saturating_add(lateness));
            advanced.changed.push(StoredChain { index, closed, due, chain: self.chain });
        }
        advanced.replaced.extend(self.stored);
    }
}

/// A session as it was stored.
struct Before {
    session: Session,
    /// Whether it has changed since it was emitted as closed, if it was.
    has_changed: Option<bool>,
    is_cut: bool,
}
