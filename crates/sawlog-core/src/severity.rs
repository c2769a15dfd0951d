//! Severities on OpenTelemetry's scale.
//!
//! For: turning the words and numbers of many systems into a severity number 1..24 and one of four classes.
//! Source of the scale: OpenTelemetry logs data model, 'Severity Fields' and its appendix of example mappings.

/// Class of a severity: what the severity split and the rollups go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SeverityClass {
    /// ERROR and FATAL (17..24).
    Error,
    /// WARN (13..16).
    Warning,
    /// INFO (9..12), and records without a severity.
    Info,
    /// TRACE and DEBUG (1..8).
    Debug,
}

impl SeverityClass {
    /// The class of a severity number; without one a record counts as information.
    #[must_use]
    pub(crate) const fn of(number: Option<i64>) -> Self {
        match number {
            Some(17..) => Self::Error,
            Some(13..=16) => Self::Warning,
            Some(1..=8) => Self::Debug,
            _ => Self::Info,
        }
    }

    /// The class in the `severity_class` column.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Severity number of a word such as `ERROR`, `warn`, `[notice]`, `crit`, `I` or `SEVERE`.
#[must_use]
pub(crate) fn number_of_word(word: &[u8]) -> Option<i64> {
    let mut upper = [0; 11];
    let upper = upper.get_mut(..word.len())?;
    upper.copy_from_slice(word);
    upper.make_ascii_uppercase();
    Some(match &*upper {
        b"TRACE" | b"FINEST" | b"VERBOSE" | b"T" | b"TRACE1" | b"TRC" => 1,
        b"TRACE2" | b"FINER" => 2,
        b"TRACE3" => 3,
        b"TRACE4" => 4,
        b"DEBUG" | b"DBG" | b"D" | b"FINE" | b"DEBUG1" | b"CONFIG" => 5,
        b"DEBUG2" => 6,
        b"DEBUG3" => 7,
        b"DEBUG4" => 8,
        b"INFO" | b"INFORMATION" | b"I" | b"INF" | b"INFO1" | b"SUCCESS" => 9,
        b"NOTICE" | b"INFO2" => 10,
        b"INFO3" => 11,
        b"INFO4" => 12,
        b"WARN" | b"WARNING" | b"W" | b"WRN" | b"WARN1" => 13,
        b"WARN2" => 14,
        b"WARN3" => 15,
        b"WARN4" => 16,
        b"ERROR" | b"ERR" | b"E" | b"SEVERE" | b"ERROR1" | b"FAILURE" | b"FAIL" => 17,
        b"CRITICAL" | b"CRIT" | b"ERROR2" | b"C" => 18,
        b"ALERT" | b"ERROR3" => 19,
        b"ERROR4" => 20,
        b"FATAL" | b"EMERGENCY" | b"EMERG" | b"F" | b"PANIC" | b"FATAL1" => 21,
        b"FATAL2" => 22,
        b"FATAL3" => 23,
        b"FATAL4" => 24,
        _ => return None,
    })
}

/// Severity number of a syslog severity 0 (emergency) … 7 (debug).
#[must_use]
pub(crate) const fn number_of_syslog(severity: u8) -> i64 {
    match severity {
        0 => 21,
        1 => 19,
        2 => 18,
        3 => 17,
        4 => 13,
        5 => 10,
        6 => 9,
        _ => 5,
    }
}

/// Severity number of a numeric level in a structured record: the levels 10, 20, … 60 of pino and bunyan, else
/// OpenTelemetry's own scale 1..24.
#[must_use]
pub(crate) const fn number_of_level(level: i64) -> Option<i64> {
    match level {
        10 => Some(1),
        20 => Some(5),
        1..=24 => Some(level),
        30 => Some(9),
        40 => Some(13),
        50 => Some(17),
        60 => Some(21),
        _ => None,
    }
}

/// Severity number of a number of Google's `LogSeverity`; 0 (`DEFAULT`) says that there is none.
#[must_use]
pub(crate) const fn number_of_google(severity: i64) -> Option<i64> {
    match severity {
        100 => Some(5),
        200 => Some(9),
        300 => Some(10),
        400 => Some(13),
        500 => Some(17),
        600 => Some(18),
        700 => Some(19),
        800 => Some(21),
        _ => None,
    }
}

/// The name of a severity number in OpenTelemetry's short form, e.g. `WARN` for 13..16.
#[must_use]
pub(crate) const fn name_of_number(number: i64) -> &'static str {
    match number {
        1..=4 => "TRACE",
        5..=8 => "DEBUG",
        9..=12 => "INFO",
        13..=16 => "WARN",
        17..=20 => "ERROR",
        _ => "FATAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_many_systems_land_on_one_scale() {
        for (word, number) in [("ERROR", 17), ("warn", 13), ("Notice", 10), ("crit", 18), ("SEVERE", 17), ("fatal", 21)]
        {
            assert_eq!(number_of_word(word.as_bytes()), Some(number), "{word}");
        }
        assert_eq!(number_of_word(b"errors-everywhere"), None);
        assert_eq!(number_of_word(b"DEFAULT"), None, "Google's word for no severity");
    }

    #[test]
    fn every_syslog_severity_has_the_class_a_reader_expects() {
        let classes: Vec<_> =
            (0..8).map(|severity| SeverityClass::of(Some(number_of_syslog(severity))).name()).collect();
        assert_eq!(classes, ["error", "error", "error", "error", "warning", "info", "info", "debug"]);
    }
}
