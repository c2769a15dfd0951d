//! The pure transform core of Sawlog.
//!
//! For: turning raw payloads into typed Arrow batches and dead letters, the same way in the `sawlog` binary, in Beam
//! workers and in Spark executors. Not for: I/O, clocks, threads or async; receive time is an input.
//!
//! ```
//! use sawlog_core::batch::{AgeLimits, Format, RawBatch};
//! use sawlog_core::rules::Rules;
//! use sawlog_core::schema::Table;
//!
//! let batch = RawBatch {
//!     batch_id: "b1",
//!     source: "docs",
//!     file: None,
//!     format: Format::Json,
//!     is_declared: true,
//!     receive_time: 1_795_489_200_000_000,
//!     age: AgeLimits::default(),
//!     body: b"{\"message\":\"payment failed\",\"level\":\"error\",\"service\":\"checkout\"}\n{broken",
//! };
//! let rows = sawlog_core::transform::transform(&batch, &Rules::none())?;
//! assert_eq!(rows.tables[Table::Logs as usize].num_rows(), 1);
//! assert_eq!(rows.tables[Table::DeadLetters as usize].num_rows(), 1);
//! assert!(rows.counts.closes());
//! # Ok::<(), sawlog_core::transform::TransformError>(())
//! ```

pub mod alert;
pub mod anomaly;
pub mod batch;
pub mod bigquery;
pub mod bigtable;
pub mod csv;
pub mod dedup;
pub mod defect;
pub mod deploys;
mod enrich;
pub mod family;
mod fields;
pub mod fixed_sum;
mod glob;
pub mod hyperloglog;
pub mod lake;
pub mod lateness;
pub mod ledger;
pub mod limits;
pub mod log_entry;
mod otlp_json;
mod otlp_metric;
mod otlp_split;
mod otlp_value;
mod otlp_wire;
mod parse_access;
mod parse_json;
mod parse_logfmt;
mod parse_otlp;
mod parse_syslog;
mod parse_text;
pub mod pubsub;
pub mod reconciled;
pub mod record;
mod redact;
pub mod rollup;
pub mod rowkey;
mod rows;
pub mod rules;
pub mod schema;
pub mod session;
mod severity;
#[cfg(test)]
mod shown;
pub mod signature;
pub mod sketch;
mod state_cell;
pub mod tables;
pub mod time;
pub mod timeline;
pub mod top_k;
pub mod transform;
pub mod users;
mod value;
mod varint;
pub mod watermark;
pub mod window;

pub use state_cell::StateCell;
