//! Syslog over UDP and TCP (RFC 5424, RFC 3164, RFC 6587).
//!
//! For: taking messages from programs and devices that speak syslog, bounding what waits, and handing batches to the
//! pipeline. Not for: reading a message (`sawlog-core`), opening ports, or TLS. Syslog has no acknowledgement and no keys:
//! what is taken is durable a moment later, what cannot be taken is counted, and over TCP the sender is made to wait.
//! Invariant: memory is bounded by the queue of each transport and by one frame for each connection.

mod framing;
mod intake;
mod message;
mod tcp;
mod udp;

use std::sync::Arc;

use sawlog_core::batch::AgeLimits;
use sawlog_seams::Clock;
use sawlog_stream::Pipeline;
use sawlog_telemetry::Metrics;

pub use tcp::serve as serve_tcp;
pub use udp::serve as serve_udp;

/// Name of the UDP source in the ledger.
pub const UDP_SOURCE: &str = "syslog-udp";
/// Name of the TCP source in the ledger.
pub const TCP_SOURCE: &str = "syslog-tcp";

/// What the syslog listeners share.
pub struct SyslogState {
    /// Takes the messages.
    pub pipeline: Arc<Pipeline>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Tells the time for messages that do not.
    pub clock: Arc<dyn Clock>,
    /// Accepted event times.
    pub age: AgeLimits,
    /// Largest message, bytes; a larger one is refused.
    pub message_bytes_max: usize,
    /// Connections at the same time; more are closed at once.
    pub connections_max: usize,
}
