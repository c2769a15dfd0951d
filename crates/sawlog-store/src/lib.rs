//! Embedded storage behind the seams: the raw lake, Delta Lake tables and the serving store.
//!
//! For: keeping what the pipeline hands over, so that any Delta reader, Parquet reader or row-key lookup finds it. Not
//! for: the write-ahead log (`sawlog-wal`), planning queries (`sawlog-query`) or deciding when to flush
//! (`sawlog-stream`).

mod lake;
mod serving;
mod synced;
mod warehouse;

pub use lake::LocalLake;
pub use serving::FjallServing;
pub use warehouse::DeltaWarehouse;
