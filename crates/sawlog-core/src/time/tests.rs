//! Times as people and programs write them, one line a case.

use proptest::prelude::*;

use super::*;

/// 2026-11-24T03:00:00Z
const RECEIVED: i64 = 1_795_489_200 * SECOND;

#[track_caller]
fn check(text: &str, rfc3339: &str) {
    let micros = parse(text.as_bytes(), RECEIVED).unwrap_or_else(|| panic!("{text} is not read"));
    assert_eq!(to_rfc3339(micros), rfc3339, "{text}");
}

#[test]
fn common_forms_are_read() {
    check("2026-11-24T03:00:00Z", "2026-11-24T03:00:00.000000Z");
    check("2026-11-24T03:00:00.123456789+02:00", "2026-11-24T01:00:00.123456Z");
    check("2026-11-24 03:00:00,978", "2026-11-24T03:00:00.978000Z");
    check("2026-11-24 03:00:00.5 UTC", "2026-11-24T03:00:00.500000Z");
    check("2026-11-24", "2026-11-24T00:00:00.000000Z");
    check("2026/11/24 03:00", "2026-11-24T03:00:00.000000Z");
    check("20261124T030000Z", "2026-11-24T03:00:00.000000Z");
    check("20261124030000", "2026-11-24T03:00:00.000000Z");
    check("17/May/2015:10:05:03 +0000", "2015-05-17T10:05:03.000000Z");
    check("17/May/2015:10:05:03 -0530", "2015-05-17T15:35:03.000000Z");
    check("Sun Dec 04 04:47:44 2005", "2005-12-04T04:47:44.000000Z");
    check("Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37.000000Z");
    check("Dec 4, 2005 4:47:44 PM", "2005-12-04T16:47:44.000000Z");
    check("11/24/2026 03:04:05 AM", "2026-11-24T03:04:05.000000Z");
    check("17/06/09 20:10:40", "2017-06-09T20:10:40.000000Z");
    check("081109 203615", "2008-11-09T20:36:15.000000Z");
    check("2005-06-03-15.42.50.675872", "2005-06-03T15:42:50.675872Z");
    check("24.11.2026 03:00:00", "2026-11-24T03:00:00.000000Z");
    check("4.1.2026, 3:00:00", "2026-01-04T03:00:00.000000Z");
    check("24.11.26 03:00", "2026-11-24T03:00:00.000000Z");
    check("11/24/2026 3:04:05 PM", "2026-11-24T15:04:05.000000Z");
    check("11/24/2026, 3:04:05\u{202f}PM", "2026-11-24T15:04:05.000000Z");
    check("Tue 2026-11-24 03:00:00 UTC", "2026-11-24T03:00:00.000000Z");
    check("Tue 2026-11-24 03:00:00 CET", "2026-11-24T02:00:00.000000Z");
    check("I1124 03:00:00.123456", "2026-11-24T03:00:00.123456Z");
    check("E20251124 03:00:00.123456", "2025-11-24T03:00:00.123456Z");
}

#[test]
fn zones_are_offsets_or_names() {
    check("2026-11-24 03:00:00.123 +02:00", "2026-11-24T01:00:00.123000Z");
    check("2026-11-24 03:00:00 -0530", "2026-11-24T08:30:00.000000Z");
    check("2026-11-24 03:00:00+02", "2026-11-24T01:00:00.000000Z");
    check("2026-11-24 03:00:00 CET", "2026-11-24T02:00:00.000000Z");
    check("2026-07-24 03:00:00.5 CEST", "2026-07-24T01:00:00.500000Z");
    check("2026-11-24 03:00:00 EST", "2026-11-24T08:00:00.000000Z");
    check("Tue, 24 Nov 2026 03:00:00 PDT", "2026-11-24T10:00:00.000000Z");
    check("Tue, 24 Nov 2026 03:00:00 +0100 (CET)", "2026-11-24T02:00:00.000000Z");
    check("Tue Nov 24 2026 03:00:00 GMT+0100 (Central European Standard Time)", "2026-11-24T02:00:00.000000Z");
    check("Sun Dec  4 04:47:44 UTC 2005", "2005-12-04T04:47:44.000000Z");
    check("Sun Dec  4 04:47:44 AM EST 2005", "2005-12-04T09:47:44.000000Z");
    check("Mon Jan 02 15:04:05 -0700 2006", "2006-01-02T22:04:05.000000Z");
    check("Mon Jan  2 15:04:05 MST 2006", "2006-01-02T22:04:05.000000Z");
    check("Sun Dec 04 04:47:44 2005 UTC", "2005-12-04T04:47:44.000000Z");
    check("Nov 23 03:00:00 CET", "2026-11-23T02:00:00.000000Z");
}

#[test]
fn nanoseconds_are_kept_beside_the_microseconds() {
    for (text, micros, nanos) in [
        ("1970-01-01T00:00:01.123456789Z", 1_123_456, 789),
        ("1970-01-01T00:00:01.1234567Z", 1_123_456, 700),
        ("1970-01-01T00:00:01.123456Z", 1_123_456, 0),
        ("1970-01-01T00:00:01.123456789999+00:00", 1_123_456, 789),
    ] {
        assert_eq!(parse_calendar(text.as_bytes(), RECEIVED), Some(ExactTime { micros, nanos }), "{text}");
    }
    for (text, micros, nanos) in [
        ("1795489200123456789", 1_795_489_200_123_456, 789),
        ("1795489200123456", 1_795_489_200_123_456, 0),
        ("1795489200123456.5", 1_795_489_200_123_456, 500),
        ("1795489200123.456789", 1_795_489_200_123_456, 789),
        ("1795489200.123456789", 1_795_489_200_123_456, 789),
        ("-1.5", -1_500_000, 0),
        ("-0.000000001", -1, 999),
    ] {
        assert_eq!(of_epoch_number(text.as_bytes()), Some(ExactTime { micros, nanos }), "{text}");
    }
    assert_eq!(to_exact_rfc3339(ExactTime { micros: 1, nanos: 2 }), "1970-01-01T00:00:00.000001002Z");
}

#[test]
fn epoch_numbers_are_read_by_their_size() {
    for text in ["1795489200", "1795489200000", "1795489200000000", "1795489200000000000"] {
        check(text, "2026-11-24T03:00:00.000000Z");
    }
    check("1795489200.25", "2026-11-24T03:00:00.250000Z");
    check("1077804742", "2004-02-26T14:12:22.000000Z");
}

#[test]
fn a_missing_year_is_the_latest_that_is_not_in_the_future() {
    check("Nov 24 15:16:01", "2026-11-24T15:16:01.000000Z");
    check("Nov 26 15:16:01", "2025-11-26T15:16:01.000000Z");
    check("Feb 29 00:00:01", "2024-02-29T00:00:01.000000Z");
    check("10.30 16:49:06", "2026-10-30T16:49:06.000000Z");
    check("Jun  4 15:16:01", "2026-06-04T15:16:01.000000Z");
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "",
        "yesterday",
        "2026-13-01",
        "2026-02-30T00:00:00Z",
        "2026-11-24T25:00:00Z",
        "2026-11-24T03:61:00Z",
        "12",
        "2026-11-24T03:00:00Zjunk",
        "99/99/99 99:99:99",
        "Foo 12 10:00:00",
        "-",
        "2026-11-24T",
        "2026-11-24 03:00:00 IST",
        "2026-11-24 03:00:00 +12345",
        "10.11.12",
        "24.11.2026.1",
        "E1124 burst pipes",
    ] {
        let micros = parse(text.as_bytes(), RECEIVED);
        assert!(micros.is_none() || text == "12", "{text} was read as {micros:?}");
    }
}

#[test]
fn a_prefix_ends_where_the_time_ends() {
    let line = b"2015-07-29 17:41:44,747 - INFO  [QuorumPeer";
    assert_eq!(parse_prefix(line, RECEIVED).map(|(_, len)| len), Some(23));
    for line in ["Jun 14 15:16:01 2424 units", "Jun 14 15:16:01 -1234 units", "Jun 14 15:16:01 ESTABLISHED"] {
        assert_eq!(parse_prefix(line.as_bytes(), RECEIVED).map(|(_, len)| len), Some(15), "{line}");
    }
    assert_eq!(parse_prefix(b"2026-11-24 03:00:00 -5 degrees", RECEIVED).map(|(_, len)| len), Some(19));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_panic(text in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = parse(&text, RECEIVED);
        let _ = parse_prefix(&text, RECEIVED);
    }

    #[test]
    fn rfc3339_output_is_read_back(micros in -60_000_000_000_000_000i64..200_000_000_000_000_000) {
        prop_assert_eq!(parse(to_rfc3339(micros).as_bytes(), RECEIVED), Some(micros));
    }

    #[test]
    fn civil_dates_and_day_numbers_are_inverse(days in -800_000i64..3_000_000) {
        let (year, month, day) = civil_from_days(days);
        prop_assert_eq!(days_from_civil(year, month, day), Some(days));
    }
}
