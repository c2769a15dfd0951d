//! Integers in as few bytes as their size needs: seven bits a byte, least significant first (LEB128), signed ones in
//! zigzag order. For the byte forms of accumulators and frames.

/// Appends a number.
pub(crate) fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a number from the front and moves past it.
pub(crate) fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Appends a signed number.
pub(crate) fn write_signed(out: &mut Vec<u8>, value: i64) {
    write(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Reads a signed number from the front and moves past it.
pub(crate) fn read_signed(bytes: &mut &[u8]) -> Option<i64> {
    read(bytes).map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_read_back(value: u64, signed: i64) {
            let mut out = Vec::new();
            write(&mut out, value);
            write_signed(&mut out, signed);
            let mut bytes = out.as_slice();
            prop_assert_eq!((read(&mut bytes), read_signed(&mut bytes)), (Some(value), Some(signed)));
            prop_assert!(bytes.is_empty());
        }
    }
}
