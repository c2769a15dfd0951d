//! Receiving events: HTTP JSON and OTLP.

pub mod body;
pub(crate) mod events;
pub mod otlp;
