//! Real log files against what people read out of them by hand.
//!
//! The files are found through `SAWLOG_TEST_DATA`, else in `../shared/data` beside the checkout.

use std::path::PathBuf;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use sawlog_core::batch::{self, AgeLimits, Format, RawBatch};
use sawlog_core::rules::Rules;
use sawlog_core::schema::Table;
use sawlog_core::time;
use sawlog_core::transform::{Transformed, transform};

/// 2026-11-24T03:00:00Z
const RECEIVED: i64 = 1_795_489_200_000_000;

fn data() -> Option<PathBuf> {
    // Tests run in the folder of their package.
    let beside = PathBuf::from("../../../shared/data");
    let folder = std::env::var_os("SAWLOG_TEST_DATA").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SAWLOG_TEST_DATA names no folder with test data: the checks on real files were left out");
    None
}

fn load(path: &str) -> Option<(Format, Transformed)> {
    let bytes = std::fs::read(data()?.join(path)).expect("the test data is readable");
    let format = batch::detect(&bytes[..bytes.len().min(64 << 10)]);
    let raw = RawBatch {
        batch_id: "b",
        source: "test",
        file: None,
        format,
        is_declared: false,
        receive_time: RECEIVED,
        age: AgeLimits::any_past(),
        body: &bytes,
    };
    let rows = transform(&raw, &Rules::none()).expect("lines can be split");
    assert!(rows.counts.closes(), "{path}: {:?}", rows.counts);
    Some((format, rows))
}

fn logs(rows: &Transformed) -> &RecordBatch {
    &rows.tables[Table::Logs as usize]
}

fn times(rows: &Transformed) -> Vec<String> {
    let column = logs(rows).column_by_name("event_time").expect("a column");
    column.as_primitive::<TimestampMicrosecondType>().values().iter().map(|&time| time::to_rfc3339(time)).collect()
}

fn texts(rows: &Transformed, name: &str) -> Vec<String> {
    let column = logs(rows).column_by_name(name).expect("a column").as_string::<i32>();
    (0..column.len())
        .map(|row| if column.is_null(row) { String::new() } else { column.value(row).to_owned() })
        .collect()
}

/// Rows of a hand-parsed file: a column as its header names it.
fn hand_parsed(path: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(data().expect("checked before").join(path)).expect("readable");
    let mut lines = text.lines();
    let header = csv_line(lines.next().expect("a header"));
    let places: Vec<usize> =
        columns.iter().map(|name| header.iter().position(|found| found == name).expect("a column")).collect();
    lines.map(csv_line).map(|row| places.iter().map(|&place| row[place].clone()).collect()).collect()
}

fn csv_line(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    for character in line.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            other => fields.last_mut().expect("one field at least").push(other),
        }
    }
    fields
}

#[test]
fn every_line_of_the_access_log_becomes_a_row() {
    let Some((format, rows)) = load("access/apache_combined.log") else { return };
    assert_eq!(format, Format::Access);
    assert_eq!((rows.counts.received, rows.counts.stored), (10_000, 10_000));
    let status = logs(&rows).column_by_name("http_status").expect("a column").as_primitive::<Int32Type>();
    assert_eq!(status.null_count(), 0);
    assert_eq!(times(&rows)[0], "2015-05-17T10:05:03.000000Z");
    assert_eq!(texts(&rows, "http_method").iter().filter(|method| method.is_empty()).count(), 0);
}

/// File, format, columns with the time, how they make a timestamp, column with the level.
type Case = (&'static str, Format, &'static [&'static str], fn(&[String]) -> String, Option<&'static str>);

const CASES: [Case; 10] = [
    ("Apache", Format::Text, &["Time"], |parts| parts[0].clone(), Some("Level")),
    ("BGL", Format::Text, &["Timestamp"], |parts| parts[0].clone(), Some("Level")),
    ("HDFS", Format::Text, &["Date", "Time"], |parts| format!("{:0>6} {:0>6}", parts[0], parts[1]), Some("Level")),
    ("HPC", Format::Text, &["Time"], |parts| parts[0].clone(), None),
    ("Hadoop", Format::Text, &["Date", "Time"], |parts| parts.join(" "), Some("Level")),
    // The column called Level holds the host name here.
    ("Linux", Format::Syslog, &["Month", "Date", "Time"], |parts| parts.join(" "), None),
    ("OpenSSH", Format::Syslog, &["Date", "Day", "Time"], |parts| parts.join(" "), None),
    ("Proxifier", Format::Text, &["Time"], |parts| parts[0].clone(), None),
    ("Spark", Format::Text, &["Date", "Time"], |parts| parts.join(" "), Some("Level")),
    ("Zookeeper", Format::Text, &["Date", "Time"], |parts| parts.join(" "), Some("Level")),
];

#[test]
fn times_and_severities_of_loghub_agree_with_the_hand_parsed_files() {
    if data().is_none() {
        return;
    }
    for (name, expected_format, time_columns, join, level) in CASES {
        let (format, rows) = load(&format!("loghub/{name}_2k.log")).expect("the data is there");
        assert_eq!(format, expected_format, "{name}");
        let csv = format!("loghub/{name}_2k.log_structured.csv");
        let expected: Vec<String> = hand_parsed(&csv, time_columns)
            .iter()
            .map(|parts| {
                let text = join(parts);
                let micros = time::parse(text.as_bytes(), RECEIVED).unwrap_or_else(|| panic!("{name}: {text}"));
                time::to_rfc3339(micros)
            })
            .collect();
        assert_eq!(rows.counts.received as usize, expected.len(), "{name}");
        assert_eq!(rows.counts.stored, rows.counts.received, "{name}");
        for (row, (found, expected)) in times(&rows).iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "{name} line {}", row + 1);
        }
        if let Some(level) = level {
            let levels = hand_parsed(&csv, &[level]);
            for (row, (found, expected)) in texts(&rows, "severity_text").iter().zip(&levels).enumerate() {
                assert_eq!(found, &expected[0], "{name} line {}", row + 1);
            }
        }
    }
}
