//! Cloud Pub/Sub as a source, and as a way for files into it.
//!
//! For: streaming pull of subscriptions, with flow control and lease extension by Google's client, and acknowledging each
//! message when its records are durable here. Not for: what a message becomes (`sawlog_core::pubsub`).
//!
//! `google-cloud-pubsub` (Google's own) does what a subscriber must: it keeps leases, batches acknowledgements, limits what is
//! under way in messages and bytes, and opens broken streams again. The tonic types alone would leave all of that to us.

mod backlog;
mod batch;
mod publish;
pub mod push;
mod seek;
pub mod service_backlog;
mod source;

pub use publish::{DATA_BYTES_MAX, Outgoing, PublishError, TopicPublisher};
pub use seek::{SeekError, SeekPlan, SeekTarget, Seeker};
pub use source::{PubsubOptions, PubsubState, serve};
