//! A chain of events, kept by day.

use crate::session::error_kinds::ErrorKinds;
use crate::varint;
use crate::window::Window;

/// Version 1 counted errors otherwise; it is still read.
const VERSION: u8 = 2;
const DAY: i64 = 86_400_000_000;
/// Steps of the path that are kept of each day: the first ones.
pub(super) const STEPS_MAX: usize = 50;
/// Longest text of a step, a device and the like; longer ones are cut.
const TEXT_BYTES_MAX: usize = 200;

/// Settings of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Pause that ends a session, microseconds.
    pub gap: i64,
    /// Longest session; a chain that is longer is cut at midnight UTC. Microseconds.
    pub length_max: i64,
}

impl Default for SessionOptions {
    /// 30 minutes, 24 hours.
    fn default() -> Self {
        Self { gap: 1_800_000_000, length_max: DAY }
    }
}

/// What one row tells of its user.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<'a> {
    /// Event time, UTC microseconds.
    pub time: i64,
    /// Where the user was or what they did; log records have none.
    pub step: Option<&'a str>,
    /// How long the request took, microseconds; `None` for what is no request.
    pub duration: Option<i64>,
    /// Whether it is of class `error`.
    pub is_error: bool,
    /// Template of the error's message.
    pub error: Option<&'a str>,
    /// Device class.
    pub device: Option<&'a str>,
    /// Segment of the user.
    pub segment: Option<&'a str>,
    /// Country of the user.
    pub country: Option<&'a str>,
}

/// Bytes that are no chain.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no session of version {VERSION}")]
pub struct ChainError;

/// Memory of a step beside its text.
const STEP_BYTES: usize = 48;

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

const fn day_of(time: i64) -> i32 {
    time.div_euclid(DAY) as i32
}

/// A text at a time. Texts order by time first, so that the least is the earliest.
pub(super) type Step = (i64, Box<str>);

/// A chain of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Time of its first event.
    first: i64,
    /// By UTC day, in order, never empty. Most chains have one day: no tree, whose nodes have room for eleven.
    slices: Vec<(i32, Session)>,
    /// Days before this one are settled: their events are told and gone.
    settled: i32,
}

/// A session: the events of a chain, or those of one day of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) event_count: u64,
    pub(super) step_count: u64,
    pub(super) error_count: u64,
    pub(super) duration_count: u64,
    pub(super) duration_sum: u64,
    pub(super) duration_max: u64,
    /// The first steps, in order.
    pub(super) path: Vec<Step>,
    pub(super) exit: Option<Step>,
    /// Latest values: device, segment, country.
    pub(super) latest: [Option<Step>; 3],
    pub(super) errors: ErrorKinds,
}

impl Session {
    fn new(event: &Event<'_>) -> Self {
        let step = |text: Option<&str>| text.map(|text| (event.time, Box::from(cut(text))));
        let mut errors = ErrorKinds::default();
        if let Some(error) = event.error {
            errors.add(error, 1);
        }
        let duration = event.duration.map_or(0, |duration| duration.max(0) as u64);
        Self {
            first: event.time,
            last: event.time,
            event_count: 1,
            step_count: u64::from(event.step.is_some()),
            error_count: u64::from(event.is_error),
            duration_count: u64::from(event.duration.is_some()),
            duration_sum: duration,
            duration_max: duration,
            path: step(event.step).into_iter().collect(),
            exit: step(event.step),
            latest: [event.device, event.segment, event.country].map(step),
            errors,
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        for (mine, theirs) in [
            (&mut self.event_count, other.event_count),
            (&mut self.step_count, other.step_count),
            (&mut self.error_count, other.error_count),
            (&mut self.duration_count, other.duration_count),
            (&mut self.duration_sum, other.duration_sum),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.duration_max = self.duration_max.max(other.duration_max);
        self.path.extend(other.path.iter().cloned());
        self.path.sort_unstable();
        self.path.dedup();
        self.path.truncate(STEPS_MAX);
        self.exit = self.exit.take().max(other.exit.clone());
        for (mine, theirs) in self.latest.iter_mut().zip(&other.latest) {
            *mine = mine.take().max(theirs.clone());
        }
        self.errors.merge(&other.errors);
    }

    /// Time of its first event, UTC microseconds.
    #[must_use]
    pub const fn first(&self) -> i64 {
        self.first
    }

    /// Time of its last event, UTC microseconds.
    #[must_use]
    pub const fn last(&self) -> i64 {
        self.last
    }

    /// Number of its events.
    #[must_use]
    pub const fn event_count(&self) -> u64 {
        self.event_count
    }

    /// Number of its log records of class `error`.
    #[must_use]
    pub const fn error_count(&self) -> u64 {
        self.error_count
    }

    /// Its first steps.
    pub fn path(&self) -> impl Iterator<Item = &str> {
        self.path.iter().map(|(_, text)| text.as_ref())
    }

    /// Adds an event of the same day; returns by how much its memory grew, bytes, about.
    fn add(&mut self, event: &Event<'_>) -> usize {
        self.first = self.first.min(event.time);
        self.last = self.last.max(event.time);
        let duration = event.duration.map_or(0, |duration| duration.max(0) as u64);
        for (mine, theirs) in [
            (&mut self.event_count, 1),
            (&mut self.step_count, u64::from(event.step.is_some())),
            (&mut self.error_count, u64::from(event.is_error)),
            (&mut self.duration_count, u64::from(event.duration.is_some())),
            (&mut self.duration_sum, duration),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.duration_max = self.duration_max.max(duration);
        let mut grown = 0;
        if let Some(text) = event.step {
            let text = cut(text);
            let is_among_first = self.path.len() < STEPS_MAX
                || self.path.last().is_some_and(|last| (event.time, text) < (last.0, last.1.as_ref()));
            let place = self.path.binary_search_by(|step| (step.0, step.1.as_ref()).cmp(&(event.time, text)));
            if let (true, Err(place)) = (is_among_first, place) {
                self.path.insert(place, (event.time, Box::from(text)));
                grown += text.len() + STEP_BYTES;
                if self.path.len() > STEPS_MAX
                    && let Some((_, given_up)) = self.path.pop()
                {
                    grown = grown.saturating_sub(given_up.len() + STEP_BYTES);
                }
            }
        }
        let latest = [event.step, event.device, event.segment, event.country];
        for (mine, text) in [&mut self.exit].into_iter().chain(&mut self.latest).zip(latest) {
            let Some(text) = text.map(cut) else { continue };
            if mine.as_ref().is_none_or(|mine| (mine.0, mine.1.as_ref()) < (event.time, text)) {
                *mine = Some((event.time, Box::from(text)));
            }
        }
        if let Some(error) = event.error {
            let before = self.errors.memory_bytes();
            self.errors.add(error, 1);
            grown += self.errors.memory_bytes().saturating_sub(before);
        }
        grown
    }

    fn memory_bytes(&self) -> usize {
        let steps = self.path.iter().chain(&self.exit).chain(self.latest.iter().flatten());
        size_of::<Self>() + steps.map(|(_, text)| text.len() + STEP_BYTES).sum::<usize>() + self.errors.memory_bytes()
    }
}

impl Chain {
    /// The chain of one event.
    #[must_use]
    pub fn of(event: &Event<'_>) -> Self {
        let slices = vec![(day_of(event.time), Session::new(event))];
        Self { first: event.time, slices, settled: i32::MIN }
    }

    /// Adds an event that it touches; returns by how much its memory grew, bytes, about.
    pub(super) fn add(&mut self, event: &Event<'_>) -> usize {
        self.first = self.first.min(event.time);
        let day = day_of(event.time);
        match self.slices.binary_search_by_key(&day, |(day, _)| *day) {
            Ok(at) => self.slices[at].1.add(event),
            Err(at) => {
                let session = Session::new(event);
                let grown = session.memory_bytes();
                self.slices.insert(at, (day, session));
                grown
            }
        }
    }

    /// Time of its first event.
    #[must_use]
    pub const fn first(&self) -> i64 {
        self.first
    }

    /// Time of its last event.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.slices.last().map_or(self.first, |(_, slice)| slice.last)
    }

    /// Its window: it takes events until the gap after its last one.
    #[must_use]
    pub fn window(&self, options: &SessionOptions) -> Window {
        Window { start: self.first(), end: self.last().saturating_add(options.gap) }
    }

    /// Whether an event in one would have followed one in the other within the gap.
    #[must_use]
    pub fn touches(&self, other: &Self, options: &SessionOptions) -> bool {
        self.window(options).overlaps(other.window(options))
    }

    /// Adds the events of another chain of the same user, which it touches or which one between them bridges. Events of
    /// days that are settled are passed over.
    pub fn merge(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.settled = self.settled.max(other.settled);
        for (day, theirs) in &other.slices {
            match self.slices.binary_search_by_key(day, |(day, _)| *day) {
                Ok(at) => self.slices[at].1.merge(theirs),
                Err(at) => self.slices.insert(at, (*day, theirs.clone())),
            }
        }
        self.forget_settled();
    }

    /// Whether it is longer than a session may be.
    #[must_use]
    pub fn is_cut(&self, options: &SessionOptions) -> bool {
        self.last().saturating_sub(self.first) > options.length_max
    }

    /// The sessions that it makes, with the time by which each is complete: one that ends a gap after its last event, or
    /// one for each day when it is too long, which ends at midnight or with the chain. Days that are settled are left out.
    #[must_use]
    pub fn sessions(&self, options: &SessionOptions) -> Vec<(Session, i64)> {
        let end = self.window(options).end;
        if self.is_cut(options) {
            let midnight = |day: i32| (i64::from(day) + 1).saturating_mul(DAY);
            return self.slices.iter().map(|(day, slice)| (slice.clone(), midnight(*day).min(end))).collect();
        }
        let mut slices = self.slices.iter().map(|(_, slice)| slice.clone());
        let whole = slices.next().map(|first| {
            slices.fold(first, |mut sum, slice| {
                sum.merge(&slice);
                sum
            })
        });
        whole.map(|whole| (whole, end)).into_iter().collect()
    }

    /// Settles the days of a chain that is too long which end by `time`, except its last one.
    pub(super) fn settle(&mut self, time: i64, options: &SessionOptions) {
        if self.is_cut(options) {
            self.settled = self.settled.max(day_of(time));
            self.forget_settled();
        }
    }

    /// Whether the day of a time is settled.
    #[must_use]
    pub(super) const fn is_settled(&self, time: i64) -> bool {
        day_of(time) < self.settled
    }

    fn forget_settled(&mut self) {
        let Some(last) = self.slices.last().map(|(day, _)| *day) else { return };
        let settled = self.settled.min(last);
        self.slices.retain(|(day, _)| *day >= settled);
    }

    /// Memory, bytes, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.slices.iter().map(|(_, slice)| slice.memory_bytes()).sum::<usize>()
    }

    /// The chain's bytes: version, first event, settled day, number of days, then each day with its session.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint::write_signed(&mut out, self.first);
        varint::write_signed(&mut out, i64::from(self.settled));
        varint::write(&mut out, self.slices.len() as u64);
        for (day, slice) in &self.slices {
            varint::write_signed(&mut out, i64::from(*day));
            write_slice(&mut out, slice);
        }
        out
    }

    /// Reads a chain.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChainError> {
        Self::read(bytes).ok_or(ChainError)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first().filter(|(version, _)| (1..=VERSION).contains(*version))?;
        let rest = &mut rest;
        let first = varint::read_signed(rest)?;
        let settled = i32::try_from(varint::read_signed(rest)?).ok()?;
        let mut slices: Vec<(i32, Session)> = Vec::with_capacity(1);
        for _ in 0..varint::read(rest)? {
            let day = i32::try_from(varint::read_signed(rest)?).ok()?;
            slices.push((day, read_slice(rest, version)?));
        }
        let is_ordered = slices.is_sorted_by(|one, other| one.0 < other.0);
        (rest.is_empty() && !slices.is_empty() && is_ordered).then_some(Self { first, slices, settled })
    }
}

fn write_slice(out: &mut Vec<u8>, slice: &Session) {
    varint::write_signed(out, slice.first);
    varint::write_signed(out, slice.last.saturating_sub(slice.first));
    for count in [
        slice.event_count,
        slice.step_count,
        slice.error_count,
        slice.duration_count,
        slice.duration_sum,
        slice.duration_max,
    ] {
        varint::write(out, count);
    }
    varint::write(out, slice.path.len() as u64);
    slice.path.iter().for_each(|step| write_step(out, step));
    for step in [&slice.exit].into_iter().chain(&slice.latest) {
        out.push(u8::from(step.is_some()));
        if let Some(step) = step {
            write_step(out, step);
        }
    }
    slice.errors.write_to(out);
}

fn write_step(out: &mut Vec<u8>, (time, text): &Step) {
    varint::write_signed(out, *time);
    varint::write(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn read_slice(bytes: &mut &[u8], version: u8) -> Option<Session> {
    let first = varint::read_signed(bytes)?;
    let last = first.checked_add(varint::read_signed(bytes)?)?;
    let mut counts = [0; 6];
    for count in &mut counts {
        *count = varint::read(bytes)?;
    }
    let [event_count, step_count, error_count, duration_count, duration_sum, duration_max] = counts;
    let mut path: Vec<Step> = Vec::new();
    for _ in 0..varint::read(bytes).filter(|len| *len <= STEPS_MAX as u64)? {
        path.push(read_step(bytes)?);
    }
    if !path.is_sorted_by(|one, other| one < other) {
        return None;
    }
    let mut steps = [None, None, None, None];
    for step in &mut steps {
        let (&is_there, rest) = bytes.split_first()?;
        *bytes = rest;
        *step = match is_there {
            0 => None,
            1 => Some(read_step(bytes)?),
            _ => return None,
        };
    }
    let [exit, device, segment, country] = steps;
    let latest = [device, segment, country];
    let errors = if version == 1 { ErrorKinds::read_version_1(bytes)? } else { ErrorKinds::read_from(bytes)? };
    (first <= last).then_some(Session {
        first,
        last,
        event_count,
        step_count,
        error_count,
        duration_count,
        duration_sum,
        duration_max,
        path,
        exit,
        latest,
        errors,
    })
}

fn read_step(bytes: &mut &[u8]) -> Option<Step> {
    let time = varint::read_signed(bytes)?;
    let len = varint::read(bytes).filter(|len| *len <= TEXT_BYTES_MAX as u64)?;
    let (text, rest) = bytes.split_at_checked(len as usize)?;
    *bytes = rest;
    Some((time, Box::from(std::str::from_utf8(text).ok()?)))
}
