//! Any text as a filter: a mistake with a place in the text, or a filter that is the same when printed and read again and
//! that can be made ready for every table.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sawlog_core::schema::Table;
use sawlog_query::filter::{self, Matcher};

fuzz_target!(|text: &str| {
    match filter::parse(text) {
        Ok(parsed) => {
            assert_eq!(filter::parse(&parsed.to_string()).expect("printed filters are filters"), parsed);
            for table in [Table::Logs, Table::Metrics, Table::Activity] {
                let _ = Matcher::new(&parsed, table, 0);
            }
        }
        Err(error) => {
            assert!(error.span.start <= error.span.end && error.span.end <= text.chars().count() + 1, "{error:?}");
            assert!(!error.message.is_empty() && !error.hint.is_empty());
            assert!(!error.pointed(text).is_empty());
        }
    }
});
