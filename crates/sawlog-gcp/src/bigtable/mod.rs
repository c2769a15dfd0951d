//! Bigtable behind the serving seam.
//!
//! For: cells that outlive the machine they were made on and that other processes read. A worker keeps its own copy, which
//! answers at once and in isolation, and writes Bigtable first ([`BigtableServing`]); a process without a copy reads
//! Bigtable itself ([`BigtableSnapshot`]). Not for: keys and times of cells (`sawlog_core::bigtable`).
//! Layout and guarantees: docs/formats/bigtable.md, docs/gcp/bigtable.md.
//!
//! The client is made of the protocol's types: Google has none for Rust, and the ones of others lack administration,
//! retries of single entries, or this version of tonic.

mod admin;
mod cells;
mod client;
mod error;
mod filters;
mod inspect;
mod merge;
mod options;
mod owner;
mod position;
mod read;
mod restore;
mod rows;
mod snapshot;
mod store;
mod write;

pub use admin::TableChange;
pub use client::Bigtable;
pub use error::BigtableError;
pub use options::BigtableOptions;
pub use snapshot::BigtableSnapshot;
pub use store::BigtableServing;
