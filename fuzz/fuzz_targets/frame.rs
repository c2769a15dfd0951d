//! Any bytes as a frame of the event log: refused, or read to what gives the same when written and read again.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/sawlog-stream/src/frame.rs"]
#[expect(dead_code, reason = "batches are transformed elsewhere")]
mod frame;

use frame::Frame;

fuzz_target!(|input: &[u8]| {
    if let Ok(read) = Frame::decode(&Bytes::copy_from_slice(input)) {
        assert_eq!(Frame::decode(&read.encode()).expect("what was written is read"), read);
    }
});
