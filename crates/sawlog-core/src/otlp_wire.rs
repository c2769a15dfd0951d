//! The protobuf wire format: reading fields one at a time, and writing them.
//!
//! For: walking messages of which only some fields matter, with every place checked, and for putting messages
//! together. Not for: what a field means ([`crate::otlp_split`], [`crate::parse_otlp`]). Source: the protobuf encoding
//! guide. Groups are refused, as no OTLP message has one. Nothing here recurses: a nested message is a range that the
//! caller may read or not.

use std::ops::Range;

/// Bytes of the longest varint.
const VARINT_BYTES_MAX: usize = 10;

/// A place at which the bytes are no protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WireError {
    /// What is wrong.
    pub(crate) problem: &'static str,
    /// Where, in bytes from the start of the buffer.
    pub(crate) at: usize,
}

/// A value on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// Text, bytes, a message or packed numbers: where they are in the buffer.
    Bytes(Range<usize>),
}

/// One field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) wire: Wire,
    /// The field with its tag, in the buffer.
    pub(crate) whole: Range<usize>,
}

impl Field {
    fn mismatch<T>(&self) -> Result<T, WireError> {
        Err(WireError { problem: "a field has another type than OTLP gives it", at: self.whole.start })
    }

    pub(crate) fn bytes(&self) -> Result<Range<usize>, WireError> {
        if let Wire::Bytes(range) = &self.wire { Ok(range.clone()) } else { self.mismatch() }
    }

    pub(crate) fn varint(&self) -> Result<u64, WireError> {
        if let Wire::Varint(value) = self.wire { Ok(value) } else { self.mismatch() }
    }

    pub(crate) fn fixed64(&self) -> Result<u64, WireError> {
        if let Wire::Fixed64(value) = self.wire { Ok(value) } else { self.mismatch() }
    }

    pub(crate) fn fixed32(&self) -> Result<u32, WireError> {
        if let Wire::Fixed32(value) = self.wire { Ok(value) } else { self.mismatch() }
    }

    pub(crate) fn double(&self) -> Result<f64, WireError> {
        self.fixed64().map(f64::from_bits)
    }

    /// Calls `push` for each number of a repeated fixed64 or double field, packed or not.
    pub(crate) fn repeated_fixed64(&self, buffer: &[u8], mut push: impl FnMut(u64)) -> Result<(), WireError> {
        match &self.wire {
            Wire::Fixed64(value) => push(*value),
            Wire::Bytes(range) => {
                let (numbers, rest) = buffer[range.clone()].as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(WireError { problem: "packed numbers break off", at: range.end });
                }
                numbers.iter().for_each(|number| push(u64::from_le_bytes(*number)));
            }
            _ => return self.mismatch(),
        }
        Ok(())
    }

    /// Calls `push` for each number of a repeated varint field, packed or not.
    pub(crate) fn repeated_varint(&self, buffer: &[u8], mut push: impl FnMut(u64)) -> Result<(), WireError> {
        match &self.wire {
            Wire::Varint(value) => push(*value),
            Wire::Bytes(range) => {
                let mut reader = Reader::new(buffer, range.clone());
                while reader.at < reader.end {
                    push(reader.read_varint()?);
                }
            }
            _ => return self.mismatch(),
        }
        Ok(())
    }
}

/// Reads the fields of one message.
pub(crate) struct Reader<'a> {
    buffer: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    /// Reads the message at `range`, which lies in the buffer.
    pub(crate) fn new(buffer: &'a [u8], range: Range<usize>) -> Self {
        debug_assert!(range.start <= range.end && range.end <= buffer.len());
        Self { buffer, at: range.start, end: range.end }
    }

    /// The next field; `None` at the end of the message.
    pub(crate) fn next(&mut self) -> Result<Option<Field>, WireError> {
        const NUMBER_MAX: u64 = (1 << 29) - 1;
        if self.at >= self.end {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.read_varint()?;
        let number = tag >> 3;
        if number == 0 || number > NUMBER_MAX {
            return Err(WireError { problem: "a field has an impossible number", at: start });
        }
        let wire = match tag & 7 {
            0 => Wire::Varint(self.read_varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take()?)),
            2 => {
                let len_at = self.at;
                let len = self.read_varint()?;
                let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
                let Some(end) = end.filter(|end| *end <= self.end) else {
                    return Err(WireError { problem: "a length reaches past the end", at: len_at });
                };
                let range = self.at..end;
                self.at = end;
                Wire::Bytes(range)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.take()?)),
            3 | 4 => return Err(WireError { problem: "groups are not part of OTLP", at: start }),
            _ => return Err(WireError { problem: "a field has an unknown wire type", at: start }),
        };
        Ok(Some(Field { number: number as u32, wire, whole: start..self.at }))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let bytes = self.buffer[self.at..self.end].first_chunk::<N>();
        let bytes = *bytes.ok_or(WireError { problem: "a number breaks off", at: self.at })?;
        self.at += N;
        Ok(bytes)
    }

    fn read_varint(&mut self) -> Result<u64, WireError> {
        let start = self.at;
        let mut value = 0u64;
        for (index, &byte) in self.buffer[start..self.end].iter().take(VARINT_BYTES_MAX).enumerate() {
            if index == VARINT_BYTES_MAX - 1 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.at = start + index + 1;
                return Ok(value);
            }
        }
        Err(WireError { problem: "a number breaks off or is too long", at: start })
    }
}

/// Appends a varint.
pub(crate) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a varint field.
pub(crate) fn write_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    write_varint(out, u64::from(number) << 3);
    write_varint(out, value);
}

/// Appends a fixed64 or double field.
pub(crate) fn write_fixed64_field(out: &mut Vec<u8>, number: u32, value: u64) {
    write_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a fixed32 field.
pub(crate) fn write_fixed32_field(out: &mut Vec<u8>, number: u32, value: u32) {
    write_varint(out, u64::from(number) << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a text, bytes or message field.
pub(crate) fn write_bytes_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    write_varint(out, u64::from(number) << 3 | 2);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<Field>, WireError> {
        let mut reader = Reader::new(bytes, 0..bytes.len());
        let mut fields = Vec::new();
        while let Some(field) = reader.next()? {
            fields.push(field);
        }
        Ok(fields)
    }

    #[test]
    fn what_was_written_is_read_again() {
        let mut bytes = Vec::new();
        write_varint_field(&mut bytes, 1, u64::MAX);
        write_fixed64_field(&mut bytes, 2, 1.5f64.to_bits());
        write_fixed32_field(&mut bytes, 3, 7);
        write_bytes_field(&mut bytes, 400, b"abc");
        let fields = fields(&bytes).expect("fields");
        assert_eq!(fields[0].varint(), Ok(u64::MAX));
        assert_eq!(fields[1].double(), Ok(1.5));
        assert_eq!(fields[2].fixed32(), Ok(7));
        assert_eq!(&bytes[fields[3].bytes().expect("bytes")], b"abc");
        assert_eq!(fields.iter().map(|field| field.number).collect::<Vec<_>>(), [1, 2, 3, 400]);
    }

    #[test]
    fn broken_fields_are_refused_where_they_break() {
        for (bytes, problem) in [
            (&b"\x08"[..], "a number breaks off or is too long"),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "a number breaks off or is too long"),
            (b"\x09\x00\x00", "a number breaks off"),
            (b"\x0a\x05ab", "a length reaches past the end"),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a length reaches past the end"),
            (b"\x0b\x0c", "groups are not part of OTLP"),
            (b"\x0e", "a field has an unknown wire type"),
            (b"\x00\x00", "a field has an impossible number"),
        ] {
            assert_eq!(fields(bytes).expect_err("refused").problem, problem, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_fields_that_cover_them_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(fields) = fields(&bytes) {
                let mut at = 0;
                for field in &fields {
                    prop_assert_eq!(field.whole.start, at);
                    at = field.whole.end;
                }
                prop_assert_eq!(at, bytes.len());
            }
        }
    }
}
