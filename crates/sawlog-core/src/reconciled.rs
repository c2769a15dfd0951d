//! Aggregates of which batch jobs may replace days.
//!
//! For: the one definition of `v_error_rate`, `v_performance` and `v_activity`: their columns, and the query that takes the
//! rows of a batch run for the days that the control table names and streaming rows for all others. Embedded tables and
//! BigQuery run the same text. Not for: running it, or the batch jobs.
//!
//! Rules: a run's rows count from the moment at which the control table names the run for their day, all at once; of
//! several entries of a day the newest counts, and one without a run gives the day back to the streaming rows. Streaming
//! rows are the newest panes of complete windows of a minute, so that both engines show the same.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::rollup::{Rollup, Width, pane_schema};
use crate::schema::{PARTITION_COLUMN, time_type};

/// Name of the control table: which run counts for which day of which aggregate.
pub const CONTROL_TABLE: &str = "sawlog_reconciled";
/// Column of a batch table that names the run which a row is of.
const RUN: &str = "run_id";

/// An aggregate that has a streaming and a batch half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Log records, errors and warnings.
    ErrorRate,
    /// Requests, bytes, latency and Apdex.
    Performance,
    /// Events and users of activity.
    Activity,
}

impl Aggregate {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ErrorRate, Self::Performance, Self::Activity];

    /// Name in the control table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::Performance => "performance",
            Self::Activity => "activity",
        }
    }

    /// Name of the view.
    #[must_use]
    pub const fn view(self) -> &'static str {
        match self {
            Self::ErrorRate => "v_error_rate",
            Self::Performance => "v_performance",
            Self::Activity => "v_activity",
        }
    }

    /// Name of the table that batch jobs write.
    #[must_use]
    pub const fn batch_table(self) -> &'static str {
        match self {
            Self::ErrorRate => "batch_error_rate",
            Self::Performance => "batch_performance",
            Self::Activity => "batch_activity",
        }
    }

    /// Sort order of the batch table's files.
    #[must_use]
    pub const fn clustering(self) -> &'static [&'static str] {
        match self {
            Self::ErrorRate | Self::Performance => &["service", "http_route", "window_start"],
            Self::Activity => &["event_name", "window_start"],
        }
    }

    const fn rollup(self) -> Rollup {
        match self {
            Self::ErrorRate | Self::Performance => Rollup::Requests,
            Self::Activity => Rollup::Activity,
        }
    }

    const fn figures(self) -> &'static [&'static str] {
        match self {
            Self::ErrorRate => &["count", "error_count", "warning_count", "error_ratio"],
            Self::Performance => &[
                "request_count",
                "bytes",
                "duration_count",
                "duration_p50_us",
                "duration_p90_us",
                "duration_p99_us",
                "duration_p999_us",
                "apdex",
                "latency",
            ],
            Self::Activity => &["count", "user_count", "users"],
        }
    }

    /// Names of the view's columns: those of the panes that they are made of.
    fn columns(self) -> impl Iterator<Item = &'static str> {
        let parts = self.rollup().parts().iter().copied();
        let figures = self.figures().iter().copied();
        ["window_start", "window_end"].into_iter().chain(parts).chain(figures).chain([PARTITION_COLUMN])
    }

    fn fields(self) -> Vec<Field> {
        let panes = pane_schema(self.rollup());
        self.columns().filter_map(|name| panes.field_with_name(name).ok().cloned()).collect()
    }

    /// Columns of the view: the window (a minute), what it is of, the figures and the day of its start.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; Aggregate::ALL.len()]> =
            LazyLock::new(|| Aggregate::ALL.map(|aggregate| Arc::new(Schema::new(aggregate.fields()))));
        Arc::clone(&SCHEMAS[self as usize])
    }

    /// Columns of the batch table: the run, then those of the view.
    #[must_use]
    pub fn batch_schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; Aggregate::ALL.len()]> = LazyLock::new(|| {
            Aggregate::ALL.map(|aggregate| {
                let mut all = vec![Field::new(RUN, DataType::Utf8, false)];
                all.extend(aggregate.fields());
                Arc::new(Schema::new(all))
            })
        });
        Arc::clone(&SCHEMAS[self as usize])
    }

    /// The view as a query that `DataFusion` and `BigQuery` understand; `table` gives the name of a table in it.
    #[must_use]
    pub fn query(self, table: impl Fn(&str) -> String) -> String {
        let columns = |of: &str| self.columns().map(|name| format!("{of}.{name}")).collect::<Vec<_>>().join(", ");
        let newest = format!(
            "SELECT {PARTITION_COLUMN}, {RUN}, ROW_NUMBER() OVER \
             (PARTITION BY {PARTITION_COLUMN} ORDER BY reconciled_at DESC, {RUN} DESC) AS place \
             FROM {} WHERE aggregate = '{}'",
            table(CONTROL_TABLE),
            self.name()
        );
        let chosen = format!("(SELECT {PARTITION_COLUMN}, {RUN} FROM ({newest}) AS entries WHERE place = 1) AS chosen");
        format!(
            "SELECT {} FROM {} AS panes\n\
             LEFT JOIN {chosen} ON panes.{PARTITION_COLUMN} = chosen.{PARTITION_COLUMN}\n\
             WHERE panes.width = '{}' AND chosen.{RUN} IS NULL\n\
             UNION ALL\n\
             SELECT {} FROM {} AS batch\n\
             JOIN {chosen} ON batch.{PARTITION_COLUMN} = chosen.{PARTITION_COLUMN} AND batch.{RUN} = chosen.{RUN}",
            columns("panes"),
            table(&format!("{}_latest", self.rollup().pane_table())),
            Width::Minute.name(),
            columns("batch"),
            table(self.batch_table()),
        )
    }
}

/// Columns of the control table.
///
/// | column | |
/// |---|---|
/// | `aggregate` | [`Aggregate::name`] |
/// | `event_date` | the day (UTC) that the entry is about |
/// | `run_id` | the run whose rows count for it; null: the streaming rows |
/// | `reconciled_at` | when the entry was made; of several the newest counts |
/// | `note` | for people: why |
#[must_use]
pub fn control_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("aggregate", DataType::Utf8, false),
            Field::new(PARTITION_COLUMN, DataType::Date32, false),
            Field::new(RUN, DataType::Utf8, true),
            Field::new("reconciled_at", time_type(), false),
            Field::new("note", DataType::Utf8, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_a_view_is_one_of_its_panes() {
        for aggregate in Aggregate::ALL {
            let (wanted, found) = (aggregate.columns().count(), aggregate.schema().fields().len());
            assert_eq!(wanted, found, "{aggregate:?}");
            assert_eq!(aggregate.batch_schema().fields().len(), found + 1);
        }
    }
}
