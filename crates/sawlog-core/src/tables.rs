//! The tables of every deployment, as each of its warehouses makes them.
//!
//! For: names, columns, partitions and sort order in one place, for Delta Lake, BigQuery and Spark alike. Not for: types of an
//! engine or where tables are kept.

use arrow_schema::SchemaRef;

use crate::reconciled::{self, Aggregate};
use crate::rollup::{self, Rollup};
use crate::schema::{self, Table};
use crate::{alert, anomaly, session};

/// What a warehouse must know of a table to store it.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Name in SQL and on disk.
    pub name: &'static str,
    /// Columns.
    pub schema: SchemaRef,
    /// Column of the time that rows are of: of the event, the window, the session; never null.
    pub time: &'static str,
    /// Column by whose values the table is partitioned, if it is.
    pub partition: Option<&'static str>,
    /// Sort order inside a file.
    pub clustering: &'static [&'static str],
    /// Columns with a bloom filter in each file.
    pub bloom: &'static [&'static str],
}

/// Name of the table of what the detectors say of each series and window.
pub const ANOMALY_TABLE: &str = "anomaly_scores";
/// Name of the table of what alert rules tell.
pub const ALERT_TABLE: &str = "alert_events";

/// Name of the ledger table.
pub const LEDGER_TABLE: &str = "sawlog_ledger";

impl TableSpec {
    /// The tables of every deployment: events, dead letters, the ledger, the panes of rollups and sessions, verdicts, and
    /// what batch jobs make of history.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut specs: Vec<Self> = Table::ALL.into_iter().map(Self::of).collect();
        specs.push(Self {
            name: LEDGER_TABLE,
            schema: schema::ledger_schema(),
            time: "receive_minute",
            partition: None,
            clustering: &["receive_minute", "source"],
            bloom: &[],
        });
        specs.extend(Rollup::ALL.into_iter().map(|rollup| Self {
            name: rollup.pane_table(),
            schema: rollup::pane_schema(rollup),
            time: "window_start",
            partition: Some(schema::PARTITION_COLUMN),
            clustering: rollup.clustering(),
            bloom: &[],
        }));
        specs.push(Self {
            name: session::PANE_TABLE,
            schema: session::session_schema(),
            time: "session_start",
            partition: Some(schema::PARTITION_COLUMN),
            clustering: session::CLUSTERING,
            bloom: &["user_id", "session_key"],
        });
        specs.push(Self {
            name: ANOMALY_TABLE,
            schema: anomaly::anomaly_schema(),
            time: "window_start",
            partition: Some(schema::PARTITION_COLUMN),
            clustering: &["signal", "service", "window_start"],
            bloom: &[],
        });
        specs.push(Self {
            name: ALERT_TABLE,
            schema: alert::alert_schema(),
            time: "at",
            partition: Some(schema::PARTITION_COLUMN),
            clustering: &["rule", "at"],
            bloom: &[],
        });
        specs.extend(Aggregate::ALL.map(|aggregate| Self {
            name: aggregate.batch_table(),
            schema: aggregate.batch_schema(),
            time: "window_start",
            partition: Some(schema::PARTITION_COLUMN),
            clustering: aggregate.clustering(),
            bloom: &[],
        }));
        specs.push(Self {
            name: reconciled::CONTROL_TABLE,
            schema: reconciled::control_schema(),
            time: "reconciled_at",
            partition: None,
            clustering: &["aggregate", "reconciled_at"],
            bloom: &[],
        });
        specs
    }

    fn of(table: Table) -> Self {
        Self {
            name: table.name(),
            schema: table.schema(),
            time: if table == Table::DeadLetters { "receive_time" } else { "event_time" },
            partition: Some(schema::PARTITION_COLUMN),
            clustering: table.clustering(),
            bloom: table.bloom_columns(),
        }
    }
}
