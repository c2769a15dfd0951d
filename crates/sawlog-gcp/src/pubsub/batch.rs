//! Many messages as one body, and what cannot be part of one.
//!
//! For: decompressing what says that it is compressed, within a limit. Not for: acknowledging.

use std::io::Read;

use google_cloud_pubsub::model::Message as Received;
use sawlog_core::limits::MESSAGE_BYTES_MAX;
use sawlog_core::pubsub::{Message, body_of_messages};

/// Attributes that name the compression of the data.
const COMPRESSION_ATTRIBUTES: [&str; 2] = ["content-encoding", "compression"];

/// A message that is ready for a body.
#[derive(Debug)]
pub(super) struct Ready {
    message: Received,
    /// Its data if they were compressed.
    data: Option<Vec<u8>>,
}

impl Ready {
    /// Decompresses a message where its attributes say how. Data that are not compressed as they say, or become too large,
    /// stay as they are, and become dead letters if they are no records.
    pub(super) fn new(mut message: Received) -> Self {
        let named = COMPRESSION_ATTRIBUTES.iter().find_map(|name| message.attributes.get_key_value(*name));
        let named = named.map(|(name, value)| (name.clone(), value.to_ascii_lowercase()));
        let data = match named.as_ref().map(|(_, value)| value.as_str()) {
            Some("gzip" | "x-gzip") => read_within_limit(flate2::read::MultiGzDecoder::new(message.data.as_ref())),
            Some("zstd") => zstd::stream::read::Decoder::new(message.data.as_ref()).ok().and_then(read_within_limit),
            _ => None,
        };
        if data.is_some()
            && let Some((name, _)) = named
        {
            message.attributes.remove(&name);
        }
        Self { message, data }
    }

    /// Bytes of its data.
    pub(super) fn len(&self) -> usize {
        self.data().len()
    }

    /// When the service received it, UTC microseconds.
    pub(super) fn published(&self) -> Option<i64> {
        let time = self.message.publish_time.as_ref()?;
        Some(time.seconds() * 1_000_000 + i64::from(time.nanos()) / 1_000)
    }

    fn data(&self) -> &[u8] {
        self.data.as_deref().unwrap_or(&self.message.data)
    }

    fn as_message(&self) -> Message<'_> {
        Message {
            data: self.data(),
            attributes: self.message.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            message_id: &self.message.message_id,
            publish_time: self.published().unwrap_or(0),
            ordering_key: &self.message.ordering_key,
        }
    }
}

/// The messages as one body.
pub(super) fn body(messages: &[Ready]) -> Vec<u8> {
    body_of_messages(messages.iter().map(Ready::as_message))
}

/// What a decoder gives; `None` when its input is broken, or what it gives is too large.
fn read_within_limit(decoder: impl Read) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    let read = decoder.take(MESSAGE_BYTES_MAX as u64 + 1).read_to_end(&mut data);
    (read.is_ok() && data.len() <= MESSAGE_BYTES_MAX).then_some(data)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).expect("memory");
        encoder.finish().expect("memory")
    }

    fn message(data: Vec<u8>, encoding: &str) -> Received {
        Received::new().set_data(data).set_attributes([("content-encoding", encoding), ("team", "a")])
    }

    #[test]
    fn compressed_data_are_read_and_the_attribute_goes_with_the_compression() {
        let zstd = zstd::encode_all(&b"{\"message\":\"x\"}"[..], 1).expect("memory");
        for message in [message(gzip(b"{\"message\":\"x\"}"), "gzip"), message(zstd, "ZSTD")] {
            let ready = Ready::new(message);
            assert_eq!(ready.data(), b"{\"message\":\"x\"}");
            assert_eq!(ready.as_message().attributes, [("team", "a")]);
        }
        let broken = Ready::new(message(b"{\"message\":\"y\"}".to_vec(), "gzip"));
        assert_eq!(broken.data(), b"{\"message\":\"y\"}");
    }

    #[test]
    fn what_grows_too_large_stays_compressed() {
        let bomb = gzip(&vec![b' '; MESSAGE_BYTES_MAX + 1]);
        let ready = Ready::new(message(bomb.clone(), "gzip"));
        assert_eq!(ready.data(), bomb);
        assert!(ready.as_message().attributes.contains(&("content-encoding", "gzip")), "it says what the data are");
    }
}
