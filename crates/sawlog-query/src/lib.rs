//! SQL over everything the server holds, as one consistent picture.
//!
//! For: planning and running SELECTs over rows in memory, Delta files and rollup cells, within limits, on threads and
//! memory of their own, so that no query stops ingest. Not for: HTTP or wire protocols (`sawlog-server`) or writing
//! files (`sawlog-store`). It is the one crate that knows DataFusion.

mod deploys;
mod engine;
pub mod filter;
mod first_versions;
mod functions;
mod give_way;
mod guard;
mod latest_panes;
mod output;
pub mod postgres;
mod pushdown;
mod reconciled;
mod remote_table;
mod rollup_table;
pub mod search;
mod sessions;
mod stream;
pub mod summary;
mod table;
pub mod timeline;

pub use deploys::DeploysQuery;
pub use engine::{Cut, QueryEngine, QueryError, QueryLimits, QueryResult};
pub use output::{OutputFormat, encode, json_page, json_rows, json_texts};
pub use stream::{Description, ParameterValue, QueryStream};
