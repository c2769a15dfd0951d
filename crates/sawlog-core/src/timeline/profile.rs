//! Last values of a user.

use crate::timeline::chunk::cut;
use crate::varint;

const VERSION: u8 = 1;

/// What is known of a user. Merging is commutative and associative: of two values the one of the later event counts, of
/// two at one moment the greater text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Time of the first event, UTC microseconds.
    pub first_seen: i64,
    /// Time of the last event, UTC microseconds.
    pub last_seen: i64,
    /// Events, also those that came late.
    pub event_count: u64,
    /// Log records of class `error` among them.
    pub error_count: u64,
    /// Last values in the order of [`Profile::NAMES`], each with its time.
    pub latest: [Option<(i64, Box<str>)>; Profile::NAMES.len()],
}

/// Bytes that are no profile.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bytes are no profile of version {VERSION}")]
pub struct ProfileError;

impl Profile {
    /// Names of the values, as columns have them.
    pub const NAMES: [&'static str; 8] =
        ["event_name", "route", "service", "service_version", "device", "user_segment", "country", "session_id"];

    /// Takes in a value.
    pub(super) fn note(&mut self, name: usize, time: i64, text: &str) {
        let Some(place) = self.latest.get_mut(name) else { return };
        if place.as_ref().is_none_or(|(last, _)| *last <= time) {
            let newer = Some((time, cut(text)));
            *place = newer.max(place.take());
        }
    }

    /// Adds what is known from other events of the same user.
    pub fn merge(&mut self, other: &Self) {
        if other.event_count == 0 {
            return;
        }
        if self.event_count == 0 {
            *self = other.clone();
            return;
        }
        self.first_seen = self.first_seen.min(other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
        self.event_count = self.event_count.saturating_add(other.event_count);
        self.error_count = self.error_count.saturating_add(other.error_count);
        for (mine, theirs) in self.latest.iter_mut().zip(&other.latest) {
            *mine = mine.take().max(theirs.clone());
        }
    }

    /// The bytes: version, times, counts, then each value that is there with its place, time and text.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint::write_signed(&mut out, self.first_seen);
        varint::write_signed(&mut out, self.last_seen.saturating_sub(self.first_seen));
        varint::write(&mut out, self.event_count);
        varint::write(&mut out, self.error_count);
        for (place, value) in self.latest.iter().enumerate() {
            if let Some((time, text)) = value {
                out.push(place as u8);
                varint::write_signed(&mut out, *time);
                varint::write(&mut out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
        }
        out
    }

    /// Reads a profile. Values that a later version has and this one does not know are passed over.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProfileError> {
        Self::read(bytes).ok_or(ProfileError)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes.strip_prefix(&[VERSION])?;
        let first_seen = varint::read_signed(rest)?;
        let last_seen = first_seen.checked_add(varint::read_signed(rest)?)?;
        let mut profile = Self {
            first_seen,
            last_seen,
            event_count: varint::read(rest)?,
            error_count: varint::read(rest)?,
            latest: Default::default(),
        };
        while let Some((&place, tail)) = rest.split_first() {
            *rest = tail;
            let time = varint::read_signed(rest)?;
            let len = usize::try_from(varint::read(rest)?).ok()?;
            let (text, tail) = rest.split_at_checked(len)?;
            *rest = tail;
            if let Some(value) = profile.latest.get_mut(usize::from(place)) {
                *value = Some((time, Box::from(std::str::from_utf8(text).ok()?)));
            }
        }
        Some(profile)
    }
}
