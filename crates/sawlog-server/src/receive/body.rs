//! Reading request bodies within bounds.
//!
//! For: collecting a body that arrives at a fair pace, and decompressing gzip and zstd without trusting any declared
//! size: output stops at the limit whatever the input claims. Not for: what is inside the body.

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

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
    /// The connection ended before the body did.
    #[error("the body ended early")]
    CutShort,
    /// The body came slower than [`PACE_BYTES`] a second.
    #[error("the body arrived too slowly")]
    TooSlow,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl BodyError {
    /// What the sender can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "send smaller batches, or raise `server.body-size-max`",
            Self::Undecodable { .. } => "send the body whole, in the encoding that Content-Encoding names",
            Self::UnknownEncoding { .. } => "use gzip, zstd or no compression",
            Self::CutShort | Self::Stopping => "send it again",
            Self::TooSlow => "send smaller batches, or compress them",
        }
    }
}

/// Largest window that a zstd body may ask for: 2^27 bytes is what the zstd tool itself accepts by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Room that a decompressed body has at first.
const ROOM_BYTES_MIN: usize = 64 << 10;

/// Time that a body of any size has.
const GRACE: Duration = Duration::from_secs(30);
/// Bytes that then must have come for each further second. A sender that trickles holds a place of the budget of bodies
/// in memory, which others wait for.
pub const PACE_BYTES: u64 = 64 * 1024;

/// Reads a body whole, within the limit and at a fair pace, and undoes its content encoding off the async threads.
///
/// # Errors
/// When the body is too large, too slow, cut short or undecodable.
pub async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let raw = collect(body, limit, GRACE, PACE_BYTES).await?;
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(raw);
    };
    let encoding = encoding.to_str().unwrap_or("?").to_owned();
    let decompressed = tokio::task::spawn_blocking(move || decompress(Some(&encoding), raw, limit)).await;
    decompressed.map_err(|_| BodyError::Stopping)?
}

async fn collect(body: Body, limit: usize, grace: Duration, pace: u64) -> Result<Bytes, BodyError> {
    let started = Instant::now();
    let mut chunks = body.into_data_stream();
    let mut whole = BytesMut::new();
    let mut first = None;
    loop {
        let received = (first.as_ref().map_or(0, Bytes::len) + whole.len()) as u64;
        let deadline = started + grace + Duration::from_secs(received / pace);
        let next = timeout_at(deadline, chunks.next()).await.map_err(|_| BodyError::TooSlow)?;
        let Some(chunk) = next else { break };
        let chunk = chunk.map_err(|_| BodyError::CutShort)?;
        if received + chunk.len() as u64 > limit as u64 {
            return Err(BodyError::TooLarge { limit, when: "as sent" });
        }
        // A body of one chunk is not copied.
        match first.take() {
            None if whole.is_empty() => first = Some(chunk),
            None => whole.extend_from_slice(&chunk),
            Some(one) => {
                whole.extend_from_slice(&one);
                whole.extend_from_slice(&chunk);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

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

/// Reads up to the limit. Room is doubled as it is needed, but never past the limit, as a growing vector would.
fn read_bounded(mut decoder: impl Read, limit: usize) -> std::io::Result<Result<Bytes, BodyError>> {
    let mut out = Vec::new();
    loop {
        let room = out.len().max(ROOM_BYTES_MIN).min(limit + 1 - out.len());
        out.reserve_exact(room);
        let read = decoder.by_ref().take(room as u64).read_to_end(&mut out)?;
        if out.len() > limit {
            return Ok(Err(BodyError::TooLarge { limit, when: "when decompressed" }));
        }
        if read < room {
            return Ok(Ok(Bytes::from(out)));
        }
    }
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
    fn bodies_up_to_the_limit_are_read_without_room_for_more() {
        let limit = (1 << 20) + 17;
        for len in [0, 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, limit - 1, limit] {
            let plain = vec![b'x'; len];
            let read = decompress(Some("gzip"), gzip(&plain), limit).expect("within the limit");
            assert_eq!(read.len(), len);
            let room = read.try_into_mut().expect("nobody else holds it").capacity();
            assert!(room <= (limit + 1).min(2 * len.max(ROOM_BYTES_MIN)), "{room} for {len}");
        }
        let too_much = decompress(Some("gzip"), gzip(&vec![b'x'; limit + 1]), limit);
        assert!(matches!(too_much, Err(BodyError::TooLarge { .. })));
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = gzip(&vec![0; 32 << 20]);
        assert!(bomb.len() < 1 << 20);
        assert!(matches!(decompress(Some("gzip"), bomb, 1 << 20), Err(BodyError::TooLarge { .. })));
    }

    /// Twenty chunks, one every 20 ms.
    fn paced(bytes: usize) -> Body {
        let chunks = futures::stream::unfold(0, move |sent| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            (sent < 20).then(|| (Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; bytes])), sent + 1))
        });
        Body::from_stream(chunks)
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_given_up_and_a_slow_link_is_not() {
        let grace = Duration::from_millis(100);
        assert_eq!(collect(paced(10), 1 << 20, grace, 1000).await, Err(BodyError::TooSlow));
        assert_eq!(collect(paced(10_000), 1 << 20, grace, 1000).await.expect("read").len(), 200_000);
        let too_much = BodyError::TooLarge { limit: 50_000, when: "as sent" };
        assert_eq!(collect(paced(10_000), 50_000, grace, 1000).await, Err(too_much));
    }

    #[tokio::test]
    async fn a_body_in_chunks_is_read_in_order() {
        for parts in [vec![], vec!["one"], vec!["one", "two", "three"]] {
            let whole = parts.concat();
            let chunks = parts.into_iter().map(|part| Ok::<_, std::io::Error>(Bytes::from_static(part.as_bytes())));
            let body = Body::from_stream(futures::stream::iter(chunks));
            assert_eq!(collect(body, 100, GRACE, PACE_BYTES).await.expect("read"), whole);
        }
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
