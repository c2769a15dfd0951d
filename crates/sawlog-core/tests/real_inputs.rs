//! Real log files against what people read out of them by hand.
//!
//! The files are found through `SAWLOG_TEST_DATA`, else in `../shared/data` beside the checkout. The times that people
//! wrote down are read here by the fixed columns of each file, not by the code under test.

use std::io::Write;
use std::path::PathBuf;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use sawlog_core::batch::{self, AgeLimits, Format, RawBatch};
use sawlog_core::rules::Rules;
use sawlog_core::schema::Table;
use sawlog_core::transform::{Transformed, transform};

/// 2026-11-24T03:00:00Z
const RECEIVED: i64 = 1_795_489_200_000_000;

fn data() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SAWLOG_TEST_DATA") {
        let folder = PathBuf::from(named);
        assert!(folder.is_dir(), "SAWLOG_TEST_DATA names {}, which is no folder", folder.display());
        return Some(folder);
    }
    // Tests run in the folder of their package.
    let beside = PathBuf::from("../../../shared/data");
    if beside.is_dir() {
        return Some(beside);
    }
    // Past the capture of tests that succeed, which would hide that nothing was checked.
    let note = "NOT CHECKED: real log files are absent; name their folder in SAWLOG_TEST_DATA\n";
    std::io::stderr().write_all(note.as_bytes()).expect("standard error is open");
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

fn times(rows: &Transformed) -> Vec<i64> {
    let column = logs(rows).column_by_name("event_time").expect("a column");
    column.as_primitive::<TimestampMicrosecondType>().values().to_vec()
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
    assert_eq!(times(&rows)[0], micros([2015, 5, 17], [10, 5, 3], 0));
    assert_eq!(texts(&rows, "http_method").iter().filter(|method| method.is_empty()).count(), 0);
}

/// Microseconds of a date and clock time, counted year by year.
fn micros([year, month, day]: [i64; 3], [hour, minute, second]: [i64; 3], fraction: i64) -> i64 {
    let is_leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let years: i64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let days = years + months[..month as usize - 1].iter().sum::<i64>() + day - 1;
    (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + fraction
}

/// The numbers of a text, whatever stands between them.
fn numbers(text: &str) -> Vec<i64> {
    let parts = text.split(|character: char| !character.is_ascii_digit()).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().expect("a number")).collect()
}

fn month(name: &str) -> i64 {
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    names.iter().position(|found| *found == name).expect("a month") as i64 + 1
}

/// The year of a date without one: files were read on 24 November 2026, and a clock may be a day ahead.
fn year_of(month: i64, day: i64) -> i64 {
    if (month, day) <= (11, 24) { 2026 } else { 2025 }
}

/// `2015-10-18`, `18:01:47,978`
fn iso_with_millis(parts: &[String]) -> i64 {
    let (date, clock) = (numbers(&parts[0]), numbers(&parts[1]));
    micros([date[0], date[1], date[2]], [clock[0], clock[1], clock[2]], clock[3] * 1_000)
}

/// `Sun Dec 04 04:47:44 2005`
fn asctime(parts: &[String]) -> i64 {
    let found = numbers(&parts[0]);
    micros([found[4], month(&parts[0][4..7]), found[0]], [found[1], found[2], found[3]], 0)
}

/// `Jun`, `14`, `15:16:01`
fn without_year(parts: &[String]) -> i64 {
    let (month, day, clock) = (month(&parts[0]), numbers(&parts[1])[0], numbers(&parts[2]));
    micros([year_of(month, day), month, day], [clock[0], clock[1], clock[2]], 0)
}

/// `10.30 16:49:06`
fn month_dot_day(parts: &[String]) -> i64 {
    let found = numbers(&parts[0]);
    micros([year_of(found[0], found[1]), found[0], found[1]], [found[2], found[3], found[4]], 0)
}

/// `17/06/09`, `20:10:40`
fn year_first(parts: &[String]) -> i64 {
    let (date, clock) = (numbers(&parts[0]), numbers(&parts[1]));
    micros([2000 + date[0], date[1], date[2]], [clock[0], clock[1], clock[2]], 0)
}

/// `81109`, `203615`: the hand-parsed file lost the zeros in front.
fn six_digits(parts: &[String]) -> i64 {
    let split = |text: &str| {
        let number: i64 = text.parse().expect("digits");
        [number / 10_000, number / 100 % 100, number % 100]
    };
    let [year, month, day] = split(&parts[0]);
    micros([2000 + year, month, day], split(&parts[1]), 0)
}

fn epoch_seconds(parts: &[String]) -> i64 {
    numbers(&parts[0])[0] * 1_000_000
}

/// OpenTelemetry's number for a level as the files write it.
fn severity_number(level: &str) -> i32 {
    match level {
        "INFO" => 9,
        "notice" => 10,
        "WARN" | "WARNING" => 13,
        "error" | "ERROR" | "SEVERE" => 17,
        "FATAL" => 21,
        other => panic!("no severity is known for {other}"),
    }
}

/// File, format, columns with the time, how they make microseconds, column with the level.
type Case = (&'static str, Format, &'static [&'static str], fn(&[String]) -> i64, Option<&'static str>);

const CASES: [Case; 10] = [
    ("Apache", Format::Text, &["Time"], asctime, Some("Level")),
    ("BGL", Format::Text, &["Timestamp"], epoch_seconds, Some("Level")),
    ("HDFS", Format::Text, &["Date", "Time"], six_digits, Some("Level")),
    ("HPC", Format::Text, &["Time"], epoch_seconds, None),
    ("Hadoop", Format::Text, &["Date", "Time"], iso_with_millis, Some("Level")),
    // The column called Level holds the host name here.
    ("Linux", Format::Syslog, &["Month", "Date", "Time"], without_year, None),
    ("OpenSSH", Format::Syslog, &["Date", "Day", "Time"], without_year, None),
    ("Proxifier", Format::Text, &["Time"], month_dot_day, None),
    ("Spark", Format::Text, &["Date", "Time"], year_first, Some("Level")),
    ("Zookeeper", Format::Text, &["Date", "Time"], iso_with_millis, Some("Level")),
];

#[test]
fn times_and_severities_of_loghub_agree_with_the_hand_parsed_files() {
    if data().is_none() {
        return;
    }
    for (name, expected_format, time_columns, to_micros, level) in CASES {
        let (format, rows) = load(&format!("loghub/{name}_2k.log")).expect("the data is there");
        assert_eq!(format, expected_format, "{name}");
        let csv = format!("loghub/{name}_2k.log_structured.csv");
        let expected: Vec<i64> = hand_parsed(&csv, time_columns).iter().map(|parts| to_micros(parts)).collect();
        assert_eq!(rows.counts.received as usize, expected.len(), "{name}");
        assert_eq!(rows.counts.stored, rows.counts.received, "{name}");
        for (row, (found, expected)) in times(&rows).iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "{name} line {}", row + 1);
        }
        if let Some(level) = level {
            check_severities(name, &rows, &hand_parsed(&csv, &[level]));
        }
    }
}

fn check_severities(name: &str, rows: &Transformed, levels: &[Vec<String>]) {
    let numbers = logs(rows).column_by_name("severity_number").expect("a column").as_primitive::<Int32Type>();
    let (words, classes) = (texts(rows, "severity_text"), texts(rows, "severity_class"));
    for (row, level) in levels.iter().enumerate() {
        let expected = severity_number(&level[0]);
        let class = match expected {
            17.. => "error",
            13.. => "warning",
            _ => "info",
        };
        let found = (words[row].as_str(), numbers.is_valid(row).then(|| numbers.value(row)), classes[row].as_str());
        assert_eq!(found, (level[0].as_str(), Some(expected), class), "{name} line {}", row + 1);
    }
}
