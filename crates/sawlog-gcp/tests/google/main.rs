//! Seams on doubles of Google's services: the contract tests, and what only a service can do.

mod bigquery;
mod bigquery_read;
mod bigtable;
mod dataflow;
mod double;
mod logging;
mod pubsub;
mod storage;
mod world;
