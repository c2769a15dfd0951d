//! Any bytes as a syslog stream over TCP: the same frames in whatever pieces they come, none over the limit.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/sawlog-server/src/receive/syslog/framing.rs"]
mod framing;

use framing::{Frame, Framer};

const BYTES_MAX: usize = 100;

fuzz_target!(|input: (&[u8], u8)| {
    let (stream, piece) = input;
    let whole = frames(stream, stream.len().max(1));
    assert_eq!(frames(stream, usize::from(piece).max(1)), whole);
    for frame in &whole {
        let is_bounded =
            matches!(frame, Frame::Oversize) || matches!(frame, Frame::Message(bytes) if bytes.len() <= BYTES_MAX);
        assert!(is_bounded, "{frame:?}");
    }
    let kept: usize = whole.iter().map(|frame| if let Frame::Message(bytes) = frame { bytes.len() } else { 0 }).sum();
    assert!(kept <= stream.len(), "nothing is made up");
});

fn frames(stream: &[u8], piece: usize) -> Vec<Frame> {
    let mut framer = Framer::new(BYTES_MAX);
    let mut found = Vec::new();
    for bytes in stream.chunks(piece) {
        framer.push(bytes);
        found.extend(std::iter::from_fn(|| framer.next()));
    }
    found.extend(framer.finish());
    found
}
