//! A limit on the size of a client's messages.
//!
//! For: ending a connection whose next message announces more bytes than any query needs, before they are buffered. Not
//! for: reading messages, which `pgwire` does. Every message begins with its length; only the first ones (a request for
//! encryption, the start of the session) have no letter before it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Largest message, bytes: a query and its parameters.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 20;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// A connection that counts along.
#[derive(Debug)]
pub(super) struct Limited<S> {
    stream: S,
    lengths: Lengths,
}

impl<S> Limited<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, lengths: Lengths::default() }
    }
}

/// Where in the sequence of messages the last byte was.
#[derive(Debug, Default)]
struct Lengths {
    is_started: bool,
    header: Vec<u8>,
    /// Bytes of the message that are still to come.
    body: usize,
}

impl Lengths {
    /// Follows some bytes; `false` when a message is too long or has an impossible length.
    fn follow(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.body > 0 {
                let skipped = self.body.min(bytes.len());
                self.body -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            // A letter and a length, or a length and the code of the request.
            let header_bytes = if self.is_started { 5 } else { 8 };
            let taken = (header_bytes - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.header.len() == header_bytes && !self.end_header() {
                return false;
            }
        }
        true
    }

    fn end_header(&mut self) -> bool {
        let number = |at: usize| {
            u32::from_be_bytes([self.header[at], self.header[at + 1], self.header[at + 2], self.header[at + 3]])
        };
        let (length, counted) = if self.is_started { (number(1) as usize, 4) } else { (number(0) as usize, 8) };
        if !self.is_started {
            self.is_started = ![SSL_REQUEST, GSS_REQUEST].contains(&number(4));
        }
        self.header.clear();
        self.body = length.saturating_sub(counted);
        (counted..=MESSAGE_BYTES_MAX).contains(&length)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if matches!(polled, Poll::Ready(Ok(()))) && !self.lengths.follow(&buffer.filled()[before..]) {
            let problem = format!("a message of a Postgres client is longer than {MESSAGE_BYTES_MAX} bytes");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, problem)));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(code: u32, body: &[u8]) -> Vec<u8> {
        [&(8 + body.len() as u32).to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    fn message(letter: u8, length: u32, body: &[u8]) -> Vec<u8> {
        [&[letter][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn messages_pass_however_they_are_cut() {
        let bytes = [
            first(SSL_REQUEST, b""),
            first(GSS_REQUEST, b""),
            first(196_608, b"user\0me\0\0"),
            message(b'Q', 13, b"SELECT 1\0"),
            message(b'S', 4, b""),
            message(b'X', 4, b""),
        ]
        .concat();
        for size in 1..=bytes.len() {
            let mut lengths = Lengths::default();
            assert!(bytes.chunks(size).all(|chunk| lengths.follow(chunk)), "in pieces of {size}");
            assert!(lengths.body == 0 && lengths.header.is_empty() && lengths.is_started);
        }
    }

    #[test]
    fn a_long_or_impossible_message_is_noticed_by_its_header() {
        for length in [MESSAGE_BYTES_MAX as u32 + 1, u32::MAX, 3, 0] {
            let mut lengths = Lengths::default();
            assert!(lengths.follow(&first(196_608, b"")));
            assert!(!lengths.follow(&message(b'Q', length, b"")), "{length}");
        }
        assert!(!Lengths::default().follow(&[0, 0, 0, 4, 0, 3, 0, 0]));
        assert!(!Lengths::default().follow(b"GET / HTTP/1.1"));
    }
}
