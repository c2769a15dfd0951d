//! Any text as a redaction pattern, a lookup file and a table of users: compiled or refused, and then harmless to records.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sawlog_core::batch::Format;
use sawlog_core::deploys;
use sawlog_core::rules::{LookupConfig, RedactAt, RedactConfig, Rules, RulesConfig};
use sawlog_core::users::UserTable;

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (pattern, table, payload) = input;
    let mut config = RulesConfig::default();
    let text = |text: &str| text.to_owned();
    config.redact.push(RedactConfig { name: text("r"), pattern: text(pattern), replace: None, at: RedactAt::Receive });
    config.lookup.push(LookupConfig { name: text("l"), file: text("f"), key: text("id"), field: text("user_id") });
    let _ = deploys::parse(table);
    if let Ok(users) = UserTable::parse(table) {
        assert!(users.is_empty() || users.len() < table.len());
    }
    if let Ok(rules) = Rules::compile(&config, &|_| Ok(text(table))) {
        for format in Format::ALL {
            let _ = rules.redact_at_receive(format, payload);
        }
    }
});
