//! Publishing records as messages of a topic.
//!
//! For: many messages under way at once, within a limit, in order by key. Not for: reading files or choosing keys.

use std::collections::VecDeque;

use bytes::Bytes;
use google_cloud_pubsub::client::Publisher;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::publisher::PublishFuture;

use crate::access::Access;

/// Messages under way.
const MESSAGES_MAX: usize = 10_000;
/// Bytes under way.
const BYTES_MAX: usize = 64 << 20;
/// Largest data of a message that the service takes.
pub const DATA_BYTES_MAX: usize = 10_000_000;

/// A message to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Its data.
    pub data: Bytes,
    /// Its attributes.
    pub attributes: Vec<(String, String)>,
    /// Messages of one key arrive in order at subscriptions that keep order; empty for none.
    pub ordering_key: String,
}

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There is no client: the endpoint or the credentials cannot be used.
    #[error("Pub/Sub cannot be reached: {0}")]
    Client(String),
    /// The service did not take it, however often it was tried.
    #[error("message {number} (from 1) was not published: {problem}; those before it were")]
    Refused {
        /// Its place among all messages.
        number: u64,
        /// What the service said.
        problem: String,
    },
}

/// Publishes to one topic.
pub struct TopicPublisher {
    publisher: Publisher,
    /// Futures and sizes of messages under way, oldest first.
    under_way: VecDeque<(PublishFuture, usize)>,
    bytes: usize,
    done: u64,
}

impl TopicPublisher {
    /// A publisher of a topic, `projects/PROJECT/topics/NAME`.
    ///
    /// # Errors
    /// When there is no client.
    pub async fn connect(topic: &str, access: &Access) -> Result<Self, PublishError> {
        let mut builder = Publisher::builder(topic).set_message_count_threshold(1_000);
        if let Some(endpoint) = &access.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(credentials) = access.credentials() {
            builder = builder.with_credentials(credentials);
        }
        let publisher = builder.build().await.map_err(|error| PublishError::Client(error.to_string()))?;
        Ok(Self { publisher, under_way: VecDeque::new(), bytes: 0, done: 0 })
    }

    /// Publishes a message, when there is room for it among those under way.
    ///
    /// # Errors
    /// When an earlier message was not published.
    pub async fn publish(&mut self, message: Outgoing) -> Result<(), PublishError> {
        let size = message.data.len();
        while !self.under_way.is_empty() && (self.under_way.len() >= MESSAGES_MAX || self.bytes + size > BYTES_MAX) {
            self.finish_one().await?;
        }
        let model = Message::new()
            .set_data(message.data)
            .set_attributes(message.attributes)
            .set_ordering_key(message.ordering_key);
        self.under_way.push_back((self.publisher.publish(model), size));
        self.bytes += size;
        Ok(())
    }

    /// Waits until all messages are published. Returns how many they are.
    ///
    /// # Errors
    /// When one was not published.
    pub async fn finish(mut self) -> Result<u64, PublishError> {
        self.publisher.flush().await;
        while !self.under_way.is_empty() {
            self.finish_one().await?;
        }
        Ok(self.done)
    }

    async fn finish_one(&mut self) -> Result<(), PublishError> {
        let Some((published, size)) = self.under_way.pop_front() else { return Ok(()) };
        self.bytes -= size;
        self.done += 1;
        match published.await {
            Ok(_) => Ok(()),
            Err(error) => Err(PublishError::Refused { number: self.done, problem: error.to_string() }),
        }
    }
}
