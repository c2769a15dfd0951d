//! Reading request bodies within bounds.
//!
//! For: decompressing gzip and zstd without trusting any declared size: output stops at the limit whatever the input
//! claims. Not for: what is inside the body.

use std::io::Read;

use bytes::Bytes;

/// Why a body cannot be read. Nothing of it is kept.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BodyError {
    /// Larger than allowed, before or after decompression.
    #[error("the body is larger than {limit} bytes {when}")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// `as sent` or `when decompressed`.
        when: &'static str,
    },
    /// Compressed data is damaged.
    #[error("the body is not valid {encoding}: {problem}")]
    Undecodable {
        /// The encoding that was declared.
        encoding: &'static str,
        /// What the decoder said.
        problem: String,
    },
    /// An encoding that is not supported.
    #[error("the content encoding {encoding:?} is not supported")]
    UnknownEncoding {
        /// The encoding that was declared.
        encoding: String,
    },
}

impl BodyError {
    /// What the sender can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "send smaller batches, or raise `server.body-size-max`",
            Self::Undecodable { .. } => "send the body whole, in the encoding that Content-Encoding names",
            Self::UnknownEncoding { .. } => "use gzip, zstd or no compression",
        }
    }
}

/// Largest window that a zstd body may ask for: 2^27 bytes is what the zstd tool itself accepts by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Undoes the content encoding.
///
/// # Errors
/// When the encoding is unknown, the data damaged or the result larger than `limit`.
pub fn decompress(encoding: Option<&str>, body: Bytes, limit: usize) -> Result<Bytes, BodyError> {
    let undecodable =
        |encoding| move |error: std::io::Error| BodyError::Undecodable { encoding, problem: error.to_string() };
    match encoding.map(str::trim) {
        None | Some("" | "identity") => Ok(body),
        Some("gzip" | "x-gzip") => {
            let decoder = flate2::read::MultiGzDecoder::new(body.as_ref());
            read_bounded(decoder, limit).map_err(undecodable("gzip"))?
        }
        Some("zstd") => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body.as_ref()).map_err(undecodable("zstd"))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(undecodable("zstd"))?;
            read_bounded(decoder, limit).map_err(undecodable("zstd"))?
        }
        Some(other) => Err(BodyError::UnknownEncoding { encoding: other.chars().take(40).collect() }),
    }
}

fn read_bounded(decoder: impl Read, limit: usize) -> std::io::Result<Result<Bytes, BodyError>> {
    let mut out = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut out)?;
    if out.len() > limit {
        return Ok(Err(BodyError::TooLarge { limit, when: "when decompressed" }));
    }
    Ok(Ok(Bytes::from(out)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("in memory");
        Bytes::from(encoder.finish().expect("in memory"))
    }

    #[test]
    fn compressed_bodies_are_read_back() {
        let plain = b"{\"a\":1}\n".repeat(1000);
        let zstd = Bytes::from(zstd::bulk::compress(&plain, 1).expect("in memory"));
        assert_eq!(decompress(Some("gzip"), gzip(&plain), 1 << 20).expect("read"), plain);
        assert_eq!(decompress(Some("zstd"), zstd, 1 << 20).expect("read"), plain);
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = gzip(&vec![0; 32 << 20]);
        assert!(bomb.len() < 1 << 20);
        assert!(matches!(decompress(Some("gzip"), bomb, 1 << 20), Err(BodyError::TooLarge { .. })));
    }

    #[test]
    fn damaged_and_unknown_encodings_are_refused() {
        let cut = gzip(b"hello hello hello").slice(..12);
        assert!(matches!(decompress(Some("gzip"), cut, 1 << 20), Err(BodyError::Undecodable { .. })));
        let text = Bytes::from_static(b"plain");
        assert!(matches!(decompress(Some("zstd"), text.clone(), 100), Err(BodyError::Undecodable { .. })));
        assert!(matches!(decompress(Some("br"), text, 100), Err(BodyError::UnknownEncoding { .. })));
    }
}
