//! What each user did, recounted: sessions, and rows that name them.

use std::collections::BTreeMap;

use sawlog_core::session::SessionOptions;

const DAY: i64 = 86_400_000_000;

/// One event of a user that came in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    pub(super) time: i64,
    pub(super) is_error: bool,
    /// Whether it says where the user was.
    pub(super) is_step: bool,
    pub(super) has_duration: bool,
}

#[derive(Clone, Debug, Default)]
pub(in crate::simulation) struct User {
    visits: Vec<Visit>,
    /// Stored rows that name the user, late ones included.
    pub(in crate::simulation) row_count: u64,
    /// Those of class `error`.
    pub(in crate::simulation) error_count: u64,
    /// Whether history was loaded for a time that sessions were settled for already: what becomes of those is open.
    pub(in crate::simulation) is_rewritten: bool,
}

/// A session: all events of which each follows the one before it within the gap, or one day of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::simulation) struct Session {
    pub(in crate::simulation) start: i64,
    pub(in crate::simulation) last: i64,
    /// Watermark at which it is complete.
    pub(in crate::simulation) end: i64,
    /// Events, errors, steps, requests with a duration.
    pub(in crate::simulation) counts: [i64; 4],
    pub(in crate::simulation) is_cut: bool,
    /// End of the last session of its chain.
    pub(in crate::simulation) chain_end: i64,
}

#[derive(Debug, Default)]
pub(in crate::simulation) struct Users {
    pub(in crate::simulation) now: BTreeMap<String, User>,
    /// As of the end of the last generation.
    pub(in crate::simulation) flushed: BTreeMap<String, User>,
}

impl Users {
    pub(super) fn user(&mut self, name: &str) -> &mut User {
        self.now.entry(name.to_owned()).or_default()
    }

    /// The time of each event in time.
    pub(super) fn visit_times(&self) -> impl Iterator<Item = i64> {
        self.now.values().flat_map(|user| user.visits.iter().map(|visit| visit.time))
    }

    pub(super) fn end_generation(&mut self) {
        self.flushed = self.now.clone();
    }
}

impl User {
    pub(super) fn visit(&mut self, visit: Visit) {
        self.visits.push(visit);
    }

    /// All sessions, earliest first.
    pub(in crate::simulation) fn sessions(&self, options: &SessionOptions) -> Vec<Session> {
        let mut visits = self.visits.clone();
        visits.sort_by_key(|visit| visit.time);
        let mut chains: Vec<Vec<Visit>> = Vec::new();
        for visit in visits {
            match chains.last_mut() {
                Some(chain) if visit.time - chain[chain.len() - 1].time < options.gap => chain.push(visit),
                _ => chains.push(vec![visit]),
            }
        }
        chains.iter().flat_map(|chain| sessions_of(chain, options)).collect()
    }
}

fn sessions_of(chain: &[Visit], options: &SessionOptions) -> Vec<Session> {
    let (first, last) = (chain[0].time, chain[chain.len() - 1].time);
    let (is_cut, chain_end) = (last - first > options.length_max, last + options.gap);
    let mut sessions: Vec<Session> = Vec::new();
    for visit in chain {
        let day = visit.time.div_euclid(DAY);
        let is_next = sessions.last().is_none_or(|session| is_cut && session.start.div_euclid(DAY) < day);
        if is_next {
            let end = if is_cut { chain_end.min((day + 1) * DAY) } else { chain_end };
            sessions.push(Session { start: visit.time, last: visit.time, end, counts: [0; 4], is_cut, chain_end });
        }
        if let Some(session) = sessions.last_mut() {
            session.last = visit.time;
            let more = [true, visit.is_error, visit.is_step, visit.has_duration];
            session.counts.iter_mut().zip(more).for_each(|(count, is_one)| *count += i64::from(is_one));
        }
    }
    sessions
}
