//! Finding messages in a stream (RFC 6587).
//!
//! For: octet counting (`LENGTH MESSAGE`) and trailers (line feed, or NUL as some libraries write), told apart for each
//! frame, since senders mix them. Not for: what a message says. Invariants: no byte is looked for a trailer twice; no more
//! than one frame is held, and nothing of a frame over the limit.

/// Digits of a length; more are no length but text.
const LENGTH_DIGITS_MAX: usize = 7;

/// What was found in a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A message.
    Message(Vec<u8>),
    /// A message over the limit; its bytes are skipped.
    Oversize,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// At the start of a frame or inside it.
    Frame,
    /// Inside an oversize frame of known length.
    SkipBytes(usize),
    /// Inside an oversize frame that ends with a trailer.
    SkipLine,
}

/// How a frame begins.
enum Head {
    /// With its length: bytes of the message, bytes of the head.
    Counted(usize, usize),
    /// With too few bytes to tell.
    Unsure,
    /// With the message.
    Plain,
}

/// Splits one stream.
#[derive(Debug)]
pub(super) struct Framer {
    buffer: Vec<u8>,
    /// Bytes of the buffer that are done with.
    start: usize,
    /// Bytes after them that hold no trailer.
    scanned: usize,
    state: State,
    bytes_max: usize,
}

impl Framer {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, scanned: 0, state: State::Frame, bytes_max }
    }

    /// Adds bytes of the stream. To be followed by [`Framer::next`] until it gives nothing.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The next frame that is whole.
    pub(super) fn next(&mut self) -> Option<Frame> {
        loop {
            match self.state {
                State::SkipBytes(rest) => {
                    let skipped = rest.min(self.rest().len());
                    self.consume(skipped);
                    if skipped < rest {
                        self.state = State::SkipBytes(rest - skipped);
                        return None;
                    }
                    self.state = State::Frame;
                }
                State::SkipLine => match self.trailer() {
                    Some(end) => {
                        self.consume(end);
                        self.state = State::Frame;
                    }
                    None => {
                        self.consume(self.rest().len());
                        return None;
                    }
                },
                State::Frame => return self.frame(),
            }
        }
    }

    /// What is left at the end of the stream: a message without its end is kept as far as it came.
    pub(super) fn finish(mut self) -> Option<Frame> {
        if self.state != State::Frame {
            return None;
        }
        if let Head::Counted(_, head) = head(self.rest()) {
            self.consume(head);
        }
        (!self.rest().is_empty()).then(|| Frame::Message(self.rest().to_vec()))
    }

    fn frame(&mut self) -> Option<Frame> {
        if self.scanned == 0 {
            let between = self.rest().iter().take_while(|byte| matches!(byte, b'\n' | b'\r' | b'\0' | b' ')).count();
            self.consume(between);
        }
        match head(self.rest()) {
            Head::Unsure => None,
            Head::Counted(len, head) if len > self.bytes_max => {
                self.consume(head);
                self.state = State::SkipBytes(len);
                Some(Frame::Oversize)
            }
            Head::Counted(len, head) if self.rest().len() < head + len => None,
            Head::Counted(len, head) => {
                self.consume(head);
                Some(Frame::Message(self.take(len)))
            }
            Head::Plain => match self.trailer() {
                Some(end) if end > self.bytes_max => {
                    self.consume(end);
                    Some(Frame::Oversize)
                }
                Some(end) => Some(Frame::Message(self.take(end))),
                None if self.rest().len() > self.bytes_max => {
                    self.consume(self.rest().len());
                    self.state = State::SkipLine;
                    Some(Frame::Oversize)
                }
                None => None,
            },
        }
    }

    /// Place of the next trailer.
    fn trailer(&mut self) -> Option<usize> {
        let found = self.rest()[self.scanned..].iter().position(|byte| matches!(byte, b'\n' | b'\0'));
        let end = found.map(|ahead| self.scanned + ahead);
        self.scanned = end.unwrap_or(self.rest().len());
        end
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        self.scanned = 0;
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.rest()[..count].to_vec();
        self.consume(count);
        taken
    }
}

/// A length is digits, a space, and then the `<` that every message with a length starts with.
fn head(bytes: &[u8]) -> Head {
    let digits = bytes.iter().take(LENGTH_DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if bytes.first() == Some(&b'0') || digits > LENGTH_DIGITS_MAX {
        return Head::Plain;
    }
    match (digits, bytes.get(digits), bytes.get(digits + 1)) {
        (0, None, _) | (1.., None, _) | (1.., Some(b' '), None) => Head::Unsure,
        (1.., Some(b' '), Some(b'<')) => {
            let len = bytes[..digits].iter().fold(0, |len, digit| len * 10 + usize::from(digit - b'0'));
            Head::Counted(len, digits + 1)
        }
        _ => Head::Plain,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frames of a stream that comes in pieces of a size; `!` for an oversize one.
    fn frames(stream: &[u8], piece: usize) -> Vec<String> {
        let mut framer = Framer::new(20);
        let mut found = Vec::new();
        let mut add = |frame| match frame {
            Frame::Message(bytes) => found.push(String::from_utf8_lossy(&bytes).into_owned()),
            Frame::Oversize => found.push("!".to_owned()),
        };
        for bytes in stream.chunks(piece) {
            framer.push(bytes);
            while let Some(frame) = framer.next() {
                add(frame);
            }
            assert!(framer.rest().len() <= 20 + LENGTH_DIGITS_MAX + 2, "no more than a frame is held");
        }
        framer.finish().into_iter().for_each(add);
        found
    }

    #[track_caller]
    fn check(stream: &str, expected: &[&str]) {
        for piece in [1, 2, 3, 7, stream.len().max(1)] {
            assert_eq!(frames(stream.as_bytes(), piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn counted_and_ended_frames_are_told_apart_for_each_frame() {
        check(
            "<1>a\n<2>b\r\n7 <3>c\nd\n<4>e\0\n5 <5>f 6 <6>gh\n",
            &["<1>a", "<2>b\r", "<3>c\nd\n", "<4>e", "<5>f ", "<6>gh\n"],
        );
    }

    #[test]
    fn numbers_that_are_no_lengths_are_text() {
        check(
            "12 monkeys\n2026-01-01 x\n007 <1>a\n123456789 <1>\n",
            &["12 monkeys", "2026-01-01 x", "007 <1>a", "123456789 <1>"],
        );
    }

    #[test]
    fn what_is_too_long_costs_only_itself() {
        let long = "x".repeat(50);
        check(&format!("<1>{long}\n<2>b\n"), &["!", "<2>b"]);
        check(&format!("53 <1>{long}4 <2>b"), &["!", "<2>b"]);
        check(&format!("<1>a\n{long}"), &["<1>a", "!"]);
    }

    #[test]
    fn a_message_that_is_cut_off_is_kept_as_far_as_it_came() {
        check("<1>a\n<2>b", &["<1>a", "<2>b"]);
        check("9 <1>a", &["<1>a"]);
        check("12", &["12"]);
        check("\n\n\0 ", &[]);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(stream in proptest::collection::vec(prop_oneof![
            Just(b'<'), Just(b' '), Just(b'\n'), Just(0), b'0'..=b'9', any::<u8>()
        ], 0..200), piece in 1..50usize) {
            prop_assert_eq!(frames(&stream, piece.min(20)), frames(&stream, 1));
        }
    }
}
