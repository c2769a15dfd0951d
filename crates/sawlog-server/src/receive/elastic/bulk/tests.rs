//! Bulk bodies, good and bad.

use proptest::prelude::*;
use sawlog_core::batch::{self, Format};

use super::*;

fn parsed(body: &str) -> Bulk {
    parse(body.as_bytes(), Some("fallback")).expect("a bulk body")
}

#[track_caller]
fn check(body: &str, records: &str) {
    assert_eq!(String::from_utf8(parsed(body).body).expect("text"), records);
}

/// Items as `action index id`, `!` in front of refused ones.
fn items(bulk: &Bulk) -> Vec<String> {
    let show = |target: &Target| {
        let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
        format!("{} {} {}", target.action.name(), text(target.index.as_deref()), text(target.id.as_deref()))
    };
    let item = |item: &Item| match item {
        Item::Document(target) => show(target),
        Item::Refused(refusal) => format!("!{}", show(&refusal.target)),
    };
    bulk.items.iter().map(item).collect()
}

#[test]
fn documents_get_their_index_and_id_in_front() {
    check(
        "{\"create\":{\"_index\":\"logs\",\"_id\":\"a\\\"b\"}}\n{\"message\":\"x\"}\n",
        "{\"es.index\":\"logs\",\"insert_id\":\"logs/a\\\"b\",\"message\":\"x\"}\n",
    );
    check("{\"index\":{}}\r\n { }\r\n", "{\"es.index\":\"fallback\" }\n");
    check(
        "{\"index\":{\"_id\":7,\"routing\":\"r\"}}\n{\"a\":1}\n",
        "{\"es.index\":\"fallback\",\"insert_id\":\"fallback/7\",\"a\":1}\n",
    );
}

#[test]
fn what_is_no_object_stays_one_record() {
    check(
        "{\"index\":{}}\n[1,2]\n{\"index\":{}}\n{\"a\":\n",
        "{\"es.index\":\"fallback\"} [1,2]\n{\"es.index\":\"fallback\",\"a\":\n",
    );
}

#[test]
fn each_action_has_its_own_fate() {
    let long_id = "x".repeat(513);
    let body = format!(
        "{{\"index\":{{\"_index\":\"a\"}}}}\n{{}}\n\n{{\"update\":{{\"_id\":\"1\"}}}}\n{{\"doc\":{{}}}}\n{{\"delete\":{{\"_id\":\"2\"}}}}\n\
         {{\"create\":{{\"_id\":\"\"}}}}\n{{}}\n{{\"create\":{{\"_id\":\"{long_id}\"}}}}\n{{}}\n{{\"create\":{{}}}}\n \n{{\"create\":{{}}}}\n"
    );
    let bulk = parsed(&body);
    let shown = items(&bulk);
    assert_eq!(shown[..4], ["index a -", "!update fallback 1", "!delete fallback 2", "!create fallback "]);
    assert!(shown[4].starts_with("!create fallback xxx"));
    assert_eq!(shown[5..], ["!create fallback -", "!create fallback -"]);
    assert_eq!(batch::split(Format::Json, &bulk.body).expect("lines").len(), 1);
    let without_default = parse(b"{\"index\":{}}\n{}\n", None).expect("a bulk body");
    assert_eq!(items(&without_default), ["!index - -"]);
}

#[test]
fn a_broken_action_refuses_all_and_names_its_line() {
    let cases = [
        ("{\"index\":{}}\n{}\n{\"index\":{}\n{}\n", "line [3]"),
        ("[1]\n", "line [1], expected START_OBJECT"),
        ("{\"upsert\":{}}\n{}\n", "found [upsert]"),
        ("{}\n", "one action"),
        ("{\"index\":{},\"b\":{}}\n{}\n", "one action"),
        ("{\"index\":3}\n{}\n", "START_OBJECT after"),
        ("{\"index\":{\"_id\":[1]}}\n{}\n", "[_id]"),
        ("{\"index\":{}}\n{}", "newline"),
        ("\n\n", "no requests"),
        ("", "no requests"),
    ];
    for (body, expected) in cases {
        let error = parse(body.as_bytes(), Some("i")).expect_err(body);
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
        assert!(error.message.contains(expected), "{body:?}: {}", error.message);
    }
    let long = format!("{{\"index\":{{\"_id\":\"{}\"}}}}\n{{}}\n", "x".repeat(ACTION_BYTES_MAX));
    assert!(parse(long.as_bytes(), None).is_err());
}

#[test]
fn a_body_of_countless_actions_is_refused() {
    let body = b"{\"index\":{}}\n{}\n".repeat(ITEMS_MAX + 1);
    assert_eq!(parse(&body, Some("i")).expect_err("too many").status, StatusCode::PAYLOAD_TOO_LARGE);
}

proptest! {
    #[test]
    fn every_document_is_one_record_whatever_its_bytes(lines in proptest::collection::vec(prop_oneof![
        Just(b"{\"index\":{\"_index\":\"a\",\"_id\":\"1\"}}".to_vec()),
        Just(b"{\"create\":{}}".to_vec()),
        Just(b"{\"delete\":{}}".to_vec()),
        Just(b"{\"a\":1}".to_vec()),
        "[\\PC\\[\\]{}\",\r\t]{0,12}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>().prop_filter("a line", |byte| *byte != b'\n'), 0..12),
    ], 0..12)) {
        let body = lines.iter().flat_map(|line| [&line[..], b"\n"].concat()).collect::<Vec<u8>>();
        if let Ok(bulk) = parse(&body, Some("i")) {
            let documents = bulk.items.iter().filter(|item| matches!(item, Item::Document(_))).count();
            prop_assert_eq!(batch::split(Format::Json, &bulk.body).expect("lines").len(), documents);
        }
    }
}
