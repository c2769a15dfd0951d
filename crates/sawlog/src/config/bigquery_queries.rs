//! What queries of BigQuery may read, how long they may run, and what they cost.
//!
//! For: the settings `query-bytes-max`, `query-time-max` and `price-per-tib` of `[gcp.bigquery]`. Not for: running queries
//! (`sawlog_gcp`).

use std::time::Duration;

use toml::Value;

use super::values::{ByteSize, FromSetting, HumanDuration};

/// Most bytes that one query may bill.
const BYTES_MAX: u64 = 100 << 30;
/// Longest run of one query.
const TIME_MAX: Duration = Duration::from_secs(300);
/// Dollars for a TiB on demand (docs/gcp/bigquery.md says where it comes from).
const DOLLARS_PER_TIB: f64 = 6.25;
const TIB: f64 = (1u64 << 40) as f64;

/// What queries of BigQuery may read, how long they may run, and what they cost.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BigQueryQueries {
    /// Most bytes that one query may bill.
    pub(crate) bytes_max: u64,
    /// Longest run of one query.
    pub(crate) time_max: Duration,
    dollars_per_tib: f64,
}

/// The settings as they are written.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    pub(super) query_bytes_max: Option<Value>,
    pub(super) query_time_max: Option<Value>,
    pub(super) price_per_tib: Option<Value>,
}

impl BigQueryQueries {
    /// Reads the settings. `note` gets the name, the value and the remedy of each mistake.
    pub(super) fn read(written: &Written, mut note: impl FnMut(&str, String, &str)) -> Self {
        let mut queries = Self { bytes_max: BYTES_MAX, time_max: TIME_MAX, dollars_per_tib: DOLLARS_PER_TIB };
        if let Some(value) = &written.query_bytes_max {
            match ByteSize::from_setting(value) {
                Ok(size) if size.bytes() > 0 => queries.bytes_max = size.bytes(),
                _ => note("query-bytes-max", format!("{value} is no size"), "write it like 100GiB"),
            }
        }
        if let Some(value) = &written.query_time_max {
            match HumanDuration::from_setting(value) {
                Ok(time) if !time.duration().is_zero() => queries.time_max = time.duration(),
                _ => note("query-time-max", format!("{value} is no duration"), "write it like 5m"),
            }
        }
        if let Some(value) = &written.price_per_tib {
            match f64::from_setting(value) {
                Ok(dollars) if dollars.is_finite() && dollars >= 0.0 => queries.dollars_per_tib = dollars,
                _ => note(
                    "price-per-tib",
                    format!("{value} is no price"),
                    "write dollars, like 6.25; 0 where slots are paid for",
                ),
            }
        }
        queries
    }

    /// What so many bytes cost, in words: `$0.0061 at $6.25 per TiB`.
    pub(crate) fn price(&self, bytes: u64) -> String {
        let dollars = bytes as f64 / TIB * self.dollars_per_tib;
        format!("${dollars:.4} at ${} per TiB", self.dollars_per_tib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (BigQueryQueries, Vec<String>) {
        let table: toml::Table = text.parse().expect("TOML");
        let value = |name: &str| table.get(name).cloned();
        let written = Written {
            query_bytes_max: value("query-bytes-max"),
            query_time_max: value("query-time-max"),
            price_per_tib: value("price-per-tib"),
        };
        let mut problems = Vec::new();
        let queries = BigQueryQueries::read(&written, |key, problem, _| problems.push(format!("{key}: {problem}")));
        (queries, problems)
    }

    #[test]
    fn bytes_have_a_price() {
        let (queries, problems) = read("");
        assert!(problems.is_empty() && queries.bytes_max == 100 << 30);
        assert_eq!(queries.price(1 << 40), "$6.2500 at $6.25 per TiB");
        assert_eq!(queries.price(1 << 30), "$0.0061 at $6.25 per TiB");
        let (queries, _) = read("price-per-tib = 8\nquery-bytes-max = \"1GiB\"\nquery-time-max = \"10s\"");
        assert_eq!((queries.price(1 << 39).as_str(), queries.bytes_max), ("$4.0000 at $8 per TiB", 1 << 30));
    }

    #[test]
    fn mistakes_are_named() {
        let (_, problems) = read("price-per-tib = -1\nquery-bytes-max = 0\nquery-time-max = \"soon\"");
        assert_eq!(
            problems,
            [
                "query-bytes-max: 0 is no size",
                "query-time-max: \"soon\" is no duration",
                "price-per-tib: -1 is no price",
            ]
        );
    }
}
