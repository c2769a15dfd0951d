//! Postgres' SQL: statements as its clients write them, and the catalog that they read.
//!
//! For: splitting what a client sends into queries (which run under the same guard, limits and view as every other
//! query) and session statements (which touch nothing but the session), and giving queries `pg_catalog`. Not for: the
//! wire protocol (`sawlog-server`). Rewriting of what DataFusion does not know (`OPERATOR(pg_catalog.~)`, `::regclass`,
//! …) is left to `datafusion-pg-catalog`, which is fed only after the guard's limits on size and nesting.

pub(crate) mod catalog;
mod functions;
mod statement;

pub use functions::setting_default;
pub use statement::{ReadStatement, SessionStatement, Statement, parse};
