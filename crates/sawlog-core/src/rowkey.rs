//! Row keys of the serving store.
//!
//! For: keys that put an identifier first and reversed time last, so that the newest cell of a series is its first.
//! Not for: cell values ([`crate::rollup`], [`crate::session`]), or where cells lie in Bigtable ([`crate::bigtable`]). Layout:
//! kind (one byte: what the cell is about), 0, the parts of the identifier each ended by 0x00, then the time in whole seconds, biased
//! by 2⁶³ and inverted, big endian. An absent part is empty. Bytes 0x00 and 0x01 inside a part are written 0x01 0x01 and
//! 0x01 0x02, which keeps byte order equal to text order. A part of more than [`PART_BYTES_MAX`] bytes is cut and told from
//! others by a hash ([`bounded`]): stores bound keys (64 KiB embedded, 4 KiB in Bigtable).

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64;

/// A decoded key: parts of the identifier and the time, UTC microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey {
    /// Parts of the identifier; `None` where the value was absent.
    pub parts: Vec<Option<String>>,
    /// Time, UTC microseconds, a whole second.
    pub time: i64,
}

const SECOND: i64 = 1_000_000;

/// Most bytes of a part, as it is written.
pub const PART_BYTES_MAX: usize = 768;

/// A text as keys hold it: itself, or its front and a hash of the whole if it is too long. A cut one stays as it is.
#[must_use]
pub fn bounded(text: &str) -> Cow<'_, str> {
    let written = |text: &str| text.len() + text.bytes().filter(|byte| *byte < 2).count();
    if text.len() <= PART_BYTES_MAX / 2 || written(text) <= PART_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    // Half of the room: each byte may take two.
    let front = &text[..text.floor_char_boundary(PART_BYTES_MAX / 2 - 24)];
    Cow::Owned(format!("{front}…{:016x}", xxh3_64(text.as_bytes())))
}

/// Appends a key. Parts must not be empty texts; absent is `None`.
pub fn encode(out: &mut Vec<u8>, kind: u8, parts: &[Option<&str>], time: i64) {
    append_parts(out, kind, parts);
    append_time(out, time);
}

/// Appends the front of a key: kind, 0 and parts.
pub(crate) fn append_parts(out: &mut Vec<u8>, kind: u8, parts: &[Option<&str>]) {
    out.extend_from_slice(&[kind, 0]);
    for part in parts {
        for &byte in bounded(part.unwrap_or_default()).as_bytes() {
            match byte {
                0 => out.extend_from_slice(&[1, 1]),
                1 => out.extend_from_slice(&[1, 2]),
                byte => out.push(byte),
            }
        }
        out.push(0);
    }
}

/// Appends the end of a key.
pub(crate) fn append_time(out: &mut Vec<u8>, time: i64) {
    out.extend_from_slice(&reverse(time.div_euclid(SECOND) as u64).to_be_bytes());
}

/// Turns the order of signed numbers around; its own inverse.
const fn reverse(seconds: u64) -> u64 {
    !(seconds ^ (1 << 63))
}

/// Reads a key of the given kind with `part_count` parts and a time.
#[must_use]
pub fn decode(key: &[u8], kind: u8, part_count: usize) -> Option<RowKey> {
    let (parts, rest) = split_parts(key, kind, part_count)?;
    let reversed = u64::from_be_bytes(rest.try_into().ok()?);
    let time = (reverse(reversed) as i64).checked_mul(SECOND)?;
    Some(RowKey { parts, time })
}

/// Parts of a key of the given kind, and what follows them.
pub(crate) fn split_parts(key: &[u8], kind: u8, part_count: usize) -> Option<(Vec<Option<String>>, &[u8])> {
    let mut rest = key.strip_prefix(&[kind])?.get(1..)?;
    let mut parts = Vec::with_capacity(part_count);
    for _ in 0..part_count {
        let end = rest.iter().position(|&byte| byte == 0)?;
        let mut text = Vec::with_capacity(end);
        let mut bytes = rest[..end].iter();
        while let Some(&byte) = bytes.next() {
            text.push(if byte == 1 { bytes.next()? - 1 } else { byte });
        }
        rest = &rest[end + 1..];
        let text = String::from_utf8(text).ok()?;
        parts.push((!text.is_empty()).then_some(text));
    }
    Some((parts, rest))
}

/// Time of a key of any kind, UTC microseconds.
#[must_use]
pub fn time_of(key: &[u8]) -> Option<i64> {
    let (_, reversed) = key.split_last_chunk::<8>()?;
    (reverse(u64::from_be_bytes(*reversed)) as i64).checked_mul(SECOND)
}

/// The keys of a kind: first key and the first key after all of them.
#[must_use]
pub fn range_of(kind: u8) -> (Vec<u8>, Vec<u8>) {
    (vec![kind], vec![kind + 1])
}

/// The keys of a kind with the given parts, whatever follows: first key and the first key after all of them.
#[must_use]
pub fn range_with(kind: u8, parts: &[Option<&str>]) -> (Vec<u8>, Vec<u8>) {
    let mut start = Vec::new();
    append_parts(&mut start, kind, parts);
    let mut end = start.clone();
    // Behind the byte that ends the last part.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (start, end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_parts_are_cut_once_and_stay_apart() {
        let (one, two) = ("x".repeat(100_000), "x".repeat(99_999));
        assert_ne!(bounded(&one), bounded(&two));
        for text in [one, two, "\0".repeat(40_000), "ü\u{1}".repeat(40_000)] {
            let cut = bounded(&text).into_owned();
            assert_eq!(bounded(&cut), cut);
            let mut key = Vec::new();
            encode(&mut key, b'q', &[Some(&text), None], 0);
            assert!(key.len() <= PART_BYTES_MAX + 16, "{}", key.len());
            assert_eq!(decode(&key, b'q', 2).map(|key| key.parts), Some(vec![Some(cut), None]));
        }
    }

    proptest! {
        #[test]
        fn keys_are_read_back(parts in proptest::collection::vec(proptest::option::of(".{1,12}"), 3), seconds in -1_000_000_000i64..10_000_000_000) {
            let borrowed: Vec<_> = parts.iter().map(|part| part.as_deref()).collect();
            let mut key = Vec::new();
            encode(&mut key, b'q', &borrowed, seconds * SECOND);
            prop_assert_eq!(time_of(&key), Some(seconds * SECOND));
            prop_assert_eq!(decode(&key, b'q', 3), Some(RowKey { parts, time: seconds * SECOND }));
        }

        #[test]
        fn the_newer_cell_of_a_series_comes_first(name in ".{1,8}", older in 0i64..1_000_000, step in 1i64..1_000) {
            let key = |seconds: i64| {
                let mut key = Vec::new();
                encode(&mut key, b'm', &[Some(&name)], seconds * SECOND);
                key
            };
            prop_assert!(key(older + step) < key(older));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(&bytes, b'q', 3);
            let _ = time_of(&bytes);
        }
    }
}
