//! Deploys: when a service got another version.
//!
//! For: telling events that announce a deploy, and reading a list of deploys that a user keeps. Not for: versions that
//! nobody announced, which the query engine finds in the rollups.

use crate::csv::{CsvError, Records};
use crate::time;

/// Names of events that announce a deploy: service, version and time are the event's.
pub const EVENT_NAMES: [&str; 2] = ["deploy", "deployment"];
/// Most deploys of one list.
const DEPLOYS_MAX: usize = 100_000;

/// One deploy of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deploy {
    /// When, UTC microseconds.
    pub time: i64,
    /// Which service.
    pub service: String,
    /// The version that it got.
    pub service_version: String,
    /// What its maker says of it.
    pub description: Option<String>,
}

/// Reads a CSV text with the columns `time`, `service`, `service_version` and perhaps `description`. Times are those that
/// events may have; one without a zone is UTC.
///
/// # Errors
/// The first mistake: a column that is missing, a wrong number of values, a time that is none, a service or version that is
/// empty, more than 100,000 deploys.
pub fn parse(text: &str) -> Result<Vec<Deploy>, CsvError> {
    let mut records = Records::new(text)?;
    let [time_column, service_column] = [records.required("time")?, records.required("service")?];
    let (version_column, description_column) = (records.required("service_version")?, records.column("description"));
    let mut deploys = Vec::new();
    while let Some((line, values)) = records.next()? {
        let written = values[time_column].as_ref();
        let (service, version) =
            (values[service_column].as_ref().to_owned(), values[version_column].as_ref().to_owned());
        let description = description_column.map(|column| values[column].as_ref().to_owned());
        let Some(time) = time::parse(written.trim().as_bytes(), 0) else {
            let hint = "write it like 2026-03-01T10:00:00Z";
            return Err(CsvError::new(line, format!("{written:.40?} is no time"), hint).in_column("time"));
        };
        for (name, value) in [("service", &service), ("service_version", &version)] {
            if value.is_empty() {
                return Err(CsvError::new(line, "the value is empty", "give it, or leave the line out").in_column(name));
            }
        }
        if deploys.len() == DEPLOYS_MAX {
            let problem = format!("there are more than {DEPLOYS_MAX} deploys");
            return Err(CsvError::new(line, problem, "leave the oldest ones out"));
        }
        let description = description.filter(|text| !text.is_empty());
        deploys.push(Deploy { time, service, service_version: version, description });
    }
    Ok(deploys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_with_and_without_descriptions() {
        let text = "time,service,service_version,description\n2026-03-01T10:00:00Z,shop,1.2,\"new, faster\"\n1772359201,shop,1.3,\n";
        let shop = |seconds: i64, version: &str, description: Option<&str>| Deploy {
            time: seconds * 1_000_000,
            service: "shop".to_owned(),
            service_version: version.to_owned(),
            description: description.map(str::to_owned),
        };
        let expected = [shop(1_772_359_200, "1.2", Some("new, faster")), shop(1_772_359_201, "1.3", None)];
        assert_eq!(parse(text).expect("a list"), expected);
        let bare = parse("service,time,service_version\nshop,2026-03-01T10:00:00Z,1.2\n").expect("a list");
        assert_eq!(bare, [shop(1_772_359_200, "1.2", None)]);
    }

    #[test]
    fn mistakes_have_their_line_and_column() {
        for (text, error) in [
            ("time,service\n", "line 1: there is no column \"service_version\""),
            ("time,service,service_version\nsoon,a,1\n", "line 2, column time: \"soon\" is no time"),
            ("time,service,service_version\n2026-03-01T10:00:00Z,,1\n", "line 2, column service: the value is empty"),
            ("time,service,service_version\n2026-03-01T10:00:00Z,a\n", "line 2: it has 2 values, the header has 3"),
        ] {
            let found = parse(text).expect_err(text);
            assert_eq!(found.to_string(), error);
            assert!(!found.hint.is_empty());
        }
    }
}
