//! Cloud Storage as the lake.
//!
//! For: objects below a folder of a bucket, and a local spool that takes them while the service is away. Not for: what is
//! in an object (`sawlog-stream`), or when one goes (retention).
//!
//! `object_store` does the calls of the XML interface. Deadlines, repeats and what an answer means are decided here, since
//! only the lake knows that its puts may be repeated.

mod content;
mod copy;
mod counts;
mod errors;
mod lake;
mod retry;
mod spool;
mod transport;
mod upload;

pub use copy::{Copied, copy};
pub use lake::{GcsLake, GcsLakeOptions, OpenLakeError};
pub use spool::{OpenSpoolError, SpoolOptions, SpoolStats, SpooledLake};
